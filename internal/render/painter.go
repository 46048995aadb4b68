package render

import (
	"io"

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
	if c.Style == Plain {
		return c.Text
	}
	return p.style(c.Style).Render(c.Text)
}

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
		return style
	}
}

// wrap breaks text at spaces so that no line is longer than columns, unless the
// width is unlimited.
func (p painter) wrap(text string, columns int) string {
	if p.width == 0 || columns < 10 {
		return text
	}
	return p.renderer.NewStyle().Width(columns).Render(text)
}
