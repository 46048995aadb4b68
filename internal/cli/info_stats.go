package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/inspect"
	"github.com/redisctl/redisctl/internal/render"
)

type infoStatsOptions struct {
	watch           bool
	interval, bound time.Duration
}

func (a *app) newInfoStatsCommand() *cobra.Command {
	o := infoStatsOptions{interval: time.Second}
	cmd := &cobra.Command{
		Use:   "stats [SECTION...]",
		Short: "Show what every instance does: counters, or rates while you watch",
		Long: `Shows INFO's section stats of every instance. With --watch, what the counters gained
between two samples, per second: commands, hits and misses, network, expired and evicted
keys; on a terminal with a plot of the last samples, elsewhere a line for each sample,
in -o json a document for each. The commands include redisctl's own INFO.

Exit code 3 when some instances do not answer; a watch goes on without them.`,
		Example: `  redisctl info stats -n redis-prod
  redisctl info stats --watch --interval 5s
  redisctl info stats --watch --for 1m -o json`,
		ValidArgs: infoSections(),
		RunE: runWith(a, &o, func(ctx context.Context, o infoStatsOptions, more []string) error {
			switch {
			case o.interval < 100*time.Millisecond:
				return operation.Errorf(operation.Usage, "--interval %s: it must be at least 100ms", o.interval)
			case o.bound < 0:
				return operation.Errorf(operation.Usage, "--for %s: it must be positive", o.bound)
			case !o.watch && o.bound > 0:
				return operation.Errorf(operation.Usage, "--for needs --watch")
			case o.watch && len(more) > 0:
				return operation.Errorf(operation.Usage, "--watch shows no other sections: %s", strings.Join(more, ", "))
			case !o.watch:
				return a.runInfo(ctx, append([]string{"stats"}, more...))
			}
			return a.inspectAll(ctx, func(ctx context.Context, b *backend, d *operation.Deployment) error {
				return a.watchStats(ctx, b, d, o)
			})
		}),
	}
	cmd.Flags().BoolVarP(&o.watch, "watch", "w", false, "go on until Ctrl-C")
	cmd.Flags().DurationVar(&o.interval, "interval", o.interval, "time between two samples")
	cmd.Flags().DurationVar(&o.bound, "for", 0, "with --watch: end after this time")
	return cmd
}

