package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/upgrade/green"
	"github.com/redisctl/redisctl/internal/render"
)

// greenStatus completes `upgrade status` where no pod of the release itself is being
// upgraded.
func (a *app) greenStatus(ctx context.Context, b *backend, d *operation.Deployment, status upgradeStatus) error {
	op, err := a.green(b, operation.DiscardReporter{}, storeOptions{})
	if err != nil {
		return err
	}
	if blue := d.Workload.Annotations[operation.NoteBlue]; blue != "" {
		if d, err = b.Resolver.Resolve(ctx, operation.Target{Namespace: d.Namespace, Release: blue}); err != nil {
			return err
		}
		status.Release, status.Name = d.Release, d.Name
	}
	if status.Green, err = op.Status(ctx, d, a.limits()); err != nil {
		return err
	}
	if err := a.print(upgradeStatusDocument(status)); err != nil || status.Green == nil {
		return err
	}
	return outcome(operation.Unhealthy, "there is a second release: %s", status.Green.Record.Phase)
}

func greenStatusDocument(s upgradeStatus) render.Document {
	r := s.Green.Record
	fields := render.Fields{
		{Label: "upgrade", Value: render.T(r.From + " to " + r.To)}, {Label: "begun", Value: render.T(r.Begun.Format(time.RFC3339) + " by " + r.By)},
		{Label: "second release", Value: render.T(r.Green)}, {Label: "phase", Value: render.T(string(r.Phase))},
	}
	for _, route := range r.Services {
		fields = append(fields, render.Field{Label: "service", Value: render.T(route.Service)})
	}
	table := render.Table{Columns: []render.Column{{Title: "POD"}, {Title: "RELEASE"}, {Title: "VERSION"}, {Title: "FOLLOWS"}, {Title: "LINK"}, {Title: "BEHIND"}}}
	for _, m := range s.Green.Servers {
		behind := "unknown"
		if m.BehindBytes >= 0 {
			behind = fmt.Sprint(operation.Bytes(m.BehindBytes))
		}
		if m.Error != "" {
			behind = m.Error
		}
		table.Rows = append(table.Rows, cells(m.Name, m.Release, m.Version, m.Follows, m.Link, behind))
	}
	next := map[green.Phase]string{
		green.PhaseReady:   "redisctl upgrade cutover sends the clients there, redisctl upgrade abort removes it",
		green.PhaseServing: "redisctl upgrade failback returns, redisctl upgrade finish makes it final",
	}[r.Phase]
	if next == "" {
		next = "redisctl upgrade resume goes on"
	}
	return render.Document{Value: s, Names: []string{s.Name}, Blocks: []render.Block{fields, table, render.Text{Text: next}}}
}
