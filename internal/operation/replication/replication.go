// Package replication reports the replication topology of a deployment: who is
// primary, who follows whom, how far behind, and where the Services point.
package replication

import (
	"errors"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/health"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/redis"
)

// Report is the topology as `replication info` prints it. Its JSON form is part
// of redisctl's interface (docs/json-output.md).
type Report struct {
	Namespace string `json:"namespace,omitempty"`
	Release   string `json:"release,omitempty"`
	Name      string `json:"name"`
	Mode      string `json:"mode"`
	// Primary is the one observed primary; empty when there is none, or more.
	Primary string `json:"primary,omitempty"`
	// Intended is the instance that the last failover made the primary; empty when
	// there was none.
	Intended  string              `json:"intended,omitempty"`
	Instances []Instance          `json:"instances"`
	Services  []Service           `json:"services"`
	Findings  []operation.Finding `json:"findings"`
}

// Instance is one server's place in the topology.
type Instance struct {
	Name  string     `json:"name"`
	Error string     `json:"error,omitempty"`
	Role  redis.Role `json:"role,omitempty"`
	// ReplicationID and Offset say which history the server holds, and how many
	// bytes of it.
	ReplicationID string `json:"replicationId,omitempty"`
	Offset        int64  `json:"offset"`
	Keys          int64  `json:"keys"`
	// Replica is nil for a primary.
	Replica *Replica `json:"replica,omitempty"`
}

// Replica is a replica's relation to what it follows.
type Replica struct {
	// Follows is an instance's name, or host:port of a server outside.
	Follows string `json:"follows"`
	Link    string `json:"link"` // "up", "down" or "syncing"
	// LagBytes is nil when it cannot be told: the primary did not answer or has
	// another history.
	LagBytes *int64 `json:"lagBytes"`
	// LagSeconds is the time since the last byte or acknowledgement, in whole
	// seconds; -1 when there never was one.
	LagSeconds int64 `json:"lagSeconds"`
	Priority   int   `json:"priority"`
}

// Service is where a Service of the release sends its clients.
type Service struct {
	Name string `json:"name"`
	// Selects is the pod that the Service is pinned to; empty when it selects by
	// labels.
	Selects string `json:"selects,omitempty"`
	// Endpoints are the pods that receive traffic now.
	Endpoints []string `json:"endpoints"`
	Headless  bool     `json:"headless"`
}

// Describe makes the report of what was observed.
func Describe(t *topology.Topology, o health.Options) Report {
	d := t.Deployment
	r := Report{
		Namespace: d.Namespace,
		Release:   d.Release,
		Name:      d.Name,
		Mode:      health.Mode(d),
		Intended:  d.Intended(),
		Instances: make([]Instance, len(t.Members)),
		Services:  make([]Service, len(d.Services)),
		Findings:  health.Replication(t, o),
	}
	if p, err := t.Primary(); err == nil && !t.Independent() {
		r.Primary = p.Name
	}
	for i := range t.Members {
		r.Instances[i] = describe(&t.Members[i])
	}
	for i, s := range d.Services {
		r.Services[i] = Service{Name: s.Name, Selects: s.PodSelector, Endpoints: append([]string{}, s.Endpoints...), Headless: s.Headless}
	}
	return r
}

func describe(m *topology.Member) Instance {
	if m.Err != nil {
		return Instance{Name: m.Name, Error: m.Err.Error()}
	}
	i := Instance{
		Name:          m.Name,
		Role:          m.Replication.Role,
		ReplicationID: m.Replication.ID,
		Offset:        m.Replication.Offset,
		Keys:          m.Info.TotalKeys(),
	}
	if up := m.Replication.Upstream; up != nil {
		i.Replica = &Replica{
			Follows:    m.Upstream(),
			Link:       m.Link(),
			LagSeconds: int64(m.Silence / time.Second),
			Priority:   up.Priority,
		}
		if m.Behind >= 0 {
			i.Replica.LagBytes = &m.Behind
		}
	}
	return i
}

// Primary returns the one primary. No primary, or several, is an
// *operation.Error of kind Unhealthy that names the candidates.
func Primary(t *topology.Topology) (*topology.Member, error) {
	p, err := t.Primary()
	if err == nil {
		return p, nil
	}
	e := &operation.Error{
		Kind: operation.Unhealthy, Object: t.Deployment.String(), Phase: "finding the primary", Err: err,
		Next: "redisctl replication info shows who follows whom",
	}
	if errors.Is(err, topology.ErrManyPrimaries) && t.Independent() {
		e.Next = "these servers are independent; name one with --pod or --address"
	}
	return nil, e
}
