package render

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// patience is how long nothing is said: most commands are done by then.
const patience = time.Second

// Waiting shows on a terminal what is being waited for, and for how long, once that takes
// longer than a second. Nothing else may write to the terminal before the returned
// function has been called, which removes the line; it may be called again.
func Waiting(out io.Writer, look Look, what string) (done func()) {
	brush := newPainter(out, look, false)
	ended, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		ticker := time.NewTicker(patience)
		defer ticker.Stop()
		drawn := false
		for seconds := 1; ; seconds++ {
			select {
			case <-ended:
				if drawn {
					_, _ = io.WriteString(out, "\r\x1b[K") // there is nobody to tell
				}
				return
			case <-ticker.C:
				// The terminal would wrap what is too long, and the line could not be removed.
				text := brush.cut(fmt.Sprintf("  … %s (%d s)", what, seconds))
				_, _ = io.WriteString(out, "\r\x1b[K"+brush.paint(Cell{Text: text, Style: Dim}))
				drawn = true
			}
		}
	}()
	var once sync.Once
	return func() {
		once.Do(func() { close(ended) })
		<-gone
	}
}

// cut shortens a line to the width, less the last column.
func (p painter) cut(text string) string {
	line := []rune(text)
	if p.width <= 1 || len(line) < p.width {
		return text
	}
	return string(line[:p.width-2]) + "…"
}
