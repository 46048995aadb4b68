package cli

import (
	"bytes"
	_ "embed" // the page's template
	"errors"
	"fmt"
	"html/template"
	"os"
	"strconv"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/rdb/analyze"
)

// analyzePage is one page with its styles and charts (SVG) inside: it can be mailed, and
// opened without a network. There are no scripts in it.
//
//go:embed analyze.html.tmpl
var analyzePage string

// chart is a chart of bars, one below the other.
type chart struct {
	Title, Note string
	Bars        []chartBar
	Height      int
}

// chartBar is one bar. Lengths are in the units of the drawing, see analyze.html.tmpl.
type chartBar struct {
	Label, Text    string
	Y, TextY       int
	Width, TextX   float64
	Tip, ShareText string
}

const (
	chartRow   = 26  // units from bar to bar
	chartLeft  = 220 // where bars begin
	chartWidth = 420 // the longest bar
)

func newChart(title, note string, shares []analyze.Share, total analyze.Amount, measure func(analyze.Amount) int64, text func(analyze.Amount) string) chart {
	c := chart{Title: title, Note: note, Height: len(shares)*chartRow + 4}
	var highest int64 = 1
	for _, s := range shares {
		highest = max(highest, measure(s.Amount))
	}
	for i, s := range shares {
		width := float64(measure(s.Amount)) / float64(highest) * chartWidth
		if measure(s.Amount) > 0 {
			width = max(width, 1) // anything above 0 shows
		}
		const most = 34
		label := s.Name
		if runes := []rune(label); len(runes) > most {
			label = string(runes[:most-1]) + "…"
		}
		c.Bars = append(c.Bars, chartBar{
			Label: label, Text: text(s.Amount), ShareText: percent(measure(s.Amount), measure(total)),
			Y: i * chartRow, TextY: i*chartRow + 16, Width: width, TextX: chartLeft + width + 8,
			Tip: fmt.Sprintf("%s: %d keys, %s serialized, about %s in memory", s.Name, s.Keys, operation.Bytes(s.Bytes), operation.Bytes(s.Memory)),
		})
	}
	return c
}

// charts are those of the page.
func (r *analyzeResult) charts() []chart {
	memory := func(a analyze.Amount) string { return operation.Bytes(a.Memory).String() }
	keys := func(a analyze.Amount) string { return strconv.FormatInt(a.Keys, 10) }
	dbs := make([]analyze.Share, len(r.DBs))
	for i, db := range r.DBs {
		dbs[i] = analyze.Share{Name: fmt.Sprintf("db%d", db.DB), Amount: db.Amount}
	}
	note := ""
	if !r.PrefixesComplete {
		note = "There are more prefixes than are counted at a time: these are lower bounds."
	}
	charts := []chart{
		newChart("Memory by type", "", r.Types, r.Total, byMemory, memory),
		newChart("Memory by type and encoding", "", r.Encodings, r.Total, byMemory, memory),
		newChart("Memory by prefix", note, r.prefixRows(), r.Total, byMemory, memory),
		newChart("Keys by time to live", "as of "+r.AnalyzedAt.Format(time.RFC3339), r.TTL, r.Total, byKeys, keys),
	}
	if len(dbs) > 1 {
		charts = append([]chart{newChart("Memory by database", "", dbs, r.Total, byMemory, memory)}, charts...)
	}
	return charts
}

// writePage writes the page to a file that does not exist yet. A failure leaves none.
func writePage(name string, r *analyzeResult) error {
	page, err := template.New("page").Funcs(template.FuncMap{
		"bytes": func(n int64) string { return operation.Bytes(n).String() },
		"when":  func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	}).Parse(analyzePage)
	if err != nil {
		return err
	}
	var b bytes.Buffer // bounded by the number of rows
	err = page.Execute(&b, map[string]any{"R": r, "Charts": r.charts(), "Version": ThisBuild().Version})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b.Bytes())
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}
