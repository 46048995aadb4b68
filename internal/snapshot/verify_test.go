package snapshot_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/storage"
	"github.com/redisctl/redisctl/internal/storage/storagetest"
)

func verify(t *testing.T, store storage.Store, e snapshot.Entry) (snapshot.Report, error) {
	t.Helper()
	report, err := snapshot.Verify(t.Context(), store, e, snapshot.VerifyOptions{Now: ticking()})
	assert.Equal(t, err == nil, report.Verified)
	return report, err
}

// results maps the checks of a report to what came out.
func results(report snapshot.Report) map[snapshot.CheckName]snapshot.Result {
	results := map[snapshot.CheckName]snapshot.Result{}
	for _, check := range report.Checks {
		results[check.Name] = check.Result
	}
	return results
}

const (
	ok      = snapshot.OK
	failed  = snapshot.Failed
	skipped = snapshot.Skipped
)

// outcome is results in the order of a report.
func outcome(manifest, size, sha256, structure, crc64, keys snapshot.Result) map[snapshot.CheckName]snapshot.Result {
	return map[snapshot.CheckName]snapshot.Result{
		snapshot.CheckManifest: manifest, snapshot.CheckSize: size, snapshot.CheckSHA256: sha256,
		snapshot.CheckStructure: structure, snapshot.CheckCRC64: crc64, snapshot.CheckKeys: keys,
	}
}

func TestVerify(t *testing.T) {
	store := newStore(t)
	m := create(t, store, rdbFile(3))
	var progress [][2]int64
	report, err := snapshot.Verify(t.Context(), store, find(t, store, m.ID), snapshot.VerifyOptions{
		Now:      ticking(),
		Progress: func(bytes, total int64) { progress = append(progress, [2]int64{bytes, total}) },
	})
	require.NoError(t, err)
	assert.Equal(t, [2]int64{192, 192}, progress[len(progress)-1])

	report.RDB = nil
	text, err := json.MarshalIndent(report, "", "  ")
	require.NoError(t, err)
	want := strings.NewReplacer("ID", m.ID, "LOCATION", store.Location(dir+"/"+m.ID+".rdb")).Replace(`{
  "id": "ID",
  "location": "LOCATION",
  "verified": true,
  "checks": [
    {
      "name": "manifest",
      "result": "ok",
      "detail": "2026-11-23T09:05:01Z by redisctl 0.1.0"
    },
    {
      "name": "size",
      "result": "ok",
      "detail": "192 bytes"
    },
    {
      "name": "sha256",
      "result": "ok",
      "detail": "81d2b9bbb66991df936db7e6aef899e01405e170ffb57cb9ec8b5e4042d2bd6d"
    },
    {
      "name": "structure",
      "result": "ok",
      "detail": "RDB version 11"
    },
    {
      "name": "crc64",
      "result": "ok",
      "detail": "8ed5b0a5ab527e64"
    },
    {
      "name": "keys",
      "result": "ok",
      "detail": "7 keys"
    }
  ],
  "sizeBytes": 192,
  "sha256": "81d2b9bbb66991df936db7e6aef899e01405e170ffb57cb9ec8b5e4042d2bd6d",
  "durationSeconds": DURATION,
  "bytesPerSecond": RATE
}`)
	want = strings.NewReplacer("DURATION", "0.75", "RATE", "256").Replace(want)
	assert.Equal(t, want, string(text))
}

// Keys are counted as expired or not by the time of the backup, not by today's.
func TestVerifyCountsLikeCreate(t *testing.T) {
	store := newStore(t)
	e := find(t, store, create(t, store, rdbFile(1)).ID)
	for _, now := range []time.Time{begun.AddDate(-1, 0, 0), begun.AddDate(1, 0, 0)} {
		report, err := snapshot.Verify(t.Context(), store, e, snapshot.VerifyOptions{Now: func() time.Time { return now }})
		require.NoError(t, err)
		assert.Equal(t, int64(1), report.RDB.Expired)
	}
}

