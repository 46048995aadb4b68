package roll

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/failover"
	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/operation/upgrade"
)

// Plan is what an upgrade is going to do.
type Plan struct {
	operation.Plan
	Strategy Strategy `json:"strategy"`
	// From and To are images.
	From string `json:"from"`
	To   string `json:"to"`
	// Revision is Helm's deployed one.
	Revision int `json:"revision"`
	// Pods in the order in which they are replaced; for the rolling strategy the last one
	// is the primary.
	Pods []string `json:"pods"`
	// Objects of the release that change.
	Objects []upgrade.ObjectChange `json:"objects"`
	// Backup that exists and is taken for the one before the upgrade; empty when one is
	// made.
	Backup string `json:"backup,omitempty"`

	deployment *operation.Deployment
	options    Options
	preview    upgrade.Preview
	topology   topology.Topology
	// cured are the instances that do not answer, and will when their pods are replaced.
	cured []string
}

// Nothing reports whether no object of the release changes.
func (p *Plan) Nothing() bool { return len(p.Objects) == 0 }

// Plan observes d and renders the change. It only reads.
func (r Roll) Plan(ctx context.Context, d *operation.Deployment, o Options) (*Plan, error) {
	p := &Plan{
		Plan: operation.Plan{Operation: o.Operation, Object: d.String(), Steps: []operation.Step{}, Findings: []operation.Finding{}},
		Pods: []string{}, Objects: []upgrade.ObjectChange{}, deployment: d, options: o,
	}
	if d.Workload == nil {
		return nil, operation.Errorf(operation.Usage, "%s is no Helm release: plain addresses have nothing to upgrade", d)
	}
	history, err := r.Releases.History(ctx, d)
	if err != nil {
		return nil, err
	}
	p.Revision, p.From = deployed(history), d.Workload.Image
	p.preview, err = r.Releases.Preview(ctx, d, o.Change)
	if err != nil {
		return nil, err
	}
	p.To, p.Objects = p.preview.Image, p.preview.Objects
	p.topology = topology.Observe(ctx, r.Connector, d, o.Limits.Timeout)
	if err := p.topology.Denied(); err != nil {
		return nil, err
	}
	if err := r.checkRecords(ctx, p); err != nil {
		return nil, err
	}
	if p.Nothing() {
		return p, nil
	}
	if err := p.chooseStrategy(); err != nil {
		return nil, err
	}
	if err := r.checkWorkload(ctx, p); err != nil {
		return nil, err
	}
	if err := r.checkHandOver(ctx, p); err != nil {
		return nil, err
	}
	if !o.NoBackup {
		if p.Backup, err = r.Backups.Recent(ctx, d, o.BackupAge); err != nil {
			return nil, err
		}
	}
	p.planSteps()
	return p, nil
}

// deployed returns the number of the deployed revision, or else of the newest.
func deployed(history []upgrade.Revision) int {
	for _, revision := range slices.Backward(history) {
		if revision.Status == "deployed" {
			return revision.Number
		}
	}
	return history[len(history)-1].Number
}

func (p *Plan) add(f operation.Finding) { p.Findings = append(p.Findings, f) }

// checkRecords finds what is not finished, and who is at work.
func (r Roll) checkRecords(ctx context.Context, p *Plan) error {
	record, err := r.Unfinished(ctx, p.deployment)
	if err != nil {
		return err
	}
	if record != nil {
		p.add(operation.Finding{
			Code: "unfinished-upgrade", Severity: operation.Critical, Subject: p.Object,
			Message: fmt.Sprintf("the upgrade to %s, begun by %s, is not finished", record.To, record.By),
			Hint:    "redisctl upgrade resume or abort",
		})
	}
	for _, check := range []func(context.Context, operation.Notes, *operation.Deployment) ([]operation.Finding, error){
		restore.UnfinishedRestore, restore.UnfinishedFailover,
	} {
		found, err := check(ctx, r.Notes, p.deployment)
		if err != nil {
			return err
		}
		p.Findings = append(p.Findings, found...)
	}
	p.Findings = append(p.Findings, restore.Locked(ctx, r.Locker, p.deployment)...)
	return nil
}

// chooseStrategy decides how the pods are replaced, and in which order.
func (p *Plan) chooseStrategy() error {
	p.Strategy = p.options.Strategy
	replicated := !p.topology.Independent() && len(p.topology.Members) > 1
	if p.Strategy == "" {
		p.Strategy = InPlace
		if replicated {
			p.Strategy = Rolling
		}
	}
	if p.Strategy == Rolling && !replicated {
		return &operation.Error{
			Kind: operation.Refused, Object: p.Object, Phase: p.Operation,
			Err: errors.New("it has no replica to hand over to"), Unchanged: "nothing was changed",
			Next: "--strategy in-place restarts the server, --strategy blue-green brings up a second release",
		}
	}
	if p.Strategy == InPlace && replicated {
		return operation.Errorf(operation.Usage, "--strategy in-place is for servers without replicas; %s has some: use rolling", p.Object)
	}
	first := p.deployment.Workload.FirstPod()
	for _, i := range slices.Backward(p.deployment.Instances) {
		if p.Strategy == InPlace || i.Name != first {
			p.Pods = append(p.Pods, i.Name)
		}
	}
	if p.Strategy == Rolling {
		p.Pods = append(p.Pods, first)
	}
	return nil
}

