package volume

import (
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore"
)

// ResumeOptions are the user's choices for an unfinished restore.
type ResumeOptions struct {
	// Source is what is restored; nil when it cannot be read.
	Source Source
	// AcceptDifferences goes on although the data is not what the backup holds, or
	// was not compared with it.
	AcceptDifferences bool
	// Sample is about how many keys are compared with the backup; 0 for all.
	Sample int64
	Limits Limits
}

// Unfinished returns the record of an unfinished restore through the volume, or nil.
func (r Restore) Unfinished(ctx context.Context, d *operation.Deployment) (*Record, error) {
	record, err := restore.LoadRecord[Record](ctx, r.Notes, d)
	if err != nil || record == nil || record.Method != Method {
		return nil, err
	}
	return record, nil
}

// Resume goes on with a restore that was interrupted. One whose files were not in
// place yet is undone: nothing was restored, and it can be begun anew.
func (r Restore) Resume(ctx context.Context, d *operation.Deployment, o ResumeOptions) (Result, error) {
	return r.reopen(ctx, d, o, func(ctx context.Context, x *restoring) (Result, error) {
		x.record.Compared = x.record.Compared || o.AcceptDifferences
		switch x.record.Phase {
		case PhaseSwapping:
			if err := x.swap(ctx); err != nil {
				x.closeVolume(ctx)
				return x.result, x.incomplete("moving the files", err)
			}
		case PhaseStarting, PhaseComparing, PhaseReplicas:
		default:
			return x.back(ctx)
		}
		if !x.record.Compared && o.Source == nil {
			return x.result, x.incomplete("reading the backup", errors.New("without it the data cannot be compared; --accept-differences goes on without"))
		}
		return x.forward(ctx)
	})
}

// Abort brings the former data back, however far the restore has come.
func (r Restore) Abort(ctx context.Context, d *operation.Deployment, l Limits) (Result, error) {
	return r.reopen(ctx, d, ResumeOptions{Limits: l}, func(ctx context.Context, x *restoring) (Result, error) {
		return x.back(ctx)
	})
}

func (x *restoring) back(ctx context.Context) (Result, error) {
	x.Reporter.Step("bringing the former data back")
	if err := x.goBack(ctx); err != nil {
		e := x.incomplete("bringing the former data back", err)
		e.Next = "redisctl restore abort again"
		return x.result, e
	}
	x.result.Outcome, x.result.KeptIn = OutcomeUndone, ""
	return x.result, nil
}

// reopen takes the lock and reads the record again, because whoever had it may have
// come further.
func (r Restore) reopen(
	ctx context.Context, d *operation.Deployment, o ResumeOptions, do func(context.Context, *restoring) (Result, error),
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
			Err: errors.New("no restore is unfinished"), Unchanged: "nothing was changed",
		}
	}
	claim, err := r.Volumes.Claim(locked, d, record.Claim)
	if err != nil {
		return Result{}, fmt.Errorf("the volume of the restore: %w", err)
	}
	x := &restoring{
		Restore: r, deployment: d, object: d.String(), options: Options{Limits: o.Limits, Sample: o.Sample}, source: o.Source, claim: claim,
		record: *record, result: newResult(d, record.Backup),
	}
	x.result.SafetyBackup = record.SafetyBackup
	x.result.KeptIn = path.Join(record.Swap.Dir, record.Swap.Kept)
	return do(locked, x)
}
