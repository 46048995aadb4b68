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
	d := render.Document{Value: r, Names: []string{r.To}, Blocks: []render.Block{promoteFields(r)}}
	if !r.Changed {
		d.Blocks = []render.Block{render.Text{Text: "nothing to do: " + r.To + " is the primary, and everybody follows it", Style: render.Good}}
	}
	return d
}

func promoteFields(r failover.Result) render.Fields {
	fields := render.Fields{
		{Label: "primary", Value: render.Cell{Text: r.To, Style: render.Strong}},
		{Label: "was", Value: render.T(r.From)},
		{Label: "offsets", Value: render.T(fmt.Sprintf("%d when writes were paused, %d on the new primary when it was promoted", r.Offset, r.TargetOffset))},
		{Label: "write gap", Value: render.T(fmt.Sprintf("%.1f ms", r.WriteGapMS))},
	}
	return append(fields, settledFields(r.Settled)...)
}

// settledFields show what every switch has verified.
func settledFields(s failover.Settled) render.Fields {
	services := strings.Join(s.Services, ", ")
	if services == "" {
		services = "none to move"
	}
	followers := strings.Join(s.Followers, ", ")
	if followers == "" {
		followers = "none"
	}
	fields := render.Fields{
		{Label: "followers", Value: render.T(fmt.Sprintf("%s (%s)", followers, resyncs(s)))},
		{Label: "services", Value: render.T(services)},
	}
	verified := "roles, links and endpoints"
	var through []string
	for _, w := range s.ServiceWrites {
		if w.Skipped != "" {
			fields = append(fields, render.Field{Label: "not tried", Value: render.Cell{Text: w.Service + ": " + w.Skipped, Style: render.Warn}})
			continue
		}
		through = append(through, fmt.Sprintf("%s after %.0f ms", w.Service, w.Milliseconds))
	}
	if len(through) > 0 {
		verified += ", a write through " + strings.Join(through, ", ")
	}
	return append(fields, render.Field{Label: "verified", Value: render.Cell{Text: verified, Style: render.Good}})
}

// resyncs tells how the followers were resynchronised. A full one is worth a word: it
// copies the whole data set.
func resyncs(s failover.Settled) string {
	text := fmt.Sprintf("%d partial resynchronisations", s.PartialResyncs)
	if s.FullResyncs > 0 {
		text += fmt.Sprintf(", %d full ones", s.FullResyncs)
	}
	return text
}

func forceDocument(r failover.ForceResult) render.Document {
	fields := render.Fields{
		{Label: "primary", Value: render.Cell{Text: r.To, Style: render.Strong}},
		{Label: "given up", Value: render.T(fmt.Sprintf("%s, which now %s", r.From, oldPrimary(r.OldPrimary)))},
		{Label: "may be lost", Value: render.Cell{Text: r.Bound.String(), Style: render.Warn}},
		{Label: "offset", Value: render.T(fmt.Sprintf("%d of the history %.8s when it was promoted", r.Offset, r.ReplicationID))},
	}
	fields = append(fields, lossFields(r.Losses, r.Backups)...)
	return render.Document{Value: r, Names: []string{r.To}, Blocks: []render.Block{append(fields, settledFields(r.Settled)...)}}
}

func oldPrimary(state failover.OldPrimary) string {
	switch state {
	case failover.OldPrimaryFollows:
		return "follows it"
	case failover.OldPrimaryDown:
		return "is down and gets no clients of the Services"
	default:
		return "may or may not run"
	}
}

// lossFields show what was discarded, and what was kept of it.
func lossFields(losses []failover.Loss, backups []string) render.Fields {
	var fields render.Fields
	for _, l := range losses {
		text := l.Instance + ": " + l.Why
		if d := l.Difference; d != nil {
			text += fmt.Sprintf("; %d keys were only there, %d differed", d.Only, d.Changed)
		}
		fields = append(fields, render.Field{Label: "discarded", Value: render.Cell{Text: text, Style: render.Warn}})
	}
	for _, b := range backups {
		fields = append(fields, render.Field{Label: "backup", Value: render.T(b)})
	}
	return fields
}

func healDocument(r failover.HealResult) render.Document {
	d := render.Document{Value: r, Names: []string{r.Primary}}
	if !r.Changed {
		d.Blocks = []render.Block{render.Text{Text: "nothing to heal: " + r.Primary + " is the primary, and everybody follows it", Style: render.Good}}
		return d
	}
	fields := render.Fields{{Label: "primary", Value: render.Cell{Text: r.Primary, Style: render.Strong}}}
	if len(r.Demoted) > 0 {
		fields = append(fields, render.Field{Label: "demoted", Value: render.T(strings.Join(r.Demoted, ", "))})
	}
	fields = append(fields, lossFields(r.Losses, r.Backups)...)
	d.Blocks = []render.Block{append(fields, settledFields(r.Settled)...)}
	return d
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
