// Package resync makes an instance follow the primary and sees to it that it has
// caught up.
//
// Redis decides by itself whether the primary sends only what the replica lacks (a
// partial resynchronisation) or the whole data set (a full one, which replaces the
// replica's own). The plan predicts which, by the rules of the server's
// masterTryPartialResynchronization, and refuses to replace data that the primary
// never had.
package resync

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/topology"
)

// Options are the user's choices. Start from DefaultOptions.
type Options struct {
	// Instance is to follow the primary.
	Instance string
	// Full copies the whole data set even where a partial resynchronisation would do.
	Full bool
	// AllowDataLoss replaces data that the primary never had.
	AllowDataLoss bool
	// Timeout bounds each answer of a server.
	Timeout time.Duration
	// Stall is how long the resynchronisation may show no progress.
	Stall time.Duration
}

// DefaultOptions returns the options of `replication resync`.
func DefaultOptions() Options {
	return Options{
		Timeout: 5 * time.Second,
		// The servers themselves give up a silent link after repl-timeout, 60 s.
		Stall: 60 * time.Second,
	}
}

// Kind says how much of the data set a resynchronisation transfers.
type Kind string

// The kinds of resynchronisation.
const (
	// KindNone: the instance is in sync already.
	KindNone Kind = "none"
	// KindPartial: the primary sends the part of its history that is missing.
	KindPartial Kind = "partial"
	// KindFull: the primary sends its whole data set.
	KindFull Kind = "full"
)

// Atomic sends several commands to an instance as one.
type Atomic interface {
	// Atomically runs commands so that no command of another client comes in
	// between. After an error it is not known which of them ran.
	Atomically(ctx context.Context, d *operation.Deployment, i operation.Instance, commands ...[]any) error
}

// Operation resynchronises an instance. All fields are required.
type Operation struct {
	Connector operation.Connector
	Atomic    Atomic
	Notes     operation.Notes
	Locker    operation.Locker
	Reporter  operation.Reporter
}

// Plan is what a resynchronisation is going to do.
type Plan struct {
	operation.Plan
	// Instance will follow Primary.
	Instance string `json:"instance"`
	Primary  string `json:"primary"`
	// Expect is the kind of resynchronisation that the servers' histories make
	// likely, and Reason why.
	Expect Kind   `json:"expect"`
	Reason string `json:"reason"`

	deployment *operation.Deployment
	options    Options
	primary    *topology.Member
	member     *topology.Member
	host       string // what the instance is to follow
	port       int
	redirect   bool // it follows something else now
}

// Changes reports whether carrying out the plan changes anything.
func (p *Plan) Changes() bool { return p.redirect || p.options.Full }

// Plan observes d and decides what to do. It only reads. An *operation.Error of kind
// Refused says that there is nothing sensible to follow: no primary or several, the
// instance is the primary itself, or does not answer.
func (o Operation) Plan(ctx context.Context, d *operation.Deployment, options Options) (*Plan, error) {
	t, err := o.observe(ctx, d, options)
	if err != nil {
		return nil, err
	}
	plan, err := newPlan(t, options)
	if err != nil {
		return nil, err
	}
	unfinished, err := o.Notes.Note(ctx, d, operation.NoteFailover)
	if err != nil {
		return nil, err
	}
	if unfinished != "" {
		plan.Findings = append(plan.Findings, operation.Finding{
			Code: "unfinished-failover", Severity: operation.Critical, Subject: d.Name,
			Message: "a failover is not finished: who is to be followed is not decided",
			Hint:    "redisctl failover resume finishes it",
		})
	}
	if plan.Expect == KindNone {
		return plan, nil
	}
	plan.Findings = append(plan.Findings, o.checkPassword(ctx, plan)...)
	plan.Findings = append(plan.Findings, plan.check(t)...)
	plan.Steps = plan.steps()
	return plan, nil
}

// observe asks every instance, and the primary once more when the instance seems to
// be ahead of it: the two were asked at the same time, and the primary goes on.
func (o Operation) observe(ctx context.Context, d *operation.Deployment, options Options) (*topology.Topology, error) {
	t := topology.Observe(ctx, o.Connector, d, options.Timeout)
	if err := t.Denied(); err != nil {
		return nil, err
	}
	m := t.Member(options.Instance)
	primary, err := t.Primary()
	if err != nil || m == nil || m.Err != nil || m.Replication.ID != primary.Replication.ID || m.Replication.Offset <= primary.Replication.Offset {
		return &t, nil // newPlan says what is wrong
	}
	server, err := o.Connector.Connect(ctx, d, primary.Instance)
	if err != nil {
		return nil, err
	}
	defer func() { _ = server.Close() }() // it was only asked
	info, err := server.Info(ctx)
	if err != nil {
		return nil, err
	}
	primary.Info = info
	primary.Replication, err = info.Replication()
	return &t, err
}

