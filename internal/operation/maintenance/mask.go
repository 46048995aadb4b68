package maintenance

import (
	"slices"
	"strconv"
	"strings"

	"github.com/redisctl/redisctl/internal/rdb/rdbdiff"
)

// masked stands for what is not shown.
const masked = "***"

// shownWord is how many bytes of an argument are shown.
const shownWord = 200

// Shown returns a command for people, in one line. Without values only its name,
// subcommand and keys are shown, and of a command whose keys are not known only its name.
// Secrets are never shown, nor the arguments of unknown commands, which AUTH may be when
// it was renamed.
func Shown(c Command, values bool) string {
	if len(c) == 0 {
		return ""
	}
	name := strings.ToUpper(c[0])
	words := []string{escaped(name)}
	first, last, step := keyArguments(name, len(c))
	open := 1 // arguments before it are a subcommand
	if hasSubcommands(name) {
		open = min(2, len(c))
	}
	secret := hidesAll(name, c)
	hidden := 0
	for n := 1; n < len(c); n++ {
		isKey := first > 0 && n >= first && n <= last && (n-first)%step == 0
		switch {
		case n < open, !secret && isKey, !secret && values && known(name):
			words = append(words, escaped(c[n]))
		case !isCount(c[n]):
			hidden++
			words = append(words, masked)
		default:
			words = append(words, c[n])
		}
	}
	if hidden > 3 {
		return strings.Join(abridged(words), " ")
	}
	return strings.Join(words, " ")
}

// abridged puts one mark in the place of several masked arguments in a row.
func abridged(words []string) []string {
	var short []string
	for n := 0; n < len(words); n++ {
		run := n
		for run < len(words) && words[run] == masked {
			run++
		}
		if run-n > 2 {
			short = append(short, masked+"×"+strconv.Itoa(run-n))
			n = run - 1
			continue
		}
		short = append(short, words[n])
	}
	return short
}

// isCount recognises what the slow log puts in the place of what it leaves out:
// "... (12 more arguments)".
func isCount(word string) bool {
	return strings.HasPrefix(word, "... (") && strings.HasSuffix(word, " more arguments)")
}

func escaped(word string) string {
	rest := ""
	if len(word) > shownWord {
		word, rest = word[:shownWord], "…"
	}
	if word == "" || strings.ContainsAny(word, " ") {
		return `"` + rdbdiff.Escape([]byte(word)) + `"` + rest
	}
	return rdbdiff.Escape([]byte(word)) + rest
}

// hasSubcommands reports whether a command's first argument is one of its own words.
func hasSubcommands(name string) bool {
	return slices.Contains([]string{
		"ACL", "CLIENT", "CLUSTER", "COMMAND", "CONFIG", "DEBUG", "FUNCTION", "LATENCY", "MEMORY", "MODULE", "OBJECT",
		"PUBSUB", "SCRIPT", "SLOWLOG", "XGROUP", "XINFO",
	}, name)
}

// hidesAll reports whether a command's arguments hold secrets.
func hidesAll(name string, c Command) bool {
	sub := ""
	if len(c) > 1 {
		sub = strings.ToUpper(c[1])
	}
	switch name {
	case "AUTH", "HELLO", "MIGRATE": // MIGRATE … AUTH password
		return true
	case "ACL":
		return slices.Contains([]string{"SETUSER", "GETUSER", "DRYRUN"}, sub)
	case "CONFIG":
		return sub == "SET" && !harmlessSettings(c[2:])
	case "SENTINEL":
		return true
	default:
		return false
	}
}

// harmlessSettings reports whether a CONFIG SET touches no secret: all of its settings'
// names are to be seen, and none is one of a password or key.
func harmlessSettings(pairs Command) bool {
	for n := 0; n < len(pairs); n += 2 {
		name := strings.ToLower(pairs[n])
		if strings.Contains(name, "pass") || strings.Contains(name, "auth") || strings.Contains(name, "key") || strings.Contains(name, "user") {
			return false
		}
	}
	return true
}

// known reports whether redisctl knows a command: its arguments can be shown.
func known(name string) bool {
	if first, _, _ := keyArguments(name, 2); first > 0 || hasSubcommands(name) {
		return true
	}
	return slices.Contains([]string{
		"BGREWRITEAOF", "BGSAVE", "DBSIZE", "DISCARD", "ECHO", "EVAL", "EVALSHA", "EVALSHA_RO", "EVAL_RO", "EXEC", "FAILOVER", "FCALL", "FCALL_RO",
		"FLUSHALL", "FLUSHDB", "INFO", "KEYS", "LASTSAVE", "LOLWUT", "MONITOR", "MULTI", "PING", "PSUBSCRIBE", "PSYNC", "PUBLISH",
		"RANDOMKEY", "READONLY", "REPLCONF", "REPLICAOF", "ROLE", "SAVE", "SCAN", "SELECT", "SHUTDOWN", "SLAVEOF", "SPUBLISH",
		"SUBSCRIBE", "SSUBSCRIBE", "SWAPDB", "SYNC", "TIME", "UNSUBSCRIBE", "UNWATCH", "WAIT", "WAITAOF", "XREAD", "XREADGROUP",
	}, name)
}

