package backup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
)

// errorPatience is how long the storage may report an error before the snapshot is given
// up: drivers try again by themselves, first after seconds.
const errorPatience = 20 * time.Second

// cleanupLimit bounds the removal of a snapshot that came to nothing.
const cleanupLimit = 15 * time.Second

// Apply makes the snapshots and returns those that can be used. Each instance is made to
// write its data, its volume's snapshot is created, and the lock is held until the
// storage has taken it; copying it to its place, which may take long, is waited for
// without the lock. When some fail, the error is of kind Partial.
//
// A snapshot that was not taken is removed again. One that was taken, but cannot be used
// in time, stays: it may still become usable.
func (b VolumeBackup) Apply(ctx context.Context, p *VolumePlan) ([]VolumeSnapshot, error) {
	if err := p.Refusal(); err != nil {
		return nil, err
	}
	failures := make([]error, len(p.Snapshots))
	if err := b.takeAll(ctx, p, failures); err != nil {
		return nil, err
	}
	var usable []VolumeSnapshot
	for i := range p.Snapshots {
		if failures[i] != nil {
			continue
		}
		s, err := b.finish(ctx, p, p.Snapshots[i].Name)
		if failures[i] = err; err == nil {
			usable = append(usable, s)
		}
	}
	var failed []error
	for _, err := range failures {
		if err != nil {
			failed = append(failed, err)
		}
	}
	if len(failed) == 0 || len(usable) == 0 && len(failed) == 1 {
		return usable, errors.Join(failed...)
	}
	e := &operation.Error{Kind: operation.Partial, Object: p.Object, Phase: "backup volume", Err: errors.Join(failed...)}
	if len(usable) == 0 {
		e.Kind = operation.KindOf(failed[0])
	}
	return usable, e
}

// takeAll has the snapshots taken under the release's lock.
func (b VolumeBackup) takeAll(ctx context.Context, p *VolumePlan, failures []error) error {
	for _, s := range p.Snapshots {
		if s.Persistence != PersistenceUnknown {
			if err := sameServer(ctx, b.Connector, p.deployment, s.source); err != nil {
				return err
			}
		}
	}
	locked, release, err := b.Locker.Lock(ctx, p.deployment)
	if err != nil {
		return err
	}
	defer release()
	for i := range p.Snapshots {
		if failures[i] = b.take(locked, p, &p.Snapshots[i]); failures[i] != nil && locked.Err() != nil {
			return failures[i]
		}
	}
	return nil
}

// take makes one instance write its data, and has its volume's snapshot taken.
func (b VolumeBackup) take(ctx context.Context, p *VolumePlan, s *PlannedSnapshot) error {
	contents, err := b.prepare(ctx, p, s)
	if err != nil {
		err = failed(ctx, p.Object, "making "+s.Instance+" write its data", err)
		return withOverride(err)
	}
	b.Reporter.Step("taking VolumeSnapshot %s of claim %s (class %s)", s.Name, s.Claim, s.Class)
	namespace := p.deployment.Namespace
	// A request that Ctrl-C cuts short may have been carried out: it is let finish, and
	// what it made is removed below.
	err = b.Volumes.CreateSnapshot(context.WithoutCancel(ctx), VolumeSnapshot{
		Namespace: namespace, Name: s.Name, Release: p.deployment.Release, Claim: s.Claim, Class: s.Class, Holds: contents,
	})
	if err != nil {
		return failed(ctx, fullName(namespace, s.Name), "creating it", err)
	}
	_, err = b.await(ctx, p, s.Name, func(v VolumeSnapshot) bool { return v.Taken != nil || v.Ready })
	if err != nil {
		return b.discard(ctx, namespace, s.Name, "waiting until it is taken", err)
	}
	return nil
}

// withOverride names the flag that takes a volume all the same.
func withOverride(err error) error {
	var e *operation.Error
	if !errors.As(err, &e) || e.Next != "" || e.Kind == operation.Interrupted {
		return err
	}
	kept := *e
	kept.Next = overrideAsIs + " takes the volume as it is"
	return &kept
}

// prepare makes the files on an instance's volume worth having, and returns what is then
// known of them.
func (b VolumeBackup) prepare(ctx context.Context, p *VolumePlan, s *PlannedSnapshot) (*VolumeContents, error) {
	if s.Persistence == PersistenceUnknown {
		b.Reporter.Warn("%s is not asked to write its data: the snapshot holds what is on the disk, as after a power failure", s.Instance)
		return b.contents(s), nil
	}
	server, err := b.Connector.Connect(ctx, p.deployment, s.source.Instance)
	if err != nil {
		return nil, err
	}
	defer func() { _ = server.Close() }() // the answers are here; closing can only fail to say goodbye
	// Before the data is written: then all that this says is in the snapshot.
	if s.source.Info, err = server.Info(ctx); err != nil {
		return nil, err
	}
	if s.source.Replication, err = s.source.Info.Replication(); err != nil {
		return nil, err
	}
	contents := b.contents(s)
	if s.Persistence == PersistenceAOF {
		return contents, b.awaitSync(ctx, server, s)
	}
	b.Reporter.Step("BGSAVE on %s (%s)", s.Instance, s.source.Replication.Role)
	saved, err := b.Saver.Save(ctx, p.deployment, s.source.Instance, b.Reporter)
	if err == nil {
		b.Reporter.Note("saved to %s in %s", saved.Path, saved.Took.Round(time.Millisecond))
	}
	return contents, err
}

