// Package storagetest is the conformance suite of storage.Store. Every backend
// runs it in its own tests:
//
//	func TestConformance(t *testing.T) {
//		storagetest.Run(t, func(t *testing.T) storage.Store { return newEmptyStore(t) })
//	}
package storagetest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/redisctl/redisctl/internal/storage"
)

// Run tests the stores that newStore returns. Each of them must be empty and
// independent of the others; newStore registers its own clean-up.
func Run(t *testing.T, newStore func(t *testing.T) storage.Store) {
	t.Helper()
	for _, test := range []struct {
		name string
		run  func(*testing.T, storage.Store)
	}{
		{"round trip", roundTrip},
		{"invisible before commit", invisibleBeforeCommit},
		{"abort", abort},
		{"use after the end", useAfterTheEnd},
		{"existing object is kept", existingObjectIsKept},
		{"first commit wins", firstCommitWins},
		{"overwrite", overwrite},
		{"reader keeps its version", readerKeepsItsVersion},
		{"missing objects", missingObjects},
		{"folders are not objects", foldersAreNotObjects},
		{"list", list},
		{"invalid names", invalidNames},
		{"cancelled context", cancelledContext},
		{"sweep", sweep},
		{"list during writes", listDuringWrites},
		{"space and location", spaceAndLocation},
		{"behaves like a map of names", likeAMap},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, newStore(t)) })
	}
}

// Put stores data under name, in a few writes.
func Put(t require.TestingT, s storage.Store, name string, data []byte, opts storage.CreateOptions) {
	if h, ok := t.(interface{ Helper() }); ok {
		h.Helper()
	}
	require.NoError(t, put(s, name, data, opts))
}

func put(s storage.Store, name string, data []byte, opts storage.CreateOptions) error {
	ctx := context.Background()
	w, err := s.Create(ctx, name, opts)
	if err != nil {
		return err
	}
	defer w.Abort()
	for chunk := range slices.Chunk(data, len(data)/3+1) {
		if _, err := w.Write(chunk); err != nil {
			return err
		}
	}
	return w.Commit(ctx)
}

// Get returns the contents of the object under name.
func Get(t require.TestingT, s storage.Store, name string) []byte {
	if h, ok := t.(interface{ Helper() }); ok {
		h.Helper()
	}
	r, info, err := s.Open(context.Background(), name)
	require.NoError(t, err)
	data, err := io.ReadAll(r)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	assert.Equal(t, name, info.Name)
	assert.Equal(t, int64(len(data)), info.Size)
	return data
}

// Names returns the names of all objects.
func Names(t require.TestingT, s storage.Store) []string {
	if h, ok := t.(interface{ Helper() }); ok {
		h.Helper()
	}
	objects, err := s.List(context.Background(), "")
	require.NoError(t, err)
	names := make([]string, 0, len(objects))
	for _, o := range objects {
		names = append(names, o.Name)
	}
	return names
}

func create(t *testing.T, s storage.Store, name string, opts storage.CreateOptions) storage.Writer {
	t.Helper()
	w, err := s.Create(t.Context(), name, opts)
	require.NoError(t, err)
	t.Cleanup(w.Abort)
	return w
}

func write(t *testing.T, w storage.Writer, data string) {
	t.Helper()
	n, err := io.WriteString(w, data)
	require.NoError(t, err)
	require.Equal(t, len(data), n)
}

func roundTrip(t *testing.T, s storage.Store) {
	before := time.Now().Add(-time.Minute)
	for name, data := range map[string][]byte{
		"empty":                  {},
		"byte":                   {0},
		"a/b/c/deep.rdb":         []byte("REDIS0011"),
		"ünicode – and space/x":  []byte("ü"),
		"large":                  bytes.Repeat([]byte("0123456789abcdef"), 3<<16),
		strings.Repeat("n", 200): []byte("long name"),
	} {
		Put(t, s, name, data, storage.CreateOptions{})
		assert.Equal(t, data, Get(t, s, name))

		info, err := s.Stat(t.Context(), name)
		require.NoError(t, err)
		assert.Equal(t, name, info.Name)
		assert.Equal(t, int64(len(data)), info.Size)
		assert.WithinRange(t, info.Modified, before, time.Now().Add(time.Minute))
	}
}

func invisibleBeforeCommit(t *testing.T, s storage.Store) {
	w := create(t, s, "dir/object", storage.CreateOptions{})
	write(t, w, "data")

	_, _, err := s.Open(t.Context(), "dir/object")
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = s.Stat(t.Context(), "dir/object")
	require.ErrorIs(t, err, fs.ErrNotExist)
	assert.Empty(t, Names(t, s))

	require.NoError(t, w.Commit(t.Context()))
	assert.Equal(t, []string{"dir/object"}, Names(t, s))
}

