package failover_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/failover"
	"github.com/redisctl/redisctl/internal/operation/operationtest"
)

// notes are the notes of one deployment.
type notes map[string]string

func (n notes) Note(_ context.Context, _ *operation.Deployment, key string) (string, error) {
	return n[key], nil
}

func (n notes) SetNotes(_ context.Context, _ *operation.Deployment, values map[string]string) error {
	for key, value := range values {
		n[key] = value
	}
	return nil
}

// unfenced is a Pauser for plans, which pause nothing.
type unfenced struct{ failover.Pauser }

func (unfenced) Fenced(context.Context, *operation.Deployment, operation.Instance) (bool, error) {
	return false, nil
}

// compared are data sets whose differences are known, by the losing instance.
type compared struct {
	failover.Copies
	missing map[string]int64
	asked   []string
}

func (c *compared) Compare(_ context.Context, _ *operation.Deployment, losing, kept operation.Instance) (failover.Difference, error) {
	c.asked = append(c.asked, losing.Name+" in "+kept.Name)
	return failover.Difference{Only: c.missing[losing.Name], Examples: []string{}}, nil
}

const (
	pod0, pod1, pod2 = "cache-redis-0", "cache-redis-1", "cache-redis-2"
	host0, host1     = pod0 + ".cache-redis-headless.prod.svc.cluster.local", pod1 + ".cache-redis-headless.prod.svc.cluster.local"
)

func history(letter string) string { return strings.Repeat(letter, 40) }

// restarted is a primary that came up from its disk: with a new history, which it
// began at the given offset of the old one.
func restarted(leftAt, offset string) *operationtest.Server {
	return operationtest.Primary().Set(map[string]string{
		"master_replid": history("f"), "master_replid2": history("a"), "second_repl_offset": leftAt, "master_repl_offset": offset,
	})
}

// orphan is a replica whose primary does not serve it.
func orphan(host, offset string) *operationtest.Server {
	return operationtest.Replica(host).Set(map[string]string{
		"master_link_status": "down", "master_link_down_since_seconds": "9", "slave_repl_offset": offset, "master_repl_offset": offset,
	})
}

