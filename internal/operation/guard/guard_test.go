package guard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/failover"
)

var now = time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)

// cluster is a Cluster, with the notes of one deployment.
type cluster struct {
	changes []Object
	state   State
	// states follow state, one for each time that it is asked.
	states  []State
	applied []Spec
	deleted []Object
	notes   map[string]string
}

func (c *cluster) GuardChanges(context.Context, *operation.Deployment, Spec) ([]Object, error) {
	return c.changes, nil
}

func (c *cluster) ApplyGuard(_ context.Context, _ *operation.Deployment, s Spec) error {
	c.applied = append(c.applied, s)
	return nil
}

func (c *cluster) GuardState(context.Context, *operation.Deployment) (State, error) {
	state := c.state
	if len(c.states) > 0 {
		c.state, c.states = c.states[0], c.states[1:]
	}
	return state, nil
}

func (c *cluster) DeleteGuard(_ context.Context, _ *operation.Deployment, objects []Object) error {
	c.deleted = append(c.deleted, objects...)
	return nil
}

func (c *cluster) Note(_ context.Context, _ *operation.Deployment, key string) (string, error) {
	return c.notes[key], nil
}

func (c *cluster) SetNotes(_ context.Context, _ *operation.Deployment, notes map[string]string) error {
	for key, value := range notes {
		c.notes[key] = value
	}
	return nil
}

func (c *cluster) guard() Guard {
	return Guard{Cluster: c, Notes: c, Reporter: operation.DiscardReporter{}, Now: func() time.Time { return now }}
}

func release() *operation.Deployment {
	return &operation.Deployment{
		Namespace: "prod", Release: "cache", Name: "cache-redis",
		Workload: &operation.Workload{Kind: "StatefulSet", Name: "cache-redis", ServiceName: "cache-redis-headless"},
	}
}

func spec() Spec {
	return Spec{Image: "i:1", Replicas: 2, Interval: time.Second, PromoteAfter: time.Minute}
}

// observation is a note of a guard's pod.
func observation(t *testing.T, holder string, condition failover.Condition) map[string]string {
	t.Helper()
	text, err := json.Marshal(Observation{Time: now, Condition: condition, Message: "what was seen", Holder: holder, Version: "1"})
	require.NoError(t, err)
	return map[string]string{Note: string(text)}
}

func working() State {
	return State{
		Deployed: true, Image: "i:1", Replicas: 2, Available: 2, Complete: true, Pods: []string{"g-1", "g-2"},
		Leader: "g-1", Since: now.Add(-time.Hour), Renewed: now.Add(-2 * time.Second), Lasts: 15 * time.Second,
		Objects: []Object{{Kind: "Role", Name: "g"}, {Kind: "Deployment", Name: "g"}},
	}
}

func TestPlanInstallRefuses(t *testing.T) {
	standalone := release()
	standalone.Workload.ServiceName = "cache-redis"
	unread := release()
	unread.Gaps = []operation.Gap{{Part: "services", Reason: "not allowed to list services"}}
	for name, test := range map[string]struct {
		d     *operation.Deployment
		codes []string
	}{
		"independent servers": {standalone, []string{"not-replicated"}},
		"unknown services":    {unread, []string{"incomplete"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := &cluster{notes: map[string]string{}}
			plan, err := c.guard().PlanInstall(t.Context(), test.d, spec())
			require.NoError(t, err)
			codes := []string{}
			for _, f := range plan.Blockers() {
				codes = append(codes, f.Code)
			}
			assert.Equal(t, test.codes, codes)
			_, err = c.guard().Install(t.Context(), plan, time.Second)
			assert.Equal(t, operation.Refused, operation.KindOf(err))
			assert.Empty(t, c.applied)
		})
	}
}

func TestPlanInstallUsage(t *testing.T) {
	none := spec()
	none.Replicas = 0
	restless := spec()
	restless.Interval = 0
	for _, s := range []Spec{none, restless} {
		_, err := new(cluster).guard().PlanInstall(t.Context(), release(), s)
		assert.Equal(t, operation.Usage, operation.KindOf(err))
	}
	_, err := new(cluster).guard().PlanInstall(t.Context(), &operation.Deployment{Name: "a:1"}, spec())
	assert.Equal(t, operation.Usage, operation.KindOf(err))
}

