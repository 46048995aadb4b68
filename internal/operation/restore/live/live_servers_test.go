package live_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/operation/restore/live"
	"github.com/redisctl/redisctl/internal/rdb/rdbtest"
	"github.com/redisctl/redisctl/internal/redis"
	"github.com/redisctl/redisctl/internal/redisconn"
	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/statefile"
	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

const password = "s3cret"

// target is a server that is restored into.
type target struct {
	*redisserver.Server
	t  *testing.T
	op live.Restore
	d  *operation.Deployment
}

func startTarget(t *testing.T, version string, config ...string) *target {
	t.Helper()
	return newTarget(t, redisserver.Start(t, redisserver.Options{Version: version, Password: password, Config: config}))
}

func newTarget(t *testing.T, s *redisserver.Server) *target {
	t.Helper()
	connector := redisconn.Connector{
		Dial:        redisconn.DialInstance,
		Credentials: func(context.Context, *operation.Deployment) (string, string, error) { return "", s.Password, nil },
	}
	d, err := redisconn.Addresses{}.Resolve(t.Context(), operation.Target{Addresses: []string{s.Addr}})
	require.NoError(t, err)
	state := statefile.New(t.TempDir(), "test", time.Now)
	return &target{Server: s, t: t, d: d, op: live.Restore{
		Connector: connector, Replayer: connector, Locker: state, Notes: state, Keeper: noKeeper{},
		Comparer: restore.Comparer{Connector: connector, Values: connector, Reporter: operation.DiscardReporter{}},
		Reporter: operation.DiscardReporter{}, Now: time.Now, By: "test",
	}}
}

type noKeeper struct{}

func (noKeeper) Keep(context.Context, *operation.Deployment, operation.Instance) (string, error) {
	return "", errors.New("no safety backup was expected")
}

// restore restores a backup and wants it to succeed.
func (g *target) restore(b restore.Backup, change func(*live.Options)) live.Result {
	g.t.Helper()
	plan := g.plan(b, change)
	result, err := g.op.Apply(g.t.Context(), plan)
	require.NoError(g.t, err)
	return result
}

func (g *target) plan(b restore.Backup, change func(*live.Options)) *live.Plan {
	g.t.Helper()
	o := live.DefaultOptions()
	o.Sample = 0
	if change != nil {
		change(&o)
	}
	plan, err := g.op.Plan(g.t.Context(), g.d, b, o)
	require.NoError(g.t, err)
	return plan
}

// save lets a server save its data and returns the file as a backup.
func save(t *testing.T, s *redisserver.Server) restore.Backup {
	t.Helper()
	require.NoError(t, s.Client().Save(t.Context()).Err())
	return backupFile(t, filepath.Join(s.Dir, "dump.rdb"))
}

func backupFile(t *testing.T, name string) restore.Backup {
	t.Helper()
	store, entry, err := snapshot.FindFile(t.Context(), name)
	require.NoError(t, err)
	return restore.Backup{Store: store, Entry: entry}
}

// written is an RDB file with what fill writes.
func written(t *testing.T, header string, fill func(*rdbtest.Writer)) restore.Backup {
	t.Helper()
	name := filepath.Join(t.TempDir(), "written.rdb")
	require.NoError(t, os.WriteFile(name, rdbtest.File(header, fill), 0o600))
	return backupFile(t, name)
}

// assertSame compares everything that two servers hold.
func assertSame(t *testing.T, want, got *redisserver.Server) {
	t.Helper()
	require.NoError(t, redisserver.Compare(t.Context(), want.Client(), got.Client()))
}

