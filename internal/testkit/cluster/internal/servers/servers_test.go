package servers

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseMirror(t *testing.T) {
	mirror, err := parseMirror("Debian|Debian-Security|main|http://security.example/\n" +
		"Other|Other|main|http://other.example/\n" +
		"Debian|Debian|contrib|http://contrib.example/\n" +
		"Debian|Debian|main|http://mirror.example/debian/\n" +
		"Debian|Debian|main|http://second.example/debian/\n")
	require.NoError(t, err)
	assert.Equal(t, "http://mirror.example/debian", mirror)

	_, err = parseMirror("Ubuntu|Ubuntu|main|http://ubuntu.example/\n")
	assert.ErrorIs(t, err, ErrNoMirror)
}

func TestUpstream(t *testing.T) {
	for debian, want := range map[string]string{
		"5:6.0.16-1+deb11u2":        "6.0.16",
		"5:7.0.15-1~deb12u7":        "7.0.15",
		"8.1.1+dfsg1-3+deb13u2":     "8.1.1",
		"8.0.2":                     "8.0.2",
		"1:2.0-rc1-4":               "2.0-rc1",
		"7:9.0.0+really8.9.9-1":     "9.0.0",
		"5:8.0.2-3+deb13u2+b1":      "8.0.2",
		"8.1.1~beta+dfsg1-3+deb13u": "8.1.1~beta",
	} {
		assert.Equal(t, want, upstream(debian), debian)
	}
}

func TestVersion(t *testing.T) {
	dir := t.TempDir()
	server := Server{Name: "redis-7.0", Package: "redis-server"}
	status := filepath.Join(dir, "redis-7.0", "var/lib/dpkg/status")
	require.NoError(t, os.MkdirAll(filepath.Dir(status), 0o755))
	write := func(text string) { require.NoError(t, os.WriteFile(status, []byte(text), 0o600)) }

	write("Package: redis-tools\nVersion: 5:9.9.9-1\n\nPackage: redis-server\nStatus: install ok installed\nVersion: 5:7.0.15-1~deb12u7\n")
	version, err := Version(dir, server)
	require.NoError(t, err)
	assert.Equal(t, "7.0.15", version)

	write("Package: redis-server-extras\nVersion: 1\n")
	_, err = Version(dir, server)
	assert.ErrorIs(t, err, ErrNoVersion)
}

// A root file system that was interrupted does not count as there.
func TestReady(t *testing.T) {
	dir := t.TempDir()
	for _, s := range Catalog() {
		assert.False(t, Ready(dir))
		require.NoError(t, os.Mkdir(filepath.Join(dir, s.Name+unfinished), 0o755))
		assert.False(t, Ready(dir))
		require.NoError(t, os.Mkdir(filepath.Join(dir, s.Name), 0o755))
	}
	assert.True(t, Ready(dir))
}

func TestDiscardWithoutMounts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "root.unfinished")
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "usr/bin"), 0o755))
	require.NoError(t, discard(dir))
	assert.NoDirExists(t, dir)
	assert.NoError(t, discard(dir))
}