// No single wrong bit in the data goes unnoticed, with a checksum in the file
// and without one.
func TestVerifyBitFlips(t *testing.T) {
	for name, file := range map[string][]byte{"with CRC": rdbFile(2), "without CRC": withoutCRC(rdbFile(2))} {
		t.Run(name, func(t *testing.T) {
			store := newStore(t)
			m := create(t, store, file)
			e := find(t, store, m.ID)
			path := store.Location(e.DataName)
			for i := range file {
				for bit := range 8 {
					flipped := bytes.Clone(file)
					flipped[i] ^= 1 << bit
					require.NoError(t, os.WriteFile(path, flipped, 0o600))
					report, err := verify(t, store, e)
					require.ErrorIs(t, err, snapshot.ErrCorrupt, "bit %d of byte %d", bit, i)
					require.Equal(t, failed, results(report)[snapshot.CheckSHA256])
				}
			}
			require.NoError(t, os.WriteFile(path, file, 0o600))
			_, err := verify(t, store, e)
			require.NoError(t, err, "the bit flips were the only fault")
		})
	}
}

func TestVerifyManifestBitFlips(t *testing.T) {
	store := newStore(t)
	m := create(t, store, rdbFile(2))
	e := find(t, store, m.ID)
	path := store.Location(e.ManifestName)
	manifest := storagetest.Get(t, store, e.ManifestName)
	for i := range manifest {
		flipped := bytes.Clone(manifest)
		flipped[i] ^= 1 << (i % 8)
		require.NoError(t, os.WriteFile(path, flipped, 0o600))
		_, err := verify(t, store, e)
		if !errors.Is(err, snapshot.ErrCorrupt) && !errors.Is(err, snapshot.ErrUnsupported) {
			t.Fatalf("byte %d (%q): %v", i, manifest[max(0, i-10):i+1], err)
		}
	}
}

func TestVerifyDamage(t *testing.T) {
	file := rdbFile(3)
	other := rdbFile(4)
	for name, test := range map[string]struct {
		file []byte
		want map[snapshot.CheckName]snapshot.Result
		says string
	}{
		"truncated":          {file[:100], outcome(ok, failed, failed, failed, skipped, skipped), "size: 100 bytes, the manifest says 192 bytes"},
		"empty":              {nil, outcome(ok, failed, failed, failed, skipped, skipped), "truncated"},
		"last byte is gone":  {file[:191], outcome(ok, failed, failed, failed, skipped, skipped), "truncated"},
		"longer":             {append(bytes.Clone(file), 0), outcome(ok, failed, failed, failed, ok, ok), "data after the end"},
		"another snapshot's": {other, outcome(ok, failed, failed, ok, ok, failed), "keys in db0: 4, the manifest says 3"},
		"CRC removed":        {withoutCRC(file), outcome(ok, ok, failed, ok, skipped, failed), "disabled, the manifest says"},
		"value changed":      {bytes.Replace(file, []byte("value of key 1"), []byte("value of key X"), 1), outcome(ok, ok, failed, ok, failed, failed), "crc64: "},
		"not an RDB file":    {bytes.Repeat([]byte("x"), 192), outcome(ok, ok, failed, failed, skipped, skipped), "not an RDB file"},
		"newer RDB version":  {bytes.Replace(file, []byte("REDIS0011"), []byte("REDIS0099"), 1), outcome(ok, ok, failed, skipped, skipped, skipped), "sha256: "},
	} {
		t.Run(name, func(t *testing.T) {
			store := newStore(t)
			e := find(t, store, create(t, store, file).ID)
			overwrite(t, store, e.DataName, test.file)
			report, err := verify(t, store, e)
			require.ErrorIs(t, err, snapshot.ErrCorrupt)
			require.NotErrorIs(t, err, snapshot.ErrUnsupported)
			require.ErrorContains(t, err, test.says)
			require.ErrorContains(t, err, store.Location(e.DataName))
			require.NotContains(t, err.Error(), "\n")
			assert.Equal(t, test.want, results(report))
			assert.Equal(t, int64(len(test.file)), report.Size, "the file is read to its end")
		})
	}
}

func TestVerifyMissingFile(t *testing.T) {
	store := newStore(t)
	e := find(t, store, create(t, store, rdbFile(1)).ID)
	require.NoError(t, store.Remove(t.Context(), e.DataName))
	_, err := verify(t, store, e)
	require.ErrorIs(t, err, snapshot.ErrCorrupt)
	require.ErrorContains(t, err, "the file is missing")

	require.NoError(t, store.Remove(t.Context(), e.ManifestName))
	_, err = verify(t, store, e)
	require.ErrorIs(t, err, fs.ErrNotExist, "nothing is there at all")
	require.NotErrorIs(t, err, snapshot.ErrCorrupt)
}

