package failover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/redis"
)

// ForceOptions are the user's choices for a forced failover. Start from
// DefaultForceOptions.
type ForceOptions struct {
	Limits
	// To is the replica to promote; empty to choose the one with the most data.
	To string
	// Return bounds how long the old primary is waited for, to make it follow. 0
	// does not wait.
	Return time.Duration
	// KeepPod leaves a pod alone whose process hangs: it may go on and take writes
	// of the clients that are still connected to it.
	KeepPod bool
	// NoBackup skips the backup of what the old primary has when it returns with
	// writes that the new one lacks.
	NoBackup bool
	// The overrides of blockers.
	AllowAlive, AllowLessData, AllowDiverged, AllowPriorityZero bool
}

// DefaultForceOptions returns the options of `failover force`.
func DefaultForceOptions() ForceOptions {
	return ForceOptions{Limits: DefaultLimits(), Return: 60 * time.Second}
}

// Bound is how much a forced failover may lose.
type Bound struct {
	// Seconds is how long ago the target last heard from the old primary, at most:
	// what that acknowledged since then is lost. -1 when it was never heard.
	Seconds float64 `json:"seconds"`
	// KnownBytes are in the history of a server that answers, and not in the
	// target's.
	KnownBytes int64 `json:"knownBytes"`
	// Exact is set when the old primary answers: KnownBytes are then all.
	Exact bool `json:"exact"`
	// EstimatedBytes is what arrives in Seconds at the target's average rate of
	// replication traffic. An estimate, not a bound.
	EstimatedBytes int64 `json:"estimatedBytes"`
}

// String tells it to people.
func (b Bound) String() string {
	switch {
	case b.Exact && b.KnownBytes == 0:
		return "nothing: it has everything that the old primary has"
	case b.Exact:
		return operation.Bytes(b.KnownBytes).String() + " of the old primary's history"
	case b.Seconds < 0:
		return "everything since it was last in sync, which was never"
	}
	text := fmt.Sprintf("what was acknowledged in the last %.0f s before now, about %s at its average rate",
		b.Seconds, operation.Bytes(b.EstimatedBytes))
	if b.KnownBytes > 0 {
		text += fmt.Sprintf("; %s of it are on another replica", operation.Bytes(b.KnownBytes))
	}
	return text
}

// ForcePlan is what a forced failover is going to do.
type ForcePlan struct {
	operation.Plan
	// From is the primary that is given up.
	From string `json:"from"`
	To   string `json:"to"`
	// Bound is how much may be lost.
	Bound Bound `json:"bound"`
	// DeletePod is set when the old primary's pod will be deleted, so that a
	// process that hangs cannot go on.
	DeletePod bool     `json:"deletePod"`
	Followers []string `json:"followers"`
	Services  []Move   `json:"services"`

	deployment *operation.Deployment
	topology   topology.Topology
	options    ForceOptions
}

// OldPrimary is what became of the primary that was given up.
type OldPrimary string

// What an old primary can have become.
const (
	// OldPrimaryFollows: it is a replica of the new one.
	OldPrimaryFollows OldPrimary = "follows"
	// OldPrimaryDown: it does not run. When it comes back, it takes no clients of
	// the Services; `replication heal` or the guard makes it a replica.
	OldPrimaryDown OldPrimary = "down"
	// OldPrimaryUnknown: nobody can tell whether it runs.
	OldPrimaryUnknown OldPrimary = "unknown"
)

// ForceResult is the proof of a forced failover. Its JSON form is part of redisctl's
// interface (docs/json-output.md).
type ForceResult struct {
	Namespace string `json:"namespace,omitempty"`
	Release   string `json:"release,omitempty"`
	Name      string `json:"name"`
	From      string `json:"from"`
	To        string `json:"to"`
	Bound     Bound  `json:"bound"`
	// ReplicationID and Offset name the end of the new primary's data when it was
	// promoted.
	ReplicationID string     `json:"replicationId"`
	Offset        int64      `json:"offset"`
	OldPrimary    OldPrimary `json:"oldPrimary"`
	// Losses are what the old primary had and the new one lacks, as far as it came
	// back and could be asked; Backups are the names of what was kept of it.
	Losses  []Loss   `json:"losses"`
	Backups []string `json:"backups"`
	Settled
}

