package maintenance_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/maintenance"
	"github.com/redisctl/redisctl/internal/redisconn"
	"github.com/redisctl/redisctl/internal/testkit/faultproxy"
	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

// scene is a primary with a replica in sync, of 100 keys, and what empties it.
type scene struct {
	primary, replica *redisserver.Server
	// way leads to the primary; what deletes goes over it, the looks before and after do not.
	way        *faultproxy.Proxy
	deployment *operation.Deployment
	op         maintenance.Flush
	// beforeDeletion is called when the backup would be taken, afterDeletion right after the
	// server has answered.
	beforeDeletion func() error
	afterDeletion  func()
}

func newScene(t *testing.T, timeout time.Duration) *scene {
	t.Helper()
	t.Parallel()
	s := &scene{beforeDeletion: func() error { return nil }, afterDeletion: func() {}}
	s.primary = redisserver.Start(t, redisserver.Options{})
	s.replica = redisserver.Start(t, redisserver.Options{ReplicaOf: s.primary})
	s.way = faultproxy.Start(t, s.primary.Addr, faultproxy.Options{})
	for n := range 100 {
		require.NoError(t, s.primary.Client().Set(t.Context(), fmt.Sprint("key", n), "value", 0).Err())
	}
	s.replica.WaitInSync()
	var err error
	s.deployment, err = redisconn.Addresses{}.Resolve(t.Context(), operation.Target{Addresses: []string{s.primary.Addr, s.replica.Addr}})
	require.NoError(t, err)
	connector := redisconn.Connector{Dial: redisconn.DialInstance, DialTimeout: timeout, Timeout: timeout}
	s.op = maintenance.Flush{
		Maintenance: maintenance.Maintenance{
			Connector: connector, Sessions: s, Reporter: operation.DiscardReporter{}, Now: time.Now, Timeout: timeout,
		},
		Locker: s, Notes: s, Keeper: s,
	}
	return s
}

func (s *scene) flush(t *testing.T, settle time.Duration) (maintenance.Flushed, error) {
	t.Helper()
	plan, err := s.op.Plan(t.Context(), s.deployment, maintenance.FlushOptions{DB: -1, Settle: settle})
	require.NoError(t, err)
	assert.Equal(t, int64(100), plan.Keys)
	return s.op.Apply(t.Context(), plan)
}

// Keep implements maintenance.Keeper.
func (s *scene) Keep(context.Context, *operation.Deployment, operation.Instance) (string, error) {
	return "kept.rdb", s.beforeDeletion()
}

// OpenSession implements maintenance.Sessions.
func (s *scene) OpenSession(ctx context.Context, d *operation.Deployment, i operation.Instance, db int) (maintenance.Session, error) {
	over := redisconn.Connector{
		Dial: func(ctx context.Context, _ *operation.Deployment, _ operation.Instance) (net.Conn, error) {
			return s.way.Dial(ctx)
		},
		DialTimeout: s.op.Timeout, Timeout: s.op.Timeout,
	}
	session, err := over.OpenSession(ctx, d, i, db)
	return watched{session, s}, err
}

// watched is a Session of a scene.
type watched struct {
	maintenance.Session
	scene *scene
}

func (w watched) Do(ctx context.Context, limit time.Duration, commands ...maintenance.Command) ([]maintenance.Reply, error) {
	replies, err := w.Session.Do(ctx, limit, commands...)
	if commands[0][0] == "FLUSHALL" {
		w.scene.afterDeletion()
	}
	return replies, err
}

// Note implements operation.Notes.
func (*scene) Note(context.Context, *operation.Deployment, string) (string, error) { return "", nil }

// SetNotes implements operation.Notes.
func (*scene) SetNotes(context.Context, *operation.Deployment, map[string]string) error { return nil }

// Lock implements operation.Locker.
func (*scene) Lock(ctx context.Context, _ *operation.Deployment) (context.Context, func(), error) {
	return ctx, func() {}, nil
}

func keys(t *testing.T, s *redisserver.Server) int64 {
	t.Helper()
	n, err := s.Client().DBSize(t.Context()).Result()
	require.NoError(t, err)
	return n
}

const (
	answers = 5 * time.Second
	settles = 20 * time.Second
)

func TestFlush(t *testing.T) {
	s := newScene(t, answers)
	r, err := s.flush(t, settles)
	require.NoError(t, err)
	assert.True(t, r.Confirmed)
	assert.True(t, r.Verified())
	assert.Equal(t, int64(100), r.Deleted)
	assert.Zero(t, r.WrittenMeanwhile)
	assert.Equal(t, "kept.rdb", r.Backup)
	assert.Equal(t, []maintenance.FlushedReplica{{Name: s.replica.Addr, State: maintenance.ReplicaFlushed}}, r.Replicas)
	assert.Zero(t, keys(t, s.primary)+keys(t, s.replica))
}

