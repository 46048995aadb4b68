package snapshot_test

import (
	"context"
	"errors"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/storage"
	"github.com/redisctl/redisctl/internal/storage/storagetest"
)

func entries(t *testing.T, store storage.Store, states ...snapshot.State) map[string]snapshot.Entry {
	t.Helper()
	list, err := snapshot.List(t.Context(), store, snapshot.Filter{States: states})
	require.NoError(t, err)
	found := make(map[string]snapshot.Entry)
	for _, e := range list {
		found[path.Join(e.Dir, e.ID)] = e
	}
	return found
}

func TestVerificationIsRecorded(t *testing.T) {
	store := newStore(t)
	name := backup(t, store, dir, begun)
	e := find(t, store, path.Base(name))
	assert.Nil(t, e.Verified)

	at := begun.Add(time.Hour)
	require.NoError(t, snapshot.RecordVerification(t.Context(), store, e, at, "0.1.0", false))
	require.NoError(t, snapshot.RecordVerification(t.Context(), store, e, at.Add(time.Hour), "0.2.0", true), "a second time")
	e = find(t, store, path.Base(name))
	assert.Equal(t, &snapshot.VerificationRecord{
		APIVersion: snapshot.APIVersion, ID: e.ID, ManifestDigest: e.Manifest.Digest,
		At: at.Add(time.Hour), By: "0.2.0", Deep: true,
	}, e.Verified)
	assert.Equal(t, snapshot.Intact, e.State())
	_, err := snapshot.Verify(t.Context(), store, e, snapshot.VerifyOptions{})
	require.NoError(t, err, "the manifest is untouched")

	// What says nothing of this snapshot is no record.
	record := name + ".verified.json"
	original := string(storagetest.Get(t, store, record))
	for _, text := range []string{
		"", "{", `{"apiVersion":"redisctl/v9"}`, strings.Replace(original, e.ID, path.Base(backup(t, store, dir, begun.Add(time.Minute))), 1),
		strings.Replace(original, "sha256:", "sha256:0", 1), strings.ReplaceAll(original, "2026", "1999"),
		original + strings.Repeat(" ", 1<<20),
	} {
		overwrite(t, store, record, []byte(text))
		again := find(t, store, e.ID)
		assert.Nil(t, again.Verified, text[:min(len(text), 200)])
		require.NoError(t, again.Problem, "the backup itself is as good as before")
	}

	require.NoError(t, store.Remove(t.Context(), name+".rdb"))
	require.NoError(t, store.Remove(t.Context(), name+".manifest.json"))
	assert.NotContains(t, entries(t, store), name, "a record without its backup is not listed")
	require.ErrorIs(t, snapshot.RecordVerification(t.Context(), store, snapshot.Entry{ID: "dump"}, at, "0.1.0", false), snapshot.ErrCorrupt)
}

func TestStates(t *testing.T) {
	store := newStore(t)
	want := make(map[string]snapshot.State)
	for i, state := range snapshot.States() {
		name := backup(t, store, dir, begun.Add(time.Duration(i)*time.Hour))
		want[name] = state
		switch state {
		case snapshot.Intact:
		case snapshot.Incomplete:
			require.NoError(t, store.Remove(t.Context(), name+".manifest.json"))
		case snapshot.Damaged:
			overwrite(t, store, name+".rdb", []byte("short"))
		case snapshot.Unsupported:
			overwrite(t, store, name+".manifest.json", []byte(`{"apiVersion":"redisctl/v2"}`))
		case snapshot.Unreadable:
		case snapshot.Foreign:
			storagetest.Put(t, store, dir+"/dump.rdb", rdbFile(1), storage.CreateOptions{})
			want[dir+"/dump"], want[name] = state, snapshot.Intact
		case snapshot.Removing:
			storagetest.Put(t, store, name+".removing.json", []byte(`{}`), storage.CreateOptions{})
		}
	}
	unreadable := ""
	for name, state := range want {
		if state == snapshot.Unreadable {
			unreadable = name + ".manifest.json"
		}
	}
	broken := &faulty{Store: store, open: func(name string) error {
		if name == unreadable {
			return errors.New("the network is gone")
		}
		return nil
	}}
	for name, e := range entries(t, broken) {
		assert.Equal(t, want[name], e.State(), name)
	}
	for _, state := range snapshot.States() {
		for name := range entries(t, broken, state) {
			assert.Equal(t, want[name], state, "selected by state: %s", name)
		}
	}
	assert.Len(t, entries(t, broken, snapshot.Incomplete, snapshot.Damaged), 2)
}

