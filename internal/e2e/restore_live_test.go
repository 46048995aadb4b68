package e2e_test

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

// restoredLive is what the tests read of the result of `restore rdb --method live`.
type restoredLive struct {
	Instance     string
	Selected     int64
	Restored     int64
	Kept         int64
	Resumed      bool
	SafetyBackup string
	Comparison   struct{ Equal bool }
}

// A live restore goes to the primary that is observed, through the pod, and the replicas
// have it too. What it was interrupted by leaves a record with the release.
func TestRestoreIntoARunningRelease(t *testing.T) {
	t.Parallel()
	e := setup(t)
	r := e.install(t, e.namespace(t, "live"), chart{
		files: []string{"replica-password.yaml"}, replicas: 1, password: randomPassword(), config: quickSync,
	})
	s := r.session(t)
	client := r.redis(t, 0)
	require.NoError(t, redisserver.Fill(t.Context(), client, 1, 3000))
	want, err := redisserver.TakeDigest(t.Context(), client)
	require.NoError(t, err)
	id := backup(s, "--pod", r.podName(0)).ID
	flush := func() {
		t.Helper()
		require.NoError(t, client.FlushAll(t.Context()).Err())
		require.NoError(t, client.FunctionFlush(t.Context()).Err())
	}
	assertEverywhere := func() {
		t.Helper()
		require.NoError(t, client.Do(t.Context(), "WAIT", 1, 30_000).Err())
		for i := range 2 {
			found, err := redisserver.TakeDigest(t.Context(), r.redis(t, i))
			require.NoError(t, err)
			require.NoError(t, want.Diff(found), "pod %d", i)
		}
	}

	s.run("restore", "rdb", id, "--method", "live", "--yes").exits(5).says("target-not-empty", "--replace or --skip-existing")
	flush()
	s.run("restore", "rdb", id, "--method", "live", "--dry-run").exits(0).shows("restore 3001 of the 3001 keys", r.podName(0))
	got := decode[restoredLive](s.run("restore", "rdb", id, "--method", "live", "--yes", "--verify", "full", "-o", "json").exits(0).quiet())
	assert.Equal(t, r.podName(0), got.Instance)
	assert.Equal(t, got.Selected, got.Restored)
	assert.True(t, got.Comparison.Equal)
	assertEverywhere()

	// Keys are chosen: a volume cannot do that.
	got = decode[restoredLive](s.run("restore", "rdb", id, "--match", "number:*", "--replace", "--yes", "-o", "json").exits(0))
	assert.Less(t, got.Selected, int64(3000))
	assert.NotEmpty(t, got.SafetyBackup)
	assertEverywhere()

	// Killed, and gone on with.
	flush()
	c := s.start("restore", "rdb", id, "--method", "live", "--yes", "--connections", "1")
	c.while("the first keys arrive", func(ctx context.Context) error {
		if client.DBSize(ctx).Val() == 0 {
			return errors.New("none has")
		}
		return nil
	})
	c.signal(os.Kill)
	c.wait()
	if status := s.run("restore", "status"); status.code == 10 {
		status.shows("a restore is unfinished", r.podName(0))
		s.run("restore", "rdb", id, "--method", "live", "--yes").exits(5).says("unfinished-restore")
		eventually(t, "the lock of the one that was killed has expired", func(context.Context) error {
			if resumed := s.run("restore", "resume", "--yes", "--verify", "full", "-o", "json"); resumed.code != 6 {
				got = decode[restoredLive](resumed.exits(0))
				return nil
			}
			return errors.New("it is still held")
		})
		assert.True(t, got.Resumed)
		assert.True(t, got.Comparison.Equal)
	}
	assertEverywhere()
	s.run("restore", "status").exits(0)

	// Not the first pod, but the primary.
	s.run("failover", "promote", r.podName(1), "--yes").exits(0)
	client = r.redis(t, 1)
	flush()
	got = decode[restoredLive](s.run("restore", "rdb", id, "--method", "live", "--yes", "-o", "json").exits(0))
	assert.Equal(t, r.podName(1), got.Instance)
	assertEverywhere()
	s.run("restore", "rdb", id, "--method", "live", "--pod", r.podName(0), "--yes").exits(5).says("it is a replica of")
}