func abort(t *testing.T, s storage.Store) {
	w := create(t, s, "dir/object", storage.CreateOptions{})
	write(t, w, "data")
	w.Abort()
	w.Abort()
	assert.Empty(t, Names(t, s))
	swept, err := s.Sweep(t.Context(), "", 0)
	require.NoError(t, err)
	assert.Empty(t, swept, "Abort leaves nothing to sweep")

	Put(t, s, "dir/object", []byte("second"), storage.CreateOptions{}) // aborts after its commit
	assert.Equal(t, "second", string(Get(t, s, "dir/object")))
}

func useAfterTheEnd(t *testing.T, s storage.Store) {
	for name, end := range map[string]func(storage.Writer){
		"committed": func(w storage.Writer) { require.NoError(t, w.Commit(t.Context())) },
		"aborted":   func(w storage.Writer) { w.Abort() },
	} {
		w := create(t, s, name, storage.CreateOptions{})
		write(t, w, "data")
		end(w)
		require.ErrorIs(t, w.Commit(t.Context()), fs.ErrClosed, name)
		_, err := w.Write([]byte("more"))
		require.ErrorIs(t, err, fs.ErrClosed, name)
	}
	assert.Equal(t, []string{"committed"}, Names(t, s))
	assert.Equal(t, "data", string(Get(t, s, "committed")))
}

func existingObjectIsKept(t *testing.T, s storage.Store) {
	Put(t, s, "object", []byte("first"), storage.CreateOptions{})
	_, err := s.Create(t.Context(), "object", storage.CreateOptions{})
	require.ErrorIs(t, err, fs.ErrExist)
	assert.Equal(t, "first", string(Get(t, s, "object")))
}

func firstCommitWins(t *testing.T, s storage.Store) {
	const writers = 8
	var wg sync.WaitGroup
	start := make(chan struct{})
	errs := make([]error, writers)
	for i := range writers {
		w := create(t, s, "dir/object", storage.CreateOptions{})
		write(t, w, fmt.Sprintf("writer %d", i))
		wg.Go(func() {
			<-start
			errs[i] = w.Commit(t.Context())
		})
	}
	close(start)
	wg.Wait()

	winner := slices.IndexFunc(errs, func(err error) bool { return err == nil })
	require.GreaterOrEqual(t, winner, 0, "one commit succeeds: %v", errs)
	for i, err := range errs {
		if i != winner {
			require.ErrorIs(t, err, fs.ErrExist)
		}
	}
	assert.Equal(t, fmt.Sprintf("writer %d", winner), string(Get(t, s, "dir/object")))
	assert.Equal(t, []string{"dir/object"}, Names(t, s))
	swept, err := s.Sweep(t.Context(), "", 0)
	require.NoError(t, err)
	assert.Empty(t, swept, "a failed Commit leaves nothing to sweep")
}

func overwrite(t *testing.T, s storage.Store) {
	opts := storage.CreateOptions{Overwrite: true}
	Put(t, s, "object", []byte("made by an overwrite"), opts)

	w := create(t, s, "object", opts)
	write(t, w, "new")
	assert.Equal(t, "made by an overwrite", string(Get(t, s, "object")), "replaced only at the commit")
	require.NoError(t, w.Commit(t.Context()))
	assert.Equal(t, "new", string(Get(t, s, "object")))

	w = create(t, s, "object", opts)
	write(t, w, "aborted")
	w.Abort()
	assert.Equal(t, "new", string(Get(t, s, "object")))
}

func readerKeepsItsVersion(t *testing.T, s storage.Store) {
	old := bytes.Repeat([]byte("old "), 1<<18)
	Put(t, s, "object", old, storage.CreateOptions{})
	r, _, err := s.Open(t.Context(), "object")
	require.NoError(t, err)
	defer r.Close()
	var read bytes.Buffer
	_, err = io.CopyN(&read, r, 4)
	require.NoError(t, err)

	Put(t, s, "object", []byte("new"), storage.CreateOptions{Overwrite: true})
	_, err = io.Copy(&read, r)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(old, read.Bytes()), "an open reader sees one version")
	assert.Equal(t, "new", string(Get(t, s, "object")))
}