// PlanForce chooses the replica with the most data and states what may be lost. It
// only reads.
func (f Failover) PlanForce(ctx context.Context, d *operation.Deployment, o ForceOptions) (*ForcePlan, error) {
	plan, err := f.planForce(ctx, d, o)
	return orLocked(ctx, f, d, plan, err)
}

func (f Failover) planForce(ctx context.Context, d *operation.Deployment, o ForceOptions) (*ForcePlan, error) {
	t := topology.Observe(ctx, f.Connector, d, o.Timeout)
	if err := t.Denied(); err != nil {
		return nil, err
	}
	plan := &ForcePlan{
		Plan:     operation.Plan{Operation: "failover force", Object: d.String(), Findings: []operation.Finding{}},
		Services: []Move{}, deployment: d, topology: t, options: o,
	}
	noted, err := f.Notes.Note(ctx, d, operation.NotePrimary)
	if err != nil {
		return nil, err
	}
	from, err := plan.lost(intended(d, noted))
	if err != nil {
		return nil, err
	}
	to, err := plan.chooseMost(from)
	if err != nil {
		return nil, err
	}
	plan.From, plan.To, plan.Followers = from.Name, to.Name, followers(&t, from, to)
	for _, s := range d.Services {
		if s.PodSelector != "" && s.PodSelector != to.Name {
			plan.Services = append(plan.Services, Move{Service: s.Name, From: s.PodSelector})
		}
	}
	plan.DeletePod = hangs(from) && !o.KeepPod
	plan.Bound = f.bound(ctx, plan, from, to)
	plan.checkForce(from, to)
	plan.Findings = append(plan.Findings, f.checkBudgets(ctx, d)...)
	plan.addSteps()
	return plan, nil
}

// lost returns the primary that is to be given up: the one that says so, or the one
// that the replicas follow, or the intended one.
func (p *ForcePlan) lost(intended string) (*topology.Member, error) {
	primaries := p.topology.Primaries()
	switch len(primaries) {
	case 0:
	case 1:
		return primaries[0], nil
	default:
		_, err := p.topology.Primary()
		return nil, &operation.Error{
			Kind: operation.Refused, Object: p.Object, Phase: p.Operation, Err: err,
			Unchanged: "nothing was changed", Next: "redisctl replication heal --dry-run compares them",
		}
	}
	votes := make(map[string]int)
	for _, m := range p.topology.Members {
		if m.Err == nil {
			votes[m.Follows]++
		}
	}
	var found *topology.Member
	for i := range p.topology.Members {
		m := &p.topology.Members[i]
		if m.Err == nil {
			continue
		}
		if found == nil || votes[m.Name] > votes[found.Name] || votes[m.Name] == votes[found.Name] && m.Name == intended {
			found = m
		}
	}
	if found == nil {
		return nil, &operation.Error{
			Kind: operation.Refused, Object: p.Object, Phase: p.Operation,
			Err:       errors.New("every instance answers, and none is the primary: nothing has to be given up"),
			Unchanged: "nothing was changed", Next: "redisctl replication heal",
		}
	}
	return found, nil
}

// chooseMost returns the replica to promote: the named one, or the one that has
// applied the most of its history.
func (p *ForcePlan) chooseMost(from *topology.Member) (*topology.Member, error) {
	if to := p.options.To; to != "" {
		m := p.topology.Member(to)
		switch {
		case m == nil:
			return nil, operation.Errorf(operation.Usage, "%s has no instance %q; it has %s", p.Object, to, p.deployment.InstanceNames())
		case m.Name == from.Name:
			return nil, operation.Errorf(operation.Usage, "%s is the primary that would be given up", to)
		default:
			return m, m.Err
		}
	}
	var found []*topology.Member
	for i := range p.topology.Members {
		m := &p.topology.Members[i]
		if m != from && m.Err == nil && m.Link() != "syncing" && !m.Info.Persistence().Loading &&
			m.Replication.Upstream != nil && m.Replication.Upstream.Priority > 0 {
			found = append(found, m)
		}
	}
	if len(found) == 0 {
		return nil, &operation.Error{
			Kind: operation.Refused, Object: p.Object, Phase: p.Operation,
			Err:       errors.New("no replica answers, has loaded its data and may be promoted"),
			Unchanged: "nothing was changed", Next: "redisctl health names what is wrong",
		}
	}
	return slices.MaxFunc(found, func(a, b *topology.Member) int {
		return cmp.Or(
			cmp.Compare(a.Replication.Offset, b.Replication.Offset),
			cmp.Compare(b.Replication.Upstream.Priority, a.Replication.Upstream.Priority),
			cmp.Compare(b.Ordinal, a.Ordinal),
		)
	}), nil
}

