package cli

import (
	"fmt"
	"strconv"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/rdb/rdbdiff"
	"github.com/redisctl/redisctl/internal/render"
)

// diffResult is the JSON form of `backup diff`.
type diffResult struct {
	// FileA and FileB are where the data was read from.
	FileA string `json:"fileA"`
	FileB string `json:"fileB"`
	*rdbdiff.Difference
}

func diffDocument(a, b *compared, d *rdbdiff.Difference) render.Document {
	blocks := []render.Block{
		diffVerdict(d),
		diffFields(a, b, d),
		diffSummary(d),
	}
	if len(d.DBs) > 1 {
		t := diffTable("DB")
		for _, db := range d.DBs {
			t.addRow(strconv.Itoa(db.DB), db.Counts)
		}
		blocks = append(blocks, t.Table)
	}
	types, prefixes := diffTable("TYPE"), diffTable("PREFIX")
	for _, c := range d.Types {
		types.addRow(c.Type, c.Counts)
	}
	for _, c := range d.Prefixes {
		name := c.Prefix
		if name == "" {
			name = "(none)"
		}
		prefixes.addRow(name, c.Counts)
	}
	if len(d.Prefixes) > 0 && d.OtherPrefixes != (rdbdiff.Counts{}) {
		prefixes.addRow("(all others)", d.OtherPrefixes)
	}
	blocks = append(blocks, types.Table, prefixes.Table, diffExamples(d.Examples))
	return render.Document{
		Value:  diffResult{FileA: a.location(), FileB: b.location(), Difference: d},
		Names:  []string{a.entry.ID, b.entry.ID},
		Blocks: blocks,
	}
}

func diffVerdict(d *rdbdiff.Difference) render.Block {
	different := d.Total.Different()
	text := render.Text{Style: render.Warn, Text: fmt.Sprintf("A and B differ in %d of %d keys.", different, different+d.Total.Equal.Keys)}
	switch {
	case d.Same && d.Complete:
		return render.Text{Style: render.Good, Text: "A and B hold the same."}
	case d.Same:
		return render.Text{Style: render.Warn, Text: "A and B hold the same in the sample."}
	case different == 0:
		text.Text = "A and B hold the same keys, and different functions."
	case !d.Complete:
		text.Text += " These are counts of a sample."
	case d.AContainsB():
		text.Text += " A has everything that B has."
	case d.BContainsA():
		text.Text += " B has everything that A has."
	default:
		text.Text += " Each has something that the other lacks."
	}
	return text
}

func diffFields(a, b *compared, d *rdbdiff.Difference) render.Fields {
	scope := "all keys"
	if !d.Complete {
		scope = fmt.Sprintf("a sample of about 1 in %d keys, chosen by their names", d.SampleOneIn)
	}
	fields := render.Fields{
		{Label: "A", Value: diffSource(a, &d.A)},
		{Label: "B", Value: diffSource(b, &d.B)},
		{Label: "compared", Value: render.T(scope)},
	}
	if f := d.Functions; f != (rdbdiff.Functions{}) {
		text := fmt.Sprintf("%d equal libraries, %d only in A, %d only in B", f.Equal, f.OnlyInA, f.OnlyInB)
		fields = append(fields, render.Field{Label: "functions", Value: render.T(text)})
	}
	return fields
}

func diffSource(c *compared, s *rdb.Summary) render.Cell {
	return render.T(fmt.Sprintf("%s (%s, RDB version %d, %d keys)", c.location(), operation.Bytes(s.Size), s.Version, s.Keys))
}

