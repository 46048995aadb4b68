package failover

import (
	"context"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/redis"
)

// Pauser stops the writes of a primary.
type Pauser interface {
	// Pause makes the writes of an instance wait for limit at most: the server then
	// lets them through again by itself, because an operator's machine may die.
	Pause(ctx context.Context, d *operation.Deployment, i operation.Instance, limit time.Duration) (Paused, error)
	// Fenced reports whether an instance refuses writes because Demote was called
	// on it and nothing after that, as servers before 6.2 do.
	Fenced(ctx context.Context, d *operation.Deployment, i operation.Instance) (bool, error)
	// LetWrites undoes what a process that ended too early has left on an instance:
	// pause and fence. minReplicas is the min-replicas-to-write to go back to.
	LetWrites(ctx context.Context, d *operation.Deployment, i operation.Instance, minReplicas string) error
}

// Paused is a primary whose writes wait.
type Paused interface {
	// End names the end of its history, which no write passes during the pause.
	End() (replicationID string, offset int64)
	// Observed is what the server said of itself in that moment.
	Observed() redis.Info
	// Until is when the pause ends at the earliest.
	Until() time.Time
	// Demote makes the server refuse writes for good, also after the pause, and
	// lets it follow host:port sooner or later. After an error it is not known
	// whether it obeyed.
	Demote(ctx context.Context, host string, port int) error
	// Settle drops the server's clients and returns when it follows.
	Settle(ctx context.Context) error
	// Resume lets writes through again, if Demote was not called.
	Resume(ctx context.Context) error
	Close() error
}

// Traffic moves the clients of a deployment from one instance to another. Plain
// addresses have nothing to move.
type Traffic interface {
	// Pin makes a Service that is pinned to the pod from select the pod to. It
	// fails, without a change, when the Service selects another pod.
	Pin(ctx context.Context, d *operation.Deployment, service, from, to string) error
	// AwaitEndpoint returns when the pod is the only endpoint of the Service.
	AwaitEndpoint(ctx context.Context, d *operation.Deployment, service, pod string) error
}

// Cluster is what a deployment in a cluster has and plain addresses have not.
type Cluster interface {
	// ConnectService connects to a Service as clients in the cluster do, from
	// inside the pod via.
	ConnectService(ctx context.Context, d *operation.Deployment, s operation.Service, via operation.Instance) (operation.Server, error)
	// DeletePod ends the pod of an instance, giving its process the grace time. A
	// pod that has been replaced since it was observed is left alone.
	DeletePod(ctx context.Context, d *operation.Deployment, i operation.Instance, grace time.Duration) error
	// Budgets returns the PodDisruptionBudgets of the deployment's pods.
	Budgets(ctx context.Context, d *operation.Deployment) ([]operation.Budget, error)
}

// Copies takes the data of instances.
type Copies interface {
	// Compare tells what the instance losing has that the instance kept lacks.
	Compare(ctx context.Context, d *operation.Deployment, losing, kept operation.Instance) (Difference, error)
	// Keep stores a backup of an instance and returns its name.
	Keep(ctx context.Context, d *operation.Deployment, i operation.Instance) (string, error)
}

// Difference is what a data set has that another lacks.
type Difference struct {
	// Only counts the keys that the other has not, Changed those that it has with
	// another value or expiry.
	Only    int64 `json:"only"`
	Changed int64 `json:"changed"`
	// Examples are some of these keys.
	Examples []string `json:"examples"`
	// Sampled is set when not every key was compared: the counts are estimates.
	Sampled bool `json:"sampled,omitempty"`
}

// Nothing reports whether the other data set has everything.
func (d Difference) Nothing() bool { return d.Only == 0 && d.Changed == 0 }
