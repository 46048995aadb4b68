package failover

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/redis"
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
	// Followers are the instances that follow the new primary with their links up.
	Followers []string `json:"followers"`
	// PartialResyncs and FullResyncs count the resynchronisations that the new
	// primary has served for them: a full one copies the whole data set.
	PartialResyncs int64 `json:"partialResyncs"`
	FullResyncs    int64 `json:"fullResyncs"`
	// Services are those that were moved; their endpoints were seen.
	Services []string `json:"services"`
}

func newResult(p *Plan) Result {
	d := p.deployment
	return Result{
		Namespace: d.Namespace, Release: d.Release, Name: d.Name, From: p.From, To: p.To,
		Followers: []string{}, Services: []string{},
	}
}

// Apply switches. An error before the demotion leaves the old primary serving; it
// says so. After the demotion the switch is completed as far as possible, and an
// error says what remains to be done.
func (p Planned) Apply(ctx context.Context, plan *Plan) (Result, error) {
	if err := plan.Refusal(); err != nil {
		return Result{}, err
	}
	locked, release, err := p.Locker.Lock(ctx, plan.deployment)
	if err != nil {
		return Result{}, err
	}
	defer release()
	s := &switching{Planned: p, plan: plan, from: plan.member(plan.From), to: plan.member(plan.To)}
	if err := s.open(locked); err != nil {
		return Result{}, err
	}
	defer s.close()
	return s.run(locked)
}

// switching is one switch in progress.
type switching struct {
	Planned
	plan     *Plan
	from, to *topology.Member
	servers  map[string]operation.Server
	paused   Paused
	pausedAt time.Time
	result   Result
}

// open connects to every instance before anything is changed: connecting during
// the pause would prolong it.
func (s *switching) open(ctx context.Context) error {
	s.servers = make(map[string]operation.Server)
	for i := range s.plan.topology.Members {
		m := &s.plan.topology.Members[i]
		if m.Err != nil {
			continue
		}
		server, err := s.Connector.Connect(ctx, s.plan.deployment, m.Instance)
		if err != nil {
			s.close()
			return err
		}
		s.servers[m.Name] = server
	}
	return s.recheck(ctx)
}

func (s *switching) close() {
	for _, server := range s.servers {
		_ = server.Close() // everything was said
	}
	if s.paused != nil {
		_ = s.paused.Close()
	}
}

// recheck makes sure that the plan still rests on facts.
func (s *switching) recheck(ctx context.Context) error {
	changed := func(format string, args ...any) error {
		return &operation.Error{
			Kind: operation.Refused, Object: s.plan.Object, Phase: "re-checking the plan",
			Err: fmt.Errorf(format, args...), Unchanged: "nothing was changed", Next: "run the command again",
		}
	}
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
			return changed("%s restarted since the plan was made", m.Name)
		case state.Role != m.Replication.Role:
			return changed("%s is a %s now", m.Name, state.Role)
		case m == s.to && (state.Upstream == nil || !state.Upstream.LinkUp):
			return changed("the link of %s went down", m.Name)
		}
	}
	return nil
}

func (s *switching) run(ctx context.Context) (Result, error) {
	d := s.plan.deployment
	s.result = newResult(s.plan)
	record := Record{From: s.plan.From, To: s.plan.To, Begun: s.Now().UTC(), By: s.By, Services: s.plan.Services}
	if err := save(ctx, s.Notes, d, record); err != nil {
		return s.result, s.aborted("recording the switch", err)
	}
	syncs, err := s.syncCounts(ctx)
	if err != nil {
		return s.result, s.undo(ctx, "reading the target's state", err)
	}
	if err := s.pauseAndCatchUp(ctx); err != nil {
		return s.result, s.undo(ctx, "pausing writes", err)
	}
	if left := time.Until(s.paused.Until()); left < s.plan.options.Pause/4 {
		return s.result, s.undo(ctx, "pausing writes", fmt.Errorf("only %s of the pause are left", left.Round(time.Millisecond)))
	}
	// From here on the switch is completed, whoever interrupts it.
	forward, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.plan.options.Settle)
	defer cancel()
	if err := s.handOver(forward); err != nil {
		return s.result, s.incomplete("handing over", err)
	}
	if err := s.complete(forward, syncs); err != nil {
		return s.result, s.incomplete("completing the switch", err)
	}
	if err := finish(forward, s.Notes, d, s.plan.To); err != nil {
		return s.result, s.incomplete("recording the new primary", err)
	}
	return s.result, nil
}

