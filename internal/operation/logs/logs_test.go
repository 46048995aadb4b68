package logs_test

import (
	"context"
	"errors"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/logs"
	"github.com/redisctl/redisctl/internal/operation/operationtest"
)

// printed are lines of containers: of each pod, one list for each time its log is opened.
type printed map[string]*opened

// opened is read by the one who follows that pod.
type opened [][]entry

type entry struct {
	second int
	text   string
}

func (p printed) StreamLog(
	ctx context.Context, _ *operation.Deployment, r logs.Request, line func(time.Time, string) error,
) error {
	log := p[r.Pod]
	if log == nil || len(*log) == 0 {
		if r.Follow {
			<-ctx.Done()
			return ctx.Err()
		}
		return operation.Errorf(operation.Failed, "no log")
	}
	now := (*log)[0]
	*log = (*log)[1:]
	for _, e := range now {
		if err := line(time.Unix(int64(e.second), 0), e.text); err != nil {
			return err
		}
	}
	return nil
}

func read(t *testing.T, p printed, n int, o logs.Options) ([]logs.Line, error) {
	t.Helper()
	var got []logs.Line
	err := logs.Run(t.Context(), p, operationtest.Deployment(n), o, operation.DiscardReporter{}, func(l logs.Line) error {
		got = append(got, l)
		return nil
	})
	return got, err
}

func texts(lines []logs.Line) []string {
	var list []string
	for _, l := range lines {
		list = append(list, l.Text)
	}
	return list
}

func TestByTime(t *testing.T) {
	got, err := read(t, printed{
		"cache-redis-0": {{{1, "a"}, {4, "d"}}}, "cache-redis-1": {{{2, "b"}, {3, "c"}, {5, "e"}}},
	}, 2, logs.Options{})
	require.NoError(t, err)
	assert.Equal(t, []string{"a", "b", "c", "d", "e"}, texts(got))
	assert.Equal(t, "cache-redis-1", got[1].Pod)
}

// TestFollowThroughARestart: the next container goes on, and what was shown is not repeated.
func TestFollowThroughARestart(t *testing.T) {
	enough := errors.New("enough")
	seen := 0
	var got []string
	err := logs.Run(t.Context(), printed{
		"cache-redis-0": {{{1, "a"}, {2, "b"}}, {{2, "b"}, {3, "c"}}}, "cache-redis-1": {},
	}, operationtest.Deployment(2), logs.Options{Follow: true}, operation.DiscardReporter{}, func(l logs.Line) error {
		got = append(got, l.Text)
		if seen++; seen == 3 {
			return enough
		}
		return nil
	})
	require.ErrorIs(t, err, enough)
	assert.Equal(t, []string{"a", "b", "c"}, got)
}

// TestFollowsWhatIsAdded: a pod that scaling adds is read from its beginning, although only
// the last lines of the others were asked for.
func TestFollowsWhatIsAdded(t *testing.T) {
	enough := errors.New("enough")
	var got []logs.Line
	looks := 0
	o := logs.Options{Follow: true, Tail: 0, Discover: time.Millisecond, Pods: func(context.Context) ([]string, error) {
		if looks++; looks == 1 {
			return nil, errors.New("the API server is away")
		}
		return []string{"cache-redis-0", "cache-redis-1"}, nil
	}}
	source := printed{"cache-redis-0": {}, "cache-redis-1": {{{1, "a"}, {2, "b"}}}}
	err := logs.Run(t.Context(), source, operationtest.Deployment(1), o, operation.DiscardReporter{}, func(l logs.Line) error {
		if got = append(got, l); len(got) == 2 {
			return enough
		}
		return nil
	})
	require.ErrorIs(t, err, enough)
	assert.Equal(t, []string{"a", "b"}, texts(got))
	assert.Equal(t, "cache-redis-1", got[0].Pod)
}

func TestLevelsAndSecrets(t *testing.T) {
	got, err := read(t, printed{"cache-redis-0": {{
		{1, "1:M 23 Nov 2026 19:13:04.321 * Ready to accept connections"},
		{2, "1:M 23 Nov 2026 19:13:05.321 # Can't save in background: fork: Cannot allocate memory"},
		{3, "1:M 23 Nov 2026 19:13:05.321 # Connection with replica 10.0.0.1:6379 lost."},
		{4, `>>> 'requirepass "other-secret"'`},
		{5, "1:M 23 Nov 2026 19:13:05.321 * somebody wrote hunter2-secret here"},
		{6, "=== REDIS BUG REPORT START: Cut & paste starting from here ==="}, {7, "rip: 0000"},
		{8, "=== REDIS BUG REPORT END. Make sure ==="}, {9, "after"},
	}}}, 1, logs.Options{Password: "hunter2-secret"})
	require.NoError(t, err)
	var levels []logs.Level
	for _, l := range got {
		levels = append(levels, l.Level)
		assert.NotContains(t, l.Text, "secret\"")
		assert.NotContains(t, l.Text, "hunter2")
	}
	e, i := logs.Error, logs.Info
	assert.Equal(t, []logs.Level{i, e, logs.Warning, i, i, e, e, e, i}, levels)
}

func TestGrepAndFailures(t *testing.T) {
	got, err := read(t, printed{"cache-redis-0": {{{1, "one"}, {2, "two"}}}}, 2, logs.Options{Match: regexp.MustCompile("tw")})
	assert.Equal(t, []string{"two"}, texts(got))
	assert.Equal(t, operation.Partial, operation.KindOf(err), "the other pod has no log")
	_, err = read(t, printed{}, 1, logs.Options{})
	assert.Equal(t, operation.Failed, operation.KindOf(err))
}

func TestParseSince(t *testing.T) {
	now := time.Date(2026, 11, 23, 22, 0, 0, 0, time.UTC)
	at, err := logs.ParseSince("10m", now)
	require.NoError(t, err)
	assert.Equal(t, now.Add(-10*time.Minute), at)
	at, err = logs.ParseSince("2026-11-23T20:00:00Z", now)
	require.NoError(t, err)
	assert.Equal(t, now.Add(-2*time.Hour), at)
	for _, bad := range []string{"yesterday", "-5m", "5"} {
		_, err = logs.ParseSince(bad, now)
		assert.Error(t, err, bad)
	}
}