// hangs reports whether the process of an instance may still be there although it
// does not answer.
func hangs(m *topology.Member) bool {
	return m.Err != nil && m.Pod != nil && m.Pod.UID != "" && m.Pod.ContainerRunning
}

// bound says what the target may lack. A primary pings its replicas, so that a link
// that is silent for long is one whose primary is gone; the link is declared down
// repl-timeout later at most, and what was sent in that time may not have arrived.
func (f Failover) bound(ctx context.Context, p *ForcePlan, from, to *topology.Member) Bound {
	up := to.Replication.Upstream
	b := Bound{Seconds: -1}
	for i := range p.topology.Members {
		if m := &p.topology.Members[i]; m.Err == nil && m.Replication.ID == to.Replication.ID {
			b.KnownBytes = max(b.KnownBytes, m.Replication.Offset-to.Replication.Offset)
		}
	}
	b.Exact = from.Err == nil && from.Replication.ID == to.Replication.ID
	if up == nil {
		return b
	}
	silence := up.LastIO
	if !up.LinkUp {
		if up.LinkDownFor < 0 {
			return b
		}
		silence = up.LinkDownFor + f.replTimeout(ctx, p.deployment, to)
	}
	b.Seconds = (silence + time.Second).Seconds() // INFO counts whole seconds
	if up := to.Info.Uptime().Seconds(); up > 0 {
		b.EstimatedBytes = int64(float64(replicationInput(to.Info)) / up * b.Seconds)
	}
	return b
}

// replicationInput returns how many bytes a replica has received; before 7.0 they
// are not told apart from what its clients have sent.
func replicationInput(info redis.Info) int64 {
	if name := "total_net_repl_input_bytes"; info.Has(name) {
		return info.Int(name)
	}
	return info.Int("total_net_input_bytes")
}

// defaultReplTimeout is the server's own default of repl-timeout.
const defaultReplTimeout = 60 * time.Second

func (f Failover) replTimeout(ctx context.Context, d *operation.Deployment, m *topology.Member) time.Duration {
	server, err := f.Connector.Connect(ctx, d, m.Instance)
	if err != nil {
		return defaultReplTimeout
	}
	defer func() { _ = server.Close() }() // it was only asked
	values, err := server.ConfigGet(ctx, "repl-timeout")
	if err != nil {
		return defaultReplTimeout
	}
	seconds, err := strconv.Atoi(values["repl-timeout"])
	if err != nil {
		return defaultReplTimeout
	}
	return time.Duration(seconds) * time.Second
}

