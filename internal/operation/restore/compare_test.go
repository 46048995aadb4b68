package restore_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/rdb/rdbtest"
	"github.com/redisctl/redisctl/internal/redisconn"
	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

const password = "s3cret"

// backupOf lets a server save its data and returns the file as a backup.
func backupOf(t *testing.T, s *redisserver.Server) (restore.Backup, restore.Contents) {
	t.Helper()
	require.NoError(t, s.Client().Save(t.Context()).Err())
	return backupFile(t, filepath.Join(s.Dir, "dump.rdb"))
}

func backupFile(t *testing.T, name string) (restore.Backup, restore.Contents) {
	t.Helper()
	store, entry, err := snapshot.FindFile(t.Context(), name)
	require.NoError(t, err)
	b := restore.Backup{Store: store, Entry: entry}
	contents, err := b.Verify(t.Context(), time.Now(), operation.DiscardReporter{})
	require.NoError(t, err)
	require.NoError(t, contents.Problem)
	return b, contents
}

// load starts a server that loads the backup.
func load(t *testing.T, version, file string, config ...string) *redisserver.Server {
	t.Helper()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "dump.rdb"), data, 0o600))
	return redisserver.Start(t, redisserver.Options{Version: version, Dir: dir, Password: password, Config: config})
}

// compare compares with a server that was empty before the restore.
func compare(t *testing.T, b restore.Backup, s *redisserver.Server, o restore.CompareOptions) restore.Comparison {
	t.Helper()
	connector := redisconn.Connector{
		Dial:        redisconn.DialInstance,
		Credentials: func(context.Context, *operation.Deployment) (string, string, error) { return "", s.Password, nil },
	}
	d, err := redisconn.Addresses{}.Resolve(t.Context(), operation.Target{Addresses: []string{s.Addr}})
	require.NoError(t, err)
	c := restore.Comparer{Connector: connector, Values: connector, Reporter: operation.DiscardReporter{}}
	found, err := c.Compare(t.Context(), b, d, d.Instances[0], o)
	require.NoError(t, err)
	return found
}

func problems(c restore.Comparison) []string {
	texts := []string{}
	for _, e := range c.Examples {
		texts = append(texts, e.String())
	}
	return texts
}