// TestRestoresEverything: an empty server of the same version has the same data
// afterwards, and nothing is left to go on with.
func TestRestoresEverything(t *testing.T) {
	redisserver.EachVersion(t, func(t *testing.T, version string) {
		source := redisserver.Start(t, redisserver.Options{Version: version})
		require.NoError(t, redisserver.Fill(t.Context(), source.Client(), 1, 5000))
		b := save(t, source)
		g := startTarget(t, version)

		result := g.restore(b, nil)
		require.NoError(t, result.Verdict())
		assert.True(t, result.Comparison.Equal)
		assert.True(t, result.Comparison.CountsCompared)
		assert.Equal(t, result.Selected, result.Restored)
		assertSame(t, source, g.Server)

		record, err := g.op.Unfinished(t.Context(), g.d)
		require.NoError(t, err)
		assert.Nil(t, record)
	})
}

// TestRestoresIntoNewerServers: what a server has saved, every newer one takes.
func TestRestoresIntoNewerServers(t *testing.T) {
	versions := redisserver.Versions(t)
	newer := func(source, version string) bool {
		i, j := slices.Index(versions, source), slices.Index(versions, version)
		return i < j && (source != redisserver.Redis80 || version != redisserver.Valkey81) // they went apart before
	}
	for _, source := range versions {
		s := redisserver.Start(t, redisserver.Options{Version: source})
		require.NoError(t, redisserver.Fill(t.Context(), s.Client(), 2, 2000))
		b := save(t, s)
		for _, version := range versions {
			if !newer(source, version) {
				continue
			}
			t.Run(source+" into "+version, func(t *testing.T) {
				result := startTarget(t, version).restore(b, nil)
				require.NoError(t, result.Verdict())
				assert.True(t, result.Comparison.Equal)
				assert.Positive(t, result.Comparison.Keys)
			})
		}
	}
}

// TestOlderServers: what a server does not know is refused before anything is sent, with
// numbers; without it the rest is restored.
func TestOlderServers(t *testing.T) {
	for _, c := range []struct {
		source, target string
		words          []string
	}{
		{redisserver.Redis80, redisserver.Redis60, []string{"hash (listpackex), such as hash:field-ttl", "functions"}},
		{redisserver.Redis80, redisserver.Valkey81, []string{"cannot take 1 of the", "hash (listpackex), such as hash:field-ttl"}},
		{redisserver.Redis70, redisserver.Redis60, []string{"functions"}},
	} {
		t.Run(c.source+" into "+c.target, func(t *testing.T) {
			s := redisserver.Start(t, redisserver.Options{Version: c.source})
			require.NoError(t, redisserver.Fill(t.Context(), s.Client(), 3, 1000))
			b := save(t, s)
			g := startTarget(t, c.target)

			plan := g.plan(b, nil)
			err := plan.Refusal()
			assert.Equal(t, operation.Unsupported, operation.KindOf(err), "%v", err)
			for _, word := range c.words {
				assert.ErrorContains(t, err, word)
			}
			_, err = g.op.Apply(t.Context(), plan)
			require.Error(t, err)
			assert.Zero(t, g.Client().DBSize(t.Context()).Val(), "nothing was sent")

			result := g.restore(b, func(o *live.Options) { o.SkipUnsupported = true })
			assert.Equal(t, operation.Partial, operation.KindOf(result.Verdict()))
			assert.Equal(t, result.Selected, result.Restored+result.Unsupported)
			assert.True(t, result.Comparison.Equal, "%+v", result.Comparison)
		})
	}
}

// TestConverted: values in a form that an older server does not know are made by commands,
// and are the same.
func TestConverted(t *testing.T) {
	for _, c := range []struct{ source, target string }{
		{redisserver.Redis80, redisserver.Redis60},
		{redisserver.Redis80, redisserver.Redis70},
		{redisserver.Redis80, redisserver.Valkey81},
		{redisserver.Valkey81, redisserver.Redis70},
		{redisserver.Redis70, redisserver.Redis60},
	} {
		t.Run(c.source+" into "+c.target, func(t *testing.T) {
			s := redisserver.Start(t, redisserver.Options{Version: c.source})
			require.NoError(t, redisserver.Fill(t.Context(), s.Client(), 3, 1000))
			b := save(t, s)
			g := startTarget(t, c.target)
			without := func(o *live.Options) { o.NoFunctions, o.Exclude, o.Sample = true, []string{"hash:field-ttl*"}, 0 }
			plan := g.plan(b, without)
			require.NoError(t, plan.Refusal())
			if c.target != redisserver.Valkey81 {
				assert.Positive(t, plan.Converted)
			}
			result := g.restore(b, without)
			require.NoError(t, result.Verdict())
			assert.Equal(t, plan.Converted, result.Rebuilt)
			assert.Equal(t, result.Selected, result.Restored)
			assert.True(t, result.Comparison.Equal, "%+v", result.Comparison)
			assert.Equal(t, result.Selected, result.Comparison.Keys)
		})
	}
}

