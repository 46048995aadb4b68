// Package maintenance has the daily work on running servers: what they hold, what
// takes their space and time, saving, emptying, and any other command, with the care
// that a production server needs.
//
// Whatever walks through the keys does so with SCAN, in batches that no other client
// notices; whatever shows commands leaves out values and secrets.
package maintenance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/topology"
)

// Sessions opens connections that belong to one caller.
type Sessions interface {
	// OpenSession connects to an instance and selects a database. Errors are those of
	// operation.Connector, of kind Usage when the server has no such database.
	OpenSession(ctx context.Context, d *operation.Deployment, i operation.Instance, db int) (Session, error)
}

// Session is one connection: what is said on it (SELECT, MONITOR) holds for what
// follows. It is for one goroutine; only Close may be called from another. After an
// error it is of no use any more.
type Session interface {
	// Do sends commands at once and returns one reply each, in order. Command names are
	// translated to those that the deployment gives them. limit bounds the whole. The
	// error is that of the connection: a server's refusal is a Reply.
	Do(ctx context.Context, limit time.Duration, commands ...Command) ([]Reply, error)
	// Next waits for what the server sends by itself.
	Next(ctx context.Context) (Reply, error)
	Close() error
}

// Command is a command and its arguments.
type Command []string

// Maintenance carries out the operations of this package.
type Maintenance struct {
	Connector operation.Connector
	Sessions  Sessions
	Reporter  operation.Reporter
	Now       func() time.Time
	// Timeout is how long one server may take to answer.
	Timeout time.Duration
}

// Named says which deployment and which instance a result is about.
type Named struct {
	Namespace string `json:"namespace,omitempty"`
	Release   string `json:"release,omitempty"`
	Name      string `json:"name"`
	Instance  string `json:"instance"`
}

func named(d *operation.Deployment, instance string) Named {
	return Named{Namespace: d.Namespace, Release: d.Release, Name: d.Name, Instance: instance}
}

// Choose returns the instance with the given name, or the observed primary when name is
// empty. Error kinds: Usage when there are several servers of which none follows
// another, Refused when several of a replicated deployment say that they are primaries,
// TimedOut when none does and some did not answer in time, otherwise Failed.
func (m Maintenance) Choose(ctx context.Context, d *operation.Deployment, name string) (*operation.Instance, error) {
	if name != "" {
		if i := d.Instance(name); i != nil {
			return i, i.Down()
		}
		return nil, operation.Errorf(operation.Usage, "%s has no instance %q; it has %s", d, name, d.InstanceNames())
	}
	if len(d.Instances) == 1 {
		return &d.Instances[0], d.Instances[0].Down()
	}
	t := topology.Observe(ctx, m.Connector, d, m.Timeout)
	primary, err := m.primary(&t)
	if err != nil {
		return nil, err
	}
	return d.Instance(primary.Name), nil
}

// primary is the one primary of t, with errors as of Choose.
func (m Maintenance) primary(t *topology.Topology) (*topology.Member, error) {
	if err := t.Denied(); err != nil {
		return nil, err
	}
	d := t.Deployment
	if t.Independent() && len(d.Instances) > 1 {
		if err := unknownPrimary(t); err != nil {
			return nil, err
		}
		return nil, operation.Errorf(operation.Usage, "%s has %d servers that do not follow each other: choose one with --pod: %s",
			d, len(d.Instances), d.InstanceNames())
	}
	primary, err := t.Primary()
	if err == nil {
		return primary, nil
	}
	e := &operation.Error{
		Kind: operation.Failed, Object: d.String(), Phase: "looking for the primary", Err: err,
		Unchanged: "nothing was changed", Next: "redisctl replication info; or choose an instance with --pod",
	}
	switch {
	case errors.Is(err, topology.ErrManyPrimaries):
		e.Kind = operation.Refused
	case slices.ContainsFunc(t.Members, func(m topology.Member) bool { return m.Err != nil && operation.KindOf(m.Err) == operation.TimedOut }):
		e.Kind = operation.TimedOut // one that is silent may be it
	}
	return nil, e
}

// unknownPrimary returns an error when servers of which none follows another may do so all
// the same, because some do not answer.
func unknownPrimary(t *topology.Topology) error {
	var silent []string
	var last error
	for _, m := range t.Members {
		if m.Err != nil {
			silent, last = append(silent, m.Name), m.Err
		}
	}
	if last == nil {
		return nil
	}
	return &operation.Error{
		Kind: operation.KindOf(last), Object: t.Deployment.String(), Phase: "looking for the primary",
		Err:       fmt.Errorf("no answer from %s, and nobody else says that one follows the other", strings.Join(silent, ", ")),
		Unchanged: "nothing was changed", Next: "choose an instance with --pod: " + t.Deployment.InstanceNames(),
	}
}

// ask sends one command that must not be refused.
func ask(ctx context.Context, s Session, limit time.Duration, command ...string) (Reply, error) {
	replies, err := s.Do(ctx, limit, command)
	if err != nil {
		return Reply{}, err
	}
	return replies[0], replies[0].Err
}
