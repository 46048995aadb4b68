package failover

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/redis"
)

// WatchOptions are the user's choices for Watch. Start from DefaultWatchOptions.
type WatchOptions struct {
	Heal HealOptions
	// Interval between two observations.
	Interval time.Duration
	// Steady is how many observations in a row must show a drift before it is
	// healed: a pod that is just starting is none.
	Steady int
	// Promote promotes a replica when the primary is gone, which may lose what was
	// not replicated yet. Off by default.
	Promote bool
	// PromoteAfter is how long all evidence must agree that the primary is gone.
	PromoteAfter time.Duration
}

// DefaultWatchOptions returns the options of `replication heal --watch` and of the
// guard.
func DefaultWatchOptions() WatchOptions {
	return WatchOptions{
		Heal: HealOptions{Limits: DefaultLimits()}, Interval: 2 * time.Second, Steady: 2, PromoteAfter: 30 * time.Second,
	}
}

// Condition is what Watch sees or has done.
type Condition string

// The conditions.
const (
	// ConditionHealthy: everything is as it is meant to be.
	ConditionHealthy Condition = "healthy"
	// ConditionDrift: it is not, and will be healed if it stays.
	ConditionDrift Condition = "drift"
	// ConditionHealed: it was healed.
	ConditionHealed Condition = "healed"
	// ConditionBlocked: it is not, and a decision is needed that is not Watch's.
	ConditionBlocked Condition = "blocked"
	// ConditionPrimaryGone: the primary does not answer.
	ConditionPrimaryGone Condition = "primaryGone"
	// ConditionPromoted: a replica was promoted because the primary was gone.
	ConditionPromoted Condition = "promoted"
	// ConditionFailed: observing or healing failed; it is tried again.
	ConditionFailed Condition = "failed"
)

// Event is a change of the condition. Its JSON form is part of redisctl's interface
// (docs/json-output.md).
type Event struct {
	Time      time.Time `json:"time"`
	Condition Condition `json:"condition"`
	// Message says what was seen or done, in one line.
	Message string `json:"message"`
	// Healed and Forced are the proofs of what was done.
	Healed *HealResult  `json:"healed,omitempty"`
	Forced *ForceResult `json:"forced,omitempty"`
}

