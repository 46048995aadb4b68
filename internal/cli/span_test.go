package cli

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
)

func TestMoment(t *testing.T) {
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	a := newApp(System{Now: func() time.Time { return now }})
	for text, want := range map[string]time.Time{
		"":                          {},
		"90s":                       now.Add(-90 * time.Second),
		"24h":                       now.Add(-day),
		"7d":                        now.Add(-7 * day),
		"1w2d12h30m":                now.Add(-9*day - 12*time.Hour - 30*time.Minute),
		"2026-11-20":                time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC),
		"2026-11-20T08:00:00+02:00": time.Date(2026, 11, 20, 6, 0, 0, 0, time.UTC),
	} {
		got, err := a.moment("since", text)
		require.NoError(t, err, text)
		assert.True(t, want.Equal(got), "%s: %s", text, got)
	}
	for _, text := range []string{"1", "d", "1y", "-1d", "1d ", "1.5h", "yesterday", "2026-13-01", "999999999w999999999w"} {
		_, err := a.moment("since", text)
		require.ErrorContains(t, err, "--since", text)
		assert.Equal(t, operation.Usage, operation.KindOf(err))
	}
}
