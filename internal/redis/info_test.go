package redis_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/redis"
)

const primaryInfo = "# Server\r\nredis_version:7.0.15\r\nredis_git_sha1:00000000\r\nuptime_in_seconds:90\r\nrun_id:0123\r\n\r\n" +
	"# Memory\r\nused_memory:1000\r\nmaxmemory:2000\r\nmem_not_counted_for_evict:100\r\nmem_fragmentation_ratio:1.25\r\nmaxmemory_policy:allkeys-lru\r\n\r\n" +
	"# Persistence\r\nloading:0\r\nrdb_changes_since_last_save:5\r\nrdb_bgsave_in_progress:0\r\nrdb_last_save_time:1700000000\r\nrdb_last_bgsave_status:ok\r\naof_enabled:1\r\naof_last_write_status:err\r\n\r\n" +
	"# Replication\r\nrole:master\r\nconnected_slaves:2\r\n" +
	"slave0:ip=10.0.0.2,port=6379,state=online,offset=990,lag=1\r\n" +
	"slave1:ip=10.0.0.3,port=6380,state=wait_bgsave,offset=0,lag=0\r\n" +
	"master_failover_state:no-failover\r\nmaster_replid:aaaa\r\nmaster_replid2:0000000000000000000000000000000000000000\r\nmaster_repl_offset:1000\r\nsecond_repl_offset:-1\r\n\r\n" +
	"# Keyspace\r\ndb0:keys=10,expires=2,avg_ttl=0\r\ndb3:keys=5,expires=0,avg_ttl=0,subexpiry=0\r\n"

func TestInfoOfAPrimary(t *testing.T) {
	info, err := redis.ParseInfo(primaryInfo)
	require.NoError(t, err)

	r, err := info.Replication()
	require.NoError(t, err)
	assert.Equal(t, redis.Replication{
		Role: redis.RolePrimary, ID: "aaaa", Offset: 1000, SecondOffset: -1, FailoverState: "no-failover",
		Replicas: []redis.Follower{
			{Host: "10.0.0.2", Port: 6379, State: "online", Offset: 990, Lag: time.Second},
			{Host: "10.0.0.3", Port: 6380, State: "wait_bgsave"},
		},
	}, r)
	assert.Equal(t, []redis.DBKeys{{DB: 0, Keys: 10, Expires: 2}, {DB: 3, Keys: 5}}, info.Keyspace())
	assert.Equal(t, int64(15), info.TotalKeys())
	assert.InDelta(t, 0.45, info.Memory().UsedFraction(), 1e-9, "bytes that do not count for eviction do not count")

	p := info.Persistence()
	assert.True(t, p.AOFEnabled)
	assert.False(t, p.AOFLastWriteOK)
	assert.True(t, p.LastSaveOK)
	assert.Equal(t, int64(1700000000), p.LastSave.Unix())
}

func TestInfoOfAReplica(t *testing.T) {
	info, err := redis.ParseInfo("# Replication\nrole:slave\nmaster_host:cache-redis-0.cache-redis-headless.prod.svc.cluster.local\n" +
		"master_port:6379\nmaster_link_status:down\nmaster_last_io_seconds_ago:-1\nmaster_link_down_since_seconds:7\n" +
		"master_sync_in_progress:0\nslave_repl_offset:42\nslave_priority:100\nslave_read_only:1\n" +
		"master_replid:bbbb\nmaster_replid2:aaaa\nmaster_repl_offset:40\nsecond_repl_offset:41\n")
	require.NoError(t, err)
	r, err := info.Replication()
	require.NoError(t, err)
	require.NotNil(t, r.Upstream)
	assert.Equal(t, "cache-redis-0.cache-redis-headless.prod.svc.cluster.local:6379", r.Upstream.Address())
	assert.False(t, r.Upstream.LinkUp)
	assert.Equal(t, 7*time.Second, r.Upstream.LinkDownFor)
	assert.Equal(t, int64(42), r.Offset, "a replica's offset is what it has applied")
	assert.Equal(t, "aaaa", r.SecondID)
}

func TestInfoThatIsNone(t *testing.T) {
	_, err := redis.ParseInfo("-NOAUTH Authentication required.")
	assert.Error(t, err)
	info, err := redis.ParseInfo("")
	require.NoError(t, err)
	_, err = info.Replication()
	assert.ErrorContains(t, err, "role")
}

func TestInfoJSONKeepsWhatIsNoNumberAsText(t *testing.T) {
	info, err := redis.ParseInfo(primaryInfo)
	require.NoError(t, err)
	text, err := json.Marshal(info)
	require.NoError(t, err)
	var decoded map[string]map[string]any
	require.NoError(t, json.Unmarshal(text, &decoded))
	assert.Equal(t, "00000000", decoded["server"]["redis_git_sha1"], "leading zeros are no number")
	assert.Equal(t, "7.0.15", decoded["server"]["redis_version"])
	assert.Equal(t, 1.25, decoded["memory"]["mem_fragmentation_ratio"])
	assert.Equal(t, 1000.0, decoded["memory"]["used_memory"])
	assert.Equal(t, map[string]any{"keys": 10.0, "expires": 2.0, "avg_ttl": 0.0}, decoded["keyspace"]["db0"])
	assert.Equal(t, "10.0.0.2", decoded["replication"]["slave0"].(map[string]any)["ip"])
}

func TestVersion(t *testing.T) {
	for _, c := range []struct{ info, want string }{
		{"# Server\nredis_version:7.0.15\n", "redis 7.0.15"},
		{"# Server\nredis_version:8.0-rc1\n", "redis 8.0.0"},
		{"# Server\nredis_version:7.2.4\nserver_name:valkey\nvalkey_version:8.1.1\n", "valkey 8.1.1"},
	} {
		info, err := redis.ParseInfo(c.info)
		require.NoError(t, err)
		v, err := info.Version()
		require.NoError(t, err)
		assert.Equal(t, c.want, v.String())
	}
	for _, bad := range []string{"", "x", "7.x", "1.2.3.4"} {
		_, err := redis.ParseVersion("redis", bad)
		assert.Error(t, err, bad)
	}
	older, _ := redis.ParseVersion("redis", "7.0.15")
	newer, _ := redis.ParseVersion("redis", "7.2")
	assert.Negative(t, older.Compare(newer))
}
