package render

import (
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/charmbracelet/lipgloss"
	"github.com/muesli/termenv"
)

// painter turns cells into text for one output.
type painter struct {
	renderer *lipgloss.Renderer
	width    int
	wide     bool
}

func newPainter(out io.Writer, look Look, wide bool) painter {
	profile := termenv.Ascii
	if look.Color {
		profile = termenv.ANSI // the 16 colours that the user's own theme defines
	}
	renderer := lipgloss.NewRenderer(out, termenv.WithProfile(profile))
	renderer.SetColorProfile(profile)
	return painter{renderer: renderer, width: look.Width, wide: wide}
}

func (p painter) paint(c Cell) string {
	text := visible(c.Text)
	if c.Style == Plain || text == "" { // a colour around nothing would count as something
		return text
	}
	return p.style(c.Style).Render(text)
}

// visible escapes control characters: texts come from servers and files, and an
// escape sequence in them must not reach the operator's terminal.
func visible(text string) string {
	if !strings.ContainsFunc(text, isHidden) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if isHidden(r) {
			fmt.Fprintf(&b, `\x%02x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func isHidden(r rune) bool { return unicode.IsControl(r) && r != '\n' }

func (p painter) style(s Style) lipgloss.Style {
	style := p.renderer.NewStyle()
	switch s {
	case Strong:
		return style.Bold(true)
	case Dim:
		return style.Faint(true)
	case Good:
		return style.Foreground(lipgloss.Color("2"))
	case Warn:
		return style.Foreground(lipgloss.Color("3"))
	case Bad:
		return style.Foreground(lipgloss.Color("1")).Bold(true)
	default:
		if s >= hueBase {
			return style.Foreground(hue(s))
		}
		return style
	}
}

// wrapParagraphs wraps each line of a text to the width.
func (p painter) wrapParagraphs(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = p.wrap(line, p.width)
	}
	return strings.Join(lines, "\n")
}

// wrap breaks text at spaces so that no line is longer than columns, unless the
// width is unlimited. It breaks nowhere else (as lipgloss does, at hyphens): a path or
// a digest that does not fit is left to the terminal, so that it can be copied.
func (p painter) wrap(text string, columns int) string {
	if p.width == 0 || columns < 10 {
		return text
	}
	var b strings.Builder
	used := 0
	for i, word := range strings.Split(text, " ") {
		width := lipgloss.Width(word)
		switch {
		case i == 0:
		case used+1+width > columns:
			b.WriteByte('\n')
			used = 0
		default:
			b.WriteByte(' ')
			used++
		}
		b.WriteString(word)
		used += width
	}
	return b.String()
}
