package rdb_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

// The files in testdata were written by real servers:
//
//	go test ./internal/rdb -run TestFixtures -update
//
// makes them anew. Beside each stands what the server itself reported about its
// keys, so that the tests need no server.
var update = flag.Bool("update", false, "let real servers write the files in testdata")

// golden is what a server said about one key.
type golden struct {
	DB       int    `json:"db"`
	Key      string `json:"key"` // quoted: not all are text
	Type     string `json:"type"`
	Encoding string `json:"encoding"`
	Len      int64  `json:"len"`
	ExpireAt int64  `json:"expireAt,omitempty"`
	Freq     *int64 `json:"freq,omitempty"`
	Idle     *int64 `json:"idle,omitempty"`
	// Dump is the SHA-256 of the DUMP payload.
	Dump string `json:"dump"`
}

// flavour is a configuration that leaves its mark in the file.
type flavour struct {
	name   string
	config []string
	fill   func(context.Context, *testing.T, *goredis.Client) map[string]int64
}

var flavours = []flavour{
	{"", []string{"maxmemory-policy noeviction"}, fillEveryType},
	{"-lru", []string{"maxmemory-policy allkeys-lru"}, fillFewKeys},
	{"-lfu", []string{"maxmemory-policy allkeys-lfu"}, fillFewKeys},
}

// compactLimits make every encoding appear in a file of a few KB.
var compactLimits = []string{
	"hash-max-ziplist-entries 4", "zset-max-ziplist-entries 4", "set-max-intset-entries 4",
	"list-max-ziplist-size 4", "stream-node-max-entries 5",
}

// farFuture is the expiry time of keys that should never expire: 2100-01-01.
const farFuture = 4_102_444_800_000

func fixtures(t testing.TB) []string {
	names, err := filepath.Glob("testdata/*.rdb")
	require.NoError(t, err)
	require.Len(t, names, 12, "run go test ./internal/rdb -run TestFixtures -update")
	return names
}

func read(t testing.TB, name string) []byte {
	data, err := os.ReadFile(name)
	require.NoError(t, err)
	return data
}

func TestFixtures(t *testing.T) {
	if *update {
		for _, version := range redisserver.Versions(t) {
			for _, f := range flavours {
				writeFixture(t, version, f)
			}
		}
	}
	for _, name := range fixtures(t) {
		t.Run(filepath.Base(name), func(t *testing.T) {
			var want []golden
			require.NoError(t, json.Unmarshal(read(t, strings.TrimSuffix(name, ".rdb")+".json"), &want))
			got := scanAll(t, read(t, name), rdb.Options{Deep: true})

			assert.Equal(t, rdb.ChecksumOK, got.summary.Checksum)
			keys := make(map[int]int64)
			types := make(map[int]map[string]int64)
			expires := make(map[int]int64)
			for _, w := range want {
				keys[w.DB]++
				if types[w.DB] == nil {
					types[w.DB] = make(map[string]int64)
				}
				types[w.DB][keyType(w.Type)]++
				if w.ExpireAt != 0 {
					expires[w.DB]++
				}
				key, err := strconv.Unquote(w.Key)
				require.NoError(t, err)
				e, found := got.find(w.DB, key)
				if !assert.True(t, found, "key %s in database %d", w.Key, w.DB) {
					continue
				}
				assertSame(t, w, e)
			}
			assert.EqualValues(t, len(want), got.summary.Keys)
			for _, db := range got.summary.DBs {
				assert.Equal(t, keys[db.DB], db.Keys, "keys of database %d", db.DB)
				assert.Equal(t, keys[db.DB], db.KeysHint, "announced keys of database %d", db.DB)
				assert.Equal(t, expires[db.DB], db.Expires, "keys with expiry in database %d", db.DB)
				assert.Equal(t, types[db.DB], db.Types, "types in database %d", db.DB)
			}
			libraries := 0
			if strings.Contains(name, "-7.0.") || strings.Contains(name, "-8.0.") || strings.Contains(name, "-8.1.") {
				libraries = 2
			}
			assert.Len(t, got.functions, libraries)
			assert.EqualValues(t, libraries, got.summary.Functions)
			assert.Contains(t, got.summary.Aux, "ctime")
			assert.Equal(t, "64", got.summary.Aux["redis-bits"])
		})
	}
}

// keyType folds the types of modules into one, as Summary does.
func keyType(t string) string {
	if t == "vectorset" {
		return "module"
	}
	return t
}

