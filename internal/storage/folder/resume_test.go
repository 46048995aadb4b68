//go:build linux || darwin

package folder

import (
	"bufio"
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/storage"
	"github.com/redisctl/redisctl/internal/storage/storagetest"
)

// begin writes text to a new object that can be suspended.
func begin(t *testing.T, s *Store, name, text string) storage.ResumableWriter {
	t.Helper()
	w, err := s.CreateResumable(t.Context(), name, "from here")
	require.NoError(t, err)
	t.Cleanup(w.Abort)
	_, err = w.Write([]byte(text))
	require.NoError(t, err)
	return w
}

// unfinishedIn takes over what is left in the folder a.
func unfinishedIn(t *testing.T, s *Store) []storage.Unfinished {
	t.Helper()
	all, err := s.Unfinished(t.Context(), "a")
	require.NoError(t, err)
	t.Cleanup(func() {
		for _, u := range all {
			u.Release()
		}
	})
	return all
}

func TestSuspendedAndResumed(t *testing.T) {
	dir := t.TempDir()
	s := New(dir)
	w := begin(t, s, "a/first", "hello, ")
	assert.Empty(t, unfinishedIn(t, s), "somebody writes it")
	assert.EqualValues(t, 7, w.Suspend())
	w.Abort() // it has ended already
	assert.Empty(t, storagetest.Names(t, s))
	require.ErrorIs(t, w.Commit(t.Context()), fs.ErrClosed)

	found := unfinishedIn(t, s)
	require.Len(t, found, 1)
	assert.Empty(t, unfinishedIn(t, s), "it is taken")
	assert.Equal(t, "from here", found[0].Origin())
	assert.EqualValues(t, 7, found[0].Size())
	here := make([]byte, 5)
	_, err := found[0].ReadAt(here, 0)
	require.NoError(t, err)
	assert.Equal(t, "hello", string(here))
	found[0].Release()

	found = unfinishedIn(t, s)
	require.Len(t, found, 1)
	storagetest.Put(t, s, "a/taken", nil, storage.CreateOptions{})
	_, err = found[0].Resume(t.Context(), "a/taken", "from there")
	require.ErrorIs(t, err, fs.ErrExist)
	_, err = found[0].Resume(t.Context(), "b/second", "from there")
	require.Error(t, err, "another folder")
	w, err = found[0].Resume(t.Context(), "a/second", "from there")
	require.NoError(t, err)
	found[0].Discard() // it is somebody's
	for _, text := range []string{"hel", "lo, w", "orld"} {
		_, err := w.Write([]byte(text))
		require.NoError(t, err)
	}
	_, err = found[0].ReadAt(here, 0)
	require.NoError(t, err, "what was here can be read on")
	require.NoError(t, w.Commit(t.Context()))
	assert.Equal(t, "hello, world", string(storagetest.Get(t, s, "a/second")))
	assert.Equal(t, []string{filepath.Join(dir, "a", "second"), filepath.Join(dir, "a", "taken")}, files(t, dir))
}

// Less than what is there must not become the object.
func TestResumedWithTooLittle(t *testing.T) {
	s := New(t.TempDir())
	begin(t, s, "a/first", "hello").Suspend()
	w, err := unfinishedIn(t, s)[0].Resume(t.Context(), "a/second", "")
	require.NoError(t, err)
	_, err = w.Write([]byte("hell"))
	require.NoError(t, err)
	require.Error(t, w.Commit(t.Context()))
	assert.Empty(t, storagetest.Names(t, s))
}

func TestSuspendedWithinWhatWasThere(t *testing.T) {
	s := New(t.TempDir())
	begin(t, s, "a/first", "hello").Suspend()
	w, err := unfinishedIn(t, s)[0].Resume(t.Context(), "a/second", "from there")
	require.NoError(t, err)
	_, err = w.Write([]byte("he"))
	require.NoError(t, err)
	assert.EqualValues(t, 5, w.Suspend())
	found := unfinishedIn(t, s)
	require.Len(t, found, 1)
	assert.EqualValues(t, 5, found[0].Size())
	assert.Equal(t, "from there", found[0].Origin())
}

func TestDiscardedAndSwept(t *testing.T) {
	dir := t.TempDir()
	s := New(dir)
	begin(t, s, "a/first", "hello").Suspend()
	unfinishedIn(t, s)[0].Discard()
	assert.Empty(t, files(t, dir))

	begin(t, s, "a/first", "hello").Suspend()
	swept, err := s.Sweep(t.Context(), "", 0)
	require.NoError(t, err)
	assert.Equal(t, []string{"a/first"}, swept, "named once")
	assert.Empty(t, files(t, dir))

	begin(t, s, "a/first", "").Suspend()
	assert.Empty(t, files(t, dir), "nothing is not worth keeping")
	ctx, cancel := context.WithCancel(t.Context())
	w, err := s.CreateResumable(ctx, "a/first", "")
	require.NoError(t, err)
	_, err = w.Write([]byte("hello"))
	require.NoError(t, err)
	cancel()
	_, err = w.Write([]byte("!"))
	require.Error(t, err)
	assert.EqualValues(t, 5, w.Suspend(), "Ctrl-C damages nothing")
	w, err = s.CreateResumable(t.Context(), "a/second", "")
	require.NoError(t, err)
	w.Abort()
	assert.Len(t, files(t, dir), 2, "the first one's")
}

// What does not fit on the disk must not stay there.
func fileSizeLimitResumable(dir string) error {
	const limit = 1 << 20
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
		return err
	}
	return expecting(func(e *expect) {
		w, err := New(dir).CreateResumable(context.Background(), "a/object", "from here")
		require.NoError(e, err)
		_, err = w.Write(make([]byte, limit+1))
		require.ErrorIs(e, err, storage.ErrNoSpace)
		require.Zero(e, w.Suspend())
	})
}

func TestSuspendedOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	runChild(t, "file size limit, resumable", dir, nil)
	assert.Empty(t, files(t, dir))
}

func writeResumableUntilKilled(dir string) error {
	w, err := New(dir).CreateResumable(context.Background(), "a/object", "from here")
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		if _, err := fmt.Fprintf(w, "line %d\n", i); err != nil {
			return err
		}
		fmt.Println(i)
	}
}

// kill -9 leaves what was written, and nobody holds it any more.
func TestKilledAndResumed(t *testing.T) {
	dir := t.TempDir()
	s := New(dir)
	cmd := child(t, "write resumable until killed", dir)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(stdout)
	for range 100 {
		require.True(t, lines.Scan())
	}
	assert.Empty(t, unfinishedIn(t, s), "it is being written")
	require.NoError(t, cmd.Process.Kill())
	require.ErrorContains(t, cmd.Wait(), "killed")

	found := unfinishedIn(t, s)
	require.Len(t, found, 1)
	assert.Equal(t, "from here", found[0].Origin())
	assert.GreaterOrEqual(t, found[0].Size(), int64(len("line 0\n")*100))
}
