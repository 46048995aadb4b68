package failover

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/redis"
)

// Outcome is what became of an unfinished failover.
type Outcome string

// The outcomes of Resume and Abort.
const (
	// OutcomeUndone: the old primary is the primary.
	OutcomeUndone Outcome = "undone"
	// OutcomeCompleted: the new primary serves, and everybody follows it.
	OutcomeCompleted Outcome = "completed"
)

// Resume finishes a failover that was interrupted, or undoes it when the old
// primary had not been demoted yet. Which of the two is decided by the servers'
// roles, not by the record: they are what was really done.
//
// It refuses, without a change, when both sides take writes, or when the new
// primary lacks something that the old one has: then data is at stake.
func (f Failover) Resume(ctx context.Context, d *operation.Deployment, l Limits) (Outcome, Result, error) {
	return f.reopen(ctx, d, l, "failover resume", func(ctx context.Context, r *reopened) (Outcome, error) {
		switch r.state() {
		case stateNotDemoted:
			return OutcomeUndone, r.undo(ctx)
		case stateNotPromoted:
			if err := r.promoteAnyway(ctx); err != nil {
				return "", err
			}
		case statePromoted:
			if err := r.forward(ctx); err != nil {
				return "", err
			}
		case stateBoth:
			return "", r.bothWrite()
		case stateTargetGone:
			return "", r.targetGone()
		case stateAllGone:
			return "", r.refuse("%s does not answer, and whether %s has all its data cannot be told: %w", r.plan.From, r.plan.To, cmp.Or(r.from.Err, r.to.Err)).
				then("wait for " + r.plan.From + ", or redisctl failover force promotes the replica with the most data")
		}
		return OutcomeCompleted, nil
	})
}

// targetGone refuses to go on without the target.
func (r *reopened) targetGone() error {
	refusal := r.refuse("%s, which was to become the primary, does not answer: %w", r.plan.To, r.to.Err)
	if r.record.Promoted {
		return refusal.then("wait for it: it was promoted and may have taken writes; redisctl failover force gives it up")
	}
	return refusal.then("wait for it, or redisctl failover abort --allow-unreachable makes " + r.plan.From + " the primary again")
}

// AbortOptions are the user's choices for Abort.
type AbortOptions struct {
	Limits
	// AllowUnreachable goes on although the target does not answer: were it promoted
	// in its last moment, what it acknowledged then would be lost.
	AllowUnreachable bool
}

// Abort undoes a failover that was interrupted, while its target is not the primary
// yet: the old primary is the primary again. It refuses when the target may have
// taken writes.
func (f Failover) Abort(ctx context.Context, d *operation.Deployment, o AbortOptions) (Result, error) {
	_, result, err := f.reopen(ctx, d, o.Limits, "failover abort", func(ctx context.Context, r *reopened) (Outcome, error) {
		switch r.state() {
		case stateNotDemoted:
			return OutcomeUndone, r.undo(ctx)
		case stateNotPromoted:
			if relation := compare(r.to, r.from); !relation.contained {
				return "", r.refuse("%s may have data that %s lacks: %s", r.plan.To, r.plan.From, relation.why).then(healCompares)
			}
			return OutcomeUndone, r.goBack(ctx)
		case stateTargetGone:
			if r.record.Promoted || !o.AllowUnreachable {
				return "", r.targetGone()
			}
			return OutcomeUndone, r.goBack(ctx)
		case statePromoted:
			return "", r.refuse("%s is the primary already", r.plan.To).
				then("redisctl failover resume completes the switch; after it, redisctl failover promote " + r.plan.From + " goes back")
		case stateBoth:
			return "", r.bothWrite()
		default:
			return "", r.refuse("%s does not answer: %w", r.plan.From, cmp.Or(r.from.Err, r.to.Err)).
				then("redisctl failover force promotes the replica with the most data")
		}
	})
	return result, err
}

