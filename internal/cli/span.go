package cli

import (
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
)

const day = 24 * time.Hour

var spanPart = regexp.MustCompile(`^([0-9]{1,9})(w|d|h|m|s)`)

// parseSpan reads a duration with days and weeks, which time.ParseDuration does not
// know: "36h", "7d", "1w2d12h". Days have 24 hours.
func parseSpan(text string) (time.Duration, error) {
	units := map[string]time.Duration{"w": 7 * day, "d": day, "h": time.Hour, "m": time.Minute, "s": time.Second}
	var span time.Duration
	for rest := text; rest != "" || text == ""; {
		part := spanPart.FindStringSubmatch(rest)
		if part == nil {
			return 0, fmt.Errorf("%q is not a duration such as 36h, 7d or 1w2d", text)
		}
		n, err := strconv.ParseInt(part[1], 10, 64)
		if err != nil {
			return 0, err
		}
		unit := units[part[2]]
		if n > int64((1<<63-1-span)/unit) {
			return 0, fmt.Errorf("%q is too long", text)
		}
		span += time.Duration(n) * unit
		rest = rest[len(part[0]):]
	}
	return span, nil
}

// moment reads a point in time: an age ("24h", "7d"), a day (its beginning, UTC), or
// RFC 3339. An empty text is the zero time.
func (a *app) moment(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if span, err := parseSpan(text); err == nil {
		return a.system.Now().Add(-span), nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, operation.Errorf(operation.Usage,
		"--%s %q: write an age (24h, 7d), a day (2026-11-23) or a time (2026-11-23T09:05:00Z)", flag, text)
}
