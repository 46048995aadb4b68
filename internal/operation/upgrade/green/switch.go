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

// SwitchOptions are the user's choices for a cutover or a failback.
type SwitchOptions struct {
	failover.Options
	// Back is a failback: clients return to the first release.
	Back bool
	// CopyPause is how long writes may wait while all data is copied, where releases do
	// not replicate; 0 for three times what the last copy took, and 30 s at least.
	CopyPause time.Duration
}

func (o SwitchOptions) operation() string {
	if o.Back {
		return "upgrade failback"
	}
	return "upgrade cutover"
}

// PlanSwitch finds out whether the servers of the other release have everything. It only
// reads.
func (g Green) PlanSwitch(ctx context.Context, d *operation.Deployment, o SwitchOptions) (*failover.Plan, error) {
	plan, _, err := g.planSwitch(ctx, d, o)
	return plan, err
}

func (g Green) planSwitch(ctx context.Context, d *operation.Deployment, o SwitchOptions) (*failover.Plan, *pair, error) {
	r, err := g.required(ctx, d, o.operation())
	if err != nil {
		return nil, nil, err
	}
	if err := switchable(d, r, o); err != nil {
		return nil, nil, err
	}
	p, err := g.open(ctx, d, r)
	if err != nil {
		return nil, nil, err
	}
	t := g.observe(ctx, p, o.Limits)
	if err := t.Denied(); err != nil {
		return nil, nil, err
	}
	from, to, err := sides(&t, p, o.Back)
	if err != nil {
		return nil, nil, refused(d.String(), o.operation(), "redisctl upgrade status", "%w", err)
	}
	if !r.Copies {
		if err := g.hasAll(p, from, to, o); err != nil {
			return nil, nil, err
		}
	}
	var others []string
	if !o.Back {
		r.Primary = from.Name
		if r.Services, others, err = g.Cluster.Routes(ctx, d, from.Name, to.Name); err != nil {
			return nil, nil, err
		}
	}
	plan, err := g.planHandover(ctx, p, from, to, o)
	if err != nil {
		return nil, nil, redirected(err)
	}
	for _, service := range others {
		plan.Findings = append(plan.Findings, operation.Finding{
			Code: "service-stays", Severity: operation.Warning, Subject: service,
			Message: "it selects several pods and is not moved: its clients stay with " + d.Release,
		})
	}
	return plan, p, nil
}

func (g Green) planHandover(ctx context.Context, p *pair, from, to *topology.Member, o SwitchOptions) (*failover.Plan, error) {
	if p.record.Copies {
		return planCopy(p, from, to, o), nil
	}
	choices := o.Options
	choices.To, choices.AllowOlder = to.Name, true
	plan, err := g.switcher(p).Plan(ctx, p.merged(from.Name), choices)
	if err == nil {
		plan.Operation = o.operation()
	}
	return plan, err
}

// switchable refuses a switch in the wrong phase.
func switchable(d *operation.Deployment, r *Record, o SwitchOptions) error {
	wanted, other := PhaseReady, PhaseServing
	if o.Back {
		wanted, other = other, wanted
	}
	switch r.Phase {
	case wanted:
		return nil
	case other:
		if o.Back {
			return refused(d.String(), o.operation(), "", "%s serves: no cutover was made", d.Release)
		}
		return refused(d.String(), o.operation(), "redisctl upgrade failback goes back, redisctl upgrade finish makes it final", "%s serves already", r.Green)
	default:
		return refused(d.String(), o.operation(), "redisctl upgrade resume", "the second release is not ready: it was interrupted while %s", r.Phase)
	}
}

// sides returns the primary that hands over and the server that takes over.
func sides(t *topology.Topology, p *pair, back bool) (from, to *topology.Member, err error) {
	serving, target := p.blue, first(p.green)
	if back {
		serving, target = p.green, p.record.Primary
	}
	for _, m := range t.Primaries() {
		if serving.Instance(m.Name) == nil {
			continue
		}
		if from != nil {
			return nil, nil, fmt.Errorf("%s has several primaries: %s and %s", serving.Release, from.Name, m.Name)
		}
		from = m
	}
	to = t.Member(target)
	switch {
	case from == nil:
		return nil, nil, fmt.Errorf("no server of %s says that it is the primary", serving.Release)
	case to == nil:
		return nil, nil, fmt.Errorf("the pod %s does not exist any more", target)
	case to.Err != nil:
		return nil, nil, to.Err
	}
	return from, to, nil
}

// hasAll refuses when the one that takes over does not follow, and says what would be lost.
func (g Green) hasAll(p *pair, from, to *topology.Member, o SwitchOptions) error {
	var why string
	switch {
	case to.Replication.Role == redis.RolePrimary:
		why = "it is a primary of its own (its pod has restarted, or somebody has promoted it)"
	case to.Follows != from.Name:
		why = "it follows " + to.Upstream()
	case to.Link() != "up":
		why = "its link is " + to.Link() + ": an older server cannot load what a newer one sends it"
		if !o.Back {
			why = "its link is " + to.Link()
		}
	case to.Behind < 0:
		why = "its replication history is another one"
	default:
		return nil
	}
	next := "redisctl upgrade resume lets it follow again"
	if o.Back {
		next = "stay with " + p.record.Green + ": redisctl upgrade finish"
	}
	return refused(p.blue.String(), o.operation(), next,
		"%s does not have everything that %s has: %s; %s would be lost", to.Name, from.Name, why, missing(p.record, from, to))
}

