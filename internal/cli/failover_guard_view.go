package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation/guard"
	"github.com/redisctl/redisctl/internal/render"
)

func guardPlanDocument(p *guard.Plan) render.Document {
	d := planDocument(p.Plan, p)
	if len(p.Steps) == 0 && p.Refusal() == nil {
		d.Blocks = []render.Block{render.Text{Text: "nothing to do: " + p.Object + " is as it is meant to be", Style: render.Good}}
	}
	return d
}

func guardStatusDocument(s guard.Status, now time.Time) render.Document {
	d := render.Document{Value: s}
	if !s.Installed {
		d.Blocks = []render.Block{render.Text{Text: "no guard is installed for " + title(s.Namespace, s.Release, s.Name), Style: render.Dim}}
		return d
	}
	if s.Leader != "" {
		d.Names = []string{s.Leader}
	}
	state := render.Cell{Text: "works", Style: render.Good}
	if !s.Working() {
		state = render.Cell{Text: "needs attention", Style: render.Bad}
	}
	fields := render.Fields{
		{Label: "guard", Value: state},
		{Label: "image", Value: render.T(s.Image)},
		{Label: "pods", Value: render.T(fmt.Sprintf("%d of %d available", s.Available, s.Replicas))},
		{Label: "acts", Value: guardLeader(s, now)},
		{Label: "promotes", Value: guardPromotes(s)},
	}
	if o := s.Last; o != nil {
		fields = append(fields,
			render.Field{Label: "version", Value: render.T(o.Version)},
			render.Field{Label: "last change", Value: render.T(fmt.Sprintf("%s: %s: %s", o.Time.Format(time.RFC3339), o.Condition, o.Message))},
		)
	}
	d.Blocks = []render.Block{fields}
	if len(s.Problems) > 0 {
		d.Blocks = append(d.Blocks, render.Text{Text: "! " + strings.Join(s.Problems, "\n! "), Style: render.Bad})
	}
	return d
}

func guardLeader(s guard.Status, now time.Time) render.Cell {
	if s.Leader == "" {
		return render.Cell{Text: "nobody", Style: render.Bad}
	}
	return render.T(fmt.Sprintf("%s for %s, renewed %.0f s ago", s.Leader, age(now.Sub(*s.Since)), s.AgeSeconds))
}

func guardPromotes(s guard.Status) render.Cell {
	if !s.Promote {
		return render.T("never")
	}
	return render.Cell{Text: fmt.Sprintf("when the primary is gone for %.0f s", s.PromoteAfterSeconds), Style: render.Warn}
}

func guardRemovedDocument(r guard.Removed) render.Document {
	d := render.Document{Value: r}
	if len(r.Objects) == 0 {
		d.Blocks = []render.Block{render.Text{Text: "no guard was installed for " + title(r.Namespace, r.Release, r.Name), Style: render.Dim}}
		return d
	}
	list := make(render.List, len(r.Objects))
	for i, o := range r.Objects {
		d.Names = append(d.Names, o.Kind+"/"+o.Name)
		list[i] = render.Entry{Mark: render.Cell{Text: "-", Style: render.Dim}, Line: []render.Cell{render.T(o.Kind), {Text: o.Name, Style: render.Strong}}}
	}
	d.Blocks = []render.Block{render.Text{Text: "removed", Style: render.Good}, list}
	return d
}
