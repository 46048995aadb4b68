package cli

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// toCopy is a command behind a term.
var toCopy = regexp.MustCompile(`^  \w+: +`)

// TestHelpFits: at every width --help says the same words, no line is too long where it
// can be broken, and what is to be copied stays whole.
func TestHelpFits(t *testing.T) {
	help := func(width int, words []string) string {
		var out, problems bytes.Buffer
		a := newApp(System{
			Out: &out, Err: &problems, OutWidth: width, Now: time.Now, LookupEnv: func(string) (string, bool) { return "", false },
		})
		require.Zero(t, a.execute(t.Context(), append(words, "--help")), "%v: %s", words, problems.String())
		return out.String()
	}
	eachCommand(func(cmd *cobra.Command) {
		words := strings.Fields(cmd.CommandPath())[1:]
		whole := help(0, words)
		for _, width := range []int{40, 80, 200} {
			fitted := help(width, words)
			assert.Equal(t, strings.Fields(whole), strings.Fields(fitted), "%s at %d columns", cmd.CommandPath(), width)
			assert.Contains(t, fitted, strings.TrimRight(cmd.Example, "\n"), "the examples of %s at %d columns", cmd.CommandPath(), width)
			section := ""
			for line := range strings.Lines(fitted) {
				line = strings.TrimRight(line, "\n")
				if strings.HasSuffix(line, ":") && !strings.HasPrefix(line, " ") {
					section = line
				}
				if toCopy.MatchString(line) {
					continue
				}
				breakable := section != "Usage:" && section != "Examples:" && strings.Contains(strings.TrimSpace(line), " ")
				assert.False(t, breakable && utf8.RuneCountInString(line) > width, "%s at %d columns: %q", cmd.CommandPath(), width, line)
			}
		}
	})
}
