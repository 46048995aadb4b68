package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/replication"
	"github.com/redisctl/redisctl/internal/render"
)

// lagOf2 is a sample of a primary and two replicas; a lag below 0 is no answer.
func lagOf2(second int, one, two int64) replication.Sample {
	s := replication.Sample{Time: time.Date(2026, 1, 2, 3, 4, second, 0, time.UTC)}
	s.Namespace, s.Release, s.Name = "prod", "cache", "cache-redis"
	s.Instances = []replication.Instance{{Name: "cache-redis-0", Role: "primary"}}
	for i, lag := range []int64{one, two} {
		instance := replication.Instance{Name: []string{"cache-redis-1", "cache-redis-2"}[i]}
		if lag < 0 {
			instance.Error = "connection refused"
			s.Findings = append(s.Findings, operation.Finding{
				Code: "unreachable", Severity: operation.Critical, Subject: instance.Name, Message: instance.Error,
			})
		} else {
			instance.Role = "replica"
			instance.Replica = &replication.Replica{Follows: "cache-redis-0", Link: "up", LagBytes: &lag, LagSeconds: 1}
		}
		s.Instances = append(s.Instances, instance)
	}
	return s
}

// TestLagFrame: what a terminal shows while a replica falls behind, goes away and
// comes back.
func TestLagFrame(t *testing.T) {
	history := make(lagHistory)
	frame := func(s replication.Sample, width int) string {
		history.add(s)
		var out bytes.Buffer
		require.NoError(t, render.Printer{Out: &out, Look: render.Look{Width: width}}.Print(
			render.Document{Blocks: lagFrame(s, history, time.Second)}))
		return out.String()
	}
	frame(lagOf2(1, 0, 0), 0)
	frame(lagOf2(2, 0, 700), 0)
	frame(lagOf2(3, 0, 1400), 0)
	assert.Equal(t, strings.TrimPrefix(`
prod/cache 03:04:04, every 1s, Ctrl-C ends

REPLICA         LINK        BEHIND   SILENT   UP TO 1.4 KiB
cache-redis-1   up             0 B      1 s   ▁▁▁▁
cache-redis-2   no answer                     ▁▅█

✗ cache-redis-2 connection refused [unreachable]
`, "\n"), frame(lagOf2(4, 0, -1), 0))
	assert.Equal(t, strings.TrimPrefix(`
prod/cache 03:04:05, every 1s, Ctrl-C ends

REPLICA         LINK   BEHIND   SILENT   UP TO 1.4 KiB
cache-redis-1   up        0 B      1 s   ▁▁▁▁▁
cache-redis-2   up      100 B      1 s   ▁▅█ ▂
`, "\n"), frame(lagOf2(5, 0, 100), 0))

	for second := range 2 * lagSamples {
		frame(lagOf2(second%60, 0, 7), 0)
	}
	assert.Len(t, history["cache-redis-2"], lagSamples, "what is remembered is bounded")
	last := frame(lagOf2(0, 0, 0), 60)
	for line := range strings.Lines(last) {
		assert.LessOrEqual(t, len([]rune(strings.TrimSuffix(line, "\n"))), 60, "%s", line)
	}
	assert.Contains(t, last, "██▁\n", "the newest is kept")
}

func TestLagLine(t *testing.T) {
	assert.Equal(t, "2026-01-02T03:04:05Z  cache-redis-1 up, 0 B behind, silent 1 s; cache-redis-2 no answer", lagLine(lagOf2(5, 0, -1)).Text)
	assert.Equal(t, "2026-01-02T03:04:05Z  no replicas",
		lagLine(replication.Sample{Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}).Text)
}
