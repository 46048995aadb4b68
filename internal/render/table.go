package render

import (
	"slices"
	"strings"

	"github.com/charmbracelet/lipgloss"
)

// Column heads a column of a Table.
type Column struct {
	Title string
	// Right aligns numbers.
	Right bool
	// Wide columns appear only with -o wide.
	Wide bool
	// Tail columns show only the end of texts where the row would not fit: of a
	// plot, what is newest.
	Tail bool
}

// Table is a Block of rows. Where the terminal is too narrow for a row, each row
// becomes a record of "title: cell" lines instead.
type Table struct {
	Columns []Column
	Rows    [][]Cell
	// Empty is printed when there are no rows.
	Empty string
}

const columnGap = 3

func (t Table) draw(p painter) string {
	if len(t.Rows) == 0 {
		return p.wrapParagraphs(t.Empty)
	}
	t = t.oneLined()
	shown := t.shown(p.wide)
	widths := make([]int, len(shown))
	total := -columnGap
	for i, c := range shown {
		widths[i] = lipgloss.Width(t.Columns[c].Title)
		for _, row := range t.Rows {
			widths[i] = max(widths[i], lipgloss.Width(row[c].Text))
		}
		total += widths[i] + columnGap
	}
	if p.width > 0 && total > p.width {
		if t, fits := t.cut(shown, widths, total-p.width); fits {
			return t.draw(p)
		}
		return t.records(p, shown)
	}
	header := make([]Cell, len(t.Columns))
	for i, c := range t.Columns {
		header[i] = Cell{Text: c.Title, Style: Dim}
	}
	lines := make([]string, 0, len(t.Rows)+1)
	for _, row := range append([][]Cell{header}, t.Rows...) {
		var line strings.Builder
		for i, c := range shown {
			if i > 0 {
				line.WriteString(strings.Repeat(" ", columnGap))
			}
			padding := strings.Repeat(" ", widths[i]-lipgloss.Width(row[c].Text))
			if t.Columns[c].Right {
				line.WriteString(padding + p.paint(row[c]))
			} else {
				line.WriteString(p.paint(row[c]) + padding)
			}
		}
		lines = append(lines, line.String())
	}
	return strings.Join(lines, "\n")
}

// oneLined returns the table with each cell as it is going to be seen, on one line.
func (t Table) oneLined() Table {
	rows := make([][]Cell, len(t.Rows))
	for r, row := range t.Rows {
		rows[r] = slices.Clone(row)
		for c := range row {
			rows[r][c].Text = visible(strings.ReplaceAll(strings.TrimRight(row[c].Text, "\n"), "\n", " "))
		}
	}
	t.Rows = rows
	return t
}

// cut returns the table with its first Tail column made narrower by excess columns, or
// false when that is not enough, because of its title or because too little is left.
func (t Table) cut(shown, widths []int, excess int) (Table, bool) {
	const least = 10
	for i, c := range shown {
		room := widths[i] - excess
		if !t.Columns[c].Tail || room < max(least, lipgloss.Width(t.Columns[c].Title)) {
			continue
		}
		rows := make([][]Cell, len(t.Rows))
		for r, row := range t.Rows {
			rows[r] = slices.Clone(row)
			text := []rune(row[c].Text)
			rows[r][c].Text = string(text[max(0, len(text)-room):])
		}
		t.Rows = rows
		return t, true
	}
	return t, false
}

// shown returns the indexes of the columns to show.
func (t Table) shown(wide bool) []int {
	var shown []int
	for i, c := range t.Columns {
		if wide || !c.Wide {
			shown = append(shown, i)
		}
	}
	return shown
}

func (t Table) records(p painter, shown []int) string {
	records := make([]string, len(t.Rows))
	for r, row := range t.Rows {
		fields := make(Fields, 0, len(shown))
		for _, c := range shown {
			if row[c].Text != "" {
				fields = append(fields, Field{Label: t.Columns[c].Title, Value: row[c]})
			}
		}
		records[r] = fields.draw(p)
	}
	return strings.Join(records, "\n\n")
}

// Fields is a Block of "label  value" lines. Where labels take more than half of
// the width, values are below them.
type Fields []Field

// Field is one line of Fields.
type Field struct {
	Label string
	Value Cell
}

func (f Fields) draw(p painter) string {
	width := 0
	for _, field := range f {
		width = max(width, lipgloss.Width(field.Label))
	}
	if p.width > 0 && 2*width > p.width {
		return f.stacked(p)
	}
	lines := make([]string, len(f))
	for i, field := range f {
		label := p.paint(Cell{Text: field.Label, Style: Dim}) +
			strings.Repeat(" ", width-lipgloss.Width(field.Label)+2)
		value := Cell{Text: p.wrap(field.Value.Text, p.width-width-2), Style: field.Value.Style}
		lines[i] = lipgloss.JoinHorizontal(lipgloss.Top, label, p.paint(value))
	}
	return strings.Join(lines, "\n")
}

func (f Fields) stacked(p painter) string {
	const indent = "  "
	lines := make([]string, len(f))
	for i, field := range f {
		label := p.paint(Cell{Text: p.wrap(field.Label, p.width), Style: Dim})
		value := p.paint(Cell{Text: p.wrap(field.Value.Text, p.width-len(indent)), Style: field.Value.Style})
		lines[i] = label + "\n" + indent + strings.ReplaceAll(value, "\n", "\n"+indent)
	}
	return strings.Join(lines, "\n")
}