// TestFlushWhoseAnswerIsLost: nothing is left, so it was done; the answer would only have
// said so.
func TestFlushWhoseAnswerIsLost(t *testing.T) {
	for name, action := range map[string]faultproxy.Action{"cut": faultproxy.RST, "ended": faultproxy.FIN, "silent": faultproxy.Stall} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, time.Second)
			s.beforeDeletion = func() error {
				s.way.Set(faultproxy.Options{ToClient: faultproxy.Faults{Action: action, After: 1}})
				return nil
			}
			r, err := s.flush(t, settles)
			require.NoError(t, err)
			assert.False(t, r.Confirmed)
			assert.True(t, r.Verified())
			assert.Equal(t, int64(100), r.Deleted)
			assert.Zero(t, keys(t, s.primary)+keys(t, s.replica))
		})
	}
}

// TestFlushThatArrivesLate: its connection was given up before the server had read it.
func TestFlushThatArrivesLate(t *testing.T) {
	s := newScene(t, 2*time.Second)
	s.beforeDeletion = func() error {
		s.way.Set(faultproxy.Options{ToServer: faultproxy.Faults{Latency: 2500 * time.Millisecond}})
		return nil
	}
	r, err := s.flush(t, settles)
	require.NoError(t, err)
	assert.False(t, r.Confirmed)
	assert.True(t, r.Verified())
	assert.Zero(t, keys(t, s.primary)+keys(t, s.replica))
}

// TestFlushThatDidNotArrive: it is not taken for one whose answer was lost.
func TestFlushThatDidNotArrive(t *testing.T) {
	s := newScene(t, time.Second)
	s.beforeDeletion = func() error {
		s.way.Set(faultproxy.Options{ToServer: faultproxy.Faults{Action: faultproxy.Stall}})
		return nil
	}
	r, err := s.flush(t, settles)
	assert.Equal(t, operation.Failed, operation.KindOf(err))
	require.ErrorContains(t, err, "the keys are still there")
	assert.False(t, r.Confirmed)
	assert.Equal(t, int64(100), keys(t, s.primary))
}

// TestFlushWithAReplicaThatIsLeftBehind: it still has the keys, and that is told.
func TestFlushWithAReplicaThatIsLeftBehind(t *testing.T) {
	s := newScene(t, answers)
	s.beforeDeletion = func() error { // nobody listens there: it stays where it is
		return s.replica.Client().Do(t.Context(), "REPLICAOF", "127.0.0.1", "1").Err()
	}
	r, err := s.flush(t, 200*time.Millisecond)
	require.NoError(t, err)
	assert.True(t, r.Confirmed)
	assert.False(t, r.Verified())
	assert.Equal(t, []maintenance.FlushedReplica{{Name: s.replica.Addr, State: maintenance.ReplicaBehind, Keys: 100}}, r.Replicas)
	assert.Equal(t, int64(100), keys(t, s.replica))
}

// TestFlushWithAReplicaThatHangs: whether it has followed cannot be told.
func TestFlushWithAReplicaThatHangs(t *testing.T) {
	s := newScene(t, time.Second)
	s.beforeDeletion = func() error {
		s.replica.Signal(syscall.SIGSTOP)
		return nil
	}
	t.Cleanup(func() { s.replica.Signal(syscall.SIGCONT) })
	r, err := s.flush(t, 200*time.Millisecond)
	require.NoError(t, err)
	assert.Equal(t, []maintenance.FlushedReplica{{Name: s.replica.Addr, State: maintenance.ReplicaSilent}}, r.Replicas)
	assert.Zero(t, keys(t, s.primary))
}

// TestFlushWhileClientsWrite: what they wrote before is in neither, what they wrote after is
// left, and both are told.
func TestFlushWhileClientsWrite(t *testing.T) {
	s := newScene(t, answers)
	write := func(key string) error { return s.primary.Client().Set(t.Context(), key, "x", 0).Err() }
	s.beforeDeletion = func() error { return write("before") }
	s.afterDeletion = func() { assert.NoError(t, write("after")) }
	r, err := s.flush(t, settles)
	require.NoError(t, err)
	assert.Equal(t, int64(101), r.Deleted)
	assert.Equal(t, int64(1), r.WrittenMeanwhile)
	assert.Positive(t, r.WrittenAfterBackup)
	assert.True(t, r.Verified(), "the replica has it, too")
	assert.Equal(t, []maintenance.FlushedReplica{{Name: s.replica.Addr, State: maintenance.ReplicaFlushed, Keys: 1}}, r.Replicas)
}

// TestFlushDeletesNothing when the backup fails, or the server is not the one any more that
// was looked at.
func TestFlushDeletesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		meanwhile func(s *scene) error
		kind      operation.Kind
		says      string
	}{
		"backup failed": {func(*scene) error { return errors.New("disk full") }, operation.Failed, "backing up first: disk full"},
		"demoted": {func(s *scene) error {
			return s.primary.Client().Do(t.Context(), "REPLICAOF", s.replica.Host, strconv.Itoa(s.replica.Port)).Err()
		}, operation.Refused, "not the primary any more"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, answers)
			s.beforeDeletion = func() error { return c.meanwhile(s) }
			_, err := s.flush(t, settles)
			assert.Equal(t, c.kind, operation.KindOf(err))
			require.ErrorContains(t, err, c.says)
			var e *operation.Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, "nothing was deleted", e.Unchanged)
			assert.Equal(t, int64(100), keys(t, s.replica))
		})
	}
}