// diffSummary has a row for each class of keys. Classes that are seldom come only
// when there are such keys.
func diffSummary(d *rdbdiff.Difference) render.Block {
	t := render.Table{Columns: []render.Column{
		{Title: "KEYS THAT ARE"}, {Title: "COUNT", Right: true}, {Title: "EXPIRED", Right: true},
		{Title: "SIZE IN A", Right: true}, {Title: "SIZE IN B", Right: true},
	}}
	for _, row := range []struct {
		label  string
		amount rdbdiff.Amount
		always bool
	}{
		{"only in A", d.Total.OnlyInA, true},
		{"only in B", d.Total.OnlyInB, true},
		{"changed", d.Total.Changed, true},
		{"  of another type", d.Total.TypeChanged, false},
		{"changed or encoded differently", d.Total.Undecided, false},
		{"equal with another expiry", d.Total.ExpiryChanged, true},
		{"equal", d.Total.Equal, true},
	} {
		if row.amount.Keys == 0 && !row.always {
			continue
		}
		t.Rows = append(t.Rows, []render.Cell{
			render.T(row.label), number(row.amount.Keys), number(row.amount.Expired),
			render.T(operation.Bytes(row.amount.BytesInA).String()), render.T(operation.Bytes(row.amount.BytesInB).String()),
		})
	}
	return t
}

func number(n int64) render.Cell { return render.T(strconv.FormatInt(n, 10)) }

// countsTable has a row for each group of keys.
type countsTable struct{ render.Table }

func diffTable(group string) *countsTable {
	return &countsTable{render.Table{Columns: []render.Column{
		{Title: group}, {Title: "ONLY IN A", Right: true}, {Title: "ONLY IN B", Right: true}, {Title: "CHANGED", Right: true},
		{Title: "UNDECIDED", Right: true, Wide: true}, {Title: "EXPIRY", Right: true}, {Title: "EQUAL", Right: true},
		{Title: "SIZE IN A", Right: true, Wide: true}, {Title: "SIZE IN B", Right: true, Wide: true},
	}}}
}

func (t *countsTable) addRow(name string, c rdbdiff.Counts) {
	var inA, inB int64
	for _, amount := range []rdbdiff.Amount{c.OnlyInA, c.OnlyInB, c.Changed, c.Undecided, c.ExpiryChanged, c.Equal} {
		inA += amount.BytesInA
		inB += amount.BytesInB
	}
	t.Rows = append(t.Rows, []render.Cell{
		render.T(name), number(c.OnlyInA.Keys), number(c.OnlyInB.Keys), number(c.Changed.Keys),
		number(c.Undecided.Keys), number(c.ExpiryChanged.Keys), number(c.Equal.Keys),
		render.T(operation.Bytes(inA).String()), render.T(operation.Bytes(inB).String()),
	})
}

func diffExamples(e rdbdiff.Examples) render.Block {
	t := render.Table{Columns: []render.Column{
		{Title: "FOR EXAMPLE"}, {Title: "DB", Right: true}, {Title: "KEY"}, {Title: "IN A"}, {Title: "IN B"},
	}}
	for _, class := range []struct {
		label string
		keys  []rdbdiff.Example
	}{
		{"only in A", e.OnlyInA},
		{"only in B", e.OnlyInB},
		{"changed", e.Changed},
		{"undecided", e.Undecided},
		{"expiry", e.ExpiryChanged},
	} {
		for _, k := range class.keys {
			t.Rows = append(t.Rows, []render.Cell{
				render.T(class.label), number(int64(k.DB)), {Text: keyText(k), Style: render.Strong},
				render.T(stateText(k.InA)), render.T(stateText(k.InB)),
			})
		}
	}
	return t
}

// longestKey is how much of a key's name a table shows, in columns.
const longestKey = 80

func keyText(e rdbdiff.Example) string {
	if len(e.Key) <= longestKey {
		return `"` + e.Key + `"`
	}
	return `"` + e.Key[:longestKey] + fmt.Sprintf(`"... (%d bytes)`, e.KeyBytes)
}

func stateText(s *rdbdiff.KeyState) string {
	if s == nil {
		return "-"
	}
	text := fmt.Sprintf("%s, %s", s.Type, operation.Bytes(s.Bytes))
	if s.ExpiresAt != nil {
		text += ", expires " + s.ExpiresAt.Format(time.RFC3339)
	}
	return text
}
