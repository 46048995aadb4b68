package rdbdiff

import (
	"bytes"
	"io"
	"sync"
	"testing"

	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/rdb/rdbtest"
)

var realistic = sync.OnceValue(func() []byte {
	return rdbtest.File(rdbtest.Redis72, func(w *rdbtest.Writer) { rdbtest.Realistic(w, 1, 128<<20) })
})

// BenchmarkCompare compares a file of realistic data with itself; the rate is that
// of both together.
func BenchmarkCompare(b *testing.B) {
	data := realistic()
	b.SetBytes(2 * int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compare(b.Context(), bytes.NewReader(data), bytes.NewReader(data), Options{Examples: 10, Prefixes: 10}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDigests is the part of it that a single file takes, without records.
func BenchmarkDigests(b *testing.B) {
	data := realistic()
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := rdb.ScanDigests(b.Context(), bytes.NewReader(data), rdb.DigestVisitor{}, rdb.Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSmallKeys is the worst case: hardly any value to a key. The rate counts
// keys, as MB/s of one byte each.
func BenchmarkSmallKeys(b *testing.B) {
	const n = 1_000_000
	files := [2][]byte{}
	for i, side := range []Side{A, B} {
		files[i], _ = io.ReadAll(bulk(n, side)) // its writer does not fail
	}
	b.SetBytes(2 * n)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compare(b.Context(), bytes.NewReader(files[0]), bytes.NewReader(files[1]), Options{Examples: 10, Prefixes: 10}); err != nil {
			b.Fatal(err)
		}
	}
}
