package rdb_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/rdb/rdbtest"
)

// FuzzScan feeds anything to the reader, with the checksum disabled so that
// damage gets past it. However the bytes are windowed, the outcome must be the
// same, and only *FormatError may come of it.
func FuzzScan(f *testing.F) {
	for _, name := range fixtures(f) {
		f.Add(read(f, name))
	}
	for _, header := range []string{rdbtest.Redis8, rdbtest.Valkey9} {
		f.Add(rdbtest.File(header, func(w *rdbtest.Writer) {
			w.Value(7, "module", cat(length(moduleID("ReJSON-RL", 3)), length(5), raw("text"), length(4), score(1), length(3), make([]byte, 4), length(0)))
			w.Value(9, "zipmap", packed(rdbtest.Zipmap(2, "a", "b", "c", noise(300))))
			w.Value(10, "ziplist", packed(rdbtest.Ziplist("a", "12", "-300", noise(300), "")))
			w.Value(14, "quicklist", cat(length(1), lzf(rdbtest.Ziplist(someStrings...))))
			w.Value(3, "zset", cat(length(2), raw("a"), raw("-2.5"), raw("b"), []byte{254}))
			w.Raw(cat([]byte{247}, length(1), length(2), length(1), length(0)))
		}))
	}
	f.Add(rdbtest.File(rdbtest.Redis8, func(w *rdbtest.Writer) {
		w.Value(22, "a", cat(length(1), length(0), raw("a"), raw("1")))
		w.Value(23, "b", packed(rdbtest.Listpack("a", "1", "0")))
	}))
	f.Add(rdbtest.File(rdbtest.Valkey9, func(w *rdbtest.Writer) {
		w.Value(22, "a", cat(length(1), raw("a"), raw("1"), le64(farFuture)))
		w.Raw(cat([]byte{243}, raw(noise(40)), length(1), length(0), length(9)))
	}))

	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 8 {
			data = rdbtest.WithoutChecksum(data)
		}
		type outcome struct {
			sum     rdb.Summary
			err     error
			entries int
			bytes   int64
		}
		run := func(opts rdb.Options) outcome {
			var out outcome
			var value bytes.Buffer
			out.sum, out.err = rdb.Scan(t.Context(), bytes.NewReader(data), rdb.Visitor{
				Value: func(*rdb.Entry) (io.Writer, error) {
					value.Reset()
					return &value, nil
				},
				Entry: func(e *rdb.Entry) error {
					out.entries++
					out.bytes += e.Size
					if !bytes.Equal(value.Bytes(), data[e.Offset:e.Offset+e.Size]) {
						t.Fatalf("the value of %q is not what the file holds at %d", e.Key, e.Offset)
					}
					return nil
				},
			}, opts)
			var fault *rdb.FormatError
			if out.err != nil && (!errors.As(out.err, &fault) || fault.Offset < 0 || fault.Offset > int64(len(data))) {
				t.Fatalf("unexpected error: %v", out.err)
			}
			if out.err == nil && out.sum.Size != int64(len(data)) {
				t.Fatalf("read %d of %d bytes", out.sum.Size, len(data))
			}
			return out
		}
		// Packed values are checked more closely where they fit in half the
		// window, compressed ones where they do not; a deep scan through a large
		// window finds all that any other finds.
		large, deep, small := run(rdb.Options{Window: 1 << 16}), run(rdb.Options{Window: 1 << 16, Deep: true}), run(rdb.Options{Window: rdb.MinWindow})
		if large.err != nil && deep.err == nil {
			t.Fatalf("a deep scan found less: %v", large.err)
		}
		if deep.err == nil {
			if small.err != nil {
				t.Fatalf("a small window: %v", small.err)
			}
			if small.entries != large.entries || small.bytes != large.bytes {
				t.Fatalf("a small window: %d keys and %d bytes, not %d and %d", small.entries, small.bytes, large.entries, large.bytes)
			}
		}
	})
}
