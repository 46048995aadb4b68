package platform

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMissing(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	tool, header := filepath.Join(dir, "tool"), filepath.Join(dir, "header.h")
	packages := []Package{
		{Name: "tool", Provides: []string{"tool"}},
		{Name: "header", Provides: []string{header}},
		{Name: "either", Provides: []string{"other", header}},
	}
	assert.Equal(t, []string{"tool", "header", "either"}, Missing(packages))
	require.NoError(t, os.WriteFile(tool, nil, 0o755))
	assert.Equal(t, []string{"header", "either"}, Missing(packages))
	require.NoError(t, os.WriteFile(header, nil, 0o644))
	assert.Empty(t, Missing(packages))
}

func TestInstallWithoutAPT(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	report := func(string, ...any) { t.Error("nothing to report") }
	assert.NoError(t, Install(t.Context(), nil, report))
	err := Install(t.Context(), []Package{{Name: "tool", Provides: []string{"tool"}}}, report)
	require.ErrorIs(t, err, ErrNoAPT)
	assert.ErrorContains(t, err, "tool", "says what is missing")
}
