package snapshot_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"filippo.io/age"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/snapshot/codec"
	"github.com/redisctl/redisctl/internal/storage"
	"github.com/redisctl/redisctl/internal/storage/storagetest"
)

// secret is a new key: an encoding that encrypts to it, and what opens it.
func secret(t testing.TB, level codec.Level) (codec.Encoding, *codec.Keys) {
	t.Helper()
	k, err := age.GenerateX25519Identity()
	require.NoError(t, err)
	r, err := codec.ParseRecipient(k.Recipient().String())
	require.NoError(t, err)
	keys := &codec.Keys{}
	require.NoError(t, keys.AddIdentities(strings.NewReader(k.String()), nil))
	return codec.Encoding{Level: level, Recipients: []codec.Recipient{r}}, keys
}

func createEncoded(t testing.TB, store storage.Store, file []byte, e codec.Encoding) snapshot.Entry {
	t.Helper()
	opts := options()
	opts.Encoding = e
	m, err := snapshot.Create(t.Context(), store, dir, bytes.NewReader(file), opts)
	require.NoError(t, err)
	entry := find(t, store, m.ID)
	require.NoError(t, entry.Problem)
	assert.Equal(t, m, entry.Manifest, "what is returned is what is stored")
	return entry
}

func verifyWith(t testing.TB, store storage.Store, e snapshot.Entry, opts snapshot.VerifyOptions) (snapshot.Report, error) {
	t.Helper()
	opts.Now = ticking()
	report, err := snapshot.Verify(t.Context(), store, e, opts)
	assert.Equal(t, err == nil && !opts.Outer, report.Verified)
	return report, err
}

func TestEncodedSnapshot(t *testing.T) {
	encrypted, keys := secret(t, "")
	both := codec.Encoding{Level: codec.Default, Recipients: encrypted.Recipients}
	file := rdbFile(1000)
	for suffix, e := range map[string]codec.Encoding{".zst": {Level: codec.Fastest}, ".age": encrypted, ".zst.age": both} {
		t.Run(suffix, func(t *testing.T) {
			store := newStore(t)
			entry := createEncoded(t, store, file, e)
			assert.Equal(t, dir+"/"+entry.ID+".rdb"+suffix, entry.DataName)
			f := entry.Manifest.RDB()
			stored := storagetest.Get(t, store, entry.DataName)
			assert.Equal(t, int64(len(stored)), f.Size)
			assert.Equal(t, int64(len(file)), f.ContentSize())
			assert.Equal(t, e.Codecs(), f.Encoding.Codecs)
			assert.Equal(t, e.Names(), f.Encoding.Recipients)
			assert.Equal(t, "redisctl/v1.1", entry.Manifest.APIVersion)
			if len(e.Recipients) > 0 {
				assert.NotContains(t, string(stored), "key:1")
			}

			report, err := verifyWith(t, store, entry, snapshot.VerifyOptions{Keys: keys})
			require.NoError(t, err)
			want := outcome(ok, ok, ok, ok, ok, ok)
			want[snapshot.CheckEncoding], want[snapshot.CheckContents] = ok, ok
			assert.Equal(t, want, results(report))
			assert.Equal(t, f.SHA256, report.SHA256)
			assert.Equal(t, f.ContentSHA256(), report.ContentSHA256)
			assert.Equal(t, int64(2001), report.RDB.Keys)

			contents, err := snapshot.Open(t.Context(), store, entry.DataName, snapshot.OpenOptions{Keys: keys})
			require.NoError(t, err)
			got, err := io.ReadAll(contents)
			require.NoError(t, err)
			require.NoError(t, contents.Close())
			assert.Equal(t, file, got)
		})
	}
}

// A plain snapshot is written as before, so that older versions can read it.
func TestPlainManifestKeepsItsVersion(t *testing.T) {
	assert.Equal(t, "redisctl/v1", create(t, newStore(t), rdbFile(1)).APIVersion)
}