const healCompares = "redisctl replication heal --dry-run compares their data"

// bothWrite refuses to choose a side.
func (r *reopened) bothWrite() error {
	return r.refuse("both %s and %s take writes; what only one of them has would be lost", r.plan.From, r.plan.To).then(healCompares)
}

// reopened is an interrupted switch whose state was rebuilt.
type reopened struct {
	*switching
	record Record
	// fenced is set when the old primary says that it is one but refuses writes.
	fenced bool
}

// reopen takes the lock, observes the deployment, rebuilds the switch from its record
// and hands it to act.
func (f Failover) reopen(
	ctx context.Context, d *operation.Deployment, l Limits, name string,
	act func(context.Context, *reopened) (Outcome, error),
) (Outcome, Result, error) {
	record, err := load(ctx, f.Notes, d)
	if err != nil {
		return "", Result{}, err
	}
	if record == nil {
		return "", Result{}, &operation.Error{
			Kind: operation.Refused, Object: d.String(), Phase: name,
			Err: errors.New("there is no unfinished failover"), Unchanged: "nothing was changed",
			Next: "redisctl failover status",
		}
	}
	locked, release, err := f.Locker.Lock(ctx, d)
	if err != nil {
		return "", Result{}, err
	}
	defer release()
	t := topology.Observe(locked, f.Connector, d, l.Timeout)
	// Servers that let nobody in are not gone: nothing that follows would be good advice.
	if err := t.Denied(); err != nil {
		return "", Result{}, err
	}
	r := &reopened{record: *record}
	r.switching = f.newSwitching(&Plan{
		Plan: operation.Plan{Operation: name, Object: d.String()},
		From: record.From, To: record.To, Services: record.Services,
		deployment: d, topology: t, options: Options{Limits: l},
	})
	if r.from == nil || r.to == nil {
		return "", Result{}, r.refuse("%s no longer has both %s and %s", d, record.From, record.To).
			then("redisctl replication heal brings everybody to one primary and removes the record")
	}
	if r.from.Err == nil && r.from.Replication.Role == redis.RolePrimary {
		if r.fenced, err = f.Pauser.Fenced(locked, d, r.from.Instance); err != nil {
			return "", Result{}, err
		}
	}
	// What was begun is finished or undone, whoever interrupts it now.
	acting, cancel := context.WithTimeout(context.WithoutCancel(locked), l.Settle)
	defer cancel()
	outcome, err := act(acting, r)
	r.result.Settled = r.settled
	return outcome, r.result, err
}

// state is how far an interrupted switch has come.
type state int

const (
	stateNotDemoted  state = iota // the old primary is the only one, and takes writes
	stateNotPromoted              // the old primary takes no writes, the target neither
	statePromoted                 // the target is the only one that takes writes
	stateBoth                     // both take writes
	stateTargetGone               // the target does not answer, and the old primary is none
	stateAllGone                  // the old primary does not answer, and the target is none
)

func (r *reopened) state() state {
	fromAnswers, toAnswers := r.from.Err == nil, r.to.Err == nil
	fromPrimary := fromAnswers && r.from.Replication.Role == redis.RolePrimary
	toPrimary := toAnswers && r.to.Replication.Role == redis.RolePrimary
	switch {
	case toPrimary && fromPrimary && !r.fenced:
		return stateBoth
	case toPrimary:
		return statePromoted
	case fromPrimary && !r.fenced:
		return stateNotDemoted
	case fromAnswers && toAnswers:
		return stateNotPromoted
	case fromAnswers:
		return stateTargetGone
	default:
		return stateAllGone
	}
}

// refusal is an error that can still be told what to do next.
type refusal struct{ operation.Error }

func (r *reopened) refuse(format string, args ...any) *refusal {
	return &refusal{operation.Error{
		Kind: operation.Refused, Object: r.object, Phase: r.plan.Operation, Err: fmt.Errorf(format, args...),
		Unchanged: "nothing was changed",
	}}
}

