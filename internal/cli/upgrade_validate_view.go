package cli

import (
	"fmt"
	"time"

	"github.com/redisctl/redisctl/internal/operation/upgrade"
	"github.com/redisctl/redisctl/internal/operation/upgrade/validate"
	"github.com/redisctl/redisctl/internal/render"
)

func validationDocument(r validate.Report) render.Document {
	state := render.Cell{Text: "valid", Style: render.Good}
	if !r.Valid {
		state = render.Cell{Text: "not as it should be", Style: render.Bad}
	}
	label := []render.Cell{{Text: title(r.Namespace, r.Release, r.Name), Style: render.Strong}, state}
	if b := r.Recorded; b != nil {
		label = append(label, render.Cell{Text: recordedText(*b), Style: render.Dim})
	}
	d := render.Document{Value: r, Blocks: []render.Block{render.Tree{Label: label}, checkTable(r.Checks), findingList(r.Findings)}}
	for _, c := range r.Checks {
		d.Names = append(d.Names, c.Name)
	}
	if len(r.Backups) > 0 {
		var fields render.Fields
		for _, location := range r.Backups {
			fields = append(fields, render.Field{Label: "backup", Value: render.T(location)})
		}
		d.Blocks = append(d.Blocks, fields)
	}
	return d
}

// recordedText says which state is compared with.
func recordedText(b upgrade.Baseline) string {
	text := "compared with " + b.Time.Format(time.RFC3339)
	if b.Revision > 0 {
		text += fmt.Sprintf(", revision %d", b.Revision)
	}
	return text
}

func checkTable(checks []validate.Check) render.Block {
	t := render.Table{Columns: []render.Column{{Title: "CHECK"}, {Title: "STATE"}, {Title: "FOUND"}}}
	for _, c := range checks {
		t.Rows = append(t.Rows, []render.Cell{{Text: c.Name, Style: render.Strong}, checkCell(c.State), render.T(c.Message)})
	}
	return t
}

func checkCell(s validate.State) render.Cell {
	c := render.T(string(s))
	switch s {
	case validate.OK:
		c.Style = render.Good
	case validate.Changed:
		c.Style = render.Warn
	case validate.Failed:
		c.Style = render.Bad
	case validate.Skipped:
		c.Style = render.Dim
	}
	return c
}
