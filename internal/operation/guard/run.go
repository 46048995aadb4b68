package guard

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/failover"
)

// Seat is what the pods of a guard compete for: one of them acts.
type Seat interface {
	// Lead calls lead whenever this process, named holder, has become the leader, with a context
	// that ends when it no longer is, and follow when another process has. It gives
	// the seat back only after lead has returned. It returns when ctx has ended, and
	// nil then.
	Lead(ctx context.Context, d *operation.Deployment, holder string, follow func(leader string), lead func(context.Context)) error
}

// Journal shows the guard's observations to whoever looks at the deployment.
type Journal interface {
	// RecordEvent makes an event of the deployment's workload. The rate of events
	// is bounded: too many are dropped, unless they are weighty.
	RecordEvent(ctx context.Context, d *operation.Deployment, e JournalEntry) error
}

// JournalEntry is one event.
type JournalEntry struct {
	// Reason is the condition, in upper camel case.
	Reason, Message string
	// Warning is set for what needs attention, Weighty for what was changed.
	Warning, Weighty bool
	// Holder is the pod that reports it.
	Holder string
}

// Runner is the process in the cluster.
type Runner struct {
	Failover failover.Failover
	Seat     Seat
	Journal  Journal
	Reporter operation.Reporter
	// Tell shows an event to whoever reads the process's log.
	Tell func(failover.Event)
	// Holder names this process, Version its redisctl.
	Holder, Version string
}

// Run watches the target whenever this process is the leader, until ctx ends: then
// it returns nil. A release that cannot be read is tried again.
func (r Runner) Run(ctx context.Context, target operation.Target, o failover.WatchOptions) error {
	d, err := r.find(ctx, target, o.Interval)
	if err != nil {
		return err
	}
	follow := func(leader string) {
		if leader != r.Holder {
			r.Reporter.Step("%s acts for %s; standing by", leader, d)
		}
	}
	lead := func(ctx context.Context) {
		r.Reporter.Step("acting for %s, as %s", d, r.Holder)
		err := r.Failover.Watch(ctx, target, o, func(e failover.Event) {
			r.Tell(e)
			r.record(ctx, d, e)
		})
		if ctx.Err() == nil {
			r.Reporter.Warn("the watch ended: %v", err)
		}
	}
	if err := r.Seat.Lead(ctx, d, r.Holder, follow, lead); err != nil {
		return err
	}
	r.Reporter.Step("ending; another pod takes over")
	return nil
}

// find resolves the target. Permissions may be a moment late, and a release may come
// back, so that it does not give up.
func (r Runner) find(ctx context.Context, target operation.Target, interval time.Duration) (*operation.Deployment, error) {
	last := ""
	for {
		d, err := r.Failover.Resolver.Resolve(ctx, target)
		switch {
		case err == nil:
			return d, nil
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case err.Error() != last:
			last = err.Error()
			r.Reporter.Warn("%s; trying again", last)
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(interval):
		}
	}
}

// record writes an event down. That it cannot be written does not keep the guard from
// acting; the next change is written again.
func (r Runner) record(ctx context.Context, d *operation.Deployment, e failover.Event) {
	text, err := json.Marshal(Observation{
		Time: e.Time, Condition: e.Condition, Message: e.Message, Holder: r.Holder, Version: r.Version,
	})
	if err == nil {
		err = r.Failover.Notes.SetNotes(ctx, d, map[string]string{Note: string(text)})
	}
	err = errors.Join(err, r.Journal.RecordEvent(ctx, d, entryOf(e, r.Holder)))
	if err != nil && ctx.Err() == nil {
		r.Reporter.Warn("recording what was observed: %v", err)
	}
}

func entryOf(e failover.Event, holder string) JournalEntry {
	entry := JournalEntry{Message: e.Message, Holder: holder}
	switch e.Condition {
	case failover.ConditionHealthy:
		entry.Reason = "Healthy"
	case failover.ConditionDrift:
		entry.Reason, entry.Warning = "Drift", true
	case failover.ConditionHealed:
		entry.Reason, entry.Weighty = "Healed", true
	case failover.ConditionBlocked:
		entry.Reason, entry.Warning = "Blocked", true
	case failover.ConditionPrimaryGone:
		entry.Reason, entry.Warning = "PrimaryGone", true
	case failover.ConditionPromoted:
		entry.Reason, entry.Warning, entry.Weighty = "Promoted", true, true
	default:
		entry.Reason, entry.Warning = "Failed", true
	}
	return entry
}