func TestVerifySwappedManifests(t *testing.T) {
	store := newStore(t)
	a := find(t, store, create(t, store, rdbFile(1)).ID)
	b := find(t, store, create(t, store, rdbFile(2)).ID)
	manifestA, manifestB := storagetest.Get(t, store, a.ManifestName), storagetest.Get(t, store, b.ManifestName)
	overwrite(t, store, a.ManifestName, manifestB)
	overwrite(t, store, b.ManifestName, manifestA)
	for _, e := range []snapshot.Entry{a, b} {
		report, err := verify(t, store, e)
		require.ErrorIs(t, err, snapshot.ErrCorrupt)
		require.ErrorContains(t, err, "is the manifest of")
		assert.Equal(t, outcome(failed, skipped, skipped, ok, ok, skipped), results(report), "the data itself is sound")
	}

	// The data, but not the manifests, under each other's name.
	overwrite(t, store, a.ManifestName, manifestA)
	overwrite(t, store, a.DataName, rdbFile(2))
	report, err := verify(t, store, a)
	require.ErrorIs(t, err, snapshot.ErrCorrupt)
	assert.Equal(t, outcome(ok, failed, failed, ok, ok, failed), results(report))
}

// A manifest that is consistent in itself but states something else than the file.
func TestVerifyManifestThatLies(t *testing.T) {
	for name, change := range map[string]struct{ before, after, says string }{
		"type":    {`"string": 3`, `"stream": 3`, "keys of type stream in db0: 0, the manifest says 3"},
		"expiry":  {`"expires": 1,` + "\n" + `            "expired": 1`, `"expires": 1,` + "\n" + `            "emptyKeys": 0, "expired": 1`, ""},
		"version": {`"rdbVersion": 11`, `"rdbVersion": 10`, "format: redis 11, the manifest says redis 10"},
		"CRC":     {`"storedCrc64": "8e`, `"storedCrc64": "8f`, "CRC64: 8ed5"},
	} {
		t.Run(name, func(t *testing.T) {
			store := newStore(t)
			e := find(t, store, create(t, store, rdbFile(3)).ID)
			overwrite(t, store, e.ManifestName, edit(t, storagetest.Get(t, store, e.ManifestName), change.before, change.after))
			report, err := verify(t, store, e)
			if change.says == "" {
				require.NoError(t, err, "only the notation differs")
				return
			}
			require.ErrorIs(t, err, snapshot.ErrCorrupt)
			require.ErrorContains(t, err, change.says)
			assert.Equal(t, outcome(ok, ok, ok, ok, ok, failed), results(report))
		})
	}
}

func TestVerifyBareFile(t *testing.T) {
	store := newStore(t)
	bare := func(file []byte) snapshot.Entry {
		overwrite(t, store, "dump.rdb", file)
		_, e, err := snapshot.FindFile(t.Context(), store.Location("dump.rdb"))
		require.NoError(t, err)
		return e
	}
	file := rdbFile(3)
	report, err := verify(t, store, bare(file))
	require.NoError(t, err)
	assert.Equal(t, outcome(skipped, skipped, skipped, ok, ok, skipped), results(report))
	assert.Equal(t, int64(7), report.RDB.Keys)
	assert.Len(t, report.SHA256, 64, "so that it can be noted")

	for i := range file {
		flipped := bytes.Clone(file)
		flipped[i] ^= 1 << (i % 8)
		_, err := verify(t, store, bare(flipped))
		require.Error(t, err, "byte %d", i)
	}

	report, err = verify(t, store, bare(withoutCRC(file)))
	require.NoError(t, err)
	assert.Equal(t, outcome(skipped, skipped, skipped, ok, skipped, skipped), results(report))
	assert.Contains(t, report.Checks[4].Detail, "rdbchecksum no")

	// Such a file is looked at more closely: here a compressed set of integers
	// (LZF, one run of 12 literal bytes) is not in order.
	set := []byte("REDIS0011\xfe\x00\x0b\x03set\xc3\x0d\x0c\x0b" + "\x02\x00\x00\x00\x02\x00\x00\x00" + "\x05\x00\x03\x00")
	_, err = verify(t, store, bare(sealRDB(set)))
	require.NoError(t, err, "the checksum speaks for it")
	report, err = verify(t, store, bare(withoutCRC(sealRDB(set))))
	require.ErrorIs(t, err, snapshot.ErrCorrupt)
	assert.Equal(t, failed, results(report)[snapshot.CheckStructure])

	_, err = verify(t, store, bare(bytes.Replace(file, []byte("REDIS0011"), []byte("REDIS0099"), 1)))
	require.ErrorIs(t, err, snapshot.ErrUnsupported)
	require.ErrorIs(t, err, rdb.ErrUnsupported)
	require.NotErrorIs(t, err, snapshot.ErrCorrupt)
}

