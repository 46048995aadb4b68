package cli_test

import (
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/redisctl/redisctl/internal/testkit/s3server"
)

// startS3 starts an S3 server with buckets and sets what redisctl needs to reach it.
func startS3(ts *testscript.TestScript, s *scene, args []string) {
	server := s3server.Start(s.t, s3server.Options{})
	for _, bucket := range args {
		server.Bucket(bucket)
	}
	ts.Setenv("REDISCTL_S3_ENDPOINT", server.URL)
	ts.Setenv("AWS_ACCESS_KEY_ID", s3server.AccessKey)
	ts.Setenv("AWS_SECRET_ACCESS_KEY", s3server.SecretKey)
	ts.Setenv("AWS_EC2_METADATA_DISABLED", "true")
}
