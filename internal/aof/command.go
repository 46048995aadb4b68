package aof

import (
	"time"

	"github.com/redisctl/redisctl/internal/rdb"
)

// Visitor is told what a file holds while Walk reads it. Its errors end the walk.
type Visitor struct {
	// Begin, if not nil, is called before the first command, with what the RDB holds
	// that the file begins with: nil when it does not.
	Begin func(preamble *rdb.Summary) error
	// Command, if not nil, is called behind each complete command. What it is given is
	// valid until it returns.
	Command func(c *Command) error
}

// Command is one command of a file. Its values are not kept.
type Command struct {
	// Name in upper case; at most its first 64 bytes.
	Name string
	// Key is the first key, at most its first 256 bytes. It is nil for commands that
	// have none, and for those of which redisctl does not know which argument is one:
	// another could be a secret.
	Key []byte
	// DB is the database that the command works on.
	DB int
	// Time is the last timestamp before the command, zero when there is none. The
	// command was executed in that second or later.
	Time time.Time
	// Start and End are offsets in bytes: of its first byte, and behind its last.
	Start, End int64
	// Ends says that the file may be cut behind it: no transaction is open.
	Ends bool

	// annotated is how many bytes before End are annotations.
	annotated int64
}

// The commands that the structure of a file depends on.
const (
	nameMulti  = "MULTI"
	nameExec   = "EXEC"
	nameSelect = "SELECT"
)

// keyArgument returns which argument of a command is its first key, or the number of
// the database for SELECT; 0 for none. Only commands that write are found in files.
func keyArgument(name string) int64 {
	switch name {
	case nameSelect,
		// As in the command tables of Redis 8.0 and Valkey 8.1 (first_key 1, write).
		"APPEND", "BITFIELD", "BLMOVE", "BLPOP", "BRPOP", "BRPOPLPUSH", "BZPOPMAX", "BZPOPMIN", "COPY", "DECR", "DECRBY", "DEL", "EXPIRE", "EXPIREAT", "GEOADD",
		"GEORADIUS", "GEORADIUSBYMEMBER", "GEOSEARCHSTORE", "GETDEL", "GETEX", "GETSET", "HDEL", "HEXPIRE", "HEXPIREAT",
		"HGETDEL", "HGETEX", "HINCRBY", "HINCRBYFLOAT", "HMSET", "HPERSIST", "HPEXPIRE", "HPEXPIREAT", "HSET", "HSETEX",
		"HSETNX", "INCR", "INCRBY", "INCRBYFLOAT", "LINSERT", "LMOVE", "LPOP", "LPUSH", "LPUSHX", "LREM", "LSET", "LTRIM",
		"MOVE", "MSET", "MSETNX", "PERSIST", "PEXPIRE", "PEXPIREAT", "PFADD", "PFMERGE", "PSETEX", "RENAME", "RENAMENX",
		"RESTORE", "RPOP", "RPOPLPUSH", "RPUSH", "RPUSHX", "SADD", "SDIFFSTORE", "SET", "SETBIT", "SETEX", "SETNX",
		"SETRANGE", "SINTERSTORE", "SMOVE", "SORT", "SPOP", "SREM", "SUNIONSTORE", "UNLINK", "VADD", "VREM", "VSETATTR",
		"XACK", "XACKDEL", "XADD", "XAUTOCLAIM", "XCLAIM", "XDEL", "XDELEX", "XSETID", "XTRIM", "ZADD", "ZDIFFSTORE",
		"ZINCRBY", "ZINTERSTORE", "ZPOPMAX", "ZPOPMIN", "ZRANGESTORE", "ZREM", "ZREMRANGEBYLEX", "ZREMRANGEBYRANK",
		"ZREMRANGEBYSCORE", "ZUNIONSTORE":
		return 1
	case "BITOP", "XGROUP": // an operation or a subcommand comes first
		return 2
	default:
		return 0
	}
}
