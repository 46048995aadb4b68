package rdb_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/rdb/rdbtest"
)

// TestDigestOfADump: a value has one digest, in a file as in a DUMP payload.
func TestDigestOfADump(t *testing.T) {
	digester := rdb.NewDumpDigester(t.Context())
	for _, v := range handMade() {
		file := rdbtest.File(v.header, func(w *rdbtest.Writer) { w.Value(v.rdbType, "key", v.value) })
		var want rdb.ValueDigest
		sum, err := rdb.ScanDigests(t.Context(), bytes.NewReader(file), rdb.DigestVisitor{
			Entry: func(_ *rdb.Entry, d rdb.ValueDigest) error { want = d; return nil },
		}, rdb.Options{})
		require.NoError(t, err, v.name)
		kind, got, err := digester.Digest(rdb.AppendDump(nil, v.rdbType, uint16(sum.Version), v.value))
		require.NoError(t, err, v.name)
		assert.Equal(t, v.kind, kind, v.name)
		assert.Equal(t, want, got, v.name)
	}
}

func TestDigestOfADamagedDump(t *testing.T) {
	digester := rdb.NewDumpDigester(t.Context())
	value := rdbtest.AppendString(nil, "some text")
	whole := rdb.AppendDump(nil, rdbtest.TypeString, 11, value)
	flipped := bytes.Clone(whole)
	flipped[3] ^= 1
	for name, c := range map[string]struct {
		payload []byte
		want    error
	}{
		"empty":           {nil, rdb.ErrCorrupt},
		"a flipped bit":   {flipped, rdb.ErrCorrupt},
		"cut":             {rdb.AppendDump(nil, rdbtest.TypeString, 11, value[:4]), rdb.ErrTruncated},
		"bytes behind":    {rdb.AppendDump(nil, rdbtest.TypeString, 11, append(bytes.Clone(value), 0)), rdb.ErrCorrupt},
		"an unknown type": {rdb.AppendDump(nil, 99, 11, value), rdb.ErrUnsupported},
	} {
		_, _, err := digester.Digest(c.payload)
		require.ErrorIs(t, err, c.want, name)
	}
	kind, _, err := digester.Digest(whole)
	require.NoError(t, err, "what came before leaves no trace")
	assert.Equal(t, rdb.TypeString, kind)
	_, _, err = digester.Digest(rdb.AppendDump(nil, rdbtest.TypeString, 13, value))
	require.NoError(t, err, "a newer version")
}
