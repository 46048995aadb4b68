package live

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/rdb"
)

// Result is the proof of a live restore. Its JSON form is part of redisctl's interface
// (docs/json-output.md).
type Result struct {
	Namespace string `json:"namespace,omitempty"`
	Release   string `json:"release,omitempty"`
	Name      string `json:"name"`
	Backup    string `json:"backup"`
	Method    string `json:"method"`
	Instance  string `json:"instance"`
	// Selected keys of the backup are Restored, or Kept because the server has another
	// one of that name, or left out: Expired ones, and Unsupported ones, which the server
	// cannot take.
	Selected    int64 `json:"selected"`
	Restored    int64 `json:"restored"`
	Kept        int64 `json:"kept"`
	Expired     int64 `json:"expired"`
	Unsupported int64 `json:"unsupported"`
	// Conflicts are those of Kept that were not to be kept: clients have written them since
	// the restore began. Examples names some.
	Conflicts int64    `json:"conflicts"`
	Examples  []string `json:"examples"`
	// Rebuilt are those of Restored that were made by commands: too large to be sent whole,
	// or in a form that the server does not know.
	Rebuilt   int64 `json:"rebuilt"`
	Functions int64 `json:"functions"`
	// FunctionsLeftOut are libraries that the server cannot take.
	FunctionsLeftOut int64 `json:"functionsLeftOut"`
	// Bytes that were sent, in DurationSeconds, of which ThrottledSeconds were waited for
	// replicas.
	Bytes            int64   `json:"bytes"`
	DurationSeconds  float64 `json:"durationSeconds"`
	ThrottledSeconds float64 `json:"throttledSeconds"`
	KeysPerSecond    float64 `json:"keysPerSecond"`
	// Resumed is set when an interrupted restore was continued.
	Resumed bool `json:"resumed"`
	// SafetyBackup is where the backup of the former data is; empty when there is none.
	SafetyBackup string `json:"safetyBackup,omitempty"`
	// Comparison is nil when nothing was compared.
	Comparison *restore.Comparison `json:"comparison,omitempty"`
}

// horizonStep is how far ahead, in bytes of the file, the horizon is noted at least.
const horizonStep = 64 << 20

// restoring is a restore in progress.
type restoring struct {
	Restore
	plan    *Plan
	server  operation.Server
	replay  Replay
	gate    gate
	horizon *horizon
	started time.Time

	evicted int64 // evicted_keys before

	mu        sync.Mutex // of what several goroutines write
	record    Record
	result    Result
	conflicts int64
	throttled time.Duration
	// refusal is the code of the reply that ended the restore.
	refusal string
}

// Apply restores. After an error that does not say that nothing was changed, a record
// stays, and the error names the command that goes on.
func (r Restore) Apply(ctx context.Context, p *Plan) (Result, error) {
	if err := p.Refusal(); err != nil {
		return Result{}, err
	}
	locked, release, err := r.Locker.Lock(ctx, p.deployment)
	if err != nil {
		return Result{}, err
	}
	defer release()
	x := &restoring{Restore: r, plan: p}
	if x.server, err = r.Connector.Connect(locked, p.deployment, p.target.Instance); err != nil {
		return Result{}, err
	}
	defer func() { _ = x.server.Close() }() // everything was said
	if err := x.recheck(locked); err != nil {
		return Result{}, err
	}
	if err := x.begin(locked); err != nil {
		return Result{}, err
	}
	if err := x.run(locked); err != nil {
		return x.result, err
	}
	return x.finish(locked)
}

// recheck makes sure that what the plan rests on is still so.
func (x *restoring) recheck(ctx context.Context) error {
	p := x.plan
	changed := func(format string, args ...any) error {
		return &operation.Error{
			Kind: operation.Refused, Object: p.Instance, Phase: "checking again", Err: fmt.Errorf(format, args...),
			Unchanged: "nothing was changed", Next: "run the command again",
		}
	}
	record, err := restore.LoadRecord[Record](ctx, x.Notes, p.deployment)
	if err != nil {
		return err
	}
	if p.record == nil && record != nil || p.record != nil && (record == nil || !record.Begun.Equal(p.record.Begun)) {
		return changed("another restore has begun or ended meanwhile")
	}
	if p.record != nil {
		p.record = record // it may have come further
	}
	info, err := x.server.Info(ctx)
	if err != nil {
		return err
	}
	if info.Get("run_id") != p.target.Info.Get("run_id") || info.Get("role") != p.target.Info.Get("role") {
		return changed("it was restarted, or has another role now")
	}
	if keys := info.TotalKeys(); p.record == nil && p.wasEmpty && keys > 0 {
		return changed("it holds %d keys now", keys)
	}
	x.evicted = info.Int("evicted_keys")
	return nil
}