// checkWorkload finds what keeps pods from being replaced.
func (r Roll) checkWorkload(ctx context.Context, p *Plan) error {
	w, o := p.deployment.Workload, p.options
	if len(p.preview.Immutable) > 0 {
		p.add(operation.Finding{
			Code: "workload-immutable", Severity: operation.Critical, Subject: w.Name,
			Message:  fmt.Sprintf("Kubernetes does not change %v of a workload that exists", p.preview.Immutable),
			Hint:     "it can be made anew around its pods, which stay",
			Override: "--recreate-workload", Overridden: o.Recreate,
		})
	}
	rollout, err := r.Cluster.Rollout(ctx, p.deployment)
	if err != nil {
		return err
	}
	for i := range p.topology.Members {
		m := &p.topology.Members[i]
		if m.Err == nil {
			continue
		}
		f := operation.Finding{
			Code: "unreachable", Severity: operation.Critical, Subject: m.Name, Message: "does not answer: " + m.Err.Error(),
			Hint: "an upgrade begins with servers that are all in sync",
		}
		if p.cures(m, rollout) {
			f.Severity, f.Hint = operation.Warning, "it is of the revision that is left: its pod is replaced; those that were never replaced stay"
			p.cured = append(p.cured, m.Name)
		}
		p.add(f)
	}
	if p.Strategy != InPlace {
		return nil
	}
	p.add(operation.Finding{
		Code: "downtime", Severity: operation.Critical, Subject: w.Name,
		Message:  "it has no replica: nobody serves while its server restarts and loads its data",
		Override: "--allow-downtime", Overridden: o.AllowDowntime,
	})
	if w.Volume.Kind == operation.VolumeNone {
		p.add(operation.Finding{
			Code: "no-volume", Severity: operation.Critical, Subject: w.Name,
			Message: "it keeps nothing on disk: its data ends with its pod", Hint: "--strategy blue-green",
		})
	}
	return nil
}

// cures reports whether the way back is what an instance needs that does not answer: its
// pod is of the revision that is left, and another instance is the primary.
func (p *Plan) cures(m *topology.Member, rollout Rollout) bool {
	if p.options.Change.Back == 0 || !p.preview.Replaced || p.Strategy != Rolling || rollout.stale(m.Name) {
		return false
	}
	primary, err := p.topology.Primary()
	return err == nil && primary.Name != m.Name
}

// checkHandOver finds what would keep the primary from handing over later.
func (r Roll) checkHandOver(ctx context.Context, p *Plan) error {
	if p.Strategy != Rolling || len(p.Blockers()) > 0 {
		return nil
	}
	o := failover.DefaultOptions()
	o.Limits, o.AllowOlder, o.AllowUnreachable = p.options.Limits.Limits, true, len(p.cured) > 0
	primary, err := p.topology.Primary()
	if err == nil && primary.Ordinal != 0 {
		o.To = p.deployment.Workload.FirstPod()
	}
	plan, err := r.Failover.Plan(ctx, p.deployment, o)
	if err != nil {
		return err
	}
	for _, f := range plan.Findings {
		if f.Severity == operation.Critical && !f.Overridden {
			f.Override = "" // of another command
			p.add(f)
		}
	}
	for i := range p.topology.Members {
		m := &p.topology.Members[i]
		if m.Err == nil && m.Replication.Upstream != nil && m.Link() != "up" {
			p.add(operation.Finding{
				Code: "link-down", Severity: operation.Critical, Subject: m.Name, Message: "it is not in sync: its link is " + m.Link(),
				Hint: "redisctl replication check",
			})
		}
	}
	return nil
}

func (p *Plan) planSteps() {
	step := func(mutates bool, subject, format string, args ...any) {
		p.Steps = append(p.Steps, operation.Step{Action: fmt.Sprintf(format, args...), Subject: subject, Mutates: mutates})
	}
	switch {
	case p.options.NoBackup:
	case p.Backup != "":
		step(false, p.Backup, "rely on the verified backup")
	default:
		step(false, p.Object, "take a full backup, and verify it")
	}
	first := p.deployment.Workload.FirstPod()
	if primary, err := p.topology.Primary(); err == nil && p.Strategy == Rolling && primary.Name != first {
		step(true, first, "hand the primary over: Helm's own Services lead there")
	}
	step(true, p.deployment.Workload.Name, "hold: pods are replaced one by one, by redisctl")
	if len(p.preview.Immutable) > 0 {
		step(true, p.deployment.Workload.Name, "make the workload anew around its pods")
	}
	step(true, p.Object, "let Helm make the revision after %d", p.Revision)
	if p.preview.Replaced {
		unless := "" // a pod is of the revision that is gone back to
		if len(p.cured) > 0 {
			unless = ", unless it was never replaced"
		}
		for i, pod := range p.Pods {
			switch {
			case slices.Contains(p.cured, pod):
				step(true, pod, "replace it, wait until it answers and is in sync")
			case p.Strategy == InPlace:
				step(true, pod, "save its data, replace it, wait until it has loaded")
			case i == len(p.Pods)-1:
				step(true, pod, "hand the primary over to a replica that was replaced%s", unless)
				step(true, pod, "replace it, let it follow the new primary%s", unless)
			default:
				step(true, pod, "replace it, wait until it is in sync%s", unless)
			}
		}
	}
	if p.options.Failback && p.Strategy == Rolling {
		step(true, first, "make it the primary again")
	}
	step(true, p.deployment.Workload.Name, "give its own update strategy back")
	step(false, p.Object, "verify images, versions, roles, links and numbers of keys")
}
