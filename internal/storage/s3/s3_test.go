package s3_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/storage"
	"github.com/redisctl/redisctl/internal/storage/s3"
	"github.com/redisctl/redisctl/internal/storage/storagetest"
	"github.com/redisctl/redisctl/internal/testkit/s3server"
)

const bucket = "backups"

// start starts a server with one bucket.
func start(t *testing.T) *s3server.Server {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a real S3 server")
	}
	server := s3server.Start(t, s3server.Options{})
	server.Bucket(bucket)
	return server
}

// open opens the bucket at an endpoint. Attempts follow each other quickly.
func open(t *testing.T, endpoint string, change func(*s3.Options)) *s3.Store {
	t.Helper()
	o := s3.Options{
		Bucket: bucket, Prefix: "site-a/redis", Endpoint: endpoint, LookupEnv: s3server.Environment(),
		Backoff: time.Millisecond,
	}
	if change != nil {
		change(&o)
	}
	store, err := s3.New(o)
	require.NoError(t, err)
	return store
}

func TestConformance(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a real S3 server")
	}
	server := s3server.Start(t, s3server.Options{})
	n := 0
	storagetest.Run(t, func(t *testing.T) storage.Store {
		n++
		name := "bucket-" + string(rune('a'+n))
		server.Bucket(name)
		return open(t, server.URL, func(o *s3.Options) { o.Bucket = name })
	})
}