func TestVerifyWithoutTheKey(t *testing.T) {
	store := newStore(t)
	e, keys := secret(t, codec.Default)
	_, others := secret(t, "")
	entry := createEncoded(t, store, rdbFile(3), e)
	want := outcome(ok, ok, ok, skipped, skipped, skipped)
	want[snapshot.CheckEncoding] = skipped
	for _, given := range []*codec.Keys{nil, {}, others} {
		report, err := verifyWith(t, store, entry, snapshot.VerifyOptions{Keys: given})
		require.ErrorIs(t, err, codec.ErrKey)
		require.NotErrorIs(t, err, snapshot.ErrCorrupt)
		require.ErrorContains(t, err, "were not verified")
		assert.Equal(t, want, results(report))
	}
	report, err := verifyWith(t, store, entry, snapshot.VerifyOptions{Outer: true})
	require.NoError(t, err)
	assert.Equal(t, outcome(ok, ok, ok, skipped, skipped, skipped), results(report))

	// Damage is damage, with the key and without it.
	data := storagetest.Get(t, store, entry.DataName)
	data[len(data)-1] ^= 1
	overwrite(t, store, entry.DataName, data)
	for _, opts := range []snapshot.VerifyOptions{{}, {Keys: others}, {Keys: keys}, {Outer: true}} {
		report, err := verifyWith(t, store, entry, opts)
		require.ErrorIs(t, err, snapshot.ErrCorrupt)
		assert.Equal(t, failed, results(report)[snapshot.CheckSHA256])
	}
}

// No single wrong bit goes unnoticed, also where it leaves the contents as they are.
func TestVerifyEncodedBitFlips(t *testing.T) {
	e, keys := secret(t, codec.Default)
	for _, e := range []codec.Encoding{e, {Level: codec.Default}} {
		store := newStore(t)
		entry := createEncoded(t, store, rdbFile(2), e)
		name := store.Location(entry.DataName)
		data := storagetest.Get(t, store, entry.DataName)
		for i := range data {
			flipped := bytes.Clone(data)
			flipped[i] ^= 1 << (i % 8)
			require.NoError(t, os.WriteFile(name, flipped, 0o600))
			_, err := verifyWith(t, store, entry, snapshot.VerifyOptions{Keys: keys})
			require.ErrorIs(t, err, snapshot.ErrCorrupt, "byte %d", i)
		}
		for _, changed := range [][]byte{data[:len(data)-1], data[:len(data)/2], nil, append(bytes.Clone(data), 0), rdbFile(2)} {
			require.NoError(t, os.WriteFile(name, changed, 0o600))
			_, err := verifyWith(t, store, entry, snapshot.VerifyOptions{Keys: keys})
			require.ErrorIs(t, err, snapshot.ErrCorrupt)
		}
	}
}

// Somebody has replaced the data, and made the manifest fit from the outside.
func TestVerifyOtherContents(t *testing.T) {
	e, keys := secret(t, codec.Default)
	store := newStore(t)
	entry := createEncoded(t, store, rdbFile(3), e)
	other := createEncoded(t, store, rdbFile(4), e)
	overwrite(t, store, entry.DataName, storagetest.Get(t, store, other.DataName))
	manifest := storagetest.Get(t, store, entry.ManifestName)
	was, is := entry.Manifest.RDB(), other.Manifest.RDB()
	manifest = edit(t, manifest, was.SHA256, is.SHA256)
	manifest = edit(t, manifest, fmt.Sprintf(`"sizeBytes": %d,`+"\n      \"sha256\"", was.Size), fmt.Sprintf(`"sizeBytes": %d,`+"\n      \"sha256\"", is.Size))
	overwrite(t, store, entry.ManifestName, manifest)
	report, err := verifyWith(t, store, find(t, store, entry.ID), snapshot.VerifyOptions{Keys: keys})
	require.ErrorIs(t, err, snapshot.ErrCorrupt)
	assert.Equal(t, ok, results(report)[snapshot.CheckSHA256])
	assert.Equal(t, failed, results(report)[snapshot.CheckContents])
	assert.Equal(t, failed, results(report)[snapshot.CheckKeys])
}

