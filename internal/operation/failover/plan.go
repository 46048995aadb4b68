package failover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/topology"
)

// Options are the user's choices for a planned switch. Start from DefaultOptions.
type Options struct {
	Limits
	// To is the instance to promote; empty to choose the best.
	To string
	// MaxLag is how many bytes the target may be behind at the start.
	MaxLag int64
	// The overrides of blockers.
	AllowLag, AllowUnreachable, AllowPriorityZero, AllowOlder, AllowNoPersistence bool
}

// DefaultOptions returns the options of `failover promote`.
func DefaultOptions() Options { return Options{Limits: DefaultLimits(), MaxLag: 16 << 20} }

// Plan is what a switch is going to do.
type Plan struct {
	operation.Plan
	// From and To are the old and the new primary.
	From string `json:"from"`
	To   string `json:"to"`
	// Followers are the other replicas, which will follow To.
	Followers []string `json:"followers"`
	// Services will be moved from From to To.
	Services []string `json:"services"`

	deployment *operation.Deployment
	topology   topology.Topology
	options    Options
	// untried tells for each Service that cannot be tried why.
	untried map[string]string
}

// Plan observes d and chooses what to do. It only reads. An *Error of kind Locked
// says that another operator is at work.
func (f Failover) Plan(ctx context.Context, d *operation.Deployment, o Options) (*Plan, error) {
	plan, err := f.plan(ctx, d, o)
	return orLocked(ctx, f, d, plan, err)
}

func (f Failover) plan(ctx context.Context, d *operation.Deployment, o Options) (*Plan, error) {
	t := topology.Observe(ctx, f.Connector, d, o.Timeout)
	if err := t.Denied(); err != nil {
		return nil, err
	}
	primary, err := t.Primary()
	if err != nil {
		return nil, &operation.Error{
			Kind: operation.Refused, Object: d.String(), Phase: "finding the primary", Err: err,
			Unchanged: "nothing was changed", Next: whereNext(err),
		}
	}
	target, err := chooseTarget(&t, primary, o)
	if err != nil {
		return nil, err
	}
	record, err := load(ctx, f.Notes, d)
	if err != nil {
		return nil, err
	}
	plan := &Plan{
		Plan: operation.Plan{Operation: "failover promote", Object: d.String(), Steps: []operation.Step{}, Findings: checkRecord(record)},
		From: primary.Name, To: target.Name, Followers: []string{}, Services: []string{},
		deployment: d, topology: t, options: o,
	}
	if plan.Nothing() {
		plan.Findings = append(plan.Findings, checkSettled(&t, primary)...)
		return plan, nil
	}
	plan.Followers = followers(&t, primary, target)
	for _, s := range d.Services {
		if s.PodSelector == primary.Name {
			plan.Services = append(plan.Services, s.Name)
		}
	}
	var untried []operation.Finding
	plan.untried, untried = f.tryBefore(ctx, &t, plan.Services, primary)
	plan.Findings = slices.Concat(
		plan.Findings, checkTarget(primary, target, o), f.checkPassword(ctx, d, primary), checkOthers(&t, o),
		untried, f.checkBudgets(ctx, d))
	plan.Steps = plan.steps()
	return plan, nil
}

// followers names the instances that answer and change neither role.
func followers(t *topology.Topology, from, to *topology.Member) []string {
	names := []string{}
	for i := range t.Members {
		if m := &t.Members[i]; m.Err == nil && m.Name != from.Name && m.Name != to.Name {
			names = append(names, m.Name)
		}
	}
	return names
}

// Nothing reports whether the target is the primary already.
func (p *Plan) Nothing() bool { return p.From == p.To }

// checkSettled finds what keeps a promotion that was made before from being complete.
func checkSettled(t *topology.Topology, primary *topology.Member) []operation.Finding {
	var found []operation.Finding
	add := func(subject, message string) {
		found = append(found, operation.Finding{
			Code: "not-settled", Severity: operation.Critical, Subject: subject, Message: message, Hint: "redisctl replication heal",
		})
	}
	for i := range t.Members {
		if m := &t.Members[i]; m != primary && (m.Err != nil || m.Follows != primary.Name || m.Link() != "up") {
			add(m.Name, "it is not in sync with "+primary.Name)
		}
	}
	for _, s := range t.Deployment.Services {
		if s.PodSelector != "" && s.PodSelector != primary.Name {
			add(s.Name, "it sends clients to "+s.PodSelector)
		}
	}
	return found
}

