package cli

import (
	"io"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
)

// pluginFile is the name under which kubectl finds a plugin for `kubectl redis`.
const (
	pluginFile = "kubectl-redis"
	pluginName = "kubectl redis"
	program    = "redisctl"
)

// programName returns how the user calls the executable of this name.
func programName(executable string) string {
	if strings.TrimSuffix(filepath.Base(executable), ".exe") == pluginFile {
		return pluginName
	}
	return program
}

// rename makes the texts of a command tree speak of the program as the user calls it.
func rename(root *cobra.Command, name string) {
	if name == "" || name == program {
		return
	}
	root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: name}
	calls := callsOf(root)
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		cmd.Long = calls.ReplaceAllString(cmd.Long, name+"$1")
		cmd.Example = calls.ReplaceAllString(cmd.Example, name+"$1")
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	walk(root)
}

// callsOf matches calls of redisctl in texts: its name, before a command or a flag. It is
// the name of other things, too.
func callsOf(root *cobra.Command) *regexp.Regexp {
	var names []string
	for _, c := range root.Commands() {
		names = append(names, regexp.QuoteMeta(c.Name()))
	}
	return regexp.MustCompile(`\b` + program + `( (?:` + strings.Join(names, "|") + `)\b| --help)`)
}

// spoken returns the writer for texts that people read.
func (a *app) spoken(to io.Writer) io.Writer {
	if a.calls == nil {
		return to
	}
	return renamer{to: to, calls: a.calls, name: a.system.Program}
}

// renamer replaces the program's name in calls. Each is written as a whole.
type renamer struct {
	to    io.Writer
	calls *regexp.Regexp
	name  string
}

func (r renamer) Write(text []byte) (int, error) {
	if _, err := r.to.Write(r.calls.ReplaceAll(text, []byte(r.name+"$1"))); err != nil {
		return 0, err
	}
	return len(text), nil
}

// resultWriter is where results go. What scripts read is written as it is.
func (a *app) resultWriter() io.Writer {
	if a.globals.format.ForPeople() {
		return a.spoken(a.system.Out)
	}
	return a.system.Out
}
