package storage_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/redisctl/redisctl/internal/storage"
)

func TestCheckName(t *testing.T) {
	for _, name := range []string{"a", "a/b", "redis-prod/redis/rdb-20261123T090501Z.rdb", "..a", "a..", "...", "ü/ö"} {
		assert.NoError(t, storage.CheckName(name), "%q", name)
		assert.NoError(t, storage.CheckPrefix(name), "%q", name)
	}
	for _, name := range []string{".", "..", "../a", "a/..", "/a", "a/", "a//b", "a\x00", `a\b`, "\x1b[31m", "\u0085", "\xff", strings.Repeat("a", 1025)} {
		require.ErrorIs(t, storage.CheckName(name), storage.ErrInvalidName, "%q", name)
		require.ErrorIs(t, storage.CheckPrefix(name), storage.ErrInvalidName, "%q", name)
	}
	require.ErrorIs(t, storage.CheckName(""), storage.ErrInvalidName)
	require.NoError(t, storage.CheckPrefix(""))
}

// Whatever CheckName admits stays below the folder that it is joined to.
func TestCheckNameIsLocal(t *testing.T) {
	piece := rapid.SampledFrom([]string{"a", "..", ".", "/", "\\", "", "\x00", "ü", "b.rdb", " "})
	rapid.Check(t, func(t *rapid.T) {
		name := strings.Join(rapid.SliceOfN(piece, 0, 8).Draw(t, "pieces"), "")
		if storage.CheckName(name) != nil {
			return
		}
		require.True(t, filepath.IsLocal(name))
		require.True(t, strings.HasPrefix(filepath.Join("root", name), "root"+string(filepath.Separator)))
		require.NotContains(t, name, "\x00")
	})
}