func missingObjects(t *testing.T, s storage.Store) {
	for _, name := range []string{"missing", "missing/folder/object"} {
		_, _, err := s.Open(t.Context(), name)
		require.ErrorIs(t, err, fs.ErrNotExist)
		assert.ErrorContains(t, err, name)
		_, err = s.Stat(t.Context(), name)
		require.ErrorIs(t, err, fs.ErrNotExist)
		assert.ErrorContains(t, err, name)
		require.NoError(t, s.Remove(t.Context(), name))
		objects, err := s.List(t.Context(), name)
		require.NoError(t, err)
		assert.Empty(t, objects)
		swept, err := s.Sweep(t.Context(), name, 0)
		require.NoError(t, err)
		assert.Empty(t, swept)
	}
	Put(t, s, "dir/object", nil, storage.CreateOptions{})
	require.NoError(t, s.Remove(t.Context(), "dir/object"))
	assert.Empty(t, Names(t, s))
	Put(t, s, "dir/object", []byte("again"), storage.CreateOptions{})
	assert.Equal(t, "again", string(Get(t, s, "dir/object")))
}

func foldersAreNotObjects(t *testing.T, s storage.Store) {
	Put(t, s, "dir/object", []byte("data"), storage.CreateOptions{})
	_, _, err := s.Open(t.Context(), "dir")
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = s.Stat(t.Context(), "dir")
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, s.Remove(t.Context(), "dir"))
	assert.Equal(t, "data", string(Get(t, s, "dir/object")))
}

func list(t *testing.T, s storage.Store) {
	sorted := []string{"a-b/x", "a/b/y", "a/x", "a/z", "a0", "b"} // '-' < '/' < '0'
	for _, name := range []string{"b", "a/x", "a/b/y", "a-b/x", "a0", "a/z"} {
		Put(t, s, name, []byte(name), storage.CreateOptions{})
	}
	for prefix, want := range map[string][]string{
		"":    sorted,
		"a":   {"a/b/y", "a/x", "a/z"}, // a folder, not the beginning of a string
		"a/b": {"a/b/y"},
		"a/x": nil,
		"c":   nil,
	} {
		objects, err := s.List(t.Context(), prefix)
		require.NoError(t, err)
		var names []string
		for _, o := range objects {
			names = append(names, o.Name)
			assert.Equal(t, int64(len(o.Name)), o.Size)
			assert.WithinDuration(t, time.Now(), o.Modified, time.Minute)
		}
		assert.Equal(t, want, names, "prefix %q", prefix)
	}
}

// invalid are names that no method may accept.
func invalid() []string {
	return []string{
		".", "..", "../x", "a/../x", "a/..", "/", "/etc/passwd", "a//b", "a/", "./a", "a/./b",
		"nul\x00", "a\\b", `..\x`, "line\nbreak", "escape\x1b[2J", "\xff\xfe", strings.Repeat("a/", 512) + "b",
	}
}

func invalidNames(t *testing.T, s storage.Store) {
	ctx := t.Context()
	for _, name := range append(invalid(), "") {
		_, err := s.Create(ctx, name, storage.CreateOptions{Overwrite: true})
		require.ErrorIs(t, err, storage.ErrInvalidName, "Create %q", name)
		_, _, err = s.Open(ctx, name)
		require.ErrorIs(t, err, storage.ErrInvalidName, "Open %q", name)
		_, err = s.Stat(ctx, name)
		require.ErrorIs(t, err, storage.ErrInvalidName, "Stat %q", name)
		require.ErrorIs(t, s.Remove(ctx, name), storage.ErrInvalidName, "Remove %q", name)
	}
	for _, prefix := range invalid() {
		_, err := s.List(ctx, prefix)
		require.ErrorIs(t, err, storage.ErrInvalidName, "List %q", prefix)
		_, err = s.Sweep(ctx, prefix, 0)
		require.ErrorIs(t, err, storage.ErrInvalidName, "Sweep %q", prefix)
	}
	assert.Empty(t, Names(t, s))
}

func cancelledContext(t *testing.T, s storage.Store) {
	Put(t, s, "object", bytes.Repeat([]byte("x"), 1<<20), storage.CreateOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	writing, err := s.Create(ctx, "writing", storage.CreateOptions{})
	require.NoError(t, err)
	defer writing.Abort()
	committing := create(t, s, "committing", storage.CreateOptions{})
	write(t, committing, "data")
	reader, _, err := s.Open(ctx, "object")
	require.NoError(t, err)
	defer reader.Close()
	cancel()

	_, err = writing.Write([]byte("data"))
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, writing.Commit(t.Context()), context.Canceled, "a failed Write is not committed")
	require.ErrorIs(t, committing.Commit(ctx), context.Canceled)
	_, err = io.ReadAll(reader)
	require.ErrorIs(t, err, context.Canceled)

	_, err = s.Create(ctx, "new", storage.CreateOptions{})
	require.ErrorIs(t, err, context.Canceled)
	_, _, err = s.Open(ctx, "object")
	require.ErrorIs(t, err, context.Canceled)
	_, err = s.Stat(ctx, "object")
	require.ErrorIs(t, err, context.Canceled)
	_, err = s.List(ctx, "")
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, s.Remove(ctx, "object"), context.Canceled)
	_, err = s.Sweep(ctx, "", 0)
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, []string{"object"}, Names(t, s))
}

