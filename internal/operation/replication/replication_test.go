package replication_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/health"
	"github.com/redisctl/redisctl/internal/operation/operationtest"
	"github.com/redisctl/redisctl/internal/operation/replication"
	"github.com/redisctl/redisctl/internal/operation/topology"
)

// observe asks the instances of a release with a primary, one replica, and one
// instance that does not answer.
func observe(t *testing.T, spoil func(*operation.Deployment, operationtest.Fleet)) topology.Topology {
	t.Helper()
	d := operationtest.Deployment(3)
	fleet := operationtest.Fleet{
		"cache-redis-0": operationtest.Primary("10.0.0.11").Set(map[string]string{"master_repl_offset": "1500"}),
		"cache-redis-1": operationtest.Replica("10.0.0.10").Set(map[string]string{"master_last_io_seconds_ago": "2"}),
	}
	if spoil != nil {
		spoil(d, fleet)
	}
	return topology.Observe(context.Background(), fleet, d, time.Second)
}

func TestDescribe(t *testing.T) {
	top := observe(t, func(d *operation.Deployment, _ operationtest.Fleet) {
		d.Workload.Annotations = map[string]string{operation.NotePrimary: "cache-redis-0"}
	})
	report := replication.Describe(&top, health.DefaultOptions())
	lag := int64(500)
	id := strings.Repeat("a", 40)
	require.Len(t, report.Findings, 1)
	assert.Equal(t, "unreachable", report.Findings[0].Code)
	report.Findings = nil
	assert.Equal(t, replication.Report{
		Namespace: "prod", Release: "cache", Name: "cache-redis", Mode: "replica", Primary: "cache-redis-0", Intended: "cache-redis-0",
		Instances: []replication.Instance{
			{Name: "cache-redis-0", Role: "primary", ReplicationID: id, Offset: 1500, Keys: 10},
			{
				Name: "cache-redis-1", Role: "replica", ReplicationID: id, Offset: 1000, Keys: 10,
				Replica: &replication.Replica{Follows: "cache-redis-0", Link: "up", LagBytes: &lag, LagSeconds: 2, Priority: 100},
			},
			{Name: "cache-redis-2", Error: "cache-redis-2: connection refused"},
		},
		Services: []replication.Service{
			{Name: "cache-redis", Selects: "cache-redis-0", Endpoints: []string{"cache-redis-0"}},
			{Name: "cache-redis-headless", Endpoints: []string{}, Headless: true},
		},
	}, report)
}

// TestUnknownLagIsNull: 0 would say that the replica has everything.
func TestUnknownLagIsNull(t *testing.T) {
	top := observe(t, func(_ *operation.Deployment, f operationtest.Fleet) {
		f["cache-redis-1"].Set(map[string]string{"master_replid": strings.Repeat("b", 40)})
	})
	report := replication.Describe(&top, health.DefaultOptions())
	text, err := json.Marshal(report.Instances[1].Replica)
	require.NoError(t, err)
	assert.Contains(t, string(text), `"lagBytes":null`)
}

func TestEmptyListsAreNotNull(t *testing.T) {
	top := observe(t, func(d *operation.Deployment, f operationtest.Fleet) {
		d.Services, d.Instances = nil, d.Instances[:2]
	})
	text, err := json.Marshal(replication.Describe(&top, health.DefaultOptions()))
	require.NoError(t, err)
	assert.Contains(t, string(text), `"services":[]`)
	assert.Contains(t, string(text), `"findings":[]`)
}

func TestPrimary(t *testing.T) {
	top := observe(t, nil)
	p, err := replication.Primary(&top)
	require.NoError(t, err)
	assert.Equal(t, "cache-redis-0", p.Name)

	top = observe(t, func(_ *operation.Deployment, f operationtest.Fleet) {
		f["cache-redis-0"] = operationtest.Replica("10.0.0.99")
	})
	_, err = replication.Primary(&top)
	assert.EqualError(t, err, "prod/cache: finding the primary: no instance says that it is the primary (no answer from cache-redis-2)")
	assert.Equal(t, operation.Unhealthy, operation.KindOf(err))

	top = observe(t, func(_ *operation.Deployment, f operationtest.Fleet) { f["cache-redis-1"] = operationtest.Primary() })
	_, err = replication.Primary(&top)
	assert.EqualError(t, err, "prod/cache: finding the primary: several instances say that they are primaries: cache-redis-0, cache-redis-1")
}
