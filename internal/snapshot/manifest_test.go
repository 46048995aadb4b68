package snapshot_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/snapshot"
)

var update = flag.Bool("update", false, "write the golden manifest: only for a new version of the format")

var goldenFile = filepath.Join("testdata", "manifest.json")

// golden is a manifest as version 0.1.0 wrote it. It must stay readable.
func golden(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile(goldenFile)
	require.NoError(t, err)
	return data
}

// seal gives edited manifest text the digest that it needs to be accepted, as the
// documentation of Manifest.Digest describes it.
func seal(data []byte) []byte {
	field := regexp.MustCompile(`"digest": "sha256:[0-9a-f]{64}"`)
	zero := []byte(`"digest": "sha256:` + strings.Repeat("0", 64) + `"`)
	zeroed := field.ReplaceAll(data, zero)
	sum := sha256.Sum256(zeroed)
	return bytes.Replace(zeroed, zero, []byte(`"digest": "sha256:`+hex.EncodeToString(sum[:])+`"`), 1)
}

func edit(t testing.TB, data []byte, before, after string) []byte {
	t.Helper()
	require.Equal(t, 1, bytes.Count(data, []byte(before)), "%q occurs once", before)
	return seal(bytes.Replace(data, []byte(before), []byte(after), 1))
}

func TestManifestFormat(t *testing.T) {
	store := newStore(t)
	m := create(t, store, rdbFile(3))
	e := find(t, store, m.ID)
	data, err := os.ReadFile(store.Location(e.ManifestName))
	require.NoError(t, err)
	fixed := seal(bytes.ReplaceAll(data, []byte(m.ID), []byte("rdb-20261123T090501Z-k7mq")))
	if *update {
		require.NoError(t, os.WriteFile(goldenFile, fixed, 0o644))
	}
	assert.Equal(t, string(golden(t)), string(fixed))
}

func TestManifestRoundTrip(t *testing.T) {
	m, err := snapshot.Decode(bytes.NewReader(golden(t)))
	require.NoError(t, err)
	assert.Equal(t, source(), m.Source)
	assert.True(t, begun.Equal(m.CreatedAt))
	assert.Equal(t, int64(7), m.RDB().RDB.Keys)

	again, err := m.Encode()
	require.NoError(t, err)
	assert.Equal(t, string(golden(t)), string(again))
	assert.True(t, json.Valid(again))
}

// No single wrong bit, anywhere in a manifest, goes unnoticed.
func TestManifestBitFlips(t *testing.T) {
	data := golden(t)
	for i := range data {
		for bit := range 8 {
			flipped := bytes.Clone(data)
			flipped[i] ^= 1 << bit
			_, err := snapshot.Decode(bytes.NewReader(flipped))
			if !errors.Is(err, snapshot.ErrCorrupt) && !errors.Is(err, snapshot.ErrUnsupported) {
				t.Fatalf("bit %d of byte %d (%q): %v", bit, i, data[max(0, i-10):i+1], err)
			}
		}
	}
}

func TestManifestTruncated(t *testing.T) {
	data := golden(t)
	for n := range data {
		_, err := snapshot.Decode(bytes.NewReader(data[:n]))
		require.ErrorIs(t, err, snapshot.ErrCorrupt, "%d of %d bytes", n, len(data))
	}
}

func TestManifestVersions(t *testing.T) {
	data := golden(t)
	newerMinor := edit(t, data, `"redisctl/v1",`, `"redisctl/v1.7", "invented": {"later": [1]},`)
	m, err := snapshot.Decode(bytes.NewReader(newerMinor))
	require.NoError(t, err, "a newer minor version may have more fields")
	assert.Equal(t, source(), m.Source)

	for _, apiVersion := range []string{"redisctl/v2", "redisctl/v2.1", "redisctl/v10"} {
		_, err = snapshot.Decode(strings.NewReader(`{"something": "else", "apiVersion": "` + apiVersion + `"}`))
		require.ErrorIs(t, err, snapshot.ErrUnsupported)
		require.NotErrorIs(t, err, snapshot.ErrCorrupt)
		require.ErrorContains(t, err, apiVersion)
	}
	for _, apiVersion := range []string{"", "v1", "redisctl/v0", "redisctl/v01", "redisctl/v1.", "redisctl/v1.01", "redisctl/v-1", "redisctl/v99999999999999999999", "other/v1"} {
		_, err = snapshot.Decode(bytes.NewReader(edit(t, data, `"redisctl/v1"`, `"`+apiVersion+`"`)))
		require.ErrorIs(t, err, snapshot.ErrCorrupt, apiVersion)
	}
}

