package failover

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/topology"
)

// Result is the proof of a switch. Its JSON form is part of redisctl's interface
// (docs/json-output.md).
type Result struct {
	Namespace string `json:"namespace,omitempty"`
	Release   string `json:"release,omitempty"`
	Name      string `json:"name"`
	From      string `json:"from"`
	To        string `json:"to"`
	// ReplicationID and Offset name the end of the old primary's history when its
	// writes were paused; TargetOffset is what the new primary had applied when it
	// was promoted, never less than Offset.
	ReplicationID string `json:"replicationId"`
	Offset        int64  `json:"offset"`
	TargetOffset  int64  `json:"targetOffset"`
	// WriteGapMS is the time in ms from the pause to the promotion: no server took
	// writes.
	WriteGapMS float64 `json:"writeGapMilliseconds"`
	// Changed is false when To was the primary already.
	Changed bool `json:"changed"`
	Settled
}

// Apply switches. An error before the demotion leaves the old primary serving; it
// says so. After the demotion the switch is completed as far as possible, and an
// error says what remains to be done.
func (f Failover) Apply(ctx context.Context, plan *Plan) (Result, error) {
	if err := plan.Refusal(); err != nil {
		return Result{}, err
	}
	s := f.newSwitching(plan)
	if plan.Nothing() {
		return s.result, nil
	}
	locked, release, err := f.Locker.Lock(ctx, plan.deployment)
	if err != nil {
		return Result{}, err
	}
	defer release()
	if err := s.open(locked); err != nil {
		return Result{}, err
	}
	defer s.close()
	if err := s.recheck(locked); err != nil {
		return Result{}, err
	}
	return s.run(locked)
}

// switching is a planned switch in progress.
type switching struct {
	handover
	plan   *Plan
	from   *topology.Member
	paused Paused
	result Result
}

func (f Failover) newSwitching(plan *Plan) *switching {
	d := plan.deployment
	s := &switching{
		plan: plan, from: plan.topology.Member(plan.From),
		handover: handover{
			Failover: f, object: plan.Object, deployment: d, topology: &plan.topology, limits: plan.options.Limits,
			to: plan.topology.Member(plan.To), repoint: plan.Followers, untried: plan.untried, old: plan.From,
		},
		result: Result{Namespace: d.Namespace, Release: d.Release, Name: d.Name, From: plan.From, To: plan.To, Settled: newSettled()},
	}
	for _, service := range plan.Services {
		s.moves = append(s.moves, Move{Service: service, From: plan.From})
	}
	return s
}

// recheck makes sure that the plan still rests on facts.
func (s *switching) recheck(ctx context.Context) error {
	for _, m := range []*topology.Member{s.from, s.to} {
		info, err := s.servers[m.Name].Info(ctx)
		if err != nil {
			return err
		}
		state, err := info.Replication()
		switch {
		case err != nil:
			return err
		case info.Get("run_id") != m.Info.Get("run_id"):
			return outdated(s.object, "%s restarted since the plan was made", m.Name)
		case state.Role != m.Replication.Role:
			return overtaken(s.object, "somebody else has made %s a %s since the plan was made", m.Name, state.Role)
		case m == s.to && (state.Upstream == nil || !state.Upstream.LinkUp):
			return outdated(s.object, "the link of %s went down", m.Name)
		}
	}
	return nil
}

func (s *switching) run(ctx context.Context) (Result, error) {
	record := Record{
		From: s.plan.From, To: s.plan.To, Begun: s.Now().UTC(), By: s.By, Services: s.plan.Services,
		MinReplicas: s.minReplicas(ctx),
	}
	if err := save(ctx, s.Notes, s.deployment, record); err != nil {
		return s.result, s.aborted("recording the switch", err)
	}
	if err := s.leadAhead(ctx); err != nil {
		return s.result, s.undo(ctx, "moving the Services", err)
	}
	if err := s.rehearse(ctx); err != nil {
		return s.result, s.undo(ctx, "waiting for "+s.plan.To, err)
	}
	if err := s.pauseAndCatchUp(ctx); err != nil {
		return s.result, s.undo(ctx, "pausing writes", err)
	}
	if left := time.Until(s.paused.Until()); left < s.limits.Pause/4 {
		return s.result, s.undo(ctx, "pausing writes", fmt.Errorf("only %s of the pause are left", left.Round(time.Millisecond)))
	}
	// From here on the switch is completed, whoever interrupts it.
	forward, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.limits.Settle)
	defer cancel()
	if err := s.handOver(forward); err != nil {
		return s.result, s.incomplete("handing over", err)
	}
	// Only now, because writes do not wait any more.
	record.Promoted = true
	if err := save(forward, s.Notes, s.deployment, record); err != nil {
		s.Reporter.Warn("recording the promotion: %v", err)
	}
	return s.finish(forward)
}

// leadAhead moves the Services before the switch, and waits until kube-proxy has
// followed. Clients that are connected stay on the old primary; dropped from there
// after the switch, they reconnect to the new one at once. The other way round they
// would reach the demoted one for about a second. Only a connection that is opened in
// between cannot write, as it could not the other way round.
func (s *switching) leadAhead(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leadLimit)
	defer cancel()
	if err := s.moveServices(ctx); err != nil {
		return err
	}
	return s.awaitRouted(ctx)
}

// leadLimit is how long the Services may take to lead to the target.
const leadLimit = 15 * time.Second

