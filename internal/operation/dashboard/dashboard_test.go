package dashboard_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/dashboard"
	"github.com/redisctl/redisctl/internal/operation/health"
	"github.com/redisctl/redisctl/internal/operation/operationtest"
)

func run(t *testing.T, d *operation.Deployment, c operation.Connector) *dashboard.Monitor {
	t.Helper()
	list := func(context.Context) ([]operation.Deployment, error) { return []operation.Deployment{*d}, nil }
	m := dashboard.New(list, c, nil, nil, dashboard.Options{
		Interval: 5 * time.Millisecond, Timeout: time.Hour, Health: health.DefaultOptions(),
	}, time.Now)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-ended) })
	return m
}

// await waits until a frame is as wanted.
func await(t *testing.T, m *dashboard.Monitor, wanted func(dashboard.Frame) bool) dashboard.Frame {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		f := m.Frame()
		if wanted(f) {
			return f
		}
		select {
		case <-m.Changed():
		case <-deadline:
			require.FailNow(t, "no such frame", "%+v", f)
		}
	}
}

// TestAHangingPodHoldsUpNobody: the others are asked again and again meanwhile, although
// its own time limit is an hour.
func TestAHangingPodHoldsUpNobody(t *testing.T) {
	m := run(t, operationtest.Deployment(3), operationtest.Fleet{
		"cache-redis-0": operationtest.Primary("10.0.0.11").Set(map[string]string{"instantaneous_ops_per_sec": "42"}),
		"cache-redis-1": operationtest.Replica("10.0.0.10"),
		"cache-redis-2": {Hang: true},
	})
	f := await(t, m, func(f dashboard.Frame) bool {
		return len(f.Releases) == 1 && len(f.Releases[0].Instances[0].History.Ops) > 3 && len(f.Releases[0].Instances[1].History.Ops) > 3
	})
	r := f.Releases[0]
	assert.Equal(t, int64(42), r.Instances[0].OpsPerSec)
	assert.Equal(t, "cache-redis-0", r.Instances[1].Follows)
	assert.Equal(t, "info", r.Instances[0].Source)
	assert.Nil(t, r.Instances[2].Answer)
	assert.Nil(t, r.Instances[2].Age, "it never answered")
	assert.Empty(t, r.Findings, "nothing is judged before everybody was heard")
}

// TestAPodThatIsDown is named, and found.
func TestAPodThatIsDown(t *testing.T) {
	d := operationtest.Deployment(2)
	d.Instances[1].Pod = &operation.Pod{Phase: "Running", Reason: "CrashLoopBackOff", LastExit: "OOMKilled, exit code 137", MemoryLimit: 1 << 20}
	m := run(t, d, operationtest.Fleet{"cache-redis-0": operationtest.Primary()})
	f := await(t, m, func(f dashboard.Frame) bool { return len(f.Releases) == 1 && len(f.Releases[0].Findings) > 0 })
	r := f.Releases[0]
	assert.False(t, r.Healthy)
	assert.Equal(t, "down", r.Instances[1].Status)
	assert.Equal(t, "OOMKilled, exit code 137", r.Instances[1].LastExit)
	assert.Equal(t, int64(1<<20), r.Instances[1].MemoryLimit)
	assert.Equal(t, int64(-1), r.Instances[1].History.Ops[0], "no answer is a gap in the plot, not 0")
	text, err := json.Marshal(f)
	require.NoError(t, err)
	assert.NotContains(t, string(text), "History")
}
