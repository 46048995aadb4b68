package stack

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/apiclient"
)

// errNotYet is a condition's way to say that nothing is wrong.
var errNotYet = errors.New("not yet")

// nodeReady succeeds once the kubelet reports the node ready. Reports from
// before since do not count: after a restart the API server still has those of
// the last run.
func nodeReady(client *apiclient.Client, since time.Time) func(context.Context) error {
	return func(ctx context.Context) error {
		var node struct {
			Status struct {
				Conditions []struct {
					Type, Status, Message string
					LastHeartbeatTime     time.Time
				}
			}
		}
		if err := client.Get(ctx, "/api/v1/nodes/"+nodeName, &node); err != nil {
			return err
		}
		for _, condition := range node.Status.Conditions {
			if condition.Type != "Ready" {
				continue
			}
			if condition.Status != "True" {
				return fmt.Errorf("the node is not ready: %s: %w", condition.Message, errNotYet)
			}
			if condition.LastHeartbeatTime.Before(since) {
				return fmt.Errorf("the node reported last at %s: %w", condition.LastHeartbeatTime, errNotYet)
			}
			return nil
		}
		return fmt.Errorf("the node has not reported: %w", errNotYet)
	}
}

// pod is the part of a pod that tells whether its status is of this run.
type pod struct {
	Metadata struct{ Namespace, Name string }
	Status   struct {
		Conditions        []struct{ Type, Status string }
		ContainerStatuses []struct {
			State struct {
				Running *struct{ StartedAt time.Time }
			}
		}
	}
}

// stale reports whether the pod is said to be ready because of a container
// that was started before since.
func (p pod) stale(since time.Time) bool {
	ready := false
	for _, condition := range p.Status.Conditions {
		ready = ready || condition.Type == "Ready" && condition.Status == "True"
	}
	if !ready {
		return false
	}
	for _, container := range p.Status.ContainerStatuses {
		if running := container.State.Running; running != nil && running.StartedAt.Before(since) {
			return true
		}
	}
	return false
}

// podsCurrent succeeds once no pod is said to be ready because of the last
// run. Pods that are not ready do not hold it up, whatever their reason.
func podsCurrent(client *apiclient.Client, since time.Time) func(context.Context) error {
	return func(ctx context.Context) error {
		var list struct{ Items []pod }
		if err := client.Get(ctx, "/api/v1/pods", &list); err != nil {
			return err
		}
		for _, p := range list.Items {
			if p.stale(since) {
				return fmt.Errorf("pod %s/%s has not been restarted: %w", p.Metadata.Namespace, p.Metadata.Name, errNotYet)
			}
		}
		return nil
	}
}
