package redisserver

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// Digest identifies the contents of a server.
type Digest struct {
	// Keys of each logical database that holds any, by name.
	Keys map[int]map[string]Value
	// Functions is the server's FUNCTION DUMP, empty before 7.0.
	Functions string
}

// Value identifies the value of one key.
type Value struct {
	Type string
	// Sum is the SHA-256 of the value: of its DUMP payload, or of its sorted
	// elements where the payload depends on the order of a hash table.
	Sum [sha256.Size]byte
	// Expires is zero for a key that does not. Before 7.0 servers only tell the
	// time left, which makes it Approximate.
	Expires     time.Time
	Approximate bool
}

// TakeDigest reads everything that a server holds. Nothing should write
// meanwhile. The keys whose names start with one of the prefixes in except are
// left out.
func TakeDigest(ctx context.Context, client *goredis.Client, except ...string) (Digest, error) {
	conn := client.Conn()
	defer func() { _ = conn.Close() }()
	d := Digest{Keys: make(map[int]map[string]Value)}
	databases, err := databasesWithKeys(ctx, conn)
	if err != nil {
		return Digest{}, err
	}
	for _, db := range databases {
		if err := conn.Select(ctx, db).Err(); err != nil {
			return Digest{}, err
		}
		if d.Keys[db], err = readDB(ctx, conn, except); err != nil {
			return Digest{}, fmt.Errorf("database %d: %w", db, err)
		}
	}
	if err := conn.Select(ctx, 0).Err(); err != nil {
		return Digest{}, err
	}
	d.Functions, err = conn.FunctionDump(ctx).Result()
	return d, optional(err)
}

// Compare returns an error that names the first differences between what two
// servers of the same version hold: keys, types, values, times to live, functions.
func Compare(ctx context.Context, want, got *goredis.Client, except ...string) error {
	a, err := TakeDigest(ctx, want, except...)
	if err != nil {
		return fmt.Errorf("reading the first server: %w", err)
	}
	b, err := TakeDigest(ctx, got, except...)
	if err != nil {
		return fmt.Errorf("reading the second server: %w", err)
	}
	return a.Diff(b)
}

// Diff returns an error that names the first differences to another digest.
func (d Digest) Diff(other Digest) error {
	const limit = 10
	var errs []error
	report := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	databases := slices.Collect(maps.Keys(d.Keys))
	for db := range other.Keys {
		if _, ok := d.Keys[db]; !ok {
			databases = append(databases, db)
		}
	}
	slices.Sort(databases)
	for _, db := range databases {
		mine, theirs := d.Keys[db], other.Keys[db]
		if len(mine) != len(theirs) {
			report("database %d: %d keys, the other server has %d", db, len(mine), len(theirs))
		}
		for _, key := range slices.Sorted(maps.Keys(mine)) {
			value, ok := theirs[key]
			switch {
			case !ok:
				report("database %d: %q is missing", db, key)
			case !value.equal(mine[key]):
				report("database %d: %q differs: %+v, the other server has %+v", db, key, mine[key], value)
			}
			if len(errs) >= limit {
				return errors.Join(append(errs, errors.New("…"))...)
			}
		}
	}
	if d.Functions != other.Functions {
		report("the functions differ")
	}
	return errors.Join(errs...)
}

func (v Value) equal(other Value) bool {
	var tolerance time.Duration
	if v.Approximate || other.Approximate {
		tolerance = time.Second
	}
	return v.Type == other.Type && v.Sum == other.Sum &&
		v.Expires.IsZero() == other.Expires.IsZero() && v.Expires.Sub(other.Expires).Abs() <= tolerance
}

func databasesWithKeys(ctx context.Context, conn *goredis.Conn) ([]int, error) {
	info, err := conn.Info(ctx, "keyspace").Result()
	if err != nil {
		return nil, err
	}
	var databases []int
	for line := range strings.Lines(info) {
		var db, keys int
		if n, _ := fmt.Sscanf(line, "db%d:keys=%d", &db, &keys); n == 2 && keys > 0 {
			databases = append(databases, db)
		}
	}
	return databases, nil
}

