package volume_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/operationtest"
	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/operation/restore/volume"
	"github.com/redisctl/redisctl/internal/redis"
)

// What the data folder may hold.
const (
	oldData = "old"
	newData = "new"
	badData = "bad" // no server starts with it
)

const pods = 3

var errInjected = errors.New("injected")

// world is a release, its volume and its cluster. Its calls can be made to fail: one
// of them, or all from one on, which is what a killed redisctl sees. A call that fails
// has taken effect or not.
type world struct {
	calls   int
	failAt  int
	crash   bool // every later call fails as well
	late    bool // the call that fails has taken effect
	desired int
	notes   map[string]string
	// placed is what the data folder holds, kept what was moved away.
	placed, staged, kept string
	complete             bool
	// loaded is what the first pod has loaded.
	loaded   string
	restores string // what the source holds
	differs  bool   // the comparison finds a difference
}

func newWorld() *world {
	return &world{desired: pods, notes: map[string]string{}, placed: oldData, loaded: oldData, restores: newData}
}

// do is one call, with what it changes.
func (w *world) do(change func()) error {
	w.calls++
	fails := w.failAt > 0 && (w.calls == w.failAt || w.crash && w.calls > w.failAt)
	if !fails || w.late && w.calls == w.failAt {
		change()
	}
	if fails {
		return errInjected
	}
	return nil
}

func (w *world) read() error { return w.do(func() {}) }

func (w *world) deployment() *operation.Deployment {
	d := operationtest.Deployment(w.desired)
	d.Workload.UID = "uid"
	d.Workload.Annotations = maps.Clone(w.notes)
	if w.loaded == badData && w.desired > 0 {
		d.Instances[0].Pod = &operation.Pod{Phase: "Running", Restarts: 1, Reason: "CrashLoopBackOff", LastExit: "exit code 1"}
	}
	return d
}

func (w *world) Resolve(context.Context, operation.Target) (*operation.Deployment, error) {
	return w.deployment(), w.read()
}

func (w *world) List(context.Context, operation.Target) ([]operation.Deployment, error) {
	return nil, nil
}

func (w *world) Connect(ctx context.Context, d *operation.Deployment, i operation.Instance) (operation.Server, error) {
	fleet := operationtest.Fleet{d.Name + "-0": operationtest.Primary("10.0.0.11", "10.0.0.12")}
	for n := 1; n < pods; n++ {
		fleet[fmt.Sprintf("%s-%d", d.Name, n)] = operationtest.Replica("10.0.0.10")
	}
	return fleet.Connect(ctx, d, i)
}

func (w *world) Lock(ctx context.Context, _ *operation.Deployment) (context.Context, func(), error) {
	return ctx, func() {}, w.read()
}

func (w *world) Note(_ context.Context, _ *operation.Deployment, key string) (string, error) {
	return w.notes[key], w.read()
}

func (w *world) SetNotes(_ context.Context, _ *operation.Deployment, notes map[string]string) error {
	return w.do(func() {
		for key, text := range notes {
			if w.notes[key] = text; text == "" {
				delete(w.notes, key)
			}
		}
	})
}

func (w *world) Claim(context.Context, *operation.Deployment, string) (volume.Claim, error) {
	return volume.Claim{Name: "data-cache-redis-0", Bound: true}, w.read()
}

func (w *world) OpenVolume(context.Context, *operation.Deployment, string, string, string) (volume.Volume, error) {
	return openVolume{w}, w.read()
}

func (w *world) FreeSpace(context.Context, *operation.Deployment, operation.Instance, string) (int64, error) {
	return 1 << 30, w.read()
}

func (w *world) Scale(_ context.Context, _ *operation.Deployment, from, to int) error {
	if w.desired != from && w.desired != to {
		return fmt.Errorf("it has %d pods, not %d", w.desired, from)
	}
	return w.do(func() {
		if w.desired == 0 && to > 0 {
			w.loaded = w.placed
		}
		w.desired = to
	})
}

func (w *world) AwaitStopped(context.Context, *operation.Deployment, func(string)) error {
	return w.read()
}

func (w *world) LastLines(context.Context, *operation.Deployment, operation.Instance, int) ([]string, error) {
	return []string{"Bad file format reading the append only file"}, w.read()
}

func (w *world) Kept(context.Context, *operation.Deployment, operation.Instance, string, string) ([]volume.Kept, error) {
	return nil, w.read()
}

func (w *world) RemoveKept(context.Context, *operation.Deployment, operation.Instance, string, string) error {
	return w.read()
}