// finish completes a switch whose target is the primary.
func (s *switching) finish(ctx context.Context) (Result, error) {
	err := s.complete(ctx)
	s.result.Settled = s.settled
	if err != nil {
		return s.result, s.incomplete("completing the switch", err)
	}
	if err := finish(ctx, s.Notes, s.deployment, s.plan.To); err != nil {
		return s.result, s.incomplete("recording the new primary", err)
	}
	return s.result, nil
}

// rehearse waits until the target has what the primary has written so far, without
// making writes wait: for up to a second after a full resynchronisation nothing is
// sent to a replica that looks as if it were in sync.
func (s *switching) rehearse(ctx context.Context) error {
	info, err := s.servers[s.plan.From].Info(ctx, "replication")
	if err != nil {
		return err
	}
	state, err := info.Replication()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.limits.Settle)
	defer cancel()
	_, err = s.catchUp(ctx, state.ID, state.Offset)
	return err
}

// minReplicas returns the setting that a fence replaces on servers before 6.2. They
// cannot be demoted without CONFIG, so that an error need not be told.
func (s *switching) minReplicas(ctx context.Context) string {
	const name = "min-replicas-to-write"
	values, err := s.servers[s.plan.From].ConfigGet(ctx, name)
	if err != nil {
		return ""
	}
	return values[name]
}

// pauseAndCatchUp pauses the primary's writes and returns when the target has all
// of them.
func (s *switching) pauseAndCatchUp(ctx context.Context) error {
	s.Reporter.Step("pausing writes on %s for %s at most", s.plan.From, s.limits.Pause)
	s.begun = time.Now()
	paused, err := s.Pauser.Pause(ctx, s.deployment, s.from.Instance, s.limits.Pause)
	if err != nil {
		return err
	}
	s.paused = paused
	s.demoted = append(s.demoted, demotion{s.plan.From, paused})
	id, offset := paused.End()
	s.result.ReplicationID, s.result.Offset = id, offset
	// A quarter of the pause is kept for the switch itself.
	ctx, cancel := context.WithDeadline(ctx, paused.Until().Add(-s.limits.Pause/4))
	defer cancel()
	s.result.TargetOffset, err = s.catchUp(ctx, id, offset)
	return err
}

// pollInterval is how often the target's offset is read while writes wait.
const pollInterval = 2 * time.Millisecond

// catchUp returns when the target has applied the history id up to offset, and its
// own offset then.
func (h *handover) catchUp(ctx context.Context, id string, offset int64) (int64, error) {
	behind := offset - h.to.Replication.Offset
	for {
		info, err := h.servers[h.to.Name].Info(ctx, "replication")
		if err != nil && ctx.Err() == nil {
			return 0, err
		}
		if err == nil {
			state, err := info.Replication()
			switch {
			case err != nil:
				return 0, err
			case state.ID != id:
				return 0, fmt.Errorf("%s changed its history to %.8s", h.to.Name, state.ID)
			case state.Offset >= offset:
				return state.Offset, nil
			}
			behind = offset - state.Offset
		}
		select {
		case <-ctx.Done():
			return 0, operation.Errorf(operation.TimedOut, "%s is still %s behind", h.to.Name, operation.Bytes(behind))
		case <-time.After(pollInterval):
		}
	}
}

// handOver demotes the old primary, then promotes the target.
func (s *switching) handOver(ctx context.Context) error {
	s.Reporter.Step("handing over to %s", s.plan.To)
	host, port := s.topology.Address(s.to)
	if err := s.paused.Demote(ctx, host, port); err != nil {
		return fmt.Errorf("demoting %s: %w", s.plan.From, err)
	}
	if err := s.promote(ctx); err != nil {
		return fmt.Errorf("promoting %s: %w", s.plan.To, err)
	}
	s.result.WriteGapMS, s.result.Changed = milliseconds(time.Since(s.begun)), true
	return nil
}

// undo ends the pause and removes the record: nothing was switched yet.
func (s *switching) undo(ctx context.Context, phase string, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.limits.Timeout+routedLimit)
	defer cancel()
	if s.paused != nil {
		err = errors.Join(err, s.paused.Resume(ctx))
	}
	if back := s.leadBack(ctx); back != nil {
		// The record stays: resume knows from it that the Services are not back.
		aborted := s.aborted(phase, errors.Join(err, back))
		aborted.Next = "redisctl failover resume sends the clients of the Services back to " + s.plan.From
		return aborted
	}
	return s.aborted(phase, errors.Join(err, forget(ctx, s.Notes, s.deployment)))
}

// leadBack sends the clients of the Services back to the old primary, and drops those
// that have connected to the target meanwhile: there they would stay, and could not
// write.
func (s *switching) leadBack(ctx context.Context) error {
	back := s.handover
	back.to, back.demoted, back.moves = s.from, nil, nil
	for _, m := range s.moves {
		if err := s.Traffic.Pin(ctx, s.deployment, m.Service, s.plan.To, m.From); err != nil {
			return err
		}
		back.moves = append(back.moves, Move{Service: m.Service, From: s.plan.To})
	}
	if err := back.dropStrays(ctx); err != nil {
		s.Reporter.Warn("%v", err) // it died, and its clients with it
	}
	return nil
}

func (s *switching) aborted(phase string, err error) *operation.Error {
	return &operation.Error{
		Kind: operation.KindOf(err), Object: s.object, Phase: phase, Err: err,
		Unchanged: fmt.Sprintf("%s is the primary and takes writes (a pause ends by itself within %s)", s.plan.From, s.limits.Pause),
	}
}
