// Package forward lets programs on this machine reach a release through a local port, and
// keeps the port leading to the right server: to the one that is the primary now, through
// restarts of its pod and failovers.
package forward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/topology"
)

// Target says where a forwarded connection leads. The zero value is the observed primary.
type Target struct {
	// Replica leads to a replica in sync.
	Replica bool
	// Service leads to a pod that the Service sends traffic to now.
	Service string
	// Pod leads to one pod.
	Pod string
}

// String says it for people.
func (t Target) String() string {
	switch {
	case t.Pod != "":
		return "pod " + t.Pod
	case t.Service != "":
		return "service " + t.Service
	case t.Replica:
		return "a replica"
	default:
		return "the primary"
	}
}

// Dialer opens a connection to an instance.
type Dialer func(ctx context.Context, d *operation.Deployment, i operation.Instance) (net.Conn, error)

// Forward forwards connections. All fields are required.
type Forward struct {
	// Resolve looks the deployment up.
	Resolve   func(context.Context) (*operation.Deployment, error)
	Connector operation.Connector
	Dial      Dialer
	Target    Target
	Reporter  operation.Reporter
	// Interval is how often is looked where the target is. Timeout bounds the answer of an
	// instance, and Patience how long a new connection waits for a target.
	Interval, Timeout, Patience time.Duration

	mu sync.Mutex
	at place
	// changed is closed, and replaced, when at changes.
	changed chan struct{}
	// look asks for a look before the next is due.
	look  chan struct{}
	conns map[*relay]struct{}
}

// place is the instance that connections are led to.
type place struct {
	deployment *operation.Deployment
	instance   operation.Instance
}

func (p place) known() bool { return p.deployment != nil }

// same reports whether connections to p may go on when the target is q.
func (p place) same(q place) bool {
	return p.known() && q.known() && p.instance.Name == q.instance.Name && uid(p.instance) == uid(q.instance)
}

func uid(i operation.Instance) string {
	if i.Pod == nil {
		return ""
	}
	return i.Pod.UID
}

// Start finds the target for the first time and returns its instance. The error says what
// there is instead.
func (f *Forward) Start(ctx context.Context) (operation.Instance, error) {
	f.changed, f.look, f.conns = make(chan struct{}), make(chan struct{}, 1), make(map[*relay]struct{})
	at, err := f.find(ctx)
	if err != nil {
		return operation.Instance{}, err
	}
	f.at = at
	return at.instance, nil
}

// Serve accepts connections from l until ctx ends, and closes l and them. Start comes first.
func (f *Forward) Serve(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() { f.follow(ctx) })
	for {
		client, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("accepting a connection: %w", err)
		}
		wg.Go(func() { f.serve(ctx, client) })
	}
}

// follow keeps looking where the target is.
func (f *Forward) follow(ctx context.Context) {
	ticker := time.NewTicker(f.Interval)
	defer ticker.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-f.look:
		}
		at, err := f.find(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			// Connections stay as they are: what was the primary may only be slow to say so.
			if text := f.stays(err); text != said {
				said = text
				f.Reporter.Warn("%s", text)
			}
		default:
			said = ""
			f.move(at)
		}
	}
}

// stays says why connections go on to where they led, and what can be done about it.
func (f *Forward) stays(err error) string {
	f.mu.Lock()
	text := fmt.Sprintf("%v; connections still go to %s", err, f.at.instance.Name)
	f.mu.Unlock()
	var e *operation.Error
	if errors.As(err, &e) && e.Next != "" {
		text += "; " + e.Next
	}
	return text
}

// move makes at the target, and ends the connections that lead elsewhere: a client that
// stays with a demoted primary cannot write.
func (f *Forward) move(at place) {
	f.mu.Lock()
	before := f.at
	f.at = at
	var old []*relay
	if !before.same(at) {
		close(f.changed)
		f.changed = make(chan struct{})
	}
	// A replica or an endpoint stays good as long as it is one.
	if !before.same(at) && f.Target.Service == "" && !f.Target.Replica {
		for r := range f.conns {
			if !r.to.same(at) {
				old = append(old, r)
			}
		}
	}
	f.mu.Unlock()
	if before.same(at) {
		return
	}
	text := fmt.Sprintf("%s is %s now", f.Target, at.instance.Name)
	switch {
	case before.instance.Name == at.instance.Name:
		text = at.instance.Name + " was replaced by a new pod"
	case f.Target.Service != "" || f.Target.Replica:
		text = fmt.Sprintf("new connections go to %s", at.instance.Name)
	}
	if len(old) > 0 {
		text += fmt.Sprintf("; closing %d connections to %s", len(old), before.instance.Name)
	}
	f.Reporter.Step("%s", text)
	for _, r := range old {
		r.close()
	}
}

