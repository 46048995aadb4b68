package snapshot_test

import (
	"errors"
	"io/fs"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/storage"
)

const commands = "*1\r\n$4\r\nPING\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n"

// addAll adds a file of each kind.
func addAll(t testing.TB, set *snapshot.Set) {
	t.Helper()
	for _, f := range []struct {
		file     snapshot.SetFile
		contents string
	}{
		{snapshot.SetFile{Name: "rdb", Kind: snapshot.FileRDB}, string(rdbFile(3))},
		{snapshot.SetFile{Name: "a.1.base.rdb", Kind: snapshot.FileAOFBase, Path: "dir/a.1.base.rdb"}, string(rdbFile(2))},
		{snapshot.SetFile{Name: "ä b.1.incr.aof", Kind: snapshot.FileAOFIncremental, Path: "dir/ä b.1.incr.aof"}, commands},
		{
			snapshot.SetFile{Name: "a.manifest", Kind: snapshot.FileAOFManifest, Path: "dir/a.manifest"},
			"file a.1.base.rdb seq 1 type b\nfile \"ä b.1.incr.aof\" seq 1 type i\n",
		},
		{snapshot.SetFile{Name: "config.json", Kind: snapshot.FileConfig}, "{}\n"},
		{snapshot.SetFile{Name: "resources.yaml", Kind: snapshot.FileResources}, "# release\n---\nkind: Service\n"},
	} {
		_, err := set.Add(t.Context(), f.file, strings.NewReader(f.contents))
		require.NoError(t, err)
	}
}

func createSet(t testing.TB, store storage.Store) *snapshot.Manifest {
	t.Helper()
	set, err := snapshot.CreateSet(store, dir, snapshot.KindFull, options())
	require.NoError(t, err)
	defer set.Abort()
	addAll(t, set)
	entries, err := snapshot.List(t.Context(), store, snapshot.Filter{})
	require.NoError(t, err)
	require.Empty(t, entries, "nothing stands under a final name before the end")
	m, err := set.Commit(t.Context())
	require.NoError(t, err)
	return m
}

func TestSet(t *testing.T) {
	store := newStore(t)
	m := createSet(t, store)
	assert.Len(t, m.Files, 6)
	assert.Equal(t, "redisctl/v1.1", m.APIVersion)
	assert.Equal(t, int64(2), m.Files[2].AOF.Commands)

	e := find(t, store, m.ID)
	require.NoError(t, e.Problem)
	assert.Equal(t, snapshot.KindFull, e.Kind)
	assert.Equal(t, m.Size(), e.Size)
	assert.Equal(t, path.Join(dir, m.ID+".rdb"), e.DataName)
	report, err := snapshot.Verify(t.Context(), store, e, snapshot.VerifyOptions{})
	require.NoError(t, err)
	assert.True(t, report.Verified)
	assert.Equal(t, m.Size(), report.Size)

	// Each of its files stands for it.
	for _, name := range []string{m.Files[2].Name, m.ObjectName()} {
		_, found, err := snapshot.FindFile(t.Context(), store.Location(path.Join(dir, name)))
		require.NoError(t, err)
		assert.Equal(t, m.ID, found.ID)
		assert.NoError(t, found.Problem)
	}
}

// Whatever happens to one file, the set is not intact.
func TestSetDamage(t *testing.T) {
	for i := range 6 {
		store := newStore(t)
		m := createSet(t, store)
		name := path.Join(dir, m.Files[i].Name)
		r, _, err := store.Open(t.Context(), name)
		require.NoError(t, err)
		data := make([]byte, m.Files[i].Size)
		_, err = r.Read(data)
		require.NoError(t, err)
		require.NoError(t, r.Close())

		flipped := append([]byte{}, data...)
		flipped[len(flipped)/2] ^= 1
		overwrite(t, store, name, flipped)
		_, err = snapshot.Verify(t.Context(), store, find(t, store, m.ID), snapshot.VerifyOptions{})
		require.ErrorIs(t, err, snapshot.ErrCorrupt, "a wrong bit in %s", name)

		overwrite(t, store, name, data[:len(data)-1])
		require.ErrorIs(t, find(t, store, m.ID).Problem, snapshot.ErrCorrupt, "%s is cut", name)

		require.NoError(t, store.Remove(t.Context(), name))
		e := find(t, store, m.ID)
		require.ErrorIs(t, e.Problem, snapshot.ErrCorrupt)
		require.ErrorContains(t, e.Problem, "is missing")
		_, err = snapshot.Verify(t.Context(), store, e, snapshot.VerifyOptions{})
		require.ErrorIs(t, err, snapshot.ErrCorrupt, "%s is missing", name)
	}
}

// However storing fails, no file is left.
func TestSetFailures(t *testing.T) {
	broken := errors.New("broken")
	at := func(suffix string) func(string) error {
		return func(name string) error {
			if strings.HasSuffix(name, suffix) {
				return broken
			}
			return nil
		}
	}
	for name, store := range map[string]*faulty{
		"publishing the third file": {Store: newStore(t), commit: at(".incr.aof")},
		"creating the manifest":     {Store: newStore(t), create: at(".manifest.json")},
		"publishing the manifest":   {Store: newStore(t), commit: at(".manifest.json")},
	} {
		t.Run(name, func(t *testing.T) {
			set, err := snapshot.CreateSet(store, dir, snapshot.KindFull, options())
			require.NoError(t, err)
			addAll(t, set)
			_, err = set.Commit(t.Context())
			require.ErrorIs(t, err, broken)
			set.Abort()
			objects, err := store.Store.List(t.Context(), "")
			require.NoError(t, err)
			assert.Empty(t, objects)
		})
	}
}

func TestSetDrop(t *testing.T) {
	store := newStore(t)
	set, err := snapshot.CreateSet(store, dir, snapshot.KindFull, options())
	require.NoError(t, err)
	addAll(t, set)
	set.Drop(1)
	assert.Equal(t, 1, set.Len())
	_, err = set.Add(t.Context(), snapshot.SetFile{Name: "a.1.incr.aof", Kind: snapshot.FileAOFIncremental}, strings.NewReader("*1\r\nx"))
	require.ErrorIs(t, err, snapshot.ErrCorrupt)
	assert.Equal(t, 1, set.Len(), "what failed was not added")
	m, err := set.Commit(t.Context())
	require.NoError(t, err)
	assert.Len(t, m.Files, 1)
	_, err = store.Stat(t.Context(), path.Join(dir, m.ID+".a.1.base.rdb"))
	assert.ErrorIs(t, err, fs.ErrNotExist)
}