// A bare file is decoded by what it begins with, whatever its name is.
func TestVerifyBareEncodedFile(t *testing.T) {
	e, keys := secret(t, codec.Default)
	file := rdbFile(3)
	folder := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(folder, "dump.rdb"), []byte("another one"), 0o600))
	for name, e := range map[string]codec.Encoding{"dump.rdb.zst": {Level: codec.Better}, "dump.rdb.age": e, "dump.rdb.zst.age": e, "dump": e} {
		var data bytes.Buffer
		w, err := e.NewWriter(&data)
		require.NoError(t, err)
		_, err = w.Write(file)
		require.NoError(t, err)
		require.NoError(t, w.Close())
		path := filepath.Join(folder, name)
		require.NoError(t, os.WriteFile(path, data.Bytes(), 0o600))
		store, entry, err := snapshot.FindFile(t.Context(), path)
		require.NoError(t, err)
		assert.Equal(t, name, entry.DataName, "and not a file of a similar name")
		assert.Equal(t, int64(data.Len()), entry.Size)

		report, err := verifyWith(t, store, entry, snapshot.VerifyOptions{Keys: keys})
		require.NoError(t, err, name)
		want := outcome(skipped, skipped, skipped, ok, ok, skipped)
		want[snapshot.CheckEncoding], want[snapshot.CheckContents] = ok, skipped
		assert.Equal(t, want, results(report))
		if len(e.Recipients) > 0 {
			_, err = verifyWith(t, store, entry, snapshot.VerifyOptions{})
			require.ErrorIs(t, err, codec.ErrKey)
		}
		_, err = verifyWith(t, store, entry, snapshot.VerifyOptions{Outer: true})
		require.ErrorContains(t, err, "no manifest")
		for n := 25; n < data.Len(); n++ {
			require.NoError(t, os.WriteFile(path, data.Bytes()[:n], 0o600))
			_, err := verifyWith(t, store, entry, snapshot.VerifyOptions{Keys: keys})
			require.ErrorIs(t, err, snapshot.ErrCorrupt, "%s: %d of %d bytes", name, n, data.Len())
		}
	}
}

// Nothing in plain reaches the disk, whatever happens.
func TestEncryptedFromTheFirstByte(t *testing.T) {
	e, _ := secret(t, "")
	store := newStore(t)
	file := rdbFile(10_000)
	looked := 0
	look := func() {
		require.NoError(t, filepath.WalkDir(store.Location(""), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				data, err := os.ReadFile(path)
				require.NoError(t, err)
				assert.NotContains(t, string(data), "value of key")
				assert.NotContains(t, string(data), "REDIS0011")
				if len(data) > 0 {
					looked++
				}
			}
			return err
		}))
	}
	opts := options()
	opts.Encoding = e
	opts.Progress = func(bytes int64) {
		if bytes > int64(len(file))/2 && looked < 3 {
			look()
		}
	}
	_, err := snapshot.Create(t.Context(), store, dir, iotest.HalfReader(bytes.NewReader(file)), opts)
	require.NoError(t, err)
	look()
	assert.GreaterOrEqual(t, looked, 3)
}

