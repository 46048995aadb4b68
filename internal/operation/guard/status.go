package guard

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/failover"
)

// Status is what there is of a guard, and whether it works. Its JSON form is part of
// redisctl's interface (docs/json-output.md).
type Status struct {
	Namespace string `json:"namespace"`
	Release   string `json:"release"`
	Name      string `json:"name"`
	Installed bool   `json:"installed"`
	Image     string `json:"image,omitempty"`
	// Replicas should exist, Available do.
	Replicas  int `json:"replicas"`
	Available int `json:"available"`
	// Promote tells whether it promotes a replica when the primary is gone for
	// PromoteAfterSeconds.
	Promote             bool    `json:"promote"`
	PromoteAfterSeconds float64 `json:"promoteAfterSeconds"`
	// Leader is the pod that acts, Since when it does.
	Leader string     `json:"leader,omitempty"`
	Since  *time.Time `json:"since,omitempty"`
	// AgeSeconds is how long ago the leader last renewed its Lease.
	AgeSeconds float64 `json:"ageSeconds"`
	// Last is the last change that the guard has observed.
	Last *Observation `json:"last,omitempty"`
	// Problems are why the guard does not work, or cannot go on.
	Problems []string `json:"problems"`

	// complete says that all pods are of the newest Deployment.
	complete bool
}

// Working reports whether a guard that is installed acts, and needs no decision.
func (s Status) Working() bool { return s.Installed && len(s.Problems) == 0 }

// started reports whether a guard acts, whatever it has found.
func (s Status) started() bool {
	return s.complete && s.Available >= s.Replicas && s.Leader != "" && s.Last != nil && s.Last.Holder == s.Leader
}

// Status observes the guard of a deployment. It only reads.
func (g Guard) Status(ctx context.Context, d *operation.Deployment) (Status, error) {
	state, err := g.Cluster.GuardState(ctx, d)
	if err != nil {
		return Status{}, err
	}
	s := Status{
		Namespace: d.Namespace, Release: d.Release, Name: d.Name, Installed: state.Deployed, Problems: []string{},
		Image: state.Image, Replicas: state.Replicas, Available: state.Available, Promote: state.Promote,
		PromoteAfterSeconds: state.PromoteAfter.Seconds(), complete: state.Complete,
	}
	if !s.Installed {
		return s, nil
	}
	if s.Last, err = g.last(ctx, d); err != nil {
		return s, err
	}
	now := g.Now()
	if state.Leader != "" {
		s.Leader, s.Since = state.Leader, &state.Since
		s.AgeSeconds = max(0, now.Sub(state.Renewed).Seconds())
	}
	s.Problems = append(s.Problems, problems(state, s, now)...)
	return s, nil
}

func (g Guard) last(ctx context.Context, d *operation.Deployment) (*Observation, error) {
	text, err := g.Notes.Note(ctx, d, Note)
	if err != nil || text == "" {
		return nil, err
	}
	o := new(Observation)
	if err := json.Unmarshal([]byte(text), o); err != nil {
		return nil, &operation.Error{
			Kind: operation.Failed, Object: d.String(), Phase: "reading the annotation " + Note, Err: err,
			Next: "the guard writes it again at the next change",
		}
	}
	return o, nil
}

func problems(state State, s Status, now time.Time) []string {
	found := slices.Clone(state.Trouble)
	if s.Available < s.Replicas {
		found = append(found, fmt.Sprintf("%d of %d pods are available", s.Available, s.Replicas))
	}
	switch {
	case s.Leader == "":
		return append(found, "no pod acts")
	case !slices.Contains(state.Pods, s.Leader):
		return append(found, s.Leader+", which acted last, does not exist any more")
	case now.Sub(state.Renewed) > state.Lasts:
		return append(found, fmt.Sprintf("%s has not renewed its Lease for %s", s.Leader, now.Sub(state.Renewed).Round(time.Second)))
	case s.Last == nil:
		return append(found, s.Leader+" has recorded no observation")
	}
	switch s.Last.Condition {
	case failover.ConditionBlocked, failover.ConditionPrimaryGone, failover.ConditionFailed:
		found = append(found, string(s.Last.Condition)+": "+s.Last.Message)
	}
	return found
}