const farFuture = 4_000_000_000_000 // in 2096, in ms since 1970

// filterable has keys that differ in what filters look at.
func filterable(t *testing.T) restore.Backup {
	hour := time.Now().Add(time.Hour).UnixMilli()
	return written(t, rdbtest.Redis70, func(w *rdbtest.Writer) {
		w.SelectDB(0).String("user:1", "x").String("user:2", "The quick brown fox jumps over the lazy dog 0123456789")
		w.ExpireAt(hour).String("session:1", "x")
		w.ExpireAt(farFuture).String("session:2", "x")
		w.ExpireAt(1000).String("gone", "x")
		w.List("list/a", "x", "y").Hash("hash", "f", "v")
		w.SelectDB(3).String("user:1", "other")
	})
}

func TestFilters(t *testing.T) {
	redisserver.Versions(t)
	b := filterable(t)
	g := startTarget(t, redisserver.Redis70)
	for _, c := range []struct {
		name   string
		change func(*live.Options)
		want   []string
	}{
		{"all", func(*live.Options) {}, []string{"0 hash", "0 list/a", "0 session:1", "0 session:2", "0 user:1", "0 user:2", "3 user:1"}},
		{"db", func(o *live.Options) { o.InDBs = []int{3} }, []string{"3 user:1"}},
		{"match", func(o *live.Options) { o.Match = []string{"user:*", "*/?"} }, []string{"0 list/a", "0 user:1", "0 user:2", "3 user:1"}},
		{"exclude", func(o *live.Options) { o.Exclude = []string{"*:[1-2]"} }, []string{"0 hash", "0 list/a"}},
		{"type", func(o *live.Options) { o.Types = []string{"list", "hash"} }, []string{"0 hash", "0 list/a"}},
		{"min size", func(o *live.Options) { o.MinSize = 30 }, []string{"0 user:2"}},
		{"max size", func(o *live.Options) { o.MaxSize = 2; o.Match = []string{"user:*"} }, []string{"0 user:1"}},
		{"expire", func(o *live.Options) { o.Expiry = live.ExpirySet }, []string{"0 session:1", "0 session:2"}},
		{"expire not", func(o *live.Options) { o.Expiry = live.ExpiryNone; o.Match = []string{"*s*"} }, []string{"0 hash", "0 list/a", "0 user:1", "0 user:2", "3 user:1"}},
		{"min ttl", func(o *live.Options) { o.MinTTL = 2 * time.Hour; o.Match = []string{"session:*"} }, []string{"0 session:2"}},
		{"max ttl", func(o *live.Options) { o.MaxTTL = 2 * time.Hour }, []string{"0 session:1"}},
		{"map", func(o *live.Options) { o.DBs = map[int]int{0: 5, 3: 0}; o.Match = []string{"user:1"} }, []string{"0 user:1", "5 user:1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.NoError(t, g.Client().FlushAll(t.Context()).Err())
			result := g.restore(b, c.change)
			require.NoError(t, result.Verdict())
			assert.True(t, result.Comparison.Equal, "%+v", result.Comparison)
			assert.Len(t, c.want, int(result.Restored))
			assert.Equal(t, result.Selected, result.Restored+result.Expired)
			digest, err := redisserver.TakeDigest(t.Context(), g.Client())
			require.NoError(t, err)
			var got []string
			for db, keys := range digest.Keys {
				for key := range keys {
					got = append(got, fmt.Sprintf("%d %s", db, key))
				}
			}
			slices.Sort(got)
			assert.Equal(t, c.want, got)
		})
	}
}

