package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/maintenance"
	"github.com/redisctl/redisctl/internal/render"
)

type slowlogOptions struct {
	slowlog maintenance.SlowlogOptions
}

func (a *app) newSlowlogCommand() *cobra.Command {
	var o slowlogOptions
	cmd := &cobra.Command{
		Use:   "slowlog",
		Short: "Show the slow commands of all instances, the newest first",
		Long: `Merges the slow logs of all instances by time. The times are those of execution: a command
that only waited behind a slow one is not among them.

Commands are shown with their keys. Other arguments are masked; --show-values shows them,
but never passwords (AUTH, ACL SETUSER, CONFIG SET of secrets), nor arguments of commands
that redisctl does not know. --reset empties the logs after they were read.

Exit code 3 when some instances do not answer.`,
		Example: `  redisctl maintenance slowlog -n redis-prod
  redisctl maintenance slowlog --limit 0 -o json
  redisctl maintenance slowlog --reset`,
		Args: noArgs,
	}
	f := cmd.Flags()
	f.IntVar(&o.slowlog.Limit, "limit", 25, "how many entries, of all instances together (0: all)")
	f.BoolVar(&o.slowlog.ShowValues, "show-values", false, "show arguments that are not keys, too, except secrets")
	f.BoolVar(&o.slowlog.Reset, "reset", false, "empty the slow logs after reading them")
	noCompletion(cmd, "limit")
	cmd.RunE = runWith(a, &o, func(ctx context.Context, o slowlogOptions, _ []string) error {
		if o.slowlog.Limit < 0 {
			return operation.Errorf(operation.Usage, "--limit %d: it cannot be negative", o.slowlog.Limit)
		}
		return a.inspectAll(ctx, func(ctx context.Context, b *backend, d *operation.Deployment) error {
			log, failed := a.maintenance(b, operation.DiscardReporter{}).Slowlog(ctx, d, o.slowlog)
			if err := a.print(slowlogDocument(log)); err != nil {
				return err
			}
			return failed
		})
	})
	return cmd
}

func slowlogDocument(l maintenance.Slowlog) render.Document {
	doc := render.Document{Value: l}
	t := render.Table{Columns: []render.Column{
		{Title: "TIME"}, {Title: "TOOK", Right: true}, {Title: "INSTANCE"}, {Title: "COMMAND"}, {Title: "CLIENT", Wide: true}, {Title: "NAMED", Wide: true},
	}, Empty: "No slow commands."}
	for _, e := range l.Entries {
		t.Rows = append(t.Rows, []render.Cell{
			{Text: e.Time.Format(time.RFC3339), Style: render.Dim}, {Text: milliseconds(e.Microseconds), Style: render.Strong},
			render.T(e.Instance), render.T(e.Command), render.T(e.Client), render.T(e.Named),
		})
	}
	var remarks []string
	silent := 0
	for _, i := range l.Instances {
		if i.Error != "" {
			silent++
		}
		doc.Names = append(doc.Names, i.Name)
		remarks = append(remarks, slowlogRemark(i))
	}
	if silent == len(l.Instances) {
		t.Empty = noAnswers
	}
	doc.Blocks = []render.Block{t, notesList(render.Dim, remarks...)}
	return doc
}

// slowlogRemark says what an instance notes, and what became of it.
func slowlogRemark(i maintenance.InstanceSlowlog) string {
	if i.Error != "" {
		return i.Name + ": " + i.Error
	}
	text := fmt.Sprintf("%s: %d entries", i.Name, i.Length)
	switch t := i.ThresholdMicroseconds; {
	case t == nil:
	case *t < 0:
		text += ", notes nothing (slowlog-log-slower-than -1)"
	default:
		text += fmt.Sprintf(", notes what takes %s", milliseconds(*t))
	}
	if i.Reset {
		text += "; now empty"
	}
	return text
}
