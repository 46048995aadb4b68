package failover

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/redis"
)

// Replacement is a switch to a server that cannot replicate from the primary: it has its
// own history, and its data is brought to it while writes wait.
type Replacement struct {
	// Deployment has the two servers, and the Services that lead to From.
	Deployment *operation.Deployment
	// From and To are instances; To is a primary of its own.
	From, To string
	// Limits.Pause bounds how long writes wait, Bring included.
	Limits Limits
	// Bring gives To exactly the data of From, and proves it. Its context ends before
	// writes would go on.
	Bring func(ctx context.Context) error
}

// The address of nobody: what follows it keeps its data, takes no writes, and lets its own
// replicas follow on.
const (
	nobodyHost = "127.0.0.1"
	nobodyPort = 1
)

// replacing is a Replacement in progress.
type replacing struct {
	handover
	from   *topology.Member
	paused Paused
	result Result
}

func (f Failover) newReplacing(ctx context.Context, r Replacement) (*replacing, error) {
	t := topology.Observe(ctx, f.Connector, r.Deployment, r.Limits.Timeout)
	d := r.Deployment
	x := &replacing{
		handover: handover{
			Failover: f, object: d.String(), deployment: d, topology: &t, limits: r.Limits, to: t.Member(r.To), old: r.From,
		},
		from:   t.Member(r.From),
		result: Result{Namespace: d.Namespace, Release: d.Release, Name: d.Name, From: r.From, To: r.To, Settled: newSettled()},
	}
	for _, m := range []*topology.Member{x.from, x.to} {
		if m.Err != nil {
			return nil, m.Err
		}
	}
	for _, s := range d.Services {
		x.moves = append(x.moves, Move{Service: s.Name, From: r.From})
	}
	x.untried, _ = f.tryBefore(ctx, &t, x.services(), x.from)
	return x, nil
}

func (x *replacing) services() []string {
	names := make([]string, len(x.moves))
	for i, m := range x.moves {
		names[i] = m.Service
	}
	return names
}

// Replace switches. An error before the demotion leaves the old primary serving, and says
// so; writes then go on. The lock is the caller's. The Services are moved last, because
// until then To is not to be written to.
func (f Failover) Replace(ctx context.Context, r Replacement) (Result, error) {
	x, err := f.newReplacing(ctx, r)
	if err != nil {
		return Result{}, err
	}
	if err := x.connect(ctx); err != nil {
		return Result{}, err
	}
	defer x.close()
	record := Record{From: r.From, To: r.To, Begun: f.Now().UTC(), By: f.By, Services: x.services()}
	if err := save(ctx, f.Notes, x.deployment, record); err != nil {
		return x.result, x.failed("recording the switch", err)
	}
	if err := x.bring(ctx, r.Bring); err != nil {
		return x.result, x.undo(ctx, err)
	}
	// From here on the switch is completed, whoever interrupts it.
	forward, cancel := context.WithTimeout(context.WithoutCancel(ctx), x.limits.Settle)
	defer cancel()
	if err := x.paused.Demote(forward, nobodyHost, nobodyPort); err != nil {
		return x.result, x.incomplete("demoting "+r.From, err)
	}
	x.result.Changed = true
	return x.finish(forward)
}

// bring pauses writes and brings the data over.
func (x *replacing) bring(ctx context.Context, bring func(context.Context) error) error {
	x.Reporter.Step("pausing writes on %s for %s at most", x.from.Name, x.pause())
	x.begun = time.Now()
	paused, err := x.Pauser.Pause(ctx, x.deployment, x.from.Instance, x.limits.Pause)
	if err != nil {
		return err
	}
	x.paused = paused
	x.demoted = append(x.demoted, demotion{x.from.Name, paused})
	x.result.ReplicationID, x.result.Offset = paused.End()
	// What is left of the pause must suffice for the demotion.
	last := paused.Until().Add(-min(x.limits.Timeout, x.limits.Pause/4))
	bounded, cancel := context.WithDeadline(ctx, last)
	defer cancel()
	err = bring(bounded)
	if bounded.Err() != nil && ctx.Err() == nil {
		return operation.Errorf(operation.TimedOut, "it takes longer than writes may wait (%s)", x.pause())
	}
	if err != nil {
		return err
	}
	return x.unwritten(ctx)
}

