package snapshot_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/storage"
	"github.com/redisctl/redisctl/internal/storage/storagetest"
)

// backup makes a snapshot in dir at the given time and returns its name.
func backup(t *testing.T, store storage.Store, dir string, at time.Time) string {
	t.Helper()
	opts := options()
	opts.Now = func() time.Time { return at }
	m, err := snapshot.Create(t.Context(), store, dir, bytes.NewReader(rdbFile(1)), opts)
	require.NoError(t, err)
	return path.Join(dir, m.ID)
}

func list(t *testing.T, store storage.Store, filter snapshot.Filter) []string {
	t.Helper()
	entries, err := snapshot.List(t.Context(), store, filter)
	require.NoError(t, err)
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, path.Join(e.Dir, e.ID))
	}
	return names
}

func TestList(t *testing.T) {
	store := newStore(t)
	assert.Empty(t, list(t, store, snapshot.Filter{}), "a store that does not exist yet is empty")

	day := 24 * time.Hour
	first := backup(t, store, "redis-prod/redis", begun)
	second := backup(t, store, "redis-prod/cache", begun.Add(day))
	third := backup(t, store, "redis-stage/redis", begun.Add(2*day))
	fourth := backup(t, store, "address/127.0.0.1_6379", begun.Add(3*day))

	for name, test := range map[string]struct {
		filter snapshot.Filter
		want   []string
	}{
		"all, newest first":  {snapshot.Filter{}, []string{fourth, third, second, first}},
		"a namespace":        {snapshot.Filter{Namespace: "redis-prod"}, []string{second, first}},
		"a release":          {snapshot.Filter{Namespace: "redis-prod", Release: "redis"}, []string{first}},
		"releases of a name": {snapshot.Filter{Release: "redis"}, []string{third, first}},
		"a folder":           {snapshot.Filter{Dir: "address"}, []string{fourth}},
		"an address":         {snapshot.Filter{Dir: "address/127.0.0.1_6379"}, []string{fourth}},
		"not a namespace":    {snapshot.Filter{Namespace: "address"}, []string{}},
		"a kind":             {snapshot.Filter{Kind: snapshot.KindRDB}, []string{fourth, third, second, first}},
		"another kind":       {snapshot.Filter{Kind: "aof"}, []string{}},
		"since":              {snapshot.Filter{Since: begun.Add(2 * day)}, []string{fourth, third}},
		"until":              {snapshot.Filter{Until: begun.Add(day)}, []string{second, first}},
		"between":            {snapshot.Filter{Since: begun.Add(time.Second), Until: begun.Add(day - time.Second)}, []string{}},
		"nowhere":            {snapshot.Filter{Namespace: "no", Release: "such"}, []string{}},
	} {
		assert.Equal(t, test.want, list(t, store, test.filter), name)
	}
	_, err := snapshot.List(t.Context(), store, snapshot.Filter{Namespace: ".."})
	require.ErrorIs(t, err, storage.ErrInvalidName)

	entries, err := snapshot.List(t.Context(), store, snapshot.Filter{Namespace: "redis-prod", Release: "redis"})
	require.NoError(t, err)
	e := entries[0]
	require.NoError(t, e.Problem)
	assert.True(t, begun.Equal(e.Created), "to the fraction of a second")
	assert.Equal(t, int64(len(rdbFile(1))), e.Size)
	assert.Equal(t, source(), e.Manifest.Source)
	namespace, release := e.Deployment()
	assert.Equal(t, [2]string{"redis-prod", "redis"}, [2]string{namespace, release})
}

