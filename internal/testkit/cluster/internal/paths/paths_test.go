package paths

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNew(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", "/somewhere")
	t.Setenv("REDISCTL_CACHE", "")
	layout, err := New()
	require.NoError(t, err)
	assert.Equal(t, "/somewhere/redisctl/cluster/kubeconfig", layout.Kubeconfig())

	t.Setenv("REDISCTL_CACHE", "/elsewhere")
	layout, err = New()
	require.NoError(t, err)
	assert.Equal(t, "/elsewhere/servers", layout.Servers())
}

// A Unix socket's path may have 107 bytes, a shim's file name has 64.
func TestSocketPathsAreShort(t *testing.T) {
	layout, err := New()
	require.NoError(t, err)
	assert.Less(t, len(filepath.Join(layout.Run, "s"))+1+64, 107)
}

func TestSource(t *testing.T) {
	source, err := Source()
	require.NoError(t, err)
	assert.FileExists(t, filepath.Join(source, "components", "kubernetes", "go.mod"))

	checkout := filepath.Dir(filepath.Dir(filepath.Dir(source)))
	t.Chdir(filepath.Join(checkout, "internal"))
	fromCheckout, err := Source()
	require.NoError(t, err)
	assert.Equal(t, source, fromCheckout)

	elsewhere := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(elsewhere, "go.mod"), []byte("module other\n"), 0o600))
	t.Chdir(elsewhere)
	_, err = Source()
	assert.ErrorIs(t, err, ErrNoSource)
}
