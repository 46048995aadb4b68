package resync

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/redis"
)

// Result is what became of a resynchronisation. Its JSON form is part of redisctl's
// interface (docs/json-output.md).
type Result struct {
	Namespace string `json:"namespace,omitempty"`
	Release   string `json:"release,omitempty"`
	Name      string `json:"name"`
	Instance  string `json:"instance"`
	Primary   string `json:"primary"`
	// Kind is what the servers did.
	Kind Kind `json:"kind"`
	// DurationSeconds is the time in s from the command until the instance had
	// caught up.
	DurationSeconds float64 `json:"durationSeconds"`
	// ReplicationID and Offset name what the instance has now, OffsetBefore what it
	// had. PrimaryOffset is where the primary was when the link had come up; Offset
	// is never less.
	ReplicationID string `json:"replicationId"`
	OffsetBefore  int64  `json:"offsetBefore"`
	Offset        int64  `json:"offset"`
	PrimaryOffset int64  `json:"primaryOffset"`
	// PartialResyncs and FullResyncs are what the primary has served meanwhile, to
	// any replica.
	PartialResyncs int64 `json:"partialResyncs"`
	FullResyncs    int64 `json:"fullResyncs"`
}

func newResult(p *Plan) Result {
	d := p.deployment
	return Result{
		Namespace: d.Namespace, Release: d.Release, Name: d.Name, Instance: p.Instance, Primary: p.Primary, Kind: KindNone,
		ReplicationID: p.member.Replication.ID, OffsetBefore: p.member.Replication.Offset, Offset: p.member.Replication.Offset,
		PrimaryOffset: p.primary.Replication.Offset,
	}
}

// Apply resynchronises the instance and returns when it has caught up. When it is in
// sync already, nothing is done. After the instance was told whom to follow it goes on
// by itself, whatever happens to redisctl; the error then says so.
func (o Operation) Apply(ctx context.Context, plan *Plan) (Result, error) {
	if err := plan.Refusal(); err != nil {
		return Result{}, err
	}
	if plan.Expect == KindNone {
		return newResult(plan), nil
	}
	if plan.Changes() {
		locked, release, err := o.Locker.Lock(ctx, plan.deployment)
		if err != nil {
			return Result{}, err
		}
		defer release()
		ctx = locked
	}
	t, err := o.observe(ctx, plan.deployment, plan.options)
	if err != nil {
		return Result{}, err
	}
	if err := plan.recheck(t); err != nil {
		return Result{}, err
	}
	r := &running{Operation: o, plan: plan, result: newResult(plan)}
	if err := r.open(ctx); err != nil {
		return Result{}, err
	}
	defer r.close()
	begin := time.Now()
	if err := r.follow(ctx); err != nil {
		return Result{}, err
	}
	if err := r.wait(ctx); err != nil {
		return Result{}, r.goesOn(err)
	}
	r.result.DurationSeconds = time.Since(begin).Seconds()
	return r.result, nil
}

// running is one resynchronisation in progress.
type running struct {
	Operation
	plan             *Plan
	result           Result
	primary, replica operation.Server
	full, partial    int64 // the primary's counters before
}

func (r *running) open(ctx context.Context) error {
	var err error
	if r.primary, err = r.Connector.Connect(ctx, r.plan.deployment, r.plan.primary.Instance); err != nil {
		return err
	}
	if r.replica, err = r.Connector.Connect(ctx, r.plan.deployment, r.plan.member.Instance); err != nil {
		_ = r.primary.Close() // the first error counts
		return err
	}
	// Where nothing has to be changed, the servers have been at it since the plan was
	// made.
	info := r.plan.primary.Info
	if r.plan.Changes() {
		if info, err = r.primary.Info(ctx, "stats"); err != nil {
			r.close()
			return err
		}
	}
	r.full, r.partial = info.Int("sync_full"), info.Int("sync_partial_ok")
	return nil
}

func (r *running) close() {
	_ = r.primary.Close() // everything was said
	_ = r.replica.Close()
}

// follow tells the instance what to follow.
//
// A full resynchronisation is forced by making the instance forget its history, which
// REPLICAOF NO ONE does: it goes on with a new replication ID, which no primary knows.
// Alone, that would make it a primary that takes writes for a moment; in one
// transaction with the REPLICAOF that follows, no client's command comes in between.
// (Tried with 6.0, 7.0, 8.0 and Valkey 8.1; a detour over another address is answered
// with a partial one.)
func (r *running) follow(ctx context.Context) error {
	p := r.plan
	command := []any{"REPLICAOF", p.host, strconv.Itoa(p.port)}
	var err error
	switch {
	case p.options.Full:
		r.Reporter.Step("making %s copy everything from %s", p.Instance, p.Primary)
		err = r.Atomic.Atomically(ctx, p.deployment, p.member.Instance, []any{"REPLICAOF", "NO", "ONE"}, command)
	case p.redirect:
		r.Reporter.Step("making %s follow %s", p.Instance, p.Primary)
		_, err = r.replica.Do(ctx, command...)
	}
	if err != nil {
		return &operation.Error{
			Kind: operation.KindOf(err), Object: p.Instance, Phase: "following " + p.Primary, Err: err,
			Unchanged: p.Primary + " is the primary; whether " + p.Instance + " obeyed is not known",
			Next:      "redisctl replication info shows whom it follows",
		}
	}
	return nil
}