func sweep(t *testing.T, s storage.Store) {
	Put(t, s, "dir/kept", []byte("kept"), storage.CreateOptions{})
	// Never ended, as if its process had been killed.
	w := create(t, s, "dir/unfinished", storage.CreateOptions{})
	write(t, w, "half")

	swept, err := s.Sweep(t.Context(), "", storage.SweepAge)
	require.NoError(t, err)
	assert.Empty(t, swept, "too young")
	swept, err = s.Sweep(t.Context(), "other", 0)
	require.NoError(t, err)
	assert.Empty(t, swept, "not below the prefix")

	swept, err = s.Sweep(t.Context(), "dir", 0)
	require.NoError(t, err)
	assert.Equal(t, []string{"dir/unfinished"}, swept)
	require.Error(t, w.Commit(t.Context()), "what was swept cannot be committed")
	assert.Equal(t, []string{"dir/kept"}, Names(t, s))
	assert.Equal(t, "kept", string(Get(t, s, "dir/kept")))
}

func listDuringWrites(t *testing.T, s storage.Store) {
	const size, writers, each = 1 << 16, 4, 10
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for i := range writers {
		wg.Go(func() {
			for j := range each {
				assert.NoError(t, put(s, fmt.Sprintf("dir/%d-%d", i, j), make([]byte, size), storage.CreateOptions{}))
			}
		})
	}
	go func() { wg.Wait(); close(stop) }()
	for running := true; running; {
		select {
		case <-stop:
			running = false
		default:
		}
		objects, err := s.List(t.Context(), "dir")
		require.NoError(t, err)
		for _, o := range objects {
			require.Equal(t, int64(size), o.Size, "%s is listed before it is complete", o.Name)
		}
	}
	assert.Len(t, Names(t, s), writers*each)
}

func spaceAndLocation(t *testing.T, s storage.Store) {
	if free, ok := s.Free(t.Context()); ok {
		assert.Positive(t, free)
	}
	assert.NotEmpty(t, s.Location(""))
	assert.True(t, strings.HasPrefix(s.Location("object"), s.Location("")))
	assert.True(t, strings.HasSuffix(s.Location("object"), "object"))
}

// likeAMap does random things to the store and to a map. The sequences are
// short because every commit waits for the disk.
func likeAMap(t *testing.T, s storage.Store) {
	type step struct{ Do, Name, Data string }
	steps := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) step {
		return step{
			Do:   rapid.SampledFrom([]string{"create", "overwrite", "abort", "remove"}).Draw(rt, "do"),
			Name: rapid.SampledFrom([]string{"a", "b", "dir/a", "dir/sub/a"}).Draw(rt, "name"),
			Data: rapid.StringN(0, 16, 64).Draw(rt, "data"),
		}
	}), 1, 8)
	rapid.Check(t, func(rt *rapid.T) {
		for _, name := range Names(rt, s) {
			require.NoError(rt, s.Remove(t.Context(), name))
		}
		model := map[string]string{}
		for _, step := range steps.Draw(rt, "steps") {
			if step.Do == "remove" {
				require.NoError(rt, s.Remove(t.Context(), step.Name))
				delete(model, step.Name)
				continue
			}
			w, err := s.Create(t.Context(), step.Name, storage.CreateOptions{Overwrite: step.Do != "create"})
			if _, taken := model[step.Name]; taken && step.Do == "create" {
				require.ErrorIs(rt, err, fs.ErrExist)
				continue
			}
			require.NoError(rt, err)
			_, err = io.WriteString(w, step.Data)
			require.NoError(rt, err)
			if step.Do != "abort" {
				require.NoError(rt, w.Commit(t.Context()))
				model[step.Name] = step.Data
			}
			w.Abort()
		}
		require.ElementsMatch(rt, slices.Collect(maps.Keys(model)), Names(rt, s))
		for name, data := range model {
			require.Equal(rt, data, string(Get(rt, s, name)))
		}
	})
}
