package snapshot_test

import (
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/storage"
)

func anyTime() *rapid.Generator[time.Time] {
	zones := []*time.Location{time.UTC, time.FixedZone("east", 14*3600), time.FixedZone("west", -12*3600)}
	return rapid.Custom(func(t *rapid.T) time.Time {
		seconds := rapid.Int64Range(0, 253402300799-86400).Draw(t, "seconds") // until the year 9999
		nanos := rapid.Int64Range(0, 999999999).Draw(t, "nanoseconds")
		return time.Unix(seconds, nanos).In(rapid.SampledFrom(zones).Draw(t, "zone"))
	})
}

// portable fails unless name is legal as one element of a path everywhere.
func portable(t require.TestingT, name string) {
	require.NoError(t, storage.CheckName(name))
	require.NotContains(t, name, "/")
	require.True(t, filepath.IsLocal(name))
	require.False(t, strings.ContainsAny(name, `<>:"|?*%+&$@=;, `), "%q", name) // Windows; S3 keys that need escaping
	require.False(t, strings.HasSuffix(name, "."), "%q", name)
	require.LessOrEqual(t, len(name), 255)
}

func TestIDs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := anyTime().Draw(t, "a"), anyTime().Draw(t, "b")
		idA, idB := snapshot.NewID(snapshot.KindRDB, a), snapshot.NewID(snapshot.KindRDB, b)
		portable(t, idA)
		kind, start, ok := snapshot.ParseID(idA)
		require.True(t, ok, "%s", idA)
		require.Equal(t, snapshot.KindRDB, kind)
		require.True(t, start.Equal(a.Truncate(time.Second)), "%s is of %s", idA, a)
		if a.Unix() != b.Unix() {
			require.Equal(t, a.Before(b), idA < idB, "ids sort by time")
		}
	})
}

func TestParseID(t *testing.T) {
	_, _, ok := snapshot.ParseID("aof-20261123T090501Z-k7mq")
	assert.True(t, ok, "kinds of a later version have ids as well")
	for _, id := range []string{
		"", "rdb", "rdb-20261123T090501Z", "rdb-20261123T090501Z-", "rdb-20261123T090501Z-k7m", "rdb-20261123T090501Z-k7mqq",
		"rdb-20261123T090501Z-K7MQ", "rdb-20261323T090501Z-k7mq", "rdb-20260230T090501Z-k7mq", "rdb-20261123T246060Z-k7mq",
		"RDB-20261123T090501Z-k7mq", "-20261123T090501Z-k7mq", "../-20261123T090501Z-k7mq", "rdb-20261123T090501Z-k7mq\n",
		"rdb-20261123T090501+k7mq", "rdb-20261123T090501Z-../", "x/rdb-20261123T090501Z-k7mq",
	} {
		_, _, ok := snapshot.ParseID(id)
		assert.False(t, ok, "%q", id)
	}
}

func TestReleaseDir(t *testing.T) {
	got, err := snapshot.ReleaseDir("redis-prod", "my.redis")
	require.NoError(t, err)
	assert.Equal(t, "redis-prod/my.redis", got)
	for _, name := range []string{
		"", ".", "..", "a/b", "/", "-a", "a-", "a_b", "A", ".a", "a.", "a..b", "ü", "a b", "a\x00", "a:b", strings.Repeat("a", 254),
	} {
		_, err := snapshot.ReleaseDir(name, "redis")
		require.Error(t, err, "%q", name)
		_, err = snapshot.ReleaseDir("redis", name)
		require.Error(t, err, "%q", name)
	}
}

func TestAddressDir(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1:6379":          "address/127.0.0.1_6379",
		"Redis.example.com:6380":  "address/redis.example.com_6380",
		"[::1]:6379":              "address/_3a_3a1_6379",
		"[fe80::1%eth0]:6379":     "address/fe80_3a_3a1_25eth0_6379",
		"under_score:6379":        "address/under_5fscore_6379",
		"..:1":                    "address/.._1",
		"a/../../etc/passwd:6379": "address/a_2f.._2f.._2fetc_2fpasswd_6379",
	} {
		got, err := snapshot.AddressDir(address)
		require.NoError(t, err, address)
		assert.Equal(t, want, got)
	}
	for _, address := range []string{"", "host", ":6379", "host:", "host:port", "host:-1", "::1:6379", "host:6379/x", strings.Repeat("a", 254) + ":1"} {
		_, err := snapshot.AddressDir(address)
		require.Error(t, err, "%q", address)
	}
}

func TestDirsAreLocalAndDistinct(t *testing.T) {
	piece := rapid.SampledFrom([]string{"a", "B", "1", "-", ".", "..", "_", "3a", ":", "/", `\`, "%", "ü", " ", "\x00"})
	host := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(piece, 0, 6).Draw(t, "pieces"), "")
	})
	port := rapid.SampledFrom([]string{"1", "6379", "3", ""})
	rapid.Check(t, func(t *rapid.T) {
		hosts := [2]string{host.Draw(t, "host"), host.Draw(t, "other host")}
		ports := [2]string{port.Draw(t, "port"), port.Draw(t, "other port")}
		var dirs [2]string
		for i := range dirs {
			dir, err := snapshot.AddressDir("[" + hosts[i] + "]:" + ports[i])
			if err != nil {
				return
			}
			dirs[i] = dir
			parent, base := path.Split(dir)
			require.Equal(t, "address/", parent)
			portable(t, base)
			require.Contains(t, base, "_", "cannot be a release")
		}
		same := strings.EqualFold(hosts[0], hosts[1]) && ports[0] == ports[1]
		require.Equal(t, same, dirs[0] == dirs[1], "%q %q", hosts, ports)

		if dir, err := snapshot.ReleaseDir(hosts[0], hosts[1]); err == nil {
			require.NoError(t, storage.CheckName(dir))
			require.Equal(t, 1, strings.Count(dir, "/"))
			portable(t, path.Base(dir))
		}
	})
}
