package roll

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/failover"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/redis"
)

// pollInterval is how often a starting server is asked.
const pollInterval = 200 * time.Millisecond

// logLines is how much of a failed server's log is shown: a replica that copies the data
// again and again prints about ten each time.
const logLines = 16

// logAttempts is how often a log is read until there is something in it: the container
// runtime may write it a moment after the container has ended.
const logAttempts = 5

// badPodError says that a pod does not come up with the workload's template, or never in
// sync.
type badPodError struct {
	pod    string
	reason string
	// log is what its server printed last.
	log []string
	// started is set when its server has run at all.
	started bool
}

func (e *badPodError) Error() string {
	if len(e.log) == 0 {
		return e.pod + ": " + e.reason
	}
	return e.pod + ": " + e.reason + "; it printed:\n  " + strings.Join(e.log, "\n  ")
}

// patience ends waiting when nothing gets on.
type patience struct {
	x     *rolling
	best  int64
	state string
	seen  map[string]bool
	since time.Time
	// failing is since when the image cannot be pulled.
	failing time.Time
}

func (x *rolling) newPatience() *patience {
	return &patience{x: x, since: x.Now(), seen: map[string]bool{}}
}

// wait waits a moment. Its error says that there was no new state, nor more progress than
// ever before, for Limits.Start: a replica that copies the data again and again does not
// get on.
func (p *patience) wait(ctx context.Context, state string, progress int64) error {
	if state != p.state {
		p.state = state
		if !p.seen[state] {
			p.seen[state], p.since = true, p.x.Now()
			p.x.Reporter.Note("%s", state)
		}
	}
	if progress > p.best {
		p.best, p.since = progress, p.x.Now()
	}
	if p.x.Now().Sub(p.since) > p.x.limits.Start {
		return fmt.Errorf("no progress for %s: %s", p.x.limits.Start, state)
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(pollInterval):
		return nil
	}
}

// await returns a pod's server when it answers and has loaded its data. former is the UID
// of the pod that it replaces. A *badPodError says that it never will.
func (x *rolling) await(ctx context.Context, name, former string) (*topology.Member, error) {
	p := x.newPatience()
	for {
		d, err := x.resolve(ctx)
		if err != nil {
			return nil, err
		}
		i := d.Instance(name)
		if i == nil {
			return nil, fmt.Errorf("%s has no pod %s any more", d.Workload.Name, name)
		}
		m, state, progress, err := x.started(ctx, p, d, i, former)
		if err != nil || m != nil {
			return m, err
		}
		if err := p.wait(ctx, state, progress); err != nil {
			return nil, x.stuck(ctx, d, i, err)
		}
	}
}

// started returns the server of a pod when it has loaded its data, and otherwise what is
// waited for and how many bytes it has loaded.
func (x *rolling) started(
	ctx context.Context, p *patience, d *operation.Deployment, i *operation.Instance, former string,
) (m *topology.Member, state string, progress int64, err error) {
	switch {
	case i.Pod == nil || i.Pod.UID == "":
		return nil, "waiting for a new pod " + i.Name, 0, nil
	case i.Pod.UID == former:
		return nil, "waiting for " + i.Name + " to end", 0, nil
	case i.Down() != nil:
		state, err = x.starting(ctx, p, d, i)
		return nil, state, 0, err
	case i.Pod.Restarts > 0:
		return nil, "", 0, x.bad(ctx, d, i, "its server has ended ("+i.Pod.LastExit+")")
	}
	one := *d
	one.Instances = []operation.Instance{*i}
	observed := topology.Observe(ctx, x.Connector, &one, x.limits.Timeout)
	m = &observed.Members[0]
	switch {
	case operation.KindOf(m.Err) == operation.Denied:
		return nil, "", 0, m.Err
	case m.Err != nil:
		return nil, i.Name + " runs and does not answer yet", 0, nil //nolint:nilerr // it is waited for
	case m.Info.Persistence().Loading:
		return nil, i.Name + " loads its data", m.Info.Int("loading_loaded_bytes"), nil
	default:
		return m, "", 0, nil
	}
}

// starting says what a pod whose container does not run waits for. Its error is that it
// waits in vain.
func (x *rolling) starting(ctx context.Context, p *patience, d *operation.Deployment, i *operation.Instance) (string, error) {
	reason := i.Pod.Reason
	what := strings.TrimSpace(reason + " " + i.Pod.Message)
	reason = strings.TrimPrefix(reason, "Init:")
	switch {
	case slices.Contains([]string{"CrashLoopBackOff", "RunContainerError", "Error", "OOMKilled", "StartError", "ContainerCannotRun"}, reason):
		return "", x.bad(ctx, d, i, "its container does not run: "+what)
	case slices.Contains([]string{"InvalidImageName", "ErrImageNeverPull"}, reason):
		return "", &badPodError{pod: i.Name, reason: what}
	case slices.Contains([]string{"ErrImagePull", "ImagePullBackOff", "CreateContainerError", "CreateContainerConfigError", "RegistryUnavailable"}, reason):
		if p.failing.IsZero() {
			p.failing = x.Now()
		}
		if x.Now().Sub(p.failing) > x.limits.Pull {
			return "", &badPodError{pod: i.Name, reason: what}
		}
		return i.Name + ": " + reason, nil
	}
	return i.Name + ": " + reason, nil
}