func TestVerifyWhatIsTooNew(t *testing.T) {
	store := newStore(t)
	e := find(t, store, create(t, store, rdbFile(1)).ID)
	overwrite(t, store, e.ManifestName, []byte(`{"apiVersion":"redisctl/v2"}`))
	_, err := verify(t, store, e)
	require.ErrorIs(t, err, snapshot.ErrUnsupported)
	require.ErrorContains(t, err, "redisctl/v2")

	// A kind that only a later minor version has.
	manifest := strings.NewReplacer("rdb-2026", "later-2026", `"kind": "rdb"`, `"kind": "later"`).Replace(string(golden(t)))
	const id = "later-20261123T090501Z-k7mq"
	storagetest.Put(t, store, dir+"/"+id+".manifest.json", seal([]byte(manifest)), storage.CreateOptions{})
	_, err = verify(t, store, find(t, store, id))
	require.ErrorIs(t, err, snapshot.ErrUnsupported)
	require.ErrorContains(t, err, "later")
}

// Trouble with the storage says nothing about the data.
func TestVerifyWithoutAccess(t *testing.T) {
	inner := newStore(t)
	e := find(t, inner, create(t, inner, rdbFile(3)).ID)
	broken := errors.New("the network is gone")
	for name, store := range map[string]*faulty{
		"manifest": {Store: inner, open: func(name string) error {
			if name == e.ManifestName {
				return broken
			}
			return nil
		}},
		"data": {Store: inner, open: func(name string) error {
			if name == e.DataName {
				return broken
			}
			return nil
		}},
		"within the manifest": {Store: inner, read: func(name string) error {
			if name == e.ManifestName {
				return broken
			}
			return nil
		}},
		"within the data": {Store: inner, read: func(name string) error {
			if name == e.DataName {
				return broken
			}
			return nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			report, err := verify(t, store, e)
			require.ErrorIs(t, err, broken)
			require.NotErrorIs(t, err, snapshot.ErrCorrupt)
			assert.False(t, report.Verified)
		})
	}

	// The data is damaged, and then cannot be read on.
	overwrite(t, inner, e.DataName, []byte("NOT AN RDB FILE, AND LONG ENOUGH FOR TWO READS"))
	store := &faulty{Store: inner, read: func(name string) error {
		if name == e.DataName {
			return broken
		}
		return nil
	}}
	_, err := verify(t, store, e)
	require.ErrorIs(t, err, broken)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = snapshot.Verify(ctx, inner, e, snapshot.VerifyOptions{})
	require.ErrorIs(t, err, context.Canceled)
}

// bigFile is 64 MiB of values that do not compress.
func bigFile() []byte {
	random := rand.NewChaCha8([32]byte{})
	b := append(make([]byte, 0, 65<<20), "REDIS0011\xfe\x00"...)
	value := make([]byte, 1000)
	for i := 0; len(b) < 64<<20; i++ {
		_, _ = random.Read(value) // never fails
		b = append(b, 0)
		b = text(b, "key:"+time.Unix(int64(i), 0).UTC().Format(time.RFC3339))
		b = append(b, 0x40|byte(len(value)>>8), byte(len(value)))
		b = append(b, value...)
	}
	return sealRDB(b)
}

func BenchmarkVerify(b *testing.B) {
	file := bigFile()
	store := newStore(b)
	m, err := snapshot.Create(b.Context(), store, dir, bytes.NewReader(file), snapshot.CreateOptions{})
	require.NoError(b, err)
	e := find(b, store, m.ID)
	b.SetBytes(int64(len(file)))
	for b.Loop() {
		_, err := snapshot.Verify(b.Context(), store, e, snapshot.VerifyOptions{})
		require.NoError(b, err)
	}
}
