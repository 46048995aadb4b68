package cli

import (
	"bufio"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/maintenance"
	"github.com/redisctl/redisctl/internal/render"
)

type monitorOptions struct {
	monitor maintenance.MonitorOptions
}

func (a *app) newMonitorCommand() *cobra.Command {
	var o monitorOptions
	cmd := &cobra.Command{
		Use:   "monitor",
		Short: "Watch the commands that a server carries out, for a short time",
		Long: `Shows the commands that the primary, or --pod, carries out, as they come, until --for is
over, --limit of them were shown, or Ctrl-C, which is no failure. The server sends every
command to whoever watches: that takes a good part of a busy server's throughput.

Commands are shown with their keys. Other arguments are masked; --show-values shows them,
but never passwords (AUTH, ACL SETUSER, CONFIG SET of secrets), nor arguments of commands
that redisctl does not know.`,
		Example: `  redisctl maintenance monitor -n redis-prod
  redisctl maintenance monitor --for 30s --command set,del -o json`,
		Args: noArgs,
	}
	f := cmd.Flags()
	f.DurationVar(&o.monitor.For, "for", 10*time.Second, "how long to watch")
	f.IntVar(&o.monitor.Limit, "limit", 1000, "how many commands to show")
	f.BoolVar(&o.monitor.ShowValues, "show-values", false, "show arguments that are not keys, too, except secrets")
	f.StringSliceVar(&o.monitor.Match, "command", nil, "only these commands (repeatable, or comma-separated)")
	noCompletion(cmd, "for", "limit", "command")
	cmd.RunE = runWith(a, &o, func(ctx context.Context, o monitorOptions, _ []string) error {
		if o.monitor.For <= 0 || o.monitor.Limit < 1 {
			return operation.Errorf(operation.Usage, "--for and --limit must be positive")
		}
		return a.onOne(ctx, func(ctx context.Context, c chosen) error { return a.runMonitor(ctx, c, o.monitor) })
	})
	return cmd
}

func (a *app) runMonitor(ctx context.Context, c chosen, o maintenance.MonitorOptions) error {
	c.reporter.Warn("MONITOR takes a good part of a busy server's throughput; it ends after %s or %d commands", o.For, o.Limit)
	out := bufio.NewWriter(a.system.Out)
	a.system.Out = out
	sum, err := c.m.Monitor(ctx, c.d, c.i, o, func(s maintenance.Seen) error {
		text := fmt.Sprintf("%s db%d %s %s", s.Time.Format("15:04:05.000000"), s.DB, s.Client, s.Command)
		doc := render.Document{Value: s, Names: []string{s.Command}, Blocks: []render.Block{render.Verbatim(text)}}
		if err := a.printSeries(doc); err != nil {
			return err
		}
		return out.Flush()
	})
	if err != nil {
		return err
	}
	why := "the time is over"
	switch {
	case sum.Limited:
		why = "--limit was reached"
	case ctx.Err() != nil:
		why = "interrupted"
	}
	note := fmt.Sprintf("%d commands of %s in %s (%s)", sum.Commands, c.i.Name, sum.Took.Round(time.Millisecond), why)
	if len(o.Match) > 0 {
		note += fmt.Sprintf(", %d of them %s", sum.Shown, strings.ToUpper(strings.Join(o.Match, ", ")))
	}
	c.reporter.Note("%s", note)
	return nil
}