func (r *refusal) then(next string) *operation.Error {
	e := r.Error
	e.Next = next
	return &e
}

// undo ends what is left of the pause, and sends the clients of the Services back.
// The old primary was not demoted.
func (r *reopened) undo(ctx context.Context) error {
	r.Reporter.Step("%s was not demoted: it stays the primary", r.plan.From)
	if err := r.connect(ctx); err != nil {
		return err
	}
	defer r.close()
	if err := r.Pauser.LetWrites(ctx, r.deployment, r.from.Instance, r.record.MinReplicas); err != nil {
		return err
	}
	if err := r.leadBack(ctx); err != nil {
		return err
	}
	return forget(ctx, r.Notes, r.deployment)
}

// promoteAnyway promotes the target, if it has everything that the old primary has,
// and completes the switch.
func (r *reopened) promoteAnyway(ctx context.Context) error {
	if relation := compare(r.from, r.to); !relation.contained {
		return r.refuse("%s may lack data that %s has: %s", r.plan.To, r.plan.From, relation.why).then(healCompares)
	}
	if err := r.open(ctx); err != nil {
		return err
	}
	defer r.close()
	if err := r.promote(ctx); err != nil {
		return r.incomplete("promoting "+r.plan.To, err)
	}
	return r.settle(ctx)
}

// forward completes a switch whose target is the primary.
func (r *reopened) forward(ctx context.Context) error {
	if err := r.open(ctx); err != nil {
		return err
	}
	defer r.close()
	return r.settle(ctx)
}

// settle lets everybody who answers follow the target.
func (r *reopened) settle(ctx context.Context) error {
	r.repoint = nil
	for name := range r.servers {
		if name != r.plan.To {
			r.repoint = append(r.repoint, name)
		}
	}
	err := r.complete(ctx)
	if err == nil && r.from.Err == nil {
		err = r.letGo(ctx)
	}
	if err != nil {
		return r.incomplete("completing the switch", err)
	}
	if err := finish(ctx, r.Notes, r.deployment, r.plan.To); err != nil {
		return r.incomplete("recording the new primary", err)
	}
	return nil
}

// letGo takes the fence of the old primary down and drops its clients.
func (r *reopened) letGo(ctx context.Context) error {
	if err := r.Pauser.LetWrites(ctx, r.deployment, r.from.Instance, r.record.MinReplicas); err != nil {
		return err
	}
	_, err := r.servers[r.plan.From].Do(ctx, "CLIENT", "KILL", "TYPE", "normal")
	return err
}

// goBack makes the old primary the primary again. Nobody took writes since it was
// demoted, so that it has everything.
func (r *reopened) goBack(ctx context.Context) error {
	r.Reporter.Step("making %s the primary again", r.plan.From)
	back := r.handover
	back.to, back.moves, back.repoint = r.from, nil, nil
	if err := back.open(ctx); err != nil {
		return err
	}
	defer back.close()
	if err := back.promote(ctx); err != nil {
		return err
	}
	if err := r.Pauser.LetWrites(ctx, r.deployment, r.from.Instance, r.record.MinReplicas); err != nil {
		return err
	}
	for name := range back.servers {
		if name != r.plan.From {
			back.repoint = append(back.repoint, name)
		}
	}
	for _, service := range r.deployment.Services {
		if service.PodSelector == r.plan.To {
			back.moves = append(back.moves, Move{Service: service.Name, From: r.plan.To})
		}
	}
	if err := back.complete(ctx); err != nil {
		return &operation.Error{
			Kind: operation.KindOf(err), Object: r.object, Phase: "going back to " + r.plan.From, Err: err,
			Unchanged: r.plan.From + " is the primary and has all data", Next: "redisctl failover abort again",
		}
	}
	r.settled = back.settled
	return forget(ctx, r.Notes, r.deployment)
}
