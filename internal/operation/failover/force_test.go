package failover_test

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/failover"
	"github.com/redisctl/redisctl/internal/operation/operationtest"
	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

// lostNode is a cluster in which a pod that is deleted stays, because its node does not
// say that its process has ended.
type lostNode struct {
	failover.Cluster
	deleted []string
}

func (l *lostNode) DeletePod(_ context.Context, _ *operation.Deployment, i operation.Instance, _ time.Duration) error {
	l.deleted = append(l.deleted, i.Name)
	return nil
}

func (l *lostNode) Budgets(context.Context, *operation.Deployment) ([]operation.Budget, error) {
	return nil, nil
}

// resolved finds what was found before.
type resolved struct{ *operation.Deployment }

func (r resolved) Resolve(context.Context, operation.Target) (*operation.Deployment, error) {
	return r.Deployment, nil
}

func (r resolved) List(context.Context, operation.Target) ([]operation.Deployment, error) {
	return []operation.Deployment{*r.Deployment}, nil
}

// TestForceOnLostNode: the primary's process hangs, and nothing can be known of it. A
// replica takes over, and what cannot be promised is not.
func TestForceOnLostNode(t *testing.T) {
	const timeout = 500 * time.Millisecond
	old := redisserver.Start(t, redisserver.Options{Version: redisserver.Redis70, Config: []string{"repl-timeout 3"}})
	replicas := []*redisserver.Server{
		redisserver.Start(t, redisserver.Options{Version: redisserver.Redis70, ReplicaOf: old, Config: []string{"repl-timeout 3"}}),
		redisserver.Start(t, redisserver.Options{Version: redisserver.Redis70, ReplicaOf: old, Config: []string{"repl-timeout 3"}}),
	}
	for _, r := range replicas {
		r.WaitInSync()
	}
	connector := plainConnector()
	connector.Timeout, connector.DialTimeout = timeout, timeout
	d := resolve(t, old.Addr, replicas[0].Addr, replicas[1].Addr)
	for i := range d.Instances {
		d.Instances[i].Pod = &operation.Pod{UID: d.Instances[i].Name, Phase: "Running", ContainerRunning: true}
	}
	cluster, kept := &lostNode{}, notes{}
	op := failover.Failover{
		Connector: connector, Pauser: pauser{connector}, Traffic: nothing{}, Notes: kept, Locker: nothing{},
		Cluster: cluster, Resolver: resolved{d}, Reporter: operation.DiscardReporter{}, Now: time.Now, By: "test",
	}
	o := failover.DefaultForceOptions()
	o.Timeout, o.Return = timeout, time.Second

	plan, err := op.PlanForce(t.Context(), d, o)
	require.NoError(t, err)
	require.ErrorContains(t, plan.Refusal(), "it answers", "a primary that is there is not given up")

	old.Signal(syscall.SIGSTOP)
	t.Cleanup(func() { old.Signal(syscall.SIGCONT) })
	plan, err = op.PlanForce(t.Context(), d, o)
	require.NoError(t, err)
	require.NoError(t, plan.Refusal())
	assert.True(t, plan.DeletePod)
	assert.False(t, plan.Bound.Exact)
	assert.GreaterOrEqual(t, plan.Bound.Seconds, 1.0)
	assert.Contains(t, plan.Bound.String(), "acknowledged in the last")

	result, err := op.Force(t.Context(), plan)
	assert.Equal(t, operation.Partial, operation.KindOf(err), "whether the old primary runs cannot be told: %v", err)
	require.ErrorContains(t, err, "cannot be told")
	assert.Equal(t, failover.OldPrimaryUnknown, result.OldPrimary)
	assert.Equal(t, []string{old.Addr}, cluster.deleted)
	assert.Len(t, result.Followers, 1)
	assert.Equal(t, result.To, kept[operation.NotePrimary])
	assert.Empty(t, kept[operation.NoteFailover], "the failover itself is finished")
	to := replicas[0]
	if result.To == replicas[1].Addr {
		to = replicas[1]
	}
	require.NoError(t, to.Client().Set(t.Context(), "after", "x", 0).Err())
}