// TestExpiryTimesAreAbsolute: a key expires when it would have expired, and one whose time
// has come is left out and counted.
func TestExpiryTimesAreAbsolute(t *testing.T) {
	redisserver.EachVersion(t, func(t *testing.T, version string) {
		at := time.Now().Add(time.Hour).UnixMilli()
		b := written(t, rdbtest.Redis6, func(w *rdbtest.Writer) {
			w.SelectDB(0)
			w.ExpireAt(at).String("later", "x")
			w.ExpireAt(time.Now().Add(-time.Second).UnixMilli()).String("gone", "x")
		})
		g := startTarget(t, version)
		result := g.restore(b, nil)
		assert.EqualValues(t, 1, result.Restored)
		assert.EqualValues(t, 1, result.Expired)
		left := g.Client().PTTL(t.Context(), "later").Val()
		assert.InDelta(t, float64(at), float64(time.Now().Add(left).UnixMilli()), 50)
	})
}

// TestTargetNotEmpty: data that is there is neither overwritten nor mixed with other data
// unless the operator says what is to happen.
func TestTargetNotEmpty(t *testing.T) {
	redisserver.Versions(t)
	b := written(t, rdbtest.Redis70, func(w *rdbtest.Writer) { w.SelectDB(0).String("a", "backup").String("b", "backup") })
	values := func(g *target) []string {
		var all []string
		for _, key := range []string{"a", "b", "c"} {
			all = append(all, g.Client().Get(t.Context(), key).Val())
		}
		return all
	}
	start := func(t *testing.T) *target {
		g := startTarget(t, redisserver.Redis70)
		require.NoError(t, g.Client().MSet(t.Context(), "a", "old", "c", "old").Err())
		return g
	}
	t.Run("refused", func(t *testing.T) {
		g := start(t)
		plan := g.plan(b, nil)
		err := plan.Refusal()
		assert.Equal(t, operation.Refused, operation.KindOf(err))
		assert.ErrorContains(t, err, "it holds 2 keys [target-not-empty]; override with --replace or --skip-existing")
		_, err = g.op.Apply(t.Context(), plan)
		require.Error(t, err)
		assert.Equal(t, []string{"old", "", "old"}, values(g))
	})
	t.Run("replace", func(t *testing.T) {
		g := start(t)
		g.op.Keeper = keeper("s3://kept")
		result := g.restore(b, func(o *live.Options) { o.Replace = true })
		require.NoError(t, result.Verdict())
		assert.Equal(t, "s3://kept", result.SafetyBackup)
		assert.Equal(t, []string{"backup", "backup", "old"}, values(g))
	})
	t.Run("replace without a safety backup", func(t *testing.T) {
		g := start(t)
		result := g.restore(b, func(o *live.Options) { o.Replace, o.NoSafetyBackup = true, true })
		require.NoError(t, result.Verdict())
		assert.Empty(t, result.SafetyBackup)
	})
	t.Run("skip existing", func(t *testing.T) {
		g := start(t)
		result := g.restore(b, func(o *live.Options) { o.SkipExisting = true })
		require.NoError(t, result.Verdict())
		assert.EqualValues(t, 1, result.Restored)
		assert.EqualValues(t, 1, result.Kept)
		assert.Zero(t, result.Conflicts)
		assert.Equal(t, []string{"old", "backup", "old"}, values(g))
	})
	t.Run("written since the plan", func(t *testing.T) {
		g := startTarget(t, redisserver.Redis70)
		plan := g.plan(b, nil)
		require.NoError(t, g.Client().Set(t.Context(), "a", "new", 0).Err())
		_, err := g.op.Apply(t.Context(), plan)
		assert.Equal(t, operation.Refused, operation.KindOf(err))
		assert.ErrorContains(t, err, "it holds 1 keys now")
	})
}

type keeper string

