package tee_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/storage"
	"github.com/redisctl/redisctl/internal/storage/folder"
	"github.com/redisctl/redisctl/internal/storage/storagetest"
	"github.com/redisctl/redisctl/internal/storage/tee"
)

var errBroken = errors.New("the disk is broken")

// faulty is a folder that fails where a test wants it to.
type faulty struct {
	storage.Store
	create, commit func(name string) error
	write          func(ctx context.Context, name string) error
}

func (f *faulty) Create(ctx context.Context, name string, o storage.CreateOptions) (storage.Writer, error) {
	if f.create != nil {
		if err := f.create(name); err != nil {
			return nil, err
		}
	}
	w, err := f.Store.Create(ctx, name, o)
	return &faultyWriter{w, f, ctx, name}, err
}

type faultyWriter struct {
	storage.Writer
	store *faulty
	ctx   context.Context
	name  string
}

func (w *faultyWriter) Write(p []byte) (int, error) {
	if w.store.write != nil {
		if err := w.store.write(w.ctx, w.name); err != nil {
			return 0, err
		}
	}
	return w.Writer.Write(p)
}

func (w *faultyWriter) Commit(ctx context.Context) error {
	if w.store.commit != nil {
		if err := w.store.commit(w.name); err != nil {
			w.Abort()
			return err
		}
	}
	return w.Writer.Commit(ctx)
}

// always fails for one object.
func failing(object string) func(string) error {
	return func(name string) error {
		if name == object {
			return errBroken
		}
		return nil
	}
}

func put(s storage.Store, name, data string) error {
	w, err := s.Create(context.Background(), name, storage.CreateOptions{})
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := io.WriteString(w, data); err != nil {
		return err
	}
	return w.Commit(context.Background())
}

func problems(s *tee.Store) []error {
	var all []error
	for _, o := range s.Outcomes() {
		all = append(all, o.Err)
	}
	return all
}

// One place is as good as the store itself.
func TestConformance(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Store {
		return tee.New(time.Minute, folder.New(t.TempDir()))
	})
}

func TestAllGetTheSame(t *testing.T) {
	a, b := folder.New(t.TempDir()), folder.New(t.TempDir())
	s := tee.New(time.Minute, a, b)
	require.NoError(t, put(s, "dir/data", "data"))
	require.NoError(t, put(s, "dir/manifest", "manifest"))
	for _, store := range []storage.Store{a, b} {
		assert.Equal(t, []string{"dir/data", "dir/manifest"}, storagetest.Names(t, store))
		assert.Equal(t, "data", string(storagetest.Get(t, store, "dir/data")))
	}
	assert.Equal(t, []error{nil, nil}, problems(s))
	assert.Equal(t, a.Location("dir")+", "+b.Location("dir"), s.Location("dir"))
	require.NoError(t, s.Remove(t.Context(), "dir/data"))
	assert.Equal(t, []string{"dir/manifest"}, storagetest.Names(t, b))
}

// Whenever one place fails, the others get everything and this one keeps nothing.
func TestOneFails(t *testing.T) {
	for name, fault := range map[string]func(*faulty){
		"creating the data":       func(f *faulty) { f.create = failing("dir/data") },
		"writing":                 func(f *faulty) { f.write = func(context.Context, string) error { return errBroken } },
		"publishing the data":     func(f *faulty) { f.commit = failing("dir/data") },
		"creating the manifest":   func(f *faulty) { f.create = failing("dir/manifest") },
		"publishing the manifest": func(f *faulty) { f.commit = failing("dir/manifest") },
	} {
		t.Run(name, func(t *testing.T) {
			first, last := folder.New(t.TempDir()), folder.New(t.TempDir())
			broken := &faulty{Store: folder.New(t.TempDir())}
			fault(broken)
			s := tee.New(time.Minute, first, broken, last)
			require.NoError(t, put(s, "dir/data", "data"))
			require.NoError(t, put(s, "dir/manifest", "manifest"))
			for _, store := range []storage.Store{first, last} {
				assert.Equal(t, []string{"dir/data", "dir/manifest"}, storagetest.Names(t, store))
			}
			assert.Empty(t, storagetest.Names(t, broken))
			swept, err := broken.Sweep(t.Context(), "", 0)
			require.NoError(t, err)
			assert.Empty(t, swept)
			all := problems(s)
			require.ErrorIs(t, all[1], errBroken)
			assert.Equal(t, []error{nil, all[1], nil}, all)
		})
	}
}

func TestAllFail(t *testing.T) {
	stores := []storage.Store{
		&faulty{Store: folder.New(t.TempDir()), create: failing("dir/data")},
		&faulty{Store: folder.New(t.TempDir()), commit: failing("dir/manifest")},
	}
	s := tee.New(time.Minute, stores...)
	require.NoError(t, put(s, "dir/data", "data"))
	require.ErrorIs(t, put(s, "dir/manifest", "manifest"), errBroken)
	require.NoError(t, s.Remove(t.Context(), "dir/data"), "the caller cleans up after a failure")
	for _, store := range stores {
		assert.Empty(t, storagetest.Names(t, store))
	}
	require.ErrorIs(t, problems(s)[0], errBroken)
}

// A name that one place has is taken everywhere: the caller chooses another.
func TestTaken(t *testing.T) {
	a, b := folder.New(t.TempDir()), folder.New(t.TempDir())
	storagetest.Put(t, b, "object", []byte("old"), storage.CreateOptions{})
	s := tee.New(time.Minute, a, b)
	require.ErrorIs(t, put(s, "object", "new"), fs.ErrExist)
	require.NoError(t, put(s, "other", "new"))
	assert.Equal(t, []string{"other"}, storagetest.Names(t, a))
	assert.Equal(t, []string{"object", "other"}, storagetest.Names(t, b))
	assert.Equal(t, []error{nil, nil}, problems(s))
}

// A place that takes nothing must not make the server give up the transfer.
func TestOneHangs(t *testing.T) {
	good := folder.New(t.TempDir())
	hangs := &faulty{Store: folder.New(t.TempDir()), write: func(ctx context.Context, _ string) error {
		<-ctx.Done()
		return ctx.Err()
	}}
	s := tee.New(10*time.Millisecond, hangs, good)
	require.NoError(t, put(s, "object", "data"))
	assert.Equal(t, "data", string(storagetest.Get(t, good, "object")))
	require.ErrorIs(t, problems(s)[0], tee.ErrSlow)
	assert.Empty(t, storagetest.Names(t, hangs))
}

// Several objects may be open at once, as for a set of files.
func TestFailureEndsTheOtherObjects(t *testing.T) {
	good, broken := folder.New(t.TempDir()), &faulty{Store: folder.New(t.TempDir()), commit: failing("b")}
	s := tee.New(time.Minute, broken, good)
	var open []storage.Writer
	for _, name := range []string{"a", "b", "c"} {
		w, err := s.Create(t.Context(), name, storage.CreateOptions{})
		require.NoError(t, err)
		t.Cleanup(w.Abort)
		open = append(open, w)
	}
	for _, w := range open {
		require.NoError(t, w.Commit(t.Context()))
	}
	assert.Equal(t, []string{"a", "b", "c"}, storagetest.Names(t, good))
	assert.Empty(t, storagetest.Names(t, broken))
}
