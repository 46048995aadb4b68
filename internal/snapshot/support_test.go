package snapshot_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/storage"
	"github.com/redisctl/redisctl/internal/storage/folder"
	"github.com/redisctl/redisctl/internal/storage/storagetest"
)

// dir is where the tests keep their snapshots.
const dir = "redis-prod/redis"

var begun = time.Date(2026, 11, 23, 9, 5, 1, 250e6, time.UTC)

// ticking returns a clock that is a quarter of a second later each time it is read.
func ticking() func() time.Time {
	now := begun
	return func() time.Time {
		defer func() { now = now.Add(250 * time.Millisecond) }()
		return now
	}
}

// rdbFile is an RDB file of version 11 with the given number of string keys in
// database 0, the same in database 5, and one expired key.
func rdbFile(keys int) []byte {
	b := []byte("REDIS0011")
	b = append(b, 0xfa)
	b = text(b, "redis-ver")
	b = text(b, "7.0.15")
	for _, db := range []byte{0, 5} {
		b = append(b, 0xfe, db)
		for i := range keys {
			b = append(b, 0)
			b = text(b, fmt.Sprintf("key:%d", i))
			b = text(b, fmt.Sprintf("value of key %d", i))
		}
	}
	b = append(b, 0xfc)
	b = binary.LittleEndian.AppendUint64(b, uint64(begun.Add(-time.Hour).UnixMilli()))
	b = append(b, 0)
	b = text(b, "expired")
	b = text(b, "v")
	return sealRDB(b)
}

// sealRDB appends the end marker and the checksum.
func sealRDB(b []byte) []byte {
	b = append(b, 0xff)
	crc := rdb.NewCRC64()
	crc.Write(b) // never fails
	return binary.LittleEndian.AppendUint64(b, crc.Sum64())
}

func text(b []byte, s string) []byte {
	return append(append(b, byte(len(s))), s...)
}

// withoutCRC is the file as a server with `rdbchecksum no` writes it.
func withoutCRC(file []byte) []byte {
	return append(append([]byte{}, file[:len(file)-8]...), make([]byte, 8)...)
}

func source() snapshot.Source {
	return snapshot.Source{
		Namespace: "redis-prod", Release: "redis", Instance: "redis-1", Address: "10.244.0.7:6379",
		Role: "replica", Product: "redis", Version: "7.0.15",
		RunID:         "f2d9a3c1f2d9a3c1f2d9a3c1f2d9a3c1f2d9a3c1",
		ReplicationID: "8371b4fb1155b71f4a04d3e1bc3e18c4a990aeeb", ReplicationOffset: 123456,
		Method: "stream", Transfer: "eof",
	}
}

func options() snapshot.CreateOptions {
	return snapshot.CreateOptions{Version: "0.1.0", Source: source(), Now: ticking()}
}

func newStore(t testing.TB) *folder.Store {
	t.Helper()
	return folder.New(filepath.Join(t.TempDir(), "backups"))
}

func create(t testing.TB, store storage.Store, file []byte) *snapshot.Manifest {
	t.Helper()
	m, err := snapshot.Create(t.Context(), store, dir, strings.NewReader(string(file)), options())
	require.NoError(t, err)
	return m
}

func find(t testing.TB, store storage.Store, ref string) snapshot.Entry {
	t.Helper()
	e, err := snapshot.Find(t.Context(), store, snapshot.Filter{}, ref)
	require.NoError(t, err)
	return e
}

func overwrite(t testing.TB, store storage.Store, name string, data []byte) {
	t.Helper()
	storagetest.Put(t, store, name, data, storage.CreateOptions{Overwrite: true})
}

// faulty is a store in which things go wrong.
type faulty struct {
	storage.Store
	create func(name string) error
	write  func(name string, written int) error
	commit func(name string) error
	open   func(name string) error
	read   func(name string) error
	list   error
}

func (f *faulty) Create(ctx context.Context, name string, opts storage.CreateOptions) (storage.Writer, error) {
	if f.create != nil {
		if err := f.create(name); err != nil {
			return nil, err
		}
	}
	w, err := f.Store.Create(ctx, name, opts)
	if err != nil {
		return nil, err
	}
	return &faultyWriter{Writer: w, store: f, name: name}, nil
}

func (f *faulty) Open(ctx context.Context, name string) (io.ReadCloser, storage.Info, error) {
	if f.open != nil {
		if err := f.open(name); err != nil {
			return nil, storage.Info{}, err
		}
	}
	r, info, err := f.Store.Open(ctx, name)
	if err == nil && f.read != nil {
		if readErr := f.read(name); readErr != nil {
			r = struct {
				io.Reader
				io.Closer
			}{io.MultiReader(io.LimitReader(r, 20), failing{readErr}), r}
		}
	}
	return r, info, err
}

func (f *faulty) List(ctx context.Context, prefix string) ([]storage.Info, error) {
	objects, err := f.Store.List(ctx, prefix)
	if f.list != nil {
		err = f.list
	}
	return objects, err
}

type faultyWriter struct {
	storage.Writer
	store   *faulty
	name    string
	written int
}

func (w *faultyWriter) Write(p []byte) (int, error) {
	if w.store.write != nil {
		if err := w.store.write(w.name, w.written+len(p)); err != nil {
			return 0, err
		}
	}
	n, err := w.Writer.Write(p)
	w.written += n
	return n, err
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

// failing is a reader that fails.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