// begin backs up what is replaced and notes what is begun.
func (x *restoring) begin(ctx context.Context) error {
	p := x.plan
	d := p.deployment
	x.result = Result{
		Namespace: d.Namespace, Release: d.Release, Name: d.Name, Backup: p.Backup, Method: Method, Instance: p.Instance,
		Selected: p.Keys, Examples: []string{}, FunctionsLeftOut: p.FunctionsLeftOut, Resumed: p.record != nil,
	}
	if p.record != nil {
		x.record = *p.record
		x.result.SafetyBackup = x.record.SafetyBackup
		x.horizon = newHorizon(x.record.Horizon)
		return nil
	}
	x.record = Record{
		Method: Method, Backup: p.ref, From: p.from, Size: p.contents.Size, CRC64: p.contents.Summary.ComputedCRC,
		Instance: p.Instance, Begun: p.begun.UTC(), By: x.By, Selection: p.options.Selection, Keys: p.Keys, WasEmpty: p.wasEmpty,
		Horizon: horizonStep,
	}
	if p.Rebuilt > 0 {
		x.record.Databases = p.Databases
	}
	x.horizon = newHorizon(x.record.Horizon)
	if p.safety {
		x.Reporter.Step("backing up the present data of %s", p.Instance)
		location, err := x.Keeper.Keep(ctx, d, p.target.Instance)
		if err != nil {
			return &operation.Error{
				Kind: operation.KindOf(err), Object: p.Instance, Phase: "backing up the present data", Err: err,
				Unchanged: "nothing was changed", Next: "redisctl health; --no-safety-backup goes on without",
			}
		}
		x.record.SafetyBackup, x.result.SafetyBackup = location, location
	}
	return x.save(ctx)
}

// save notes how far the restore has come.
func (x *restoring) save(ctx context.Context) error {
	x.mu.Lock()
	x.record.Updated = x.Now().UTC()
	record := x.record
	x.mu.Unlock()
	return restore.SaveRecord(ctx, x.Notes, x.plan.deployment, record)
}

// run sends everything. Whatever ends it, what was restored is noted.
func (x *restoring) run(parent context.Context) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	p := x.plan
	if err := x.functions(ctx); err != nil {
		return x.interrupted(parent, err)
	}
	var err error
	x.replay, err = x.Replayer.OpenReplay(ctx, p.deployment, p.target.Instance, ReplayOptions{
		Connections: p.options.Connections, Stall: p.options.Stall, Judge: x.judge,
	})
	if err != nil {
		return x.interrupted(parent, err)
	}
	x.started = x.Now()
	var watching sync.WaitGroup
	watched, stop := context.WithCancel(ctx)
	watching.Go(func() { x.watch(watched, cancel) })
	watching.Go(func() { x.keepNotes(watched, cancel) })
	x.Reporter.Step("restoring %d keys into %s", p.Keys-p.Unsupported, p.Instance)
	err = x.send(ctx)
	if end := x.replay.Finish(); err == nil || isCancelled(err) && end != nil {
		err = end
	}
	stop()
	watching.Wait()
	x.settle()
	if cause := context.Cause(ctx); err == nil && cause != nil {
		err = cause
	}
	if err != nil {
		return x.interrupted(parent, err)
	}
	return nil
}

func isCancelled(err error) bool { return errors.Is(err, context.Canceled) }

// base is what earlier runs of this restore have done.
func (x *restoring) base() Record {
	if x.plan.record == nil {
		return Record{}
	}
	return *x.plan.record
}

// settle takes the replay's numbers over.
func (x *restoring) settle() {
	s, base := x.replay.Settled(), x.base()
	x.mu.Lock()
	defer x.mu.Unlock()
	kept := s.Rejected
	if !x.plan.options.SkipExisting {
		kept = min(x.conflicts, s.Rejected) // the others are keys that an earlier run has restored
	}
	x.record.Position = max(base.Position, s.Before)
	x.record.Restored, x.record.Kept = base.Restored+s.Restored+s.Rejected-kept, base.Kept+kept
	x.result.Restored, x.result.Kept = x.record.Restored, x.record.Kept
	x.result.Bytes = s.Bytes
}

// functions restores the function libraries.
func (x *restoring) functions(ctx context.Context) error {
	p := x.plan
	if p.Functions == 0 || x.record.Functions {
		x.result.Functions = p.Functions
		return nil
	}
	x.Reporter.Step("restoring %d function libraries", p.Functions)
	libraries, err := readFunctions(ctx, p.backup, p.contents)
	if err != nil {
		return err
	}
	for _, payload := range libraries {
		policy := "APPEND"
		if p.options.Replace || p.record != nil && x.record.WasEmpty {
			policy = "REPLACE"
		}
		if _, err := x.server.Do(ctx, "FUNCTION", "RESTORE", payload, policy); err != nil {
			if p.options.SkipExisting && isReply(err, "already exists") {
				continue
			}
			return &operation.Error{
				Kind: operation.KindOf(err), Object: p.Instance, Phase: "restoring functions", Err: err,
				Next: "--no-functions leaves them out",
			}
		}
		x.result.Functions++
	}
	x.record.Functions = true
	return x.save(ctx)
}