// What is wrong with these is not the digest.
func TestManifestRefused(t *testing.T) {
	const id = "rdb-20261123T090501Z-k7mq"
	for name, change := range map[string]struct{ before, after, says string }{
		"unknown field":           {`"id":`, `"extra": 1, "id":`, "extra"},
		"field twice":             {`"id":`, `"id": "x", "id":`, "duplicate"},
		"field in other case":     {`"createdBy":`, `"CreatedBy":`, "CreatedBy"},
		"path as id":              {`"id": "` + id, `"id": "../../` + id, "id"},
		"other kind":              {`"kind": "rdb"`, `"kind": "aof"`, "kind"},
		"other time":              {`"createdAt": "2026-11-23T09:05:01`, `"createdAt": "2026-11-23T09:05:02`, "createdAt"},
		"completed before":        {`"completedAt": "2026-11`, `"completedAt": "2026-10`, "completedAt"},
		"no time":                 {`"createdAt": "2026-11-23T09:05:01.25Z"`, `"createdAt": "yesterday"`, "parsing time"},
		"path as file name":       {`"name": "`, `"name": "../`, "a file named"},
		"absolute file name":      {`"name": "`, `"name": "/`, "a file named"},
		"windows path":            {`"name": "`, `"name": "C:\\`, "a file named"},
		"file name with NUL":      {`"name": "`, `"name": "\u0000`, "a file named"},
		"hidden file name":        {`"name": "`, `"name": ".`, "a file named"},
		"other file name":         {`"name": "`, `"name": "x`, "has one file"},
		"no files":                {`"files": [`, `"files": [], "files_": [`, ""},
		"negative size":           {`"sizeBytes": 192,` + "\n" + `      "sha256"`, `"sizeBytes": -1,` + "\n" + `      "sha256"`, "size of -1"},
		"fractional size":         {`"sizeBytes": 192,` + "\n" + `      "sha256"`, `"sizeBytes": 1.5,` + "\n" + `      "sha256"`, "cannot unmarshal"},
		"huge size":               {`"sizeBytes": 192,` + "\n" + `      "sha256"`, `"sizeBytes": 1e99,` + "\n" + `      "sha256"`, "cannot unmarshal"},
		"sizes differ":            {`"sizeBytes": 192,` + "\n" + `      "sha256"`, `"sizeBytes": 261,` + "\n" + `      "sha256"`, "an RDB of 192"},
		"digest in capitals":      {`"sha256": "`, `"sha256": "A`, "SHA-256"},
		"negative keys":           {`"keys": 7`, `"keys": -7`, "sums"},
		"wrong total":             {`"keys": 7`, `"keys": 8`, "sums"},
		"escape sequence":         {`"instance": "`, `"instance": "\u001b[2J`, "cannot be printed"},
		"line break":              {`"createdBy": "`, `"createdBy": "\n`, "cannot be printed"},
		"long text":               {`"createdBy": "`, `"createdBy": "` + strings.Repeat("x", 1025), "cannot be printed"},
		"negative duration":       {`"waitSeconds": 0.25`, `"waitSeconds": -0.25`, "duration"},
		"negative offset":         {`"replicationOffset": `, `"replicationOffset": -`, "replicationOffset"},
		"not an object":           {"{\n  \"apiVersion\"", "[{\n  \"apiVersion\"", "JSON"},
		"not a manifest's digest": {`"digest": "sha256:`, `"digest": "sha1:`, "digest"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := snapshot.Decode(bytes.NewReader(edit(t, golden(t), change.before, change.after)))
			require.ErrorIs(t, err, snapshot.ErrCorrupt)
			require.ErrorContains(t, err, change.says)
			require.NotContains(t, err.Error(), "\x1b")
			require.NotContains(t, err.Error(), "\n")
			require.Less(t, len(err.Error()), 1000)
		})
	}
}

func TestManifestWithSomethingBehindIt(t *testing.T) {
	for _, behind := range []string{"{}", "x", "\x00", string(golden(t))} {
		_, err := snapshot.Decode(bytes.NewReader(seal(append(golden(t), behind...))))
		require.ErrorIs(t, err, snapshot.ErrCorrupt)
	}
}

func TestManifestIsBounded(t *testing.T) {
	padded := func(size int) []byte {
		data := golden(t)
		return seal(append(data, bytes.Repeat([]byte(" "), size-len(data))...))
	}
	_, err := snapshot.Decode(bytes.NewReader(padded(snapshot.MaxManifestSize)))
	require.NoError(t, err)
	_, err = snapshot.Decode(bytes.NewReader(padded(snapshot.MaxManifestSize + 1)))
	require.ErrorIs(t, err, snapshot.ErrCorrupt)
	_, err = snapshot.Decode(endless{})
	require.ErrorIs(t, err, snapshot.ErrCorrupt)
}

// endless is a reader that never comes to its end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return copy(p, bytes.Repeat([]byte(" "), len(p))), nil }

func TestManifestCannotBeRead(t *testing.T) {
	broken := errors.New("the network is gone")
	_, err := snapshot.Decode(iotest.ErrReader(broken))
	require.ErrorIs(t, err, broken)
	require.NotErrorIs(t, err, snapshot.ErrCorrupt, "nothing is known of the data")
}

// What Decode accepts can be encoded and decoded again.
func FuzzDecode(f *testing.F) {
	f.Add(golden(f))
	f.Add([]byte(`{"apiVersion":"redisctl/v2"}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := snapshot.Decode(bytes.NewReader(seal(data)))
		if err != nil {
			return
		}
		encoded, err := m.Encode()
		require.NoError(t, err)
		again, err := snapshot.Decode(bytes.NewReader(encoded))
		require.NoError(t, err)
		require.Equal(t, m, again)
	})
}
