package rdb_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/rdb"
)

// record is an Entry to keep, with its value.
type record struct {
	rdb.Entry

	key     string
	version int
	value   []byte
	whole   bool // the value came in one piece, with a complete Entry
}

// contents is all that a scan tells.
type contents struct {
	summary   rdb.Summary
	records   []record
	functions [][]byte
}

func (c *contents) find(db int, key string) (record, bool) {
	for _, r := range c.records {
		if r.DB == db && r.key == key {
			return r, true
		}
	}
	return record{}, false
}

// collect scans r and keeps everything.
func collect(t testing.TB, r io.Reader, opts rdb.Options) (contents, error) {
	t.Helper()
	var c contents
	var value, function bytes.Buffer
	whole := false
	visitor := rdb.Visitor{
		Value: func(e *rdb.Entry) (io.Writer, error) {
			value.Reset()
			whole = e.Size != rdb.None
			return &value, nil
		},
		Entry: func(e *rdb.Entry) error {
			kept := record{Entry: *e, key: string(e.Key), value: bytes.Clone(value.Bytes()), whole: whole}
			kept.Key = nil
			c.records = append(c.records, kept)
			return nil
		},
		Function: func(e *rdb.Entry) (io.Writer, error) {
			if function.Len() > 0 {
				c.functions = append(c.functions, bytes.Clone(function.Bytes()))
			}
			function.Reset()
			return &function, nil
		},
	}
	var err error
	c.summary, err = rdb.Scan(t.Context(), r, visitor, opts)
	if function.Len() > 0 {
		c.functions = append(c.functions, function.Bytes())
	}
	for i := range c.records {
		c.records[i].version = c.summary.Version
	}
	return c, err
}

// scanAll is collect for data that is sound.
func scanAll(t testing.TB, data []byte, opts rdb.Options) contents {
	t.Helper()
	c, err := collect(t, bytes.NewReader(data), opts)
	require.NoError(t, err)
	return c
}