func newPlan(t *topology.Topology, options Options) (*Plan, error) {
	d := t.Deployment
	m := t.Member(options.Instance)
	if m == nil {
		return nil, operation.Errorf(operation.Usage, "%s has no instance %q; it has %s", d, options.Instance, d.InstanceNames())
	}
	if m.Err != nil {
		return nil, refused(m.Name, "asking it", m.Err, "redisctl health names what is wrong with it")
	}
	primary, err := t.Primary()
	switch {
	case errors.Is(err, topology.ErrManyPrimaries) && t.Independent():
		return nil, refused(d.String(), "finding the primary", errors.New("these servers are independent of each other"), "")
	case errors.Is(err, topology.ErrManyPrimaries):
		return nil, refused(d.String(), "finding the primary", err, "redisctl replication heal compares them and makes one follow the other")
	case err != nil:
		return nil, refused(d.String(), "finding the primary", err, "redisctl replication info shows who follows whom")
	case m == primary:
		return nil, refused(m.Name, "choosing what to follow", errors.New("it is the primary: it would follow itself"),
			"name a replica; redisctl failover promote hands the primary over")
	}
	plan := &Plan{
		Plan:     operation.Plan{Operation: "replication resync", Object: d.String(), Steps: []operation.Step{}, Findings: []operation.Finding{}},
		Instance: m.Name, Primary: primary.Name, deployment: d, options: options, primary: primary, member: m,
	}
	plan.host, plan.port = t.Address(primary)
	up := m.Replication.Upstream
	plan.redirect = up.Host != plan.host || up.Port != plan.port
	switch {
	case options.Full:
		plan.Expect, plan.Reason = KindFull, "it was asked for"
	case !plan.redirect && up.LinkUp && m.Behind >= 0:
		plan.Expect, plan.Reason = KindNone, "it follows "+primary.Name+" and is in sync"
	default:
		plan.Expect, plan.Reason = predict(primary, m)
	}
	return plan, nil
}

func refused(object, phase string, err error, next string) error {
	return &operation.Error{
		Kind: operation.Refused, Object: object, Phase: phase, Err: err, Unchanged: "nothing was changed", Next: next,
	}
}

// check finds what speaks against the plan, and what it costs.
func (p *Plan) check(t *topology.Topology) []operation.Finding {
	m, primary := p.member, p.primary
	var found []operation.Finding
	add := func(f operation.Finding) { found = append(found, f) }
	for _, x := range []*topology.Member{m, primary} {
		if x.Info.Persistence().Loading {
			add(operation.Finding{Code: "loading", Severity: operation.Critical, Subject: x.Name, Message: "it is loading its data set", Hint: "wait until it has"})
		}
	}
	if lost := foreignHistory(primary, m); lost != "" && m.Info.TotalKeys() > 0 {
		f := operation.Finding{
			Code: "diverged", Severity: operation.Critical, Subject: m.Name,
			Message:  fmt.Sprintf("%s: its %d keys are replaced by the %d of %s", lost, m.Info.TotalKeys(), primary.Info.TotalKeys(), primary.Name),
			Override: "--allow-data-loss", Overridden: p.options.AllowDataLoss,
		}
		if m.Pod != nil {
			f.Hint = "redisctl backup rdb --pod " + m.Name + " --method bgsave --allow-stale keeps a copy"
		}
		if !p.Changes() {
			// It follows the primary already: Redis replaces the data as soon as the
			// link is up, whether somebody waits for it or not.
			f.Severity, f.Override = operation.Warning, ""
		}
		add(f)
	}
	if m.Version.Product == primary.Version.Product && m.Version.Compare(primary.Version) < 0 {
		add(operation.Finding{
			Code: "older-version", Severity: operation.Warning, Subject: m.Name,
			Message: fmt.Sprintf("it runs %s, older than the primary's %s, whose data set it may not understand", m.Version, primary.Version),
		})
	}
	if intended := p.deployment.Intended(); intended != "" && intended != primary.Name {
		add(operation.Finding{
			Code: "primary-not-intended", Severity: operation.Warning, Subject: primary.Name,
			Message: fmt.Sprintf("the primary is meant to be %s", intended), Hint: "redisctl replication heal restores the intended topology",
		})
	}
	if p.Expect == KindFull {
		found = append(found, p.costs(t)...)
	}
	return found
}

