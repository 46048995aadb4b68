package green

import (
	"context"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/failover"
	"github.com/redisctl/redisctl/internal/operation/topology"
)

// Status is how a second release is doing.
type Status struct {
	Record Record `json:"record"`
	// Primaries are the servers of both releases that say that they are primaries:
	// normally one.
	Primaries []string `json:"primaries"`
	Servers   []Server `json:"servers"`
}

// Server is a server of either release.
type Server struct {
	Name    string `json:"name"`
	Release string `json:"release"`
	// Version is empty when it does not answer.
	Version string `json:"version,omitempty"`
	// Follows names what it follows; empty for a primary.
	Follows string `json:"follows,omitempty"`
	// Link is "up", "syncing" or "down"; empty for a primary.
	Link string `json:"link,omitempty"`
	// BehindBytes is -1 when it cannot be told.
	BehindBytes int64  `json:"behindBytes"`
	Error       string `json:"error,omitempty"`
}

// Status observes both releases; nil when there is no second one. It only reads.
func (g Green) Status(ctx context.Context, d *operation.Deployment, l failover.Limits) (*Status, error) {
	r, err := g.Record(ctx, d)
	if err != nil || r == nil {
		return nil, err
	}
	s := &Status{Record: *r, Primaries: []string{}, Servers: []Server{}}
	second, err := g.find(ctx, d, r.Green)
	if err != nil {
		return nil, err
	}
	if second == nil {
		return s, nil
	}
	p := &pair{blue: d, green: second, record: r}
	t := g.observe(ctx, p, l)
	for _, m := range t.Primaries() {
		s.Primaries = append(s.Primaries, m.Name)
	}
	for i := range t.Members {
		s.Servers = append(s.Servers, server(p, &t.Members[i]))
	}
	return s, nil
}

func server(p *pair, m *topology.Member) Server {
	found := Server{Name: m.Name, Release: p.blue.Release, Follows: m.Upstream(), Link: m.Link(), BehindBytes: m.Behind}
	if p.green.Instance(m.Name) != nil {
		found.Release = p.green.Release
	}
	switch {
	case m.Err != nil:
		found.Error = m.Err.Error()
	default:
		found.Version = m.Version.String()
		if found.Follows == "" {
			found.BehindBytes = 0
		}
	}
	return found
}