func assertSame(t *testing.T, want golden, got record) {
	t.Helper()
	name := want.Key
	if got.Type == rdb.TypeModule {
		assert.Equal(t, want.Type, got.Module, name)
	} else {
		assert.Equal(t, want.Type, got.Type.String(), name)
		assert.Equal(t, want.Len, got.Len, "length of %s", name)
		encoding := string(got.Encoding)
		if got.Type == rdb.TypeList && want.Encoding == "listpack" {
			encoding = "listpack" // the file does not tell it from a quicklist
		}
		if got.Encoding == rdb.EncodingEmbstr && want.Encoding == "raw" {
			encoding = "raw" // Valkey 8.1 counts the length of the key, too
		}
		assert.Equal(t, want.Encoding, encoding, "encoding of %s", name)
	}
	if want.ExpireAt == 0 {
		want.ExpireAt = rdb.None
	}
	assert.Equal(t, want.ExpireAt, got.ExpireAt, "expiry of %s", name)
	if want.Freq != nil {
		assert.EqualValues(t, *want.Freq, got.Freq, "frequency of %s", name)
	} else {
		assert.Equal(t, rdb.None, got.Freq, "frequency of %s", name)
	}
	if want.Idle != nil {
		assert.InDelta(t, *want.Idle, got.Idle, 2, "idle time of %s", name)
	} else {
		assert.EqualValues(t, rdb.None, got.Idle, "idle time of %s", name)
	}
	sum := sha256.Sum256(rdb.AppendDump(nil, got.RDBType, uint16(got.version), got.value))
	assert.Equal(t, want.Dump, hex.EncodeToString(sum[:]), "DUMP of %s (RDB type %d)", name, got.RDBType)
}

func writeFixture(t *testing.T, version string, f flavour) {
	t.Helper()
	ctx := t.Context()
	config := append(slices.Clone(compactLimits), f.config...)
	if version == redisserver.Redis80 || version == redisserver.Valkey81 {
		config = append(config, "set-max-listpack-entries 4")
	}
	if version != redisserver.Redis60 {
		config = append(config, "enable-debug-command yes")
	}
	server := redisserver.Start(t, redisserver.Options{Version: version, Config: config})
	client := server.Client()
	expiry := f.fill(ctx, t, client)
	require.NoError(t, client.Save(ctx).Err())

	const databases = 16
	all := make([]golden, 0, databases)
	for db := range databases {
		all = append(all, describeDB(ctx, t, client, db, expiry)...)
	}
	base := "testdata/" + version + f.name
	data, err := os.ReadFile(filepath.Join(server.Dir, "dump.rdb"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(base+".rdb", data, 0o644))
	text, err := json.MarshalIndent(all, "", "\t")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(base+".json", append(text, '\n'), 0o644))
}

// describeDB asks the server about all keys of a database. Expiry times come
// from what was set: servers before 7.0 only tell the remaining time.
func describeDB(ctx context.Context, t *testing.T, client *goredis.Client, db int, expiry map[string]int64) []golden {
	t.Helper()
	conn := client.Conn()
	defer func() { assert.NoError(t, conn.Close()) }()
	require.NoError(t, conn.Select(ctx, db).Err())
	keys, err := conn.Keys(ctx, "*").Result()
	require.NoError(t, err)
	slices.Sort(keys)
	size, err := conn.DBSize(ctx).Result()
	require.NoError(t, err)
	require.EqualValues(t, size, len(keys))
	policy, err := conn.ConfigGet(ctx, "maxmemory-policy").Result()
	require.NoError(t, err)

	all := make([]golden, 0, len(keys))
	for _, key := range keys {
		g := golden{DB: db, Key: strconv.QuoteToASCII(key), ExpireAt: expiry[key]}
		// Before anything touches the key:
		switch policy["maxmemory-policy"] {
		case "allkeys-lfu":
			n, err := conn.Do(ctx, "OBJECT", "FREQ", key).Int64()
			require.NoError(t, err)
			g.Freq = &n
		case "allkeys-lru":
			idle, err := conn.ObjectIdleTime(ctx, key).Result()
			require.NoError(t, err)
			n := int64(idle.Seconds())
			g.Idle = &n
		}
		g.Type, err = conn.Type(ctx, key).Result()
		require.NoError(t, err)
		g.Encoding, err = conn.ObjectEncoding(ctx, key).Result()
		require.NoError(t, err)
		if length := map[string]string{
			"string": "STRLEN", "list": "LLEN", "set": "SCARD", "zset": "ZCARD", "hash": "HLEN", "stream": "XLEN",
		}[g.Type]; length != "" {
			g.Len, err = conn.Do(ctx, length, key).Int64()
			require.NoError(t, err)
		}
		dump, err := conn.Dump(ctx, key).Result()
		require.NoError(t, err)
		sum := sha256.Sum256([]byte(dump))
		g.Dump = hex.EncodeToString(sum[:])
		all = append(all, g)
	}
	require.NoError(t, conn.Select(ctx, 0).Err())
	return all
}

