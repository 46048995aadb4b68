package folder

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/storage"
	"github.com/redisctl/redisctl/internal/storage/storagetest"
)

func TestConformance(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Store {
		return New(filepath.Join(t.TempDir(), "not", "there", "yet"))
	})
}

// NFS has no exclusive rename: the same promises must hold with hard links.
func TestConformanceWithoutExclusiveRename(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Store {
		s := New(t.TempDir())
		s.rename = func(*os.File, string, string) error { return errors.ErrUnsupported }
		return s
	})
}

func TestFailedPublicationLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	s := New(dir)
	broken := errors.New("the disk is gone")
	s.rename = func(*os.File, string, string) error { return broken }

	w := writing(t, s, "a/object")
	err := w.Commit(t.Context())
	require.ErrorIs(t, err, broken)
	require.ErrorContains(t, err, filepath.Join(dir, "a", "object"))
	assert.Empty(t, files(t, dir))
}

// The name is there, but might be gone after a power failure.
func TestNameThatIsNotDurableIsTakenBack(t *testing.T) {
	dir := t.TempDir()
	s := New(dir)
	broken := errors.New("the disk is gone")
	s.flush = func(*os.File) error { return broken }
	require.ErrorIs(t, writing(t, s, "a/object").Commit(t.Context()), broken)
	assert.Empty(t, files(t, dir))
}

func TestModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made")
	w := writing(t, New(dir), "a/b/object")

	modes := func() map[string]fs.FileMode {
		modes := map[string]fs.FileMode{}
		require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			require.NoError(t, err)
			info, err := d.Info()
			require.NoError(t, err)
			modes[strings.TrimPrefix(path, dir)] = info.Mode()
			return nil
		}))
		return modes
	}
	temp := strings.TrimPrefix(files(t, dir)[0], dir)
	assert.Equal(t, map[string]fs.FileMode{
		"": fs.ModeDir | 0o700, "/a": fs.ModeDir | 0o700, "/a/b": fs.ModeDir | 0o700, temp: 0o600,
	}, modes(), "while it is written")
	require.NoError(t, w.Commit(t.Context()))
	assert.Equal(t, map[string]fs.FileMode{
		"": fs.ModeDir | 0o700, "/a": fs.ModeDir | 0o700, "/a/b": fs.ModeDir | 0o700, "/a/b/object": 0o600,
	}, modes(), "when it is published")
}

func TestExistingFolderKeepsItsMode(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o750))
	storagetest.Put(t, New(dir), "object", nil, storage.CreateOptions{})
	info, err := os.Stat(dir)
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o750), info.Mode().Perm())
}

func TestSymbolicLinks(t *testing.T) {
	outside := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600))
	dir := t.TempDir()
	s := New(dir)
	storagetest.Put(t, s, "inside/object", []byte("data"), storage.CreateOptions{})
	for link, target := range map[string]string{
		"absolute":        outside,
		"file":            filepath.Join(outside, "secret"),
		"relative":        filepath.Join("..", filepath.Base(outside)),
		"inside/dangling": filepath.Join("..", "..", filepath.Base(outside), "new"),
		"alias":           "inside",
	} {
		require.NoError(t, os.Symlink(target, filepath.Join(dir, link)))
	}

	for _, name := range []string{"absolute/secret", "relative/secret", "file", "absolute/new", "inside/dangling"} {
		_, _, err := s.Open(t.Context(), name)
		require.ErrorContains(t, err, "escapes", "Open %s", name)
		_, err = s.Stat(t.Context(), name)
		require.ErrorContains(t, err, "escapes", "Stat %s", name)
	}
	for _, name := range []string{"absolute/new", "absolute/secret", "relative/sub/new"} {
		_, err := s.Create(t.Context(), name, storage.CreateOptions{Overwrite: true})
		require.ErrorContains(t, err, "escapes", "Create %s", name)
		require.Error(t, s.Remove(t.Context(), name), "Remove %s", name)
	}
	_, err := s.List(t.Context(), "absolute")
	require.ErrorContains(t, err, "escapes")
	_, err = s.Create(t.Context(), "inside/dangling", storage.CreateOptions{})
	require.ErrorIs(t, err, fs.ErrExist, "a link takes its name")
	assert.Equal(t, []string{filepath.Join(outside, "secret")}, files(t, outside), "nothing was written outside")

	assert.Equal(t, []string{"inside/object"}, storagetest.Names(t, s), "links are not listed")
	assert.Equal(t, "data", string(storagetest.Get(t, s, "alias/object")), "a link that stays inside is followed")

	storagetest.Put(t, s, "file", []byte("mine"), storage.CreateOptions{Overwrite: true})
	assert.Equal(t, "mine", string(storagetest.Get(t, s, "file")), "an overwrite replaces the link, not its target")
	data, err := os.ReadFile(filepath.Join(outside, "secret"))
	require.NoError(t, err)
	assert.Equal(t, "secret", string(data))
}

