package failover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/redis"
)

// HealOptions are the user's choices for Heal.
type HealOptions struct {
	Limits
	// Keep is the instance whose data is kept whatever the others have; empty to
	// keep the one that has everything.
	Keep string
	// NoCompare skips the comparison of data sets whose histories do not tell which
	// of them has everything: such a deployment is then not healed without Keep.
	NoCompare bool
	// NoBackup skips the backup of what is going to be discarded.
	NoBackup bool
	// AllowUnreachable goes on although an instance does not answer.
	AllowUnreachable bool
}

// HealPlan is how a deployment comes back to the topology that it is meant to have.
type HealPlan struct {
	operation.Plan
	// Intended is the instance that the last failover made the primary, or the
	// chart's own choice.
	Intended string `json:"intended"`
	// Primary is the one that everybody will follow: of those that have all data
	// the intended one, or the one with the most.
	Primary string `json:"primary"`
	// Promote is set when it is not the primary now.
	Promote bool `json:"promote"`
	// Demote are primaries that will become replicas.
	Demote []string `json:"demote"`
	// Repoint are replicas that will follow it.
	Repoint []string `json:"repoint"`
	// Services will be moved to it.
	Services []Move `json:"services"`
	// Losses are the instances whose own data will be discarded.
	Losses []Loss `json:"losses"`

	deployment *operation.Deployment
	topology   topology.Topology
	options    HealOptions
	// fenced is set when Primary refuses writes because of an interrupted switch.
	fenced bool
	record *Record
}

// Loss is an instance with data that the kept one lacks, or may lack.
type Loss struct {
	Instance string `json:"instance"`
	// Bytes of writes that only this instance has taken, as far as the histories
	// tell; -1 when they do not.
	Bytes int64 `json:"bytes"`
	// Why the data is taken to be its own.
	Why string `json:"why"`
	// Difference is what a comparison of the data sets has found; nil when none was
	// made.
	Difference *Difference `json:"difference,omitempty"`
}

// Nothing reports whether there is nothing to heal.
func (p *HealPlan) Nothing() bool { return len(p.Steps) == 0 }

// HealResult is what Heal has done and seen. Its JSON form is part of redisctl's
// interface (docs/json-output.md).
type HealResult struct {
	Namespace string `json:"namespace,omitempty"`
	Release   string `json:"release,omitempty"`
	Name      string `json:"name"`
	// Primary is the one that everybody follows now.
	Primary string `json:"primary"`
	// Changed is false when there was nothing to heal.
	Changed bool `json:"changed"`
	// Demoted were primaries.
	Demoted []string `json:"demoted"`
	// Losses were discarded; Backups are the names of what was kept of them.
	Losses  []Loss   `json:"losses"`
	Backups []string `json:"backups"`
	Settled
}

// PlanHeal finds out what is not as it is meant to be, which instance has all data,
// and what has to be done. It only reads: where the replication histories do not
// tell, it streams and compares the data sets.
//
// It never chooses a side with less data: when no instance has everything, the plan
// is blocked until the user says which one to keep.
func (f Failover) PlanHeal(ctx context.Context, d *operation.Deployment, o HealOptions) (*HealPlan, error) {
	plan, err := f.planHeal(ctx, d, o)
	return orLocked(ctx, f, d, plan, err)
}

func (f Failover) planHeal(ctx context.Context, d *operation.Deployment, o HealOptions) (*HealPlan, error) {
	t := topology.Observe(ctx, f.Connector, d, o.Timeout)
	if err := t.Denied(); err != nil {
		return nil, err
	}
	plan := &HealPlan{
		Plan:   operation.Plan{Operation: "replication heal", Object: d.String(), Steps: []operation.Step{}, Findings: []operation.Finding{}},
		Demote: []string{}, Repoint: []string{}, Services: []Move{}, Losses: []Loss{},
		deployment: d, topology: t, options: o,
	}
	if by := d.ServedBy(); by != "" {
		plan.Findings = append(plan.Findings, operation.Finding{
			Code: "served-elsewhere", Severity: operation.Critical, Subject: plan.Object,
			Message: "its clients are served by the release " + by + ": none of its own servers is to become the primary",
			Hint:    "redisctl upgrade failback brings them back",
		})
		return plan, nil
	}
	noted, err := f.Notes.Note(ctx, d, operation.NotePrimary)
	if err != nil {
		return nil, err
	}
	if t.Independent() && noted == "" && o.Keep == "" {
		return nil, &operation.Error{
			Kind: operation.Refused, Object: d.String(), Phase: plan.Operation,
			Err: errors.New("these are independent servers, not a primary with replicas"), Unchanged: "nothing was changed",
			Next: "if one of them is to become a replica of the other: --keep",
		}
	}
	plan.Intended = intended(d, noted)
	if err := f.choose(ctx, plan); err != nil {
		return nil, err
	}
	plan.checkSilent()
	if plan.Primary == "" {
		return plan, nil
	}
	if plan.record, err = load(ctx, f.Notes, d); err != nil {
		return nil, err
	}
	if plan.fenced, err = f.Pauser.Fenced(ctx, d, t.Member(plan.Primary).Instance); err != nil {
		return nil, err
	}
	plan.findDrift()
	plan.addSteps()
	return plan, nil
}

