package render

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/redisctl/redisctl/internal/operation"
)

// clock is a time that moves when told.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time       { return c.now }
func (c *clock) pass(d time.Duration) { c.now = c.now.Add(d) }
func newClock() *clock                { return &clock{now: time.Unix(1_700_000_000, 0)} }
func bytesOf(done, total int64) operation.Progress {
	return operation.Progress{Done: done, Total: total, Unit: "bytes"}
}

func TestNarratorLines(t *testing.T) {
	var out bytes.Buffer
	c := newClock()
	n := NewNarrator(&out, Look{}, false, c.Now)
	n.Step("taking a snapshot from %s", "redis-1")
	n.Note("the server waits")
	n.Warn("disk nearly full")
	n.Progress(bytesOf(0, 100<<20))
	for range 12 { // every second, but a line only every five
		c.pass(time.Second)
		n.Progress(bytesOf((c.now.Unix()-1_700_000_000)<<20, 100<<20))
	}
	n.Close()
	assert.Equal(t, golden(`
→ taking a snapshot from redis-1
  the server waits
! disk nearly full
  5.0 MiB of 100 MiB (5 %), 1.0 MiB/s, 1m35s left
  10.0 MiB of 100 MiB (10 %), 1.0 MiB/s, 1m30s left
`), out.String())
}

// TestNarratorBar: on a terminal progress is one line that is redrawn, and gone at the
// end.
func TestNarratorBar(t *testing.T) {
	var out bytes.Buffer
	c := newClock()
	n := NewNarrator(&out, Look{Width: 80}, true, c.Now)
	n.Progress(bytesOf(0, 4<<20))
	c.pass(50 * time.Millisecond)
	n.Progress(bytesOf(1<<20, 4<<20)) // too soon to be seen
	c.pass(50 * time.Millisecond)
	n.Progress(bytesOf(2<<20, 4<<20))
	c.pass(2 * time.Second)
	n.Progress(bytesOf(3<<20, 4<<20))
	n.Step("verifying")
	n.Close()
	assert.Equal(t, "\r\x1b[K  ━━━━━━━━━━━━━━━─────────────── 2.0 MiB of 4.0 MiB (50 %)"+
		"\r\x1b[K  ━━━━━━━━━━━━━━━━━━━━━──────── 3.0 MiB of 4.0 MiB (75 %), 1.4 MiB/s, 1s left"+
		"\r\x1b[K→ verifying\n", out.String())
}

func TestNarratorCloseRemovesTheBar(t *testing.T) {
	var out bytes.Buffer
	c := newClock()
	n := NewNarrator(&out, Look{Width: 80}, true, c.Now)
	n.Progress(bytesOf(0, 0))
	c.pass(time.Second)
	n.Progress(operation.Progress{Done: 7, Unit: "keys", Detail: "server is forking"})
	n.Close()
	n.Close()
	assert.Equal(t, "\r\x1b[K  7 keys, server is forking\r\x1b[K", out.String())
}

// TestNarratorNarrow: the line never wraps, or the next redraw would leave remains.
func TestNarratorNarrow(t *testing.T) {
	for width := 1; width < 60; width++ {
		var out bytes.Buffer
		c := newClock()
		n := NewNarrator(&out, Look{Width: width}, true, c.Now)
		n.Progress(bytesOf(0, 4<<20))
		c.pass(2 * time.Second)
		n.Progress(bytesOf(3<<20, 4<<20))
		line := out.String()[len("\r\x1b[K"):]
		assert.LessOrEqual(t, len([]rune(line)), max(width, 2), "width %d: %q", width, line)
	}
}

// TestNarratorColors: only when asked for.
func TestNarratorColors(t *testing.T) {
	var out bytes.Buffer
	n := NewNarrator(&out, Look{Color: true}, true, newClock().Now)
	n.Warn("careful")
	assert.Equal(t, "\x1b[33m! careful\x1b[0m\n", out.String())
}

// TestRateCountsTheCurrentStepOnly: what an earlier step moved must not make a later
// one look fast.
func TestRateCountsTheCurrentStepOnly(t *testing.T) {
	var out bytes.Buffer
	c := newClock()
	n := NewNarrator(&out, Look{}, false, c.Now)
	n.Progress(bytesOf(0, 0))
	c.pass(10 * time.Second)
	n.Progress(bytesOf(100<<20, 0))
	n.Step("again")
	n.Progress(bytesOf(100<<20, 0))
	c.pass(10 * time.Second)
	n.Progress(bytesOf(110<<20, 0))
	assert.Equal(t, "  100 MiB, 10.0 MiB/s\n→ again\n  110 MiB, 1.0 MiB/s\n", out.String())
}