// waitInterval is how often the instance is asked how far it has come.
const waitInterval = 50 * time.Millisecond

// wait returns when the link is up and the instance has all that the primary had when
// it came up.
func (r *running) wait(ctx context.Context) error {
	r.Reporter.Step("waiting until %s has caught up (a %s resynchronisation is expected)", r.plan.Instance, r.plan.Expect)
	linked := false
	last, moved := progress{}, time.Now()
	for {
		info, err := r.replica.Info(ctx, "replication")
		var state redis.Replication
		if err == nil {
			state, err = info.Replication()
		}
		if err == nil && r.up(state) {
			if !linked {
				if linked, err = r.linked(ctx, info); err != nil {
					return err
				}
			}
			if linked && state.ID == r.result.ReplicationID && state.Offset >= r.result.PrimaryOffset {
				r.result.Offset = state.Offset
				return nil
			}
		}
		if now := r.progress(ctx, info, err); now != last {
			last, moved = now, time.Now()
		}
		if time.Since(moved) > r.plan.options.Stall {
			return r.stalled(state, err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(waitInterval):
		}
	}
}

// up reports whether the instance follows what it was told to, with its link up.
func (r *running) up(state redis.Replication) bool {
	u := state.Upstream
	return u != nil && u.Host == r.plan.host && u.Port == r.plan.port && u.LinkUp
}

// linked notes where the primary is now, and how it has served the instance. False
// means that its answer must be awaited.
func (r *running) linked(ctx context.Context, replica redis.Info) (bool, error) {
	info, err := r.primary.Info(ctx)
	if err != nil {
		return false, nil //nolint:nilerr // a primary that went away meanwhile may come back
	}
	state, err := info.Replication()
	if err != nil {
		return false, err
	}
	if state.Role != redis.RolePrimary {
		return false, operation.Errorf(operation.Refused, "%s is no primary any more", r.plan.Primary)
	}
	r.result.ReplicationID, r.result.PrimaryOffset = state.ID, state.Offset
	r.result.FullResyncs = info.Int("sync_full") - r.full
	r.result.PartialResyncs = info.Int("sync_partial_ok") - r.partial
	r.result.Kind = r.kind(replica)
	return true, nil
}

// kind tells what the primary did. Its counters do not say for whom; where it served
// several replicas in both ways, the instance's own backlog decides: a full
// resynchronisation begins a new one.
func (r *running) kind(replica redis.Info) Kind {
	switch full, partial := r.result.FullResyncs, r.result.PartialResyncs; {
	case full <= 0 && partial <= 0:
		return KindNone
	case full <= 0:
		return KindPartial
	case partial <= 0, replica.Int("repl_backlog_first_byte_offset") > r.result.OffsetBefore+1:
		return KindFull
	default:
		return KindPartial
	}
}

// progress is what changes while a resynchronisation goes on.
type progress struct {
	link         string
	offset, left int64
	loaded       int64
}

func (r *running) progress(ctx context.Context, info redis.Info, err error) progress {
	if err != nil {
		return progress{}
	}
	now := progress{
		link: info.Get("master_link_status"), offset: info.Int("slave_repl_offset"), left: info.Int("master_sync_left_bytes"),
	}
	total, read := info.Int("master_sync_total_bytes"), info.Int("master_sync_read_bytes") // 6.2 and later
	switch {
	case info.Bool("master_sync_in_progress") && read > 0:
		now.left -= read
		r.Reporter.Progress(operation.Progress{Done: read, Total: max(0, total), Unit: "bytes", Detail: "receiving the data set"})
	case !info.Bool("master_sync_in_progress"):
		return now
	}
	if persistence, err := r.replica.Info(ctx, "persistence"); err == nil {
		now.loaded = persistence.Int("loading_loaded_bytes")
	}
	return now
}

func (r *running) stalled(state redis.Replication, err error) error {
	if err != nil {
		return operation.Errorf(operation.TimedOut, "%s does not answer any more: %w", r.plan.Instance, err)
	}
	what := "the link is down"
	switch {
	case state.Upstream == nil || !r.up(state) && (state.Upstream.Host != r.plan.host || state.Upstream.Port != r.plan.port):
		what = "it does not follow " + r.plan.Primary + " any more"
	case state.Upstream.SyncInProgress:
		what = "the copy of the data set does not go on"
	case state.Upstream.LinkUp:
		what = fmt.Sprintf("it is at offset %d of %d", state.Offset, r.result.PrimaryOffset)
	}
	return operation.Errorf(operation.TimedOut, "no progress for %s: %s", r.plan.options.Stall, what)
}

// goesOn says what a resynchronisation that nobody waits for any more does.
func (r *running) goesOn(err error) error {
	return &operation.Error{
		Kind: operation.KindOf(err), Object: r.plan.Instance, Phase: "catching up with " + r.plan.Primary, Err: err,
		Unchanged: r.plan.Primary + " is the primary; " + r.plan.Instance + " goes on trying to follow it by itself",
		Next:      "redisctl replication lag --watch; the instance's log says what is wrong",
	}
}
