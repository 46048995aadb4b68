package restore

import (
	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/redis"
)

// lastShared is the newest RDB version that Redis and Valkey have in common.
const lastShared = 11

// Readable reports whether servers of version v are known to load an RDB file. Valkey
// counts its versions from 80 on and reads of Redis's no newer ones than those that
// both have (rdbIsVersionAccepted in rdb.c of Valkey 9); Redis reads none of Valkey's.
func Readable(v redis.Version, s *rdb.Summary) bool {
	newest := v.RDBVersion()
	switch {
	case s.Origin == rdb.OriginValkey && v.Product != "valkey":
		return false
	case s.Origin == rdb.OriginRedis && v.Product == "valkey":
		newest = min(newest, lastShared)
	}
	return s.Version <= newest
}
