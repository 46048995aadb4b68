package statefile_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/statefile"
)

// asHolder makes the test program a process that takes the lock of the addresses in
// it, says so, and holds it until it is killed.
const asHolder = "STATEFILE_TEST_HOLD"

func TestMain(m *testing.M) {
	if list := os.Getenv(asHolder); list != "" {
		s := statefile.New(os.Getenv("STATEFILE_TEST_FOLDER"), "the other one", clock)
		if _, _, err := s.Lock(context.Background(), deployment(strings.Split(list, ",")...)); err != nil {
			panic(err)
		}
		_, _ = os.Stdout.WriteString("locked\n")
		select {}
	}
	os.Exit(m.Run())
}

func clock() time.Time { return time.Date(2026, 11, 23, 3, 4, 5, 0, time.UTC) }

func deployment(addresses ...string) *operation.Deployment {
	d := &operation.Deployment{Name: addresses[0]}
	for _, a := range addresses {
		d.Instances = append(d.Instances, operation.Instance{Name: a})
	}
	return d
}

func store(dir string) *statefile.Store { return statefile.New(dir, "me@here/7", clock) }

func TestDefaultFolder(t *testing.T) {
	home, state := t.TempDir(), t.TempDir()
	for name, test := range map[string]struct {
		env  map[string]string
		want string
	}{
		"XDG":                    {map[string]string{"HOME": home, "XDG_STATE_HOME": state}, filepath.Join(state, "redisctl")},
		"a relative XDG is none": {map[string]string{"HOME": home, "XDG_STATE_HOME": "state"}, filepath.Join(home, ".local", "state", "redisctl")},
		"Windows":                {map[string]string{"USERPROFILE": home}, filepath.Join(home, ".local", "state", "redisctl")},
		"no home":                {map[string]string{"HOME": ""}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := statefile.DefaultFolder(func(key string) (string, bool) {
				value, ok := test.env[key]
				return value, ok
			})
			assert.Equal(t, test.want, got)
		})
	}
}

func TestNotesSurvive(t *testing.T) {
	ctx, dir := t.Context(), filepath.Join(t.TempDir(), "state")
	ab := deployment("a:1", "b:2")

	text, err := store(dir).Note(ctx, ab, operation.NotePrimary)
	require.NoError(t, err)
	assert.Empty(t, text)
	assert.NoDirExists(t, dir, "reading makes nothing")

	require.NoError(t, store(dir).SetNotes(ctx, ab, map[string]string{"record": `{"from":"a:1"}`, "primary": "a:1"}))
	require.NoError(t, store(dir).SetNotes(ctx, ab, map[string]string{"record": "", "primary": "b:2"}))
	for name, d := range map[string]*operation.Deployment{"same order": ab, "other order": deployment("b:2", "a:1")} {
		for key, want := range map[string]string{"record": "", "primary": "b:2", "unknown": ""} {
			got, err := store(dir).Note(ctx, d, key)
			require.NoError(t, err)
			assert.Equal(t, want, got, "%s of %s", key, name)
		}
	}
	got, err := store(dir).Note(ctx, deployment("a:1", "b:2", "c:3"), "primary")
	require.NoError(t, err)
	assert.Empty(t, got, "another list is another deployment")
}

func TestOnlyTheUserMayRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s := store(dir)
	d := deployment("a:1")
	_, release, err := s.Lock(t.Context(), d)
	require.NoError(t, err)
	require.NoError(t, s.SetNotes(t.Context(), d, map[string]string{"primary": "a:1"}))
	release()
	files := 0
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := entry.Info()
		require.NoError(t, err)
		want := fs.FileMode(0o600)
		if entry.IsDir() {
			want = 0o700
		} else {
			files++
		}
		assert.Equal(t, want, info.Mode().Perm(), path)
		return nil
	}))
	assert.Equal(t, 2, files, "a lock and the notes, no temporary file")
}

func TestNotesThatCannotBeRead(t *testing.T) {
	dir, d := t.TempDir(), deployment("a:1")
	s := store(dir)
	require.NoError(t, s.SetNotes(t.Context(), d, map[string]string{"primary": "a:1"}))
	found, err := filepath.Glob(filepath.Join(dir, "notes", "*.json"))
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.NoError(t, os.WriteFile(found[0], []byte(`{"addresses":`), 0o600))

	_, err = s.Note(t.Context(), d, "primary")
	require.ErrorContains(t, err, found[0])
	require.Error(t, s.SetNotes(t.Context(), d, map[string]string{"primary": "b:2"}), "what cannot be read is not replaced")
}