// keyArguments returns which arguments of a command are keys, as in COMMAND's first, last
// and step; first is 0 when none are, or it is not known. argc counts the name, too.
//
//nolint:gocyclo // a table
func keyArguments(name string, argc int) (first, last, step int) {
	switch name {
	case "DEL", "UNLINK", "EXISTS", "TOUCH", "MGET", "SDIFF", "SINTER", "SUNION", "SDIFFSTORE", "SINTERSTORE", "SUNIONSTORE",
		"PFCOUNT", "PFMERGE", "WATCH":
		return 1, argc - 1, 1
	case "MSET", "MSETNX":
		return 1, argc - 1, 2
	case "BLPOP", "BRPOP", "BZPOPMIN", "BZPOPMAX":
		return 1, argc - 2, 1
	case "RENAME", "RENAMENX", "COPY", "LMOVE", "BLMOVE", "RPOPLPUSH", "BRPOPLPUSH", "SMOVE", "GEOSEARCHSTORE", "ZRANGESTORE", "LCS":
		return 1, 2, 1
	case "BITOP":
		return 2, argc - 1, 1
	case "OBJECT", "XGROUP", "XINFO":
		return 2, 2, 1
	case "MEMORY": // USAGE key
		return 2, 2, 1
	case "APPEND", "BITCOUNT", "BITFIELD", "BITFIELD_RO", "BITPOS", "DECR", "DECRBY", "DUMP", "EXPIRE", "EXPIREAT", "EXPIRETIME",
		"GEOADD", "GEODIST", "GEOHASH", "GEOPOS", "GEORADIUS", "GEORADIUSBYMEMBER", "GEORADIUS_RO", "GEORADIUSBYMEMBER_RO", "GEOSEARCH",
		"GET", "GETBIT", "GETDEL", "GETEX", "GETRANGE", "GETSET", "HDEL", "HEXISTS", "HEXPIRE", "HEXPIREAT", "HEXPIRETIME", "HGET",
		"HGETALL", "HGETDEL", "HGETEX", "HINCRBY", "HINCRBYFLOAT", "HKEYS", "HLEN", "HMGET", "HMSET", "HPERSIST", "HPEXPIRE",
		"HPEXPIREAT", "HPEXPIRETIME", "HPTTL", "HRANDFIELD", "HSCAN", "HSET", "HSETEX", "HSETNX", "HSTRLEN", "HTTL", "HVALS", "INCR",
		"INCRBY", "INCRBYFLOAT", "LINDEX", "LINSERT", "LLEN", "LPOP", "LPOS", "LPUSH", "LPUSHX", "LRANGE", "LREM", "LSET", "LTRIM",
		"MOVE", "PERSIST", "PEXPIRE", "PEXPIREAT", "PEXPIRETIME", "PFADD", "PSETEX", "PTTL", "RESTORE", "RPOP", "RPUSH", "RPUSHX",
		"SADD", "SCARD", "SET", "SETBIT", "SETEX", "SETNX", "SETRANGE", "SISMEMBER", "SMEMBERS", "SMISMEMBER", "SORT", "SORT_RO",
		"SPOP", "SRANDMEMBER", "SREM", "SSCAN", "STRLEN", "SUBSTR", "TTL", "TYPE", "VADD", "VCARD", "VDIM", "VEMB", "VGETATTR",
		"VINFO", "VLINKS", "VRANDMEMBER", "VREM", "VSETATTR", "VSIM", "XACK", "XACKDEL", "XADD", "XAUTOCLAIM", "XCLAIM", "XDEL",
		"XDELEX", "XLEN", "XPENDING", "XRANGE", "XREVRANGE", "XSETID", "XTRIM", "ZADD", "ZCARD", "ZCOUNT", "ZDIFFSTORE", "ZINCRBY",
		"ZINTERSTORE", "ZLEXCOUNT", "ZMSCORE", "ZPOPMAX", "ZPOPMIN", "ZRANDMEMBER", "ZRANGE", "ZRANGEBYLEX", "ZRANGEBYSCORE",
		"ZRANK", "ZREM", "ZREMRANGEBYLEX", "ZREMRANGEBYRANK", "ZREMRANGEBYSCORE", "ZREVRANGE", "ZREVRANGEBYLEX",
		"ZREVRANGEBYSCORE", "ZREVRANK", "ZSCAN", "ZSCORE", "ZUNIONSTORE":
		return 1, 1, 1
	default:
		return 0, 0, 0
	}
}
