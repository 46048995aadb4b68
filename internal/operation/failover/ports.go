package failover

import (
	"context"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
)

// Pauser stops the writes of a primary.
type Pauser interface {
	// Pause makes the writes of an instance wait for limit at most: the server then
	// lets them through again by itself, because an operator's machine may die.
	Pause(ctx context.Context, d *operation.Deployment, i operation.Instance, limit time.Duration) (Paused, error)
}

// Paused is a primary whose writes wait.
type Paused interface {
	// End names the end of its history, which no write passes during the pause.
	End() (replicationID string, offset int64)
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
