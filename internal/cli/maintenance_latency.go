package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/inspect"
	"github.com/redisctl/redisctl/internal/operation/maintenance"
	"github.com/redisctl/redisctl/internal/render"
)

type latencyOptions struct {
	probe maintenance.ProbeOptions
}

func (a *app) newLatencyCommand() *cobra.Command {
	var o latencyOptions
	cmd := &cobra.Command{
		Use:   "latency",
		Short: "Measure how fast all instances answer, and plot it",
		Long: `Sends PINGs to every instance for some time and shows percentiles and a plot. The times
contain the way through the cluster: they tell instances and moments apart, and what a
client in the cluster sees is shorter. What the server itself noted is in the subcommands
doctor, history and histogram.

One instance that hangs holds up nobody; each PING without an answer counts as failed.
Exit code 3 when some instances do not answer at all; Ctrl-C shows what was measured until
then, with exit code 130.`,
		Example: `  redisctl maintenance latency -n redis-prod
  redisctl maintenance latency --for 1m --interval 20ms --pod cache-redis-0`,
		Args: noArgs,
	}
	f := cmd.Flags()
	f.DurationVar(&o.probe.For, "for", 5*time.Second, "how long to measure")
	f.DurationVar(&o.probe.Interval, "interval", 50*time.Millisecond, "time between two PINGs")
	noCompletion(cmd, "for", "interval")
	cmd.RunE = runWith(a, &o, func(ctx context.Context, o latencyOptions, _ []string) error {
		const least, most = time.Millisecond, 100_000
		if o.probe.Interval < least || o.probe.For < o.probe.Interval || o.probe.For/o.probe.Interval > most {
			return operation.Errorf(operation.Usage, "--interval: at least %s; --for: at least that, and at most %d PINGs", least, most)
		}
		return a.inspectAll(ctx, func(ctx context.Context, b *backend, d *operation.Deployment) error {
			reporter, done := a.narrator()
			defer done()
			reporter.Step("sending PINGs to %d instances for %s", len(d.Instances), o.probe.For)
			l, failed := a.maintenance(b, reporter).Probe(ctx, d, o.probe)
			done()
			if err := a.print(latencyDocument(l)); err != nil {
				return err
			}
			return failed
		})
	})
	cmd.AddCommand(a.newLatencyDoctorCommand(), a.newLatencyHistoryCommand(), a.newLatencyHistogramCommand())
	return cmd
}

// plotColumns is how wide a plot is: beside its title it fits into a terminal of 40 columns.
const plotColumns = 24

func latencyDocument(l maintenance.Latencies) render.Document {
	doc := render.Document{Value: l}
	var top int64
	for _, i := range l.Instances {
		top = max(top, i.Max)
	}
	t := render.Table{Columns: []render.Column{
		{Title: "NAME"}, {Title: "PINGS", Right: true}, {Title: "FAILED", Right: true}, {Title: "P50", Right: true}, {Title: "P95", Right: true},
		{Title: "P99", Right: true}, {Title: "MAX", Right: true}, {Title: "UP TO " + milliseconds(top), Tail: true},
	}}
	var remarks []string
	for _, i := range l.Instances {
		doc.Names = append(doc.Names, i.Name)
		row := []render.Cell{{Text: i.Name, Style: render.Strong}, render.T(strconv.Itoa(i.Asked)), failedCell(i.Failed), {}, {}, {}, {}, {}}
		if i.Asked > i.Failed {
			row[3], row[4], row[5] = render.T(milliseconds(i.P50)), render.T(milliseconds(i.P95)), render.T(milliseconds(i.P99))
			row[6] = render.T(milliseconds(i.Max))
			row[7] = render.Cell{Text: render.Spark(binned(i.Samples, plotColumns), top), Style: render.Good}
		}
		if i.Error != "" {
			remarks = append(remarks, i.Name+": "+i.Error)
		}
		t.Rows = append(t.Rows, row)
	}
	doc.Blocks = []render.Block{t, notesList(render.Bad, remarks...)}
	return doc
}

func failedCell(n int) render.Cell {
	if n == 0 {
		return render.Cell{Text: "0", Style: render.Dim}
	}
	return render.Cell{Text: strconv.Itoa(n), Style: render.Bad}
}

// binned makes at most columns values of samples: each the highest of its part; -1 where
// none of it was answered.
func binned(samples []int64, columns int) []int64 {
	if len(samples) <= columns {
		return samples
	}
	bins := make([]int64, columns)
	for i := range bins {
		bins[i] = -1
	}
	for i, v := range samples {
		bin := i * columns / len(samples)
		bins[bin] = max(bins[bin], v)
	}
	return bins
}