// intended returns the instance that is meant to be the primary: the one that was
// noted, or the chart's choice. Plain addresses without a note have none.
func intended(d *operation.Deployment, noted string) string {
	if d.Instance(noted) != nil {
		return noted
	}
	for _, i := range d.Instances {
		if i.Ordinal == 0 {
			return i.Name
		}
	}
	return ""
}

// choose finds the instance that has everything, the intended one first.
func (f Failover) choose(ctx context.Context, plan *HealPlan) error {
	candidates := plan.candidates()
	if len(candidates) == 0 {
		plan.Findings = append(plan.Findings, operation.Finding{
			Code: "no-instance", Severity: operation.Critical, Subject: plan.Object,
			Message: "no instance answers and has loaded its data",
		})
		return nil
	}
	if keep := plan.options.Keep; keep != "" {
		m := plan.topology.Member(keep)
		if m == nil {
			return operation.Errorf(operation.Usage, "%s has no instance %q; it has %s", plan.Object, keep, plan.deployment.InstanceNames())
		}
		if m.Err != nil {
			return m.Err
		}
		candidates = []*topology.Member{m}
	}
	// The histories first: they cost nothing. A comparison is made against the one
	// that would otherwise be kept, and against the others only if that fails.
	for _, m := range candidates {
		if losses := plan.losses(m); len(losses) == 0 {
			plan.Primary = m.Name
			return nil
		}
	}
	var first []Loss
	for _, m := range candidates {
		losses, err := f.compareData(ctx, plan, m)
		if err != nil {
			return err
		}
		if len(losses) == 0 || plan.options.Keep != "" {
			plan.Primary, plan.Losses = m.Name, losses
			plan.blockLosses()
			return nil
		}
		if first == nil {
			first = losses
		}
	}
	plan.Primary, plan.Losses = candidates[0].Name, first
	plan.blockLosses()
	return nil
}

// candidates returns the instances that could be kept, the best first.
func (p *HealPlan) candidates() []*topology.Member {
	var found []*topology.Member
	for i := range p.topology.Members {
		m := &p.topology.Members[i]
		if m.Err == nil && !m.Info.Persistence().Loading && m.Link() != "syncing" {
			found = append(found, m)
		}
	}
	rank := func(m *topology.Member) int {
		switch {
		case m.Name == p.Intended && m.Replication.Role == redis.RolePrimary:
			return 0
		case m.Name == p.Intended && m.Link() == "down":
			return 1 // nobody has made it follow on purpose
		case m.Replication.Role == redis.RolePrimary:
			return 2
		default:
			return 3
		}
	}
	slices.SortStableFunc(found, func(a, b *topology.Member) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(b.Replication.Offset, a.Replication.Offset))
	})
	return found
}

// losses returns who may have something that kept lacks, by the histories. A replica
// in sync with kept has what kept has.
func (p *HealPlan) losses(kept *topology.Member) []Loss {
	var found []Loss
	for i := range p.topology.Members {
		m := &p.topology.Members[i]
		if m == kept || m.Err != nil || p.inSync(m, kept) {
			continue
		}
		if r := compare(m, kept); !r.contained {
			found = append(found, Loss{Instance: m.Name, Bytes: r.own, Why: r.why})
		}
	}
	return found
}

