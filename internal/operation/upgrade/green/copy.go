package green

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/failover"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/redis"
)

// copyFirst gives the second release the data that the first one has now, and returns its
// primary's name. It shows that the data can be copied, and how long writes would wait.
func (g Green) copyFirst(ctx context.Context, d *operation.Deployment, r *Record, o Options) (string, error) {
	p, err := g.reopen(ctx, d, r)
	if err != nil {
		return "", err
	}
	t := topology.Observe(ctx, g.Connector, p.blue, o.Limits.Timeout)
	primary, err := t.Primary()
	if err != nil {
		return "", err
	}
	return primary.Name, g.copyOver(ctx, p, p.blue, primary.Name, p.green, first(p.green))
}

// copyOver empties the server to of b and copies the data of the server from of a there.
func (g Green) copyOver(ctx context.Context, p *pair, a *operation.Deployment, from string, b *operation.Deployment, to string) error {
	if err := g.empty(ctx, b, to); err != nil {
		return err
	}
	begun := g.Now()
	copied, err := g.Copier.Copy(ctx, a, *a.Instance(from), b, *b.Instance(to))
	if err != nil {
		return err
	}
	copied.Seconds = g.Now().Sub(begun).Seconds()
	p.record.Copied = &copied
	return nil
}

// empty makes a server a primary without data. Clients are not led to it.
func (g Green) empty(ctx context.Context, d *operation.Deployment, name string) error {
	server, err := g.Connector.Connect(ctx, d, *d.Instance(name))
	if err != nil {
		return err
	}
	defer func() { _ = server.Close() }() // it has obeyed, or said why not
	for _, command := range [][]any{{"REPLICAOF", "NO", "ONE"}, {"FLUSHALL"}, {"FUNCTION", "FLUSH"}} {
		_, err := server.Do(ctx, command...)
		if command[0] == "FUNCTION" && errors.Is(err, operation.ErrNoCommand) {
			continue // before 7.0
		}
		if err != nil {
			return fmt.Errorf("emptying %s: %w", name, err)
		}
	}
	// What an interrupted copy has noted is void now.
	return g.Notes.SetNotes(ctx, d, map[string]string{operation.NoteRestore: ""})
}

// firstToPause is the first version that can make writes wait without stopping everything
// else, the copy included.
func firstToPause() redis.Version { return redis.Version{Major: 6, Minor: 2} }

// leastPause is the shortest default for how long writes may wait for a copy.
const leastPause = 30 * time.Second

// pauseFor returns how long writes may wait for a copy: by default three times what the
// last one took.
func (o SwitchOptions) pauseFor(r *Record) time.Duration {
	if o.CopyPause > 0 {
		return o.CopyPause
	}
	const spare = 3
	pause := leastPause
	if r.Copied != nil {
		pause = max(pause, spare*time.Duration(r.Copied.Seconds*float64(time.Second)))
	}
	return pause
}

// planCopy is planSwitch for releases that do not replicate.
func planCopy(p *pair, from, to *topology.Member, o SwitchOptions) *failover.Plan {
	plan := &failover.Plan{
		Plan: operation.Plan{Operation: o.operation(), Object: p.blue.String(), Steps: []operation.Step{}, Findings: []operation.Finding{}},
		From: from.Name, To: to.Name, Followers: []string{}, Services: []string{},
	}
	if from.Version.Compare(firstToPause()) < 0 {
		plan.Findings = append(plan.Findings, operation.Finding{
			Code: "cannot-pause", Severity: operation.Critical, Subject: from.Name,
			Message: fmt.Sprintf("%s can make writes wait only together with everything else, so that nothing could be copied meanwhile", from.Version),
			Hint:    "stop the clients, and use redisctl backup rdb and restore rdb --method live",
		})
	}
	pause := o.pauseFor(p.record)
	took := ""
	if p.record.Copied != nil {
		took = fmt.Sprintf("; the last copy took %.0f s", p.record.Copied.Seconds)
	}
	plan.Findings = append(plan.Findings, operation.Finding{
		Code: "writes-wait", Severity: operation.Warning, Subject: from.Name,
		Message: fmt.Sprintf("writes wait while all data is copied, for %s at most%s", pause.Round(100*time.Millisecond), took),
		Hint:    "--copy-pause says for how long they may",
	})
	step := func(mutates bool, subject, action string) {
		plan.Steps = append(plan.Steps, operation.Step{Action: action, Subject: subject, Mutates: mutates})
	}
	step(true, from.Name, "pause writes")
	step(true, to.Name, "remove what it holds")
	step(false, from.Name, "back up the data")
	step(true, to.Name, "restore the backup, and compare every key")
	step(true, from.Name, "refuse writes from then on; it keeps its data")
	for _, r := range p.record.Services {
		plan.Services = append(plan.Services, r.Service)
		step(true, r.Service, "send its clients to "+to.Name)
	}
	step(true, from.Name, "drop the clients that are connected")
	return plan
}

// replacement is the switch from one release to the other with a copy of the data.
func (g Green) replacement(p *pair, from, to string, o SwitchOptions) failover.Replacement {
	source, target := p.blue, p.green
	if o.Back {
		source, target = p.green, p.blue
	}
	both := p.merged(from)
	both.Instances = nil
	for _, i := range p.merged("").Instances {
		if i.Name == from || i.Name == to {
			both.Instances = append(both.Instances, i)
		}
	}
	limits := o.Limits
	limits.Pause = o.pauseFor(p.record)
	return failover.Replacement{
		Deployment: both, From: from, To: to, Limits: limits,
		Bring: func(ctx context.Context) error { return g.copyOver(ctx, p, source, from, target, to) },
	}
}

// resumeCopy finishes or undoes a switch that was interrupted, and returns which phase that
// is.
func (g Green) resumeCopy(ctx context.Context, p *pair, l failover.Limits) (Phase, error) {
	unfinished, err := operation.LoadNote[failover.Record](ctx, g.Notes, p.blue, operation.NoteCutover, "nobody switches")
	if err != nil {
		return "", err
	}
	if unfinished == nil {
		return g.whoServes(ctx, p, l)
	}
	o := SwitchOptions{Options: failover.Options{Limits: l}, Back: p.green.Instance(unfinished.From) != nil}
	before, after := PhaseReady, PhaseServing
	if o.Back {
		before, after = after, before
	}
	outcome, _, err := g.switcher(p).ResumeReplacement(ctx, g.replacement(p, unfinished.From, unfinished.To, o))
	switch {
	case err != nil:
		return "", redirected(err)
	case outcome == failover.OutcomeUndone:
		return before, nil
	default:
		return after, nil
	}
}

// whoServes tells by the roles which release the clients were left with: the one that does
// not serve keeps its data, but takes no writes.
func (g Green) whoServes(ctx context.Context, p *pair, l failover.Limits) (Phase, error) {
	blue := topology.Observe(ctx, g.Connector, p.blue, l.Timeout)
	if err := blue.Denied(); err != nil {
		return "", err
	}
	for _, m := range blue.Primaries() {
		if m.Name == p.record.Primary {
			return PhaseReady, nil
		}
	}
	return PhaseServing, nil
}