func (w *world) ClaimFromSnapshot(context.Context, *operation.Deployment, string, string, string) error {
	return w.read()
}

func (w *world) DeleteClaim(context.Context, *operation.Deployment, string) error { return w.read() }

func (w *world) Pin(context.Context, *operation.Deployment, string, string, string) error {
	return w.read()
}

func (w *world) HoldWrites(context.Context, *operation.Deployment, operation.Instance, time.Duration) (func(context.Context) error, error) {
	return func(context.Context) error { return w.read() }, w.read()
}

func (w *world) Keep(context.Context, *operation.Deployment, operation.Instance) (string, error) {
	return "backups/rdb-1", w.read()
}

// openVolume implements volume.Volume for a world.
type openVolume struct{ *world }

func (w openVolume) ServerVersion(context.Context) (redis.Version, error) {
	return redis.Version{Product: "redis", Major: 7}, w.read()
}

func (w openVolume) FreeSpace(context.Context, string) (int64, error) { return 1 << 30, w.read() }

func (w openVolume) Upload(_ context.Context, _, _ string, _ int64, data io.Reader, _ time.Duration) error {
	text, err := io.ReadAll(data)
	return errors.Join(err, w.do(func() { w.staged = string(text) }))
}

func (w openVolume) Beside(context.Context, string, []string) (map[string]int64, error) {
	return nil, w.read()
}

func (w openVolume) CopyBeside(context.Context, string, string, string, string) error {
	return w.read()
}

func (w openVolume) Close(context.Context) error { return w.read() }

// Swap can be interrupted between its two halves.
func (w openVolume) Swap(context.Context, volume.Swap) error {
	if w.desired > 0 {
		return errors.New("files were moved under a running server")
	}
	if err := w.do(func() {
		if !w.complete {
			w.placed, w.kept, w.complete = "", w.placed, true
		}
	}); err != nil {
		return err
	}
	return w.do(func() {
		if w.staged != "" {
			w.placed, w.staged = w.staged, ""
		}
	})
}

func (w openVolume) Undo(context.Context, volume.Swap) error {
	if w.desired > 0 && w.complete {
		return errors.New("files were moved under a running server")
	}
	if err := w.do(func() {
		if w.complete {
			w.placed, w.complete = "", false
		}
	}); err != nil {
		return err
	}
	return w.do(func() {
		if w.kept != "" {
			w.placed, w.kept = w.kept, ""
		}
		w.staged = ""
	})
}

// source is a volume.Source whose only file says what it is.
type source struct{ *world }

func (source) Name() string { return "rdb-2" }
func (source) Origin() volume.Origin {
	return volume.Origin{Command: volume.CommandRDB, From: "s3://bucket", Ref: "rdb-2"}
}

func (source) Check(context.Context, operation.Server, volume.Layout) ([]operation.Finding, error) {
	return nil, nil
}

func (s source) Describe() restore.Contents { return restore.Contents{Size: 3} }

func (s source) Files(l volume.Layout) ([]volume.File, error) {
	return []volume.File{{Name: l.RDB, Size: int64(len(s.restores)), Open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(s.restores)), s.read()
	}}}, nil
}

func (s source) Prove(
	context.Context, restore.Comparer, *operation.Deployment, operation.Instance, int64,
) (restore.Comparison, error) {
	return restore.Comparison{Equal: s.loaded == s.restores && !s.differs}, s.read()
}

func (w *world) operation() volume.Restore {
	return volume.Restore{
		Resolver: w, Connector: w, Locker: w, Notes: w, Volumes: w, Traffic: w, Holder: w, Keeper: w,
		Reporter: operation.DiscardReporter{}, Now: time.Now, By: "me@here",
	}
}

// limits let what never happens in a world fail soon.
func limits() volume.Limits {
	return volume.Limits{Timeout: time.Second, Stall: time.Second, Stop: time.Second, Start: time.Second, Hold: time.Second}
}

func (w *world) restore(ctx context.Context) (volume.Result, error) {
	op := w.operation()
	plan, err := op.Plan(ctx, w.deployment(), source{w}, volume.Options{Replace: true, Limits: limits()})
	if err != nil {
		return volume.Result{}, err
	}
	return op.Apply(ctx, plan)
}

func (w *world) resume(ctx context.Context) (volume.Result, error) {
	return w.operation().Resume(ctx, w.deployment(), volume.ResumeOptions{Source: source{w}, Limits: limits()})
}

func (w *world) abort(ctx context.Context) (volume.Result, error) {
	return w.operation().Abort(ctx, w.deployment(), limits())
}

