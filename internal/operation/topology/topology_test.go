package topology_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/operationtest"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/redis"
)

func observe(t *testing.T, d *operation.Deployment, fleet operationtest.Fleet) topology.Topology {
	t.Helper()
	return topology.Observe(context.Background(), fleet, d, time.Second)
}

// addresses are servers without Kubernetes.
func addresses(n int) *operation.Deployment {
	d := operationtest.Deployment(n)
	plain := &operation.Deployment{Name: "10.0.0.10:6379", Instances: d.Instances}
	for i := range plain.Instances {
		plain.Instances[i].Pod, plain.Instances[i].Ordinal = nil, -1
	}
	return plain
}

// TestWhoFollowsWhom: a replica names its primary by IP address or by any of the DNS
// names that the pod has.
func TestWhoFollowsWhom(t *testing.T) {
	for host, want := range map[string]string{
		"10.0.0.10":                          "cache-redis-0",
		"cache-redis-0":                      "cache-redis-0",
		"cache-redis-0.cache-redis-headless": "cache-redis-0",
		"cache-redis-0.cache-redis-headless.prod.svc.cluster.local": "cache-redis-0",
		"10.0.0.1":                   "", // a prefix of the address is another address
		"10.0.0.99":                  "",
		"cache-redis-00.example.com": "",
		"redis.example.com":          "",
	} {
		top := observe(t, operationtest.Deployment(2), operationtest.Fleet{
			"cache-redis-0": operationtest.Primary("10.0.0.11"), "cache-redis-1": operationtest.Replica(host),
		})
		m := top.Member("cache-redis-1")
		assert.Equal(t, want, m.Follows, host)
		if want == "" {
			assert.Equal(t, host+":6379", m.Upstream())
			assert.Equal(t, int64(-1), m.Behind, "unknown, not 0")
		} else {
			assert.Equal(t, want, m.Upstream())
		}
	}
}

func TestPortMatters(t *testing.T) {
	top := observe(t, operationtest.Deployment(2), operationtest.Fleet{
		"cache-redis-0": operationtest.Primary(),
		"cache-redis-1": operationtest.Replica("10.0.0.10").Set(map[string]string{"master_port": "6380"}),
	})
	assert.Empty(t, top.Members[1].Follows)
}

func TestHowFarBehind(t *testing.T) {
	for name, c := range map[string]struct {
		primary, replica map[string]string
		behind           int64
		silence          time.Duration
	}{
		"in sync":                {nil, nil, 0, 0},
		"bytes":                  {map[string]string{"master_repl_offset": "1700"}, nil, 700, 0},
		"asked later":            {nil, map[string]string{"slave_repl_offset": "1200"}, 0, 0},
		"another history":        {nil, map[string]string{"master_replid": "b"}, -1, 0},
		"silent, the replica":    {nil, map[string]string{"master_last_io_seconds_ago": "7"}, 0, 7 * time.Second},
		"the link is down":       {nil, map[string]string{"master_link_status": "down", "master_last_io_seconds_ago": "-1", "master_link_down_since_seconds": "9"}, 0, 9 * time.Second},
		"never had a link":       {nil, map[string]string{"master_replid": "b", "master_link_status": "down", "master_last_io_seconds_ago": "-1", "master_link_down_since_seconds": "-1"}, -1, -time.Second},
		"silent, to the primary": {map[string]string{"slave0": "ip=10.0.0.11,port=6379,state=online,offset=1000,lag=9"}, nil, 0, 9 * time.Second},
		"both, the longer one": {
			map[string]string{"slave0": "ip=10.0.0.11,port=6379,state=online,offset=1000,lag=3"},
			map[string]string{"master_last_io_seconds_ago": "7"}, 0, 7 * time.Second,
		},
	} {
		top := observe(t, operationtest.Deployment(2), operationtest.Fleet{
			"cache-redis-0": operationtest.Primary("10.0.0.11").Set(c.primary),
			"cache-redis-1": operationtest.Replica("10.0.0.10").Set(c.replica),
		})
		assert.Equal(t, c.behind, top.Members[1].Behind, name)
		assert.Equal(t, c.silence, top.Members[1].Silence, name)
	}
}

