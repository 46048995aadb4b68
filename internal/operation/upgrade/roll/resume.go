package roll

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/upgrade"
)

// Resume goes on with an upgrade that was interrupted. One that Helm has made no revision
// for is undone: it can be begun anew.
func (r Roll) Resume(ctx context.Context, d *operation.Deployment, l Limits) (Result, error) {
	return r.reopen(ctx, d, l, func(ctx context.Context, x *rolling) error {
		switch x.record.Phase {
		case PhaseReleasing:
			return x.release(ctx)
		case PhaseRolling:
			return x.forward(ctx)
		case PhaseChanging:
			return x.redo(ctx)
		default:
			return x.back(ctx)
		}
	})
}

// Abort brings the former revision back, as long as no server of the new one takes writes.
func (r Roll) Abort(ctx context.Context, d *operation.Deployment, l Limits) (Result, error) {
	return r.reopen(ctx, d, l, func(ctx context.Context, x *rolling) error {
		if x.record.Phase == PhaseReleasing && x.record.Undone {
			return x.release(ctx)
		}
		if slices.Contains([]Phase{PhaseRolling, PhaseReleasing}, x.record.Phase) && !x.record.AllowOlder {
			if err := x.settleFailover(ctx); err != nil {
				return x.incomplete("finishing the hand-over", err)
			}
			if x.committed(ctx, "") {
				return &operation.Error{
					Kind: operation.Refused, Object: x.object, Phase: "upgrade abort",
					Err:       fmt.Errorf("a server of %s serves already: one of %s may not be able to read what it writes", x.record.To, x.record.From),
					Unchanged: "nothing was changed",
					Next:      "redisctl upgrade resume goes on; after it, redisctl upgrade rollback goes back",
				}
			}
		}
		return x.back(ctx)
	})
}

// Forget gives up an upgrade that somebody else has overtaken: the workload replaces its
// pods by itself again, as its template says.
func (r Roll) Forget(ctx context.Context, d *operation.Deployment, l Limits) (Result, error) {
	return r.reopen(ctx, d, l, func(ctx context.Context, x *rolling) error {
		if err := x.letGo(ctx); err != nil {
			return x.incomplete("giving the update strategy back", err)
		}
		x.result.Outcome = OutcomeForgotten
		return nil
	})
}

// release ends an upgrade whose pods are as they are to be.
func (x *rolling) release(ctx context.Context) error {
	if x.record.Undone {
		x.result.Outcome = OutcomeUndone
	}
	if err := x.letGo(ctx); err != nil {
		return x.incomplete("giving the update strategy back", err)
	}
	return nil
}

// back undoes the upgrade, however far it has come.
func (x *rolling) back(ctx context.Context) error {
	var err error
	x.result.Outcome = OutcomeUndone
	if x.record.Phase == PhasePreparing {
		if err = x.settleFailover(ctx); err == nil {
			err = x.letGo(ctx)
		}
	} else {
		err = x.undo(ctx)
	}
	if err != nil {
		e := x.incomplete("undoing the upgrade", err)
		e.Next = "redisctl upgrade abort again"
		return e
	}
	return nil
}

// redo goes on after Helm was interrupted: its revision, if it has made one, says which
// chart and values the release was to have.
func (x *rolling) redo(ctx context.Context) error {
	if err := x.Releases.Settle(ctx, x.deployment); err != nil {
		return x.incomplete("settling the Helm release", err)
	}
	history, err := x.Releases.History(ctx, x.deployment)
	if err != nil {
		return x.incomplete("reading the Helm release", err)
	}
	newest := history[len(history)-1]
	switch {
	case newest.Number <= x.record.Former:
		return x.back(ctx) // Helm was not asked yet
	case newest.Number > x.record.Making:
		return x.incomplete("reading the Helm release",
			fmt.Errorf("%w: Helm's newest revision is %d, and this upgrade has asked for none after %d", errOvertaken, newest.Number, x.record.Making))
	case newest.Status == "deployed":
		x.record.Revision, x.result.Revision = newest.Number, newest.Number
		if err := x.adopt(ctx, PhaseRolling); err != nil {
			return x.incomplete("recording the revision", err)
		}
	default:
		if err := x.makeRevision(ctx, upgrade.Change{Back: newest.Number, Description: newest.Description}); err != nil {
			return x.goBack(ctx, "changing the release", err)
		}
	}
	return x.forward(ctx)
}

// reopen takes the lock and reads the record again, because whoever had it may have come
// further.
func (r Roll) reopen(
	ctx context.Context, d *operation.Deployment, l Limits, do func(context.Context, *rolling) error,
) (Result, error) {
	locked, release, err := r.Locker.Lock(ctx, d)
	if err != nil {
		return Result{}, err
	}
	defer release()
	record, err := r.Unfinished(locked, d)
	if err != nil {
		return Result{}, err
	}
	if record == nil {
		return Result{}, &operation.Error{
			Kind: operation.Refused, Object: d.String(), Phase: "reading the record",
			Err: errors.New("no upgrade is unfinished"), Unchanged: "nothing was changed",
		}
	}
	x := &rolling{Roll: r, deployment: d, object: d.String(), limits: l, record: *record, begun: r.Now()}
	x.result = x.newResult()
	if record.Revision > 0 {
		x.result.Revision = record.Revision
	}
	return x.finish(locked, do(locked, x))
}
