package snapshot_test

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/storage"
	"github.com/redisctl/redisctl/internal/storage/storagetest"
)

func TestCopy(t *testing.T) {
	from, to := newStore(t), newStore(t)
	m := create(t, from, rdbFile(1000))
	entry := find(t, from, m.ID)
	var last, total int64
	n, err := snapshot.Copy(t.Context(), from, entry, to, snapshot.CopyOptions{
		Progress: func(bytes, all int64) { last, total = bytes, all },
	})
	require.NoError(t, err)
	assert.Equal(t, m.Files[0].Size, n)
	assert.Equal(t, []int64{n, n}, []int64{last, total})

	require.Equal(t, storagetest.Names(t, from), storagetest.Names(t, to))
	for _, name := range storagetest.Names(t, from) {
		assert.Equal(t, storagetest.Get(t, from, name), storagetest.Get(t, to, name), name)
	}
	_, err = snapshot.Verify(t.Context(), to, find(t, to, m.ID), snapshot.VerifyOptions{})
	require.NoError(t, err)

	there, err := snapshot.Holds(t.Context(), to, entry)
	require.NoError(t, err)
	assert.True(t, there)
}

// A snapshot named by its file goes to the folder of its deployment.
func TestCopyOfAFile(t *testing.T) {
	from, to := newStore(t), newStore(t)
	m := create(t, from, rdbFile(3))
	store, entry, err := snapshot.FindFile(t.Context(), from.Location(path.Join(dir, m.Files[0].Name)))
	require.NoError(t, err)
	_, err = snapshot.Copy(t.Context(), store, entry, to, snapshot.CopyOptions{})
	require.NoError(t, err)
	assert.Equal(t, storagetest.Names(t, from), storagetest.Names(t, to))
}

// What a killed copy has left is replaced; a snapshot is not.
func TestCopyToWhereSomethingIs(t *testing.T) {
	from, to := newStore(t), newStore(t)
	m := create(t, from, rdbFile(3))
	entry := find(t, from, m.ID)
	data := path.Join(dir, m.Files[0].Name)
	storagetest.Put(t, to, data, []byte("half"), storage.CreateOptions{})
	there, err := snapshot.Holds(t.Context(), to, entry)
	require.NoError(t, err)
	assert.False(t, there)
	_, err = snapshot.Copy(t.Context(), from, entry, to, snapshot.CopyOptions{})
	require.NoError(t, err)
	assert.Equal(t, rdbFile(3), storagetest.Get(t, to, data))

	overwrite(t, to, data, []byte("damaged later"))
	_, err = snapshot.Holds(t.Context(), to, entry)
	require.ErrorIs(t, err, fs.ErrExist)
	require.NoError(t, to.Remove(t.Context(), data))
	_, err = snapshot.Holds(t.Context(), to, entry)
	require.ErrorIs(t, err, fs.ErrExist)

	other := *entry.Manifest
	other.CreatedBy = "somebody else"
	text, err := other.Encode()
	require.NoError(t, err)
	overwrite(t, to, entry.ManifestName, text)
	_, err = snapshot.Holds(t.Context(), to, entry)
	require.ErrorIs(t, err, fs.ErrExist)
	overwrite(t, to, entry.ManifestName, []byte("not a manifest"))
	_, err = snapshot.Holds(t.Context(), to, entry)
	require.ErrorIs(t, err, fs.ErrExist)
}

// A damaged original is never copied, however it is damaged.
func TestCopyOfDamage(t *testing.T) {
	flipped := rdbFile(3)
	flipped[40] ^= 1
	for name, data := range map[string][]byte{"a flipped bit": flipped, "cut": rdbFile(3)[:40], "longer": append(rdbFile(3), 0)} {
		t.Run(name, func(t *testing.T) {
			from, to := newStore(t), newStore(t)
			m := create(t, from, rdbFile(3))
			entry := find(t, from, m.ID)
			overwrite(t, from, path.Join(dir, m.Files[0].Name), data)
			_, err := snapshot.Copy(t.Context(), from, entry, to, snapshot.CopyOptions{})
			require.ErrorIs(t, err, snapshot.ErrCorrupt)
			var target *snapshot.TargetError
			require.NotErrorAs(t, err, &target)
			assert.Empty(t, storagetest.Names(t, to))
		})
	}
	from, to := newStore(t), newStore(t)
	m := create(t, from, rdbFile(3))
	entry := find(t, from, m.ID)
	overwrite(t, from, entry.ManifestName, []byte("{}"))
	_, err := snapshot.Copy(t.Context(), from, entry, to, snapshot.CopyOptions{})
	require.ErrorIs(t, err, snapshot.ErrCorrupt)
	_, err = snapshot.Copy(t.Context(), from, find(t, from, m.ID), to, snapshot.CopyOptions{})
	require.ErrorIs(t, err, snapshot.ErrCorrupt)
	assert.Empty(t, storagetest.Names(t, to))
}

// Whatever fails, in either store, nothing is left, and it is known whose fault it is.
func TestCopyFails(t *testing.T) {
	broken := errors.New("broken")
	always := func(string) error { return broken }
	manifest := func(name string) error {
		if path.Ext(name) == ".json" {
			return broken
		}
		return nil
	}
	for name, test := range map[string]struct {
		from, to faulty
		target   bool
	}{
		"opening the source":      {from: faulty{open: always}},
		"reading the source":      {from: faulty{read: always}},
		"creating the data":       {to: faulty{create: always}, target: true},
		"writing the data":        {to: faulty{write: func(string, int) error { return broken }}, target: true},
		"publishing the data":     {to: faulty{commit: always}, target: true},
		"creating the manifest":   {to: faulty{create: manifest}, target: true},
		"publishing the manifest": {to: faulty{commit: manifest}, target: true},
	} {
		t.Run(name, func(t *testing.T) {
			from, to := newStore(t), newStore(t)
			m := create(t, from, rdbFile(3))
			entry := find(t, from, m.ID)
			test.from.Store, test.to.Store = from, to
			_, err := snapshot.Copy(t.Context(), &test.from, entry, &test.to, snapshot.CopyOptions{})
			require.ErrorIs(t, err, broken)
			var target *snapshot.TargetError
			assert.Equal(t, test.target, errors.As(err, &target))
			assert.Empty(t, storagetest.Names(t, to))
			swept, err := to.Sweep(t.Context(), "", 0)
			require.NoError(t, err)
			assert.Empty(t, swept)
		})
	}
}

func TestCopyIsInterrupted(t *testing.T) {
	from, to := newStore(t), newStore(t)
	m := create(t, from, rdbFile(3))
	ctx, cancel := context.WithCancel(t.Context())
	interrupting := &faulty{Store: to, commit: func(name string) error {
		if path.Ext(name) == ".json" {
			cancel()
			return ctx.Err()
		}
		return nil
	}}
	_, err := snapshot.Copy(ctx, from, find(t, from, m.ID), interrupting, snapshot.CopyOptions{})
	require.ErrorIs(t, err, context.Canceled)
	assert.Empty(t, storagetest.Names(t, to), "the data that was published goes again")
}