func TestStoreMayBeASymbolicLink(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(t.TempDir(), "backups")
	require.NoError(t, os.Symlink(dir, link))
	storagetest.Put(t, New(link), "object", []byte("data"), storage.CreateOptions{})
	assert.Equal(t, "data", string(storagetest.Get(t, New(dir), "object")))
}

// The folder that a Writer began in is the folder that it publishes in, whatever
// is put in its place meanwhile.
func TestFolderIsReplacedDuringAWrite(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	s := New(dir)
	w := writing(t, s, "a/object")
	require.NoError(t, os.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "moved")))
	require.NoError(t, os.Symlink(outside, filepath.Join(dir, "a")))
	require.NoError(t, w.Commit(t.Context()))
	assert.Empty(t, files(t, outside))
	assert.Equal(t, []string{"moved/object"}, storagetest.Names(t, s))
}

func TestStoreIsNotAFolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for _, s := range []*Store{New(file), New(filepath.Join(file, "below"))} {
		_, err := s.Create(t.Context(), "object", storage.CreateOptions{})
		require.ErrorContains(t, err, file)
		_, err = s.List(t.Context(), "")
		require.ErrorContains(t, err, file)
	}
}

func TestLeftoversAreReservedAndRecognised(t *testing.T) {
	dir := t.TempDir()
	s := New(dir)
	w := writing(t, s, "a/"+strings.Repeat("ü", 120)+".rdb")
	temp := filepath.Base(files(t, dir)[0])
	assert.LessOrEqual(t, len(temp), 255)
	assert.True(t, strings.HasSuffix(temp, TempSuffix))

	for _, name := range []string{"a/" + temp, "x" + TempSuffix} {
		_, err := s.Create(t.Context(), name, storage.CreateOptions{})
		require.ErrorIs(t, err, storage.ErrInvalidName)
		_, _, err = s.Open(t.Context(), name)
		require.ErrorIs(t, err, storage.ErrInvalidName)
		require.ErrorIs(t, s.Remove(t.Context(), name), storage.ErrInvalidName)
	}
	require.NoError(t, w.Commit(t.Context()))
}

// Sweep goes by the time of the last write, and touches nothing but leftovers.
func TestSweepByAge(t *testing.T) {
	dir := t.TempDir()
	s := New(dir)
	put := func(name string, age time.Duration) {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, nil, 0o600))
		require.NoError(t, os.Chtimes(path, time.Time{}, time.Now().Add(-age)))
	}
	put("a/old.rdb.abcdefghij234567"+TempSuffix, 25*time.Hour)
	put("a/new.rdb.abcdefghij234567"+TempSuffix, 23*time.Hour)
	put("a/old.rdb", 25*time.Hour)
	put("a/notes"+TempSuffix, 25*time.Hour)              // no random part
	put("a/x.abcdefghij234561"+TempSuffix, 25*time.Hour) // not base32
	put("a/.abcdefghij234567"+TempSuffix, 25*time.Hour)  // no name
	put("b/x.abcdefghij234567"+TempSuffix, 25*time.Hour) // elsewhere
	put("a/old.abcdefghij234567.rdb.tmp", 25*time.Hour)  // somebody else's
	require.NoError(t, os.Mkdir(filepath.Join(dir, "a", "dir.abcdefghij234567"+TempSuffix), 0o700))

	before := files(t, dir)
	swept, err := s.Sweep(t.Context(), "a", storage.SweepAge)
	require.NoError(t, err)
	assert.Equal(t, []string{"a/old.rdb"}, swept)
	assert.Len(t, files(t, dir), len(before)-1)
	assert.DirExists(t, filepath.Join(dir, "a", "dir.abcdefghij234567"+TempSuffix))
}

func TestFreeOfAFolderThatIsNotThereYet(t *testing.T) {
	dir := t.TempDir()
	want, ok := New(dir).Free(t.Context())
	require.True(t, ok)
	got, ok := New(filepath.Join(dir, "a", "b")).Free(t.Context())
	require.True(t, ok)
	assert.InDelta(t, want, got, 1<<30)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, ok = New(dir).Free(ctx)
	assert.False(t, ok)
}

// writing returns a Writer of name that has received something.
func writing(t *testing.T, s storage.Store, name string) storage.Writer {
	t.Helper()
	w, err := s.Create(t.Context(), name, storage.CreateOptions{})
	require.NoError(t, err)
	t.Cleanup(w.Abort)
	_, err = w.Write([]byte("data"))
	require.NoError(t, err)
	return w
}

// files returns the paths of everything but folders below dir.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var paths []string
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			paths = append(paths, path)
		}
		return err
	}))
	return paths
}

func BenchmarkWrite(b *testing.B) {
	chunk := make([]byte, 256<<10)
	s := New(b.TempDir())
	w, err := s.Create(b.Context(), "object", storage.CreateOptions{})
	require.NoError(b, err)
	defer w.Abort()
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		if _, err := w.Write(chunk); err != nil {
			b.Fatal(err)
		}
	}
}
