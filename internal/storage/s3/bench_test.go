package s3_test

import (
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/storage"
	"github.com/redisctl/redisctl/internal/storage/s3"
	"github.com/redisctl/redisctl/internal/testkit/s3server"
)

// The server shares the machine's cores and disk: this shows what the client itself
// allocates, and that throughput is not lost to it.
func BenchmarkStore(b *testing.B) {
	server := s3server.Start(b, s3server.Options{})
	server.Bucket(bucket)
	store, err := s3.New(s3.Options{Bucket: bucket, Endpoint: server.URL, LookupEnv: s3server.Environment()})
	require.NoError(b, err)
	const size = 256 << 20
	chunk := make([]byte, 256<<10)
	b.Run("write", func(b *testing.B) {
		b.SetBytes(size)
		b.ReportAllocs()
		for b.Loop() {
			w, err := store.Create(b.Context(), "object", storage.CreateOptions{Overwrite: true})
			require.NoError(b, err)
			for range size / len(chunk) {
				_, err := w.Write(chunk)
				require.NoError(b, err)
			}
			require.NoError(b, w.Commit(b.Context()))
		}
	})
	b.Run("read", func(b *testing.B) {
		b.SetBytes(size)
		b.ReportAllocs()
		for b.Loop() {
			r, _, err := store.Open(b.Context(), "object")
			require.NoError(b, err)
			n, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{r}, chunk)
			require.NoError(b, err)
			require.EqualValues(b, size, n)
			require.NoError(b, r.Close())
		}
	})
}