func (p *ForcePlan) checkForce(from, to *topology.Member) {
	o := p.options
	block := func(code, subject, message, hint, override string, overridden bool) {
		p.Findings = append(p.Findings, operation.Finding{
			Code: code, Severity: operation.Critical, Subject: subject, Message: message, Hint: hint,
			Override: override, Overridden: overridden,
		})
	}
	switch {
	case from.Err == nil:
		block("primary-answers", from.Name, "it answers: redisctl failover promote hands over without losing a write", "",
			"--allow-alive", o.AllowAlive)
	case operation.Answered(from.Err):
		block("primary-answers", from.Name, fmt.Sprintf("it is alive, and says: %v", from.Err),
			"its data is lost when its pod is deleted; a script that runs too long: redisctl shell, SCRIPT KILL", "--allow-alive", o.AllowAlive)
	}
	up := to.Replication.Upstream
	switch {
	case up == nil:
		block("not-a-replica", to.Name, "it is no replica", "", "", false)
		return
	case to.Link() == "syncing" || to.Info.Persistence().Loading:
		block("incomplete", to.Name, "it is in the middle of receiving or loading its data set", "", "", false)
	case up.Priority == 0:
		block("priority-zero", to.Name, "its replica-priority is 0: it was configured never to be promoted", "",
			"--allow-priority-zero", o.AllowPriorityZero)
	}
	for i := range p.topology.Members {
		m := &p.topology.Members[i]
		if m.Err != nil || m == to || m == from {
			continue
		}
		switch r := compare(m, to); {
		case r.contained:
		case r.own < 0:
			block("diverged", m.Name, fmt.Sprintf("it may have data that %s lacks: %s", to.Name, r.why),
				"redisctl backup rdb --pod "+m.Name+" keeps it", "--allow-diverged", o.AllowDiverged)
		default:
			block("less-data", to.Name, fmt.Sprintf("%s has %s more", m.Name, operation.Bytes(r.own)),
				"without an argument the replica with the most data is chosen", "--allow-less-data", o.AllowLessData)
		}
	}
	if hangs(from) && o.KeepPod {
		p.Findings = append(p.Findings, operation.Finding{
			Code: "not-fenced", Severity: operation.Warning, Subject: from.Name,
			Message: "its process is not ended: if it goes on, clients that are still connected write to it",
		})
	}
}

func (p *ForcePlan) addSteps() {
	add := func(action, subject string) {
		p.Steps = append(p.Steps, operation.Step{Action: action, Subject: subject, Mutates: true})
	}
	add("take the deployment's lock and record the failover", p.Object)
	if p.topology.Member(p.From).Err == nil {
		add("pause writes, demote: follow "+p.To, p.From)
	}
	if p.DeletePod {
		add("delete the pod, so that its process cannot go on", p.From)
	}
	for _, m := range p.Services {
		add("send clients to "+p.To, "service "+m.Service)
	}
	add("promote; lost is "+p.Bound.String(), p.To)
	for _, name := range p.Followers {
		add("follow "+p.To, name)
	}
	p.Steps = append(p.Steps, operation.Step{Action: "verify roles, links, endpoints and a write through each Service", Subject: p.To})
	if p.options.Return > 0 && p.topology.Member(p.From).Err != nil {
		add(fmt.Sprintf("wait up to %s for it to return, back up what only it has, demote: follow %s", p.options.Return, p.To), p.From)
	}
}

// Force carries the plan out. An error before the promotion says that nothing was
// switched; after it, what remains to be done.
func (f Failover) Force(ctx context.Context, plan *ForcePlan) (ForceResult, error) {
	if err := plan.Refusal(); err != nil {
		return ForceResult{}, err
	}
	locked, release, err := f.Locker.Lock(ctx, plan.deployment)
	if err != nil {
		return ForceResult{}, err
	}
	defer release()
	d := plan.deployment
	c := &forcing{
		plan: plan, from: plan.topology.Member(plan.From),
		handover: handover{
			Failover: f, object: plan.Object, deployment: d, topology: &plan.topology, limits: plan.options.Limits,
			to: plan.topology.Member(plan.To), repoint: plan.Followers, moves: plan.Services, begun: time.Now(),
		},
		result: ForceResult{
			Namespace: d.Namespace, Release: d.Release, Name: d.Name, From: plan.From, To: plan.To, Bound: plan.Bound,
			Losses: []Loss{}, Backups: []string{}, Settled: newSettled(),
		},
	}
	if err := c.open(locked); err != nil {
		return c.result, err
	}
	defer c.close()
	return c.run(locked)
}

// forcing is a forced failover in progress.
type forcing struct {
	handover
	plan   *ForcePlan
	from   *topology.Member
	result ForceResult
}

func (c *forcing) run(ctx context.Context) (ForceResult, error) {
	if err := c.recheck(ctx); err != nil {
		return c.result, err
	}
	record := Record{From: c.plan.From, To: c.plan.To, Begun: c.Now().UTC(), By: c.By, Forced: true}
	for _, m := range c.moves {
		record.Services = append(record.Services, m.Service)
	}
	if err := save(ctx, c.Notes, c.deployment, record); err != nil {
		return c.result, c.notForced("recording the failover", err)
	}
	if err := c.fence(ctx); err != nil {
		return c.result, c.notForced("fencing "+c.plan.From, errors.Join(err, forget(context.WithoutCancel(ctx), c.Notes, c.deployment)))
	}
	forward, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.limits.Settle)
	defer cancel()
	if err := c.takeOver(forward); err != nil {
		return c.result, c.halfForced("promoting "+c.plan.To, err)
	}
	err := c.complete(forward)
	c.result.Settled = c.settled
	if err != nil {
		return c.result, c.halfForced("completing the failover", err)
	}
	if err := finish(forward, c.Notes, c.deployment, c.plan.To); err != nil {
		return c.result, c.halfForced("recording the new primary", err)
	}
	return c.result, c.settleOld(ctx)
}

