package snapshot_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/snapshot/codec"
	"github.com/redisctl/redisctl/internal/storage/storagetest"
)

// Every file of a set is encoded, and verified through it.
func TestEncodedSet(t *testing.T) {
	store := newStore(t)
	e, keys := secret(t, codec.Default)
	opts := options()
	opts.Encoding = e
	set, err := snapshot.CreateSet(store, dir, snapshot.KindFull, opts)
	require.NoError(t, err)
	defer set.Abort()
	_, err = set.Add(t.Context(), snapshot.SetFile{Name: "rdb", Kind: snapshot.FileRDB}, bytes.NewReader(rdbFile(3)))
	require.NoError(t, err)
	_, err = set.Add(t.Context(), snapshot.SetFile{Name: "config.json", Kind: snapshot.FileConfig}, strings.NewReader(`{"maxmemory": "100mb"}`))
	require.NoError(t, err)
	m, err := set.Commit(t.Context())
	require.NoError(t, err)
	for _, name := range storagetest.Names(t, store) {
		if !strings.HasSuffix(name, ".manifest.json") {
			assert.True(t, strings.HasSuffix(name, ".zst.age"), name)
			assert.NotContains(t, string(storagetest.Get(t, store, name)), "maxmemory")
		}
	}
	entry := find(t, store, m.ID)
	require.NoError(t, entry.Problem)

	report, err := verifyWith(t, store, entry, snapshot.VerifyOptions{Keys: keys})
	require.NoError(t, err)
	assert.Equal(t, ok, results(report)[snapshot.CheckEncoding])
	assert.Equal(t, ok, results(report)[snapshot.CheckContents])
	assert.Equal(t, int64(7), report.RDB.Keys)

	_, err = verifyWith(t, store, entry, snapshot.VerifyOptions{})
	require.ErrorIs(t, err, codec.ErrKey)
	require.NotErrorIs(t, err, snapshot.ErrCorrupt)
	_, err = verifyWith(t, store, entry, snapshot.VerifyOptions{Outer: true})
	require.NoError(t, err)

	name := dir + "/" + m.Files[1].Name
	data := storagetest.Get(t, store, name)
	data[len(data)-1] ^= 1
	overwrite(t, store, name, data)
	for _, opts := range []snapshot.VerifyOptions{{}, {Keys: keys}, {Outer: true}} {
		_, err = verifyWith(t, store, entry, opts)
		require.ErrorIs(t, err, snapshot.ErrCorrupt)
	}
}
