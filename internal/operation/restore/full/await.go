package full

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/redis"
)

// pollInterval is how often the state of a starting release is read.
const pollInterval = 300 * time.Millisecond

// crashes is how often a server may end before waiting for it is given up.
const crashes = 3

// await calls look until it says that nothing is waited for. It gives up when the state
// has been the same for Limits.Start.
func (x *restoring) await(ctx context.Context, look func() (state string, err error)) error {
	said, since := "", x.Now()
	for {
		state, err := look()
		if err != nil || state == "" {
			return err
		}
		if state != said {
			said, since = state, x.Now()
			x.Reporter.Note("waiting for %s", state)
		}
		if limit := x.plan.options.Limits.Start; x.Now().Sub(since) > limit {
			return operation.Errorf(operation.TimedOut, "no progress for %s: waiting for %s", limit, state)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pollInterval):
		}
	}
}

// awaitPrimary returns the deployment when its first pod serves. One whose data is on its
// way is returned as it is: its pods may be stopped.
func (x *restoring) awaitPrimary(ctx context.Context) (*operation.Deployment, error) {
	var d *operation.Deployment
	err := x.await(ctx, func() (string, error) {
		var err error
		if d, err = x.Resolver.Resolve(ctx, x.target); err != nil {
			return "", err
		}
		if d.Workload.Annotations[operation.NoteRestore] != "" {
			return "", nil
		}
		first := d.Instance(x.plan.Name + "-0")
		if first == nil {
			return x.plan.Name + "-0", nil
		}
		if err := crashed(first); err != nil {
			return "", err
		}
		one := *d
		one.Instances = []operation.Instance{*first}
		t := topology.Observe(ctx, x.Connector, &one, x.plan.options.Limits.Timeout)
		switch m := &t.Members[0]; {
		case operation.KindOf(m.Err) == operation.Denied:
			return "", m.Err
		case m.Err != nil:
			return first.Name + ": " + firstLine(m.Err.Error()), nil //nolint:nilerr // it is still starting
		case m.Info.Persistence().Loading:
			return first.Name + " to load its data", nil
		case m.Replication.Role != redis.RolePrimary:
			return first.Name + " to be the primary", nil
		}
		return "", nil
	})
	return d, err
}

// crashed returns an error for a server that does not stay up.
func crashed(i *operation.Instance) error {
	if i.Pod == nil || i.Pod.Restarts < crashes {
		return nil
	}
	return fmt.Errorf("%s does not stay up: %s %s", i.Name, i.Pod.Reason, i.Pod.LastExit)
}

// awaitServing returns when everybody serves.
func (x *restoring) awaitServing(ctx context.Context) error {
	return x.await(ctx, func() (string, error) {
		d, err := x.Resolver.Resolve(ctx, x.target)
		if err != nil {
			return "", err
		}
		for i := range d.Instances {
			if err := crashed(&d.Instances[i]); err != nil {
				return "", err
			}
		}
		t := topology.Observe(ctx, x.Connector, d, x.plan.options.Limits.Timeout)
		if err := t.Denied(); err != nil {
			return "", err
		}
		waiting := unserved(&t)
		if d.Workload.Ready < d.Workload.Desired && len(waiting) == 0 {
			waiting = append(waiting, fmt.Sprintf("%d of %d pods to be ready", d.Workload.Desired-d.Workload.Ready, d.Workload.Desired))
		}
		x.result.Instances, x.result.Services = instancesOf(&t), servicesOf(d)
		return strings.Join(waiting, ", "), nil
	})
}
