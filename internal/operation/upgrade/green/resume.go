package green

import (
	"context"
	"slices"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/failover"
)

// Resume goes on with a second release that was interrupted: a switch that has begun is
// completed or undone, whichever the servers' roles say; one that does not follow any more
// is let follow again.
func (g Green) Resume(ctx context.Context, d *operation.Deployment, o Options) (Result, error) {
	return g.holding(ctx, d, "upgrade resume", func(ctx context.Context, d *operation.Deployment, r *Record) (Result, error) {
		if r.Phase == PhaseInstalling {
			return g.resumeInstall(ctx, d, r, o)
		}
		p, err := g.open(ctx, d, r)
		if err != nil {
			return Result{}, err
		}
		if r.Phase == PhaseSwitching {
			if err := g.resumeSwitch(ctx, p, o.Limits.Limits); err != nil {
				return Result{}, err
			}
		}
		if r.Phase == PhaseServing {
			return g.resumeServing(ctx, p, o)
		}
		return g.bringUp(ctx, d, r, o)
	})
}

// resumeInstall goes on when Helm has made the whole release.
func (g Green) resumeInstall(ctx context.Context, d *operation.Deployment, r *Record, o Options) (Result, error) {
	green, err := g.find(ctx, d, r.Green)
	if err != nil {
		return Result{}, err
	}
	if green != nil {
		history, err := g.Releases.History(ctx, green)
		if err != nil {
			return Result{}, err
		}
		if history[len(history)-1].Status == "deployed" {
			return g.bringUp(ctx, d, r, o)
		}
	}
	g.Reporter.Step("%s was not installed completely", r.Green)
	return g.removed(ctx, d, r)
}

// resumeSwitch finishes or undoes a switch, and records which release serves.
func (g Green) resumeSwitch(ctx context.Context, p *pair, l failover.Limits) error {
	if p.record.Copies {
		phase, err := g.resumeCopy(ctx, p, l)
		if err != nil {
			return err
		}
		return g.serving(ctx, p, phase)
	}
	unfinished, err := g.Notes.Note(ctx, p.blue, operation.NoteCutover)
	if err != nil {
		return err
	}
	if unfinished != "" {
		if _, _, err := g.switcher(p).Resume(ctx, p.merged(""), l); err != nil {
			return redirected(err)
		}
	}
	t := g.observe(ctx, p, l)
	primary, err := t.Primary()
	if err != nil {
		return refused(p.blue.String(), "upgrade resume", "redisctl replication role, for each of the releases", "%w", err)
	}
	phase := PhaseReady
	if p.green.Instance(primary.Name) != nil {
		phase = PhaseServing
	}
	return g.serving(ctx, p, phase)
}

// resumeServing makes sure that the Services lead to the second release.
func (g Green) resumeServing(ctx context.Context, p *pair, o Options) (Result, error) {
	result := g.newResult(p.blue, p.record, OutcomeServing)
	t := g.observe(ctx, p, o.Limits.Limits)
	from, to, err := sides(&t, p, true)
	if err != nil {
		return result, refused(p.blue.String(), "upgrade resume", "redisctl upgrade status", "%w", err)
	}
	result.Primary = from.Name
	if err := g.hasAll(p, from, to, SwitchOptions{Back: true}); err != nil && !p.record.Copies {
		g.Reporter.Warn("%s has no way back: %v", p.blue.Release, err)
	}
	for _, r := range p.record.Services {
		if err := g.Cluster.Reroute(ctx, p.blue, r.Service, r.Blue, r.Green); err != nil {
			return result, err
		}
		result.Services = append(result.Services, r.Service)
	}
	return result, nil
}

// Abort removes the second release and its claims. It refuses once that one serves.
func (g Green) Abort(ctx context.Context, d *operation.Deployment) (Result, error) {
	return g.holding(ctx, d, "upgrade abort", func(ctx context.Context, d *operation.Deployment, r *Record) (Result, error) {
		switch r.Phase {
		case PhaseServing:
			return Result{}, refused(d.String(), "upgrade abort", "redisctl upgrade failback first", "%s serves: removing it would remove the data", r.Green)
		case PhaseSwitching:
			return Result{}, refused(d.String(), "upgrade abort", "redisctl upgrade resume first", "a switch between %s and %s was interrupted", d.Release, r.Green)
		default:
			return g.removed(ctx, d, r)
		}
	})
}

func (g Green) removed(ctx context.Context, d *operation.Deployment, r *Record) (Result, error) {
	result := g.newResult(d, r, OutcomeRemoved)
	claims, err := g.remove(ctx, d, r)
	if err != nil {
		return result, g.interrupted(d, "removing "+r.Green, err)
	}
	result.Claims = append(result.Claims, claims...)
	return result, nil
}

// PlanFinish tells what Finish is going to do. It only reads.
func (g Green) PlanFinish(ctx context.Context, d *operation.Deployment) (operation.Plan, error) {
	p := operation.Plan{Operation: "upgrade finish", Object: d.String(), Steps: []operation.Step{}, Findings: []operation.Finding{}}
	r, err := g.required(ctx, d, p.Operation)
	if err != nil {
		return p, err
	}
	if r.Phase != PhaseServing {
		return p, refused(p.Object, p.Operation, "redisctl upgrade status", "%s does not serve: it is %s", r.Green, r.Phase)
	}
	p.Steps = append(p.Steps, operation.Step{Action: "forget the way back: " + r.Green + " stays for good", Subject: p.Object, Mutates: true})
	return p, nil
}

// Finish makes a cutover final: there is no way back any more. The Services stay with the
// first release, which goes on following the second one until it is removed.
func (g Green) Finish(ctx context.Context, d *operation.Deployment) (Result, error) {
	return g.holding(ctx, d, "upgrade finish", func(ctx context.Context, d *operation.Deployment, r *Record) (Result, error) {
		if _, err := g.PlanFinish(ctx, d); err != nil {
			return Result{}, err
		}
		p, err := g.open(ctx, d, r)
		if err != nil {
			return Result{}, err
		}
		result := g.newResult(d, r, OutcomeFinished)
		for _, route := range r.Services {
			result.Services = append(result.Services, route.Service)
		}
		slices.Sort(result.Services)
		if err := g.Notes.SetNotes(ctx, p.green, map[string]string{operation.NoteBlue: ""}); err != nil {
			return result, err
		}
		// NoteServedBy stays: it is still true.
		return result, g.Notes.SetNotes(ctx, d, map[string]string{operation.NoteGreen: ""})
	})
}

// holding takes the lock and reads the record again, because whoever had it may have come
// further.
func (g Green) holding(
	ctx context.Context, d *operation.Deployment, phase string,
	do func(context.Context, *operation.Deployment, *Record) (Result, error),
) (Result, error) {
	begun := g.Now()
	locked, release, err := g.Locker.Lock(ctx, d)
	if err != nil {
		return Result{}, err
	}
	defer release()
	if d, err = g.resolve(locked, d); err != nil {
		return Result{}, err
	}
	r, err := g.required(locked, d, phase)
	if err != nil {
		return Result{}, err
	}
	result, err := do(locked, d, r)
	result.Seconds = g.Now().Sub(begun).Seconds()
	return result, err
}