// find looks where the target is.
func (f *Forward) find(ctx context.Context) (place, error) {
	d, err := f.Resolve(ctx)
	if err != nil {
		return place{}, err
	}
	name, err := f.choose(ctx, d)
	if err != nil {
		e := &operation.Error{Kind: operation.KindOf(err), Object: d.String(), Phase: "looking for " + f.Target.String(), Err: err}
		var cause *operation.Error
		if errors.As(err, &cause) {
			e.Next = cause.Next
		}
		return place{}, e
	}
	i := d.Instance(name)
	if i == nil {
		return place{}, operation.Errorf(operation.Usage, "%s has no instance %q; it has %s", d, name, d.InstanceNames())
	}
	if err := i.Down(); err != nil {
		return place{}, err
	}
	return place{d, *i}, nil
}

func (f *Forward) choose(ctx context.Context, d *operation.Deployment) (string, error) {
	switch {
	case f.Target.Pod != "":
		return f.Target.Pod, nil
	case f.Target.Service != "":
		return f.endpoint(d)
	case len(d.Instances) == 1 && !f.Target.Replica:
		return d.Instances[0].Name, nil
	}
	t := topology.Observe(ctx, f.Connector, d, f.Timeout)
	if err := t.Denied(); err != nil {
		return "", err
	}
	if f.Target.Replica {
		return f.replica(&t)
	}
	primary, err := t.Primary()
	if err != nil {
		return "", noPrimary(&t, err)
	}
	return primary.Name, nil
}

// noPrimary adds to the error of t.Primary what makes one the primary again. The chart makes
// a circle of replicas when a promoted pod is restarted, and two primaries when the first
// pod is.
func noPrimary(t *topology.Topology, err error) error {
	d := t.Deployment
	e := &operation.Error{Kind: operation.Failed, Err: err, Next: fmt.Sprintf("redisctl health -n %s -r %s", d.Namespace, d.Release)}
	if t.Loop() != nil || errors.Is(err, topology.ErrManyPrimaries) {
		e.Next = fmt.Sprintf("redisctl replication heal -n %s -r %s", d.Namespace, d.Release)
	}
	return e
}

// replica stays with the one that connections go to, as long as it is in sync.
func (f *Forward) replica(t *topology.Topology) (string, error) {
	var inSync []string
	for i := range t.Members {
		if m := &t.Members[i]; m.Err == nil && m.Link() == "up" {
			inSync = append(inSync, m.Name)
		}
	}
	return f.keepOrFirst(inSync, "no replica has a link to its primary")
}

// endpoint stays with the one that connections go to, as long as it is one.
func (f *Forward) endpoint(d *operation.Deployment) (string, error) {
	var names []string
	for _, s := range d.Services {
		if s.Name == f.Target.Service {
			return f.keepOrFirst(s.Endpoints, "it sends traffic to no pod now")
		}
		names = append(names, s.Name)
	}
	return "", operation.Errorf(operation.Usage, "there is no such Service; there are %q", names)
}

func (f *Forward) keepOrFirst(names []string, none string) (string, error) {
	f.mu.Lock()
	current := f.at.instance.Name
	f.mu.Unlock()
	switch {
	case len(names) == 0:
		return "", errors.New(none)
	case slices.Contains(names, current):
		return current, nil
	default:
		return names[0], nil
	}
}

// serve forwards one connection.
func (f *Forward) serve(ctx context.Context, client net.Conn) {
	defer func() { _ = client.Close() }() // both directions have ended
	server, at, err := f.connect(ctx)
	if err != nil {
		if ctx.Err() == nil {
			f.Reporter.Warn("a connection could not be forwarded: %v", err)
		}
		return
	}
	r := &relay{client: client, server: server, to: at}
	f.mu.Lock()
	f.conns[r] = struct{}{}
	stale := !f.at.same(at) && f.Target.Service == "" && !f.Target.Replica // it moved while this one was dialled
	f.mu.Unlock()
	stop := context.AfterFunc(ctx, r.close)
	if stale {
		r.close()
	}
	r.run()
	stop()
	f.mu.Lock()
	delete(f.conns, r)
	f.mu.Unlock()
	if r.endedByServer() {
		f.lookNow()
	}
}

func (f *Forward) lookNow() {
	select {
	case f.look <- struct{}{}:
	default:
	}
}

// connect dials the target, and again where it has moved, or is just restarted.
func (f *Forward) connect(parent context.Context) (net.Conn, place, error) {
	ctx, cancel := context.WithTimeout(parent, f.Patience)
	defer cancel()
	for {
		f.mu.Lock()
		at, changed := f.at, f.changed
		f.mu.Unlock()
		server, err := f.Dial(ctx, at.deployment, at.instance)
		if err == nil {
			return server, at, nil
		}
		f.lookNow()
		select {
		case <-ctx.Done():
			return nil, at, err
		case <-changed:
		case <-time.After(f.Interval):
		}
	}
}