// fillFewKeys writes one key of each attribute; the rest is in fillEveryType.
func fillFewKeys(ctx context.Context, t *testing.T, c *goredis.Client) map[string]int64 {
	t.Helper()
	do := doer(ctx, t, c)
	do("SET", "plain", "value")
	do("SET", "expiring", "value")
	do("PEXPIREAT", "expiring", farFuture)
	do("RPUSH", "list", "a", "b", "c")
	for range 20 {
		do("GET", "plain")
	}
	return map[string]int64{"expiring": farFuture}
}

// fillEveryType makes the server write every type and encoding it can.
func fillEveryType(ctx context.Context, t *testing.T, c *goredis.Client) map[string]int64 {
	t.Helper()
	do := doer(ctx, t, c)
	has := func(command string) bool {
		info, err := c.Do(ctx, "COMMAND", "INFO", command).Slice()
		require.NoError(t, err)
		return info[0] != nil
	}

	for _, n := range []string{"0", "-1", "127", "-128", "128", "32767", "-32768", "40000", "2147483647", "-2147483648", "2147483648", "9223372036854775807", "-9223372036854775808"} {
		do("SET", "int:"+n, n)
	}
	do("SET", "not an integer: leading zero", "007")
	do("SET", "empty string", "")
	do("SET", "", "the empty key")
	do("SET", "embstr", "forty-four bytes are the most that embstr is")
	do("SET", "raw", "one byte more than embstr could possibly hold")
	do("SET", "12345", "a number as the key")
	do("SET", "binary \xff\x00\xfe", "\x00\x01\xfe\xff")
	do("SET", strings.Repeat("compressible key ", 10), "x")
	do("SET", "lzf", strings.Repeat("compress me, please. ", 60))
	do("SET", "lzf:long runs", strings.Repeat("a", 3000))
	do("SET", "lzf:varied", variedText(800))
	do("SET", "incompressible", noise(70))
	do("SET", "14-bit length", noise(64))

	numbers := func(n int) []any {
		out := make([]any, n)
		for i := range out {
			out[i] = i * i * 1000
		}
		return out
	}
	words := func(n int) []any {
		out := make([]any, n)
		for i := range out {
			out[i] = fmt.Sprintf("element-%d", i)
		}
		return out
	}
	do(append([]any{"RPUSH", "list:small"}, words(3)...)...)
	do(append([]any{"RPUSH", "list:nodes"}, words(30)...)...)
	do("RPUSH", "list:integers", 0, 12, 13, 127, -1, -4096, 4095, 32767, 8388607, 2147483647, -9223372036854775808, 1<<40)
	do("RPUSH", "list:long elements", noise(63), noise(64), noise(250), noise(254), strings.Repeat("z", 5000))
	do("SADD", "set:intset16", 1, 2, 300)
	do("SADD", "set:intset32", 1, 2, 70000)
	do("SADD", "set:intset64", -1, 2, int64(1)<<40)
	do(append([]any{"SADD", "set:small"}, words(3)...)...)
	do(append([]any{"SADD", "set:large"}, words(20)...)...)
	do(append([]any{"SADD", "set:large integers"}, numbers(20)...)...)
	do("ZADD", "zset:small", 1, "one", 2.5, "two and a half", "-inf", "minus infinity")
	for i := range 12 {
		do("ZADD", "zset:large", float64(i)/3, fmt.Sprintf("member-%d", i))
	}
	do("ZADD", "zset:large", "inf", "infinity", "-inf", "minus infinity", 0, "zero")
	do("HSET", "hash:small", "field", "value", "number", 7, "", "empty field")
	for i := range 12 {
		do("HSET", "hash:large", fmt.Sprintf("field-%d", i), variedText(10*i))
	}
	do("HSET", "hash:long value", "field", noise(100))
	do(append([]any{"PFADD", "hyperloglog"}, words(10)...)...)
	do("GEOADD", "geo", 13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "Catania")

	fillStreams(do)

	if has("FUNCTION") {
		do("DEBUG", "QUICKLIST-PACKED-THRESHOLD", "200b")
		do("RPUSH", "list:plain nodes", "small", noise(300), "small again", strings.Repeat("plain ", 60))
		do("FUNCTION", "LOAD", "#!lua name=first\nredis.register_function('first', function(keys, args) return args[1] end)")
		do("FUNCTION", "LOAD", "#!lua name=second\nredis.register_function('second', function(keys, args) return #keys end)\n"+strings.Repeat("-- comment\n", 20))
	}
	if has("HPEXPIREAT") {
		do("HSET", "hash:ttl small", "stays", 1, "goes", 2, "also goes", "three")
		do("HPEXPIREAT", "hash:ttl small", farFuture, "FIELDS", 1, "goes")
		do("HPEXPIREAT", "hash:ttl small", farFuture+5000, "FIELDS", 1, "also goes")
		for i := range 12 {
			do("HSET", "hash:ttl large", fmt.Sprintf("field-%d", i), i)
		}
		for i := range 5 {
			do("HPEXPIREAT", "hash:ttl large", farFuture+i*1000, "FIELDS", 1, fmt.Sprintf("field-%d", i))
		}
	}
	if has("VADD") {
		do("VADD", "vectors", "VALUES", 3, 0.5, 1, -1, "first")
		do("VADD", "vectors", "VALUES", 3, 0.25, 0, 1, "second", "SETATTR", `{"colour":"green"}`)
	}

	do("SET", "expires", "in 2100")
	do("PEXPIREAT", "expires", farFuture)
	do("SADD", "expires too", "in 2100")
	do("PEXPIREAT", "expires too", farFuture+1)

	other := func(db int, args ...any) {
		conn := c.Conn()
		require.NoError(t, conn.Select(ctx, db).Err())
		require.NoError(t, conn.Do(ctx, args...).Err())
		require.NoError(t, conn.Select(ctx, 0).Err())
		require.NoError(t, conn.Close())
	}
	other(1, "SET", "embstr", "the same key in another database")
	other(9, "SET", "expires in 9", "in 2100")
	other(9, "PEXPIREAT", "expires in 9", farFuture)
	return map[string]int64{"expires": farFuture, "expires too": farFuture + 1, "expires in 9": farFuture}
}

