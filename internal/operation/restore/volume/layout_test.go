package volume

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/redis"
)

// Where a server looks for its data is told by its redis.conf and its version, and so is
// what the files of a restore are called.
func TestLayout(t *testing.T) {
	old, current := redis.Version{Product: "redis", Major: 6}, redis.Version{Product: "redis", Major: 7, Minor: 2}
	for name, c := range map[string]struct {
		config  string
		version redis.Version
		dir     string
		files   []string
		kept    []string
	}{
		"the defaults":      {"", current, "/data", []string{"dump.rdb"}, []string{"appendonly.aof", "appendonlydir", "dump.rdb"}},
		"other names":       {"dir /data/redis\ndbfilename my.rdb\nappenddirname parts", current, "/data/redis", []string{"my.rdb"}, []string{"appendonly.aof", "my.rdb", "parts"}},
		"the last one wins": {"appendonly yes\nappendonly no", current, "/data", []string{"dump.rdb"}, []string{"appendonly.aof", "appendonlydir", "dump.rdb"}},
		"AOF before 7.0":    {"appendonly yes\nappendfilename my.aof", old, "/data", []string{"my.aof"}, []string{"appendonlydir", "dump.rdb", "my.aof"}},
		"AOF in several parts": {
			"appendonly yes\nappenddirname parts", current, "/data",
			[]string{"parts/appendonly.aof.1.base.rdb", "parts/appendonly.aof.manifest"}, []string{"appendonly.aof", "dump.rdb", "parts"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			config, err := redis.ParseConfig(c.config)
			require.NoError(t, err)
			l, err := layoutOf(config, "/data")
			require.NoError(t, err)
			assert.Equal(t, c.dir, l.Dir)
			assert.Equal(t, c.kept, l.names())
			files, err := RDB{Contents: restore.Contents{Size: 9}}.Files(l.forVersion(c.version))
			require.NoError(t, err)
			names := []string{}
			for _, f := range files {
				names = append(names, f.Name)
			}
			assert.Equal(t, c.files, names)
		})
	}
	for _, unusual := range []string{"dir /var/lib/redis", "dir /database", "dbfilename ../dump.rdb", "appenddirname .", "appendfilename a/b"} {
		config, err := redis.ParseConfig(unusual)
		require.NoError(t, err)
		_, err = layoutOf(config, "/data")
		assert.Error(t, err, unusual)
	}
}
