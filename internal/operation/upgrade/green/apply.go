package green

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/redis"
)

// Apply makes the second release. After an error it is removed again, with its claims; one
// that was interrupted stays, and the error names the commands that go on or back.
func (g Green) Apply(ctx context.Context, p *Plan) (Result, error) {
	if err := p.Refusal(); err != nil {
		return Result{}, err
	}
	begun := g.Now()
	locked, release, err := g.Locker.Lock(ctx, p.deployment)
	if err != nil {
		return Result{}, err
	}
	defer release()
	d, err := g.resolve(locked, p.deployment)
	if err != nil {
		return Result{}, err
	}
	again := *p
	again.deployment, again.Findings = d, nil
	if err := g.checkRecords(locked, &again); err != nil {
		return Result{}, err
	}
	if err := again.Refusal(); err != nil {
		return Result{}, err
	}
	r := &Record{Green: p.Green, From: p.From, To: p.To, Begun: g.Now().UTC(), By: g.By, Copies: p.options.Copy}
	if err := g.enter(locked, d, r, PhaseInstalling); err != nil {
		return Result{}, g.afterFailure(locked, d, r, "recording the second release", err)
	}
	if err := g.install(locked, d, p); err != nil {
		return Result{}, g.afterFailure(locked, d, r, "installing "+p.Green, err)
	}
	result, err := g.bringUp(locked, d, r, p.options)
	result.Seconds = g.Now().Sub(begun).Seconds()
	return result, err
}

func (g Green) resolve(ctx context.Context, d *operation.Deployment) (*operation.Deployment, error) {
	return g.Resolver.Resolve(ctx, operation.Target{Namespace: d.Namespace, Release: d.Release})
}

func (g Green) install(ctx context.Context, d *operation.Deployment, p *Plan) error {
	g.Reporter.Step("installing the release %s with %s", p.Green, p.To)
	_, err := g.Releases.Install(ctx, d, p.Green, d.Namespace, p.change)
	return err
}

// bringUp waits for the second release's pods and lets them follow.
func (g Green) bringUp(ctx context.Context, d *operation.Deployment, r *Record, o Options) (Result, error) {
	result := g.newResult(d, r, OutcomeReady)
	green, err := g.awaitReady(ctx, d, r, o.Limits)
	if err != nil {
		return Result{}, g.afterFailure(ctx, d, r, "waiting for the pods of "+r.Green, err)
	}
	if err := g.Notes.SetNotes(ctx, green, map[string]string{operation.NoteBlue: d.Release}); err != nil {
		return Result{}, g.afterFailure(ctx, d, r, "recording", err)
	}
	if err := g.enter(ctx, d, r, PhaseSyncing); err != nil {
		return Result{}, g.afterFailure(ctx, d, r, "recording", err)
	}
	fill := g.follow
	if r.Copies {
		fill = g.copyFirst
	}
	if result.Primary, err = fill(ctx, d, r, o); err != nil {
		return Result{}, g.afterFailure(ctx, d, r, "copying the data to "+r.Green, err)
	}
	result.Copied = r.Copied
	if err := g.enter(ctx, d, r, PhaseReady); err != nil {
		return result, g.interrupted(d, "recording", err)
	}
	return result, nil
}

// afterFailure removes what was made, unless it was only interrupted.
func (g Green) afterFailure(ctx context.Context, d *operation.Deployment, r *Record, phase string, cause error) error {
	if ctx.Err() != nil {
		return g.interrupted(d, phase, cause)
	}
	g.Reporter.Warn("%s: %v", phase, cause)
	if _, err := g.remove(ctx, d, r); err != nil {
		return g.interrupted(d, phase, errors.Join(cause, err))
	}
	return &operation.Error{
		Kind: operation.KindOf(cause), Object: d.String(), Phase: phase, Err: cause,
		Unchanged: r.Green + " was removed again; nothing of " + d.Release + " was changed",
	}
}

func (g Green) interrupted(d *operation.Deployment, phase string, err error) error {
	return &operation.Error{
		Kind: operation.KindOf(err), Object: d.String(), Phase: phase, Err: err,
		Unchanged: d.Release + " serves as before", Next: "redisctl upgrade resume goes on, redisctl upgrade abort removes the second release",
	}
}