func TestWithoutAFolder(t *testing.T) {
	s, d := store(""), deployment("a:1")
	text, err := s.Note(t.Context(), d, "primary")
	require.NoError(t, err, "commands that only read work")
	assert.Empty(t, text)

	wantHint := func(err error) {
		var e *operation.Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, operation.Failed, e.Kind)
		assert.Contains(t, e.Next, "XDG_STATE_HOME")
	}
	wantHint(s.SetNotes(t.Context(), d, map[string]string{"primary": "a:1"}))
	_, _, err = s.Lock(t.Context(), d)
	wantHint(err)
	holder, err := s.LockHolder(t.Context(), d)
	require.NoError(t, err)
	assert.Empty(t, holder)
}

func TestLockExcludes(t *testing.T) {
	dir := t.TempDir()
	_, release, err := store(dir).Lock(t.Context(), deployment("a:1", "b:2"))
	require.NoError(t, err)

	for _, d := range []*operation.Deployment{
		deployment("a:1", "b:2"), deployment("b:2", "a:1"), deployment("b:2", "c:3"), deployment("a:1"),
	} {
		_, _, err := store(dir).Lock(t.Context(), d)
		assert.Equal(t, operation.Locked, operation.KindOf(err), "%v", d.Instances)
		require.ErrorContains(t, err, "held by me@here/7 since 2026-11-23T03:04:05Z")
	}
	wantHolder := func(want string, addresses ...string) {
		t.Helper()
		holder, err := store(dir).LockHolder(t.Context(), deployment(addresses...))
		require.NoError(t, err)
		assert.Equal(t, want, holder, addresses)
	}
	wantHolder("me@here/7", "b:2", "c:3")
	wantHolder("", "c:3")
	_, releaseOther, err := store(dir).Lock(t.Context(), deployment("c:3", "d:4"))
	require.NoError(t, err, "nothing in common; and who was refused holds nothing")
	releaseOther()

	release()
	release() // may be called twice
	wantHolder("", "a:1", "b:2")
	_, release, err = store(dir).Lock(t.Context(), deployment("a:1", "b:2"))
	require.NoError(t, err)
	release()
}

// TestOneOfManyGetsTheLock: lists that overlap in any order never refuse each other
// in a circle.
func TestOneOfManyGetsTheLock(t *testing.T) {
	dir := t.TempDir()
	lists := [][]string{{"a:1", "b:2"}, {"b:2", "c:3"}, {"c:3", "a:1"}, {"c:3", "b:2", "a:1"}}
	for range 50 {
		got := make(chan func(), len(lists))
		var all sync.WaitGroup
		for _, list := range lists {
			all.Go(func() {
				if _, release, err := store(dir).Lock(context.Background(), deployment(list...)); err == nil {
					got <- release
				}
			})
		}
		all.Wait()
		close(got)
		require.Len(t, got, 1)
		(<-got)()
	}
}

// TestKilledHolder: the lock of a process that was killed is free.
func TestKilledHolder(t *testing.T) {
	dir := t.TempDir()
	holder := exec.CommandContext(t.Context(), os.Args[0])
	holder.Env = append(os.Environ(), asHolder+"=a:1,b:2", "STATEFILE_TEST_FOLDER="+dir)
	out, err := holder.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, holder.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "locked\n", line)

	d := deployment("a:1", "b:2")
	_, _, err = store(dir).Lock(t.Context(), d)
	require.ErrorContains(t, err, "held by the other one since")

	require.NoError(t, holder.Process.Kill())
	_ = holder.Wait() // it was killed
	name, err := store(dir).LockHolder(t.Context(), d)
	require.NoError(t, err)
	assert.Empty(t, name, "it has gone, its name is still there")
	_, release, err := store(dir).Lock(t.Context(), d)
	require.NoError(t, err)
	_, _, err = store(dir).Lock(t.Context(), d)
	require.ErrorContains(t, err, "held by me@here/7")
	release()
	signatures, err := filepath.Glob(filepath.Join(dir, "locks", "*.json"))
	require.NoError(t, err)
	assert.Empty(t, signatures, "nobody holds it")
}

// TestNotesAreForPeopleToo: in an emergency somebody reads the file.
func TestNotesAreForPeopleToo(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, store(dir).SetNotes(t.Context(), deployment("b:2", "a:1"), map[string]string{"primary": "a:1"}))
	found, err := filepath.Glob(filepath.Join(dir, "notes", "*.json"))
	require.NoError(t, err)
	require.Len(t, found, 1)
	text, err := os.ReadFile(found[0])
	require.NoError(t, err)
	var got map[string]any
	require.NoError(t, json.Unmarshal(text, &got))
	assert.Equal(t, map[string]any{"addresses": []any{"a:1", "b:2"}, "notes": map[string]any{"primary": "a:1"}}, got)
}
