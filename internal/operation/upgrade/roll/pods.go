package roll

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/failover"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/redis"
)

// errOvertaken matches the error of an upgrade that somebody else has interfered with.
var errOvertaken = errors.New("somebody else has changed the release")

// roll replaces every pod that is not of the workload's revision. What it does follows
// from what it observes only, so that it may be called again at any point.
func (x *rolling) roll(ctx context.Context) error {
	if x.record.Strategy == InPlace {
		return x.rollInPlace(ctx)
	}
	if err := x.settleFailover(ctx); err != nil {
		return err
	}
	d, rollout, err := x.look(ctx)
	if err != nil {
		return err
	}
	primary, err := x.primary(ctx, d)
	if err != nil {
		return err
	}
	for _, i := range slices.Backward(d.Instances) {
		if i.Name == primary {
			continue
		}
		if rollout.stale(i.Name) {
			err = x.replace(ctx, i.Name)
		} else {
			err = x.followed(ctx, i.Name)
		}
		if err != nil {
			return err
		}
		if _, rollout, err = x.look(ctx); err != nil {
			return err
		}
	}
	if !rollout.stale(primary) {
		return nil
	}
	to, err := x.successor(ctx)
	if err != nil {
		return err
	}
	if err := x.handTo(ctx, to); err != nil {
		return err
	}
	return x.replace(ctx, primary)
}

// rollInPlace restarts servers that nobody can stand in for, one after the other.
func (x *rolling) rollInPlace(ctx context.Context) error {
	d, rollout, err := x.look(ctx)
	if err != nil {
		return err
	}
	for _, i := range slices.Backward(d.Instances) {
		if !rollout.stale(i.Name) {
			if _, err := x.await(ctx, i.Name, ""); err != nil {
				return err
			}
			continue
		}
		if err := x.restart(ctx, i.Name); err != nil {
			return err
		}
	}
	return nil
}

// look observes the release, and makes sure that nobody else has changed it: what somebody
// else wants is not known here.
func (x *rolling) look(ctx context.Context) (*operation.Deployment, Rollout, error) {
	d, err := x.resolve(ctx)
	if err != nil {
		return nil, Rollout{}, err
	}
	rollout, err := x.Cluster.Rollout(ctx, d)
	if err != nil {
		return nil, Rollout{}, err
	}
	history, err := x.Releases.History(ctx, d)
	if err != nil {
		return nil, Rollout{}, err
	}
	newest := history[len(history)-1]
	switch {
	case newest.Number != x.record.Revision:
		err = fmt.Errorf("%w: Helm's newest revision is %d (%s), not %d", errOvertaken, newest.Number, newest.Status, x.record.Revision)
	case rollout.Revision != x.record.Update:
		err = fmt.Errorf("%w: the pod template of %s is not that of revision %d any more", errOvertaken, d.Workload.Name, x.record.Revision)
	case !rollout.Held:
		err = fmt.Errorf("%w: %s replaces its pods by itself again", errOvertaken, d.Workload.Name)
	}
	return d, rollout, err
}

// settleFailover completes or undoes a hand-over that was interrupted.
func (x *rolling) settleFailover(ctx context.Context) error {
	note, err := x.Notes.Note(ctx, x.deployment, operation.NoteFailover)
	if err != nil || note == "" {
		return err
	}
	d, err := x.resolve(ctx)
	if err != nil {
		return err
	}
	x.Reporter.Step("finishing the hand-over that was interrupted")
	outcome, switched, err := x.Failover.Resume(ctx, d, x.limits.Limits)
	if err == nil {
		x.Reporter.Note("%s to %s: %s", switched.From, switched.To, outcome)
	}
	return err
}

// primary observes who the primary is.
func (x *rolling) primary(ctx context.Context, d *operation.Deployment) (string, error) {
	observed := topology.Observe(ctx, x.Connector, d, x.limits.Timeout)
	return x.primaryOf(&observed)
}

// primaryOf names the instance that everybody is to follow: the only one that says that it
// is one, or the one that a failover made it when the pod of another has restarted.
func (x *rolling) primaryOf(observed *topology.Topology) (string, error) {
	primary, err := observed.Primary()
	if err == nil {
		return primary.Name, nil
	}
	m := observed.Member(observed.Deployment.Intended())
	if m != nil && m.Err == nil && m.Replication.Role == redis.RolePrimary {
		return m.Name, nil
	}
	return "", &operation.Error{
		Kind: operation.Failed, Object: x.object, Phase: "finding the primary", Err: err,
		Unchanged: "no further pod was replaced", Next: "redisctl failover status; then redisctl upgrade resume",
	}
}

// successor returns the replica that takes over: one that was replaced and lags least.
func (x *rolling) successor(ctx context.Context) (string, error) {
	d, err := x.resolve(ctx)
	if err != nil {
		return "", err
	}
	o := failover.DefaultOptions()
	o.Limits, o.AllowOlder = x.limits.Limits, x.record.AllowOlder || x.record.Phase == PhaseUndoing
	plan, err := x.Failover.Plan(ctx, d, o)
	if err != nil {
		return "", err
	}
	return plan.To, nil
}