func TestListByManifest(t *testing.T) {
	store := newStore(t)
	name := backup(t, store, dir, begun)
	assert.Equal(t, []string{name}, list(t, store, snapshot.Filter{Instance: "redis-1", Method: "stream"}))
	assert.Empty(t, list(t, store, snapshot.Filter{Instance: "redis-2"}))
	assert.Empty(t, list(t, store, snapshot.Filter{Method: "bgsave"}))
	require.NoError(t, store.Remove(t.Context(), name+".manifest.json"))
	assert.Empty(t, list(t, store, snapshot.Filter{Instance: "redis-1"}), "it is not known where it came from")
}

// removals is a store whose n-th change fails.
type removals struct {
	storage.Store
	left int
}

var errKilled = errors.New("killed")

func (s *removals) change() error {
	if s.left--; s.left < 0 {
		return errKilled
	}
	return nil
}

func (s *removals) Create(ctx context.Context, name string, o storage.CreateOptions) (storage.Writer, error) {
	if err := s.change(); err != nil {
		return nil, err
	}
	return s.Store.Create(ctx, name, o)
}

func (s *removals) Remove(ctx context.Context, name string) error {
	if err := s.change(); err != nil {
		return err
	}
	return s.Store.Remove(ctx, name)
}

// Wherever a removal is interrupted: what is left does not look whole, other
// snapshots are untouched, and a second attempt finishes it.
func TestRemoveCanBeInterruptedAnywhere(t *testing.T) {
	options := snapshot.RemoveOptions{Version: "0.1.0", Now: begun}
	for steps := 0; ; steps++ {
		store := newStore(t)
		name := backup(t, store, dir, begun)
		other := backup(t, store, dir, begun)
		before := storagetest.Names(t, store)
		e := find(t, store, path.Base(name))
		require.NoError(t, snapshot.RecordVerification(t.Context(), store, e, begun.Add(time.Second), "0.1.0", false))
		e = find(t, store, path.Base(name))

		err := snapshot.Remove(t.Context(), &removals{store, steps}, e, options)
		left, found := entries(t, store)[name]
		switch {
		case err == nil:
			assert.False(t, found)
			assert.Equal(t, 5, steps, "one note, three objects, and the note again")
			return
		case steps == 0:
			require.ErrorIs(t, err, errKilled)
			assert.Equal(t, snapshot.Intact, left.State(), "nothing has happened yet")
		default:
			require.ErrorIs(t, err, errKilled)
			assert.Equal(t, snapshot.Removing, left.State(), "after %d steps", steps)
			require.ErrorContains(t, left.Problem, "removal")
			assert.Equal(t, path.Base(other), find(t, store, snapshot.Latest).ID)
			require.NoError(t, snapshot.Remove(t.Context(), store, left, options))
			require.NoError(t, snapshot.Remove(t.Context(), store, left, options), "twice")
			assert.ElementsMatch(t, []string{other + ".manifest.json", other + ".rdb"}, storagetest.Names(t, store))
			assert.Subset(t, before, storagetest.Names(t, store))
		}
	}
}

// A note that somebody forged removes nothing but what belongs to its snapshot.
func TestRemoveStaysWithItsOwn(t *testing.T) {
	store := newStore(t)
	name, other := backup(t, store, dir, begun), backup(t, store, dir, begun.Add(time.Minute))
	note := `{"apiVersion":"redisctl/v1","id":"x","files":["` + path.Base(other) + `.rdb","../x","` + path.Base(name) + `/../../../x","` + path.Base(name) + `.rdb.gone"]}`
	storagetest.Put(t, store, name+".removing.json", []byte(note), storage.CreateOptions{})
	storagetest.Put(t, store, dir+"/dump.rdb", rdbFile(1), storage.CreateOptions{})
	require.NoError(t, snapshot.Remove(t.Context(), store, entries(t, store)[name], snapshot.RemoveOptions{Now: begun}))
	assert.ElementsMatch(t, []string{other + ".manifest.json", other + ".rdb", dir + "/dump.rdb"}, storagetest.Names(t, store))

	err := snapshot.Remove(t.Context(), store, entries(t, store)[dir+"/dump"], snapshot.RemoveOptions{})
	require.ErrorContains(t, err, "not made by redisctl")
	assert.Contains(t, storagetest.Names(t, store), dir+"/dump.rdb")
}
