package atomicfile

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWrite(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sub", "config")
	require.NoError(t, Write(file, []byte("one"), 0o600))
	info, err := os.Stat(file)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	old := time.Now().Add(-time.Hour).Truncate(time.Second)
	require.NoError(t, os.Chtimes(file, old, old))
	require.NoError(t, Write(file, []byte("one"), 0o600))
	info, err = os.Stat(file)
	require.NoError(t, err)
	assert.True(t, info.ModTime().Equal(old), "the same content is not written again")

	require.NoError(t, Write(file, []byte("two"), 0o600))
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, "two", string(text))
	left, err := os.ReadDir(filepath.Dir(file))
	require.NoError(t, err)
	assert.Len(t, left, 1)
}