// pollInterval is how often a starting release is asked.
const pollInterval = 200 * time.Millisecond

// logLines is how much of a failed server's log is shown.
const logLines = 8

// patience ends waiting when nothing gets on.
type patience struct {
	g     Green
	limit time.Duration
	seen  map[string]bool
	best  int64
	since time.Time
}

func (g Green) newPatience(limit time.Duration) *patience {
	return &patience{g: g, limit: limit, seen: map[string]bool{}, since: g.Now()}
}

// wait waits a moment. Its error says that there was no new state, nor more progress than
// ever before, for the limit.
func (p *patience) wait(ctx context.Context, state string, progress int64) error {
	if !p.seen[state] {
		p.seen[state], p.since = true, p.g.Now()
	}
	if progress > p.best {
		p.best, p.since = progress, p.g.Now()
	}
	if p.g.Now().Sub(p.since) > p.limit {
		return operation.Errorf(operation.TimedOut, "no progress for %s: %s", p.limit, state)
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(pollInterval):
		return nil
	}
}

// awaitReady returns the second release once all its pods are Ready.
func (g Green) awaitReady(ctx context.Context, d *operation.Deployment, r *Record, l Limits) (*operation.Deployment, error) {
	g.Reporter.Step("waiting for the pods of %s", r.Green)
	p := g.newPatience(l.Start)
	var failing time.Time
	for {
		green, err := g.find(ctx, d, r.Green)
		if err != nil {
			return nil, err
		}
		if green == nil {
			return nil, fmt.Errorf("the chart made no workload with Redis in the release %s", r.Green)
		}
		state, bad := unready(green)
		switch {
		case state == "":
			return green, nil
		case bad == nil:
			failing = time.Time{}
		case failing.IsZero():
			failing = g.Now()
		case g.Now().Sub(failing) > l.Pull || bad.Pod.Restarts >= 2:
			return nil, g.withLog(ctx, green, *bad, errors.New(state))
		}
		if err := p.wait(ctx, state, 0); err != nil {
			return nil, err
		}
	}
}

// unready describes the first pod that is not Ready, "" when all are; bad is set when
// something is wrong with it.
func unready(d *operation.Deployment) (state string, bad *operation.Instance) {
	for i := range d.Instances {
		instance := &d.Instances[i]
		if instance.Pod.Ready && !instance.Pod.Deleting {
			continue
		}
		state = instance.Name + " is not Ready: " + instance.Pod.Reason
		if instance.Pod.Message != "" {
			state += ": " + instance.Pod.Message
		}
		reason := strings.TrimPrefix(instance.Pod.Reason, "Init:")
		if strings.Contains(reason, "Err") || strings.Contains(reason, "BackOff") || strings.Contains(reason, "Invalid") {
			return state, instance
		}
		return state, nil
	}
	return "", nil
}

// withLog adds what a server printed last.
func (g Green) withLog(ctx context.Context, d *operation.Deployment, i operation.Instance, cause error) error {
	lines, err := g.Cluster.LastLines(ctx, d, i, logLines)
	if err != nil || len(lines) == 0 {
		return cause
	}
	return fmt.Errorf("%w; it printed:\n  %s", cause, strings.Join(lines, "\n  "))
}

// follow lets the second release's first server follow the first one's primary, whose name
// it returns, and waits until all its servers are in sync.
func (g Green) follow(ctx context.Context, d *operation.Deployment, r *Record, o Options) (string, error) {
	p, err := g.reopen(ctx, d, r)
	if err != nil {
		return "", err
	}
	blue := topology.Observe(ctx, g.Connector, p.blue, o.Limits.Timeout)
	primary, err := blue.Primary()
	if err != nil {
		return "", err
	}
	if err := g.mayFollow(ctx, p, primary); err != nil {
		return "", err
	}
	t := g.observe(ctx, p, o.Limits.Limits)
	if member := t.Member(first(p.green)); member.Follows != primary.Name {
		if err := g.repoint(ctx, p, &t, primary.Name); err != nil {
			return "", err
		}
	}
	return primary.Name, g.awaitSync(ctx, p, primary.Name, o)
}

// reopen resolves both releases again.
func (g Green) reopen(ctx context.Context, d *operation.Deployment, r *Record) (*pair, error) {
	blue, err := g.resolve(ctx, d)
	if err != nil {
		return nil, err
	}
	return g.open(ctx, blue, r)
}