// recheck makes sure that the plan still rests on facts.
func (c *forcing) recheck(ctx context.Context) error {
	info, err := c.servers[c.plan.To].Info(ctx)
	if err != nil {
		return err
	}
	state, err := info.Replication()
	switch {
	case err != nil:
		return err
	case info.Get("run_id") != c.to.Info.Get("run_id"):
		return outdated(c.object, "%s restarted since the plan was made", c.plan.To)
	case state.Role != redis.RoleReplica:
		return overtaken(c.object, "%s is a %s now", c.plan.To, state.Role)
	}
	if c.from.Err == nil {
		return nil
	}
	// A primary that answers again need not be given up.
	asked, cancel := context.WithTimeout(ctx, c.limits.Timeout)
	defer cancel()
	_, i, err := c.answering(asked)
	if err != nil {
		return err
	}
	if i != nil {
		return outdated(c.object, "%s answers again", c.plan.From)
	}
	return nil
}

// targetOf names a deployment that was found.
func targetOf(d *operation.Deployment) operation.Target {
	if d.Namespace != "" {
		return operation.Target{Namespace: d.Namespace, Release: d.Release}
	}
	t := operation.Target{}
	for _, i := range d.Instances {
		t.Addresses = append(t.Addresses, i.Name)
	}
	return t
}

// hangingGrace is how long a process that does not answer gets to end by itself.
const hangingGrace = time.Second

// fence sees to it that the old primary takes no writes any more.
func (c *forcing) fence(ctx context.Context) error {
	if c.from.Err == nil {
		c.Reporter.Step("pausing writes on %s", c.plan.From)
		paused, err := c.Pauser.Pause(ctx, c.deployment, c.from.Instance, c.limits.Pause)
		if err != nil {
			return err
		}
		c.demoted = append(c.demoted, demotion{c.plan.From, paused})
		return nil
	}
	if !c.plan.DeletePod {
		return nil
	}
	c.Reporter.Step("deleting the pod %s, whose process does not answer", c.plan.From)
	return c.Cluster.DeletePod(ctx, c.deployment, c.from.Instance, hangingGrace)
}

// takeOver moves the Services first, so that no new client reaches the old primary,
// and then promotes.
func (c *forcing) takeOver(ctx context.Context) error {
	host, port := c.topology.Address(c.to)
	for _, d := range c.demoted {
		if err := d.paused.Demote(ctx, host, port); err != nil {
			return err
		}
	}
	for _, m := range c.moves {
		if err := c.Traffic.Pin(ctx, c.deployment, m.Service, m.From, c.plan.To); err != nil {
			return err
		}
	}
	c.Reporter.Step("promoting %s", c.plan.To)
	if err := c.promote(ctx); err != nil {
		return err
	}
	info, err := c.servers[c.plan.To].Info(ctx, "replication")
	if err != nil {
		return err
	}
	state, err := info.Replication()
	c.result.ReplicationID, c.result.Offset = state.SecondID, state.SecondOffset-1
	return err
}

// settleOld waits for the old primary to return and makes it follow.
func (c *forcing) settleOld(ctx context.Context) error {
	if c.from.Err == nil {
		c.result.OldPrimary = OldPrimaryFollows
		return nil
	}
	c.result.OldPrimary = c.unreturned(c.deployment)
	if c.plan.options.Return <= 0 {
		return c.unsettled()
	}
	c.Reporter.Step("waiting up to %s for %s to return", c.plan.options.Return, c.plan.From)
	waiting, cancel := context.WithTimeout(ctx, c.plan.options.Return)
	defer cancel()
	for {
		d, i, err := c.answering(waiting)
		if err == nil {
			c.result.OldPrimary = c.unreturned(d)
		}
		if i != nil && (i.Pod == nil || !i.Pod.Deleting) {
			return c.demoteReturned(ctx, d)
		}
		select {
		case <-ctx.Done():
			return c.halfForced("waiting for "+c.plan.From+" to return", context.Cause(ctx))
		case <-waiting.Done():
			return c.unsettled()
		case <-time.After(returnInterval):
		}
	}
}