// Installing is done when a pod of the new Deployment acts, and has observed.
func TestInstallWaits(t *testing.T) {
	rolling := working()
	rolling.Complete = false
	leaderless := working()
	leaderless.Leader = ""
	c := &cluster{
		changes: []Object{{Kind: "Deployment", Name: "g", Action: ActionUpdate}, {Kind: "Role", Name: "g", Action: ActionKeep}},
		state:   rolling, states: []State{leaderless, working()},
		notes: observation(t, "g-1", failover.ConditionHealthy),
	}
	plan, err := c.guard().PlanInstall(t.Context(), release(), spec())
	require.NoError(t, err)
	assert.Len(t, plan.Steps, 2, "the update, and to wait for it")
	status, err := c.guard().Install(t.Context(), plan, time.Minute)
	require.NoError(t, err)
	assert.True(t, status.Working())
	assert.Empty(t, c.states)
	assert.Equal(t, []Spec{spec()}, c.applied)
}

func TestInstallSaysWhatThePodsLack(t *testing.T) {
	broken := working()
	broken.Available, broken.Trouble = 0, []string{"pod g-1: ImagePullBackOff"}
	c := &cluster{state: broken, changes: []Object{{Kind: "Role", Action: ActionCreate}}, notes: map[string]string{}}
	plan, err := c.guard().PlanInstall(t.Context(), release(), spec())
	require.NoError(t, err)
	_, err = c.guard().Install(t.Context(), plan, time.Millisecond)
	assert.Equal(t, operation.TimedOut, operation.KindOf(err))
	assert.ErrorContains(t, err, "ImagePullBackOff")
}

// What is up to date is not applied again, and yet must work.
func TestInstallAgain(t *testing.T) {
	c := &cluster{state: working(), changes: []Object{{Kind: "Role", Action: ActionKeep}}, notes: observation(t, "g-1", failover.ConditionDrift)}
	plan, err := c.guard().PlanInstall(t.Context(), release(), spec())
	require.NoError(t, err)
	assert.Empty(t, plan.Steps)
	_, err = c.guard().Install(t.Context(), plan, time.Second)
	require.NoError(t, err)
	assert.Empty(t, c.applied)
}

func TestStatus(t *testing.T) {
	with := func(change func(*State)) State {
		s := working()
		change(&s)
		return s
	}
	for name, test := range map[string]struct {
		state     State
		holder    string
		condition failover.Condition
		problems  []string
	}{
		"works":         {working(), "g-1", failover.ConditionHealthy, []string{}},
		"is healing":    {working(), "g-1", failover.ConditionDrift, []string{}},
		"needs a hand":  {working(), "g-1", failover.ConditionBlocked, []string{"blocked: what was seen"}},
		"primary gone":  {working(), "g-1", failover.ConditionPrimaryGone, []string{"primaryGone: what was seen"}},
		"cannot act":    {working(), "g-1", failover.ConditionFailed, []string{"failed: what was seen"}},
		"too few pods":  {with(func(s *State) { s.Available = 1 }), "g-1", failover.ConditionHealthy, []string{"1 of 2 pods are available"}},
		"nobody acts":   {with(func(s *State) { s.Leader = "" }), "g-1", failover.ConditionHealthy, []string{"no pod acts"}},
		"leader gone":   {with(func(s *State) { s.Pods = []string{"g-2"} }), "g-1", failover.ConditionHealthy, []string{"g-1, which acted last, does not exist any more"}},
		"leader silent": {with(func(s *State) { s.Renewed = now.Add(-time.Minute) }), "g-1", failover.ConditionHealthy, []string{"g-1 has not renewed its Lease for 1m0s"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := &cluster{state: test.state, notes: observation(t, test.holder, test.condition)}
			s, err := c.guard().Status(t.Context(), release())
			require.NoError(t, err)
			assert.Equal(t, test.problems, s.Problems)
			assert.Equal(t, len(test.problems) == 0, s.Working())
		})
	}
	s, err := new(cluster).guard().Status(t.Context(), release())
	require.NoError(t, err)
	assert.Equal(t, Status{Namespace: "prod", Release: "cache", Name: "cache-redis", Problems: []string{}}, s)
}

