//go:build linux || darwin

package folder

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/storage"
	"github.com/redisctl/redisctl/internal/storage/storagetest"
)

// Faults that concern a whole process are tried in a child: the test binary
// itself, told by childEnv what to do to the folder in folderEnv.
const (
	childEnv  = "REDISCTL_FOLDER_TEST_CHILD"
	folderEnv = "REDISCTL_FOLDER_TEST_DIR"
)

func TestMain(m *testing.M) {
	name := os.Getenv(childEnv)
	if name == "" {
		os.Exit(m.Run())
	}
	child, ok := map[string]func(dir string) error{
		"write until killed":           writeUntilKilled,
		"file size limit":              fileSizeLimit,
		"file size limit, resumable":   fileSizeLimitResumable,
		"write resumable until killed": writeResumableUntilKilled,
		"full disk":                    fullDisk,
		"no permission":                noPermission,
	}[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "no such child: %q\n", name)
		os.Exit(2)
	}
	if err := child(os.Getenv(folderEnv)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func child(t *testing.T, name, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+name, folderEnv+"="+dir)
	return cmd
}

// runChild runs a child whose assertions are its error.
func runChild(t *testing.T, name, dir string, attr *syscall.SysProcAttr) {
	t.Helper()
	cmd := child(t, name, dir)
	cmd.SysProcAttr = attr
	output, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", output)
}

// expect is require for children, which have no testing.T: it turns the first
// failed requirement into the child's error.
type expect struct{ err error }

func (e *expect) Errorf(format string, args ...any) {
	if e.err == nil {
		e.err = fmt.Errorf(format, args...)
	}
}

func (e *expect) FailNow() { panic(e) }

func expecting(check func(*expect)) (err error) {
	e := &expect{}
	defer func() {
		if r := recover(); r != nil && r != any(e) {
			panic(r)
		}
		err = e.err
	}()
	check(e)
	return nil
}

func writeUntilKilled(dir string) error {
	ctx := context.Background()
	w, err := New(dir).Create(ctx, "a/object", storage.CreateOptions{})
	if err != nil {
		return err
	}
	chunk := make([]byte, 64<<10)
	for {
		if _, err := w.Write(chunk); err != nil {
			return err
		}
		fmt.Println(len(chunk))
	}
}

func TestKilledDuringAWrite(t *testing.T) {
	dir := t.TempDir()
	s := New(dir)
	storagetest.Put(t, s, "a/earlier", []byte("earlier"), storage.CreateOptions{})

	cmd := child(t, "write until killed", dir)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(stdout)
	for range 16 { // a megabyte is written
		require.True(t, lines.Scan())
	}
	require.NoError(t, cmd.Process.Kill())
	require.ErrorContains(t, cmd.Wait(), "killed")

	assert.Len(t, files(t, dir), 2, "the object and a leftover")
	assert.Equal(t, []string{"a/earlier"}, storagetest.Names(t, s))
	_, err = s.Stat(t.Context(), "a/object")
	require.ErrorIs(t, err, fs.ErrNotExist)

	storagetest.Put(t, s, "a/object", []byte("second run"), storage.CreateOptions{})
	swept, err := s.Sweep(t.Context(), "", 0)
	require.NoError(t, err)
	assert.Equal(t, []string{"a/object"}, swept)
	assert.Equal(t, []string{filepath.Join(dir, "a", "earlier"), filepath.Join(dir, "a", "object")}, files(t, dir))
}

// fillUp writes to a new object until that fails, which must be for want of
// space and leave nothing.
func fillUp(e *expect, s *Store) {
	ctx := context.Background()
	w, err := s.Create(ctx, "a/object", storage.CreateOptions{})
	require.NoError(e, err)
	defer w.Abort()
	chunk := make([]byte, 100_000) // not a divisor of the limit: the last write is short
	for range 100 {
		if _, err = w.Write(chunk); err != nil {
			break
		}
	}
	require.ErrorIs(e, err, storage.ErrNoSpace)
	require.ErrorContains(e, err, s.Location("a/object"))
	require.ErrorIs(e, w.Commit(ctx), storage.ErrNoSpace, "what is incomplete cannot be committed")

	require.Empty(e, storagetest.Names(e, s))
	require.NoError(e, filepath.WalkDir(s.Location(""), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			return fmt.Errorf("%s was left behind", path)
		}
		return err
	}))
}

func TestFileSizeLimit(t *testing.T) {
	runChild(t, "file size limit", t.TempDir(), nil)
}

func fileSizeLimit(dir string) error {
	const limit = 1 << 20
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
		return err
	}
	return expecting(func(e *expect) { fillUp(e, New(dir)) })
}

// A folder that may not be read or written is a clear error, and hides nothing
// of its neighbours.
func TestNoPermission(t *testing.T) {
	dir := t.TempDir()
	s := New(dir)
	for _, name := range []string{"open/object", "shut/object"} {
		storagetest.Put(t, s, name, []byte("data"), storage.CreateOptions{})
	}
	if os.Getuid() == 0 { // may read everything: the child becomes somebody else
		for _, path := range []string{filepath.Dir(dir), dir, filepath.Join(dir, "open")} {
			require.NoError(t, os.Chmod(path, 0o755))
		}
	}
	require.NoError(t, os.Chmod(filepath.Join(dir, "shut"), 0))
	t.Cleanup(func() { assert.NoError(t, os.Chmod(filepath.Join(dir, "shut"), 0o700)) })
	runChild(t, "no permission", dir, nil)
}

func noPermission(dir string) error {
	const nobody = 65534
	if os.Getuid() == 0 {
		if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(nobody), syscall.Setuid(nobody)); err != nil {
			return err
		}
	}
	return expecting(func(e *expect) {
		ctx := context.Background()
		s := New(dir)
		shut := filepath.Join(dir, "shut")

		objects, err := s.List(ctx, "")
		require.ErrorIs(e, err, fs.ErrPermission)
		require.ErrorContains(e, err, shut)
		require.Len(e, objects, 1, "the readable folder is listed")
		require.Equal(e, "open/object", objects[0].Name)

		_, err = s.Create(ctx, "shut/new", storage.CreateOptions{})
		require.ErrorIs(e, err, fs.ErrPermission)
		require.ErrorContains(e, err, shut)
		_, _, err = s.Open(ctx, "shut/object")
		require.ErrorIs(e, err, fs.ErrPermission)
		require.ErrorIs(e, s.Remove(ctx, "shut/object"), fs.ErrPermission)
		require.NotContains(e, err.Error(), "\n", "one line")
		require.Equal(e, 1, strings.Count(err.Error(), shut))
	})
}
