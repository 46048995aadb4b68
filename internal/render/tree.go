package render

import (
	"strings"

	"github.com/charmbracelet/lipgloss"
	"github.com/charmbracelet/lipgloss/tree"
)

// Tree is a Block of a node and what hangs below it. Labels that do not fit are wrapped.
type Tree struct {
	// Label is the node's text: cells separated by a space.
	Label    []Cell
	Children []Tree
}

func (t Tree) draw(p painter) string {
	return strings.TrimRight(t.build(p, p.width).String(), "\n")
}

// branch is how many columns a child is further to the right than its parent.
const branch = 4

func (t Tree) build(p painter, columns int) *tree.Tree {
	node := tree.Root(p.wrap(p.line(t.Label), columns)).
		EnumeratorStyle(p.style(Dim).PaddingRight(1))
	for _, child := range t.Children {
		if len(child.Children) == 0 {
			node.Child(p.wrap(p.line(child.Label), columns-branch))
		} else {
			node.Child(child.build(p, columns-branch))
		}
	}
	return node
}

// line joins cells with spaces.
func (p painter) line(cells []Cell) string {
	parts := make([]string, 0, len(cells))
	for _, c := range cells {
		if c.Text != "" {
			parts = append(parts, p.paint(c))
		}
	}
	return strings.Join(parts, " ")
}

// List is a Block of entries, each with a mark, a line and details below it.
type List []Entry

// Entry is one item of a List.
type Entry struct {
	Mark    Cell
	Line    []Cell
	Details []string
}

func (l List) draw(p painter) string {
	var lines []string
	for _, e := range l {
		indent := lipgloss.Width(e.Mark.Text) + 1
		body := p.wrap(p.line(e.Line), p.width-indent)
		for _, d := range e.Details {
			body += "\n" + p.paint(Cell{Text: p.wrap(d, p.width-indent), Style: Dim})
		}
		lines = append(lines, p.paint(e.Mark)+" "+strings.ReplaceAll(body, "\n", "\n"+strings.Repeat(" ", indent)))
	}
	return strings.Join(lines, "\n")
}