// inSync reports whether m replicates kept, directly or through others. A replica
// whose full resynchronisation is running has nothing any more that could be lost, and
// one that has just lost the link to a primary which is there will get it back.
func (p *HealPlan) inSync(m, kept *topology.Member) bool {
	for range p.topology.Members { // a loop of replicas never ends
		link := m.Link()
		if link == "syncing" || link != "" && m.Info.Persistence().Loading {
			return true
		}
		if m.Follows == kept.Name && (link == "up" || kept.Replication.Role == redis.RolePrimary) {
			return true
		}
		if m.Follows == "" || link != "up" {
			return false
		}
		if m = p.topology.Member(m.Follows); m == nil || m.Err != nil {
			return false
		}
	}
	return false
}

// compareData asks the data itself, where the histories do not tell.
func (f Failover) compareData(ctx context.Context, plan *HealPlan, kept *topology.Member) ([]Loss, error) {
	losses := plan.losses(kept)
	if plan.options.NoCompare || f.Copies == nil {
		return losses, nil
	}
	remaining := losses[:0]
	for _, loss := range losses {
		f.Reporter.Step("comparing the data of %s with that of %s", loss.Instance, kept.Name)
		losing := plan.topology.Member(loss.Instance)
		difference, err := f.Copies.Compare(ctx, plan.deployment, losing.Instance, kept.Instance)
		if err != nil {
			return nil, err
		}
		busy, err := f.refresh(ctx, plan.deployment, losing)
		if err != nil {
			return nil, err
		}
		switch {
		case busy:
			loss.Why = "it took writes while it was compared"
		case difference.Nothing() && !difference.Sampled:
			f.Reporter.Note("%s has nothing that %s lacks", loss.Instance, kept.Name)
			continue
		}
		loss.Difference = &difference
		remaining = append(remaining, loss)
	}
	return remaining, nil
}

// refresh asks an instance again after its data was compared, and reports whether it
// took writes meanwhile. What it says now is what Heal will hold it to.
func (f Failover) refresh(ctx context.Context, d *operation.Deployment, m *topology.Member) (busy bool, err error) {
	server, err := f.Connector.Connect(ctx, d, m.Instance)
	if err != nil {
		return false, err
	}
	defer func() { _ = server.Close() }() // it was only asked
	info, err := server.Info(ctx)
	if err != nil {
		return false, err
	}
	busy = tookWrites(fingerprintOf(m.Info), fingerprintOf(info))
	m.Info = info
	return busy, nil
}

func (p *HealPlan) blockLosses() {
	for _, loss := range p.Losses {
		message := fmt.Sprintf("it may have data that %s lacks: %s", p.Primary, loss.Why)
		if d := loss.Difference; d != nil {
			message += fmt.Sprintf("; %d keys are only there, %d differ", d.Only, d.Changed)
			if len(d.Examples) > 0 {
				message += fmt.Sprintf(" (%s)", exampleList(d.Examples))
			}
		}
		p.Findings = append(p.Findings, operation.Finding{
			Code: "diverged", Severity: operation.Critical, Subject: loss.Instance, Message: message,
			Override: "--keep " + p.Primary, Overridden: p.options.Keep == p.Primary,
		})
	}
}

func exampleList(keys []string) string {
	const shown = 3
	text := ""
	for i, key := range keys[:min(len(keys), shown)] {
		if i > 0 {
			text += ", "
		}
		text += key
	}
	if len(keys) > shown {
		text += ", ..."
	}
	return text
}

// checkSilent names the instances that cannot be asked. One of them may be the
// primary, or have more data than all others.
func (p *HealPlan) checkSilent() {
	for i := range p.topology.Members {
		m := &p.topology.Members[i]
		switch {
		case m.Err == nil && m.Info.Persistence().Loading && m.Name != p.Primary:
			p.Findings = append(p.Findings, operation.Finding{
				Code: "loading", Severity: operation.Critical, Subject: m.Name,
				Message: "it is loading its data set: what it has is not known yet", Hint: "wait until it has loaded",
				Override: "--allow-unreachable", Overridden: p.options.AllowUnreachable,
			})
		case m.Err == nil:
		case m.Name == p.Intended:
			p.Findings = append(p.Findings, operation.Finding{
				Code: "primary-silent", Severity: operation.Critical, Subject: m.Name,
				Message:  fmt.Sprintf("the primary does not answer (%v): what only it has would be lost", m.Err),
				Hint:     "redisctl failover force, when it will not come back",
				Override: "--allow-unreachable", Overridden: p.options.AllowUnreachable,
			})
		default:
			p.Findings = append(p.Findings, operation.Finding{
				Code: "unreachable", Severity: operation.Warning, Subject: m.Name,
				Message: fmt.Sprintf("does not answer (%v) and is left as it is", m.Err),
			})
		}
	}
}

