// Package render draws results and narration. It is the only importer of
// lipgloss, and the only place that decides about colours, widths and output
// formats.
//
// A command hands over a Document: the value that scripts get (-o json, yaml,
// jsonpath, go-template), the names (-o name) and the blocks that people see (-o
// table, wide). Nothing here knows what a Redis is.
package render

import (
	"io"
	"strings"
)

// Document is the result of a command in every form it can be printed.
type Document struct {
	// Value is what json, yaml, jsonpath and go-template print.
	Value any
	// Names are what -o name prints, one a line.
	Names []string
	// Blocks are what table and wide print, with an empty line between them.
	Blocks []Block
}

// Block is a part of a document that can draw itself.
type Block interface {
	// draw returns the block's lines, without a newline at the end. An empty
	// string leaves the block out.
	draw(p painter) string
}

// Style says what a text means; the painter decides how that looks.
type Style int

// The styles.
const (
	Plain  Style = iota
	Strong       // what the eye should find first
	Dim          // detail
	Good         // as it should be
	Warn         // needs attention
	Bad          // broken
)

// Cell is a text with a meaning.
type Cell struct {
	Text  string
	Style Style
}

// T returns a plain cell.
func T(text string) Cell { return Cell{Text: text} }

// Text is a Block of one paragraph.
type Text Cell

func (t Text) draw(p painter) string {
	return p.paint(Cell{Text: p.wrapParagraphs(t.Text), Style: t.Style})
}

// Verbatim is a Block of text that is not wrapped: to be copied, or read by a program.
type Verbatim string

func (v Verbatim) draw(painter) string { return visible(string(v)) }

// Printer prints documents.
type Printer struct {
	Out    io.Writer
	Format Format
	Look   Look
	// Series marks a document as one of many: in JSON each is one line, in YAML each
	// begins with "---".
	Series bool
}

// Look is what the terminal can show.
type Look struct {
	// Color switches colours on.
	Color bool
	// Width in columns; 0 means unlimited (not a terminal).
	Width int
}

// Print writes the document in the printer's format.
func (p Printer) Print(d Document) error {
	switch p.Format.kind {
	case formatTable, formatWide:
		return p.printBlocks(d.Blocks)
	case formatName:
		for _, name := range d.Names {
			if _, err := io.WriteString(p.Out, name+"\n"); err != nil {
				return err
			}
		}
		return nil
	default:
		return p.Format.encode(p.Out, d.Value, p.Series)
	}
}

func (p Printer) printBlocks(blocks []Block) error {
	brush := newPainter(p.Out, p.Look, p.Format.kind == formatWide)
	text := drawAll(brush, blocks)
	if text == "" {
		return nil
	}
	_, err := io.WriteString(p.Out, text+"\n")
	return err
}

// drawAll draws blocks with an empty line between them.
func drawAll(brush painter, blocks []Block) string {
	var drawn []string
	for _, b := range blocks {
		if text := b.draw(brush); text != "" {
			drawn = append(drawn, trimLines(text))
		}
	}
	return strings.Join(drawn, "\n\n")
}

// trimLines cuts the spaces that padding leaves at the end of lines.
func trimLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " ")
	}
	return strings.Join(lines, "\n")
}
