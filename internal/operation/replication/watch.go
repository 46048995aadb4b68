package replication

import (
	"context"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/health"
	"github.com/redisctl/redisctl/internal/operation/inspect"
	"github.com/redisctl/redisctl/internal/operation/topology"
)

// Sample is one observation of a Watch. Its JSON form is part of redisctl's interface
// (docs/json-output.md).
type Sample struct {
	Time time.Time `json:"time"`
	Report
}

// Watch observes a deployment again and again, over connections that it keeps. Use
// NewWatch.
type Watch struct {
	connections *inspect.Connections
	resolve     func(context.Context) (*operation.Deployment, error)
	deployment  *operation.Deployment
	options     health.Options
	now         func() time.Time
	// stale is set when an instance did not answer: its pod may be replaced by one
	// with another address.
	stale bool
}

// NewWatch returns a Watch of d. resolve looks the deployment up again, which is done
// after a sample in which an instance did not answer. Close the Watch.
func NewWatch(
	connector operation.Connector, d *operation.Deployment,
	resolve func(context.Context) (*operation.Deployment, error), o health.Options, now func() time.Time,
) *Watch {
	return &Watch{
		connections: inspect.NewConnections(connector),
		resolve:     resolve, deployment: d, options: o, now: now,
	}
}

// Sample observes the deployment once. An instance that does not answer is part of
// the sample; the error is not nil only when ctx ended, or nothing could be observed
// for want of permissions or credentials.
func (w *Watch) Sample(ctx context.Context) (Sample, error) {
	if w.stale {
		// What was known before is better than nothing while the API is away.
		if d, err := w.resolve(ctx); err == nil {
			w.deployment = d
		}
	}
	t := topology.Observe(ctx, w.connections, w.deployment, w.options.Timeout)
	if ctx.Err() != nil {
		return Sample{}, context.Cause(ctx) // half of the answers would be missing
	}
	if err := t.Denied(); err != nil {
		return Sample{}, err
	}
	w.stale = false
	for _, m := range t.Members {
		if m.Err != nil {
			w.stale = true
			w.connections.Drop(m.Name)
		}
	}
	return Sample{Time: w.now().UTC().Truncate(time.Millisecond), Report: Describe(&t, w.options)}, nil
}

// Close closes the connections.
func (w *Watch) Close() { w.connections.Close() }