// TestCompareFindsWhatIsNotAsInTheBackup changes one thing after the other in a server
// that has loaded a backup.
func TestCompareFindsWhatIsNotAsInTheBackup(t *testing.T) {
	redisserver.EachVersion(t, func(t *testing.T, version string) {
		ctx := t.Context()
		source := redisserver.Start(t, redisserver.Options{Version: version})
		require.NoError(t, redisserver.Fill(ctx, source.Client(), 5, 3000))
		require.NoError(t, source.Client().Set(ctx, "expires", "x", 3*time.Hour).Err())
		require.NoError(t, source.Client().Set(ctx, "gone soon", "x", 30*time.Second).Err())
		b, contents := backupOf(t, source)
		s := load(t, version, filepath.Join(source.Dir, "dump.rdb"))
		client := s.Client()
		all := restore.CompareOptions{Contents: contents, Counts: true}

		c := compare(t, b, s, all)
		assert.True(t, c.Equal, "%+v", c)
		assert.Equal(t, contents.Summary.Keys, c.Keys)
		assert.Equal(t, contents.Summary.Keys, c.OfKeys)
		assert.Zero(t, c.NotComparable)
		assert.Empty(t, c.Examples)
		assert.Equal(t, contents.Summary.Functions, c.FunctionsFound)
		require.Len(t, c.DBs, len(contents.Summary.DBs))
		for i, db := range contents.Summary.DBs {
			assert.Equal(t, restore.DBComparison{DB: db.DB, Backup: db.Keys, Found: db.Keys}, c.DBs[i])
		}

		sample := restore.CompareOptions{Contents: contents, Counts: true, Sample: 300}
		c = compare(t, b, s, sample)
		assert.True(t, c.Equal, "%+v", c)
		assert.InDelta(t, 300, c.Keys, 100)
		assert.Equal(t, c, compare(t, b, s, sample), "a sample depends on the keys only")

		// The keys that Fill makes are of types that follow each other.
		changes := []struct {
			name    string
			do      func(c goredis.Pipeliner)
			undo    func(c goredis.Pipeliner)
			problem string // "": one of counts or libraries
			check   func(c restore.Comparison) int64
		}{
			{
				"a removed key",
				func(c goredis.Pipeliner) { c.Rename(ctx, "number:00000000", "elsewhere"); c.Move(ctx, "elsewhere", 9) },
				func(c goredis.Pipeliner) {
					c.Select(ctx, 9)
					c.Move(ctx, "elsewhere", 0)
					c.Select(ctx, 0)
					c.Rename(ctx, "elsewhere", "number:00000000")
				},
				"db 0: number:00000000: is missing", func(c restore.Comparison) int64 { return c.Missing },
			},
			{
				"a changed member",
				func(c goredis.Pipeliner) { c.ZIncrBy(ctx, "zset:00000005", 1, "member-0") },
				func(c goredis.Pipeliner) { c.ZIncrBy(ctx, "zset:00000005", -1, "member-0") },
				"db 0: zset:00000005: has another value", func(c restore.Comparison) int64 { return c.Different },
			},
			{
				"another type",
				func(c goredis.Pipeliner) {
					c.Rename(ctx, "hash:00000006", "kept aside")
					c.Set(ctx, "hash:00000006", "x", 0)
				},
				func(c goredis.Pipeliner) { c.Rename(ctx, "kept aside", "hash:00000006") },
				"db 0: hash:00000006: is a string, in the backup a hash", func(c restore.Comparison) int64 { return c.Different },
			},
			{
				"another expiry",
				func(c goredis.Pipeliner) { c.PExpireAt(ctx, "expires", time.UnixMilli(4_000_000_000_000)) },
				func(c goredis.Pipeliner) { c.PExpireAt(ctx, "expires", time.UnixMilli(expiryOf(t, source, "expires"))) },
				"db 0: expires: expires at 2096-10-02T07:06:", func(c restore.Comparison) int64 { return c.ExpiryDiffers },
			},
			{
				"no expiry",
				func(c goredis.Pipeliner) { c.Persist(ctx, "expires") },
				func(c goredis.Pipeliner) { c.PExpireAt(ctx, "expires", time.UnixMilli(expiryOf(t, source, "expires"))) },
				"db 0: expires: never expires, in the backup at 20", func(c restore.Comparison) int64 { return c.ExpiryDiffers },
			},
			{
				"a key too many",
				func(c goredis.Pipeliner) { c.Set(ctx, "extra", "x", 0) },
				func(c goredis.Pipeliner) { c.Del(ctx, "extra") },
				"", func(c restore.Comparison) int64 { return c.DBs[0].Found - c.DBs[0].Backup },
			},
			{
				"a database too many",
				func(c goredis.Pipeliner) { c.Select(ctx, 12); c.Set(ctx, "extra", "x", 0); c.Select(ctx, 0) },
				func(c goredis.Pipeliner) { c.Select(ctx, 12); c.FlushDB(ctx); c.Select(ctx, 0) },
				"", func(c restore.Comparison) int64 { return int64(len(c.DBs) - len(contents.Summary.DBs)) },
			},
		}
		for _, change := range changes {
			run := func(commands func(goredis.Pipeliner)) {
				conn := client.Conn()
				_, err := conn.Pipelined(ctx, func(p goredis.Pipeliner) error { commands(p); return nil })
				require.NoError(t, err, change.name)
				require.NoError(t, conn.Close())
			}
			run(change.do)
			c := compare(t, b, s, all)
			assert.False(t, c.Equal, change.name)
			assert.EqualValues(t, 1, change.check(c), "%s: %+v", change.name, c)
			if change.problem == "" {
				assert.Empty(t, c.Examples, change.name)
			} else if assert.Len(t, c.Examples, 1, change.name) {
				assert.Contains(t, c.Examples[0].String(), change.problem)
			}
			run(change.undo)
		}
		c = compare(t, b, s, all)
		assert.True(t, c.Equal, "everything was undone: %+v", c)

		if contents.Summary.Functions > 0 {
			require.NoError(t, client.FunctionLoadReplace(ctx, "#!lua name=filled\nredis.register_function('filled', function() return 2 end)").Err())
			c := compare(t, b, s, all)
			assert.False(t, c.Equal)
			assert.EqualValues(t, 1, c.FunctionsMissing)
			assert.EqualValues(t, 1, c.FunctionsFound)
			all.NoFunctions = true
			assert.True(t, compare(t, b, s, all).Equal)
		}
	})
}

