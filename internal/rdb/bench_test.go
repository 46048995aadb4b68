package rdb_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"sync"
	"testing"

	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/rdb/rdbtest"
)

const benchSize = 128 << 20

var benchData = sync.OnceValue(func() []byte {
	return rdbtest.File(rdbtest.Redis72, func(w *rdbtest.Writer) { rdbtest.Realistic(w, 1, benchSize) })
})

// reader hides the other methods of a bytes.Reader, as a file or pod would.
type reader struct{ io.Reader }

func benchmarkScan(b *testing.B, v rdb.Visitor, opts rdb.Options) {
	data := benchData()
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := rdb.Scan(context.Background(), reader{bytes.NewReader(data)}, v, opts); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkScan(b *testing.B)     { benchmarkScan(b, rdb.Visitor{}, rdb.Options{}) }
func BenchmarkScanDeep(b *testing.B) { benchmarkScan(b, rdb.Visitor{}, rdb.Options{Deep: true}) }

func BenchmarkScanEntries(b *testing.B) {
	var total int64
	benchmarkScan(b, rdb.Visitor{Entry: func(e *rdb.Entry) error { total += e.Size; return nil }}, rdb.Options{})
}

func BenchmarkScanValues(b *testing.B) {
	benchmarkScan(b, rdb.Visitor{Value: func(*rdb.Entry) (io.Writer, error) { return io.Discard, nil }}, rdb.Options{})
}

// BenchmarkScanSHA256 is what verifying a backup takes: the digest of the file
// is computed on the side.
func BenchmarkScanSHA256(b *testing.B) {
	data := benchData()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		pieces, free := make(chan []byte, 1), make(chan []byte, 2)
		free <- make([]byte, 1<<20)
		free <- make([]byte, 1<<20)
		var wg sync.WaitGroup
		wg.Go(func() {
			sum := sha256.New()
			for p := range pieces {
				sum.Write(p)
				free <- p[:cap(p)]
			}
		})
		src := bytes.NewReader(data)
		tee := readerFunc(func(p []byte) (int, error) {
			n, err := src.Read(p)
			side := <-free
			if len(side) < n {
				side = make([]byte, n)
			}
			pieces <- side[:copy(side, p[:n])]
			return n, err
		})
		if _, err := rdb.Scan(context.Background(), tee, rdb.Visitor{}, rdb.Options{}); err != nil {
			b.Fatal(err)
		}
		close(pieces)
		wg.Wait()
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// BenchmarkCRC64 is the floor: the checksum alone.
func BenchmarkCRC64(b *testing.B) {
	data := benchData()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		sum := rdb.NewCRC64()
		for p := data; len(p) > 0; {
			n := min(len(p), 1<<20)
			sum.Write(p[:n])
			p = p[n:]
		}
	}
}
