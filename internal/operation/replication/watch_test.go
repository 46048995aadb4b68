package replication_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/health"
	"github.com/redisctl/redisctl/internal/operation/operationtest"
	"github.com/redisctl/redisctl/internal/operation/replication"
	"github.com/redisctl/redisctl/internal/redisconn"
	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

// counter counts connections.
type counter struct {
	operationtest.Fleet
	mu     sync.Mutex
	opened map[string]int
}

func (c *counter) Connect(ctx context.Context, d *operation.Deployment, i operation.Instance) (operation.Server, error) {
	s, err := c.Fleet.Connect(ctx, d, i)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.opened[i.Name]++
	}
	return s, err
}

func fixed() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 678_900_000, time.UTC) }

// TestWatchLooksAgain: a pod that goes down is looked up again, because it comes back
// as another one; the others' connections stay.
func TestWatchLooksAgain(t *testing.T) {
	d := operationtest.Deployment(2)
	fleet := &counter{opened: map[string]int{}, Fleet: operationtest.Fleet{
		"cache-redis-0": operationtest.Primary("10.0.0.11"), "cache-redis-1": operationtest.Replica("cache-redis-0"),
	}}
	looked := 0
	back := operationtest.Deployment(2)
	back.Instances[1].Host = "10.0.0.99"
	resolve := func(context.Context) (*operation.Deployment, error) {
		if looked++; looked == 1 {
			return nil, errors.New("the API is away")
		}
		return back, nil
	}
	w := replication.NewWatch(fleet, d, resolve, health.DefaultOptions(), fixed)
	defer w.Close()
	sample := func() replication.Sample {
		s, err := w.Sample(t.Context())
		require.NoError(t, err)
		return s
	}

	s := sample()
	assert.Equal(t, time.Date(2026, 1, 2, 3, 4, 5, 678_000_000, time.UTC), s.Time)
	assert.Equal(t, int64(0), *s.Instances[1].Replica.LagBytes)
	sample()
	assert.Equal(t, map[string]int{"cache-redis-0": 1, "cache-redis-1": 1}, fleet.opened, "connections are kept")
	assert.Zero(t, looked)

	replica := fleet.Fleet["cache-redis-1"]
	replica.Err = operation.Errorf(operation.Failed, "connection refused")
	assert.Equal(t, "connection refused", sample().Instances[1].Error)
	assert.Equal(t, "connection refused", sample().Instances[1].Error)
	replica.Err = nil
	assert.Empty(t, sample().Instances[1].Error)
	assert.Equal(t, 2, looked)
	sample()
	assert.Equal(t, 2, looked, "all is well again")
	assert.Equal(t, map[string]int{"cache-redis-0": 1, "cache-redis-1": 3}, fleet.opened)
}

func TestWatchEnds(t *testing.T) {
	d := operationtest.Deployment(1)
	fleet := operationtest.Fleet{"cache-redis-0": {Hang: true}}
	w := replication.NewWatch(fleet, d, nil, health.DefaultOptions(), fixed)
	defer w.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("Ctrl-C")
	cancel(stop)
	_, err := w.Sample(ctx)
	assert.ErrorIs(t, err, stop)

	fleet["cache-redis-0"] = &operationtest.Server{Err: operation.Errorf(operation.Denied, "NOAUTH")}
	refused := replication.NewWatch(fleet, d, nil, health.DefaultOptions(), fixed)
	defer refused.Close()
	_, err = refused.Sample(t.Context())
	assert.Equal(t, operation.Denied, operation.KindOf(err))
}

// TestWatchRecovers: a server that goes away and comes back is seen again in the very
// next sample, for each time it does so.
func TestWatchRecovers(t *testing.T) {
	redisserver.Versions(t)
	primary := redisserver.Start(t, redisserver.Options{})
	replica := redisserver.Start(t, redisserver.Options{ReplicaOf: primary})
	replica.WaitInSync()
	resolve := func(ctx context.Context) (*operation.Deployment, error) {
		return redisconn.Addresses{}.Resolve(ctx, operation.Target{Addresses: []string{primary.Addr, replica.Addr}})
	}
	d, err := resolve(t.Context())
	require.NoError(t, err)
	w := replication.NewWatch(redisconn.Connector{Dial: redisconn.DialInstance}, d, resolve, health.DefaultOptions(), time.Now)
	defer w.Close()
	for range 3 {
		s, err := w.Sample(t.Context())
		require.NoError(t, err)
		require.Empty(t, s.Instances[1].Error)
		replica.Kill()
		for range 6 { // more failures than a connection pool has places
			s, err = w.Sample(t.Context())
			require.NoError(t, err)
			require.NotEmpty(t, s.Instances[1].Error)
			require.Empty(t, s.Instances[0].Error)
		}
		replica.Restart()
	}
}
