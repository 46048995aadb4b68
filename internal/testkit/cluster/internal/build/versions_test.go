package build

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/modfile"

	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/paths"
)

// The large components are built from the same versions of what they share, or
// a third of the packages is compiled more than once (see the package comment).
func TestLargeComponentsShareVersions(t *testing.T) {
	source, err := paths.Source()
	require.NoError(t, err)
	type use struct{ version, by string }
	seen := map[string]use{}
	for _, component := range []string{"kubernetes", "containerd", "etcd", "coredns", "helm"} {
		file := filepath.Join(source, "components", component, "go.mod")
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		mod, err := modfile.Parse(file, text, nil)
		require.NoError(t, err)
		replaced := map[string]string{}
		for _, r := range mod.Replace {
			replaced[r.Old.Path] = r.New.Version
		}
		for _, r := range mod.Require {
			version := r.Mod.Version
			if v, ok := replaced[r.Mod.Path]; ok {
				version = v
			}
			if first, ok := seen[r.Mod.Path]; ok {
				assert.Equal(t, first.version, version, "%s in %s and %s", r.Mod.Path, first.by, component)
				continue
			}
			seen[r.Mod.Path] = use{version, component}
		}
	}
}
