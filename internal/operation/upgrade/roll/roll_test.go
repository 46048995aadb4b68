package roll_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/operationtest"
	"github.com/redisctl/redisctl/internal/operation/upgrade"
	"github.com/redisctl/redisctl/internal/operation/upgrade/roll"
)

const (
	former = "redis:7.0.15"
	target = "redis:8.0.2"
	bad    = "redis:bad"
)

// world is a model of a cluster with one server that has no replica: what Helm, the
// workload's controller and the kubelet make of the calls of an upgrade. Each call may be
// made to fail, before or after it took effect.
type world struct {
	template string // image of the workload's template
	pod      string // image of the pod
	uid      int    // of the pod
	held     bool
	// loses is set when a server finds no data after its pod was replaced.
	loses   bool
	notes   map[string]string
	history []upgrade.Revision
	now     time.Time

	calls int
	// failAt is the number of the call that fails, 0 for none; everything after it fails as
	// well when dead is set: the process was killed. late fails after taking effect.
	failAt     int
	late, dead bool
}

func newWorld() *world {
	return &world{
		template: former, pod: former, uid: 1, notes: map[string]string{}, now: time.Unix(1_790_000_000, 0),
		history: []upgrade.Revision{{Number: 1, Status: "deployed", Image: former}},
	}
}

var errInjected = errors.New("injected")

// do is one call that may fail.
func (w *world) do(effect func()) error {
	w.calls++
	fails := w.failAt > 0 && (w.calls == w.failAt || w.dead && w.calls > w.failAt)
	if !fails || w.late && w.calls == w.failAt {
		effect()
	}
	if fails {
		return errInjected
	}
	return nil
}

// settle lets the workload's controller work: it replaces pods that are not held, and ones
// that are gone.
func (w *world) settle() {
	if w.pod == "" || !w.held && w.pod != w.template {
		w.pod = w.template
		w.uid++
	}
}

func (w *world) deployment() *operation.Deployment {
	w.settle()
	d := operationtest.Deployment(1)
	d.Release = "cache"
	d.Workload.UID, d.Workload.Image, d.Workload.Annotations = "uid", w.template, maps.Clone(w.notes)
	d.Workload.Volume.Kind = operation.VolumeClaimTemplate
	d.Workload.ServiceName = d.Workload.Name // standalone
	i := &d.Instances[0]
	i.Pod = &operation.Pod{UID: strconv.Itoa(w.uid), Phase: "Running", Ready: true, ContainerRunning: true, Image: w.pod}
	if w.pod == bad {
		i.Pod.Ready, i.Pod.ContainerRunning, i.Pod.Reason = false, false, "CrashLoopBackOff"
	}
	return d
}

func (w *world) Resolve(context.Context, operation.Target) (d *operation.Deployment, err error) {
	err = w.do(func() { d = w.deployment() })
	return d, err
}

func (w *world) List(context.Context, operation.Target) ([]operation.Deployment, error) {
	return nil, errors.ErrUnsupported
}

func (w *world) Connect(ctx context.Context, d *operation.Deployment, i operation.Instance) (operation.Server, error) {
	server := operationtest.Primary().Set(map[string]string{"aof_enabled": "1"})
	if w.loses && w.uid > 1 {
		server.Set(map[string]string{"db0": "keys=1,expires=0,avg_ttl=0"})
	}
	return operationtest.Fleet{i.Name: server}.Connect(ctx, d, i)
}

func (w *world) Note(_ context.Context, _ *operation.Deployment, key string) (text string, err error) {
	err = w.do(func() { text = w.notes[key] })
	return text, err
}

func (w *world) SetNotes(_ context.Context, _ *operation.Deployment, notes map[string]string) error {
	return w.do(func() {
		for key, text := range notes {
			w.notes[key] = text
			if text == "" {
				delete(w.notes, key)
			}
		}
	})
}

func (w *world) History(context.Context, *operation.Deployment) (history []upgrade.Revision, err error) {
	err = w.do(func() { history = slices.Clone(w.history) })
	return history, err
}

func (w *world) WithImage(context.Context, *operation.Deployment, upgrade.Change, string) (upgrade.Change, error) {
	return upgrade.Change{}, errors.ErrUnsupported
}

func (w *world) image(c upgrade.Change) string {
	if c.Back > 0 {
		return w.history[c.Back-1].Image
	}
	return c.Values["image"].(string)
}

func (w *world) Preview(_ context.Context, _ *operation.Deployment, c upgrade.Change) (upgrade.Preview, error) {
	p := upgrade.Preview{Image: w.image(c), Replaced: true}
	if p.Image != w.template {
		p.Objects = []upgrade.ObjectChange{{Kind: "StatefulSet", Name: "cache-redis", Action: "changed"}}
	}
	return p, nil
}

