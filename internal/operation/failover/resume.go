package failover

import (
	"context"
	"errors"
	"fmt"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/redis"
)

// Outcome is what became of an unfinished failover.
type Outcome string

// The outcomes of Resume.
const (
	// OutcomeUndone: the old primary had not been demoted; it is the primary.
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
func (p Planned) Resume(ctx context.Context, d *operation.Deployment, o Options) (Outcome, Result, error) {
	record, err := load(ctx, p.Notes, d)
	if err != nil {
		return "", Result{}, err
	}
	if record == nil {
		return "", Result{}, &operation.Error{
			Kind: operation.Refused, Object: d.String(), Phase: "resuming a failover",
			Err: errors.New("there is no unfinished failover"), Unchanged: "nothing was changed",
			Next: "redisctl failover status",
		}
	}
	locked, release, err := p.Locker.Lock(ctx, d)
	if err != nil {
		return "", Result{}, err
	}
	defer release()
	s, err := p.reopen(locked, d, *record, o)
	if err != nil {
		return "", Result{}, err
	}
	defer s.close()
	if s.undecided() {
		p.Reporter.Step("%s was not demoted: it stays the primary", record.From)
		if err := finish(locked, p.Notes, d, record.From); err != nil {
			return "", Result{}, err
		}
		return OutcomeUndone, s.result, nil
	}
	if err := s.forward(locked); err != nil {
		return "", s.result, err
	}
	return OutcomeCompleted, s.result, nil
}

// reopen observes the deployment and rebuilds the state of a switch from its
// record.
func (p Planned) reopen(ctx context.Context, d *operation.Deployment, r Record, o Options) (*switching, error) {
	t := topology.Observe(ctx, p.Connector, d, o.Timeout)
	plan := &Plan{
		Plan: operation.Plan{Operation: "failover resume", Object: d.String()},
		From: r.From, To: r.To, Services: r.Services, deployment: d, topology: t, options: o,
	}
	s := &switching{Planned: p, plan: plan, from: t.Member(r.From), to: t.Member(r.To), servers: map[string]operation.Server{}}
	if s.from == nil || s.to == nil {
		return nil, operation.Errorf(operation.Refused, "%s no longer has both %s and %s", d, r.From, r.To)
	}
	s.result = newResult(plan)
	for i := range t.Members {
		m := &t.Members[i]
		if m.Err != nil {
			continue
		}
		server, err := p.Connector.Connect(ctx, d, m.Instance)
		if err != nil {
			s.close()
			return nil, err
		}
		s.servers[m.Name] = server
		if m != s.from && m != s.to {
			plan.Followers = append(plan.Followers, m.Name)
		}
	}
	return s, nil
}

// undecided reports whether the old primary is still the only one.
func (s *switching) undecided() bool {
	return s.from.Err == nil && s.from.Replication.Role == redis.RolePrimary &&
		(s.to.Err != nil || s.to.Replication.Role == redis.RoleReplica)
}

// forward completes the switch.
func (s *switching) forward(ctx context.Context) error {
	refuse := func(format string, args ...any) error {
		return &operation.Error{
			Kind: operation.Refused, Object: s.plan.Object, Phase: "resuming a failover", Err: fmt.Errorf(format, args...),
			Unchanged: "nothing was changed", Next: "redisctl replication info shows both sides",
		}
	}
	from, to := s.from.Replication, s.to.Replication
	switch {
	case s.to.Err != nil:
		return refuse("%s, which was to become the primary, does not answer: %w", s.plan.To, s.to.Err)
	case to.Role == redis.RolePrimary && s.from.Err == nil && from.Role == redis.RolePrimary:
		return refuse("both %s and %s take writes; what only one of them has would be lost", s.plan.From, s.plan.To)
	case to.Role == redis.RoleReplica && s.from.Err != nil:
		return refuse("%s does not answer, and whether %s has all its data cannot be told: %w", s.plan.From, s.plan.To, s.from.Err)
	case to.Role == redis.RoleReplica && (to.ID != from.ID || to.Offset < from.Offset):
		return refuse("%s (history %.8s, offset %d) lacks something that %s has (%.8s, %d)",
			s.plan.To, to.ID, to.Offset, s.plan.From, from.ID, from.Offset)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.plan.options.Settle)
	defer cancel()
	before, err := s.syncCounts(ctx)
	if err != nil {
		return s.incomplete("reading the new primary's state", err)
	}
	if to.Role == redis.RoleReplica {
		if err := s.promote(ctx); err != nil {
			return s.incomplete("promoting "+s.plan.To, err)
		}
	}
	if s.from.Err == nil {
		s.plan.Followers = append(s.plan.Followers, s.plan.From)
	}
	if err := s.complete(ctx, before); err != nil {
		return s.incomplete("completing the switch", err)
	}
	if err := finish(ctx, s.Notes, s.plan.deployment, s.plan.To); err != nil {
		return s.incomplete("recording the new primary", err)
	}
	return nil
}

// Status is where the primary is meant to be, and where it is.
type Status struct {
	Namespace string `json:"namespace,omitempty"`
	Release   string `json:"release,omitempty"`
	Name      string `json:"name"`
	// Intended is the instance that the last failover made the primary; empty when
	// none was made.
	Intended string `json:"intended,omitempty"`
	// Observed are the instances that say that they are the primary: normally one.
	Observed []string `json:"observed"`
	// Services tells for each Service that is pinned to a pod which one.
	Services map[string]string `json:"services"`
	// Unfinished is the record of a failover that was interrupted.
	Unfinished *Record `json:"unfinished,omitempty"`
}

// Consistent reports whether one instance is the primary, is the intended one if
// there is any, gets the clients of every pinned Service, and nothing is
// unfinished.
func (s Status) Consistent() bool {
	if len(s.Observed) != 1 || s.Unfinished != nil || s.Intended != "" && s.Intended != s.Observed[0] {
		return false
	}
	for _, pod := range s.Services {
		if pod != s.Observed[0] {
			return false
		}
	}
	return true
}

// Status observes d. It only reads.
func (p Planned) Status(ctx context.Context, d *operation.Deployment, o Options) (Status, error) {
	t := topology.Observe(ctx, p.Connector, d, o.Timeout)
	if err := t.Denied(); err != nil {
		return Status{}, err
	}
	s := Status{Namespace: d.Namespace, Release: d.Release, Name: d.Name, Observed: []string{}, Services: map[string]string{}}
	for _, m := range t.Primaries() {
		s.Observed = append(s.Observed, m.Name)
	}
	for _, service := range d.Services {
		if service.PodSelector != "" {
			s.Services[service.Name] = service.PodSelector
		}
	}
	var err error
	if s.Intended, err = p.Notes.Note(ctx, d, NotePrimary); err != nil {
		return Status{}, err
	}
	s.Unfinished, err = load(ctx, p.Notes, d)
	return s, err
}