// bad is the error of a pod whose server has ended, with what it printed last.
func (x *rolling) bad(ctx context.Context, d *operation.Deployment, i *operation.Instance, reason string) error {
	e := &badPodError{pod: i.Name, reason: reason, started: i.Pod.Restarts > 0 || i.Pod.ContainerRunning}
	for range logAttempts {
		lines, err := x.Cluster.LastLines(ctx, d, *i, logLines)
		if e.log = lines; len(lines) > 0 || ctx.Err() != nil {
			break
		}
		if err != nil {
			x.Reporter.Note("%v", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pollInterval):
		}
	}
	return e
}

// stuck is the error of a pod that gets no further.
func (x *rolling) stuck(ctx context.Context, d *operation.Deployment, i *operation.Instance, err error) error {
	if ctx.Err() != nil || i.Pod == nil {
		return err
	}
	return x.bad(ctx, d, i, err.Error())
}

// committed reports whether going back is not harmless any more: a server of the new
// revision, other than that of the pod bad, is the primary or has no primary to copy data
// from. An older one may not be able to read what it writes.
func (x *rolling) committed(ctx context.Context, bad string) bool {
	d, err := x.resolve(ctx)
	if err != nil {
		return true // it is not known
	}
	rollout, err := x.Cluster.Rollout(ctx, d)
	if err != nil {
		return true
	}
	observed := topology.Observe(ctx, x.Connector, d, x.limits.Timeout)
	if x.record.Strategy == InPlace {
		return slices.ContainsFunc(observed.Members, func(m topology.Member) bool {
			return m.Name != bad && m.Err == nil && !rollout.stale(m.Name)
		})
	}
	primary, err := x.primaryOf(&observed)
	return err != nil || !rollout.stale(primary)
}

// followed returns when a pod is Ready and in sync with the primary. One that has started
// as a primary of its own, as the first pod always does, is made to follow.
func (x *rolling) followed(ctx context.Context, name string) error {
	p := x.newPatience()
	for {
		d, err := x.resolve(ctx)
		if err != nil {
			return err
		}
		observed := topology.Observe(ctx, x.Connector, d, x.limits.Timeout)
		primary, err := x.primaryOf(&observed)
		if err != nil {
			return err
		}
		if primary == name {
			return nil
		}
		m := observed.Member(name)
		switch {
		case m == nil:
			return fmt.Errorf("%s has no pod %s any more", d.Workload.Name, name)
		case m.Err != nil:
			if m.Pod != nil && m.Pod.Restarts > 0 {
				return x.bad(ctx, d, &m.Instance, "its server has ended ("+m.Pod.LastExit+")")
			}
		case m.Replication.Role == redis.RolePrimary || m.Follows != "" && m.Follows != primary && m.Link() != "syncing":
			if err := x.heal(ctx, d, primary, m); err != nil {
				return err
			}
			continue
		case inSync(observed.Member(primary), m) && m.Pod != nil && m.Pod.Ready:
			return nil
		}
		state, progress := syncState(name, observed.Member(primary), m)
		if err := p.wait(ctx, state, progress); err != nil {
			return x.stuck(ctx, d, &m.Instance, err)
		}
	}
}

// allFollow returns when every pod is in sync with the primary.
func (x *rolling) allFollow(ctx context.Context) error {
	if x.record.Strategy != Rolling {
		return nil
	}
	for _, i := range x.deployment.Instances {
		if err := x.followed(ctx, i.Name); err != nil {
			return err
		}
	}
	return nil
}

// maxBehind is how far behind the primary a replica in sync may be, in bytes: what a busy
// primary writes between two questions.
const maxBehind = 16 << 20

// inSync is what a hand-over asks of its target, too.
func inSync(primary, m *topology.Member) bool {
	return m.Link() == "up" && m.Behind >= 0 && m.Behind <= maxBehind && !m.Info.Persistence().Loading && topology.Unsent(primary, m) == ""
}

// syncState says how far a replica is, and how many bytes of the data it has copied.
func syncState(name string, primary, m *topology.Member) (string, int64) {
	switch {
	case m.Err != nil:
		return name + " does not answer", 0
	case inSync(primary, m):
		return name + " is in sync, and not Ready yet", 0
	case m.Info.Int("master_sync_in_progress") > 0:
		done := m.Info.Int("master_sync_read_bytes")
		if done == 0 { // before 6.2
			done = 1
		}
		return fmt.Sprintf("%s copies the data of %s", name, primary.Name), done
	default:
		return fmt.Sprintf("%s is not in sync with %s yet", name, primary.Name), 0
	}
}

// ready returns when a pod is Ready: until then Services leave it out.
func (x *rolling) ready(ctx context.Context, name string) error {
	p := x.newPatience()
	for {
		d, err := x.resolve(ctx)
		if err != nil {
			return err
		}
		i := d.Instance(name)
		if i != nil && i.Pod != nil && i.Pod.Ready {
			return nil
		}
		if err := p.wait(ctx, name+" is not Ready yet", 0); err != nil {
			return err
		}
	}
}

// heal lets a server that has started on its own follow the primary. It was in sync when
// its pod was ended, so that it has nothing of its own unless it took writes since.
func (x *rolling) heal(ctx context.Context, d *operation.Deployment, primary string, m *topology.Member) error {
	o := failover.HealOptions{Limits: x.limits.Limits}
	if m.Info.Int("rdb_changes_since_last_save") == 0 {
		o.Keep, o.NoCompare, o.NoBackup = primary, true, true
	}
	x.Reporter.Step("letting %s follow %s", m.Name, primary)
	plan, err := x.Failover.PlanHeal(ctx, d, o)
	if err != nil {
		return err
	}
	_, err = x.Failover.Heal(ctx, plan)
	return err
}
