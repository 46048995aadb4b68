package images

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/servers"
)

type packed struct {
	header tar.Header
	text   string
}

func untar(t *testing.T, r io.Reader) map[string]packed {
	t.Helper()
	entries := map[string]packed{}
	archive := tar.NewReader(r)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return entries
		}
		require.NoError(t, err)
		text, err := io.ReadAll(archive)
		require.NoError(t, err)
		assert.NotContains(t, entries, header.Name, "packed twice")
		entries[header.Name] = packed{*header, string(text)}
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
}

func TestLayer(t *testing.T) {
	root := t.TempDir()
	write(t, filepath.Join(root, "usr/bin/sh"), "shell")
	require.NoError(t, os.Link(filepath.Join(root, "usr/bin/sh"), filepath.Join(root, "usr/bin/shell")))
	require.NoError(t, os.Symlink("usr/bin", filepath.Join(root, "bin")))
	write(t, filepath.Join(root, "etc/passwd"), "theirs")
	write(t, filepath.Join(root, "proc/1/stat"), "x")
	write(t, filepath.Join(root, "usr/share/doc/a/b"), "x")
	var out bytes.Buffer
	n, err := Layer{
		Root:    root,
		Exclude: []string{"proc/*", "usr/share/doc"},
		Add: []Entry{
			{Path: "etc/passwd", Content: "ours", Mode: 0o644},
			{Path: "data", Dir: true, Mode: 0o755, UID: 999, GID: 999},
			{Path: "usr/bin/redis-cli", Link: "valkey-cli", Mode: 0o777},
		},
	}.WriteTo(&out)
	require.NoError(t, err)
	assert.Equal(t, int64(out.Len()), n)
	entries := untar(t, &out)

	assert.Equal(t, "ours", entries["etc/passwd"].text)
	assert.Equal(t, "shell", entries["usr/bin/sh"].text)
	assert.Equal(t, byte(tar.TypeLink), entries["usr/bin/shell"].header.Typeflag)
	assert.Equal(t, "usr/bin/sh", entries["usr/bin/shell"].header.Linkname)
	assert.Equal(t, "usr/bin", entries["bin"].header.Linkname)
	assert.Equal(t, "valkey-cli", entries["usr/bin/redis-cli"].header.Linkname)
	assert.Equal(t, 999, entries["data/"].header.Uid)
	assert.Contains(t, entries, "proc/", "a mount point stays")
	for name := range entries {
		assert.False(t, strings.HasPrefix(name, "proc/1"), name)
		assert.False(t, strings.HasPrefix(name, "usr/share/doc"), name)
	}
}

// The archive must hold together: every blob under its own digest, from the
// index down to the layer, or containerd refuses it.
func TestPack(t *testing.T) {
	program := filepath.Join(t.TempDir(), "pause")
	write(t, program, "binary")
	file := filepath.Join(t.TempDir(), "image.tar")
	image := Image{
		Name:   "docker.io/library/pause:1.0",
		Config: v1.ImageConfig{Entrypoint: []string{"/pause"}},
		Layer:  Layer{Add: []Entry{{Path: "pause", Source: program, Mode: 0o755}}},
	}
	require.NoError(t, image.Pack(file))
	left, err := os.ReadDir(filepath.Dir(file))
	require.NoError(t, err)
	assert.Len(t, left, 1, "no temporary file is left")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	entries := untar(t, bytes.NewReader(text))
	follow := func(d v1.Descriptor, into any) string {
		entry, ok := entries[blob(d.Digest)]
		require.True(t, ok, d.Digest)
		assert.Equal(t, d.Digest, digest.FromString(entry.text))
		assert.Equal(t, d.Size, int64(len(entry.text)))
		if into != nil {
			require.NoError(t, json.Unmarshal([]byte(entry.text), into))
		}
		return entry.text
	}

	var index v1.Index
	require.NoError(t, json.Unmarshal([]byte(entries["index.json"].text), &index))
	require.Len(t, index.Manifests, 1)
	assert.Equal(t, image.Name, index.Manifests[0].Annotations[containerdName])
	var manifest v1.Manifest
	follow(index.Manifests[0], &manifest)
	var config v1.Image
	follow(manifest.Config, &config)
	assert.Equal(t, []string{"/pause"}, config.Config.Entrypoint)
	require.Len(t, manifest.Layers, 1)
	assert.Equal(t, []digest.Digest{manifest.Layers[0].Digest}, config.RootFS.DiffIDs)
	layer := untar(t, strings.NewReader(follow(manifest.Layers[0], nil)))
	assert.Equal(t, "binary", layer["pause"].text)
	assert.Equal(t, int64(0o755), layer["pause"].header.Mode)
}

func TestKeyFollowsTheContent(t *testing.T) {
	program := filepath.Join(t.TempDir(), "pause")
	write(t, program, "one")
	image := Image{Name: "a:1", Layer: Layer{Add: []Entry{{Path: "pause", Source: program}}}}
	first, err := image.Key()
	require.NoError(t, err)
	again, err := image.Key()
	require.NoError(t, err)
	assert.Equal(t, first, again)

	write(t, program, "two")
	second, err := image.Key()
	require.NoError(t, err)
	assert.NotEqual(t, first, second)
	image.Config.User = "1:1"
	third, err := image.Key()
	require.NoError(t, err)
	assert.NotEqual(t, second, third)
}

func TestCatalog(t *testing.T) {
	dir := t.TempDir()
	for _, s := range servers.Catalog() {
		root := filepath.Join(dir, s.Name)
		write(t, filepath.Join(root, packageDatabase), "Package: "+s.Package+"\nVersion: 5:"+strings.TrimLeft(s.Name, "redisvalky-")+".9-1\n")
		write(t, filepath.Join(root, "etc/passwd"), "root:x:0:0::/root:/bin/sh\nredis:x:101:101::/x:/y\n")
		write(t, filepath.Join(root, "etc/group"), "root:x:0:\n")
	}
	list, err := Catalog(dir, t.TempDir())
	require.NoError(t, err)
	byName := map[string]Image{}
	for _, image := range list {
		byName[image.Name] = image
	}
	assert.Equal(t, Pause, list[0].Name, "no pod starts without it")
	require.Contains(t, byName, "docker.io/library/redis:7.0.9")
	redis := byName["docker.io/library/redis:7.0.9"]
	assert.Equal(t, "999:999", redis.Config.User)
	assert.Equal(t, "/data", redis.Config.WorkingDir)
	for _, e := range redis.Layer.Add {
		if e.Path == "etc/passwd" {
			assert.Equal(t, "root:x:0:0::/root:/bin/sh\nredis:x:999:999::/data:/usr/sbin/nologin\n", e.Content)
		}
	}
	require.Contains(t, byName, "docker.io/library/valkey:8.1.9")
	links := map[string]string{}
	for _, e := range byName["docker.io/library/valkey:8.1.9"].Layer.Add {
		links[e.Path] = e.Link
	}
	assert.Equal(t, "valkey-server", links["usr/bin/redis-server"])
	assert.Equal(t, "valkey-cli", links["usr/bin/redis-cli"])
}
