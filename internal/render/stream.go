package render

import (
	"io"

	"github.com/charmbracelet/lipgloss"
)

// hues are the colours of Hue, of the user's own theme: not red and yellow, which mean
// trouble.
const hues = "6542"

// Hue is a style that only tells things apart: pods of which lines come. It repeats after
// a few.
func Hue(n int) Style { return hueBase + Style(n%len(hues)) }

const hueBase Style = 1000

// Stream writes lines one by one as they come.
type Stream struct {
	out   io.Writer
	brush painter
}

// NewStream returns a Stream.
func NewStream(out io.Writer, look Look) *Stream {
	return &Stream{out: out, brush: newPainter(out, look, false)}
}

// Line writes one line: cells separated by a space. Lines that are longer than the terminal
// are left to it, so that they can be copied.
func (s *Stream) Line(cells ...Cell) error {
	_, err := io.WriteString(s.out, s.brush.line(cells)+"\n")
	return err
}

// hue returns the colour of a Hue.
func hue(s Style) lipgloss.Color { return lipgloss.Color(hues[s-hueBase : s-hueBase+1]) }