// replace ends a pod and waits until the new one is in sync.
func (x *rolling) replace(ctx context.Context, name string) error {
	d, err := x.resolve(ctx)
	if err != nil {
		return err
	}
	i := d.Instance(name)
	replaced := Replaced{Name: name}
	begun := x.Now()
	former := ""
	if i.Pod != nil && i.Pod.UID != "" {
		x.Reporter.Step("replacing %s", name)
		former = i.Pod.UID
		if err := x.Cluster.DeletePod(ctx, d, *i, ownGrace); err != nil {
			return err
		}
	}
	m, err := x.await(ctx, name, former)
	if err != nil {
		if x.record.Phase != PhaseUndoing {
			return err
		}
		if m, err = x.withoutData(ctx, name, err); err != nil {
			return err
		}
	}
	replaced.Version, replaced.DownSeconds = m.Version.String(), x.Now().Sub(begun).Seconds()
	synced := x.Now()
	if err := x.followed(ctx, name); err != nil {
		return err
	}
	replaced.SyncSeconds = x.Now().Sub(synced).Seconds()
	x.Reporter.Note("%s runs %s and is in sync", name, replaced.Version)
	x.result.Pods = append(x.result.Pods, replaced)
	return nil
}

// ownGrace lets a pod end as its template says.
const ownGrace = -1 * time.Second

// withoutData starts a replica anew that cannot read the data which a newer server has
// written: it has nothing that the primary lacks.
func (x *rolling) withoutData(ctx context.Context, name string, cause error) (*topology.Member, error) {
	var bad *badPodError
	if !errors.As(cause, &bad) || !bad.started {
		return nil, cause
	}
	d, err := x.resolve(ctx)
	if err != nil {
		return nil, err
	}
	x.Reporter.Step("setting the data of %s aside: it copies the primary's", name)
	i := d.Instance(name)
	kept, err := x.Aside.SetAside(ctx, d, *i)
	if err != nil {
		return nil, errors.Join(cause, err)
	}
	x.Reporter.Note("kept in %s on its volume", kept)
	if err := x.Cluster.DeletePod(ctx, d, *i, ownGrace); err != nil {
		return nil, err
	}
	return x.await(ctx, name, i.Pod.UID)
}

// restart replaces the pod of a server that has no replica, after its data was saved.
func (x *rolling) restart(ctx context.Context, name string) error {
	d, err := x.resolve(ctx)
	if err != nil {
		return err
	}
	i := d.Instance(name)
	least, former := int64(0), ""
	begun := x.Now()
	if i.Pod != nil && i.Pod.UID != "" {
		former = i.Pod.UID
		grace := ownGrace
		if i.Down() == nil {
			if least, grace, err = x.saveAll(ctx, d, *i); err != nil {
				return err
			}
		}
		x.Reporter.Step("replacing %s: nobody serves meanwhile", name)
		begun = x.Now()
		if err := x.Cluster.DeletePod(ctx, d, *i, grace); err != nil {
			return err
		}
	}
	m, err := x.await(ctx, name, former)
	if err != nil {
		return err
	}
	if err := x.ready(ctx, name); err != nil {
		return err
	}
	replaced := Replaced{Name: name, Version: m.Version.String(), DownSeconds: x.Now().Sub(begun).Seconds()}
	x.result.Pods = append(x.result.Pods, replaced)
	now := m.Info.TotalKeys()
	x.Reporter.Note("%s runs %s with %d keys, after %.1f s", name, replaced.Version, now, replaced.DownSeconds)
	if now < least-m.Info.Int("evicted_keys") {
		return &badPodError{pod: name, reason: fmt.Sprintf("it had at least %d keys that do not expire, and has %d now", least, now)}
	}
	return nil
}

// saveAll makes sure that the server's data is on its volume when it ends. It returns the
// number of keys that do not expire, and how long the server may take to end: on SIGTERM it saves again, and
// one that is killed while it does loses what came since.
func (x *rolling) saveAll(ctx context.Context, d *operation.Deployment, i operation.Instance) (least int64, grace time.Duration, err error) {
	server, err := x.Connector.Connect(ctx, d, i)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = server.Close() }() // it was only asked
	info, err := server.Info(ctx)
	if err != nil {
		return 0, 0, err
	}
	grace = ownGrace
	if !info.Persistence().AOFEnabled {
		x.Reporter.Step("saving the data of %s", i.Name)
		took, err := x.Saver.Save(ctx, d, i)
		if err != nil {
			return 0, 0, err
		}
		values, err := server.ConfigGet(ctx, "save")
		if err != nil {
			return 0, 0, fmt.Errorf("whether %s saves when it ends cannot be told: %w", i.Name, err)
		}
		if values["save"] == "" {
			// For the rest of this process only: the last writes are saved when it ends.
			if _, err := server.Do(ctx, "CONFIG", "SET", "save", "3600 1"); err != nil {
				return 0, 0, fmt.Errorf("%s keeps what was written last only if it saves when it ends: %w", i.Name, err)
			}
		}
		if 3*took > chartGrace {
			grace = 3*took + chartGrace
		}
	}
	if info, err = server.Info(ctx, "keyspace"); err != nil {
		return 0, 0, err
	}
	return permanent(info.Keyspace()), grace, nil
}

// chartGrace is the chart's termination grace period.
const chartGrace = 30 * time.Second

// permanent counts the keys that do not expire by themselves.
func permanent(keys []redis.DBKeys) int64 {
	var n int64
	for _, db := range keys {
		n += db.Keys - db.Expires
	}
	return n
}
