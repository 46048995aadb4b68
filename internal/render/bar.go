package render

import "strings"

// Bar draws a value as a bar of at most columns columns, which is what top takes. It is
// exact to an eighth of a column. Anything above 0 shows.
func Bar(value, top int64, columns int) string {
	if value <= 0 || top <= 0 || columns <= 0 {
		return ""
	}
	parts := []rune(" ▏▎▍▌▋▊▉█")
	full := len(parts) - 1
	eighths := max(1, int(float64(min(value, top))/float64(top)*float64(columns*full)+0.5))
	bar := strings.Repeat(string(parts[full]), eighths/full)
	if rest := eighths % full; rest > 0 {
		bar += string(parts[rest])
	}
	return bar
}