func (a *app) watchStats(ctx context.Context, b *backend, d *operation.Deployment, o infoStatsOptions) error {
	again := func(ctx context.Context) (*operation.Deployment, error) {
		d, err := b.Resolver.Resolve(ctx, a.globals.target)
		if err == nil && a.globals.target.Pod != "" {
			i, err := findInstance(d, a.globals.target.Pod)
			if err != nil {
				return nil, err
			}
			d.Instances = []operation.Instance{*i}
		}
		return d, err
	}
	w := inspect.NewStatsWatch(b.Connector, d, again, a.globals.timeout, a.system.Now)
	defer w.Close()
	if _, err := w.Sample(ctx); err != nil {
		return err
	}
	show := a.statsViewer(o.interval)
	ticker := time.NewTicker(o.interval)
	defer ticker.Stop()
	var over <-chan time.Time
	if o.bound > 0 {
		over = time.After(o.bound)
	}
	for {
		select {
		case <-ctx.Done():
			if o.bound > 0 {
				return context.Cause(ctx)
			}
			return nil // a watch without a bound ends with Ctrl-C
		case <-over:
			return nil
		case <-ticker.C:
		}
		sample, err := w.Sample(ctx)
		if err == nil {
			err = show(sample)
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// statsViewer returns what shows a sample, as lagViewer does.
func (a *app) statsViewer(interval time.Duration) func(inspect.StatsSample) error {
	if !a.globals.format.ForPeople() {
		return func(s inspect.StatsSample) error {
			doc := render.Document{Value: s}
			for _, i := range s.Instances {
				doc.Names = append(doc.Names, i.Name)
			}
			return a.printSeries(doc)
		}
	}
	if dumb, _ := a.system.LookupEnv("TERM"); !a.system.OutTerminal || dumb == "dumb" {
		return func(s inspect.StatsSample) error {
			return a.printSeries(render.Document{Blocks: []render.Block{statsLine(s)}})
		}
	}
	a.quiet()
	live := render.NewLive(a.system.Out, a.color(true), a.system.OutSize)
	history := make(statsHistory)
	return func(s inspect.StatsSample) error {
		history.add(s)
		return live.Draw(statsFrame(s, history, interval)...)
	}
}

// statsLine is one sample in one line.
func statsLine(s inspect.StatsSample) render.Block {
	said := make([]string, len(s.Instances))
	for n, i := range s.Instances {
		switch {
		case i.Error != "":
			said[n] = i.Name + " no answer"
		case i.Rates == nil:
			said[n] = i.Name + " restarted"
		default:
			said[n] = fmt.Sprintf("%s %s/s, hits %s, in %s/s, out %s/s, expired %s/s, evicted %s/s", i.Name, rateText(i.Rates.Commands),
				ratioText(i.Rates.HitRatio), speedText(i.Rates.In), speedText(i.Rates.Out), rateText(i.Rates.Expired), rateText(i.Rates.Evicted))
		}
	}
	return render.Text{Text: s.Time.Format(time.RFC3339) + "  " + strings.Join(said, "; ")}
}

func rateText(perSecond float64) string {
	if perSecond < 10 {
		return fmt.Sprintf("%.1f", perSecond)
	}
	return fmt.Sprintf("%.0f", perSecond)
}

func speedText(bytesPerSecond float64) string { return operation.Bytes(int64(bytesPerSecond)).String() }

func ratioText(ratio *float64) string {
	if ratio == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f %%", *ratio*100)
}

// statsHistory holds the commands per second of each instance, the newest last; -1 where
// they are not known.
type statsHistory map[string][]int64

func (h statsHistory) add(s inspect.StatsSample) {
	for _, i := range s.Instances {
		rate := int64(-1)
		if i.Rates != nil {
			rate = int64(i.Rates.Commands + 0.5)
		}
		values := h[i.Name]
		h[i.Name] = append(values[max(0, len(values)-lagSamples+1):], rate)
	}
}

// statsFrame is what a terminal shows of a sample and those before it.
func statsFrame(s inspect.StatsSample, h statsHistory, interval time.Duration) []render.Block {
	var top int64
	for _, values := range h {
		for _, v := range values {
			top = max(top, v)
		}
	}
	t := render.Table{Columns: []render.Column{
		{Title: "INSTANCE"}, {Title: "OPS/S", Right: true}, {Title: "HITS", Right: true}, {Title: "MISSES/S", Right: true},
		{Title: "IN/S", Right: true}, {Title: "OUT/S", Right: true}, {Title: "EXPIRED/S", Right: true}, {Title: "EVICTED/S", Right: true},
		{Title: "CLIENTS", Right: true}, {Title: fmt.Sprintf("UP TO %d/S", top), Tail: true},
	}}
	for _, i := range s.Instances {
		row := []render.Cell{{Text: i.Name, Style: render.Strong}}
		switch {
		case i.Error != "":
			row = append(row, render.Cell{Text: "no answer", Style: render.Bad})
		case i.Rates == nil:
			row = append(row, render.Cell{Text: "restarted", Style: render.Warn})
		default:
			r := i.Rates
			row = append(row, render.T(rateText(r.Commands)), render.T(ratioText(r.HitRatio)), render.T(rateText(r.Misses)),
				render.T(speedText(r.In)), render.T(speedText(r.Out)), render.T(rateText(r.Expired)), render.T(rateText(r.Evicted)),
				number(i.Clients))
		}
		for len(row) < len(t.Columns)-1 {
			row = append(row, render.Cell{})
		}
		t.Rows = append(t.Rows, append(row, render.Cell{Text: render.Spark(h[i.Name], top), Style: render.Good}))
	}
	heading := render.Tree{Label: []render.Cell{
		{Text: title(s.Namespace, s.Release, s.Name), Style: render.Strong},
		{Text: fmt.Sprintf("%s, every %s, Ctrl-C ends", s.Time.Format(time.TimeOnly), interval), Style: render.Dim},
	}}
	return []render.Block{heading, t}
}