func fillStreams(do func(...any)) {
	for i := range 12 {
		do("XADD", "stream", fmt.Sprintf("%d-%d", 1_700_000_000_000+i*1000, i), "kind", "test", "number", i)
	}
	do("XADD", "stream", "1800000000000-0", "other", "fields")
	do("XDEL", "stream", "1700000003000-3")
	do("XGROUP", "CREATE", "stream", "group", "0")
	do("XGROUP", "CREATE", "stream", "idle group", "$")
	do("XREADGROUP", "GROUP", "group", "alice", "COUNT", 4, "STREAMS", "stream", ">")
	do("XREADGROUP", "GROUP", "group", "bob", "COUNT", 3, "STREAMS", "stream", ">")
	do("XACK", "stream", "group", "1700000000000-0")
	do("XCLAIM", "stream", "group", "carol", 0, "1700000001000-1")
	do("XADD", "empty stream", "5-0", "field", "value")
	do("XDEL", "empty stream", "5-0")
	do("XGROUP", "CREATE", "empty stream", "group", "$")
}

func doer(ctx context.Context, t *testing.T, c *goredis.Client) func(...any) {
	return func(args ...any) {
		t.Helper()
		require.NoError(t, c.Do(ctx, args...).Err(), "%v", args)
	}
}

// noise returns bytes that do not compress, the same each time.
func noise(n int) string {
	var out []byte
	for sum := sha256.Sum256([]byte("noise")); len(out) < n; sum = sha256.Sum256(sum[:]) {
		out = append(out, sum[:]...)
	}
	return string(out[:n])
}

// variedText returns text that compresses moderately, the same each time.
func variedText(n int) string {
	words := strings.Fields("the quick brown fox jumps over a lazy dog and then it sleeps until next morning")
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		b.WriteString(words[i*i%len(words)])
		b.WriteByte(byte(' ' + i%3))
	}
	return b.String()[:n]
}