// pauseAndCatchUp pauses the primary's writes and returns when the target has all
// of them.
func (s *switching) pauseAndCatchUp(ctx context.Context) error {
	s.Reporter.Step("pausing writes on %s for %s at most", s.plan.From, s.plan.options.Pause)
	begin := time.Now()
	paused, err := s.Pauser.Pause(ctx, s.plan.deployment, s.from.Instance, s.plan.options.Pause)
	if err != nil {
		return err
	}
	s.paused, s.pausedAt = paused, begin
	id, offset := paused.End()
	s.result.ReplicationID, s.result.Offset = id, offset
	// A quarter of the pause is kept for the switch itself.
	ctx, cancel := context.WithDeadline(ctx, paused.Until().Add(-s.plan.options.Pause/4))
	defer cancel()
	return s.catchUp(ctx, id, offset)
}

// pollInterval is how often the target's offset is read while writes wait.
const pollInterval = 2 * time.Millisecond

// catchUp returns when the target has applied the history up to offset.
func (s *switching) catchUp(ctx context.Context, id string, offset int64) error {
	for {
		info, err := s.servers[s.plan.To].Info(ctx, "replication")
		if err != nil {
			return err
		}
		state, err := info.Replication()
		switch {
		case err != nil:
			return err
		case state.ID != id:
			return fmt.Errorf("%s changed its history to %.8s", s.plan.To, state.ID)
		case state.Offset >= offset:
			s.result.TargetOffset = state.Offset
			return nil
		}
		select {
		case <-ctx.Done():
			return operation.Errorf(operation.TimedOut, "%s is still %s behind", s.plan.To, operation.Bytes(offset-state.Offset))
		case <-time.After(pollInterval):
		}
	}
}

// handOver demotes the old primary, then promotes the target.
func (s *switching) handOver(ctx context.Context) error {
	s.Reporter.Step("handing over to %s", s.plan.To)
	host, port := s.plan.address(s.to)
	if err := s.paused.Demote(ctx, host, port); err != nil {
		return fmt.Errorf("demoting %s: %w", s.plan.From, err)
	}
	if err := s.promote(ctx); err != nil {
		return fmt.Errorf("promoting %s: %w", s.plan.To, err)
	}
	s.result.WriteGapMS = float64(time.Since(s.pausedAt)) / float64(time.Millisecond)
	return nil
}

func (s *switching) promote(ctx context.Context) error {
	_, err := s.servers[s.plan.To].Do(ctx, "REPLICAOF", "NO", "ONE")
	return err
}

// complete moves everybody to the new primary and verifies it.
func (s *switching) complete(ctx context.Context, before syncCounts) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failures []error
	try := func(what string, f func() error) {
		wg.Go(func() {
			if err := f(); err != nil {
				mu.Lock()
				failures = append(failures, fmt.Errorf("%s: %w", what, err))
				mu.Unlock()
			}
		})
	}
	host, port := s.plan.address(s.to)
	for _, name := range s.plan.Followers {
		try(name, func() error {
			_, err := s.servers[name].Do(ctx, "REPLICAOF", host, portText(port))
			return err
		})
	}
	try("settling "+s.plan.From, func() error {
		if err := s.moveServices(ctx); err != nil {
			return err
		}
		// Only now, so that dropped clients reconnect to the new primary.
		if s.paused != nil {
			return s.paused.Settle(ctx)
		}
		if server := s.servers[s.plan.From]; server != nil {
			_, err := server.Do(ctx, "CLIENT", "KILL", "TYPE", "normal")
			return err
		}
		return nil
	})
	wg.Wait()
	if len(failures) > 0 {
		return errors.Join(failures...)
	}
	return s.verify(ctx, before)
}

