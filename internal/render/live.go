package render

import (
	"fmt"
	"io"
	"strings"
)

// Live draws blocks on a terminal again and again in the same place. It moves the
// cursor up over what it has drawn before; nothing else may write to the terminal in
// between.
type Live struct {
	out   io.Writer
	color bool
	size  func() (width, height int)
	lines int // of the last frame
}

// NewLive returns a Live for a terminal. size returns the terminal's present columns
// and lines; 0 means unlimited.
func NewLive(out io.Writer, color bool, size func() (width, height int)) *Live {
	return &Live{out: out, color: color, size: size}
}

// Draw replaces the last frame. What does not fit is cut: a frame that wrapped or
// scrolled would move the next one away from its place.
func (l *Live) Draw(blocks ...Block) error {
	width, height := l.size()
	brush := newPainter(l.out, Look{Color: l.color, Width: width}, false)
	frame := drawAll(brush, blocks)
	if width > 0 {
		frame = trimLines(brush.renderer.NewStyle().MaxWidth(width).Render(frame))
	}
	lines := strings.Split(strings.TrimRight(frame, "\n"), "\n")
	// The cursor stands below the frame, hence one line less.
	if room := height - 1; height > 1 && len(lines) > room {
		lines = append(lines[:room-1], brush.paint(Cell{Text: fmt.Sprintf("… %d lines more", len(lines)-room+1), Style: Dim}))
	}
	var b strings.Builder
	if l.lines > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", l.lines)
	}
	// Old lines are cleared one by one, and what is left of them below the frame: a
	// cleared screen would flicker. Each is cleared before it is written: behind a line
	// that fills the terminal, its last character would be cleared.
	for _, line := range lines {
		b.WriteString("\r\x1b[K" + line + "\n")
	}
	b.WriteString("\x1b[J")
	l.lines = len(lines)
	_, err := io.WriteString(l.out, b.String())
	return err
}
