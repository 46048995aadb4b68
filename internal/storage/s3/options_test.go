package s3_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/storage/s3"
)

func TestParse(t *testing.T) {
	defaults := s3.Options{Endpoint: "https://default.example", Region: "eu-central-1", Profile: "ops"}
	for raw, want := range map[string]s3.Options{
		"s3://backups":                 {Bucket: "backups"},
		"s3://backups/":                {Bucket: "backups"},
		"s3://backups/site-a/redis":    {Bucket: "backups", Prefix: "site-a/redis"},
		"s3://backups/a%20b":           {Bucket: "backups", Prefix: "a b"},
		"s3://b.ackups_1/x?region=r":   {Bucket: "b.ackups_1", Prefix: "x", Region: "r"},
		"s3://backups?ca=/ca&profile=": {Bucket: "backups", CAFile: "/ca"},
		"s3://backups/x?endpoint=http://10.0.0.1:9000&addressing=path&profile=dr": {
			Bucket: "backups", Prefix: "x", Endpoint: "http://10.0.0.1:9000", Addressing: s3.AddressingPath, Profile: "dr",
		},
	} {
		got, err := s3.Parse(raw, s3.Options{})
		require.NoError(t, err, raw)
		assert.Equal(t, want, got, raw)
	}

	got, err := s3.Parse("s3://backups/x?region=us-east-1", defaults)
	require.NoError(t, err)
	assert.Equal(t, s3.Options{Bucket: "backups", Prefix: "x", Endpoint: "https://default.example", Region: "us-east-1", Profile: "ops"}, got)

	for _, raw := range []string{
		"", "s3:", "s3://", "s3:///prefix", "http://backups/x", "s3://x", "s3://UP..%2F", "s3://backups/a/../b", "s3://backups/a//b",
		"s3://backups/a%00", "s3://backups?endpoint=a&endpoint=b", "s3://backups?verify=no", "s3://backups?addressing=dns",
		"s3://backups?endpoint=ftp://x", "s3://backups?endpoint=https://x/path", "s3://backups#x", "s3://backups?region=%zz",
	} {
		_, err := s3.Parse(raw, s3.Options{})
		require.Error(t, err, raw)
	}
}

// What looks like a password is neither accepted nor repeated.
func TestCredentialsInURL(t *testing.T) {
	for _, raw := range []string{
		"s3://key:hunter2@backups/x", "s3://key:hunter2%zz@backups", "s3://backups?endpoint=https://key:hunter2@host",
	} {
		_, err := s3.Parse(raw, s3.Options{})
		require.Error(t, err, raw)
		assert.NotContains(t, err.Error(), "hunter2")
	}
	_, err := s3.New(s3.Options{Bucket: "backups", Endpoint: "https://key:hunter2@host"})
	require.Error(t, err)
	assert.NotContains(t, err.Error(), "hunter2")
}

// The limits of S3: parts of 5 MiB to 5 GiB, at most 10,000 of them.
func TestPartSizes(t *testing.T) {
	const mib = 1 << 20
	total, last := 0, 0
	for n := 1; n <= s3.MaxParts; n++ {
		size := s3.PartSize(n)
		require.GreaterOrEqual(t, size, max(5*mib, last))
		require.LessOrEqual(t, size, 5<<30)
		total, last = total+size, size
	}
	assert.Equal(t, 5*mib, s3.PartSize(4000))
	assert.Equal(t, 10*mib, s3.PartSize(4001))
	assert.Greater(t, total, 600<<30, "600 GiB fit")
}

func TestOptionsThatCannotBe(t *testing.T) {
	_, err := s3.New(s3.Options{Bucket: "backups", CAFile: "/does/not/exist"})
	require.ErrorContains(t, err, "/does/not/exist")
	_, err = s3.New(s3.Options{Bucket: "backups", CAFile: "options_test.go"})
	require.ErrorContains(t, err, "holds no certificate")
	_, err = s3.New(s3.Options{Bucket: "backups", LookupEnv: func(name string) (string, bool) {
		return "not a url:", name == "AWS_ENDPOINT_URL_S3"
	}})
	require.ErrorContains(t, err, "endpoint")
}