// TestAddress: what REPLICAOF must be given, so that a restart of the primary, which
// changes its IP, does not cut the replicas off.
func TestAddress(t *testing.T) {
	const first = "cache-redis-0.cache-redis-headless.prod.svc.cluster.local"
	for name, c := range map[string]struct {
		d         *operation.Deployment
		upstreams []string // of cache-redis-1 and cache-redis-2
		want      string   // for cache-redis-1
	}{
		"as the chart writes it":        {operationtest.Deployment(3), []string{first, first}, "cache-redis-1.cache-redis-headless.prod.svc.cluster.local"},
		"one name is enough":            {operationtest.Deployment(3), []string{"10.0.0.10", first}, "cache-redis-1.cache-redis-headless.prod.svc.cluster.local"},
		"another cluster domain":        {operationtest.Deployment(3), []string{"cache-redis-0.cache-redis-headless.prod.svc.example.org", "10.0.0.10"}, "cache-redis-1.cache-redis-headless.prod.svc.example.org"},
		"only IP addresses in use":      {operationtest.Deployment(3), []string{"10.0.0.10", "10.0.0.10"}, "10.0.0.11"},
		"names of servers outside":      {operationtest.Deployment(3), []string{"redis.example.com", "redis.example.com"}, "10.0.0.11"},
		"a short name says no domain":   {operationtest.Deployment(3), []string{"cache-redis-0", "cache-redis-0"}, "10.0.0.11"},
		"plain addresses stay as given": {addresses(3), []string{first, first}, "10.0.0.11"},
	} {
		top := observe(t, c.d, operationtest.Fleet{
			"cache-redis-0": operationtest.Primary(),
			"cache-redis-1": operationtest.Replica(c.upstreams[0]), "cache-redis-2": operationtest.Replica(c.upstreams[1]),
		})
		host, port := top.Address(top.Member("cache-redis-1"))
		assert.Equal(t, c.want, host, name)
		assert.Equal(t, 6379, port, name)
	}
}

// TestAddressInAnotherRelease: the pods of two releases are below different names.
func TestAddressInAnotherRelease(t *testing.T) {
	d := operationtest.Deployment(2)
	d.Instances[1].Domain = "other-headless.prod.svc"
	top := observe(t, d, operationtest.Fleet{
		"cache-redis-0": operationtest.Primary(), "cache-redis-1": operationtest.Replica("cache-redis-0.cache-redis-headless.prod.svc"),
	})
	host, _ := top.Address(top.Member("cache-redis-1"))
	assert.Equal(t, "cache-redis-1.other-headless.prod.svc", host)
}

// TestLagBehindASilentPrimaryIsUnknown: 0 would say that nothing is missing.
func TestLagBehindASilentPrimaryIsUnknown(t *testing.T) {
	top := observe(t, operationtest.Deployment(2), operationtest.Fleet{
		"cache-redis-0": {Err: operation.Errorf(operation.Failed, "refused")},
		"cache-redis-1": operationtest.Replica("10.0.0.10"),
	})
	assert.Equal(t, "cache-redis-0", top.Members[1].Follows)
	assert.Equal(t, int64(-1), top.Members[1].Behind)
	_, err := top.Primary()
	assert.ErrorIs(t, err, topology.ErrNoPrimary)
	assert.ErrorContains(t, err, "no answer from cache-redis-0")
}

func TestLink(t *testing.T) {
	for want, fields := range map[string]map[string]string{
		"up":      nil,
		"down":    {"master_link_status": "down"},
		"syncing": {"master_link_status": "down", "master_sync_in_progress": "1"},
	} {
		top := observe(t, operationtest.Deployment(2), operationtest.Fleet{
			"cache-redis-0": operationtest.Primary(), "cache-redis-1": operationtest.Replica("10.0.0.10").Set(fields),
		})
		assert.Equal(t, want, top.Members[1].Link())
		assert.Empty(t, top.Members[0].Link(), "a primary has none")
	}
}

// TestSavePoints: CONFIG may be disabled; then the chart's file is asked.
func TestSavePoints(t *testing.T) {
	file, err := redis.ParseConfig("save 900 1\n")
	require.NoError(t, err)
	for name, c := range map[string]struct {
		config map[string]string
		file   redis.Config
		want   bool
	}{
		"on":                         {map[string]string{"save": "900 1"}, redis.Config{}, true},
		"off":                        {map[string]string{"save": ""}, file, false},
		"CONFIG disabled, file says": {nil, file, true},
	} {
		d := operationtest.Deployment(1)
		d.Config = c.file
		server := operationtest.Primary()
		server.Config = c.config
		top := observe(t, d, operationtest.Fleet{"cache-redis-0": server})
		assert.Equal(t, c.want, top.Members[0].SavePoints, name)
	}
}

func TestPrimaries(t *testing.T) {
	top := observe(t, operationtest.Deployment(3), operationtest.Fleet{
		"cache-redis-0": operationtest.Primary(), "cache-redis-1": operationtest.Primary(), "cache-redis-2": operationtest.Replica("10.0.0.10"),
	})
	assert.Len(t, top.Primaries(), 2)
	_, err := top.Primary()
	assert.ErrorIs(t, err, topology.ErrManyPrimaries)
	assert.ErrorContains(t, err, "cache-redis-0, cache-redis-1")
	assert.Nil(t, top.Member("nobody"))
}