const returnInterval = 500 * time.Millisecond

// answering observes the deployment again, and returns the old primary, which may have
// another address now, or nil when it does not answer. One that loads its data does
// not: what it has is not known yet. The error is that the deployment could not be
// found.
func (c *forcing) answering(ctx context.Context) (*operation.Deployment, *operation.Instance, error) {
	d, err := c.Resolver.Resolve(ctx, targetOf(c.deployment))
	if err != nil {
		return nil, nil, err
	}
	i := d.Instance(c.plan.From)
	if i == nil || i.Down() != nil {
		return d, nil, nil
	}
	asked, cancel := context.WithTimeout(ctx, c.limits.Timeout)
	defer cancel()
	server, err := c.Connector.Connect(asked, d, *i)
	if err == nil {
		_, err = server.Ping(asked)
		_ = server.Close() // it was only asked
	}
	if err != nil && (!operation.Answered(err) || errors.Is(err, operation.ErrLoading)) {
		return d, nil, nil // that is the answer
	}
	return d, i, nil
}

// unreturned says what can be known of an old primary that does not answer.
func (c *forcing) unreturned(d *operation.Deployment) OldPrimary {
	if i := d.Instance(c.plan.From); i != nil && i.Pod != nil && (!i.Pod.ContainerRunning || i.Pod.UID != c.from.Pod.UID) {
		return OldPrimaryDown
	}
	return OldPrimaryUnknown
}

// demoteReturned brings the returned primary, and whoever followed it meanwhile, to
// the new one. The consent to lose what only it has was given; it is backed up.
func (c *forcing) demoteReturned(ctx context.Context, d *operation.Deployment) error {
	o := HealOptions{Limits: c.limits, Keep: c.plan.To, NoBackup: c.plan.options.NoBackup, AllowUnreachable: true}
	plan, err := c.planHeal(ctx, d, o)
	if err == nil {
		err = plan.Refusal()
	}
	if err != nil {
		return c.halfForced("planning what becomes of "+c.plan.From, err)
	}
	if !plan.Nothing() {
		healed, err := c.heal(ctx, plan)
		c.result.Losses, c.result.Backups = healed.Losses, healed.Backups
		if err != nil {
			return c.halfForced("making "+c.plan.From+" follow", err)
		}
		c.result.Followers = healed.Followers
	}
	c.result.OldPrimary = OldPrimaryFollows
	return nil
}

// unsettled says what remains to be done when the old primary has not returned. It
// is an error only if it may be running: then it may take writes of clients that are
// still connected to it.
func (c *forcing) unsettled() error {
	const next = "redisctl replication heal makes it follow when it is back; redisctl failover guard does so by itself"
	if c.result.OldPrimary == OldPrimaryDown {
		c.Reporter.Warn("%s is down and gets no clients of the Services; %s", c.plan.From, next)
		return nil
	}
	return &operation.Error{
		Kind: operation.Partial, Object: c.object, Phase: "fencing " + c.plan.From,
		Err:       fmt.Errorf("%s is the primary and has the Services' clients, but whether %s still runs cannot be told", c.plan.To, c.plan.From),
		Unchanged: "clients that are still connected to it may be writing there", Next: next,
	}
}

func (c *forcing) notForced(phase string, err error) error {
	return &operation.Error{
		Kind: operation.KindOf(err), Object: c.object, Phase: phase, Err: err,
		Unchanged: "no replica was promoted", Next: "redisctl failover force again",
	}
}

func (c *forcing) halfForced(phase string, err error) error {
	return &operation.Error{
		Kind: operation.KindOf(err), Object: c.object, Phase: phase, Err: err,
		Unchanged: c.plan.To + " keeps its data", Next: "redisctl replication heal completes it; redisctl failover status shows how far it came",
	}
}