func (a *app) newLatencyDoctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Show what every server says of its own slow moments",
		Long: `Shows LATENCY DOCTOR of every instance: what the server's latency monitor has noted, and
what it advises. A monitor that is off (latency-monitor-threshold 0) has noted nothing; how
to turn it on, and what that costs, is said then.`,
		Example: "  redisctl maintenance latency doctor -n redis-prod",
		Args:    noArgs,
		RunE: a.run(func(ctx context.Context, _ []string) error {
			return a.inspectAll(ctx, func(ctx context.Context, b *backend, d *operation.Deployment) error {
				answers := a.maintenance(b, operation.DiscardReporter{}).LatencyDoctor(ctx, d)
				if err := a.print(doctorDocument(a.targetFlags(d), d, answers)); err != nil {
					return err
				}
				return inspect.Failure(answers)
			})
		}),
	}
}

func doctorDocument(flags string, d *operation.Deployment, answers []inspect.Answer[maintenance.Doctor]) render.Document {
	doc := render.Document{Value: newAnswersResult(d, answers)}
	off := false
	for _, a := range answers {
		doc.Names = append(doc.Names, a.Instance)
		doc.Blocks = append(doc.Blocks, prose(a.Instance, a.Value.Report, a.Error))
		off = off || a.Value.Off
	}
	if off {
		doc.Blocks = append(doc.Blocks, notesList(render.Plain, monitorAdvice(flags, d)...))
	}
	return doc
}

// monitorAdvice says how to turn the latency monitor on. What it costs is to be seen in
// latency.h: latencyStartMonitor reads the clock only if it is on, and a kind of event has
// 160 samples of 8 bytes (LATENCY_TS_LEN).
func monitorAdvice(flags string, d *operation.Deployment) []string {
	where := "latency-monitor-threshold 100 in the chart's redis.extraConfig, which restarts the pods"
	if d.Workload == nil {
		where = "CONFIG REWRITE afterwards, where the server may write its redis.conf"
	}
	return []string{
		"on until their restart: redisctl maintenance exec" + flags + " --all-pods --yes -- CONFIG SET latency-monitor-threshold 100; what takes 100 ms or more is noted from then on",
		"on for good: " + where,
		"it costs two looks at the clock for each event, and 1.3 KiB for each kind of event that was noted",
	}
}

// prose shows what a server says, wrapped, below its name.
func prose(name, text, problem string) render.Block {
	mark := render.Cell{Text: "·", Style: render.Dim}
	if problem != "" {
		return render.List{{Mark: render.Cell{Text: "✗", Style: render.Bad}, Line: []render.Cell{{Text: name, Style: render.Strong}, {Text: problem, Style: render.Bad}}}}
	}
	return render.List{{Mark: mark, Line: []render.Cell{{Text: name, Style: render.Strong}}, Details: []string{text}}}
}

func (a *app) newLatencyHistoryCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "history [EVENT]",
		Short: "Plot the slow moments that every server has noted",
		Long: `Shows what the servers' latency monitors have noted, by kind of event: the last, the
longest, and a plot of the last 160 seconds that had one. The monitor notes what takes
latency-monitor-threshold milliseconds or more; with 0, the default, nothing.`,
		Example: `  redisctl maintenance latency history -n redis-prod
  redisctl maintenance latency history command -o json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return oneArg(cmd, args)
			}
			return nil
		},
		// As in the documentation of LATENCY; servers add some.
		ValidArgs: []string{
			"command", "fast-command", "fork", "rdb-unlink-temp-file", "aof-write", "aof-fsync-always", "aof-write-pending-fsync",
			"aof-write-active-child", "aof-write-alone", "aof-fstat", "aof-rename", "aof-rewrite-diff-write", "active-defrag-cycle",
			"expire-cycle", "eviction-cycle", "eviction-del", "eviction-lazyfree", "while-blocked-cron", "command-unblocking", "expire-del",
		},
		RunE: a.run(func(ctx context.Context, args []string) error {
			event := ""
			if len(args) > 0 {
				event = args[0]
			}
			return a.inspectAll(ctx, func(ctx context.Context, b *backend, d *operation.Deployment) error {
				answers := a.maintenance(b, operation.DiscardReporter{}).LatencyHistory(ctx, d, event)
				if err := a.print(spikesDocument(a.targetFlags(d), d, answers)); err != nil {
					return err
				}
				return inspect.Failure(answers)
			})
		}),
	}
}

func spikesDocument(flags string, d *operation.Deployment, answers []inspect.Answer[maintenance.Spikes]) render.Document {
	doc := render.Document{Value: newAnswersResult(d, answers)}
	t := render.Table{Columns: []render.Column{
		{Title: "INSTANCE"}, {Title: "EVENT"}, {Title: "LAST", Right: true}, {Title: "AT"}, {Title: "MAX", Right: true}, {Title: "HISTORY", Tail: true},
	}, Empty: "No slow moments were noted."}
	var remarks []string
	off := false
	if noneAnswered(answers) {
		t.Empty = noAnswers
	}
	for _, a := range answers {
		doc.Names = append(doc.Names, a.Instance)
		if a.Err != nil {
			remarks = append(remarks, a.Instance+": "+a.Error)
			continue
		}
		for _, e := range a.Value.Events {
			t.Rows = append(t.Rows, []render.Cell{
				{Text: a.Instance, Style: render.Strong}, render.T(e.Event), render.T(fmt.Sprintf("%d ms", e.Last)),
				{Text: e.LastAt.Format(time.RFC3339), Style: render.Dim}, render.T(fmt.Sprintf("%d ms", e.Max)),
				{Text: spikePlot(e.History), Style: render.Good},
			})
		}
		switch threshold := a.Value.ThresholdMilliseconds; {
		case threshold == nil:
		case *threshold == 0:
			remarks, off = append(remarks, a.Instance+": the latency monitor is off, nothing is noted"), true
		default:
			remarks = append(remarks, fmt.Sprintf("%s: notes what takes %d ms", a.Instance, *threshold))
		}
	}
	doc.Blocks = []render.Block{t, notesList(render.Dim, remarks...)}
	if off {
		doc.Blocks = append(doc.Blocks, notesList(render.Plain, monitorAdvice(flags, d)...))
	}
	return doc
}

// noAnswers stands in the place of a table that nobody has filled.
const noAnswers = "No instance has answered."

func noneAnswered[T any](answers []inspect.Answer[T]) bool {
	return !slices.ContainsFunc(answers, func(a inspect.Answer[T]) bool { return a.Err == nil })
}

func spikePlot(history []maintenance.Spike) string {
	values := make([]int64, len(history))
	var top int64
	for i, s := range history {
		values[i] = s.Milliseconds
		top = max(top, s.Milliseconds)
	}
	return render.Spark(binned(values, plotColumns), top)
}

func (a *app) newLatencyHistogramCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "histogram [COMMAND...]",
		Short: "Show how long commands take, as every server counts it (7.0 and later)",
		Long: `Shows LATENCY HISTOGRAM: how long each command took since the start of the server, or