// TestPlanHeal: which instance is kept, and when the decision is not redisctl's.
func TestPlanHeal(t *testing.T) {
	unrelated := map[string]string{"master_replid": history("e"), "master_replid2": strings.Repeat("0", 40)}
	for name, test := range map[string]struct {
		fleet    operationtest.Fleet
		intended string
		options  failover.HealOptions
		missing  map[string]int64

		primary  string
		promote  bool
		demote   []string
		repoint  []string
		services []string
		blockers []string
		asked    []string
	}{
		"nothing is wrong": {
			fleet:   operationtest.Fleet{pod0: operationtest.Primary(), pod1: operationtest.Replica(host0), pod2: operationtest.Replica(host0)},
			primary: pod0,
		},
		"the first pod restarted as a second primary, and took no write": {
			fleet:    operationtest.Fleet{pod0: restarted("901", "900"), pod1: operationtest.Primary(), pod2: operationtest.Replica(host1)},
			intended: pod1, primary: pod1, demote: []string{pod0}, services: []string{"cache-redis"},
		},
		"it took writes that the other one lacks": {
			fleet:    operationtest.Fleet{pod0: restarted("901", "950"), pod1: operationtest.Primary(), pod2: operationtest.Replica(host1)},
			intended: pod1, missing: map[string]int64{pod0: 3, pod1: 4}, primary: pod1, demote: []string{pod0}, services: []string{"cache-redis"},
			blockers: []string{"diverged"}, asked: []string{pod0 + " in " + pod1, pod1 + " in " + pod0, pod2 + " in " + pod0, pod0 + " in " + pod2},
		},
		"it took writes, and which to keep is said": {
			fleet:    operationtest.Fleet{pod0: restarted("901", "950"), pod1: operationtest.Primary(), pod2: operationtest.Replica(host1)},
			intended: pod1, options: failover.HealOptions{Keep: pod1}, missing: map[string]int64{pod0: 3},
			primary: pod1, demote: []string{pod0}, services: []string{"cache-redis"}, asked: []string{pod0 + " in " + pod1},
		},
		"histories tell nothing, the data does": {
			fleet:    operationtest.Fleet{pod0: operationtest.Primary().Set(unrelated), pod1: operationtest.Primary(), pod2: operationtest.Replica(host1)},
			intended: pod1, primary: pod1, demote: []string{pod0}, services: []string{"cache-redis"}, asked: []string{pod0 + " in " + pod1},
		},
		"histories tell nothing, and the data is not asked": {
			fleet:    operationtest.Fleet{pod0: operationtest.Primary().Set(unrelated), pod1: operationtest.Primary(), pod2: operationtest.Replica(host1)},
			intended: pod1, options: failover.HealOptions{NoCompare: true}, primary: pod1, demote: []string{pod0}, services: []string{"cache-redis"},
			blockers: []string{"diverged"},
		},
		"the promoted pod restarted: it follows the first, which follows it": {
			fleet:    operationtest.Fleet{pod0: orphan(host1, "1000"), pod1: orphan(host0, "1000"), pod2: orphan(host1, "1000")},
			intended: pod1, primary: pod1, promote: true, services: []string{"cache-redis"},
		},
		"the promoted pod came back with less than a replica has": {
			fleet:    operationtest.Fleet{pod0: orphan(host1, "1000"), pod1: orphan(host0, "700"), pod2: orphan(host1, "990")},
			intended: pod1, primary: pod0, promote: true, repoint: []string{pod2},
		},
		"somebody has promoted another one by hand": {
			fleet:    operationtest.Fleet{pod0: operationtest.Primary(), pod1: operationtest.Replica(host0), pod2: operationtest.Replica(host0)},
			intended: pod1, primary: pod0,
		},
		"a replica follows the wrong one": {
			fleet:   operationtest.Fleet{pod0: operationtest.Primary(), pod1: operationtest.Replica(host0), pod2: operationtest.Replica(host1)},
			primary: pod0, repoint: []string{pod2},
		},
		"the primary is silent": {
			fleet:   operationtest.Fleet{pod1: orphan(host0, "1000"), pod2: orphan(host0, "1000")},
			primary: pod1, promote: true, repoint: []string{pod2}, services: []string{"cache-redis"}, blockers: []string{"primary-silent"},
		},
		"an instance is loading": {
			fleet: operationtest.Fleet{
				pod0: operationtest.Primary().Set(map[string]string{"loading": "1"}), pod1: operationtest.Primary(), pod2: operationtest.Replica(host1),
			},
			intended: pod1, options: failover.HealOptions{NoCompare: true}, primary: pod1, demote: []string{pod0}, services: []string{"cache-redis"},
			blockers: []string{"loading"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			copies := &compared{missing: test.missing}
			op := failover.Failover{
				Connector: test.fleet, Pauser: unfenced{}, Notes: notes{operation.NotePrimary: test.intended}, Locker: nothing{},
				Copies: copies, Reporter: operation.DiscardReporter{}, Now: time.Now,
			}
			test.options.Timeout = time.Second
			plan, err := op.PlanHeal(t.Context(), operationtest.Deployment(3), test.options)
			require.NoError(t, err)
			assert.Equal(t, test.primary, plan.Primary)
			assert.Equal(t, test.promote, plan.Promote, "promote")
			assert.ElementsMatch(t, test.demote, plan.Demote, "demote")
			assert.ElementsMatch(t, test.repoint, plan.Repoint, "repoint")
			var services, blockers []string
			for _, m := range plan.Services {
				services = append(services, m.Service)
			}
			for _, f := range plan.Blockers() {
				blockers = append(blockers, f.Code)
			}
			assert.Equal(t, test.services, services, "services")
			assert.Equal(t, test.blockers, blockers, "blockers")
			assert.Equal(t, test.asked, copies.asked, "compared")
		})
	}
}

// TestHealLeavesAReleaseAloneThatAnotherServes: its servers follow those of the other one,
// and none of them is to be promoted.
func TestHealLeavesAReleaseAloneThatAnotherServes(t *testing.T) {
	d := operationtest.Deployment(2)
	d.Workload.Annotations = map[string]string{operation.NoteServedBy: "cache-green"}
	fleet := operationtest.Fleet{"cache-redis-0": operationtest.Replica("10.0.1.10"), "cache-redis-1": operationtest.Replica("10.0.1.10")}
	op := failover.Failover{Connector: fleet, Notes: notes{}, Pauser: unfenced{}, Locker: nothing{}, Reporter: operation.DiscardReporter{}}
	plan, err := op.PlanHeal(t.Context(), d, failover.HealOptions{Limits: failover.DefaultLimits()})
	require.NoError(t, err)
	assert.Empty(t, plan.Steps)
	assert.ErrorContains(t, plan.Refusal(), "served-elsewhere")
}