// Watch observes the deployment again and again, and heals it as Heal does whenever
// that discards nothing. What would need a decision is told and left alone. Each
// change of the condition is told once. It returns when ctx ends.
func (f Failover) Watch(ctx context.Context, target operation.Target, o WatchOptions, tell func(Event)) error {
	w := &watch{Failover: f, target: target, options: o, tell: tell}
	tick := time.NewTicker(o.Interval)
	defer tick.Stop()
	for {
		w.tellChange(w.look(ctx))
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// watch is the memory of Watch between two observations.
type watch struct {
	Failover
	target  operation.Target
	options WatchOptions
	tell    func(Event)
	last    Event
	// drift is the plan of the last observation, steady how often it was seen.
	drift  string
	steady int
	// undecided names the data sets that were compared without a result.
	undecided []fingerprint
	// goneSince is when all evidence began to agree that the primary is gone.
	goneSince time.Time
}

func (w *watch) tellChange(e Event) {
	if e.Condition == w.last.Condition && e.Message == w.last.Message {
		return
	}
	e.Time = w.Now().UTC()
	w.last = e
	w.tell(e)
}

// look observes once, and acts if need be.
func (w *watch) look(ctx context.Context) Event {
	d, err := w.Resolver.Resolve(ctx, w.target)
	if err != nil {
		return failed(err)
	}
	if locked := w.lockedBy(ctx, d); locked != nil {
		w.drift, w.steady = "", 0
		return Event{Condition: ConditionDrift, Message: locked.Error()}
	}
	o := w.options.Heal
	o.NoCompare = true // which is costly, and not repeated for nothing
	plan, err := w.PlanHeal(ctx, d, o)
	if err != nil {
		return failed(err)
	}
	if gone := w.primaryGone(plan); gone != nil {
		return w.promoteFor(ctx, d, gone)
	}
	w.goneSince = time.Time{}
	if plan.Nothing() && plan.Refusal() == nil {
		w.drift, w.steady = "", 0
		return Event{Condition: ConditionHealthy, Message: plan.Primary + " is the primary, and everybody follows it"}
	}
	if summary := summarise(plan); summary != w.drift {
		w.drift, w.steady = summary, 0
	}
	if w.steady++; w.steady < w.options.Steady {
		return Event{Condition: ConditionDrift, Message: w.drift}
	}
	return w.healNow(ctx, d, plan)
}

func failed(err error) Event { return Event{Condition: ConditionFailed, Message: err.Error()} }

// summarise describes a plan in one line.
func summarise(plan *HealPlan) string {
	var parts []string
	for _, s := range plan.Steps {
		if s.Mutates {
			parts = append(parts, s.Subject+": "+s.Action)
		}
	}
	for _, finding := range plan.Blockers() {
		parts = append(parts, finding.Subject+": "+finding.Message)
	}
	return strings.Join(parts, "; ")
}

func (w *watch) healNow(ctx context.Context, d *operation.Deployment, plan *HealPlan) Event {
	if len(plan.Losses) > 0 && !w.compared(plan) {
		w.undecided = fingerprints(plan)
		var err error
		if plan, err = w.PlanHeal(ctx, d, w.options.Heal); err != nil {
			return failed(err)
		}
	}
	if err := plan.Refusal(); err != nil {
		return Event{Condition: ConditionBlocked, Message: summarise(plan)}
	}
	result, err := w.Heal(ctx, plan)
	if err != nil {
		return failed(err)
	}
	w.drift, w.steady = "", 0
	return Event{Condition: ConditionHealed, Message: summarise(plan), Healed: &result}
}

// compared reports whether these very data sets were compared before.
func (w *watch) compared(plan *HealPlan) bool {
	now := fingerprints(plan)
	if len(now) != len(w.undecided) {
		return false
	}
	for i := range now {
		if now[i] != w.undecided[i] {
			return false
		}
	}
	return true
}

func fingerprints(plan *HealPlan) []fingerprint {
	found := make([]fingerprint, len(plan.Losses))
	for i, loss := range plan.Losses {
		found[i] = fingerprintOf(plan.topology.Member(loss.Instance).Info)
	}
	return found
}

// evidence is what tells that a primary is gone.
type evidence struct {
	primary string
	// against lists what speaks against it.
	against []string
}

// primaryGone returns nil while a primary answers, and otherwise what is known of
// the one that should be.
func (w *watch) primaryGone(plan *HealPlan) *evidence {
	t := &plan.topology
	primary := t.Member(plan.Intended)
	if primary == nil || primary.Err == nil || len(t.Primaries()) > 0 {
		return nil
	}
	e := &evidence{primary: primary.Name}
	if primary.Pod != nil && primary.Pod.Ready {
		e.against = append(e.against, "the kubelet finds "+primary.Name+" Ready")
	}
	for i := range t.Members {
		m := &t.Members[i]
		if m == primary {
			continue
		}
		if reason := stillNeeds(m, primary); reason != "" {
			e.against = append(e.against, reason)
		}
	}
	return e
}

// stillNeeds returns what speaks against giving the primary up, as this replica sees
// it.
func stillNeeds(m, primary *topology.Member) string {
	switch {
	case m.Err != nil:
		return fmt.Sprintf("%s does not answer either", m.Name)
	case m.Replication.Role != redis.RoleReplica || m.Follows != primary.Name:
		return fmt.Sprintf("%s does not follow %s", m.Name, primary.Name)
	case m.Link() != "down":
		return fmt.Sprintf("the link of %s to %s is %s", m.Name, primary.Name, m.Link())
	default:
		return ""
	}
}

// promoteFor gives a primary up once all evidence has agreed for long enough.
func (w *watch) promoteFor(ctx context.Context, d *operation.Deployment, e *evidence) Event {
	gone := Event{Condition: ConditionPrimaryGone, Message: e.primary + " does not answer"}
	if len(e.against) > 0 {
		w.goneSince = time.Time{}
		gone.Message += "; not given up: " + strings.Join(e.against, ", ")
		return gone
	}
	gone.Message += ", its pod is not Ready and no replica has a link to it"
	if !w.options.Promote {
		gone.Message += "; redisctl failover force promotes a replica"
		return gone
	}
	if w.goneSince.IsZero() {
		w.goneSince = w.Now()
	}
	if w.Now().Sub(w.goneSince) < w.options.PromoteAfter {
		gone.Message += fmt.Sprintf("; a replica is promoted if that lasts for %s", w.options.PromoteAfter)
		return gone
	}
	w.goneSince = time.Time{}
	o := DefaultForceOptions()
	o.Limits = w.options.Heal.Limits
	o.Return = 0 // its return is a drift like any other
	plan, err := w.PlanForce(ctx, d, o)
	if err != nil {
		return failed(err)
	}
	result, err := w.Force(ctx, plan)
	var partial *operation.Error
	if errors.As(err, &partial) && partial.Kind == operation.Partial {
		err = nil // the old primary is dealt with when it returns
	}
	if err != nil {
		return failed(err)
	}
	return Event{
		Condition: ConditionPromoted, Message: fmt.Sprintf("%s was promoted; lost is %s", result.To, result.Bound), Forced: &result,
	}
}