// pause is how long writes may wait, as it is told.
func (x *replacing) pause() time.Duration { return x.limits.Pause.Round(100 * time.Millisecond) }

// unwritten makes sure that nobody has ended the pause: a server counts the changes of its
// data since its last save.
func (x *replacing) unwritten(ctx context.Context) error {
	now, err := x.servers[x.from.Name].Info(ctx)
	if err != nil {
		return err
	}
	const saved, changes = "rdb_last_save_time", "rdb_changes_since_last_save"
	before := x.paused.Observed()
	switch {
	case now.Get("run_id") != before.Get("run_id"):
		return fmt.Errorf("%s has restarted", x.from.Name)
	case now.Get("role") != before.Get("role"):
		return fmt.Errorf("%s is a primary no longer", x.from.Name)
	case now.Get(saved) == before.Get(saved) && now.Get(changes) != before.Get(changes):
		return fmt.Errorf("%s was written to although writes were paused: somebody has ended the pause", x.from.Name)
	}
	return nil
}

// finish sends the clients over.
func (x *replacing) finish(ctx context.Context) (Result, error) {
	err := x.moveServices(ctx)
	if err == nil {
		x.awaitRoutedBriefly(ctx) // else the clients that are dropped would come back
		x.result.WriteGapMS = milliseconds(time.Since(x.begun))
		err = errors.Join(x.settleDemoted(ctx), x.dropStrays(ctx), x.tryServices(ctx))
	}
	x.result.Settled = x.settled
	if err != nil {
		return x.result, x.incomplete("completing the switch", err)
	}
	if err := forget(ctx, x.Notes, x.deployment); err != nil {
		return x.result, x.incomplete("recording the switch", err)
	}
	return x.result, nil
}

// undo lets writes go on and removes the record.
func (x *replacing) undo(ctx context.Context, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), x.limits.Timeout)
	defer cancel()
	if x.paused != nil {
		cause = errors.Join(cause, x.paused.Resume(ctx))
	}
	return x.failed("bringing the data to "+x.to.Name, errors.Join(cause, forget(ctx, x.Notes, x.deployment)))
}

func (x *replacing) failed(phase string, err error) *operation.Error {
	return &operation.Error{
		Kind: operation.KindOf(err), Object: x.object, Phase: phase, Err: err,
		Unchanged: fmt.Sprintf("%s is the primary and takes writes (a pause ends by itself within %s)", x.from.Name, x.pause()),
	}
}

// ResumeReplacement completes a Replace that was interrupted after the demotion, and undoes
// one that had not come so far: then OutcomeUndone is returned. The demotion was made only
// when To had everything. The lock is the caller's.
func (f Failover) ResumeReplacement(ctx context.Context, r Replacement) (Outcome, Result, error) {
	x, err := f.newReplacing(ctx, r)
	if err != nil {
		return "", Result{}, err
	}
	if err := x.connect(ctx); err != nil {
		return "", Result{}, err
	}
	defer x.close()
	acting, cancel := context.WithTimeout(context.WithoutCancel(ctx), x.limits.Settle)
	defer cancel()
	if err := f.Pauser.LetWrites(acting, x.deployment, x.from.Instance, ""); err != nil {
		return "", Result{}, err
	}
	if x.from.Replication.Role == redis.RolePrimary {
		return OutcomeUndone, x.result, forget(acting, f.Notes, x.deployment)
	}
	x.begun = time.Now()
	result, err := x.finish(acting)
	return OutcomeCompleted, result, err
}