since CONFIG RESETSTAT, the slowest (by p99) first. The server counts in steps of powers
of two, so that percentiles are upper bounds. -o wide shows the distribution.

Servers before 7.0 do not have it (exit code 9 when none has).`,
		Example: `  redisctl maintenance latency histogram -n redis-prod
  redisctl maintenance latency histogram get set -o wide`,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: a.run(func(ctx context.Context, args []string) error {
			return a.inspectAll(ctx, func(ctx context.Context, b *backend, d *operation.Deployment) error {
				answers := a.maintenance(b, operation.DiscardReporter{}).LatencyHistogram(ctx, d, args)
				if err := a.print(histogramDocument(d, answers)); err != nil {
					return err
				}
				return tooOld(inspect.Failure(answers))
			})
		}),
	}
}

// tooOld gives a command that no server knows the exit code of an unsupported version.
func tooOld(err error) error {
	var e *operation.Error
	if err == nil || operation.KindOf(err) != operation.Failed || !errors.Is(err, operation.ErrNoCommand) || !asError(err, &e) {
		return err
	}
	kept := *e
	kept.Kind = operation.Unsupported
	return &kept
}

func histogramDocument(d *operation.Deployment, answers []inspect.Answer[maintenance.Histograms]) render.Document {
	doc := render.Document{Value: newAnswersResult(d, answers)}
	t := render.Table{Columns: []render.Column{
		{Title: "INSTANCE"}, {Title: "COMMAND"}, {Title: "CALLS", Right: true}, {Title: "P50", Right: true}, {Title: "P95", Right: true},
		{Title: "P99", Right: true}, {Title: "MAX", Right: true}, {Title: "FROM SHORT TO LONG", Wide: true},
	}, Empty: "No calls were counted."}
	if noneAnswered(answers) {
		t.Empty = noAnswers
	}
	var remarks []string
	for _, a := range answers {
		doc.Names = append(doc.Names, a.Instance)
		if a.Err != nil {
			remarks = append(remarks, a.Instance+": "+a.Error)
		}
		for _, h := range a.Value.Commands {
			var top int64
			calls := make([]int64, len(h.Buckets))
			for i, b := range h.Buckets {
				calls[i] = b.Calls
				top = max(top, b.Calls)
			}
			t.Rows = append(t.Rows, []render.Cell{
				{Text: a.Instance, Style: render.Strong}, render.T(h.Command), render.T(strconv.FormatInt(h.Calls, 10)), render.T(milliseconds(h.P50)),
				render.T(milliseconds(h.P95)), render.T(milliseconds(h.P99)), render.T(milliseconds(h.Max)), {Text: render.Spark(calls, top), Style: render.Good},
			})
		}
	}
	doc.Blocks = []render.Block{t, notesList(render.Bad, remarks...)}
	return doc
}
