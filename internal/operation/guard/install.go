package guard

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
)

// Plan is what installing or removing a guard does. Its JSON form is part of
// redisctl's interface (docs/json-output.md).
type Plan struct {
	operation.Plan
	Objects []Object `json:"objects"`

	deployment *operation.Deployment
	spec       Spec
}

// Changes reports whether there is anything to do.
func (p *Plan) Changes() bool {
	return slices.ContainsFunc(p.Objects, func(o Object) bool { return o.Action != ActionKeep })
}

// PlanInstall finds out what installing the guard, or bringing an installed one up
// to date, does. It only reads.
func (g Guard) PlanInstall(ctx context.Context, d *operation.Deployment, s Spec) (*Plan, error) {
	plan := newPlan("failover guard install", d)
	plan.spec = s
	if err := plan.check(); err != nil {
		return nil, err
	}
	var err error
	if plan.Objects, err = g.Cluster.GuardChanges(ctx, d, s); err != nil {
		return nil, err
	}
	plan.addSteps()
	if plan.Changes() {
		plan.Steps = append(plan.Steps, operation.Step{Action: "wait until one of its pods acts and has observed", Subject: plan.Object})
	}
	if s.Promote {
		plan.Findings = append(plan.Findings, operation.Finding{
			Code: "promotes", Severity: operation.Notice, Subject: plan.Object,
			Message: fmt.Sprintf("it will promote a replica when the primary is gone for %s, which loses what was not replicated", s.PromoteAfter),
		})
	}
	return plan, nil
}

func newPlan(operationName string, d *operation.Deployment) *Plan {
	return &Plan{
		Plan: operation.Plan{
			Operation: operationName, Object: d.String(), Steps: []operation.Step{}, Findings: []operation.Finding{},
		},
		Objects: []Object{}, deployment: d,
	}
}

func (p *Plan) block(code, subject, message, hint string) {
	p.Findings = append(p.Findings, operation.Finding{
		Code: code, Severity: operation.Critical, Subject: subject, Message: message, Hint: hint,
	})
}

// check finds what makes a guard pointless or impossible.
func (p *Plan) check() error {
	d, s := p.deployment, p.spec
	switch {
	case d.Namespace == "":
		return operation.Errorf(operation.Usage, "a guard runs in the cluster of a release; plain addresses have none")
	case s.Replicas < 1:
		return operation.Errorf(operation.Usage, "--replicas %d: a guard has at least one", s.Replicas)
	case s.Interval <= 0 || s.PromoteAfter < 0:
		return operation.Errorf(operation.Usage, "--interval must be positive, and --promote-after not negative")
	}
	if !d.ReplicaMode() {
		p.block("not-replicated", d.String(), "its pods are independent servers: there is no primary to keep", "")
	}
	for _, gap := range d.Gaps {
		p.block("incomplete", d.String(), "its "+gap.Part+" cannot be read: "+gap.Reason,
			"the guard is only allowed to change what the plan names")
	}
	return nil
}

func (p *Plan) addSteps() {
	for _, o := range p.Objects {
		if o.Action != ActionKeep {
			p.Steps = append(p.Steps, operation.Step{Action: string(o.Action), Subject: o.Kind + " " + o.Name, Mutates: true})
		}
	}
}

// pollInterval is how often the cluster is asked whether something has come true.
const pollInterval = 250 * time.Millisecond

// Install carries a plan out, and returns when the guard works: its Deployment is
// available, one of its pods acts and has recorded an observation. settle bounds how
// long that may take; the error says what the pods lack.
func (g Guard) Install(ctx context.Context, plan *Plan, settle time.Duration) (Status, error) {
	if err := plan.Refusal(); err != nil {
		return Status{}, err
	}
	if plan.Changes() {
		g.Reporter.Step("applying %d objects", len(plan.Objects))
		if err := g.Cluster.ApplyGuard(ctx, plan.deployment, plan.spec); err != nil {
			return Status{}, err
		}
	}
	g.Reporter.Step("waiting until the guard works")
	waiting, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	for {
		status, err := g.Status(waiting, plan.deployment)
		switch {
		case err == nil && status.started():
			return status, nil
		case ctx.Err() != nil:
			return status, context.Cause(ctx)
		case waiting.Err() != nil:
			return status, notWorking(plan, settle, status, err)
		}
		select {
		case <-waiting.Done():
			return status, notWorking(plan, settle, status, err)
		case <-time.After(pollInterval):
		}
	}
}

func notWorking(plan *Plan, settle time.Duration, s Status, err error) error {
	switch {
	case len(s.Problems) > 0:
		err = errors.New(strings.Join(s.Problems, "; "))
	case err == nil:
		err = errors.New("it has recorded no observation")
	}
	return &operation.Error{
		Kind: operation.TimedOut, Object: plan.Object, Phase: fmt.Sprintf("waiting %s for the guard", settle), Err: err,
		Unchanged: "its objects are in place, and it begins to work when that is remedied",
		Next:      "redisctl failover guard status, or redisctl failover guard remove",
	}
}

// PlanRemove finds out what there is to remove. It only reads.
func (g Guard) PlanRemove(ctx context.Context, d *operation.Deployment) (*Plan, error) {
	plan := newPlan("failover guard remove", d)
	state, err := g.Cluster.GuardState(ctx, d)
	if err != nil {
		return nil, err
	}
	for _, o := range state.Objects {
		o.Action = ActionDelete
		plan.Objects = append(plan.Objects, o)
	}
	plan.addSteps()
	note, err := g.Notes.Note(ctx, d, Note)
	if err != nil {
		return nil, err
	}
	if note != "" {
		plan.Steps = append(plan.Steps, operation.Step{Action: "remove the annotation " + Note, Subject: d.Workload.Name, Mutates: true})
	}
	return plan, nil
}

// Removed is what Remove has done. Its JSON form is part of redisctl's interface
// (docs/json-output.md).
type Removed struct {
	Namespace string `json:"namespace"`
	Release   string `json:"release"`
	Name      string `json:"name"`
	// Objects were deleted; none when no guard was installed.
	Objects []Object `json:"objects"`
}

// Remove carries a plan of PlanRemove out, and returns when everything is gone.
func (g Guard) Remove(ctx context.Context, plan *Plan, settle time.Duration) (Removed, error) {
	d := plan.deployment
	removed := Removed{Namespace: d.Namespace, Release: d.Release, Name: d.Name, Objects: plan.Objects}
	if len(plan.Steps) == 0 {
		return removed, nil
	}
	ctx, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	if len(plan.Objects) > 0 {
		g.Reporter.Step("deleting %d objects, and waiting until they are gone", len(plan.Objects))
		if err := g.Cluster.DeleteGuard(ctx, d, plan.Objects); err != nil {
			return removed, err
		}
	}
	// Only now: until its pods are gone the guard may write it again.
	return removed, g.Notes.SetNotes(ctx, d, map[string]string{Note: ""})
}
