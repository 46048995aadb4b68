package live_test

import (
	"context"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore/live"
	"github.com/redisctl/redisctl/internal/testkit/faultproxy"
	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

// keys of 2 kB take longer to send than the first look at the replicas is away.
const keys = 60_000

// TestWaitsForReplicas: while a replica cannot keep up, sending waits, and the replica
// never loses its link; one that does not get on at all ends the restore.
func TestWaitsForReplicas(t *testing.T) {
	redisserver.EachVersion(t, func(t *testing.T, version string) {
		if version != redisserver.Redis70 && os.Getenv("REDISCTL_PROOF") != "1" {
			return // it takes long
		}
		b := manyOf(t, keys, 2000)
		g := startTarget(t, version, "repl-diskless-sync-delay 0")
		proxy := faultproxy.Start(t, g.Addr, faultproxy.Options{ToClient: faultproxy.Faults{Rate: 24 << 20}})
		replica := redisserver.Start(t, redisserver.Options{Version: version, Password: password, Config: []string{
			"masterauth " + password, "replicaof " + strings.Replace(proxy.Addr, ":", " ", 1),
		}})
		replica.WaitFor("the link", func(ctx context.Context) bool {
			return strings.Contains(replica.Client().Info(ctx, "replication").Val(), "master_link_status:up")
		})
		result := g.restore(b, func(o *live.Options) { o.MaxLag = 4 << 20 })
		require.NoError(t, result.Verdict())
		assert.Positive(t, result.ThrottledSeconds)
		replica.WaitFor("the data", func(ctx context.Context) bool { return replica.Client().DBSize(ctx).Val() == keys })
		assertSame(t, g.Server, replica)
		assert.Contains(t, g.Client().Info(t.Context(), "stats").Val(), "sync_full:1\r\n", "the replica never had to begin anew")
	})
}

// TestReplicaThatDoesNotGetOn ends the restore, and it can go on when the replica does.
func TestReplicaThatDoesNotGetOn(t *testing.T) {
	redisserver.Versions(t)
	b := manyOf(t, keys, 2000)
	g := startTarget(t, redisserver.Redis70, "repl-diskless-sync-delay 0", "repl-timeout 600")
	replica := redisserver.Start(t, redisserver.Options{ReplicaOf: g.Server, Password: password, Config: []string{"masterauth " + password}})
	replica.WaitInSync()
	replica.Signal(syscall.SIGSTOP)
	plan := g.plan(b, func(o *live.Options) { o.MaxLag, o.Stall = 4<<20, time.Second })
	_, err := g.op.Apply(t.Context(), plan)
	assert.Equal(t, operation.TimedOut, operation.KindOf(err), "%v", err)
	require.ErrorContains(t, err, "waiting for the replica")
	replica.Signal(syscall.SIGCONT)
	result, err := g.op.Resume(t.Context(), g.d, b, options())
	require.NoError(t, err)
	require.NoError(t, result.Verdict())
	replica.WaitInSync()
	assertSame(t, g.Server, replica)
}
