package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation/access"
)

// What somebody types at night from a runbook is a command, with flags, that exists.
func TestRunbooks(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join("..", "..", "docs", "runbooks", "*.md"))
	require.NoError(t, err)
	require.NotEmpty(t, pages)
	for _, page := range pages {
		t.Run(filepath.Base(page), func(t *testing.T) {
			text, err := os.ReadFile(page) //nolint:gosec // a page of this repository
			require.NoError(t, err)
			commands := runbookCommands(string(text))
			if filepath.Base(page) != "README.md" {
				assert.NotEmpty(t, commands, "a page without a command")
			}
			for _, line := range commands {
				assertCommandExists(t, line)
			}
		})
	}
}

func TestRunbooksCommands(t *testing.T) {
	page := "redisctl outside a fence\n```console\n$ redisctl health -n a | head\nredisctl is not there\n```\n" +
		"```sh\nredisctl backup list \\\n    -n b > list.txt\n  redisctl indented\nredisctl health   # why\n" +
		"redisctl logs --grep 'No space | OOM' > lines.txt\n```\n"
	assert.Equal(t, []string{"health -n a", "is not there", "backup list -n b", "health", "logs --grep No_space_|_OOM"}, runbookCommands(page))
}

// runbookCommands returns what follows the word redisctl in the lines of a page's fenced
// blocks that begin with it: continuation lines are joined, and what the shell does with the
// output, and comments, are cut off. A quoted argument comes without its quotes, as one word.
func runbookCommands(page string) []string {
	end := regexp.MustCompile(`\s+(\||[0-9]?>|<|&&|;|#)(\s.*|$)`)
	quoted := regexp.MustCompile(`'[^']*'|"[^"]*"`)
	var commands []string
	fenced := false
	for line := range strings.Lines(strings.ReplaceAll(page, "\\\n", " ")) {
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
			continue
		}
		command, ok := strings.CutPrefix(strings.TrimPrefix(line, "$ "), "redisctl ")
		if !fenced || !ok {
			continue
		}
		command = quoted.ReplaceAllStringFunc(strings.TrimSpace(command), func(word string) string {
			return strings.ReplaceAll(word[1:len(word)-1], " ", "_")
		})
		commands = append(commands, strings.Join(strings.Fields(end.ReplaceAllString(command, "")), " "))
	}
	return commands
}

// assertCommandExists resolves a command line against the tree: the command can be run, its
// flags parse, and the number of arguments is one that it takes.
func assertCommandExists(t *testing.T, line string) {
	t.Helper()
	args := strings.Fields(line)
	root := newApp(System{}).newRootCommand()
	cmd, rest, err := root.Find(args)
	if !assert.NoError(t, err, "redisctl %s", line) ||
		!assert.True(t, cmd.Runnable() && !isGroup(cmd), "redisctl %s: no such command", line) ||
		!assert.NoError(t, cmd.ParseFlags(rest), "redisctl %s", line) {
		return
	}
	if cmd.Args != nil {
		assert.NoError(t, cmd.Args(cmd, cmd.Flags().Args()), "redisctl %s", line)
	}
}

// isGroup reports whether cmd only holds other commands: those have no permissions of their
// own. cobra resolves a misspelt subcommand to its group.
func isGroup(cmd *cobra.Command) bool {
	_, path, _ := strings.Cut(cmd.CommandPath(), " ")
	_, ok := access.Of(path)
	return !ok
}
