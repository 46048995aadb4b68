// Package guard keeps failovers kept: it runs failover.Watch inside the cluster, so
// that a pod that restarts at night does not need an operator, and installs, removes
// and judges the small Deployment that does so.
package guard

import (
	"context"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/failover"
)

// Note names the annotation of the workload that holds the guard's last Observation
// as JSON.
const Note = "redisctl.dev/guard"

// Spec is how a guard is run.
type Spec struct {
	// Image that holds redisctl.
	Image string
	// Version of redisctl that installs it.
	Version string
	// Replicas is how many pods there are; one of them acts.
	Replicas int
	// Promote and the following are those of failover.WatchOptions.
	Promote      bool
	PromoteAfter time.Duration
	Interval     time.Duration
	// Timeout bounds each answer of a server and of the Kubernetes API.
	Timeout time.Duration
}

// Action is what installing does to an object.
type Action string

// The actions.
const (
	ActionCreate Action = "create"
	ActionUpdate Action = "update"
	ActionKeep   Action = "keep"
	ActionDelete Action = "delete"
)

// Object is a Kubernetes object of a guard. Its JSON form is part of redisctl's
// interface (docs/json-output.md).
type Object struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Action is what was, or would be, done to it.
	Action Action `json:"action"`
}

// State is what the cluster has of a guard.
type State struct {
	// Objects that exist, in the order in which they are made.
	Objects []Object
	// Deployed is false when there is no Deployment; what follows is empty then.
	Deployed bool
	Image    string
	// Replicas should exist, Available do. Complete says that all pods are of the
	// Deployment as it is now.
	Replicas, Available int
	Complete            bool
	Promote             bool
	PromoteAfter        time.Duration
	// Pods are the names of the pods, Trouble why some do not run.
	Pods    []string
	Trouble []string
	// Leader is the pod that acts, "" when none does; Since when it does, and
	// Renewed when it last said so.
	Leader         string
	Since, Renewed time.Time
	// Lasts is how long the leader remains it without saying so.
	Lasts time.Duration
}

// Cluster is where a guard runs.
type Cluster interface {
	// GuardChanges finds out what installing would do. It changes nothing. A user
	// who may not give the guard the permissions it needs gets an *operation.Error
	// of kind Denied.
	GuardChanges(ctx context.Context, d *operation.Deployment, s Spec) ([]Object, error)
	// ApplyGuard makes every object what it is meant to be.
	ApplyGuard(ctx context.Context, d *operation.Deployment, s Spec) error
	// GuardState observes the guard.
	GuardState(ctx context.Context, d *operation.Deployment) (State, error)
	// DeleteGuard deletes what ApplyGuard and the guard itself have made, apart from
	// annotations of the workload, and returns when it is gone.
	DeleteGuard(ctx context.Context, d *operation.Deployment, objects []Object) error
}

// Guard has what installing, removing and judging work with.
type Guard struct {
	Cluster  Cluster
	Notes    operation.Notes
	Reporter operation.Reporter
	Now      func() time.Time
}

// Observation is the guard's last one, as it is kept in the annotation Note. Its JSON
// form is part of redisctl's interface (docs/json-output.md).
type Observation struct {
	// Time is when the condition began to be what it is.
	Time      time.Time          `json:"time"`
	Condition failover.Condition `json:"condition"`
	Message   string             `json:"message"`
	// Holder is the pod that observed it, Version that of its redisctl.
	Holder  string `json:"holder"`
	Version string `json:"version"`
}