// findDrift lists what differs from everybody following the primary.
func (p *HealPlan) findDrift() {
	primary := p.topology.Member(p.Primary)
	p.Promote = primary.Replication.Role != redis.RolePrimary
	host, port := p.topology.Address(primary)
	for i := range p.topology.Members {
		m := &p.topology.Members[i]
		up := m.Replication.Upstream
		switch {
		case m == primary || m.Err != nil:
		case up == nil:
			p.Demote = append(p.Demote, m.Name)
		case up.Host != host || up.Port != port:
			p.Repoint = append(p.Repoint, m.Name)
		}
	}
	for _, s := range p.deployment.Services {
		if s.PodSelector != "" && s.PodSelector != p.Primary {
			p.Services = append(p.Services, Move{Service: s.Name, From: s.PodSelector})
		}
	}
}

func (p *HealPlan) addSteps() {
	add := func(action, subject string) {
		p.Steps = append(p.Steps, operation.Step{Action: action, Subject: subject, Mutates: true})
	}
	for _, loss := range p.Losses {
		if !p.options.NoBackup {
			add("back up before its data is discarded", loss.Instance)
		}
	}
	for _, name := range p.Demote {
		add("pause writes, check that there was none since this plan, demote: follow "+p.Primary, name)
	}
	if p.Promote {
		add("promote", p.Primary)
	}
	for _, m := range p.Services {
		add(fmt.Sprintf("send clients to %s instead of %s", p.Primary, m.From), "service "+m.Service)
	}
	for _, name := range p.Repoint {
		add("follow "+p.Primary, name)
	}
	if p.fenced {
		add("let it take writes again, which an interrupted switch has stopped", p.Primary)
	}
	if r := p.record; r != nil {
		add(fmt.Sprintf("remove the record of an unfinished failover from %s to %s", r.From, r.To), p.Object)
	}
	if p.Primary != p.Intended {
		add("note it as the intended primary", p.Primary)
	}
	if len(p.Steps) > 0 {
		p.Steps = append(p.Steps, operation.Step{Action: "verify roles, links, endpoints and a write through each moved Service", Subject: p.Primary})
	}
}

// Heal carries a plan out, under the deployment's lock. Nothing of a plan that was
// begun needs to be undone: planning again and healing again continues it.
func (f Failover) Heal(ctx context.Context, plan *HealPlan) (HealResult, error) {
	if err := plan.Refusal(); err != nil {
		return HealResult{}, err
	}
	if plan.Nothing() {
		return newHealResult(plan), nil
	}
	locked, release, err := f.Locker.Lock(ctx, plan.deployment)
	if err != nil {
		return HealResult{}, err
	}
	defer release()
	return f.heal(locked, plan)
}

func newHealResult(plan *HealPlan) HealResult {
	d := plan.deployment
	return HealResult{
		Namespace: d.Namespace, Release: d.Release, Name: d.Name, Primary: plan.Primary,
		Demoted: []string{}, Losses: plan.Losses, Backups: []string{},
		Settled: newSettled(),
	}
}

// heal is Heal under the lock.
func (f Failover) heal(ctx context.Context, plan *HealPlan) (HealResult, error) {
	result := newHealResult(plan)
	h := &handover{
		Failover: f, object: plan.Object, deployment: plan.deployment, topology: &plan.topology, limits: plan.options.Limits,
		to: plan.topology.Member(plan.Primary), repoint: plan.Repoint, moves: plan.Services, begun: f.Now(),
	}
	var err error
	if result.Backups, err = f.keepLosses(ctx, plan); err != nil {
		return result, err
	}
	if err := h.open(ctx); err != nil {
		return result, err
	}
	defer h.close()
	if err := h.unchanged(ctx); err != nil {
		return result, err
	}
	if err := h.pauseOthers(ctx, plan.Demote); err != nil {
		return result, h.letGo(ctx, err)
	}
	forward, cancel := context.WithTimeout(context.WithoutCancel(ctx), plan.options.Settle)
	defer cancel()
	if err := h.becomeOnly(forward, plan.Promote); err != nil {
		return result, h.unhealed("bringing everybody to "+plan.Primary, err)
	}
	result.Demoted = plan.Demote
	if err := f.liftFence(forward, plan); err != nil {
		return result, h.unhealed("letting "+plan.Primary+" take writes", err)
	}
	err = h.complete(forward)
	result.Settled, result.Changed = h.settled, true
	if err != nil {
		return result, h.unhealed("bringing everybody to "+plan.Primary, err)
	}
	if err := finish(forward, f.Notes, plan.deployment, plan.Primary); err != nil {
		return result, h.unhealed("recording the primary", err)
	}
	return result, nil
}