// contents says what the last INFO of the source tells.
func (b VolumeBackup) contents(s *PlannedSnapshot) *VolumeContents {
	c := &VolumeContents{
		Redisctl: b.Version, Instance: s.Instance, Persistence: s.Persistence, AsOf: b.Now().UTC(), Keys: s.source.Info.Keyspace(),
	}
	if s.source.Err == nil {
		r := s.source.Replication
		c.Role, c.Product, c.Version = string(r.Role), s.source.Version.Product, s.source.Version.Number()
		c.ReplicationID, c.ReplicationOffset = r.ID, r.Offset
	}
	return c
}

// errGivenUp is the cause of a wait that ended because the storage kept failing.
var errGivenUp = errors.New("the storage reports an error")

// await waits until done. It gives up when the storage reports an error for longer than
// errorPatience, or after the time that the options allow.
func (b VolumeBackup) await(
	parent context.Context, p *VolumePlan, name string, done func(VolumeSnapshot) bool,
) (VolumeSnapshot, error) {
	limit := p.options.Ready
	ctx, cancel := context.WithTimeoutCause(parent, limit, fmt.Errorf("not done within %s: %w", limit, context.DeadlineExceeded))
	defer cancel()
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	var problem string
	var timer *time.Timer
	defer func() {
		if timer != nil {
			timer.Stop()
		}
	}()
	state, err := b.Volumes.AwaitSnapshot(ctx, p.deployment.Namespace, name, func(v VolumeSnapshot) (bool, error) {
		switch {
		case done(v):
			return true, nil
		case v.Problem == "" && timer != nil:
			timer.Stop()
			timer = nil
		case v.Problem != "" && timer == nil:
			timer = time.AfterFunc(errorPatience, func() { giveUp(errGivenUp) })
		}
		if v.Problem != "" && v.Problem != problem {
			b.Reporter.Warn("the storage reports, and may try again: %s", v.Problem)
		}
		problem = v.Problem
		return false, nil
	})
	switch {
	case err == nil || parent.Err() != nil:
		return state, err
	case errors.Is(context.Cause(ctx), errGivenUp):
		return state, &operation.Error{Kind: operation.Failed, Err: fmt.Errorf("%w: %s", errGivenUp, problem)}
	case errors.Is(context.Cause(ctx), context.DeadlineExceeded):
		return state, &operation.Error{Kind: operation.TimedOut, Err: context.Cause(ctx)}
	default:
		return state, err
	}
}

// discard removes a snapshot that came to nothing, also when ctx has ended, and adds to
// err what has become of it.
func (b VolumeBackup) discard(ctx context.Context, namespace, name, phase string, err error) error {
	e := &operation.Error{Kind: operation.KindOf(err), Object: fullName(namespace, name), Phase: phase, Err: err}
	if cause := context.Cause(ctx); cause != nil {
		e.Err, e.Kind = cause, operation.KindOf(cause)
		if errors.Is(cause, operation.ErrLeaseLost) {
			e.Kind = operation.Interrupted
		}
	}
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupLimit)
	defer cancel()
	if removal := b.Volumes.DeleteSnapshot(cleanup, namespace, name); removal != nil {
		e.Unchanged = fmt.Sprintf("%s exists and is not usable; it could not be removed: %v", e.Object, removal)
		e.Next = kubectl("delete", namespace, name)
		return e
	}
	e.Unchanged = "the snapshot was removed again; older ones are untouched"
	return e
}

// finish waits until a snapshot can be used, and checks it.
func (b VolumeBackup) finish(ctx context.Context, p *VolumePlan, name string) (VolumeSnapshot, error) {
	namespace := p.deployment.Namespace
	b.Reporter.Step("waiting until VolumeSnapshot %s can be used", name)
	s, err := b.await(ctx, p, name, func(v VolumeSnapshot) bool { return v.Ready && v.Content != "" })
	if errors.Is(err, errGivenUp) {
		return s, b.discard(ctx, namespace, name, "waiting until it can be used", err)
	}
	if err != nil {
		return s, &operation.Error{
			Kind: operation.KindOf(err), Object: fullName(namespace, name), Phase: "waiting until it can be used", Err: err,
			Unchanged: "the snapshot was taken and stays: it may still become usable",
			Next:      kubectl("get", namespace, name) + "; to remove it: " + kubectl("delete", namespace, name),
		}
	}
	if s.Holds == nil || s.Problem != "" {
		return s, &operation.Error{
			Kind: operation.Failed, Object: fullName(namespace, name), Phase: "checking it",
			Err: fmt.Errorf("it is not as it was made: error %q, annotation %s readable: %t", s.Problem, AnnotationContents, s.Holds != nil),
		}
	}
	return s, nil
}
