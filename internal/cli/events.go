package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/events"
	"github.com/redisctl/redisctl/internal/operation/logs"
	"github.com/redisctl/redisctl/internal/render"
)

type eventsOptions struct {
	since           string
	warnings, watch bool
}

func (a *app) newEventsCommand() *cobra.Command {
	var o eventsOptions
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Show what the cluster reports about a release",
		Long: `Shows the events of all objects of a release: pods, workload, claims, Services. Warnings
come first, and of each kind the newest. The cluster forgets events, after an hour by
default.

With --watch it shows the warnings and events to come, until Ctrl-C. Exit code 8 names
the permission that is missing.`,
		Example: `  redisctl events -n redis-prod
  redisctl events -n redis-prod --warnings --since 15m
  redisctl events -n redis-prod --watch`,
		Args: noArgs,
		RunE: runWith(a, &o, a.runEvents),
	}
	cmd.Flags().StringVar(&o.since, "since", "", "no older events: a duration such as 10m, or a time (RFC 3339)")
	cmd.Flags().BoolVar(&o.warnings, "warnings", false, "warnings only")
	cmd.Flags().BoolVarP(&o.watch, "watch", "w", false, "go on until Ctrl-C")
	mustComplete(cmd, "since", cobra.FixedCompletions([]string{"5m", "15m", "1h"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// eventsResult is the result in JSON (docs/json-output.md).
type eventsResult struct {
	Namespace string         `json:"namespace"`
	Release   string         `json:"release"`
	Events    []events.Event `json:"events"`
}

func (a *app) runEvents(ctx context.Context, o eventsOptions, _ []string) error {
	if err := a.needsCluster("redisctl health looks at servers without a cluster"); err != nil {
		return err
	}
	since, err := logs.ParseSince(o.since, a.system.Now())
	if err != nil {
		return operation.Errorf(operation.Usage, "%w", err)
	}
	b, d, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	wanted := func(e events.Event) bool {
		about := strings.HasSuffix(e.Object, "/"+a.globals.target.Pod) || a.globals.target.Pod == ""
		return about && (e.Warning || !o.warnings)
	}
	list, err := b.Events.Events(ctx, d)
	if err != nil {
		return err
	}
	r := eventsResult{Namespace: d.Namespace, Release: d.Release}
	for _, e := range events.Since(list, since) {
		if wanted(e) {
			r.Events = append(r.Events, e)
		}
	}
	events.Sort(r.Events)
	if !o.watch {
		return a.print(render.Document{Value: r, Names: objectsOf(r.Events), Blocks: []render.Block{eventTable(r.Events, a.system.Now())}})
	}
	show := func(e events.Event) error {
		if !wanted(e) {
			return nil
		}
		return a.printSeries(render.Document{Value: e, Names: []string{e.Object}, Blocks: []render.Block{eventLine(e)}})
	}
	for n := len(r.Events) - 1; n >= 0; n-- { // the warnings last: they are beside what comes now
		if err := show(r.Events[n]); err != nil {
			return endOfPipe(err)
		}
	}
	err = b.Events.WatchEvents(ctx, d, show)
	if ctx.Err() != nil {
		return nil // a watch ends with Ctrl-C
	}
	return endOfPipe(err)
}

func objectsOf(list []events.Event) []string {
	names := make([]string, len(list))
	for i, e := range list {
		names[i] = e.Object
	}
	return names
}

// eventLine is an event on one line.
func eventLine(e events.Event) render.Block {
	mark := render.Cell{Text: "•", Style: render.Dim}
	if e.Warning {
		mark = render.Cell{Text: "!", Style: render.Warn}
	}
	return render.List{{
		Mark: mark,
		Line: []render.Cell{{Text: e.Time.Format(time.TimeOnly), Style: render.Dim}, {Text: e.Object, Style: render.Strong}, render.T(e.Reason + timesText(e.Count) + ": " + e.Message)},
	}}
}

func timesText(count int) string {
	if count < 2 {
		return ""
	}
	return fmt.Sprintf(" (%d times)", count)
}

func eventTable(list []events.Event, now time.Time) render.Block {
	t := render.Table{
		Columns: []render.Column{{Title: "AGE", Right: true}, {Title: "TIMES", Right: true}, {Title: "REASON"}, {Title: "OBJECT"}, {Title: "MESSAGE"}},
		Empty:   "No events: the cluster keeps them for an hour by default.",
	}
	for _, e := range list {
		reason := render.T(e.Reason)
		if e.Warning {
			reason.Style = render.Warn
		}
		t.Rows = append(t.Rows, []render.Cell{
			render.T(ageText(now.Sub(e.Time))), render.T(strconv.Itoa(e.Count)), reason, {Text: e.Object, Style: render.Strong}, render.T(e.Message),
		})
	}
	return t
}

// ageText is how long ago, in the largest unit that says enough.
func ageText(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(0, int(d.Seconds())))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}
