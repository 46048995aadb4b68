// Package failover hands the primary's role over without losing a write that was
// acknowledged.
//
// The order of a planned switch follows from one rule: there is never a moment at
// which two servers take writes, and hardly one at which none has all the data.
// The primary's writes are paused, the pause's end in the replication stream is
// awaited on the target, the old primary is demoted for good, and only then the
// target is promoted. Whatever dies in between, each acknowledged write is on both.
package failover

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/redis"
)

// Options are the user's choices for a planned switch. Start from DefaultOptions.
type Options struct {
	// To is the instance to promote; empty to choose the best.
	To string
	// Timeout bounds each answer of a server.
	Timeout time.Duration
	// Pause bounds how long writes wait.
	Pause time.Duration
	// Settle bounds what follows the switch: replicas in sync, endpoints moved.
	Settle time.Duration
	// MaxLag is how many bytes the target may be behind at the start.
	MaxLag int64
	// The overrides of blockers.
	AllowLag, AllowUnreachable, AllowPriorityZero, AllowOlder, AllowNoPersistence bool
}

// DefaultOptions returns the options of `failover promote`.
func DefaultOptions() Options {
	return Options{
		Timeout: 5 * time.Second,
		Pause:   5 * time.Second,
		Settle:  60 * time.Second,
		MaxLag:  16 << 20,
	}
}

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
}

// Planned hands the role over while everything works. All fields are required.
type Planned struct {
	Connector operation.Connector
	Pauser    Pauser
	Traffic   Traffic
	Notes     operation.Notes
	Locker    operation.Locker
	Reporter  operation.Reporter
	Now       func() time.Time
	// By names the operator in records.
	By string
}

// Plan observes d and chooses what to do. It only reads.
func (p Planned) Plan(ctx context.Context, d *operation.Deployment, o Options) (*Plan, error) {
	t := topology.Observe(ctx, p.Connector, d, o.Timeout)
	if err := t.Denied(); err != nil {
		return nil, err
	}
	primary, err := t.Primary()
	if err != nil {
		return nil, &operation.Error{
			Kind: operation.Refused, Object: d.String(), Phase: "finding the primary", Err: err,
			Unchanged: "nothing was changed", Next: "redisctl replication info shows who follows whom",
		}
	}
	target, err := chooseTarget(&t, primary, o)
	if err != nil {
		return nil, err
	}
	plan := &Plan{
		Plan: operation.Plan{Operation: "failover promote", Object: d.String()},
		From: primary.Name, To: target.Name, Followers: []string{}, Services: []string{},
		deployment: d, topology: t, options: o,
	}
	for i := range t.Members {
		m := &t.Members[i]
		if m.Name != primary.Name && m.Name != target.Name && m.Err == nil {
			plan.Followers = append(plan.Followers, m.Name)
		}
	}
	for _, s := range d.Services {
		if s.PodSelector == primary.Name {
			plan.Services = append(plan.Services, s.Name)
		}
	}
	record, err := load(ctx, p.Notes, d)
	if err != nil {
		return nil, err
	}
	plan.Findings = slices.Concat(
		checkRecord(record), checkTarget(primary, target, o), p.checkPassword(ctx, d, primary), checkOthers(&t, o))
	plan.Steps = plan.steps()
	return plan, nil
}

// chooseTarget returns the replica to promote: the named one, or the one in sync
// that lags least, the lowest priority value first as Sentinel does.
func chooseTarget(t *topology.Topology, primary *topology.Member, o Options) (*topology.Member, error) {
	if o.To != "" {
		m := t.Member(o.To)
		switch {
		case m == nil:
			return nil, operation.Errorf(operation.Usage, "%s has no instance %q; it has %s", t.Deployment, o.To, t.Deployment.InstanceNames())
		case m.Name == primary.Name:
			return nil, operation.Errorf(operation.Usage, "%s is the primary already", m.Name)
		default:
			return m, m.Err
		}
	}
	var candidates []*topology.Member
	for i := range t.Members {
		m := &t.Members[i]
		if m.Err == nil && m.Follows == primary.Name && m.Link() == "up" && m.Behind >= 0 && m.Replication.Upstream.Priority > 0 {
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

func persists(m *topology.Member) bool { return m.SavePoints || m.Info.Persistence().AOFEnabled }

// checkPassword makes sure that the old primary can log in to the new one: a server
// that was always a primary may never have needed masterauth.
func (p Planned) checkPassword(ctx context.Context, d *operation.Deployment, primary *topology.Member) []operation.Finding {
	server, err := p.Connector.Connect(ctx, d, primary.Instance)
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
	steps := []operation.Step{
		{Action: "take the deployment's lock and record the switch", Subject: p.Object, Mutates: true},
		{Action: fmt.Sprintf("pause writes for %s at most", p.options.Pause), Subject: p.From, Mutates: true},
		{Action: "wait until all writes have arrived", Subject: p.To},
		{Action: "demote: follow " + p.To, Subject: p.From, Mutates: true},
		{Action: "promote", Subject: p.To, Mutates: true},
	}
	for _, s := range p.Services {
		steps = append(steps, operation.Step{Action: "send clients to " + p.To, Subject: "service " + s, Mutates: true})
	}
	for _, f := range p.Followers {
		steps = append(steps, operation.Step{Action: "follow " + p.To, Subject: f, Mutates: true})
	}
	return append(steps,
		operation.Step{Action: "drop its clients, so that they reconnect", Subject: p.From, Mutates: true},
		operation.Step{Action: "verify roles, links and endpoints", Subject: p.To},
	)
}

// address returns how the other instances reach m. Pods are named as the chart
// does it, because a pod's IP changes with every restart: the old primary's DNS
// name with the pod's own first label.
func (p *Plan) address(m *topology.Member) (host string, port int) {
	for i := range p.topology.Members {
		up := p.topology.Members[i].Replication.Upstream
		if m.Pod == nil || up == nil || net.ParseIP(up.Host) != nil {
			continue
		}
		if label, domain, ok := strings.Cut(up.Host, "."); ok && label == p.topology.Members[i].Follows {
			return m.Name + "." + domain, m.Port
		}
	}
	return m.Host, m.Port
}

func (p *Plan) member(name string) *topology.Member { return p.topology.Member(name) }

// primaryRole reports whether INFO says that the server is a primary.
func primaryRole(info redis.Info) (redis.Replication, bool, error) {
	state, err := info.Replication()
	return state, err == nil && state.Role == redis.RolePrimary, err
}

func portText(port int) string { return strconv.Itoa(port) }
