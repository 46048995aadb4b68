package render

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
)

// Narrator writes an operation's narration to stderr: a line for each step, and
// progress as a bar that is redrawn on a terminal, or as a line now and then
// elsewhere. It implements operation.Reporter.
type Narrator struct {
	out      io.Writer
	brush    painter
	terminal bool
	now      func() time.Time

	mu       sync.Mutex
	drawn    bool // a bar stands on the current line
	begun    time.Time
	begunAt  int64
	lastShow time.Time
}

// NewNarrator returns a Narrator. terminal chooses between bar and lines.
func NewNarrator(out io.Writer, look Look, terminal bool, now func() time.Time) *Narrator {
	return &Narrator{out: out, brush: newPainter(out, look, false), terminal: terminal, now: now}
}

// How often progress is shown: a bar that moves smoothly, lines that do not
// flood a log.
const (
	barInterval  = 100 * time.Millisecond
	lineInterval = 5 * time.Second
)

// Step implements operation.Reporter.
func (n *Narrator) Step(format string, args ...any) {
	n.say(Cell{Text: "→ " + fmt.Sprintf(format, args...)})
}

// Note implements operation.Reporter.
func (n *Narrator) Note(format string, args ...any) {
	n.say(Cell{Text: "  " + fmt.Sprintf(format, args...), Style: Dim})
}

// Warn implements operation.Reporter.
func (n *Narrator) Warn(format string, args ...any) {
	n.say(Cell{Text: "! " + fmt.Sprintf(format, args...), Style: Warn})
}

func (n *Narrator) say(c Cell) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.clear()
	n.begun = time.Time{}
	// Narration that cannot be written has nowhere to be reported.
	_, _ = fmt.Fprintln(n.out, n.brush.paint(c))
}

// Close removes a bar that is still on the screen.
func (n *Narrator) Close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.clear()
}

func (n *Narrator) clear() {
	if n.drawn {
		_, _ = io.WriteString(n.out, "\r\x1b[K")
		n.drawn = false
	}
}

// Progress implements operation.Reporter.
func (n *Narrator) Progress(p operation.Progress) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.now()
	if n.begun.IsZero() {
		n.begun, n.begunAt, n.lastShow = now, p.Done, now
	}
	interval := lineInterval
	if n.terminal {
		interval = barInterval
	}
	if now.Sub(n.lastShow) < interval {
		return
	}
	n.lastShow = now
	text := progressText(p, now.Sub(n.begun), p.Done-n.begunAt)
	if !n.terminal {
		_, _ = fmt.Fprintln(n.out, "  "+text)
		return
	}
	if width := n.brush.width; width > 0 && len(text) > width-3 {
		text = text[:max(0, width-3)]
	}
	if p.Total > 0 {
		text = n.bar(p, len(text)) + text
	}
	_, _ = io.WriteString(n.out, "\r\x1b[K  "+text)
	n.drawn = true
}

func (n *Narrator) bar(p operation.Progress, textWidth int) string {
	cells := min(30, n.brush.width-textWidth-6)
	if cells < 5 {
		return ""
	}
	full := int(min(p.Done, p.Total) * int64(cells) / p.Total)
	return n.brush.paint(Cell{Text: strings.Repeat("━", full), Style: Good}) +
		n.brush.paint(Cell{Text: strings.Repeat("─", cells-full), Style: Dim}) + " "
}

// progressText says how far, how fast and how long still.
func progressText(p operation.Progress, elapsed time.Duration, moved int64) string {
	amount := func(v int64) string {
		if p.Unit == "bytes" {
			return operation.Bytes(v).String()
		}
		return fmt.Sprintf("%d %s", v, p.Unit)
	}
	parts := []string{amount(p.Done)}
	if p.Total > 0 {
		parts[0] = fmt.Sprintf("%s of %s (%d %%)", amount(p.Done), amount(p.Total), min(100, p.Done*100/p.Total))
	}
	if rate := float64(moved) / elapsed.Seconds(); elapsed > time.Second && rate > 0 {
		parts = append(parts, amount(int64(rate))+"/s")
		if left := p.Total - p.Done; left > 0 {
			eta := time.Duration(float64(left) / rate * float64(time.Second)).Round(time.Second)
			parts = append(parts, eta.String()+" left")
		}
	}
	if p.Detail != "" {
		parts = append(parts, p.Detail)
	}
	return strings.Join(parts, ", ")
}
