package inspect_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/inspect"
	"github.com/redisctl/redisctl/internal/operation/operationtest"
)

// statsScene samples a primary and a replica with a clock that stands still.
type statsScene struct {
	fleet operationtest.Fleet
	now   time.Time
	watch *inspect.StatsWatch
}

func newStatsScene(t *testing.T) *statsScene {
	t.Helper()
	d := operationtest.Deployment(2)
	s := &statsScene{
		fleet: operationtest.Fleet{
			"cache-redis-0": operationtest.Primary("10.0.0.11"), "cache-redis-1": operationtest.Replica("10.0.0.10"),
		},
		now: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC),
	}
	again := func(context.Context) (*operation.Deployment, error) { return d, nil }
	s.watch = inspect.NewStatsWatch(s.fleet, d, again, time.Second, func() time.Time { return s.now })
	t.Cleanup(s.watch.Close)
	return s
}

func (s *statsScene) sample(t *testing.T) inspect.StatsSample {
	t.Helper()
	sample, err := s.watch.Sample(t.Context())
	require.NoError(t, err)
	return sample
}

func TestRatesAreDifferencesPerSecond(t *testing.T) {
	s := newStatsScene(t)
	primary := s.fleet["cache-redis-0"]
	primary.Set(map[string]string{"total_commands_processed": "100", "keyspace_hits": "10", "keyspace_misses": "0", "total_net_input_bytes": "1000"})
	assert.Nil(t, s.sample(t).Instances[0].Rates, "nothing to compare with")

	s.now = s.now.Add(2 * time.Second)
	primary.Set(map[string]string{
		"total_commands_processed": "300", "keyspace_hits": "16", "keyspace_misses": "2", "total_net_input_bytes": "3000",
		"total_net_repl_input_bytes": "1000", "evicted_keys": "8",
	})
	got := s.sample(t)
	ratio := 0.75
	assert.Equal(t, &inspect.Rates{
		Seconds: 2, Commands: 100, In: 1500, Hits: 3, Misses: 1, HitRatio: &ratio, Evicted: 4,
	}, got.Instances[0].Rates)
	assert.Nil(t, got.Instances[1].Rates.HitRatio, "nothing was looked up")
}

// A restart begins the counters again: there is no rate, and never a negative one.
func TestRatesAfterARestart(t *testing.T) {
	for name, fields := range map[string]map[string]string{
		"another run ID": {"run_id": "other", "total_commands_processed": "900"},
		"reset counters": {"total_commands_processed": "1"},
	} {
		s := newStatsScene(t)
		s.fleet["cache-redis-0"].Set(map[string]string{"total_commands_processed": "100"})
		s.sample(t)
		s.now = s.now.Add(time.Second)
		s.fleet["cache-redis-0"].Set(fields)
		assert.Nil(t, s.sample(t).Instances[0].Rates, name)
		s.now = s.now.Add(time.Second)
		assert.NotNil(t, s.sample(t).Instances[0].Rates, name)
	}
}

func TestStatsOfWhatDoesNotAnswer(t *testing.T) {
	s := newStatsScene(t)
	s.sample(t)
	s.now = s.now.Add(time.Second)
	delete(s.fleet, "cache-redis-1") // the connection that is kept goes on
	s.fleet["cache-redis-0"].Err = operation.Errorf(operation.Failed, "connection reset")
	got := s.sample(t)
	assert.Equal(t, "connection reset", got.Instances[0].Error)
	assert.Nil(t, got.Instances[0].Rates)

	s = newStatsScene(t)
	for _, server := range s.fleet {
		server.Err = operation.Errorf(operation.Denied, "NOAUTH")
	}
	_, err := s.watch.Sample(t.Context())
	assert.Equal(t, operation.Denied, operation.KindOf(err), "nobody lets us in: nothing to watch")
}
