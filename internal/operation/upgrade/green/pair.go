package green

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/failover"
	"github.com/redisctl/redisctl/internal/operation/topology"
)

// pair is both releases.
type pair struct {
	blue, green *operation.Deployment
	record      *Record
}

// open finds green.
func (g Green) open(ctx context.Context, blue *operation.Deployment, r *Record) (*pair, error) {
	green, err := g.find(ctx, blue, r.Green)
	if err != nil {
		return nil, err
	}
	if green == nil {
		return nil, refused(blue.String(), "finding the second release", "redisctl upgrade abort removes what is left of it", "the release %s is gone", r.Green)
	}
	return &pair{blue: blue, green: green, record: r}, nil
}

// find returns a release in blue's namespace, or nil.
func (g Green) find(ctx context.Context, blue *operation.Deployment, release string) (*operation.Deployment, error) {
	found, err := g.Resolver.List(ctx, operation.Target{Namespace: blue.Namespace, Release: release})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return &found[0], nil
}

// merged is one deployment that has the servers of both, and the Services that a cutover
// moves, which lead to the pod leadsTo.
func (p *pair) merged(leadsTo string) *operation.Deployment {
	d := *p.blue
	d.Instances = slices.Concat(named(p.blue), named(p.green))
	d.Services = nil
	for _, r := range p.record.Services {
		d.Services = append(d.Services, operation.Service{Name: r.Service, Port: r.Port, PodSelector: leadsTo})
	}
	return &d
}

// named gives the instances of a release the DNS names that they have below its headless
// Service, so that servers of the other one find them after a restart.
func named(d *operation.Deployment) []operation.Instance {
	instances := slices.Clone(d.Instances)
	for i := range instances {
		if d.ReplicaMode() {
			instances[i].Domain = fmt.Sprintf("%s.%s.svc", d.Workload.ServiceName, d.Namespace)
		}
	}
	return instances
}

// observe asks the servers of both releases.
func (g Green) observe(ctx context.Context, p *pair, l failover.Limits) topology.Topology {
	return topology.Observe(ctx, g.Connector, p.merged(""), l.Timeout)
}

// first is the pod of a release that the chart makes its primary.
func first(d *operation.Deployment) string { return d.Workload.FirstPod() }

// switcher is failover's operation on both releases.
func (g Green) switcher(p *pair) failover.Failover {
	f := g.Failover
	f.Locker, f.Notes = operation.Held{}, switchNotes{g.Notes}
	f.Traffic = traffic{Traffic: g.Failover.Traffic, cluster: g.Cluster, pair: p}
	// An older server may not be able to follow: then there is no way back, but the switch
	// is complete.
	f.Leave = func(_, to, instance string) bool {
		return (p.green.Instance(to) != nil) != (p.green.Instance(instance) != nil)
	}
	return f
}

// traffic implements failover.Traffic between two releases.
type traffic struct {
	failover.Traffic
	cluster Cluster
	pair    *pair
}

// Pin implements failover.Traffic.
func (t traffic) Pin(ctx context.Context, _ *operation.Deployment, service, _, to string) error {
	for _, r := range t.pair.record.Services {
		if r.Service != service {
			continue
		}
		if t.pair.green.Instance(to) != nil {
			return t.cluster.Reroute(ctx, t.pair.blue, service, r.Blue, r.Green)
		}
		return t.cluster.Reroute(ctx, t.pair.blue, service, r.Green, r.Blue)
	}
	return fmt.Errorf("the Service %s is not recorded", service)
}

// switchNotes keeps failover's record under a key of its own: failover's commands know one
// release only. Where blue's primary is meant to be does not change.
type switchNotes struct{ operation.Notes }

// Note implements operation.Notes.
func (n switchNotes) Note(ctx context.Context, d *operation.Deployment, key string) (string, error) {
	if key == operation.NoteFailover {
		key = operation.NoteCutover
	}
	return n.Notes.Note(ctx, d, key)
}

// SetNotes implements operation.Notes.
func (n switchNotes) SetNotes(ctx context.Context, d *operation.Deployment, notes map[string]string) error {
	notes = maps.Clone(notes)
	delete(notes, operation.NotePrimary)
	if text, ok := notes[operation.NoteFailover]; ok {
		delete(notes, operation.NoteFailover)
		notes[operation.NoteCutover] = text
	}
	return n.Notes.SetNotes(ctx, d, notes)
}
