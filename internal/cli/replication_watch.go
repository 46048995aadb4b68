package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/health"
	"github.com/redisctl/redisctl/internal/operation/replication"
	"github.com/redisctl/redisctl/internal/render"
)

// watchLag samples until Ctrl-C, or with --for until the time is over or a limit is
// exceeded.
func (a *app) watchLag(ctx context.Context, b *backend, d *operation.Deployment, o lagOptions) error {
	again := func(ctx context.Context) (*operation.Deployment, error) { return a.resolve(ctx, b) }
	w := replication.NewWatch(b.Connector, d, again, o.health, a.system.Now)
	defer w.Close()
	show := a.lagViewer(o.interval)
	ticker := time.NewTicker(o.interval)
	defer ticker.Stop()
	var over <-chan time.Time
	if o.bound > 0 {
		over = time.After(o.bound)
	}
	for {
		sample, err := w.Sample(ctx)
		if err == nil {
			err = show(sample)
		}
		switch {
		case ctx.Err() != nil:
		case err != nil:
			return err
		case o.bound > 0 && !health.Clean(sample.Findings):
			return outcome(operation.Unhealthy, "replication of %s exceeds the limits", d)
		}
		select {
		case <-ctx.Done():
			if o.bound > 0 {
				return &operation.Error{
					Kind: operation.Interrupted, Object: d.String(), Phase: fmt.Sprintf("watching for %s", o.bound), Err: context.Cause(ctx),
				}
			}
			return nil // a watch without a bound ends with Ctrl-C
		case <-over:
			return nil
		case <-ticker.C:
		}
	}
}

// lagViewer returns what shows a sample: a plot that is redrawn on a terminal, a line
// for each sample elsewhere, and a document for each in the formats for scripts.
func (a *app) lagViewer(interval time.Duration) func(replication.Sample) error {
	if !a.globals.format.ForPeople() {
		return func(s replication.Sample) error {
			d := lagDocument(s.Report)
			d.Value = s
			return a.printSeries(d)
		}
	}
	if dumb, _ := a.system.LookupEnv("TERM"); !a.system.OutTerminal || dumb == "dumb" {
		return func(s replication.Sample) error {
			return a.printSeries(render.Document{Blocks: []render.Block{lagLine(s)}})
		}
	}
	live := render.NewLive(a.system.Out, a.color(true), a.system.OutSize)
	history := make(lagHistory)
	return func(s replication.Sample) error {
		history.add(s)
		return live.Draw(lagFrame(s, history, interval)...)
	}
}

// lagLine is one sample in one line: when, and how far each replica is behind.
func lagLine(s replication.Sample) render.Text {
	var said []string
	for _, i := range s.Instances {
		switch {
		case i.Error != "":
			said = append(said, i.Name+" no answer")
		case i.Replica == nil:
		default:
			said = append(said, fmt.Sprintf("%s %s, %s behind, silent %s", i.Name, i.Replica.Link, behindText(i.Replica), silentText(i.Replica)))
		}
	}
	if len(said) == 0 {
		said = []string{"no replicas"}
	}
	return render.Text{Text: s.Time.Format(time.RFC3339) + "  " + strings.Join(said, "; ")}
}

func behindText(r *replication.Replica) string {
	if r.LagBytes == nil {
		return "unknown"
	}
	return operation.Bytes(*r.LagBytes).String()
}

// lagSamples is how many samples the plot remembers.
const lagSamples = 120

// lagHistory holds the lag in bytes of each instance that was a replica, the newest
// last; -1 where it is not known.
type lagHistory map[string][]int64

func (h lagHistory) add(s replication.Sample) {
	for _, i := range s.Instances {
		values, known := h[i.Name]
		if i.Replica == nil && !known {
			continue
		}
		lag := int64(-1)
		if i.Replica != nil && i.Replica.LagBytes != nil {
			lag = *i.Replica.LagBytes
		}
		h[i.Name] = append(values[max(0, len(values)-lagSamples+1):], lag)
	}
}

// top is the highest lag that the plots show; they share a scale, so that they can be
// compared.
func (h lagHistory) top() int64 {
	var top int64
	for _, values := range h {
		for _, v := range values {
			top = max(top, v)
		}
	}
	return top
}

// lagFrame is what a terminal shows of a sample and those before it.
func lagFrame(s replication.Sample, h lagHistory, interval time.Duration) []render.Block {
	top := h.top()
	t := render.Table{
		Columns: []render.Column{
			{Title: "REPLICA"}, {Title: "LINK"}, {Title: "BEHIND", Right: true}, {Title: "SILENT", Right: true},
			{Title: fmt.Sprintf("UP TO %s", operation.Bytes(top)), Tail: true},
		},
		Empty: "No replicas.",
	}
	for _, i := range s.Instances {
		row := []render.Cell{{Text: i.Name, Style: render.Strong}, {}, {}, {}, {Text: render.Spark(h[i.Name], top), Style: render.Good}}
		switch {
		case i.Error != "":
			row[1] = render.Cell{Text: "no answer", Style: render.Bad}
		case i.Replica == nil:
			continue
		default:
			row[1], row[2] = linkCell(i.Replica.Link), render.T(behindText(i.Replica))
			row[3] = render.T(silentText(i.Replica))
		}
		t.Rows = append(t.Rows, row)
	}
	heading := render.Tree{Label: []render.Cell{
		{Text: title(s.Namespace, s.Release, s.Name), Style: render.Strong},
		{Text: fmt.Sprintf("%s, every %s, Ctrl-C ends", s.Time.Format(time.TimeOnly), interval), Style: render.Dim},
	}}
	return []render.Block{heading, t, findingList(s.Findings)}
}