// Upgrade that is interrupted leaves a pending revision, and the template as it was or not.
func (w *world) Upgrade(_ context.Context, _ *operation.Deployment, c upgrade.Change) (made upgrade.Revision, err error) {
	image := w.image(c)
	made = upgrade.Revision{Number: len(w.history) + 1, Status: "pending-upgrade", Image: image}
	if err := w.do(func() { w.history = append(w.history, made) }); err != nil {
		return upgrade.Revision{}, err
	}
	if err := w.do(func() { w.template = image }); err != nil {
		return made, err
	}
	err = w.do(func() {
		for i := range w.history {
			if w.history[i].Status == "deployed" {
				w.history[i].Status = "superseded"
			}
		}
		w.history[len(w.history)-1].Status = "deployed"
	})
	return made, err
}

func (w *world) Settle(context.Context, *operation.Deployment) error {
	return w.do(func() {
		if newest := &w.history[len(w.history)-1]; newest.Status == "pending-upgrade" {
			newest.Status = "failed"
		}
	})
}

func (w *world) Strategy(context.Context, *operation.Deployment) (strategy string, err error) {
	err = w.do(func() {
		if !w.held {
			strategy = "rolling"
		}
	})
	return strategy, err
}

func (w *world) Hold(context.Context, *operation.Deployment) error {
	return w.do(func() { w.held = true })
}

func (w *world) Release(_ context.Context, _ *operation.Deployment, former string) error {
	return w.do(func() { w.held = w.held && former == "" })
}

func (w *world) Rollout(context.Context, *operation.Deployment) (r roll.Rollout, err error) {
	err = w.do(func() {
		w.settle()
		r = roll.Rollout{Held: w.held, Revision: w.template, Pods: map[string]string{w.name(): w.pod}}
	})
	return r, err
}

func (w *world) name() string { return operationtest.Deployment(1).Instances[0].Name }

func (w *world) Recreate(context.Context, *operation.Deployment, []byte, map[string]string) error {
	return errors.ErrUnsupported
}

func (w *world) Recover(context.Context, operation.Target) (bool, error) { return false, nil }

func (w *world) DeletePod(context.Context, *operation.Deployment, operation.Instance, time.Duration) error {
	return w.do(func() { w.pod = "" })
}

func (w *world) LastLines(context.Context, *operation.Deployment, operation.Instance, int) ([]string, error) {
	return []string{"its last line"}, nil
}

func (w *world) Lock(ctx context.Context, _ *operation.Deployment) (context.Context, func(), error) {
	return ctx, func() {}, nil
}

func (w *world) Now() time.Time {
	w.now = w.now.Add(time.Millisecond)
	return w.now
}

func (w *world) operation() roll.Roll {
	return roll.Roll{
		Resolver: w, Connector: w, Locker: w, Notes: w, Releases: w, Cluster: w, Reporter: operation.DiscardReporter{}, Now: w.Now, By: "ann@laptop",
	}
}

// upgrade plans without faults and applies with them.
func (w *world) upgrade(t *testing.T, image string) (roll.Result, error) {
	t.Helper()
	failAt := w.failAt
	w.failAt = 0
	plan, err := w.operation().Plan(t.Context(), w.deployment(), roll.Options{
		Operation: "upgrade apply", Change: upgrade.Change{Values: map[string]any{"image": image}},
		NoBackup: true, AllowDowntime: true, Limits: roll.DefaultLimits(),
	})
	require.NoError(t, err)
	w.calls, w.failAt = 0, failAt
	return w.operation().Apply(t.Context(), plan)
}

// well asserts that nothing of an upgrade is left, and that Helm, template and pod agree.
func (w *world) well(t *testing.T, image string) {
	t.Helper()
	w.settle()
	assert.Equal(t, image, w.template, "template")
	assert.Equal(t, image, w.pod, "pod")
	newest := w.history[len(w.history)-1]
	assert.Equal(t, image, newest.Image, "Helm's newest revision")
	assert.Equal(t, "deployed", newest.Status)
	assert.False(t, w.held, "the update strategy is back")
	assert.NotContains(t, w.notes, operation.NoteUpgrade)
}

func TestUpgrade(t *testing.T) {
	w := newWorld()
	result, err := w.upgrade(t, target)
	require.NoError(t, err)
	assert.Equal(t, roll.OutcomeUpgraded, result.Outcome)
	assert.Equal(t, 2, result.Revision)
	assert.Equal(t, roll.InPlace, result.Strategy)
	require.Len(t, result.Pods, 1)
	assert.Contains(t, w.notes, operation.NoteUpgraded, "for upgrade validate")
	w.well(t, target)

	result, err = w.upgrade(t, target)
	require.NoError(t, err, "again")
	assert.Empty(t, result.Pods)
	assert.Len(t, w.history, 2)
}

func TestUpgradeToABadImageIsUndone(t *testing.T) {
	w := newWorld()
	result, err := w.upgrade(t, bad)
	require.ErrorContains(t, err, "its last line")
	require.ErrorContains(t, err, "CrashLoopBackOff")
	assert.Equal(t, operation.Failed, operation.KindOf(err))
	assert.Equal(t, roll.OutcomeUndone, result.Outcome)
	w.well(t, former)
	assert.Contains(t, w.notes[operation.NoteUpgraded], `"target":"`+former+`"`, "upgrade validate is not to miss the bad image")
}

