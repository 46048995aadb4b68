package rdbdiff

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

// save makes a server write its RDB file and opens it.
func save(t *testing.T, client *goredis.Client) *os.File {
	t.Helper()
	require.NoError(t, client.Save(t.Context()).Err())
	dir, err := client.ConfigGet(t.Context(), "dir").Result()
	require.NoError(t, err)
	file, err := os.Open(filepath.Join(dir["dir"], "dump.rdb"))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, file.Close()) })
	return file
}

func compareServers(t *testing.T, a, b *goredis.Client) *Difference {
	t.Helper()
	d, err := Compare(t.Context(), save(t, a), save(t, b), Options{Examples: 100, Prefixes: 10})
	require.NoError(t, err)
	return d
}

// TestServers: a replica of any later version, with settings that make it encode
// everything in another way, holds the same as its Redis 6.0 primary; and what
// happens to it alone afterwards is found.
func TestServers(t *testing.T) {
	for _, version := range redisserver.Versions(t) {
		t.Run(version, func(t *testing.T) {
			ctx := t.Context()
			primary := redisserver.Start(t, redisserver.Options{Version: redisserver.Redis60})
			a := primary.Client()
			require.NoError(t, redisserver.Fill(ctx, a, 1, 2_000))
			// Streams and collections of every size come from Fill; these change
			// their encoding on the way.
			for _, command := range [][]any{
				{"HSET", "small:hash", "f", "1", "g", "two"}, {"SADD", "small:set", "1", "2", "three"}, {"SADD", "small:intset", "1", "2", "-70000"},
				{"ZADD", "small:zset", "0.1", "m", "-inf", "n", "3", "o"}, {"RPUSH", "small:list", "1", "-5", "text"},
			} {
				require.NoError(t, a.Do(ctx, command...).Err())
			}
			replica := redisserver.Start(t, redisserver.Options{
				Version: version, ReplicaOf: primary,
				Config: []string{
					"rdbcompression no", "hash-max-ziplist-entries 1", "zset-max-ziplist-entries 1", "set-max-intset-entries 1",
					"list-max-ziplist-size 2", "stream-node-max-entries 3",
				},
			})
			replica.WaitInSync()
			b := replica.Client()

			d := compareServers(t, a, b)
			assert.True(t, d.Same, "%+v", d.Total)
			assert.Greater(t, d.Total.Equal.Keys, int64(2_000))
			assert.GreaterOrEqual(t, len(d.Types), 6)
			assert.Greater(t, len(d.DBs), 1)
			assert.True(t, d.AContainsB() && d.BContainsA())

			require.NoError(t, b.Do(ctx, "REPLICAOF", "NO", "ONE").Err())
			for _, command := range [][]any{
				{"HSET", "small:hash", "f", "2"}, {"SREM", "small:set", "three"}, {"SADD", "small:intset", "3"},
				{"ZADD", "small:zset", "0.2", "m"}, {"LSET", "small:list", "0", "2"}, {"SET", "new:key", "v"},
			} {
				require.NoError(t, b.Do(ctx, command...).Err())
			}
			require.NoError(t, a.Set(ctx, "old:key", "v", 0).Err())
			require.NoError(t, a.Expire(ctx, "small:list", time.Hour).Err())
			require.NoError(t, a.XAdd(ctx, &goredis.XAddArgs{Stream: "new:stream", ID: "1-1", Values: []string{"f", "v"}}).Err())
			d = compareServers(t, a, b)
			assert.Equal(t, []string{"small:hash", "small:intset", "small:list", "small:set", "small:zset"}, keys(d.Examples.Changed))
			assert.Equal(t, []string{"new:stream", "old:key"}, keys(d.Examples.OnlyInA))
			assert.Equal(t, []string{"new:key"}, keys(d.Examples.OnlyInB))
			assert.EqualValues(t, 8, d.Total.Different())
			require.NoError(t, b.Del(ctx, "new:key").Err())
			require.NoError(t, a.Del(ctx, "small:hash", "small:set", "small:intset", "small:zset", "small:list").Err())
			require.NoError(t, b.Del(ctx, "small:hash", "small:set", "small:intset", "small:zset", "small:list").Err())
			d = compareServers(t, a, b)
			assert.True(t, d.AContainsB())
			assert.False(t, d.BContainsA())
		})
	}
}

// TestDivergedStreams: every part of a stream that counts as its contents.
func TestDivergedStreams(t *testing.T) {
	changes := map[string][]any{
		"entry":    {"XADD", "stream", "9-9", "f", "v"},
		"deleted":  {"XDEL", "stream", "1-2"},
		"group":    {"XGROUP", "CREATE", "stream", "another", "0"},
		"position": {"XGROUP", "SETID", "stream", "group", "1-2"},
		"pending":  {"XACK", "stream", "group", "1-1"},
		"owner":    {"XCLAIM", "stream", "group", "bob", "0", "1-1"},
		"consumer": {"XGROUP", "DELCONSUMER", "stream", "group", "alice"},
	}
	for _, version := range redisserver.Versions(t) {
		t.Run(version, func(t *testing.T) {
			ctx := t.Context()
			a := redisserver.Start(t, redisserver.Options{Version: version}).Client()
			b := redisserver.Start(t, redisserver.Options{Version: version}).Client()
			for name, change := range changes {
				for _, client := range []*goredis.Client{a, b} {
					for _, command := range [][]any{
						{"DEL", "stream"}, {"XADD", "stream", "1-1", "f", "v"}, {"XADD", "stream", "1-2", "f", "v"},
						{"XGROUP", "CREATE", "stream", "group", "0"}, {"XREADGROUP", "GROUP", "group", "alice", "COUNT", "1", "STREAMS", "stream", ">"},
					} {
						require.NoError(t, client.Do(ctx, command...).Err())
					}
				}
				assert.True(t, compareServers(t, a, b).Same, "times of delivery are no contents")
				require.NoError(t, b.Do(ctx, change...).Err())
				assert.EqualValues(t, 1, compareServers(t, a, b).Total.Changed.Keys, name)
			}
		})
	}
}

func keys(examples []Example) []string {
	names := make([]string, len(examples))
	for i, e := range examples {
		names[i] = e.Key
	}
	return names
}