// whereNext names the command that helps when there is not exactly one primary.
func whereNext(err error) string {
	if errors.Is(err, topology.ErrManyPrimaries) {
		return "redisctl replication heal --dry-run compares them"
	}
	return "redisctl failover force, when the primary is gone; redisctl replication heal, when pods have restarted"
}

// chooseTarget returns the replica to promote: the named one, or the one in sync
// that lags least, the lowest priority value first as Sentinel does.
func chooseTarget(t *topology.Topology, primary *topology.Member, o Options) (*topology.Member, error) {
	if o.To != "" {
		m := t.Member(o.To)
		if m == nil {
			return nil, operation.Errorf(operation.Usage, "%s has no instance %q; it has %s", t.Deployment, o.To, t.Deployment.InstanceNames())
		}
		return m, m.Err
	}
	var candidates []*topology.Member
	for i := range t.Members {
		m := &t.Members[i]
		if m.Err == nil && m.Follows == primary.Name && m.Link() == "up" && m.Behind >= 0 &&
			m.Replication.Upstream.Priority > 0 && topology.Unsent(primary, m) == "" {
			candidates = append(candidates, m)
		}
	}
	if len(candidates) == 0 {
		return nil, &operation.Error{
			Kind: operation.Refused, Object: t.Deployment.String(), Phase: "choosing the new primary",
			Err:       fmt.Errorf("no replica of %s is in sync and may be promoted", primary.Name),
			Unchanged: "nothing was changed", Next: "redisctl replication check names what is wrong",
		}
	}
	slices.SortStableFunc(candidates, func(a, b *topology.Member) int {
		return cmp.Or(
			cmp.Compare(a.Replication.Upstream.Priority, b.Replication.Upstream.Priority),
			cmp.Compare(a.Behind, b.Behind),
			cmp.Compare(a.Ordinal, b.Ordinal),
		)
	})
	return candidates[0], nil
}

// checkRecord finds a failover that was interrupted.
func checkRecord(r *Record) []operation.Finding {
	if r == nil {
		return nil
	}
	return []operation.Finding{{
		Code: "unfinished-failover", Severity: operation.Critical, Subject: r.From,
		Message: fmt.Sprintf("a failover to %s was begun by %s at %s and is not finished", r.To, r.By, r.Begun.Format(time.RFC3339)),
		Hint:    "redisctl failover resume finishes it",
	}}
}

// checkTarget finds what speaks against promoting the target.
func checkTarget(primary, target *topology.Member, o Options) []operation.Finding {
	var found []operation.Finding
	block := func(code, message, override string, overridden bool) {
		found = append(found, operation.Finding{
			Code: code, Severity: operation.Critical, Subject: target.Name,
			Message: message, Override: override, Overridden: overridden,
		})
	}
	up := target.Replication.Upstream
	switch {
	case up == nil:
		block("not-a-replica", "it is no replica", "", false)
		return found
	case target.Follows != primary.Name:
		block("wrong-primary", fmt.Sprintf("it follows %s and not the primary %s", target.Upstream(), primary.Name), "", false)
	case target.Link() != "up":
		block("link-down", fmt.Sprintf("its link to the primary is %s", target.Link()), "", false)
	case target.Behind < 0:
		block("history-differs", "its replication history is not the primary's", "", false)
	case topology.Unsent(primary, target) != "":
		block("not-online", fmt.Sprintf("the primary does not stream to it yet (state %s)", topology.Unsent(primary, target)), "", false)
	case target.Behind > o.MaxLag:
		block("lag", fmt.Sprintf("%s behind the primary: writes would wait while it catches up", operation.Bytes(target.Behind)), "--allow-lag", o.AllowLag)
	}
	if up.Priority == 0 {
		block("priority-zero", "its replica-priority is 0: it was configured never to be promoted", "--allow-priority-zero", o.AllowPriorityZero)
	}
	if target.Version.Product == primary.Version.Product && target.Version.Compare(primary.Version) < 0 {
		block("older-version", fmt.Sprintf("it runs %s, older than the primary's %s: newer servers cannot replicate from it reliably", target.Version, primary.Version), "--allow-older", o.AllowOlder)
	}
	if persists(primary) && !persists(target) {
		block("no-persistence", "it keeps nothing on disk, the primary does", "--allow-no-persistence", o.AllowNoPersistence)
	}
	if target.Info.Persistence().Loading {
		block("loading", "it is loading its data set", "", false)
	}
	return found
}

