package failover

import (
	"context"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/topology"
)

// Status is where the primary is meant to be, and where it is.
type Status struct {
	Namespace string `json:"namespace,omitempty"`
	Release   string `json:"release,omitempty"`
	Name      string `json:"name"`
	// Intended is the instance that the last failover made the primary; empty when
	// none was made.
	Intended string `json:"intended,omitempty"`
	// Observed are the instances that say that they are the primary: normally one.
	Observed []string `json:"observed"`
	// Services tells for each Service that is pinned to a pod which one.
	Services map[string]string `json:"services"`
	// Unfinished is the record of a failover that was interrupted.
	Unfinished *Record `json:"unfinished,omitempty"`
}

// Consistent reports whether one instance is the primary, is the intended one if
// there is any, gets the clients of every pinned Service, and nothing is
// unfinished.
func (s Status) Consistent() bool {
	if len(s.Observed) != 1 || s.Unfinished != nil || s.Intended != "" && s.Intended != s.Observed[0] {
		return false
	}
	for _, pod := range s.Services {
		if pod != s.Observed[0] {
			return false
		}
	}
	return true
}

// Status observes d. It only reads.
func (f Failover) Status(ctx context.Context, d *operation.Deployment, l Limits) (Status, error) {
	t := topology.Observe(ctx, f.Connector, d, l.Timeout)
	if err := t.Denied(); err != nil {
		return Status{}, err
	}
	s := Status{Namespace: d.Namespace, Release: d.Release, Name: d.Name, Observed: []string{}, Services: map[string]string{}}
	for _, m := range t.Primaries() {
		s.Observed = append(s.Observed, m.Name)
	}
	for _, service := range d.Services {
		if service.PodSelector != "" {
			s.Services[service.Name] = service.PodSelector
		}
	}
	var err error
	if s.Intended, err = f.Notes.Note(ctx, d, operation.NotePrimary); err != nil {
		return Status{}, err
	}
	s.Unfinished, err = load(ctx, f.Notes, d)
	return s, err
}