func TestRemove(t *testing.T) {
	c := &cluster{state: working(), notes: observation(t, "g-1", failover.ConditionHealthy)}
	plan, err := c.guard().PlanRemove(t.Context(), release())
	require.NoError(t, err)
	removed, err := c.guard().Remove(t.Context(), plan, time.Second)
	require.NoError(t, err)
	assert.Len(t, removed.Objects, 2)
	assert.Equal(t, removed.Objects, c.deleted)
	assert.Empty(t, c.notes[Note])

	c = &cluster{notes: map[string]string{}}
	plan, err = c.guard().PlanRemove(t.Context(), release())
	require.NoError(t, err)
	assert.Empty(t, plan.Steps)
	removed, err = c.guard().Remove(t.Context(), plan, time.Second)
	require.NoError(t, err)
	assert.Empty(t, removed.Objects)
}

// resolver fails a few times, as a Role does that was only just made.
type resolver struct {
	operation.Resolver
	failures int
}

func (r *resolver) Resolve(context.Context, operation.Target) (*operation.Deployment, error) {
	if r.failures--; r.failures >= 0 {
		return nil, errors.New("not yet")
	}
	return release(), nil
}

// seat lets the process lead at once.
type seat struct{ leading func() }

func (s seat) Lead(ctx context.Context, _ *operation.Deployment, holder string, follow func(string), lead func(context.Context)) error {
	follow(holder)
	s.leading()
	lead(ctx)
	return nil
}

type journal struct{ entries []JournalEntry }

func (j *journal) RecordEvent(_ context.Context, _ *operation.Deployment, e JournalEntry) error {
	j.entries = append(j.entries, e)
	return nil
}

// What is observed is told, noted and recorded, and the process ends without an error
// when it is told to.
func TestRun(t *testing.T) {
	c := &cluster{notes: map[string]string{}}
	j := &journal{}
	ctx, cancel := context.WithCancel(t.Context())
	told := []failover.Event{}
	r := Runner{
		Failover: failover.Failover{Resolver: &resolver{failures: 2}, Notes: c, Reporter: operation.DiscardReporter{}, Now: func() time.Time { return now }},
		Journal:  j, Reporter: operation.DiscardReporter{}, Holder: "g-1", Version: "1",
		Tell: func(e failover.Event) { told = append(told, e); cancel() },
	}
	// From then on the release cannot be read.
	r.Seat = seat{func() { r.Failover.Resolver.(*resolver).failures = 1000 }}
	o := failover.DefaultWatchOptions()
	o.Interval = time.Millisecond
	require.NoError(t, r.Run(ctx, operation.Target{Namespace: "prod"}, o))

	require.Len(t, told, 1)
	assert.Equal(t, failover.ConditionFailed, told[0].Condition)
	var noted Observation
	require.NoError(t, json.Unmarshal([]byte(c.notes[Note]), &noted))
	assert.Equal(t, Observation{Time: now, Condition: failover.ConditionFailed, Message: "not yet", Holder: "g-1", Version: "1"}, noted)
	assert.Equal(t, []JournalEntry{{Reason: "Failed", Message: "not yet", Warning: true, Holder: "g-1"}}, j.entries)
}

// Events that tell of changes are never dropped.
func TestWeightyEvents(t *testing.T) {
	for condition, weighty := range map[failover.Condition]bool{
		failover.ConditionHealed: true, failover.ConditionPromoted: true, failover.ConditionHealthy: false,
		failover.ConditionDrift: false, failover.ConditionBlocked: false, failover.ConditionPrimaryGone: false, failover.ConditionFailed: false,
	} {
		entry := entryOf(failover.Event{Condition: condition}, "g")
		assert.Equal(t, weighty, entry.Weighty, condition)
		assert.NotEmpty(t, entry.Reason, fmt.Sprint(condition))
	}
}