func readDB(ctx context.Context, conn *goredis.Conn, except []string) (map[string]Value, error) {
	values := make(map[string]Value)
	const perScan = 500
	for cursor := uint64(0); ; {
		keys, next, err := conn.Scan(ctx, cursor, "", perScan).Result()
		if err != nil {
			return nil, err
		}
		keys = slices.DeleteFunc(keys, func(key string) bool {
			return slices.ContainsFunc(except, func(prefix string) bool { return strings.HasPrefix(key, prefix) })
		})
		if err := readKeys(ctx, conn, keys, values); err != nil {
			return nil, err
		}
		if cursor = next; cursor == 0 {
			return values, nil
		}
	}
}

func readKeys(ctx context.Context, conn *goredis.Conn, keys []string, values map[string]Value) error {
	types, err := pipeline(ctx, conn, keys, func(p goredis.Pipeliner, key string) *goredis.StatusCmd {
		return p.Type(ctx, key)
	})
	if err != nil {
		return err
	}
	// What a hash table holds comes in an order of the server's own.
	contents, err := pipeline(ctx, conn, keys, func(p goredis.Pipeliner, key string) *goredis.Cmd {
		switch types[key].Val() {
		case "hash":
			return p.Do(ctx, "HGETALL", key)
		case "set":
			return p.Do(ctx, "SMEMBERS", key)
		case "zset":
			return p.Do(ctx, "ZRANGE", key, 0, -1, "WITHSCORES")
		default:
			return p.Do(ctx, "DUMP", key)
		}
	})
	if err != nil {
		return err
	}
	expires, approximate, err := expiries(ctx, conn, keys)
	if err != nil {
		return err
	}
	for _, key := range keys {
		values[key] = Value{
			Type: types[key].Val(), Sum: sum(value(contents[key])),
			Expires: expires[key], Approximate: approximate,
		}
	}
	return nil
}

// expiries returns when keys expire, without those that do not.
func expiries(ctx context.Context, conn *goredis.Conn, keys []string) (at map[string]time.Time, approximate bool, err error) {
	at = make(map[string]time.Time)
	times, err := pipeline(ctx, conn, keys, func(p goredis.Pipeliner, key string) *goredis.DurationCmd {
		return p.PExpireTime(ctx, key)
	})
	if err == nil {
		for key, t := range times {
			if t.Val() >= 0 {
				at[key] = time.UnixMilli(t.Val().Milliseconds())
			}
		}
		return at, false, nil
	}
	if optional(err) != nil {
		return nil, false, err
	}
	// In a transaction the server's clock hardly moves.
	left := make(map[string]*goredis.DurationCmd)
	var now *goredis.TimeCmd
	_, err = conn.TxPipelined(ctx, func(p goredis.Pipeliner) error {
		now = p.Time(ctx)
		for _, key := range keys {
			left[key] = p.PTTL(ctx, key)
		}
		return nil
	})
	for key, l := range left {
		if l.Val() >= 0 {
			at[key] = now.Val().Add(l.Val())
		}
	}
	return at, true, err
}

func pipeline[C goredis.Cmder](
	ctx context.Context, conn *goredis.Conn, keys []string, add func(goredis.Pipeliner, string) C,
) (map[string]C, error) {
	commands := make(map[string]C, len(keys))
	_, err := conn.Pipelined(ctx, func(p goredis.Pipeliner) error {
		for _, key := range keys {
			commands[key] = add(p, key)
		}
		return nil
	})
	return commands, err
}

// value returns a reply's parts in an order that does not depend on the server's
// hash seed.
func value(cmd *goredis.Cmd) []string {
	elements, err := cmd.Slice()
	if err != nil {
		return []string{cmd.String()}
	}
	step := 1
	if name := cmd.Name(); name == "hgetall" || name == "zrange" {
		step = 2 // pairs stay together
	}
	var parts []string
	for pair := range slices.Chunk(elements, step) {
		parts = append(parts, fmt.Sprintf("%q", pair))
	}
	slices.Sort(parts)
	return parts
}

func sum(parts []string) [sha256.Size]byte {
	hash := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(hash, "%d:%s", len(part), part)
	}
	return [sha256.Size]byte(hash.Sum(nil))
}