// finish compares and removes the record.
func (x *restoring) finish(ctx context.Context) (Result, error) {
	r := &x.result
	r.DurationSeconds = x.Now().Sub(x.started).Seconds()
	r.ThrottledSeconds = x.throttled.Seconds()
	r.Conflicts = x.conflicts
	base := x.base()
	r.Expired -= base.Restored + base.Kept // see sender.value
	if r.DurationSeconds > 0 {
		r.KeysPerSecond = math.Round(float64(x.replay.Settled().AllRestored) / r.DurationSeconds)
	}
	x.Reporter.Step("comparing %s with the backup", r.Instance)
	if err := x.compare(ctx); err != nil {
		return x.result, x.interrupted(ctx, err)
	}
	return x.result, restore.ForgetRecord(ctx, x.Notes, x.plan.deployment)
}

// compare proves that the keys are there.
func (x *restoring) compare(ctx context.Context) error {
	p := x.plan
	o := restore.CompareOptions{
		Contents: p.contents, Sample: p.options.Sample, DB: p.options.target, NoFunctions: p.options.NoFunctions,
		Filter: x.selected, Counts: p.wasEmpty && x.conflicts == 0, EvictedBefore: x.evicted,
	}
	found, err := x.Comparer.Compare(ctx, p.backup, p.deployment, p.target.Instance, o)
	if err != nil {
		return err
	}
	x.result.Comparison = &found
	if p.record == nil || p.options.Replace || p.options.SkipExisting || o.Sample == 0 {
		return nil
	}
	// Where an earlier run may have restored a key, one that is there was taken for that.
	o.Sample, o.Counts, o.NoFunctions = 0, false, true
	o.Filter = func(e *rdb.Entry) bool { return x.inDoubt(e.Offset) && x.selected(e) }
	doubtful, err := x.Comparer.Compare(ctx, p.backup, p.deployment, p.target.Instance, o)
	if err != nil {
		return err
	}
	x.result.Conflicts += doubtful.Different + doubtful.ExpiryDiffers
	for _, e := range doubtful.Examples {
		x.example(e.String())
	}
	found.Missing += doubtful.Missing
	found.Equal = found.Equal && doubtful.Missing == 0
	return nil
}

// example names a key that has a conflict.
func (x *restoring) example(text string) {
	if len(x.result.Examples) < maxExamples {
		x.result.Examples = append(x.result.Examples, text)
	}
}

// Verdict returns why the restore is not what was asked for, or nil: of kind Corrupt when
// keys are not as in the backup, Partial when some were left out.
func (r *Result) Verdict() error {
	c := r.Comparison
	if c != nil && !c.Equal {
		// What was kept differs from the backup by intention.
		explained := c.Missing == 0 && c.FunctionsMissing == 0 && c.Evicted == 0 && c.Different+c.ExpiryDiffers <= r.Kept+r.Conflicts && r.Kept+r.Conflicts > 0
		if !explained {
			return operation.Errorf(operation.Corrupt, "%s does not hold what the backup holds", r.Instance)
		}
	}
	if r.Conflicts > 0 || r.Unsupported > 0 || r.FunctionsLeftOut > 0 {
		return operation.Errorf(operation.Partial, "%d of %d keys were restored", r.Restored, r.Selected)
	}
	return nil
}

// selected tells which keys of the backup were to be restored.
func (x *restoring) selected(e *rdb.Entry) bool {
	return x.plan.options.admits(e, e.Size, x.plan.begun) && !x.plan.refused[e.RDBType]
}

// interrupted notes how far the restore has come, and says how it goes on.
func (x *restoring) interrupted(ctx context.Context, err error) error {
	x.mu.Lock()
	x.record.Problem = err.Error()
	done, refusal := x.record.Restored, x.refusal
	x.mu.Unlock()
	if x.replay != nil { // also what is behind the first key that failed
		done = x.base().Restored + x.replay.Settled().AllRestored
	}
	e := &operation.Error{
		Kind: operation.KindOf(err), Object: x.plan.Instance, Phase: "restoring keys", Err: err,
		Unchanged: fmt.Sprintf("%d of %d keys are restored and stay, %d are left", done, x.plan.Keys-x.plan.Unsupported, max(0, x.plan.Keys-x.plan.Unsupported-done)),
		Next:      "redisctl restore resume goes on, redisctl restore abort leaves it at that",
	}
	if refusal == "OOM" {
		e.Next = "raise redis.maxmemory or free memory; then " + e.Next
	}
	var cause *operation.Error
	if errors.As(err, &cause) {
		e.Object, e.Phase, e.Err = cause.Object, cause.Phase, cause.Err
	}
	if errors.Is(context.Cause(ctx), operation.ErrLeaseLost) {
		e.Next = "redisctl restore status: another operator has taken over"
		return e
	}
	// What is left of a large value is removed as well when the restore goes on, or is
	// given up.
	_ = x.tidy(ctx, x.plan.deployment, x.plan.target.Instance, &x.record)
	const limit = 10 * time.Second // for one small note
	saving, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	if saveErr := x.save(saving); saveErr != nil {
		e.Err = fmt.Errorf("%w (and noting how far it has come failed: %w)", err, saveErr)
	}
	return e
}
