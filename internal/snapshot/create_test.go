package snapshot_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/storage"
	"github.com/redisctl/redisctl/internal/storage/storagetest"
)

func TestCreate(t *testing.T) {
	store := newStore(t)
	file := rdbFile(1000)
	var progress []int64
	opts := options()
	opts.Progress = func(bytes int64) { progress = append(progress, bytes) }
	opts.Complete = func(m *snapshot.Manifest) error {
		assert.Equal(t, int64(len(file)), m.RDB().Size)
		assert.Len(t, m.RDB().SHA256, 64)
		assert.Empty(t, storagetest.Names(t, store), "nothing is published yet")
		m.Source.Transfer = "length"
		return nil
	}
	m, err := snapshot.Create(t.Context(), store, dir, iotest.OneByteReader(bytes.NewReader(file)), opts)
	require.NoError(t, err)

	assert.Equal(t, []string{dir + "/" + m.ID + ".manifest.json", dir + "/" + m.ID + ".rdb"}, storagetest.Names(t, store))
	assert.Equal(t, file, storagetest.Get(t, store, dir+"/"+m.ID+".rdb"), "the file is stored as it came")
	stored, err := snapshot.Decode(bytes.NewReader(storagetest.Get(t, store, dir+"/"+m.ID+".manifest.json")))
	require.NoError(t, err)
	assert.Equal(t, m, stored, "what is returned is what is stored")

	assert.Equal(t, "length", m.Source.Transfer, "Complete may amend the source")
	assert.Equal(t, int64(2001), m.RDB().RDB.Keys)
	assert.Equal(t, int64(1), m.RDB().RDB.Expired, "expired when the backup began")
	assert.Equal(t, snapshot.VerifiedInTransit, m.Verification.Result)
	assert.Len(t, progress, len(file))
	assert.IsIncreasing(t, progress)
}

// A stream that is cut is never stored, neither when the cut looks like a
// proper end nor when it does not.
func TestCreateFromACutStream(t *testing.T) {
	store := newStore(t)
	file := rdbFile(3)
	for n := range file {
		_, err := snapshot.Create(t.Context(), store, dir, bytes.NewReader(file[:n]), options())
		require.ErrorIs(t, err, snapshot.ErrCorrupt, "%d bytes, then EOF", n)
	}
	for n := range len(file) + 1 {
		cut := io.MultiReader(bytes.NewReader(file[:n]), failing{io.ErrUnexpectedEOF})
		_, err := snapshot.Create(t.Context(), store, dir, cut, options())
		require.ErrorIs(t, err, io.ErrUnexpectedEOF, "%d bytes, then an error", n)
		require.NotErrorIs(t, err, snapshot.ErrCorrupt)
	}
	nothingLeft(t, store)
}

func nothingLeft(t *testing.T, store storage.Store) {
	t.Helper()
	assert.Empty(t, storagetest.Names(t, store))
	swept, err := store.Sweep(t.Context(), "", 0)
	require.NoError(t, err)
	assert.Empty(t, swept, "no temporary file is left")
}

func TestCreateFromDamagedData(t *testing.T) {
	store := newStore(t)
	file := rdbFile(1)
	for i := range file {
		for bit := range 8 {
			flipped := bytes.Clone(file)
			flipped[i] ^= 1 << bit
			_, err := snapshot.Create(t.Context(), store, dir, bytes.NewReader(flipped), options())
			if !errors.Is(err, snapshot.ErrCorrupt) && !errors.Is(err, snapshot.ErrUnsupported) {
				t.Fatalf("bit %d of byte %d: %v", bit, i, err)
			}
		}
	}
	_, err := snapshot.Create(t.Context(), store, dir, bytes.NewReader(append(file, '\n')), options())
	require.ErrorIs(t, err, snapshot.ErrCorrupt)
	require.ErrorIs(t, err, rdb.ErrTrailing)
	nothingLeft(t, store)
}

func TestCreateWithoutChecksum(t *testing.T) {
	store := newStore(t)
	m := create(t, store, withoutCRC(rdbFile(3)))
	assert.Equal(t, rdb.ChecksumDisabled, m.RDB().RDB.Checksum)
	assert.Len(t, m.RDB().SHA256, 64)
}

func TestCreateFails(t *testing.T) {
	file := rdbFile(1000)
	broken := errors.New("broken")
	data := func(name string) error {
		if strings.HasSuffix(name, ".rdb") {
			return broken
		}
		return nil
	}
	manifest := func(name string) error {
		if strings.HasSuffix(name, ".manifest.json") {
			return broken
		}
		return nil
	}
	for name, fault := range map[string]func(*faulty, *snapshot.CreateOptions){
		"data cannot be created":       func(s *faulty, _ *snapshot.CreateOptions) { s.create = data },
		"data cannot be committed":     func(s *faulty, _ *snapshot.CreateOptions) { s.commit = data },
		"manifest cannot be created":   func(s *faulty, _ *snapshot.CreateOptions) { s.create = manifest },
		"manifest cannot be committed": func(s *faulty, _ *snapshot.CreateOptions) { s.commit = manifest },
		"manifest cannot be written": func(s *faulty, _ *snapshot.CreateOptions) {
			s.write = func(name string, _ int) error { return manifest(name) }
		},
		"disk is full": func(s *faulty, _ *snapshot.CreateOptions) {
			s.write = func(_ string, written int) error {
				if written > len(file)/2 {
					return fmt.Errorf("%w: %w", storage.ErrNoSpace, broken)
				}
				return nil
			}
		},
		"source does not agree": func(_ *faulty, o *snapshot.CreateOptions) {
			o.Complete = func(*snapshot.Manifest) error { return broken }
		},
	} {
		t.Run(name, func(t *testing.T) {
			inner := newStore(t)
			store := &faulty{Store: inner}
			opts := options()
			fault(store, &opts)
			r := iotest.HalfReader(bytes.NewReader(file))
			m, err := snapshot.Create(t.Context(), store, dir, r, opts)
			require.ErrorIs(t, err, broken)
			require.NotErrorIs(t, err, snapshot.ErrCorrupt)
			assert.Nil(t, m)
			nothingLeft(t, inner)
		})
	}
}

