package render

import (
	"io"
	"slices"
	"strings"

	"github.com/charmbracelet/lipgloss"
)

// GridColumn heads a column of a Grid.
type GridColumn struct {
	Title string
	// Right aligns numbers.
	Right bool
	// Rank says how soon the column is left out where the rows do not fit: the highest goes
	// first, 0 stays.
	Rank int
	// Tail keeps the end of a text that is cut: of a plot, what is newest.
	Tail bool
}

// Grid is a Block of rows that are one line each, however narrow the terminal is: columns
// that matter less are left out, and what still does not fit is cut.
type Grid struct {
	Columns []GridColumn
	Rows    [][]Cell
	// Mark, when not negative, is the row that is marked. Rows have room for the mark.
	Mark int
}

const gridGap = 2

func (g Grid) draw(p painter) string {
	shown, widths := g.fit(p.width)
	lines := make([]string, 0, len(g.Rows)+1)
	header := make([]Cell, len(g.Columns))
	for i, c := range g.Columns {
		header[i] = Cell{Text: c.Title, Style: Dim}
	}
	for n, row := range append([][]Cell{header}, g.Rows...) {
		mark := "  "
		if n-1 == g.Mark && n > 0 {
			mark = p.paint(Cell{Text: "▶", Style: Strong}) + " "
		}
		var line strings.Builder
		line.WriteString(mark)
		for i, c := range shown {
			if i > 0 {
				line.WriteString(strings.Repeat(" ", gridGap))
			}
			line.WriteString(g.cell(p, row[c], c, widths[c]))
		}
		lines = append(lines, strings.TrimRight(line.String(), " "))
	}
	return strings.Join(lines, "\n")
}

func (g Grid) cell(p painter, c Cell, column, width int) string {
	c.Text = shorten(visible(c.Text), width, g.Columns[column].Tail)
	padding := strings.Repeat(" ", max(0, width-lipgloss.Width(c.Text)))
	if g.Columns[column].Right {
		return padding + p.paint(c)
	}
	return p.paint(c) + padding
}

// shorten cuts a text to so many columns.
func shorten(text string, width int, tail bool) string {
	runes := []rune(text)
	switch {
	case lipgloss.Width(text) <= width:
		return text
	case tail:
		return string(runes[max(0, len(runes)-width):])
	case width <= 1:
		return "…"
	default:
		return string(runes[:min(len(runes), width-1)]) + "…"
	}
}

// fit chooses the columns, and how wide they are.
func (g Grid) fit(width int) (shown, widths []int) {
	widths = make([]int, len(g.Columns))
	for i, c := range g.Columns {
		shown = append(shown, i)
		widths[i] = lipgloss.Width(c.Title)
		for _, row := range g.Rows {
			widths[i] = max(widths[i], lipgloss.Width(row[i].Text))
		}
	}
	if width <= 0 {
		return shown, widths
	}
	for {
		total := 2 - gridGap
		drop := -1
		for n, c := range shown {
			total += widths[c] + gridGap
			if rank := g.Columns[c].Rank; rank > 0 && (drop < 0 || rank >= g.Columns[shown[drop]].Rank) {
				drop = n
			}
		}
		if total <= width {
			return shown, widths
		}
		if drop >= 0 {
			shown = append(shown[:drop:drop], shown[drop+1:]...)
			continue
		}
		// Only what must stay is left: the widest gives way.
		widest := 0
		for _, c := range shown {
			if widths[c] > widths[widest] || !slices.Contains(shown, widest) {
				widest = c
			}
		}
		widths[widest] = max(3, widths[widest]-(total-width))
		return shown, widths
	}
}

// Line is a Block of one line, which is cut where it does not fit.
type Line []Cell

func (l Line) draw(p painter) string {
	var b strings.Builder
	left := p.width
	for i, c := range l {
		c.Text = visible(c.Text)
		if i > 0 && c.Text != "" && b.Len() > 0 {
			c.Text = " " + c.Text
		}
		if p.width > 0 {
			c.Text = shorten(c.Text, left, false)
			left -= lipgloss.Width(c.Text)
		}
		b.WriteString(p.paint(c))
		if p.width > 0 && left <= 0 {
			break
		}
	}
	return b.String()
}

// Stack is a Block of blocks without empty lines between them.
type Stack []Block

func (s Stack) draw(p painter) string {
	var drawn []string
	for _, b := range s {
		if text := b.draw(p); text != "" {
			drawn = append(drawn, text)
		}
	}
	return strings.Join(drawn, "\n")
}

// Gap is a Block of one empty line within a Stack.
func Gap() Block { return Line{T(" ")} }

// Lines draws a block for a screen of this width, line by line.
func Lines(look Look, block Block) []string {
	return strings.Split(trimLines(block.draw(newPainter(io.Discard, look, false))), "\n")
}
