package render

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/charmbracelet/lipgloss"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSpark(t *testing.T) {
	for name, c := range map[string]struct {
		values []int64
		top    int64
		want   string
	}{
		"a ramp":               {[]int64{0, 1, 2, 3, 4, 5, 6, 7}, 7, "▁▂▃▄▅▆▇█"},
		"little is not 0":      {[]int64{0, 1, 1_000_000}, 1_000_000, "▁▂█"},
		"unknown is a gap":     {[]int64{5, -1, 5}, 5, "█ █"},
		"above the top":        {[]int64{50}, 5, "█"},
		"nothing was ever > 0": {[]int64{0, 0}, 0, "▁▁"},
		"huge":                 {[]int64{1 << 62, 1 << 61}, 1 << 62, "█▅"},
		"empty":                {nil, 0, ""},
	} {
		assert.Equal(t, c.want, Spark(c.values, c.top), name)
	}
}

// screen shows what a terminal shows after the given output: the escape sequences
// that Live uses, and no others.
func screen(t *testing.T, output string) []string {
	t.Helper()
	lines, row := []string{""}, 0
	for output != "" {
		switch {
		case strings.HasPrefix(output, "\x1b[J"):
			lines, output = append(lines[:row], ""), output[3:]
		case strings.HasPrefix(output, "\x1b["):
			end := strings.IndexByte(output, 'A')
			require.Positive(t, end, "%q", output)
			up := 0
			for _, digit := range output[2:end] {
				up = up*10 + int(digit-'0')
			}
			row, output = row-up, output[end+1:]
			require.GreaterOrEqual(t, row, 0, "above the screen")
		default:
			line, rest, found := strings.Cut(output, "\n")
			text, erased := strings.CutPrefix(line, "\r\x1b[K")
			require.True(t, found && erased, "%q", line)
			lines[row], output = text, rest
			if row++; row == len(lines) {
				lines = append(lines, "")
			}
		}
	}
	return lines[:len(lines)-1]
}

// TestLive: whatever was drawn before, the screen shows the last frame and nothing
// else.
func TestLive(t *testing.T) {
	var out bytes.Buffer
	size := func(width, height int) func() (int, int) { return func() (int, int) { return width, height } }
	live := NewLive(&out, false, size(12, 0))
	for _, frame := range [][]Block{
		{Text{Text: "one"}},
		{Text{Text: "one"}, Text{Text: "two"}},
		{Text{Text: "three"}},
		{Text{Text: "a line that is longer than the terminal is wide"}, Text{Text: "end"}},
		{},
		{Text{Text: "last"}, Text{}, Text{Text: "frame"}},
	} {
		require.NoError(t, live.Draw(frame...))
	}
	assert.Equal(t, []string{"last", "", "frame"}, screen(t, out.String()))

	out.Reset()
	live = NewLive(&out, true, size(12, 0))
	require.NoError(t, live.Draw(Text{Text: "longer than the terminal", Style: Bad}))
	for _, line := range strings.Split(out.String(), "\n") {
		assert.LessOrEqual(t, lipgloss.Width(line), 12)
	}

	out.Reset()
	live = NewLive(&out, false, size(40, 4))
	for range 2 {
		require.NoError(t, live.Draw(Text{Text: "1\n2\n3\n4\n5"}))
	}
	assert.Equal(t, []string{"1", "2", "… 3 lines more"}, screen(t, out.String()), "a frame never scrolls")
	out.Reset()
	live = NewLive(&out, false, size(40, 4))
	require.NoError(t, live.Draw(Text{Text: "1\n2\n3"}))
	assert.Equal(t, []string{"1", "2", "3"}, screen(t, out.String()))
	assert.Error(t, NewLive(brokenWriter{}, false, size(0, 0)).Draw(Text{Text: "x"}))
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

// TestTail: a plot loses its oldest part where the terminal is narrow, and the table
// becomes records where too little of it would be left.
func TestTail(t *testing.T) {
	table := Table{
		Columns: []Column{{Title: "NAME"}, {Title: "PLOT", Tail: true}},
		Rows:    [][]Cell{{T("one"), T("0123456789abcdefghij")}, {T("two"), T("short")}},
	}
	assert.Equal(t, golden(`
NAME   PLOT
one    0123456789abcdefghij
two    short
`), draw(t, "table", Look{Width: 27}, table))
	assert.Equal(t, golden(`
NAME   PLOT
one    abcdefghij
two    short
`), draw(t, "table", Look{Width: 17}, table))
	assert.Equal(t, golden(`
NAME  one
PLOT  0123456789abcdefghij

NAME  two
PLOT  short
`), draw(t, "table", Look{Width: 16}, table))
}

func TestSeries(t *testing.T) {
	for format, want := range map[string]string{
		"json":          "{\"a\":1}\n{\"a\":2}\n",
		"yaml":          "---\na: 1\n---\na: 2\n",
		"jsonpath={.a}": "1\n2\n",
	} {
		var out bytes.Buffer
		f, err := ParseFormat(format)
		require.NoError(t, err)
		p := Printer{Out: &out, Format: f, Series: true}
		for n := range 2 {
			require.NoError(t, p.Print(Document{Value: map[string]int{"a": n + 1}}))
		}
		assert.Equal(t, want, out.String(), format)
	}
}
