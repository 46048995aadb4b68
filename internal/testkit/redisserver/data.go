package redisserver

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// Fill writes n keys of every type and encoding, spread over several databases,
// some with a time to live (an hour and more, so that none expires in a test):
// strings from numbers to a few MiB, lists, sets, sorted sets, hashes, bitmaps,
// HyperLogLogs, geo sets, streams with groups and pending entries; besides them
// functions where the server knows them (7.0+) and hash-field TTLs (Redis 7.4+).
// Equal seeds write equal data, except for times that the server notes itself.
func Fill(ctx context.Context, client *goredis.Client, seed uint64, n int) error {
	conn := client.Conn()
	defer func() { _ = conn.Close() }() // returns it to the pool
	f := filler{random: rand.New(rand.NewPCG(seed, 0))}
	const batch = 200              // keys per pipeline
	databases := [...]int{0, 1, 7} // with a gap
	for first := 0; first < n; first += batch {
		db := databases[(first/batch)%len(databases)]
		_, err := conn.Pipelined(ctx, func(p goredis.Pipeliner) error {
			p.Select(ctx, db)
			for i := first; i < min(n, first+batch); i++ {
				f.write(ctx, p, i)
			}
			p.Select(ctx, 0)
			return nil
		})
		if err != nil {
			return fmt.Errorf("filling the server: %w", err)
		}
	}
	return optional(
		conn.FunctionLoadReplace(ctx, "#!lua name=filled\n"+
			"redis.register_function('filled', function(keys, args) return args[1] end)").Err(),
		conn.HSet(ctx, "hash:field-ttl", "stays", 1, "goes", 2).Err(),
		conn.Do(ctx, "HPEXPIRE", "hash:field-ttl", time.Hour.Milliseconds(), "FIELDS", 1, "goes").Err(),
	)
}

// optional drops the errors of commands that the server does not have.
func optional(errs ...error) error {
	var kept []error
	for _, err := range errs {
		if err != nil && !strings.HasPrefix(err.Error(), "ERR unknown command") {
			kept = append(kept, err)
		}
	}
	return errors.Join(kept...)
}

type filler struct{ random *rand.Rand }

func (f filler) write(ctx context.Context, p goredis.Pipeliner, i int) {
	kinds := []func(context.Context, goredis.Pipeliner, string){
		f.number, f.text, f.binary, f.list, f.set, f.sortedSet, f.hash, f.stream, f.bitmap, f.hyperLogLog, f.geo,
	}
	names := []string{"number", "text", "binary", "list", "set", "zset", "hash", "stream", "bitmap", "hll", "geo"}
	kind := i % len(kinds)
	key := fmt.Sprintf("%s:%08d", names[kind], i)
	kinds[kind](ctx, p, key)
	if f.random.IntN(5) == 0 {
		p.PExpire(ctx, key, time.Hour+time.Duration(f.random.IntN(1e9))*time.Millisecond)
	}
}

// size draws a number of elements: mostly small, so that compact encodings
// occur, sometimes large enough for the others.
func (f filler) size() int {
	if f.random.IntN(20) == 0 {
		return 600 + f.random.IntN(1000)
	}
	return 1 + f.random.IntN(30)
}

// words is compressible text of about n bytes.
func (f filler) words(n int) string {
	vocabulary := [...]string{"order", "customer", "redis", "snapshot", "replica", "amount", "true", "42", "état", "{}"}
	var b strings.Builder
	for b.Len() < n {
		b.WriteString(vocabulary[f.random.IntN(len(vocabulary))])
		b.WriteByte(' ')
	}
	return b.String()
}

// noise is n incompressible bytes.
func (f filler) noise(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(f.random.Uint32())
	}
	return b
}

func (f filler) number(ctx context.Context, p goredis.Pipeliner, key string) {
	p.Set(ctx, key, f.random.Int64()>>f.random.IntN(60), 0)
}

func (f filler) text(ctx context.Context, p goredis.Pipeliner, key string) {
	n := 20 + f.random.IntN(2000)
	if f.random.IntN(500) == 0 {
		n = 1 << 20
	}
	p.Set(ctx, key, f.words(n), 0)
}

func (f filler) binary(ctx context.Context, p goredis.Pipeliner, key string) {
	n := 1 + f.random.IntN(500)
	if f.random.IntN(500) == 0 {
		n = 2 << 20
	}
	p.Set(ctx, key, f.noise(n), 0)
}

func (f filler) list(ctx context.Context, p goredis.Pipeliner, key string) {
	for range f.size() {
		p.RPush(ctx, key, f.words(1+f.random.IntN(60)))
	}
}

func (f filler) set(ctx context.Context, p goredis.Pipeliner, key string) {
	integers := f.random.IntN(2) == 0
	for i := range f.size() {
		if integers {
			p.SAdd(ctx, key, f.random.Int32())
		} else {
			p.SAdd(ctx, key, fmt.Sprintf("member-%d", i))
		}
	}
}

func (f filler) sortedSet(ctx context.Context, p goredis.Pipeliner, key string) {
	for i := range f.size() {
		p.ZAdd(ctx, key, goredis.Z{Score: f.random.NormFloat64() * 1e6, Member: fmt.Sprintf("member-%d", i)})
	}
}

func (f filler) hash(ctx context.Context, p goredis.Pipeliner, key string) {
	for i := range f.size() {
		p.HSet(ctx, key, fmt.Sprintf("field-%d", i), f.words(1+f.random.IntN(90)))
	}
}

func (f filler) stream(ctx context.Context, p goredis.Pipeliner, key string) {
	entries := f.size()
	for i, ms := 0, 1; i < entries; i, ms = i+1, ms+1+f.random.IntN(3) {
		p.XAdd(ctx, &goredis.XAddArgs{
			Stream: key, ID: fmt.Sprintf("%d-1", ms), Values: []any{"n", i, "text", f.words(20)},
		})
	}
	p.XGroupCreate(ctx, key, "workers", "0")
	p.XReadGroup(ctx, &goredis.XReadGroupArgs{
		Group: "workers", Consumer: "worker-1", Streams: []string{key, ">"}, Count: int64(1 + entries/2), Block: -1,
	})
	p.XAck(ctx, key, "workers", "1-1")
	p.XGroupCreate(ctx, key, "idle", "$")
}

func (f filler) bitmap(ctx context.Context, p goredis.Pipeliner, key string) {
	for range 10 {
		p.SetBit(ctx, key, int64(f.random.IntN(20_000)), 1)
	}
}

func (f filler) hyperLogLog(ctx context.Context, p goredis.Pipeliner, key string) {
	for range f.size() {
		p.PFAdd(ctx, key, f.random.Int64())
	}
}

func (f filler) geo(ctx context.Context, p goredis.Pipeliner, key string) {
	for i := range 1 + f.random.IntN(20) {
		p.GeoAdd(ctx, key, &goredis.GeoLocation{
			Name: fmt.Sprintf("place-%d", i), Longitude: f.random.Float64()*360 - 180, Latitude: f.random.Float64()*170 - 85,
		})
	}
}
