package kube

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The scripts that move a server's files are ended at each of their commands, as when
// the pod or its node goes away, and run again: no file is ever lost, and in the end the
// folder is what it should be.
func TestSwapScripts(t *testing.T) {
	old := map[string]string{"dump.rdb": "old rdb", "appendonlydir/appendonly.aof.manifest": "old manifest", "users.acl": "not ours"}
	placed := map[string]string{
		"appendonlydir/appendonly.aof.1.base.rdb": "new base", "appendonlydir/appendonly.aof.manifest": "new manifest", "users.acl": "not ours",
		"kept/dump.rdb": "old rdb", "kept/appendonlydir/appendonly.aof.manifest": "old manifest", "kept/.complete": "",
	}
	begin := func(t *testing.T) string {
		dir := t.TempDir()
		lay(t, dir, old)
		lay(t, filepath.Join(dir, "staged"), map[string]string{
			"appendonlydir/appendonly.aof.1.base.rdb": "new base", "appendonlydir/appendonly.aof.manifest": "new manifest",
		})
		return dir
	}
	for ended := 1; ; ended++ {
		dir := begin(t)
		done := runInterrupted(t, dir, swapScript, ended)
		if !done {
			undone := t.TempDir()
			require.NoError(t, os.CopyFS(undone, os.DirFS(dir)))
			require.True(t, runInterrupted(t, undone, undoScript, 0))
			assert.Equal(t, old, filesIn(t, undone), "undone after command %d", ended)
			require.True(t, runInterrupted(t, dir, swapScript, 0))
		}
		require.Equal(t, placed, filesIn(t, dir), "after command %d", ended)
		if done {
			assert.Greater(t, ended, 5, "the script was interrupted")
			break
		}
	}
	for ended := 1; ; ended++ {
		dir := begin(t)
		require.True(t, runInterrupted(t, dir, swapScript, 0))
		done := runInterrupted(t, dir, undoScript, ended)
		if !done {
			require.True(t, runInterrupted(t, dir, undoScript, 0))
		}
		require.Equal(t, old, filesIn(t, dir), "after command %d", ended)
		if done {
			break
		}
	}
}

// runInterrupted runs a script whose n-th command that changes something fails; 0 for
// none. It reports whether the script came to its end.
func runInterrupted(t *testing.T, dir, script string, n int) bool {
	t.Helper()
	bin := t.TempDir()
	for _, name := range []string{"mv", "rm", "rmdir", "mkdir", "sync"} {
		program, err := exec.LookPath(name)
		require.NoError(t, err)
		shim := `#!/bin/sh
echo >> ` + bin + `/count
[ "$(wc -l < ` + bin + `/count)" -ne ` + strconv.Itoa(n) + ` ] || exit 1
` + "[ " + name + " = sync ] || exec " + program + ` "$@"
`
		require.NoError(t, os.WriteFile(filepath.Join(bin, name), []byte(shim), 0o700))
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", script, "sh", dir, "staged", "kept", "dump.rdb", "appendonly.aof", "appendonlydir")
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if n == 0 {
		require.NoError(t, err, "%s", out)
	}
	return err == nil
}

func lay(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		target := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(target), 0o700))
		require.NoError(t, os.WriteFile(target, []byte(text), 0o600))
	}
}

func filesIn(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		found[name] = string(text)
		return err
	}))
	return found
}
