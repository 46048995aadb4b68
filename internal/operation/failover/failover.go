// Package failover hands the primary's role over, and keeps it where it is meant to
// be.
//
// The order of a planned switch follows from one rule: there is never a moment at
// which two servers take writes, and hardly one at which none has all the data.
// The primary's writes are paused, the pause's end in the replication stream is
// awaited on the target, the old primary is demoted for good, and only then the
// target is promoted. Whatever dies in between, each acknowledged write is on both.
//
// FAILOVER, which servers have from 6.2 on, follows the same order and is not used:
// the replica it waits for acknowledges once a second, so that writes wait for 51 to
// 854 ms (measured on 7.0.15), instead of 11 to 32 ms when the offsets are asked for.
package failover

import (
	"context"
	"fmt"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
)

// Failover has what the operations of this package work with. Fields are required
// unless they say otherwise.
type Failover struct {
	Connector operation.Connector
	Pauser    Pauser
	Traffic   Traffic
	Notes     operation.Notes
	Locker    operation.Locker
	// Cluster is nil for plain addresses.
	Cluster Cluster
	// Resolver finds a deployment again, after pods have restarted. Force and Heal
	// need it.
	Resolver operation.Resolver
	// Copies compares and keeps data sets. Heal and Force need it.
	Copies Copies
	// Leave tells which instances the end of a switch to the instance to does not wait for;
	// nil for none. They are about to be replaced, or may be too old to copy its data.
	Leave    func(from, to, instance string) bool
	Reporter operation.Reporter
	Now      func() time.Time
	// By names the operator in records.
	By string
}

// Limits bound how long the parts of a switch may take.
type Limits struct {
	// Timeout bounds each answer of a server.
	Timeout time.Duration
	// Pause bounds how long writes wait.
	Pause time.Duration
	// Settle bounds what follows a switch: replicas in sync, endpoints moved.
	Settle time.Duration
}

// DefaultLimits returns the limits that the commands begin with.
func DefaultLimits() Limits {
	return Limits{Timeout: 5 * time.Second, Pause: 5 * time.Second, Settle: 60 * time.Second}
}

// lockedBy returns an *Error of kind Locked when another operator holds d's lock:
// what was observed meanwhile is of a moment in between.
func (f Failover) lockedBy(ctx context.Context, d *operation.Deployment) error {
	lock, ok := f.Locker.(operation.LockReader)
	if !ok {
		return nil
	}
	holder, err := lock.LockHolder(ctx, d)
	// Whoever may not read the lock learns of it when taking it.
	if err == nil && holder != "" {
		return &operation.Error{
			Kind: operation.Locked, Object: d.String(), Phase: "planning", Err: fmt.Errorf("%s is changing it", holder),
			Unchanged: "nothing was changed", Next: "wait until that is done",
		}
	}
	return nil
}

// orLocked returns a plan as it was made, unless it failed or is blocked while another
// operator is at work: then that is the reason.
func orLocked[P interface{ Refusal() error }](
	ctx context.Context, f Failover, d *operation.Deployment, plan P, err error,
) (P, error) {
	refusal := err
	if err == nil {
		refusal = plan.Refusal()
	}
	if refusal != nil {
		if locked := f.lockedBy(ctx, d); locked != nil {
			var none P
			return none, locked
		}
	}
	return plan, err
}

// outdated says that a plan no longer rests on facts.
func outdated(object, format string, args ...any) *operation.Error {
	return &operation.Error{
		Kind: operation.Refused, Object: object, Phase: "re-checking the plan",
		Err: fmt.Errorf(format, args...), Unchanged: "nothing was changed", Next: "run the command again",
	}
}

// overtaken says that somebody else was faster.
func overtaken(object, format string, args ...any) *operation.Error {
	e := outdated(object, format, args...)
	e.Kind = operation.Locked
	e.Next = "redisctl failover status shows where the primary is now"
	return e
}
