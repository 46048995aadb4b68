package live_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/operation/restore/live"
	"github.com/redisctl/redisctl/internal/rdb/rdbtest"
	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

// many is a backup with n keys of 100 bytes.
func many(t *testing.T, n int) restore.Backup {
	t.Helper()
	return manyOf(t, n, 100)
}

// manyOf is a backup with n keys of so many bytes each.
func manyOf(t *testing.T, n, size int) restore.Backup {
	t.Helper()
	return written(t, rdbtest.Redis6, func(w *rdbtest.Writer) {
		random := rand.New(rand.NewPCG(1, 2))
		w.SelectDB(0)
		for i := range n {
			value := make([]byte, size)
			for j := range value {
				value[j] = byte(random.Uint32())
			}
			w.String("key:"+strconv.Itoa(i), string(value))
		}
	})
}

// options are those of a complete comparison.
func options() live.Options {
	o := live.DefaultOptions()
	o.Sample = 0
	return o
}

// TestOutOfMemory: a server that is full ends the restore with exact numbers, and it goes
// on behind them when there is room.
func TestOutOfMemory(t *testing.T) {
	const keys = 50_000
	b := many(t, keys)
	redisserver.EachVersion(t, func(t *testing.T, version string) {
		ctx := t.Context()
		g := startTarget(t, version, "maxmemory 6mb")
		plan := g.plan(b, func(o *live.Options) { o.Memory = true })
		_, err := g.op.Apply(ctx, plan)
		var e *operation.Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, operation.Failed, e.Kind, "%v", err)
		assert.ErrorContains(t, err, "it refused the key key:")
		assert.ErrorContains(t, err, "OOM command not allowed")
		there := g.Client().DBSize(ctx).Val()
		assert.Positive(t, there)
		assert.Contains(t, e.Unchanged, fmt.Sprintf("%d of %d keys are restored and stay, %d are left", there, keys, keys-there))
		assert.Contains(t, e.Next, "raise redis.maxmemory or free memory; then redisctl restore resume")

		again := g.plan(b, nil)
		assert.ErrorContains(t, again.Refusal(), "unfinished-restore")

		require.NoError(t, g.Client().ConfigSet(ctx, "maxmemory", "0").Err())
		result, err := g.op.Resume(ctx, g.d, b, options())
		require.NoError(t, err)
		require.NoError(t, result.Verdict())
		assert.True(t, result.Resumed)
		assert.EqualValues(t, keys, result.Restored)
		assert.True(t, result.Comparison.Equal)
		assert.EqualValues(t, keys, g.Client().DBSize(ctx).Val())
		record, err := g.op.Unfinished(ctx, g.d)
		require.NoError(t, err)
		assert.Nil(t, record)
	})
}

// TestEviction: a server that evicts keys ends the restore, because it would never end
// with what the backup holds.
func TestEviction(t *testing.T) {
	redisserver.Versions(t)
	b := many(t, 200_000)
	g := startTarget(t, redisserver.Redis70, "maxmemory 10mb", "maxmemory-policy allkeys-lru")
	_, err := g.op.Apply(t.Context(), g.plan(b, func(o *live.Options) { o.Memory = false }))
	require.ErrorContains(t, err, "evicts keys for want of memory")
	record, err := g.op.Unfinished(t.Context(), g.d)
	require.NoError(t, err)
	require.NotNil(t, record)
	assert.Contains(t, record.Problem, "evicts keys")
}

// TestInterrupted: a restore that is interrupted anywhere goes on, and the server has
// everything once.
func TestInterrupted(t *testing.T) {
	const keys = 30_000
	b := many(t, keys)
	redisserver.EachVersion(t, func(t *testing.T, version string) {
		for _, replace := range []bool{false, true} {
			g := startTarget(t, version)
			plan := g.plan(b, func(o *live.Options) { o.Replace = replace })
			for attempt := 0; ; attempt++ {
				ctx, cancel := context.WithCancel(t.Context())
				if attempt < 10 {
					time.AfterFunc(time.Duration(rand.IntN(60))*time.Millisecond, cancel)
				}
				result, err := g.begunOrResumed(ctx, plan, b)
				cancel()
				if err == nil {
					require.NoError(t, result.Verdict(), "%+v", result)
					assert.EqualValues(t, keys, result.Restored)
					break
				}
				require.Equal(t, operation.Interrupted, operation.KindOf(err), "%v", err)
			}
			assert.EqualValues(t, keys, g.Client().DBSize(t.Context()).Val())
		}
	})
}

// begunOrResumed goes on with the restore if it left a record, and else begins it.
func (g *target) begunOrResumed(ctx context.Context, plan *live.Plan, b restore.Backup) (live.Result, error) {
	record, err := g.op.Unfinished(g.t.Context(), g.d)
	require.NoError(g.t, err)
	if record == nil {
		return g.op.Apply(ctx, plan)
	}
	return g.op.Resume(ctx, g.d, b, options())
}

// TestAbort: what was restored stays, and a new restore may begin.
func TestAbort(t *testing.T) {
	redisserver.Versions(t)
	b := many(t, 50_000)
	g := startTarget(t, redisserver.Redis70, "maxmemory 6mb")
	_, err := g.op.Apply(t.Context(), g.plan(b, func(o *live.Options) { o.Memory = true }))
	require.Error(t, err)
	there := g.Client().DBSize(t.Context()).Val()
	record, err := g.op.Abort(t.Context(), g.d)
	require.NoError(t, err)
	assert.Positive(t, record.Restored)
	assert.Equal(t, there, g.Client().DBSize(t.Context()).Val())
	_, err = g.op.Abort(t.Context(), g.d)
	assert.Equal(t, operation.Refused, operation.KindOf(err))
	assert.NotContains(t, g.plan(b, func(o *live.Options) { o.Memory = true }).Refusal().Error(), "unfinished-restore")
}

// TestAnotherFileIsNotTaken: a restore goes on with the file that it was begun with only.
func TestAnotherFileIsNotTaken(t *testing.T) {
	redisserver.Versions(t)
	g := startTarget(t, redisserver.Redis70, "maxmemory 6mb")
	_, err := g.op.Apply(t.Context(), g.plan(many(t, 50_000), func(o *live.Options) { o.Memory = true }))
	require.Error(t, err)
	_, err = g.op.Resume(t.Context(), g.d, many(t, 50_001), options())
	assert.Equal(t, operation.Corrupt, operation.KindOf(err))
	assert.ErrorContains(t, err, "it is not the file that the restore of")
}

// TestClientsWriteMeanwhile: a key that a client has written since the restore began is
// kept, counted and named.
func TestClientsWriteMeanwhile(t *testing.T) {
	redisserver.Versions(t)
	ctx := t.Context()
	b := many(t, 200_000)
	g := startTarget(t, redisserver.Redis70)
	plan := g.plan(b, nil)
	conflicting := make(chan error, 1)
	go func() {
		g.WaitFor("the first keys", func(ctx context.Context) bool { return g.Client().DBSize(ctx).Val() > 0 })
		conflicting <- g.Client().Set(ctx, "key:199999", "client", 0).Err()
	}()
	result, err := g.op.Apply(ctx, plan)
	require.NoError(t, err)
	require.NoError(t, <-conflicting)
	assert.Equal(t, operation.Partial, operation.KindOf(result.Verdict()), "%+v", result)
	assert.EqualValues(t, 1, result.Conflicts)
	assert.Equal(t, []string{"db 0: key:199999"}, result.Examples)
	assert.EqualValues(t, 199_999, result.Restored)
	assert.Equal(t, "client", g.Client().Get(ctx, "key:199999").Val())
}