// TestLoop: what the chart makes when a promoted pod restarts.
func TestLoop(t *testing.T) {
	for name, c := range map[string]struct {
		follows []int // what each instance follows; -1 is a primary
		want    []string
	}{
		"none":           {[]int{-1, 0, 0}, nil},
		"chain":          {[]int{-1, 0, 1}, nil},
		"two":            {[]int{1, 0, 1}, []string{"cache-redis-0", "cache-redis-1"}},
		"all":            {[]int{1, 2, 0}, []string{"cache-redis-0", "cache-redis-1", "cache-redis-2"}},
		"itself":         {[]int{0, 0, 0}, []string{"cache-redis-0"}},
		"beside others":  {[]int{-1, 2, 1}, []string{"cache-redis-1", "cache-redis-2"}},
		"entered midway": {[]int{1, 2, 1}, []string{"cache-redis-1", "cache-redis-2"}},
	} {
		fleet := operationtest.Fleet{}
		d := operationtest.Deployment(3)
		for i, upstream := range c.follows {
			fleet[d.Instances[i].Name] = operationtest.Primary()
			if upstream >= 0 {
				fleet[d.Instances[i].Name] = operationtest.Replica(d.Instances[upstream].Host)
			}
		}
		top := observe(t, d, fleet)
		assert.Equal(t, c.want, top.Loop(), name)
	}
}

// TestIndependent tells servers of their own from a primary with its replicas: only in
// the second case are two primaries a split brain.
func TestIndependent(t *testing.T) {
	other := map[string]string{"master_replid": strings.Repeat("b", 40)}
	standalone := operationtest.Deployment(2)
	standalone.Workload.ServiceName = standalone.Name
	for name, c := range map[string]struct {
		d     *operation.Deployment
		fleet operationtest.Fleet
		want  bool
	}{
		"replica mode": {operationtest.Deployment(2), operationtest.Fleet{
			"cache-redis-0": operationtest.Primary(), "cache-redis-1": operationtest.Primary().Set(other),
		}, false},
		"standalone mode": {standalone, operationtest.Fleet{
			"cache-redis-0": operationtest.Primary(), "cache-redis-1": operationtest.Primary().Set(other),
		}, true},
		"addresses": {addresses(2), operationtest.Fleet{
			"cache-redis-0": operationtest.Primary(), "cache-redis-1": operationtest.Primary().Set(other),
		}, true},
		"addresses with a replica": {addresses(2), operationtest.Fleet{
			"cache-redis-0": operationtest.Primary(), "cache-redis-1": operationtest.Replica("10.0.0.10"),
		}, false},
		"addresses with a silent replica, which its primary knows": {addresses(2), operationtest.Fleet{
			"cache-redis-0": operationtest.Primary("10.0.0.11"),
			"cache-redis-1": {Err: operation.Errorf(operation.TimedOut, "no answer")},
		}, false},
		"addresses with a common history": {addresses(2), operationtest.Fleet{
			"cache-redis-0": operationtest.Primary(), "cache-redis-1": operationtest.Primary(),
		}, false},
		"addresses, one promoted": {addresses(2), operationtest.Fleet{
			"cache-redis-0": operationtest.Primary(),
			"cache-redis-1": operationtest.Primary().Set(other).Set(map[string]string{"master_replid2": strings.Repeat("a", 40)}),
		}, false},
		"nobody answers": {addresses(1), operationtest.Fleet{}, true},
	} {
		top := observe(t, c.d, c.fleet)
		assert.Equal(t, c.want, top.Independent(), name)
	}
}

// TestDenied: an error only when nobody could be asked, and always for that reason.
func TestDenied(t *testing.T) {
	denied := &operationtest.Server{Err: operation.Errorf(operation.Denied, "NOAUTH")}
	down := &operationtest.Server{Err: operation.Errorf(operation.Failed, "refused")}
	for name, c := range map[string]struct {
		fleet operationtest.Fleet
		want  bool
	}{
		"all":         {operationtest.Fleet{"cache-redis-0": denied, "cache-redis-1": denied}, true},
		"one answers": {operationtest.Fleet{"cache-redis-0": denied, "cache-redis-1": operationtest.Primary()}, false},
		"one is down": {operationtest.Fleet{"cache-redis-0": denied, "cache-redis-1": down}, false},
	} {
		top := observe(t, operationtest.Deployment(2), c.fleet)
		assert.Equal(t, c.want, top.Denied() != nil, name)
	}
	empty := topology.Topology{Deployment: &operation.Deployment{}}
	assert.NoError(t, empty.Denied())
}

// TestNotRedis: an answer that is not INFO's must not become a healthy member.
func TestNotRedis(t *testing.T) {
	for name, server := range map[string]*operationtest.Server{
		"no role":    operationtest.Primary().Set(map[string]string{"role": "sentinel"}),
		"no version": operationtest.Primary().Set(map[string]string{"redis_version": ""}),
	} {
		top := observe(t, operationtest.Deployment(1), operationtest.Fleet{"cache-redis-0": server})
		assert.Error(t, top.Members[0].Err, name)
	}
}