func (s *switching) moveServices(ctx context.Context) error {
	for _, service := range s.plan.Services {
		s.Reporter.Step("sending the clients of %s to %s", service, s.plan.To)
		if err := s.Traffic.Pin(ctx, s.plan.deployment, service, s.plan.From, s.plan.To); err != nil {
			return err
		}
	}
	for _, service := range s.plan.Services {
		if err := s.Traffic.AwaitEndpoint(ctx, s.plan.deployment, service, s.plan.To); err != nil {
			return err
		}
		s.result.Services = append(s.result.Services, service)
	}
	return nil
}

// verify waits until every follower is in sync with the new primary.
func (s *switching) verify(ctx context.Context, before syncCounts) error {
	s.Reporter.Step("waiting until everybody follows %s", s.plan.To)
	followers := s.plan.Followers
	if s.paused != nil {
		followers = append([]string{s.plan.From}, followers...)
	}
	for _, name := range followers {
		if err := s.awaitLink(ctx, name); err != nil {
			return err
		}
		s.result.Followers = append(s.result.Followers, name)
	}
	info, err := s.servers[s.plan.To].Info(ctx)
	if err != nil {
		return err
	}
	if _, isPrimary, err := primaryRole(info); err != nil || !isPrimary {
		return fmt.Errorf("%s is not the primary any more (%w)", s.plan.To, err)
	}
	s.result.FullResyncs = info.Int("sync_full") - before.full
	s.result.PartialResyncs = info.Int("sync_partial_ok") - before.partial
	return nil
}

const linkInterval = 20 * time.Millisecond

func (s *switching) awaitLink(ctx context.Context, name string) error {
	host, port := s.plan.address(s.to)
	for {
		info, err := s.servers[name].Info(ctx, "replication")
		var state redis.Replication
		if err == nil {
			state, err = info.Replication()
		}
		if err == nil && state.Upstream != nil && state.Upstream.Host == host && state.Upstream.Port == port && state.Upstream.LinkUp {
			return nil
		}
		select {
		case <-ctx.Done():
			return operation.Errorf(operation.TimedOut, "%s is not in sync with %s", name, s.plan.To)
		case <-time.After(linkInterval):
		}
	}
}

// syncCounts are the resynchronisations that a server has served.
type syncCounts struct{ full, partial int64 }

func (s *switching) syncCounts(ctx context.Context) (syncCounts, error) {
	info, err := s.servers[s.plan.To].Info(ctx, "stats")
	if err != nil {
		return syncCounts{}, err
	}
	return syncCounts{full: info.Int("sync_full"), partial: info.Int("sync_partial_ok")}, nil
}

// undo ends the pause and removes the record: nothing was switched yet.
func (s *switching) undo(ctx context.Context, phase string, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.plan.options.Timeout)
	defer cancel()
	if s.paused != nil {
		err = errors.Join(err, s.paused.Resume(ctx))
	}
	return s.aborted(phase, errors.Join(err, finish(ctx, s.Notes, s.plan.deployment, s.plan.From)))
}

func (s *switching) aborted(phase string, err error) error {
	return &operation.Error{
		Kind: operation.KindOf(err), Object: s.plan.Object, Phase: phase, Err: err,
		Unchanged: fmt.Sprintf("%s is the primary and takes writes (a pause ends by itself within %s)", s.plan.From, s.plan.options.Pause),
	}
}

func (s *switching) incomplete(phase string, err error) error {
	return &operation.Error{
		Kind: operation.KindOf(err), Object: s.plan.Object, Phase: phase, Err: err,
		Unchanged: "no acknowledged write is lost: " + s.plan.To + " has everything that " + s.plan.From + " acknowledged",
		Next:      "redisctl failover resume completes the switch to " + s.plan.To,
	}
}
