package cli

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation/access"
)

// A command without an entry in the table of permissions would run unchecked, and `rbac
// --all` would leave out what it needs.
func TestEveryCommandHasItsPermissions(t *testing.T) {
	var commands []string
	eachCommand(func(cmd *cobra.Command) {
		if cmd.HasSubCommands() && cmd.Name() != "health" && cmd.Name() != "info" && cmd.Name() != "latency" || cmd.Name() == "redisctl" {
			return
		}
		_, command, _ := strings.Cut(cmd.CommandPath(), " ")
		commands = append(commands, command)
		_, ok := access.Of(command)
		assert.True(t, ok, "%s has no entry in internal/operation/access/table.go", command)
	})
	for _, command := range access.Commands() {
		assert.Contains(t, commands, command, "the table has an entry for a command that is not there")
	}
}

// Each old target, as a runbook would call it, ends in a command that exists.
func TestRedisMakefile(t *testing.T) {
	makefile, err := filepath.Abs(filepath.Join("..", "..", "docs", "redis.mk"))
	require.NoError(t, err)
	text, err := os.ReadFile(makefile)
	require.NoError(t, err)
	folder := t.TempDir()
	stub := "#!/bin/sh\nfor a in \"$@\"; do printf '%s\\n' \"$a\"; done\n"
	require.NoError(t, os.WriteFile(filepath.Join(folder, "redisctl"), []byte(stub), 0o700)) //nolint:gosec // a program
	trap := filepath.Join(folder, "trap")
	hostile := "$(shell touch " + trap + ") `touch " + trap + "` ; touch " + trap
	run := func(t *testing.T, target string, variables ...string) []string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "make", append([]string{"-s", "-f", makefile, target}, variables...)...)
		cmd.Env = []string{"PATH=" + folder + ":" + os.Getenv("PATH")}
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return strings.Split(strings.TrimSpace(string(out)), "\n")
	}
	table, err := os.ReadFile(filepath.Join("testdata", "redis-mk.txt"))
	require.NoError(t, err)
	wanted := map[string][]string{}
	for line := range strings.Lines(string(table)) {
		if words := strings.Fields(line); words[0] != "#" {
			wanted[words[0]] = words[1:]
		}
	}
	var found []string
	for _, m := range regexp.MustCompile(`(?m)^\$\(call target,([a-z0-9-]+),`).FindAllStringSubmatch(string(text), -1) {
		found = append(found, m[1])
	}
	assert.ElementsMatch(t, slices.Collect(maps.Keys(wanted)), found, "the targets of the old Makefile, and the names that only its guides used")
	for target, words := range wanted {
		t.Run(target, func(t *testing.T) {
			args := run(t, "redis-"+target, "NAMESPACE=redis-prod", "RELEASE=cache", "POD=cache-redis-1", "PARAM=maxmemory", "PATTERN=cart:*",
				"BACKUP_DIR=/backups", "BACKUP_FILE=dump.rdb", "SNAPSHOT_NAME=snapshot", "CMD=GET k", "VERSION=8.0.2", "REVISION=3")
			assert.Equal(t, words, args)
			root := newApp(System{}).newRootCommand()
			cmd, rest, err := root.Find(args)
			require.NoError(t, err, "%s", args)
			assert.True(t, cmd.Runnable() && cmd != root, "%s", args)
			require.NoError(t, cmd.ParseFlags(rest), "%s", args)
			require.NoError(t, cmd.ValidateArgs(cmd.Flags().Args()), "%s", args)
		})
	}
	for _, target := range []string{"config-get", "role", "resync-replica", "disaster-recovery", "restore-from-pvc-snapshot", "cli"} {
		cmd := exec.CommandContext(t.Context(), "make", "-s", "-f", makefile, "redis-"+target)
		cmd.Env = []string{"PATH=" + folder + ":" + os.Getenv("PATH")}
		out, err := cmd.CombinedOutput()
		require.Error(t, err, target)
		assert.Contains(t, string(out), "make redis-"+target+" needs ")
	}
	for _, c := range []struct{ target, variable, want string }{
		{"keys", "pattern=a folder", "a folder"}, {"config-get", "p=max*", "max*"}, {"restore-rdb", "FILE=/a folder/x", "/a folder/x"},
		{"pre-upgrade-check", "TO=8.0.2", "8.0.2"}, {"cli", "CMD=GET " + hostile, "GET"},
	} {
		assert.Contains(t, run(t, "redis-"+c.target, c.variable), c.want, c.target)
	}
	assert.NoFileExists(t, trap, "what a variable holds was executed")
	assert.Equal(t, []string{"backup", "rdb", "--pod", "p", "--backup-dir", "/a folder"}, run(t, "redis-backup-rdb", "POD=p", "BACKUP_DIR=/a folder"))
	assert.Equal(t, []string{"restore", "rdb", "latest"}, run(t, "redis-restore-rdb"))
}