// Whatever lies around in the folder, the intact snapshots are listed, and the
// others say what is wrong with them.
func TestListWithProblems(t *testing.T) {
	store := newStore(t)
	intact := backup(t, store, dir, begun)
	orphan := backup(t, store, dir, begun.Add(1*time.Hour))
	lost := backup(t, store, dir, begun.Add(2*time.Hour))
	short := backup(t, store, dir, begun.Add(3*time.Hour))
	broken := backup(t, store, dir, begun.Add(4*time.Hour))
	swapped := backup(t, store, dir, begun.Add(5*time.Hour))
	newer := backup(t, store, dir, begun.Add(6*time.Hour))
	require.NoError(t, store.Remove(t.Context(), orphan+".manifest.json"))
	require.NoError(t, store.Remove(t.Context(), lost+".rdb"))
	overwrite(t, store, short+".rdb", rdbFile(0))
	overwrite(t, store, broken+".manifest.json", []byte("{"))
	overwrite(t, store, swapped+".manifest.json", storagetest.Get(t, store, intact+".manifest.json"))
	overwrite(t, store, newer+".manifest.json", []byte(`{"apiVersion":"redisctl/v2"}`))
	for _, foreign := range []string{dir + "/dump.rdb", dir + "/README", "notes.txt", dir + "/old.tar.gz", dir + "/a.rdb.bak"} {
		storagetest.Put(t, store, foreign, []byte("foreign"), storage.CreateOptions{})
	}

	entries, err := snapshot.List(t.Context(), store, snapshot.Filter{})
	require.NoError(t, err)
	problems := map[string]error{}
	for _, e := range entries {
		problems[path.Join(e.Dir, e.ID)] = e.Problem
	}
	assert.Len(t, problems, 8)
	require.NoError(t, problems[intact])
	for name, says := range map[string]string{
		orphan:        "it has no manifest: the backup did not finish",
		lost:          "is missing",
		short:         "bytes, its manifest says",
		broken:        "the manifest is not valid",
		swapped:       "is the manifest of " + path.Base(intact),
		dir + "/dump": "it was not made by redisctl",
	} {
		require.ErrorIs(t, problems[name], snapshot.ErrCorrupt, name)
		require.ErrorContains(t, problems[name], says)
	}
	require.ErrorIs(t, problems[newer], snapshot.ErrUnsupported)

	assert.Equal(t, intact, path.Join(dir, find(t, store, snapshot.Latest).ID), "the newest intact one")
	assert.Equal(t, path.Base(broken), find(t, store, path.Base(broken)).ID, "others are found by name")
}

func TestListWhenSomethingCannotBeRead(t *testing.T) {
	inner := newStore(t)
	name := backup(t, inner, dir, begun)
	broken := errors.New("the network is gone")

	store := &faulty{Store: inner, list: broken}
	entries, err := snapshot.List(t.Context(), store, snapshot.Filter{})
	require.ErrorIs(t, err, broken)
	assert.Len(t, entries, 1, "what was found is returned")
	_, err = snapshot.Find(t.Context(), store, snapshot.Filter{}, snapshot.Latest)
	require.ErrorIs(t, err, broken, "there might be a newer one")
	_, err = snapshot.Find(t.Context(), store, snapshot.Filter{}, "rdb-")
	require.ErrorIs(t, err, broken, "there might be another one")
	_, err = snapshot.Find(t.Context(), store, snapshot.Filter{}, path.Base(name))
	require.NoError(t, err, "an id is unique")

	store = &faulty{Store: inner, open: func(string) error { return broken }}
	entries, err = snapshot.List(t.Context(), store, snapshot.Filter{})
	require.NoError(t, err)
	require.ErrorIs(t, entries[0].Problem, broken)
	require.NotErrorIs(t, entries[0].Problem, snapshot.ErrCorrupt)
}

func TestFind(t *testing.T) {
	store := newStore(t)
	_, err := snapshot.Find(t.Context(), store, snapshot.Filter{}, snapshot.Latest)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, store.Location(""))

	first := backup(t, store, "redis-prod/redis", begun)
	second := backup(t, store, "redis-prod/redis", begun.Add(time.Minute))
	third := backup(t, store, "redis-stage/redis", begun.Add(time.Hour))

	for ref, want := range map[string]string{
		"latest":                             third,
		path.Base(first):                     first,
		path.Base(first)[:20]:                first, // rdb-20261123T090501Z
		"rdb-20261123T10":                    third,
		first:                                first,
		second + ".rdb":                      second,
		second + ".manifest.json":            second,
		path.Base(third) + ".rdb":            third,
		"redis-prod/redis/rdb-20261123T0906": second,
		"redis-stage/redis/rdb-":             third,
	} {
		e, err := snapshot.Find(t.Context(), store, snapshot.Filter{}, ref)
		require.NoError(t, err, ref)
		assert.Equal(t, want, path.Join(e.Dir, e.ID), ref)
	}
	e, err := snapshot.Find(t.Context(), store, snapshot.Filter{Namespace: "redis-prod", Release: "redis"}, "latest")
	require.NoError(t, err)
	assert.Equal(t, path.Base(second), e.ID)

	for _, ref := range []string{"", "nothing", "rdb-2025", "redis-prod/redis", "redis-prod/redis/", "redis/" + path.Base(first), "../" + path.Base(first), "RDB-"} {
		_, err := snapshot.Find(t.Context(), store, snapshot.Filter{}, ref)
		var missing *snapshot.NotFoundError
		require.ErrorAs(t, err, &missing, "%q", ref)
		require.ErrorIs(t, err, fs.ErrNotExist)
		require.ErrorContains(t, err, ref)
	}

	_, err = snapshot.Find(t.Context(), store, snapshot.Filter{}, "rdb-20261123T09")
	var ambiguous *snapshot.AmbiguousError
	require.ErrorAs(t, err, &ambiguous)
	assert.Equal(t, []string{second, first}, ambiguous.Candidates, "newest first")
	require.ErrorContains(t, err, first)

	// The same snapshot, copied to another folder.
	for _, suffix := range []string{".rdb", ".manifest.json"} {
		storagetest.Put(t, store, "copy/"+path.Base(first)+suffix, storagetest.Get(t, store, first+suffix), storage.CreateOptions{})
	}
	_, err = snapshot.Find(t.Context(), store, snapshot.Filter{}, path.Base(first))
	require.ErrorAs(t, err, &ambiguous)
	assert.ElementsMatch(t, []string{"copy/" + path.Base(first), first}, ambiguous.Candidates)
}

