package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/maintenance"
	"github.com/redisctl/redisctl/internal/rdb/rdbdiff"
	"github.com/redisctl/redisctl/internal/render"
)

type execOptions struct {
	db      int
	allPods bool
	yes     bool
}

func (a *app) newExecCommand() *cobra.Command {
	var o execOptions
	cmd := &cobra.Command{
		Use:   "exec -- COMMAND [ARGUMENT...]",
		Short: "Run one command on the primary, on one pod, or on all",
		Long: `Runs one Redis command and prints the reply: as redis-cli does for people, in its own types
with -o json. It goes to the observed primary, wherever that is now, or to --pod, or with
--all-pods to every instance, which is for commands that do not write: what the server
marks as writing is refused, and scripts (EVAL, FCALL), which it does not mark.

Commands that can lose data, stop the server or change its configuration are refused
without --yes, with what to use instead; those that never end (MONITOR, SUBSCRIBE, BLPOP
with no time limit) or need a connection of their own (MULTI, SELECT) altogether. They are
listed in docs/maintenance.md. Names that rename-command gave are found by themselves.

An error reply is exit code 1, missing credentials or permissions 8; a command that takes
longer than --timeout goes on in the server. Arguments are visible to other users of this
machine, and end in your shell's history: no secrets.`,
		Example: `  redisctl maintenance exec -n redis-prod -- GET user:1
  redisctl maintenance exec --all-pods -- CONFIG GET maxmemory
  redisctl maintenance exec --yes -- CONFIG SET maxmemory 1gb`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return operation.Errorf(operation.Usage, "%s needs a command: exec -- GET user:1", cmd.CommandPath())
			}
			return nil
		},
		ValidArgsFunction: a.completeCommands,
	}
	f := cmd.Flags()
	f.SetInterspersed(false) // -1 and the like are the command's
	f.IntVar(&o.db, "db", 0, "database")
	f.BoolVar(&o.allPods, "all-pods", false, "run it on every instance; only for commands that do not write")
	f.BoolVarP(&o.yes, "yes", "y", false, "run it although it can do harm")
	mustComplete(cmd, "db", completeDBs)
	cmd.RunE = runWith(a, &o, func(ctx context.Context, o execOptions, args []string) error {
		if o.db < 0 {
			return operation.Errorf(operation.Usage, "--db %d: it cannot be negative", o.db)
		}
		if o.allPods {
			return a.execAll(ctx, o, args)
		}
		return a.execOne(ctx, o, args)
	})
	return cmd
}

// completeCommands completes the command and, where it is a container as CONFIG is, what
// stands behind it, as the server knows them.
func (a *app) completeCommands(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 1 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	words, directive := a.complete(func(ctx context.Context, b *backend) ([]string, error) {
		d, err := a.resolve(ctx, b)
		if err != nil {
			return nil, err
		}
		m := a.maintenance(b, operation.DiscardReporter{})
		i, err := m.Choose(ctx, d, a.globals.target.Pod)
		if err != nil {
			return nil, err
		}
		return m.Commands(ctx, d, *i)
	})(cmd, args, word)
	var fitting []string
	for _, name := range words {
		container, sub, isSub := strings.Cut(name, " ")
		switch {
		case len(args) == 0 && !isSub:
			fitting = append(fitting, typed(name, word))
		case len(args) == 1 && isSub && strings.EqualFold(container, args[0]):
			fitting = append(fitting, typed(sub, word))
		}
	}
	return fitting, directive
}

// typed is a command's name in the case in which the user began it: shells compare both.
func typed(name, word string) string {
	if word != "" && word == strings.ToLower(word) {
		return strings.ToLower(name)
	}
	return name
}

func (a *app) execOne(ctx context.Context, o execOptions, command maintenance.Command) error {
	if err := maintenance.Refuse("", command, o.yes); err != nil {
		return err
	}
	return a.onOne(ctx, func(ctx context.Context, c chosen) error {
		command := maintenance.Canonical(command, c.d.Config.Renames())
		if err := maintenance.Refuse(c.d.String(), command, o.yes); err != nil {
			return err
		}
		x, err := c.m.Execute(ctx, c.d, c.i, o.db, command)
		c.done()
		if err != nil {
			return withNext(err, execAdvice(x))
		}
		return a.print(execDocument(x))
	})
}

