package cli

import (
	"context"
	"errors"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/logs"
	"github.com/redisctl/redisctl/internal/render"
)

type logsOptions struct {
	container, since, grep string
	tail                   int64
	follow, previous       bool
}

func (a *app) newLogsCommand() *cobra.Command {
	o := logsOptions{tail: -1}
	cmd := &cobra.Command{
		Use:   "logs",
		Short: "Show what all pods print, by time",
		Long: `Reads the logs of all pods of a release at once, or of --pod, and shows them in the
order of time, each line with its pod. Lines that an operator should read (what Redis
prints at level # but for its greetings, failed saves, OOM, MISCONF, crash reports) stand
out. Secrets in lines are masked.

With --follow it goes on until Ctrl-C, also with the next container when one ends, with
the next pod of that name, and with pods that are added. When the reader of the output
goes away, it just ends.

Exit code 3 when the logs of some pods could not be read; 2 for a container that does
not exist.`,
		Example: `  redisctl logs -n redis-prod --since 10m
  redisctl logs -n redis-prod --follow --tail 20
  redisctl logs -n redis-prod --pod cache-redis-1 --previous
  redisctl logs -n redis-prod --grep 'MISCONF|OOM' -o json
  redisctl logs -n redis-prod --container metrics --tail 50`,
		Args: noArgs,
		RunE: runWith(a, &o, a.runLogs),
	}
	f := cmd.Flags()
	f.StringVarP(&o.container, "container", "c", "", "container (default the one that runs Redis)")
	f.StringVar(&o.since, "since", "", "no older lines: a duration such as 10m, or a time (RFC 3339)")
	f.Int64Var(&o.tail, "tail", o.tail, "only the last lines of each pod (-1: all)")
	f.BoolVarP(&o.follow, "follow", "f", false, "go on until Ctrl-C, through restarts of pods")
	f.BoolVar(&o.previous, "previous", false, "of the container before the last restart")
	f.StringVar(&o.grep, "grep", "", "only lines that match this regular expression")
	mustComplete(cmd, "container", a.complete(a.containerNames))
	mustComplete(cmd, "since", cobra.FixedCompletions([]string{"5m", "15m", "1h", "24h"}, cobra.ShellCompDirectiveNoFileComp))
	mustComplete(cmd, "tail", cobra.FixedCompletions([]string{"20", "100", "1000"}, cobra.ShellCompDirectiveNoFileComp))
	mustComplete(cmd, "grep", cobra.NoFileCompletions)
	return cmd
}

func (a *app) containerNames(ctx context.Context, b *backend) ([]string, error) {
	d, err := b.Resolver.Resolve(ctx, a.globals.target)
	if err != nil || b.Forwards == nil {
		return nil, err
	}
	return b.Forwards.ContainerNames(ctx, d)
}

func (a *app) runLogs(ctx context.Context, o logsOptions, _ []string) error {
	if err := a.needsCluster("look where the server logs to: redisctl info config logfile"); err != nil {
		return err
	}
	options := logs.Options{Container: o.container, Tail: o.tail, Follow: o.follow, Previous: o.previous}
	var err error
	if options.Since, err = logs.ParseSince(o.since, a.system.Now()); err != nil {
		return operation.Errorf(operation.Usage, "%w", err)
	}
	if o.follow && o.previous {
		return operation.Errorf(operation.Usage, "--previous has ended: it cannot be combined with --follow")
	}
	if o.grep != "" {
		if options.Match, err = regexp.Compile(o.grep); err != nil {
			return operation.Errorf(operation.Usage, "--grep: %w", err)
		}
	}
	return a.inspectAll(ctx, func(ctx context.Context, b *backend, d *operation.Deployment) error {
		// Masking is worth a try; reading logs needs no permission to read Secrets.
		options.Password, _ = b.Password(ctx, d)
		reporter, done := a.narrator()
		defer done()
		if a.globals.target.Pod == "" {
			options.Discover, options.Pods = logsDiscovery, a.presentPods(b)
		}
		return endOfPipe(logs.Run(ctx, b.LogStreams, d, options, reporter, a.logViewer(d)))
	})
}

// logsDiscovery is how often is looked for new pods while logs are followed.
const logsDiscovery = 2 * time.Second

// presentPods returns what looks up the names of the release's pods.
func (a *app) presentPods(b *backend) func(context.Context) ([]string, error) {
	return func(ctx context.Context) ([]string, error) {
		d, err := b.Resolver.Resolve(ctx, a.globals.target)
		if err != nil {
			return nil, err
		}
		names := make([]string, len(d.Instances))
		for n, i := range d.Instances {
			names[n] = i.Name
		}
		return names, nil
	}
}

// logViewer returns what shows a line.
func (a *app) logViewer(d *operation.Deployment) func(logs.Line) error {
	signal.Ignore(syscall.SIGPIPE) // a write that fails says it, too
	if !a.globals.format.ForPeople() {
		return func(l logs.Line) error {
			return a.printSeries(render.Document{Value: l, Names: []string{l.Pod}})
		}
	}
	stream := render.NewStream(a.system.Out, render.Look{Color: a.color(a.system.OutTerminal), Width: a.system.OutWidth})
	width := 0
	style := make(map[string]render.Style)
	for n, i := range d.Instances {
		style[i.Name] = render.Hue(n)
		width = max(width, len(i.Name))
	}
	return func(l logs.Line) error {
		if _, known := style[l.Pod]; !known { // it was added since
			style[l.Pod] = render.Hue(len(style))
			width = max(width, len(l.Pod))
		}
		text := render.Cell{Text: l.Text}
		switch l.Level {
		case logs.Error:
			text.Style = render.Bad
		case logs.Warning:
			text.Style = render.Warn
		}
		return stream.Line(render.Cell{Text: l.Pod + strings.Repeat(" ", width-len(l.Pod)) + " |", Style: style[l.Pod]}, text)
	}
}

// endOfPipe makes a clean end of a reader that has gone away (| head).
func endOfPipe(err error) error {
	if errors.Is(err, syscall.EPIPE) {
		return nil
	}
	return err
}