func TestAmbiguousErrorIsShort(t *testing.T) {
	err := &snapshot.AmbiguousError{Ref: "r", Candidates: strings.Split("a b c d e f g h i j k l", " ")}
	assert.Equal(t, `"r" fits 12 snapshots: a, b, c, d, e, f, g, h, i, j and 2 more`, err.Error())
}

func TestFindFile(t *testing.T) {
	store := newStore(t)
	name := backup(t, store, dir, begun)
	elsewhere := t.TempDir()
	link := filepath.Join(elsewhere, "newest")
	require.NoError(t, os.Symlink(store.Location(name+".rdb"), link))
	for _, file := range []string{store.Location(name + ".rdb"), store.Location(name + ".manifest.json"), link} {
		found, e, err := snapshot.FindFile(t.Context(), file)
		require.NoError(t, err, file)
		require.NoError(t, e.Problem)
		assert.Equal(t, path.Base(name), e.ID)
		assert.NotNil(t, e.Manifest)
		report, err := snapshot.Verify(t.Context(), found, e, snapshot.VerifyOptions{})
		require.NoError(t, err)
		assert.True(t, report.Verified)
	}

	for _, base := range []string{"dump.rdb", "dump", "dump.rdb.1", "x.rdb.manifest"} {
		file := filepath.Join(elsewhere, base)
		require.NoError(t, os.WriteFile(file, rdbFile(1), 0o600))
		found, e, err := snapshot.FindFile(t.Context(), file)
		require.NoError(t, err, file)
		require.ErrorContains(t, e.Problem, "it was not made by redisctl")
		assert.Nil(t, e.Manifest)
		assert.Equal(t, file, found.Location(e.DataName))
		report, err := snapshot.Verify(t.Context(), found, e, snapshot.VerifyOptions{})
		require.NoError(t, err)
		assert.Equal(t, int64(3), report.RDB.Keys)
	}

	_, _, err := snapshot.FindFile(t.Context(), filepath.Join(elsewhere, "missing.rdb"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, _, err = snapshot.FindFile(t.Context(), elsewhere)
	require.ErrorContains(t, err, "folder")

	require.NoError(t, store.Remove(t.Context(), name+".rdb"))
	_, e, err := snapshot.FindFile(t.Context(), store.Location(name+".manifest.json"))
	require.NoError(t, err)
	require.ErrorContains(t, e.Problem, "is missing")
}

// Whoever restores "latest" after an accident wants what was before it, and not the copy
// of the damage that the first attempt has made.
func TestLatestIsNoSafetyCopy(t *testing.T) {
	store := newStore(t)
	wanted := create(t, store, rdbFile(1))
	opts := options()
	opts.Purpose = snapshot.PurposeSafety
	opts.Begun = wanted.CreatedAt.Add(time.Hour)
	opts.Now = func() time.Time { return opts.Begun.Add(time.Second) }
	safety, err := snapshot.Create(t.Context(), store, dir, bytes.NewReader(rdbFile(2)), opts)
	require.NoError(t, err)
	assert.Equal(t, "redisctl/v1.2", safety.APIVersion)
	assert.Equal(t, wanted.ID, find(t, store, snapshot.Latest).ID)
	assert.Equal(t, snapshot.PurposeSafety, find(t, store, safety.ID).Manifest.Purpose)
}
