package upgrade_test

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/operationtest"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/operation/upgrade"
	"github.com/redisctl/redisctl/internal/redis"
	"github.com/redisctl/redisctl/internal/redisconn"
	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

type notes map[string]string

func (n notes) Note(_ context.Context, _ *operation.Deployment, key string) (string, error) {
	return n[key], nil
}

func (n notes) SetNotes(_ context.Context, _ *operation.Deployment, texts map[string]string) error {
	maps.Copy(n, texts)
	return nil
}

const limit = 5 * time.Second

func take(t *testing.T, c operation.Connector, d *operation.Deployment) (upgrade.Baseline, error) {
	t.Helper()
	observed := topology.Observe(t.Context(), c, d, limit)
	return upgrade.TakeBaseline(t.Context(), c, &observed, time.Unix(1_700_000_000, 5), limit)
}

// TestBaselineOfServers: what is recorded is what the servers of all versions have.
func TestBaselineOfServers(t *testing.T) {
	redisserver.EachVersion(t, func(t *testing.T, version string) {
		primary := redisserver.Start(t, redisserver.Options{Version: version, Config: []string{"save 900 1", "save 300 10", "appendonly yes"}})
		replica := redisserver.Start(t, redisserver.Options{Version: version, ReplicaOf: primary})
		client := primary.Client()
		for i := range 7 {
			require.NoError(t, client.Set(t.Context(), fmt.Sprint("key:", i), i, 0).Err())
		}
		require.NoError(t, client.Expire(t.Context(), "key:1", time.Hour).Err())
		third := primary.NewClient(3)
		require.NoError(t, third.Set(t.Context(), "other", 1, 0).Err())
		require.NoError(t, third.Close())
		replica.WaitInSync()

		connector := redisconn.Connector{
			Dial:        redisconn.DialInstance,
			Credentials: func(context.Context, *operation.Deployment) (string, string, error) { return "", "", nil },
			DialTimeout: limit, Timeout: limit,
		}
		d, err := redisconn.Addresses{}.Resolve(t.Context(), operation.Target{Addresses: []string{replica.Addr, primary.Addr}})
		require.NoError(t, err)
		b, err := take(t, connector, d)
		require.NoError(t, err)

		kept := notes{}
		require.NoError(t, upgrade.SaveBaseline(t.Context(), kept, d, b))
		b, err = upgrade.LoadBaseline(t.Context(), kept, d)
		require.NoError(t, err)
		assert.Equal(t, primary.Addr, b.Primary)
		assert.Equal(t, []string{replica.Addr, primary.Addr}, []string{b.Instances[0].Name, b.Instances[1].Name})
		for _, i := range b.Instances {
			product, number, _ := strings.Cut(version, "-")
			assert.Equal(t, product, i.Version.Product)
			assert.True(t, strings.HasPrefix(i.Version.Number(), number), "%s of %s", i.Version, version)
		}
		assert.Nil(t, b.Data(replica.Addr), "a replica has its primary's data")
		data := b.Data(primary.Addr)
		require.NotNil(t, data)
		assert.Equal(t, []redis.DBKeys{{DB: 0, Keys: 7, Expires: 1}, {DB: 3, Keys: 1}}, data.Keys)
		assert.Equal(t, "900 1 300 10", data.Save)
		assert.True(t, data.AOF)
		assert.Positive(t, data.Memory)
		assert.Positive(t, data.Latency.P50)
		assert.LessOrEqual(t, data.Latency.P50, data.Latency.P99)
		assert.LessOrEqual(t, data.Latency.P99, data.Latency.Max)
	})
}

// large is a release with 10 instances, whose data is in 16 databases.
func large(primary func(i int) *operationtest.Server) (*operation.Deployment, operationtest.Fleet) {
	d := operationtest.Deployment(10)
	d.Workload.Image = "registry.example.com/team/redis:7.0.15-bookworm"
	fleet := operationtest.Fleet{}
	for i, instance := range d.Instances {
		s := primary(i)
		for db := range 16 {
			s.Info[fmt.Sprint("db", db)] = "keys=123456789,expires=123456789,avg_ttl=3600000"
		}
		fleet[instance.Name] = s
	}
	return d, fleet
}

func TestBaselineIsSmall(t *testing.T) {
	replicated, fleet := large(func(i int) *operationtest.Server {
		if i > 0 {
			return operationtest.Replica("10.0.0.10")
		}
		return operationtest.Primary()
	})
	independent, servers := large(func(i int) *operationtest.Server {
		return operationtest.Primary().Set(map[string]string{"master_replid": strings.Repeat(strconv.Itoa(i), 40)})
	})
	independent.Workload.ServiceName = independent.Name
	for _, c := range []struct {
		d     *operation.Deployment
		fleet operationtest.Fleet
		limit int
	}{{replicated, fleet, 4 << 10}, {independent, servers, 16 << 10}} {
		b, err := take(t, c.fleet, c.d)
		require.NoError(t, err)
		kept := notes{}
		require.NoError(t, upgrade.SaveBaseline(t.Context(), kept, c.d, b))
		assert.Less(t, len(kept[operation.NoteUpgraded]), c.limit)
	}
}

func TestBaselineOfIndependentServers(t *testing.T) {
	d := operationtest.Deployment(2)
	d.Workload.ServiceName = d.Name
	fleet := operationtest.Fleet{
		"cache-redis-0": operationtest.Primary(),
		"cache-redis-1": operationtest.Primary().Set(map[string]string{"master_replid": "cc", "db0": "keys=3,expires=2"}),
	}
	b, err := take(t, fleet, d)
	require.NoError(t, err)
	assert.Empty(t, b.Primary)
	assert.Equal(t, []redis.DBKeys{{Keys: 10}}, b.Data("cache-redis-0").Keys)
	assert.Equal(t, []redis.DBKeys{{Keys: 3, Expires: 2}}, b.Data("cache-redis-1").Keys)

	fleet["cache-redis-1"].Err = operation.Errorf(operation.Failed, "gone")
	_, err = take(t, fleet, d)
	assert.ErrorContains(t, err, "gone", "its data would be missing from the record")
}

func TestBaselineWithoutAnAnswer(t *testing.T) {
	d := operationtest.Deployment(2)
	fleet := operationtest.Fleet{"cache-redis-0": operationtest.Primary("10.0.0.11"), "cache-redis-1": operationtest.Replica("10.0.0.10")}
	fleet["cache-redis-1"].Err = operation.Errorf(operation.Failed, "gone")
	b, err := take(t, fleet, d)
	require.NoError(t, err)
	assert.Nil(t, b.Instances[1].Version, "a version that nobody knows is left out")

	fleet["cache-redis-0"].Err = operation.Errorf(operation.Failed, "gone")
	_, err = take(t, fleet, d)
	assert.Equal(t, operation.Unhealthy, operation.KindOf(err))
}

// TestBaselineWithoutConfig: the chart's redis.conf says what the server does not.
func TestBaselineWithoutConfig(t *testing.T) {
	d := operationtest.Deployment(1)
	var err error
	d.Config, err = redis.ParseConfig("save 900 1\nsave 300 10\n")
	require.NoError(t, err)
	server := operationtest.Primary()
	server.Config = nil
	b, err := take(t, operationtest.Fleet{"cache-redis-0": server}, d)
	require.NoError(t, err)
	assert.Equal(t, "900 1 300 10", b.Data("cache-redis-0").Save)
}

func TestNoBaseline(t *testing.T) {
	_, err := upgrade.LoadBaseline(t.Context(), notes{}, operationtest.Deployment(1))
	assert.ErrorIs(t, err, upgrade.ErrNoBaseline)
}