// missing describes the writes that only from has.
func missing(r *Record, from, to *topology.Member) string {
	a, b := from.Replication, to.Replication
	switch {
	case a.ID == b.ID:
		return operation.Bytes(max(0, a.Offset-b.Offset)).String() + " of writes"
	case a.SecondID != "" && a.SecondID == b.ID:
		return operation.Bytes(max(0, a.Offset-min(b.Offset, a.SecondOffset-1))).String() + " of writes"
	case r.CutOver != nil:
		return "what was written since " + r.CutOver.UTC().Format("2006-01-02 15:04:05 MST")
	default:
		return "what only " + from.Name + " has"
	}
}

// Switch hands over to the other release. Its errors are those of failover.Apply.
func (g Green) Switch(ctx context.Context, d *operation.Deployment, o SwitchOptions) (failover.Result, error) {
	locked, release, err := g.Locker.Lock(ctx, d)
	if err != nil {
		return failover.Result{}, err
	}
	defer release()
	if d, err = g.resolve(locked, d); err != nil {
		return failover.Result{}, err
	}
	plan, p, err := g.planSwitch(locked, d, o)
	if err != nil {
		return failover.Result{}, err
	}
	if err := plan.Refusal(); err != nil {
		return failover.Result{}, err
	}
	both, releaseGreen, err := g.Locker.Lock(locked, p.green)
	if err != nil {
		return failover.Result{}, err
	}
	defer releaseGreen()
	former := p.record.Phase
	p.record.Phase = PhaseSwitching
	if err := g.save(both, d, p.record, map[string]string{operation.NoteServedBy: p.record.Green}); err != nil {
		return failover.Result{}, err
	}
	result, failed := g.handOver(both, p, plan, o)
	settling, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.Settle)
	defer cancel()
	if failed = g.settle(settling, p, former, o, failed); failed == nil && !p.record.Copies {
		g.tellWayBack(settling, p, plan.From, plan.To, o)
	}
	return result, failed
}

// wayBackLimit is how long the servers that have handed over may take to follow: a partial
// resynchronisation takes a moment, and what needs more is worth a word.
const wayBackLimit = 5 * time.Second

// tellWayBack waits until the server that has handed over follows, and warns when it cannot.
func (g Green) tellWayBack(ctx context.Context, p *pair, old, serving string, o SwitchOptions) {
	ctx, cancel := context.WithTimeout(ctx, wayBackLimit)
	defer cancel()
	for {
		t := g.observe(ctx, p, o.Limits)
		err := g.hasAll(p, t.Member(serving), t.Member(old), SwitchOptions{Back: !o.Back})
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			g.Reporter.Warn("there may be no way back to %s: %v", old, err)
			return
		case <-time.After(pollInterval):
		}
	}
}

func (g Green) handOver(ctx context.Context, p *pair, plan *failover.Plan, o SwitchOptions) (failover.Result, error) {
	if p.record.Copies {
		return g.switcher(p).Replace(ctx, g.replacement(p, plan.From, plan.To, o))
	}
	return g.switcher(p).Apply(ctx, plan)
}

// settle records how a switch has ended.
func (g Green) settle(ctx context.Context, p *pair, former Phase, o SwitchOptions, failed error) error {
	if failed != nil {
		unfinished, err := g.Notes.Note(ctx, p.blue, operation.NoteCutover)
		if err != nil || unfinished != "" {
			return redirected(errors.Join(failed, err))
		}
		return errors.Join(redirected(failed), g.serving(ctx, p, former))
	}
	phase := PhaseServing
	if o.Back {
		phase = PhaseReady
	}
	if err := g.serving(ctx, p, phase); err != nil {
		return &operation.Error{
			Kind: operation.KindOf(err), Object: p.blue.String(), Phase: "recording the switch", Err: err,
			Unchanged: "the switch itself is complete", Next: "redisctl upgrade resume",
		}
	}
	return nil
}

// serving records which release serves.
func (g Green) serving(ctx context.Context, p *pair, phase Phase) error {
	by := ""
	if phase == PhaseServing {
		by = p.record.Green
		if p.record.CutOver == nil {
			now := g.Now().UTC()
			p.record.CutOver = &now
		}
	} else {
		p.record.CutOver = nil
	}
	p.record.Phase = phase
	return g.save(ctx, p.blue, p.record, map[string]string{operation.NoteServedBy: by})
}

// redirected names this package's way on in an error of failover, whose own commands know
// one release only.
func redirected(err error) error {
	var e *operation.Error
	if !errors.As(err, &e) || e.Next == "" {
		return err
	}
	again := *e
	again.Err, again.Next = e.Err, "redisctl upgrade resume"
	return &again
}