func TestUndoneWithoutItsData(t *testing.T) {
	w := newWorld()
	w.loses = true
	_, err := w.upgrade(t, bad)
	require.ErrorContains(t, err, "had at least 10 keys that do not expire, and has 1 now")
	require.ErrorContains(t, err, "redisctl restore brings back")
	assert.Contains(t, w.notes, operation.NoteUpgrade, "it is not over")
}

func TestUpgradeStopsWhenSomebodyElseInterferes(t *testing.T) {
	for name, interfere := range map[string]func(*world){
		"helm upgrade": func(w *world) {
			w.history = append(w.history, upgrade.Revision{Number: len(w.history) + 1, Status: "deployed", Image: "redis:other"})
		},
		"the template": func(w *world) { w.template = "redis:other" },
		"the strategy": func(w *world) { w.held = false },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.failAt, w.dead = stepAfter(t, func(w *world) bool { return len(w.history) == 2 && w.history[1].Status == "deployed" }), true
			_, err := w.upgrade(t, target)
			require.Error(t, err)
			w.failAt = 0
			pod := w.pod
			interfere(w)
			if name == "the strategy" {
				w.template = pod // its controller must not act in this model
			}
			_, err = w.operation().Resume(t.Context(), w.deployment(), roll.DefaultLimits())
			require.ErrorContains(t, err, "somebody else has changed the release")
			result, err := w.operation().Forget(t.Context(), w.deployment(), roll.DefaultLimits())
			require.NoError(t, err)
			assert.Equal(t, roll.OutcomeForgotten, result.Outcome)
			assert.NotContains(t, w.notes, operation.NoteUpgrade)
			assert.False(t, w.held)
		})
	}
}

// stepAfter returns the number of the first call after which a condition holds, and the
// record of the rolling phase is written.
func stepAfter(t *testing.T, condition func(*world) bool) int {
	t.Helper()
	for step := 1; ; step++ {
		w := newWorld()
		w.failAt, w.dead = step, true
		if _, err := w.upgrade(t, target); err == nil {
			t.Fatal("the condition never holds")
		}
		if condition(w) && w.notes[operation.NoteUpgrade] != "" && contains(w.notes[operation.NoteUpgrade], `"phase":"rolling"`) {
			return step
		}
	}
}

func contains(text, part string) bool {
	return len(text) >= len(part) && (text[:len(part)] == part || contains(text[1:], part))
}

// TestEveryCallMayFail lets each call of an upgrade fail, before and after it took effect,
// alone or with everything after it as if the process was killed, and then each call of
// going on or back. What the error names leads to an end at which everything agrees.
func TestEveryCallMayFail(t *testing.T) {
	cases := 0
	for _, image := range []string{target, bad} {
		for _, late := range []bool{false, true} {
			for _, dead := range []bool{false, true} {
				for step := 1; ; step++ {
					w := newWorld()
					w.failAt, w.late, w.dead = step, late, dead
					result, err := w.upgrade(t, image)
					if w.calls < step { // every call has had its turn
						break
					}
					cases += w.everyEnd(t, fmt.Sprintf("%s late=%t dead=%t step %d", image, late, dead, step), image, result, err)
				}
			}
		}
	}
	t.Logf("%d cases", cases)
	assert.Greater(t, cases, 500)
}

// everyEnd goes on, or back, from what a failed upgrade has left, with a fault at each call.
func (w *world) everyEnd(t *testing.T, name, image string, result roll.Result, err error) int {
	t.Helper()
	left := *w
	cases := 0
	for _, abort := range []bool{false, true} {
		for step := 0; ; step++ {
			again := left
			again.notes, again.history = maps.Clone(left.notes), slices.Clone(left.history)
			again.calls, again.failAt, again.late, again.dead = 0, step, step%2 == 0, true
			if step > 0 {
				_, _ = again.finish(abort) // it fails on purpose
			}
			reached := again.calls
			again.calls, again.failAt = 0, 0
			finished, ended := again.finish(abort)
			if ended != nil && contains(ended.Error(), "serves already") { // too late to abort
				finished, ended = again.finish(false)
			}
			ok := t.Run(fmt.Sprintf("%s, abort=%t step %d", name, abort, step), func(t *testing.T) {
				if ended != nil {
					t.Logf("ended: %v", ended)
					require.NotContains(t, ended.Error(), "injected")
				}
				want := former
				switch {
				case image == bad:
				case result.Outcome == roll.OutcomeUpgraded && err == nil, finished.Outcome == roll.OutcomeUpgraded && ended == nil:
					want = target
				case finished.Outcome == "" && again.pod == target: // only the last notes were to be made
					want = target
				}
				again.well(t, want)
			})
			cases++
			if !ok {
				t.FailNow()
			}
			if step > reached {
				break
			}
		}
	}
	return cases
}

// finish resumes or aborts, if there is anything to.
func (w *world) finish(abort bool) (roll.Result, error) {
	d := w.deployment()
	if w.notes[operation.NoteUpgrade] == "" {
		return roll.Result{}, nil
	}
	if abort {
		return w.operation().Abort(context.Background(), d, roll.DefaultLimits())
	}
	return w.operation().Resume(context.Background(), d, roll.DefaultLimits())
}
