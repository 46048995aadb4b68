package main

import (
	"archive/tar"
	"crypto/x509"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const program = "the program"

func packed(t *testing.T, archive string) v1.Image {
	t.Helper()
	file := filepath.Join(t.TempDir(), "redisctl")
	require.NoError(t, os.WriteFile(file, []byte(program), 0o600))
	require.NoError(t, run([]string{
		"-program", file, "-arch", "arm64", "-version", "1.2.3", "-tag", "redisctl:1.2.3", "-created", "2026-11-24T01:02:03Z", "-o", archive,
	}))
	image, err := tarball.ImageFromPath(archive, nil)
	require.NoError(t, err)
	return image
}

func TestImage(t *testing.T) {
	image := packed(t, filepath.Join(t.TempDir(), "image.tar"))
	config, err := image.ConfigFile()
	require.NoError(t, err)
	assert.Equal(t, "linux/arm64", config.OS+"/"+config.Architecture)
	assert.Equal(t, "2026-11-24T01:02:03Z", config.Created.Format("2006-01-02T15:04:05Z"))
	assert.Equal(t, "65532:65532", config.Config.User)
	assert.Equal(t, []string{"/usr/bin/redisctl"}, config.Config.Entrypoint)
	assert.Equal(t, "1.2.3", config.Config.Labels["org.opencontainers.image.version"])

	files, modes := map[string]string{}, map[string]int64{}
	extracted := mutate.Extract(image)
	defer extracted.Close()
	for r := tar.NewReader(extracted); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		content, err := io.ReadAll(r)
		require.NoError(t, err)
		path := strings.Trim(header.Name, "/")
		files[path], modes[path] = string(content), header.Mode
	}
	assert.Equal(t, program, files["usr/bin/redisctl"])
	assert.EqualValues(t, 0o755, modes["usr/bin/redisctl"])
	assert.EqualValues(t, 0o1777, modes["tmp"])
	assert.Contains(t, files["etc/passwd"], ":65532:")
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM([]byte(files["etc/ssl/certs/ca-certificates.crt"])))
	assert.Greater(t, strings.Count(files["etc/ssl/certs/ca-certificates.crt"], "BEGIN"), 100)
}

func TestTheSameProgramIsTheSameImage(t *testing.T) {
	dir := t.TempDir()
	one, another := filepath.Join(dir, "one.tar"), filepath.Join(dir, "another.tar")
	packed(t, one)
	packed(t, another)
	a, err := os.ReadFile(one)
	require.NoError(t, err)
	b, err := os.ReadFile(another)
	require.NoError(t, err)
	assert.Equal(t, a, b)
}

func TestMistakes(t *testing.T) {
	for what, args := range map[string][]string{
		"no program": {"-o", filepath.Join(t.TempDir(), "x")},
		"no time":    {"-created", "yesterday"},
		"no name":    {"-tag", "UPPER CASE"},
	} {
		assert.Error(t, run(args), what)
	}
}