// execAdvice says what to do about an error, "" when only that can be said that holds for
// other commands, too.
func execAdvice(x maintenance.Executed) string {
	var refusal interface{ Code() string }
	switch err := x.Err; {
	case errors.Is(err, operation.ErrNoCommand):
		return "the server does not know it: mistyped, too new for its version, or disabled by rename-command"
	case errors.As(err, &refusal) && refusal.Code() == "READONLY":
		return "leave --pod out: writes go to the primary"
	case x.Sent && operation.KindOf(err) == operation.TimedOut:
		return "it may still run in the server: redisctl maintenance slowlog; or a longer --timeout"
	default:
		return ""
	}
}

func execDocument(x maintenance.Executed) render.Document {
	return render.Document{Value: x, Names: []string{x.Instance}, Blocks: []render.Block{render.Verbatim(replyText(*x.Reply))}}
}

// executedAll is the result of `maintenance exec --all-pods`.
type executedAll struct {
	Namespace string                 `json:"namespace,omitempty"`
	Release   string                 `json:"release,omitempty"`
	Name      string                 `json:"name"`
	Instances []maintenance.Executed `json:"instances"`
}

func (a *app) execAll(ctx context.Context, o execOptions, command maintenance.Command) error {
	if a.globals.target.Pod != "" {
		return operation.Errorf(operation.Usage, "choose --pod or --all-pods")
	}
	b, d, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	command = maintenance.Canonical(command, d.Config.Renames())
	if err := maintenance.Refuse(d.String(), command, o.yes); err != nil {
		return err
	}
	m := a.maintenance(b, operation.DiscardReporter{})
	if err := m.RefuseEverywhere(ctx, d, command); err != nil {
		return a.advised(d, err)
	}
	result := executedAll{Namespace: d.Namespace, Release: d.Release, Name: d.Name, Instances: make([]maintenance.Executed, len(d.Instances))}
	forEach(ctx, len(d.Instances), maxParallel, func(n int) {
		result.Instances[n], _ = m.Execute(ctx, d, d.Instances[n], o.db, command) // it has the error
	})
	if err := a.print(executedDocument(result)); err != nil {
		return err
	}
	var failures []error
	for _, x := range result.Instances {
		if x.Err != nil {
			failures = append(failures, x.Err)
		}
	}
	if len(failures) == 0 {
		return nil
	}
	return outcome(combined(len(d.Instances)-len(failures), failures), "%d of %d instances failed", len(failures), len(d.Instances))
}

func executedDocument(r executedAll) render.Document {
	doc := render.Document{Value: r}
	for _, x := range r.Instances {
		doc.Names = append(doc.Names, x.Instance)
		if x.Err != nil {
			doc.Blocks = append(doc.Blocks, prose(x.Instance, "", x.Error))
			continue
		}
		doc.Blocks = append(doc.Blocks, render.Text{Text: x.Instance, Style: render.Strong}, render.Verbatim(replyText(*x.Reply)))
	}
	return doc
}

// replyText shows a reply as redis-cli does in a terminal. A status that is text of many
// lines, such as INFO, is shown as it is.
func replyText(r maintenance.Reply) string {
	if r.Kind == maintenance.Bulk && isText(r.Text) {
		return strings.TrimRight(strings.ReplaceAll(r.Text, "\r\n", "\n"), "\n")
	}
	return replyLines(r, "")
}

// isText recognises what the server writes for people: INFO, CLIENT LIST, MEMORY DOCTOR.
func isText(text string) bool {
	return strings.HasSuffix(text, "\n") && !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\n' && r != '\r' && r != '\t' })
}

func replyLines(r maintenance.Reply, indent string) string {
	switch r.Kind {
	case maintenance.Integer:
		return fmt.Sprintf("(integer) %d", r.Int)
	case maintenance.Status:
		return r.Text
	case maintenance.ErrorReply:
		return "(error) " + r.Text
	case maintenance.Bulk:
		return `"` + rdbdiff.Escape([]byte(r.Text)) + `"`
	case maintenance.Array:
		return arrayLines(r.Items, indent)
	default:
		return "(nil)"
	}
}

func arrayLines(items []maintenance.Reply, indent string) string {
	if len(items) == 0 {
		return "(empty array)"
	}
	width := len(strconv.Itoa(len(items)))
	lines := make([]string, len(items))
	for i, item := range items {
		number := fmt.Sprintf("%*d) ", width, i+1)
		line := number + replyLines(item, indent+strings.Repeat(" ", len(number)))
		if i > 0 {
			line = indent + line
		}
		lines[i] = line
	}
	return strings.Join(lines, "\n")
}
