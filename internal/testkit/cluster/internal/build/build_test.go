package build

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/paths"
)

func write(t *testing.T, file, text string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
}

func TestDigestFollowsWhatIsBuilt(t *testing.T) {
	source := t.TempDir()
	module := filepath.Join(source, "components/x")
	write(t, filepath.Join(module, "go.mod"), "module x")
	write(t, filepath.Join(module, "main.go"), "package main")
	write(t, filepath.Join(module, "sub/a.go"), "package sub")
	component := Component{Name: "x", Dir: "components/x", Programs: map[string]string{"x": "."}}
	digest := func(c Component) string {
		d, err := c.Digest(source)
		require.NoError(t, err)
		return d
	}
	first := digest(component)

	write(t, filepath.Join(module, "main_test.go"), "package main")
	write(t, filepath.Join(module, "README"), "x")
	assert.Equal(t, first, digest(component), "tests and texts do not change the program")

	tagged := component
	tagged.Tags = "seccomp"
	assert.NotEqual(t, first, digest(tagged))
	for _, file := range []string{"go.mod", "main.go", "sub/a.go"} {
		before := digest(component)
		write(t, filepath.Join(module, file), "changed")
		assert.NotEqual(t, before, digest(component), file)
	}
}

// The driver's own sources must not decide over programs that do not use them.
func TestDigestInTheDriversModule(t *testing.T) {
	source := t.TempDir()
	write(t, filepath.Join(source, "containers/pause/main.go"), "package main")
	write(t, filepath.Join(source, "main.go"), "package main")
	component := Component{Name: "c", Dir: ".", Programs: map[string]string{"pause": "./containers/pause"}}
	first, err := component.Digest(source)
	require.NoError(t, err)
	write(t, filepath.Join(source, "main.go"), "package main // changed")
	second, err := component.Digest(source)
	require.NoError(t, err)
	assert.Equal(t, first, second)
}

func TestBuildInstallsOnceAndAgainWhenTheSourceChanges(t *testing.T) {
	cache, source := t.TempDir(), t.TempDir()
	write(t, filepath.Join(source, "go.mod"), "module example.org/x\n\ngo 1.26\n")
	write(t, filepath.Join(source, "main.go"), "package main\n\nfunc main() {}\n")
	var lines []string
	b := Builder{
		Layout: paths.Layout{Cache: cache}, Source: source,
		Report: func(format string, _ ...any) { lines = append(lines, format) },
	}
	component := Component{Name: "x", Dir: ".", Programs: map[string]string{"x": "."}, Links: map[string]string{"y": "x"}}
	require.NoError(t, os.MkdirAll(b.Layout.Bin(), 0o755))
	require.NoError(t, os.MkdirAll(b.Layout.Stamps(), 0o755))
	built := func() bool {
		digest, err := component.Digest(source)
		require.NoError(t, err)
		return b.built(component, digest)
	}
	assert.False(t, built())
	require.NoError(t, b.buildOne(t.Context(), component))
	assert.True(t, built())
	target, err := os.Readlink(b.Layout.Program("y"))
	require.NoError(t, err)
	assert.Equal(t, "x", target)
	assert.Equal(t, []string{"%s: compiling", "%s: done after %s"}, lines)

	require.NoError(t, os.Remove(b.Layout.Program("y")))
	assert.False(t, built(), "a missing program")
	require.NoError(t, b.buildOne(t.Context(), component))
	write(t, filepath.Join(source, "main.go"), "package main\n\nfunc main() { panic(1) }\n")
	assert.False(t, built(), "another source")
	write(t, filepath.Join(source, "main.go"), "package main\n\nfunc main() { undefined() }\n")
	err = b.buildOne(t.Context(), component)
	assert.ErrorContains(t, err, "undefined")
	assert.False(t, built())
}

func TestComponentsAreComplete(t *testing.T) {
	source, err := paths.Source()
	require.NoError(t, err)
	names := map[string]bool{}
	for _, c := range Components() {
		assert.FileExists(t, filepath.Join(source, c.Dir, "go.mod"), c.Name)
		assert.NotEmpty(t, c.Programs, c.Name)
		for name, pkg := range c.Programs {
			assert.False(t, names[name], "%s is built twice", name)
			names[name] = true
			if strings.Contains(pkg, ".") && !strings.HasPrefix(pkg, ".") {
				mod, err := os.ReadFile(filepath.Join(source, c.Dir, "go.mod"))
				require.NoError(t, err)
				assert.Contains(t, string(mod), pkg, "a tool of its module")
			}
		}
		for link, program := range c.Links {
			assert.False(t, names[link], "%s is built twice", link)
			names[link] = true
			assert.Contains(t, c.Programs, program)
		}
	}
}