func expiryOf(t *testing.T, s *redisserver.Server, key string) int64 {
	t.Helper()
	b, _ := backupOf(t, s)
	contents, err := b.Open(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, contents.Close()) }()
	at := int64(0)
	_, err = rdb.Scan(t.Context(), contents, rdb.Visitor{Entry: func(e *rdb.Entry) error {
		if string(e.Key) == key {
			at = e.ExpireAt
		}
		return nil
	}}, rdb.Options{})
	require.NoError(t, err)
	return at
}

// TestCompareEvicted: a server that is too small gives keys up.
func TestCompareEvicted(t *testing.T) {
	redisserver.EachVersion(t, func(t *testing.T, version string) {
		source := redisserver.Start(t, redisserver.Options{Version: version})
		require.NoError(t, redisserver.Fill(t.Context(), source.Client(), 6, 2000))
		b, contents := backupOf(t, source)
		s := load(t, version, filepath.Join(source.Dir, "dump.rdb"), "maxmemory-policy allkeys-lru")
		used, err := s.Client().Info(t.Context(), "memory").Result()
		require.NoError(t, err)
		_, used, _ = strings.Cut(used, "used_memory:")
		bytes, err := strconv.Atoi(strings.SplitN(used, "\r", 2)[0])
		require.NoError(t, err)
		require.NoError(t, s.Client().ConfigSet(t.Context(), "maxmemory", strconv.Itoa(bytes-(1<<20))).Err())
		s.WaitFor("evictions", func(ctx context.Context) bool {
			_ = s.Client().Set(ctx, "more", "x", 0).Err()
			info, err := s.Client().Info(ctx, "stats").Result()
			return err == nil && !strings.Contains(info, "evicted_keys:0\r")
		})
		require.NoError(t, s.Client().ConfigSet(t.Context(), "maxmemory", "0").Err())
		require.NoError(t, s.Client().Del(t.Context(), "more").Err())

		c := compare(t, b, s, restore.CompareOptions{Contents: contents, Counts: true})
		assert.False(t, c.Equal)
		assert.Positive(t, c.Evicted)
		assert.LessOrEqual(t, c.Missing, c.Evicted)
		assert.InDelta(t, c.Evicted, c.Missing, 1) // "more" may be one of them
		c = compare(t, b, s, restore.CompareOptions{Contents: contents, EvictedBefore: c.Evicted})
		assert.Zero(t, c.Evicted)
	})
}