// TestForceBusy: a primary that is busy with a script is alive, and not given up.
func TestForceBusy(t *testing.T) {
	old := redisserver.Start(t, redisserver.Options{Version: redisserver.Redis70, Config: []string{"lua-time-limit 50"}})
	replica := redisserver.Start(t, redisserver.Options{Version: redisserver.Redis70, ReplicaOf: old})
	replica.WaitInSync()
	connector := plainConnector()
	d := resolve(t, old.Addr, replica.Addr)
	op := failover.Failover{
		Connector: connector, Pauser: pauser{connector}, Traffic: nothing{}, Notes: notes{}, Locker: nothing{},
		Cluster: &lostNode{}, Resolver: resolved{d}, Reporter: operation.DiscardReporter{}, Now: time.Now, By: "test",
	}
	ended := make(chan error, 1)
	go func() { ended <- old.Client().Eval(context.WithoutCancel(t.Context()), "while true do end", nil).Err() }()
	require.Eventually(t, func() bool {
		err := old.Client().Ping(t.Context()).Err()
		return err != nil && strings.HasPrefix(err.Error(), "BUSY")
	}, 10*time.Second, 20*time.Millisecond)
	plan, err := op.PlanForce(t.Context(), d, failover.DefaultForceOptions())
	require.NoError(t, err)
	require.ErrorContains(t, plan.Refusal(), "it is alive, and says")
	require.ErrorContains(t, plan.Refusal(), "primary-answers")
	require.NoError(t, old.Client().ScriptKill(t.Context()).Err())
	require.Error(t, <-ended)
}

// TestForceChooses: the replica with the most data, and no other without consent.
func TestForceChooses(t *testing.T) {
	behind := orphan(host0, "900").Set(map[string]string{"slave_priority": "1"})
	for name, test := range map[string]struct {
		fleet    operationtest.Fleet
		options  failover.ForceOptions
		to       string
		blockers []string
	}{
		"the one with the most data, not the one with the best priority": {
			fleet: operationtest.Fleet{pod1: behind, pod2: orphan(host0, "1000")}, to: pod2,
		},
		"one with less data must be wanted": {
			fleet: operationtest.Fleet{pod1: behind, pod2: orphan(host0, "1000")}, options: failover.ForceOptions{To: pod1},
			to: pod1, blockers: []string{"less-data"},
		},
		"and may be wanted": {
			fleet: operationtest.Fleet{pod1: behind, pod2: orphan(host0, "1000")}, options: failover.ForceOptions{To: pod1, AllowLessData: true},
			to: pod1,
		},
		"one that is never to be promoted": {
			fleet:   operationtest.Fleet{pod1: orphan(host0, "1000").Set(map[string]string{"slave_priority": "0"})},
			options: failover.ForceOptions{To: pod1}, to: pod1, blockers: []string{"priority-zero"},
		},
		"one with a history of its own": {
			fleet: operationtest.Fleet{pod1: orphan(host0, "1000"), pod2: orphan(host0, "500").Set(map[string]string{
				"master_replid": history("e"), "master_replid2": strings.Repeat("0", 40),
			})}, to: pod1, blockers: []string{"diverged"},
		},
		"a primary that answers is not given up": {
			fleet: operationtest.Fleet{pod0: operationtest.Primary(), pod1: operationtest.Replica(host0), pod2: operationtest.Replica(host0)},
			to:    pod1, blockers: []string{"primary-answers"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			op := failover.Failover{
				Connector: test.fleet, Pauser: unfenced{}, Notes: notes{}, Locker: nothing{},
				Reporter: operation.DiscardReporter{}, Now: time.Now,
			}
			test.options.Timeout = time.Second
			plan, err := op.PlanForce(t.Context(), operationtest.Deployment(3), test.options)
			require.NoError(t, err)
			assert.Equal(t, pod0, plan.From)
			assert.Equal(t, test.to, plan.To)
			var blockers []string
			for _, f := range plan.Blockers() {
				blockers = append(blockers, f.Code)
			}
			assert.Equal(t, test.blockers, blockers)
		})
	}
	t.Run("nobody is left", func(t *testing.T) {
		op := failover.Failover{Connector: operationtest.Fleet{}, Pauser: unfenced{}, Notes: notes{}, Locker: nothing{}, Reporter: operation.DiscardReporter{}, Now: time.Now}
		_, err := op.PlanForce(t.Context(), operationtest.Deployment(3), failover.ForceOptions{Limits: failover.Limits{Timeout: time.Second}})
		assert.Equal(t, operation.Refused, operation.KindOf(err))
	})
}