// keepLosses backs up what is going to be discarded.
func (f Failover) keepLosses(ctx context.Context, plan *HealPlan) ([]string, error) {
	backups := []string{}
	if plan.options.NoBackup {
		return backups, nil
	}
	for _, loss := range plan.Losses {
		f.Reporter.Step("backing up %s", loss.Instance)
		m := plan.topology.Member(loss.Instance)
		name, err := f.Copies.Keep(ctx, plan.deployment, m.Instance)
		if err != nil {
			return backups, fmt.Errorf("backing up %s before its data is discarded: %w", m.Name, err)
		}
		backups = append(backups, name)
		busy, err := f.refresh(ctx, plan.deployment, m)
		switch {
		case err != nil:
			return backups, err
		case busy:
			return backups, outdated(plan.Object, "%s took writes while it was backed up", m.Name)
		}
	}
	return backups, nil
}

func (h *handover) unhealed(phase string, err error) error {
	return &operation.Error{
		Kind: operation.KindOf(err), Object: h.object, Phase: phase, Err: err,
		Unchanged: h.to.Name + " keeps its data", Next: "redisctl replication heal again continues it",
	}
}

// unchanged makes sure that nobody restarted or changed sides since the plan.
func (h *handover) unchanged(ctx context.Context) error {
	for name, server := range h.servers {
		info, err := server.Info(ctx)
		if err != nil {
			return err
		}
		state, err := info.Replication()
		if err != nil {
			return err
		}
		m := h.topology.Member(name)
		switch {
		case info.Get("run_id") != m.Info.Get("run_id"):
			return outdated(h.object, "%s restarted since the plan was made", name)
		case state.Role != m.Replication.Role:
			return overtaken(h.object, "%s is a %s now", name, state.Role)
		}
	}
	return nil
}

// pauseOthers pauses the writes of the primaries that are going to be demoted, and
// makes sure that they took none since they were compared.
func (h *handover) pauseOthers(ctx context.Context, names []string) error {
	for _, name := range names {
		m := h.topology.Member(name)
		paused, err := h.Pauser.Pause(ctx, h.deployment, m.Instance, h.limits.Pause)
		if err != nil {
			return err
		}
		h.demoted = append(h.demoted, demotion{name, paused})
		if tookWrites(fingerprintOf(m.Info), fingerprintOf(paused.Observed())) {
			return outdated(h.object, "%s has taken writes since the plan was made", name)
		}
	}
	return nil
}

// letGo ends the pauses: nothing was changed yet.
func (h *handover) letGo(ctx context.Context, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), h.limits.Timeout)
	defer cancel()
	for _, d := range h.demoted {
		err = errors.Join(err, d.paused.Resume(ctx))
	}
	return err
}

// becomeOnly demotes the others, whose writes are paused, and then promotes.
func (h *handover) becomeOnly(ctx context.Context, promote bool) error {
	host, port := h.topology.Address(h.to)
	for _, d := range h.demoted {
		h.Reporter.Step("demoting %s", d.name)
		if err := d.paused.Demote(ctx, host, port); err != nil {
			return fmt.Errorf("demoting %s: %w", d.name, err)
		}
	}
	if !promote {
		return nil
	}
	h.Reporter.Step("promoting %s", h.to.Name)
	return h.promote(ctx)
}

// liftFence lets the primary take writes again.
func (f Failover) liftFence(ctx context.Context, plan *HealPlan) error {
	if !plan.fenced {
		return nil
	}
	before := ""
	if r := plan.record; r != nil && r.From == plan.Primary {
		before = r.MinReplicas
	}
	return f.Pauser.LetWrites(ctx, plan.deployment, plan.topology.Member(plan.Primary).Instance, before)
}