// checkBudgets tells when the deployment cannot do without another pod.
func (f Failover) checkBudgets(ctx context.Context, d *operation.Deployment) []operation.Finding {
	if f.Cluster == nil {
		return nil
	}
	budgets, err := f.Cluster.Budgets(ctx, d)
	if err != nil {
		return []operation.Finding{{
			Code: "not-checked", Severity: operation.Notice, Subject: "poddisruptionbudgets", Message: "could not be read: " + err.Error(),
		}}
	}
	var found []operation.Finding
	for _, b := range budgets {
		if b.Allowed <= 0 {
			found = append(found, operation.Finding{
				Code: "no-disruption-allowed", Severity: operation.Notice, Subject: b.Name,
				Message: fmt.Sprintf("the PodDisruptionBudget allows no eviction now: %d pods are healthy, %d must be", b.Healthy, b.Wanted),
				Hint:    "the switch itself evicts nothing",
			})
		}
	}
	return found
}

func persists(m *topology.Member) bool { return m.SavePoints || m.Info.Persistence().AOFEnabled }

// checkPassword makes sure that the old primary can log in to the new one: a server
// that was always a primary may never have needed masterauth.
func (f Failover) checkPassword(ctx context.Context, d *operation.Deployment, primary *topology.Member) []operation.Finding {
	server, err := f.Connector.Connect(ctx, d, primary.Instance)
	if err != nil {
		return nil // Apply finds out
	}
	defer func() { _ = server.Close() }() // it was only asked
	required, err := server.ConfigGet(ctx, "requirepass")
	if err != nil || required["requirepass"] == "" {
		return nil
	}
	own, err := server.ConfigGet(ctx, "masterauth")
	if err != nil || own["masterauth"] != "" {
		return nil
	}
	return []operation.Finding{{
		Code: "no-masterauth", Severity: operation.Critical, Subject: primary.Name,
		Message: "it has requirepass but no masterauth: it could not follow the new primary",
		Hint:    "CONFIG SET masterauth, and set it in redis.conf for the next restart",
	}}
}

// checkOthers finds instances that would be left behind.
func checkOthers(t *topology.Topology, o Options) []operation.Finding {
	var found []operation.Finding
	for i := range t.Members {
		m := &t.Members[i]
		if m.Err == nil {
			continue
		}
		found = append(found, operation.Finding{
			Code: "unreachable", Severity: operation.Critical, Subject: m.Name,
			Message:  fmt.Sprintf("does not answer (%v): it would go on following the old primary", m.Err),
			Override: "--allow-unreachable", Overridden: o.AllowUnreachable,
		})
	}
	return found
}

func (p *Plan) steps() []operation.Step {
	steps := []operation.Step{{Action: "take the deployment's lock and record the switch", Subject: p.Object, Mutates: true}}
	for _, s := range p.Services {
		steps = append(steps, operation.Step{Action: "send new clients to " + p.To + "; connected ones stay", Subject: "service " + s, Mutates: true})
	}
	steps = append(steps,
		operation.Step{Action: fmt.Sprintf("pause writes for %s at most", p.options.Pause), Subject: p.From, Mutates: true},
		operation.Step{Action: "wait until all writes have arrived", Subject: p.To},
		operation.Step{Action: "demote: follow " + p.To, Subject: p.From, Mutates: true},
		operation.Step{Action: "promote", Subject: p.To, Mutates: true},
	)
	for _, f := range p.Followers {
		steps = append(steps, operation.Step{Action: "follow " + p.To, Subject: f, Mutates: true})
	}
	return append(steps,
		operation.Step{Action: "drop its clients, so that they reconnect", Subject: p.From, Mutates: true},
		operation.Step{Action: "verify roles, links, endpoints and a write through each Service", Subject: p.To},
	)
}
