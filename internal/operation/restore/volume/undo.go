package volume

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore"
)

// unchanged is an error before anything was changed.
func (x *restoring) unchanged(phase string, err error) *operation.Error {
	return &operation.Error{
		Kind: operation.KindOf(err), Object: x.object, Phase: phase, Err: err, Unchanged: "the release serves its former data",
	}
}

// incomplete is an error that leaves a record.
func (x *restoring) incomplete(phase string, err error) *operation.Error {
	return &operation.Error{
		Kind: operation.KindOf(err), Object: x.object, Phase: phase, Err: err,
		Unchanged: "the former files are in " + x.record.Swap.Kept + " on the volume " + x.record.Claim,
		Next:      "redisctl restore resume goes on; redisctl restore abort brings the former data back",
	}
}

// retreat undoes what was done before the backup's files were in place, also after
// Ctrl-C. Only a lost lock leaves everything as it is: somebody else has it.
func (x *restoring) retreat(ctx context.Context, phase string, err error) error {
	if errors.Is(context.Cause(ctx), operation.ErrLeaseLost) {
		x.closeVolume(ctx)
		return x.incomplete(phase, err)
	}
	x.Reporter.Step("undoing: %v", err)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), x.patience())
	defer cancel()
	if undone := x.goBack(ctx); undone != nil {
		return x.incomplete(phase, fmt.Errorf("%w; and undoing it: %w", err, undone))
	}
	return x.unchanged(phase, err)
}

// patience bounds an undoing that goes on after Ctrl-C.
func (x *restoring) patience() time.Duration {
	l := x.options.Limits
	return 2*l.Stop + l.Start
}

// rollBack brings the former files back, because the server does not start with the
// new ones.
func (x *restoring) rollBack(ctx context.Context, failed *startError) error {
	x.Reporter.Step("%s: bringing the former files back", failed.reason)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), x.patience())
	defer cancel()
	if err := x.goBack(ctx); err != nil {
		return x.incomplete("bringing the former files back", fmt.Errorf("%w; and: %w", failed, err))
	}
	x.result.Outcome, x.result.KeptIn = OutcomeUndone, ""
	return x.unchanged("starting with the restored files", failed)
}

// goBack makes the release what it was before: files, pods, and no record. It can be
// called at any point, and again.
func (x *restoring) goBack(ctx context.Context) error {
	if err := x.enter(ctx, PhaseUndoing); err != nil {
		return err
	}
	if x.record.Moved {
		if err := x.scaleDown(ctx); err != nil {
			return err
		}
	}
	if err := x.undoFiles(ctx); err != nil {
		return err
	}
	if x.record.Stopped {
		if err := x.restart(ctx); err != nil {
			return err
		}
	}
	return restore.ForgetRecord(ctx, x.Notes, x.deployment)
}

// undoFiles puts the former files back, and removes what was staged.
func (x *restoring) undoFiles(ctx context.Context) error {
	if err := x.open(ctx, x.node(), ""); err != nil {
		return err
	}
	defer x.closeVolume(ctx)
	x.deleteClaim(ctx)
	return x.volume.Undo(ctx, x.record.Swap)
}

// restart starts all pods with the former data.
func (x *restoring) restart(ctx context.Context) error {
	now, err := x.desired(ctx)
	if err != nil {
		return err
	}
	if now != x.record.Replicas {
		x.Reporter.Step("starting all %d pods again", x.record.Replicas)
		if err := x.Volumes.Scale(ctx, x.deployment, now, x.record.Replicas); err != nil {
			return err
		}
	}
	_, err = x.awaitLoaded(ctx)
	return err
}