// survive makes the world's calls work again.
func (w *world) survive() { w.failAt, w.crash, w.calls = 0, false, 0 }

// settled fails unless all pods serve either the former data, with nothing left of the
// restore, or the restored data, with the former one kept.
func (w *world) settled(t *testing.T) {
	t.Helper()
	assert.Equal(t, pods, w.desired, "pods")
	assert.Empty(t, w.notes, "records")
	assert.Empty(t, w.staged)
	assert.Equal(t, w.placed, w.loaded, "what is served is what is on the volume")
	switch w.placed {
	case oldData:
		assert.Empty(t, w.kept)
	case newData:
		assert.Equal(t, oldData, w.kept)
	default:
		assert.Fail(t, "the data is gone", "%q is on the volume", w.placed)
	}
}

func TestRestore(t *testing.T) {
	w := newWorld()
	result, err := w.restore(t.Context())
	require.NoError(t, err)
	assert.Equal(t, newData, w.loaded)
	w.settled(t)
	assert.Equal(t, volume.OutcomeRestored, result.Outcome)
	assert.Equal(t, []string{"cache-redis-1", "cache-redis-2"}, result.Replicas)
	assert.Equal(t, "backups/rdb-1", result.SafetyBackup)
	assert.Contains(t, result.KeptIn, "/data/redisctl-before-")
}

// A server that does not start with the restored file gets its former files back.
func TestUnloadableFile(t *testing.T) {
	w := newWorld()
	w.restores = badData
	_, err := w.restore(t.Context())
	var e *operation.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, operation.Failed, e.Kind)
	assert.Contains(t, e.Error(), "Bad file format", "the server's own words")
	assert.Contains(t, e.Unchanged, "former data")
	assert.Equal(t, oldData, w.loaded)
	w.settled(t)
}

// What differs from the backup is not passed off as restored; both ways out work.
func TestDifferentData(t *testing.T) {
	for _, accept := range []bool{false, true} {
		w := newWorld()
		w.differs = true
		_, err := w.restore(t.Context())
		assert.Equal(t, operation.Corrupt, operation.KindOf(err))
		assert.Equal(t, 1, w.desired, "the replicas did not copy it")
		require.NotEmpty(t, w.notes)
		if accept {
			_, err := w.operation().Resume(t.Context(), w.deployment(), volume.ResumeOptions{AcceptDifferences: true, Limits: limits()})
			require.NoError(t, err)
			assert.Equal(t, newData, w.loaded)
		} else {
			_, err = w.abort(t.Context())
			require.NoError(t, err)
			assert.Equal(t, oldData, w.loaded)
		}
		w.settled(t)
	}
}

// Whichever call fails, and whether redisctl is killed there or lives on, the release
// serves its former data, or a record leads to either state; and an error that says that
// nothing has changed is right.
func TestEveryCallCanFail(t *testing.T) {
	ways := map[string]func(*world, context.Context) (volume.Result, error){"resume": (*world).resume, "abort": (*world).abort}
	for _, crash := range []bool{false, true} {
		for _, late := range []bool{false, true} {
			for name, way := range ways {
				for at := 1; ; at++ {
					w := newWorld()
					w.failAt, w.crash, w.late = at, crash, late
					_, err := w.restore(t.Context())
					if w.calls < at {
						require.NoError(t, err)
						break // there was no such call
					}
					require.True(t, t.Run(fmt.Sprintf("call %d, crash %t, late %t, %s", at, crash, late, name), func(t *testing.T) {
						var e *operation.Error
						if errors.As(err, &e) && e.Unchanged == "the release serves its former data" {
							assert.Equal(t, oldData, w.loaded)
							w.settled(t)
						}
						w.survive()
						w.finish(t, way)
					}))
				}
			}
		}
	}
}

// finish goes on or back, if there is a record, and again after every call of that was
// the last one.
func (w *world) finish(t *testing.T, way func(*world, context.Context) (volume.Result, error)) {
	t.Helper()
	if len(w.notes) == 0 {
		w.settled(t)
		return
	}
	for at := 1; ; at++ {
		again := *w
		again.notes = maps.Clone(w.notes)
		again.failAt, again.crash = at, true
		_, err := way(&again, t.Context())
		if again.calls < at {
			require.NoError(t, err)
			again.settled(t)
			return
		}
		again.survive()
		if len(again.notes) > 0 {
			_, err := way(&again, t.Context())
			require.NoError(t, err, "after call %d", at)
		}
		again.settled(t)
	}
}