func (k keeper) Keep(context.Context, *operation.Deployment, operation.Instance) (string, error) {
	return string(k), nil
}

// TestLargeValues: values that are too large to be sent whole are built by commands, and
// nobody sees a half of them. Here every value is.
func TestLargeValues(t *testing.T) {
	redisserver.EachVersion(t, func(t *testing.T, version string) {
		ctx := t.Context()
		source := redisserver.Start(t, redisserver.Options{Version: version})
		require.NoError(t, redisserver.Fill(ctx, source.Client(), 4, 2000))
		b := save(t, source)
		g := startTarget(t, version)

		result := g.restore(b, func(o *live.Options) { o.MaxPayload = 1 })
		require.NoError(t, result.Verdict(), "%+v", result.Comparison)
		assert.Equal(t, result.Selected, result.Rebuilt)
		assert.EqualValues(t, source.Client().DBSize(ctx).Val(), g.Client().DBSize(ctx).Val())
		assert.Empty(t, g.Client().Keys(ctx, "redisctl:*").Val())

		again := g.restore(b, func(o *live.Options) { o.MaxPayload, o.SkipExisting = 1, true })
		assert.Zero(t, again.Restored)
		assert.Equal(t, result.Selected, again.Kept)
		g.op.Keeper = keeper("kept")
		again = g.restore(b, func(o *live.Options) { o.MaxPayload, o.Replace = 1, true })
		require.NoError(t, again.Verdict(), "%+v", again.Comparison)
		assert.Equal(t, result.Selected, again.Restored)
		assert.Empty(t, g.Client().Keys(ctx, "redisctl:*").Val())
	})
}

// TestStreamedValues: values larger than what is read at once are sent as they come.
func TestStreamedValues(t *testing.T) {
	redisserver.EachVersion(t, func(t *testing.T, version string) {
		random := rand.New(rand.NewPCG(3, 4))
		text := func(n int) string {
			b := make([]byte, n)
			for i := range b {
				b[i] = byte(random.Uint32())
			}
			return string(b)
		}
		b := written(t, rdbtest.Redis6, func(w *rdbtest.Writer) {
			w.SelectDB(0).String("small", "x").String("large", text(5<<20)).String("between", "y")
			var members []string
			for range 40_000 {
				members = append(members, text(100))
			}
			w.SelectDB(2).Set("set", members...).String("last", text(1<<20))
		})
		for _, limit := range []int64{live.DefaultMaxPayload, 2 << 20} {
			g := startTarget(t, version, "client-query-buffer-limit 16mb")
			result := g.restore(b, func(o *live.Options) { o.MaxPayload = limit })
			require.NoError(t, result.Verdict(), "%+v", result.Comparison)
			assert.EqualValues(t, 5, result.Restored)
			assert.Equal(t, limit == 2<<20, result.Rebuilt == 2)
		}
	})
}

// TestPatternsAreThoseOfServers compares what patterns match with what KEYS finds.
func TestPatternsAreThoseOfServers(t *testing.T) {
	redisserver.EachVersion(t, func(t *testing.T, version string) {
		client := redisserver.Start(t, redisserver.Options{Version: version}).Client()
		random := rand.New(rand.NewPCG(7, 8))
		word := func(alphabet string, n int) string {
			b := make([]byte, random.IntN(n))
			for i := range b {
				b[i] = alphabet[random.IntN(len(alphabet))]
			}
			return string(b)
		}
		var keys []string
		for range 200 {
			keys = append(keys, "k"+word(`abc-^]\*`, 6))
		}
		for _, key := range keys {
			require.NoError(t, client.Set(t.Context(), key, "", 0).Err())
		}
		for range 2000 {
			pattern := "k" + word(`abbc*?[]^-\`, 8)
			found, err := client.Keys(t.Context(), pattern).Result()
			require.NoError(t, err)
			for _, key := range keys {
				require.Equal(t, slices.Contains(found, key), redis.MatchGlob(pattern, []byte(key)), "pattern %q, key %q", pattern, key)
			}
		}
	})
}