// costs names what a full resynchronisation does to others.
func (p *Plan) costs(t *topology.Topology) []operation.Finding {
	found := []operation.Finding{{
		Code: "full-resync", Severity: operation.Warning, Subject: p.Instance,
		Message: fmt.Sprintf("a full resynchronisation (%s): %s forks and sends its whole data set, %d keys in %s of memory",
			p.Reason, p.Primary, p.primary.Info.TotalKeys(), operation.Bytes(p.primary.Info.Memory().Used)),
	}}
	others := 0
	for i := range t.Members {
		x := &t.Members[i]
		if x.Err != nil || x.Name == p.Instance {
			continue
		}
		if x.Follows == p.Instance {
			found = append(found, operation.Finding{
				Code: "chained-replica", Severity: operation.Warning, Subject: x.Name,
				Message: "follows " + p.Instance + " and copies everything, too",
			})
		}
		if x.Follows == p.Primary && x.Link() == "up" {
			others++
		}
	}
	if others == 0 {
		found = append(found, operation.Finding{
			Code: "no-other-replica", Severity: operation.Warning, Subject: p.Primary,
			Message: "no other replica is in sync: until the copy is complete nobody could take over",
		})
	}
	return found
}

// checkPassword makes sure that the instance can log in to the primary: one that was
// a primary may never have needed masterauth.
func (o Operation) checkPassword(ctx context.Context, p *Plan) []operation.Finding {
	set := func(m *topology.Member, parameter string) (isSet, known bool) {
		server, err := o.Connector.Connect(ctx, p.deployment, m.Instance)
		if err != nil {
			return false, false
		}
		defer func() { _ = server.Close() }() // it was only asked
		values, err := server.ConfigGet(ctx, parameter)
		return values[parameter] != "", err == nil
	}
	required, _ := set(p.primary, "requirepass")
	given, known := set(p.member, "masterauth")
	if !required || given || !known {
		return nil
	}
	return []operation.Finding{{
		Code: "no-masterauth", Severity: operation.Critical, Subject: p.Instance,
		Message: p.Primary + " wants a password and the instance has no masterauth: it could not follow",
		Hint:    "CONFIG SET masterauth, and set it in redis.conf for the next restart",
	}}
}

func (p *Plan) steps() []operation.Step {
	steps := make([]operation.Step, 0, 4)
	target := net.JoinHostPort(p.host, strconv.Itoa(p.port))
	switch {
	case p.options.Full:
		steps = append(steps,
			operation.Step{Action: "take the deployment's lock", Subject: p.Object, Mutates: true},
			operation.Step{Action: "forget its history and follow " + target + ", in one transaction", Subject: p.Instance, Mutates: true})
	case p.redirect:
		steps = append(steps,
			operation.Step{Action: "take the deployment's lock", Subject: p.Object, Mutates: true},
			operation.Step{Action: "follow " + target, Subject: p.Instance, Mutates: true})
	}
	return append(steps,
		operation.Step{Action: fmt.Sprintf("wait until the link is up (a %s resynchronisation is expected: %s)", p.Expect, p.Reason), Subject: p.Instance},
		operation.Step{Action: "verify that it has caught up with " + p.Primary, Subject: p.Instance})
}

// recheck makes sure that the plan still rests on facts.
func (p *Plan) recheck(t *topology.Topology) error {
	now, err := newPlan(t, p.options)
	if err != nil {
		return err
	}
	changed := func(format string, args ...any) error {
		return refused(p.Object, "re-checking the plan", fmt.Errorf(format, args...), "run the command again")
	}
	switch {
	case now.Primary != p.Primary:
		return changed("%s is the primary now", now.Primary)
	case now.primary.Info.Get("run_id") != p.primary.Info.Get("run_id"):
		return changed("%s restarted since the plan was made", p.Primary)
	case now.member.Info.Get("run_id") != p.member.Info.Get("run_id"):
		return changed("%s restarted since the plan was made", p.Instance)
	case now.Expect != p.Expect && now.Expect == KindFull:
		return changed("it takes a full resynchronisation now: %s", now.Reason)
	case foreignHistory(now.primary, now.member) != "" && foreignHistory(p.primary, p.member) == "":
		return changed("%s", foreignHistory(now.primary, now.member))
	}
	return nil
}