func TestCreateOnAFullDisk(t *testing.T) {
	store := &faulty{Store: newStore(t), write: func(string, int) error { return storage.ErrNoSpace }}
	_, err := snapshot.Create(t.Context(), store, dir, bytes.NewReader(rdbFile(1)), options())
	require.ErrorIs(t, err, storage.ErrNoSpace)
}

// The context ends at the worst moment: the data is public, the manifest is not.
func TestCreateIsInterrupted(t *testing.T) {
	for _, suffix := range []string{".rdb", ".manifest.json"} {
		inner := newStore(t)
		ctx, cancel := context.WithCancel(t.Context())
		store := &faulty{Store: inner, commit: func(name string) error {
			if strings.HasSuffix(name, suffix) {
				cancel()
			}
			return nil
		}}
		_, err := snapshot.Create(ctx, store, dir, bytes.NewReader(rdbFile(1)), options())
		require.ErrorIs(t, err, context.Canceled)
		nothingLeft(t, inner)
	}

	store := newStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	opts := options()
	opts.Progress = func(int64) { cancel() }
	_, err := snapshot.Create(ctx, store, dir, iotest.OneByteReader(bytes.NewReader(rdbFile(1))), opts)
	require.ErrorIs(t, err, context.Canceled)
	nothingLeft(t, store)
}

func TestCreateRefusesWhatCannotBeStated(t *testing.T) {
	store := newStore(t)
	for _, change := range []func(*snapshot.CreateOptions){
		func(o *snapshot.CreateOptions) { o.Source.Instance = "\x1b[2J" },
		func(o *snapshot.CreateOptions) { o.Version = "1\n2" },
		func(o *snapshot.CreateOptions) {
			o.Complete = func(m *snapshot.Manifest) error { m.Source.RunID = "\x00"; return nil }
		},
	} {
		opts := options()
		change(&opts)
		_, err := snapshot.Create(t.Context(), store, dir, bytes.NewReader(rdbFile(1)), opts)
		require.ErrorContains(t, err, "cannot be printed")
		require.NotErrorIs(t, err, snapshot.ErrCorrupt)
	}
	_, err := snapshot.Create(t.Context(), store, "../elsewhere", bytes.NewReader(rdbFile(1)), options())
	require.ErrorIs(t, err, storage.ErrInvalidName)
	nothingLeft(t, store)
}

// Informational fields come from the server and may hold any bytes.
func TestCreateWithStrangeAuxFields(t *testing.T) {
	file := rdbFile(0)
	strange := bytes.Replace(withoutCRC(file), []byte("7.0.15"), []byte("\xff\x1b[2J\""), 1)
	store := newStore(t)
	m := create(t, store, strange)
	assert.Equal(t, "?\x1b[2J\"", m.RDB().RDB.Aux["redis-ver"])
	report, err := snapshot.Verify(t.Context(), store, find(t, store, m.ID), snapshot.VerifyOptions{})
	require.NoError(t, err)
	assert.True(t, report.Verified)
}

// Backups of one deployment in one second, at the same time, are all kept.
func TestCreateInTheSameSecond(t *testing.T) {
	const backups = 20
	store := newStore(t)
	var wg sync.WaitGroup
	ids := make([]string, backups)
	for i := range backups {
		wg.Go(func() {
			opts := options()
			opts.Now = func() time.Time { return begun }
			m, err := snapshot.Create(t.Context(), store, dir, bytes.NewReader(rdbFile(i)), opts)
			if assert.NoError(t, err) {
				ids[i] = m.ID
			}
		})
	}
	wg.Wait()
	entries, err := snapshot.List(t.Context(), store, snapshot.Filter{})
	require.NoError(t, err)
	listed := make([]string, 0, backups)
	for _, e := range entries {
		require.NoError(t, e.Problem)
		listed = append(listed, e.ID)
		_, err := snapshot.Verify(t.Context(), store, e, snapshot.VerifyOptions{})
		require.NoError(t, err)
	}
	assert.ElementsMatch(t, ids, listed)
}

func TestCreateChoosesAnotherNameWhenOneIsTaken(t *testing.T) {
	taken := 0
	store := &faulty{Store: newStore(t)}
	store.create = func(name string) error {
		if strings.HasSuffix(name, ".rdb") && taken < 2 {
			taken++
			storagetest.Put(t, store.Store, name, []byte("somebody else's"), storage.CreateOptions{})
		}
		return nil
	}
	m := create(t, store, rdbFile(1))
	assert.Equal(t, 2, taken)
	assert.Equal(t, rdbFile(1), storagetest.Get(t, store, dir+"/"+m.ID+".rdb"))
}

func BenchmarkCreate(b *testing.B) {
	file := bigFile()
	store := newStore(b)
	b.SetBytes(int64(len(file)))
	for b.Loop() {
		m, err := snapshot.Create(b.Context(), store, dir, bytes.NewReader(file), snapshot.CreateOptions{})
		require.NoError(b, err)
		b.StopTimer()
		require.NoError(b, store.Remove(b.Context(), dir+"/"+m.ID+".rdb"))
		b.StartTimer()
	}
}