// mayFollow makes sure that the second release can log in to the first.
func (g Green) mayFollow(ctx context.Context, p *pair, primary *topology.Member) error {
	server, err := g.Connector.Connect(ctx, p.green, primary.Instance) // with green's password
	if err != nil {
		return err
	}
	defer func() { _ = server.Close() }() // it was only asked
	if _, err := server.Ping(ctx); err != nil {
		return fmt.Errorf("with the password of %s, %s is not to be reached: %w", p.green.Release, primary.Name, err)
	}
	required, err := server.ConfigGet(ctx, "requirepass")
	if err != nil || required["requirepass"] == "" {
		return nil // there is none, or it cannot be known
	}
	own, err := g.Connector.Connect(ctx, p.green, *p.green.Instance(first(p.green)))
	if err != nil {
		return err
	}
	defer func() { _ = own.Close() }() // it was only asked
	if auth, err := own.ConfigGet(ctx, "masterauth"); err == nil && auth["masterauth"] == "" {
		return fmt.Errorf("%s has no masterauth: it cannot log in to %s", first(p.green), primary.Name)
	}
	return nil
}

// repoint lets the second release's first server follow a server of the first one.
func (g Green) repoint(ctx context.Context, p *pair, t *topology.Topology, primary string) error {
	g.Reporter.Step("letting %s follow %s", first(p.green), primary)
	server, err := g.Connector.Connect(ctx, p.green, *p.green.Instance(first(p.green)))
	if err != nil {
		return err
	}
	defer func() { _ = server.Close() }() // it has obeyed, or said why not
	host, port := t.Address(t.Member(primary))
	_, err = server.Do(ctx, "REPLICAOF", host, strconv.Itoa(port))
	return err
}

// awaitSync waits until every server of the second release has what the primary has.
func (g Green) awaitSync(ctx context.Context, p *pair, primary string, o Options) error {
	g.Reporter.Step("waiting until %s is in sync", p.green.Release)
	patience := g.newPatience(o.Limits.Start)
	for {
		t := g.observe(ctx, p, o.Limits.Limits)
		state, progress := behind(&t, p, primary, o.MaxLag)
		if state == "" {
			return nil
		}
		if err := patience.wait(ctx, state, progress); err != nil {
			if ctx.Err() != nil {
				return err
			}
			return g.withLog(ctx, p.green, *p.green.Instance(first(p.green)), err)
		}
	}
}

// behind describes the first server of the second release that is not in sync, "" when all
// are. progress is greater when they have come further.
func behind(t *topology.Topology, p *pair, primary string, maxLag int64) (state string, progress int64) {
	for _, i := range p.green.Instances {
		m := t.Member(i.Name)
		if m.Err != nil {
			state = i.Name + " does not answer: " + m.Err.Error()
			continue
		}
		progress += m.Info.Int("master_sync_read_bytes") + m.Info.Int("loading_loaded_bytes") + max(0, m.Replication.Offset)
		wanted := primary
		if i.Name != first(p.green) {
			wanted = first(p.green)
		}
		switch {
		case m.Replication.Role != redis.RoleReplica || m.Follows != wanted && m.Follows != primary:
			state = i.Name + " does not follow " + wanted
		case m.Link() != "up":
			state = "the link of " + i.Name + " is " + m.Link()
		case m.Behind < 0 || m.Behind > maxLag:
			state = i.Name + " is behind"
		}
	}
	return state, progress
}

// remove uninstalls the second release, deletes its claims and forgets it.
func (g Green) remove(ctx context.Context, d *operation.Deployment, r *Record) ([]string, error) {
	g.Reporter.Step("removing the release %s and its claims", r.Green)
	if err := g.Releases.Uninstall(ctx, d.Namespace, r.Green); err != nil {
		return nil, err
	}
	claims, err := g.Cluster.Claims(ctx, d.Namespace, r.Green)
	if err != nil {
		return nil, err
	}
	for _, claim := range claims {
		if err := g.Cluster.DeleteClaim(ctx, d, claim); err != nil {
			return nil, err
		}
	}
	return claims, g.Notes.SetNotes(ctx, d, map[string]string{operation.NoteGreen: "", operation.NoteServedBy: ""})
}
