package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/redisctl/redisctl/internal/operation/failover"
	"github.com/redisctl/redisctl/internal/render"
)

func promoteDocument(r failover.Result) render.Document {
	return render.Document{Value: r, Names: []string{r.To}, Blocks: []render.Block{promoteFields(r)}}
}

func promoteFields(r failover.Result) render.Fields {
	services := strings.Join(r.Services, ", ")
	if services == "" {
		services = "none to move"
	}
	return render.Fields{
		{Label: "primary", Value: render.Cell{Text: r.To, Style: render.Strong}},
		{Label: "was", Value: render.T(r.From)},
		{Label: "offsets", Value: render.T(fmt.Sprintf("%d when writes were paused, %d on the new primary when it was promoted", r.Offset, r.TargetOffset))},
		{Label: "write gap", Value: render.T(fmt.Sprintf("%.1f ms", r.WriteGapMS))},
		{Label: "followers", Value: render.T(fmt.Sprintf("%s (%d partial, %d full resynchronisations)", strings.Join(r.Followers, ", "), r.PartialResyncs, r.FullResyncs))},
		{Label: "services", Value: render.T(services)},
		{Label: "verified", Value: render.Cell{Text: "roles, links and endpoints", Style: render.Good}},
	}
}

type resumeResult struct {
	Outcome failover.Outcome `json:"outcome"`
	failover.Result
}

func resumeDocument(o failover.Outcome, r failover.Result) render.Document {
	d := render.Document{Value: resumeResult{Outcome: o, Result: r}, Names: []string{r.To}}
	if o == failover.OutcomeUndone {
		d.Names = []string{r.From}
		d.Blocks = []render.Block{render.Text{Text: "undone: " + r.From + " is the primary, as before", Style: render.Good}}
		return d
	}
	d.Blocks = []render.Block{render.Fields{
		{Label: "completed", Value: render.Cell{Text: r.To + " is the primary", Style: render.Good}},
		{Label: "followers", Value: render.T(strings.Join(r.Followers, ", "))},
		{Label: "services", Value: render.T(strings.Join(r.Services, ", "))},
	}}
	return d
}

func failoverStatusDocument(s failover.Status) render.Document {
	observed := render.Cell{Text: strings.Join(s.Observed, ", "), Style: render.Good}
	if len(s.Observed) != 1 || s.Intended != "" && s.Observed[0] != s.Intended {
		observed.Style = render.Bad
	}
	intended := render.T(s.Intended)
	if s.Intended == "" {
		intended = render.Cell{Text: "no failover was made", Style: render.Dim}
	}
	fields := render.Fields{{Label: "intended", Value: intended}, {Label: "observed", Value: observed}}
	t := render.Table{Columns: []render.Column{{Title: "SERVICE"}, {Title: "SENDS TO"}}}
	for _, name := range slices.Sorted(maps.Keys(s.Services)) {
		to := render.Cell{Text: s.Services[name], Style: render.Good}
		if len(s.Observed) != 1 || s.Observed[0] != to.Text {
			to.Style = render.Bad
		}
		t.Rows = append(t.Rows, []render.Cell{{Text: name, Style: render.Strong}, to})
	}
	blocks := []render.Block{fields, t}
	if u := s.Unfinished; u != nil {
		blocks = append(blocks, render.Text{
			Text:  fmt.Sprintf("! a failover from %s to %s was begun by %s and is not finished: redisctl failover resume", u.From, u.To, u.By),
			Style: render.Bad,
		})
	}
	return render.Document{Value: s, Names: s.Observed, Blocks: blocks}
}
