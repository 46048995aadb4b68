package render

import "strings"

// Spark draws values as a row of bars, one column each, the highest at top. A value
// below 0 is unknown and leaves a gap. 0 is the lowest bar, and anything above it
// shows: the lowest bar means exactly 0.
func Spark(values []int64, top int64) string {
	bars := []rune("▁▂▃▄▅▆▇█")
	var b strings.Builder
	for _, v := range values {
		switch {
		case v < 0:
			b.WriteByte(' ')
		case v == 0 || top <= 0:
			b.WriteRune(bars[0])
		default:
			steps := float64(len(bars) - 1)
			b.WriteRune(bars[max(1, int(float64(min(v, top))/float64(top)*steps+0.5))])
		}
	}
	return b.String()
}
