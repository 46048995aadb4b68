package volume

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/redis"
)

// pollInterval is how often the state of a starting server is read.
const pollInterval = 300 * time.Millisecond

// logLines is how much of a failed server's log is shown.
const logLines = 8

// startError says that a server cannot start with the files that it has.
type startError struct {
	reason string
	// log is what the server printed last.
	log []string
}

func (e *startError) Error() string {
	if len(e.log) == 0 {
		return e.reason
	}
	return e.reason + "; it printed:\n  " + strings.Join(e.log, "\n  ")
}

// watch ends waiting when nothing has changed for too long.
type watch struct {
	x     *restoring
	state string
	since time.Time
}

func (x *restoring) newWatch() *watch { return &watch{x: x, since: x.Now()} }

// moved waits a moment. Its error says that the state has been the same for
// Limits.Start.
func (w *watch) moved(ctx context.Context, state string) error {
	if state != w.state {
		w.state, w.since = state, w.x.Now()
		w.x.Reporter.Note("%s", state)
	}
	return w.pause(ctx)
}

// progressed is moved for a state that changes too often to be told each time.
func (w *watch) progressed(ctx context.Context, state string, p operation.Progress) error {
	if state != w.state {
		w.state, w.since = state, w.x.Now()
	}
	w.x.Reporter.Progress(p)
	return w.pause(ctx)
}

func (w *watch) pause(ctx context.Context) error {
	if w.x.Now().Sub(w.since) > w.x.options.Limits.Start {
		return operation.Errorf(operation.TimedOut, "no progress for %s: %s", w.x.options.Limits.Start, w.state)
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(pollInterval):
		return nil
	}
}

// awaitLoaded returns the first instance when it has loaded its data and is a primary.
// A *startError says that it never will.
func (x *restoring) awaitLoaded(ctx context.Context) (*operation.Instance, error) {
	watch := x.newWatch()
	for {
		d, err := x.resolve(ctx)
		if err != nil {
			return nil, err
		}
		i := d.Instance(first(d))
		if i == nil || i.Pod == nil {
			return nil, fmt.Errorf("%s has no pod %s", d.Workload.Name, first(d))
		}
		if i.Pod.Restarts > 0 || strings.HasSuffix(i.Pod.Reason, "BackOff") && i.Pod.Reason != "ImagePullBackOff" {
			return nil, x.crashed(ctx, d, i)
		}
		if i.Down() != nil {
			if err := watch.moved(ctx, fmt.Sprintf("%s: %s %s", i.Name, i.Pod.Reason, i.Pod.Message)); err != nil {
				return nil, err
			}
			continue
		}
		info, err := x.ask(ctx, d, i)
		if err != nil {
			if operation.KindOf(err) == operation.Denied {
				return nil, err
			}
			if err := watch.moved(ctx, i.Name+" runs and does not answer yet"); err != nil {
				return nil, err
			}
			continue
		}
		loading := info.Persistence()
		if !loading.Loading {
			state, err := info.Replication()
			if err == nil && state.Role != redis.RolePrimary {
				err = fmt.Errorf("%s has started as a replica", i.Name)
			}
			return i, err
		}
		done, total := info.Int("loading_loaded_bytes"), info.Int("loading_total_bytes")
		progress := operation.Progress{Done: done, Total: total, Unit: "bytes", Detail: "loading"}
		if err := watch.progressed(ctx, fmt.Sprintf("%s loads its data, %d of %d bytes", i.Name, done, total), progress); err != nil {
			return nil, err
		}
	}
}

// awaitReady returns when the first pod is Ready: until then Services leave it out.
func (x *restoring) awaitReady(ctx context.Context) error {
	watch := x.newWatch()
	for {
		d, err := x.resolve(ctx)
		if err != nil {
			return err
		}
		i := d.Instance(first(d))
		if i == nil || i.Pod == nil {
			return fmt.Errorf("%s has no pod %s", d.Workload.Name, first(d))
		}
		if i.Pod.Ready {
			return nil
		}
		if err := watch.moved(ctx, i.Name+" is not Ready yet"); err != nil {
			return err
		}
	}
}

func (x *restoring) ask(ctx context.Context, d *operation.Deployment, i *operation.Instance) (redis.Info, error) {
	ctx, cancel := context.WithTimeout(ctx, x.options.Limits.Timeout)
	defer cancel()
	server, err := x.Connector.Connect(ctx, d, *i)
	if err != nil {
		return redis.Info{}, err
	}
	defer func() { _ = server.Close() }() // it was only asked
	return server.Info(ctx)
}

func (x *restoring) crashed(ctx context.Context, d *operation.Deployment, i *operation.Instance) error {
	reason := i.Pod.LastExit
	if reason == "" {
		reason = i.Pod.Reason
	}
	failed := &startError{reason: fmt.Sprintf("%s does not start with the restored files (%s)", i.Name, reason)}
	lines, err := x.Volumes.LastLines(ctx, d, *i, logLines)
	if err != nil && ctx.Err() == nil {
		x.Reporter.Warn("%v", err)
	}
	failed.log = lines
	return failed
}