// TestCompareExpired: keys whose time comes after the backup are no difference, whether
// the server has dropped them or not.
func TestCompareExpired(t *testing.T) {
	redisserver.EachVersion(t, func(t *testing.T, version string) {
		past := time.Now().Add(-time.Minute).UnixMilli()
		file := filepath.Join(t.TempDir(), "dump.rdb")
		header := rdbtest.Redis6
		withFields := version == redisserver.Redis80
		if withFields {
			header = rdbtest.Redis8
		}
		require.NoError(t, os.WriteFile(file, rdbtest.File(header, func(w *rdbtest.Writer) {
			w.SelectDB(3).String("stays", "1").ExpireAt(past).String("went", "2")
			if version != redisserver.Redis60 { // which makes an intset of it that nobody reads
				w.Set("empty")
			}
			if withFields {
				w.Raw(hashWithExpiry("one field went", past, "a")).Raw(hashWithExpiry("all fields went", past, ""))
			}
		}), 0o600))
		b, contents := backupFile(t, file)
		s := load(t, version, file)
		c := compare(t, b, s, restore.CompareOptions{Contents: contents, Counts: true})
		assert.True(t, c.Equal, "%+v", c)
		gone := 1 + btoi(version != redisserver.Redis60) + 2*btoi(withFields)
		assert.EqualValues(t, gone, c.Expired, "%+v", c)
		require.Len(t, c.DBs, 1)
		assert.EqualValues(t, gone, c.DBs[0].Expired)
	})
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// hashWithExpiry returns a key with one field that has expired and, if it is named,
// another one that never does (HASH_METADATA in Redis's rdb.c).
func hashWithExpiry(key string, expired int64, stays string) []byte {
	b := rdbtest.AppendString([]byte{24}, key)
	for i := range 8 {
		b = append(b, byte(expired>>(8*i)))
	}
	fields := 1 + btoi(stays != "")
	b = append(rdbtest.AppendLength(b, uint64(fields)), 1) // relative to the earliest, plus 1
	b = rdbtest.AppendString(rdbtest.AppendString(b, "went"), "1")
	if stays != "" {
		b = rdbtest.AppendString(rdbtest.AppendString(append(b, 0), stays), "2")
	}
	return b
}

// TestCompareSomeInAnotherDatabase: a filter and a mapping say what was restored, and
// where.
func TestCompareSomeInAnotherDatabase(t *testing.T) {
	source := redisserver.Start(t, redisserver.Options{})
	for i := range 50 {
		require.NoError(t, source.Client().Set(t.Context(), fmt.Sprintf("a:%d", i), i, 0).Err())
		require.NoError(t, source.Client().Set(t.Context(), fmt.Sprintf("b:%d", i), i, 0).Err())
	}
	b, contents := backupOf(t, source)
	s := redisserver.Start(t, redisserver.Options{})
	target := s.NewClient(4)
	require.NoError(t, target.Set(t.Context(), "was here before", 1, 0).Err())
	for i := range 50 {
		require.NoError(t, target.Set(t.Context(), fmt.Sprintf("a:%d", i), i, 0).Err())
	}
	o := restore.CompareOptions{
		Contents: contents,
		Filter:   func(e *rdb.Entry) bool { return strings.HasPrefix(string(e.Key), "a:") },
		DB:       func(int) int { return 4 },
	}
	c := compare(t, b, s, o)
	assert.True(t, c.Equal, "%+v", c)
	assert.EqualValues(t, 50, c.Keys)
	assert.EqualValues(t, 50, c.OfKeys)
	assert.Equal(t, []restore.DBComparison{{DB: 4, Backup: 50, Found: 51}}, c.DBs)
	o.Counts = true
	assert.False(t, compare(t, b, s, o).Equal, "a key too many in a server that was empty")
	require.NoError(t, target.Del(t.Context(), "a:7").Err())
	o.Counts = false
	assert.Equal(t, []string{"db 4: a:7: is missing"}, problems(compare(t, b, s, o)))
}

// TestCompareLargeValues: of what is too large to be asked for, the length counts.
func TestCompareLargeValues(t *testing.T) {
	redisserver.EachVersion(t, func(t *testing.T, version string) {
		ctx := t.Context()
		source := redisserver.Start(t, redisserver.Options{Version: version})
		require.NoError(t, redisserver.Fill(ctx, source.Client(), 7, 1000))
		b, contents := backupOf(t, source)
		s := load(t, version, filepath.Join(source.Dir, "dump.rdb"))
		o := restore.CompareOptions{Contents: contents, Counts: true, MaxValue: 100}
		c := compare(t, b, s, o)
		assert.True(t, c.Equal, "%+v", c)
		assert.Positive(t, c.NotComparable)
		assert.Less(t, c.NotComparable, c.Keys)
		for key, do := range map[string]func() error{
			"list:00000003": func() error { return s.Client().RPush(ctx, "list:00000003", "x").Err() },
			"text:00000001": func() error { return s.Client().Append(ctx, "text:00000001", "x").Err() },
			"set:00000004":  func() error { return s.Client().Set(ctx, "set:00000004", "x", 0).Err() },
		} {
			require.NoError(t, do(), key)
		}
		o.MaxValue = 1
		c = compare(t, b, s, o)
		assert.False(t, c.Equal)
		assert.EqualValues(t, 3, c.Different, "%v", problems(c))
		assert.Equal(t, c.Keys-3, c.NotComparable)
	})
}