func TestCreateEncodedFails(t *testing.T) {
	broken := errors.New("broken")
	encrypted, _ := secret(t, codec.Default)
	for _, e := range []codec.Encoding{{Level: codec.Default}, encrypted} {
		for name, fault := range map[string]func(*faulty, *snapshot.CreateOptions){
			"disk is full": func(s *faulty, _ *snapshot.CreateOptions) {
				s.write = func(_ string, written int) error {
					if written > 500 {
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
				opts.Encoding = e
				fault(store, &opts)
				_, err := snapshot.Create(t.Context(), store, dir, iotest.HalfReader(bytes.NewReader(rdbFile(20_000))), opts)
				require.ErrorIs(t, err, broken)
				require.NotErrorIs(t, err, snapshot.ErrCorrupt)
				nothingLeft(t, inner)
			})
		}
		inner := newStore(t)
		opts := options()
		opts.Encoding = e
		file := rdbFile(20_000)
		_, err := snapshot.Create(t.Context(), inner, dir, io.MultiReader(bytes.NewReader(file[:len(file)/2]), failing{broken}), opts)
		require.ErrorIs(t, err, broken)
		_, err = snapshot.Create(t.Context(), inner, dir, bytes.NewReader(file[:len(file)/2]), opts)
		require.ErrorIs(t, err, snapshot.ErrCorrupt)
		ctx, cancel := context.WithCancel(t.Context())
		opts.Progress = func(int64) { cancel() }
		_, err = snapshot.Create(ctx, inner, dir, iotest.HalfReader(bytes.NewReader(file)), opts)
		require.ErrorIs(t, err, context.Canceled)
		nothingLeft(t, inner)
	}
}

func TestVerifyEncodedWithoutAccess(t *testing.T) {
	inner := newStore(t)
	e, keys := secret(t, codec.Default)
	entry := createEncoded(t, inner, rdbFile(3), e)
	broken := errors.New("the network is gone")
	store := &faulty{Store: inner, read: func(name string) error {
		if name == entry.DataName {
			return broken
		}
		return nil
	}}
	for _, opts := range []snapshot.VerifyOptions{{Keys: keys}, {}, {Outer: true}} {
		_, err := verifyWith(t, store, entry, opts)
		require.ErrorIs(t, err, broken)
		require.NotErrorIs(t, err, snapshot.ErrCorrupt)
		require.NotErrorIs(t, err, codec.ErrKey)
	}
}

func TestEncodingInAManifestRefused(t *testing.T) {
	store := newStore(t)
	e, _ := secret(t, codec.Default)
	data := storagetest.Get(t, store, createEncoded(t, store, rdbFile(3), e).ManifestName)
	for name, change := range map[string]struct{ before, after, says string }{
		"unknown codec":        {`"zstd",`, `"gzip",`, "codecs"},
		"other order":          {"\"zstd\",\n          \"age\"", "\"age\",\n          \"zstd\"", "codecs"},
		"name without suffix":  {`.rdb.zst.age"`, `.rdb"`, "has one file"},
		"negative size":        {`"contentBytes": 192`, `"contentBytes": -192`, "contents of -192"},
		"another size inside":  {`"contentBytes": 192`, `"contentBytes": 193`, "an RDB of 192"},
		"digest":               {`"contentSha256": "`, `"contentSha256": "x`, "SHA-256"},
		"escape in a level":    {`"level": "default"`, `"level": "\u001b[2J"`, "cannot be printed"},
		"recipients that lack": {`"recipients": [`, `"recipients": [], "x": [`, "recipients"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := snapshot.Decode(bytes.NewReader(edit(t, data, change.before, change.after)))
			require.ErrorIs(t, err, snapshot.ErrCorrupt)
			if name != "recipients that lack" { // or the field after it
				require.ErrorContains(t, err, change.says)
			}
		})
	}
}

func BenchmarkCreateEncoded(b *testing.B) {
	file := bigFile()
	encrypted, keys := secret(b, codec.Default)
	for name, e := range map[string]codec.Encoding{"plain": {}, "zstd": {Level: codec.Default}, "zstd age": encrypted} {
		b.Run(name, func(b *testing.B) {
			store := newStore(b)
			b.SetBytes(int64(len(file)))
			var entry snapshot.Entry
			for b.Loop() {
				entry = createEncoded(b, store, file, e)
			}
			b.StopTimer()
			_, err := verifyWith(b, store, entry, snapshot.VerifyOptions{Keys: keys})
			require.NoError(b, err)
		})
	}
}
