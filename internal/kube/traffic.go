package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/redisctl/redisctl/internal/operation"
)

// fieldManager is how the API server records redisctl's changes.
const fieldManager = "redisctl"

// Pin makes a Service whose selector names the pod from select the pod to instead.
// A Service that selects to already is left alone; one that selects another pod is
// an error, and nothing is changed.
func (c *Client) Pin(parent context.Context, d *operation.Deployment, service, from, to string) error {
	ctx, cancel := c.bounded(parent)
	defer cancel()
	services := c.clientset.CoreV1().Services(d.Namespace)
	r := request{verb: "get", resource: "services", namespace: d.Namespace, name: service}
	current, err := services.Get(ctx, service, metav1.GetOptions{})
	if err != nil {
		return c.failure(parent, r, err)
	}
	if current.Spec.Selector[podNameLabel] == to {
		return nil
	}
	// The test makes the change conditional: somebody else may move it too.
	path := "/spec/selector/" + strings.ReplaceAll(podNameLabel, "/", "~1")
	patch, err := json.Marshal([]map[string]string{
		{"op": "test", "path": path, "value": from},
		{"op": "replace", "path": path, "value": to},
	})
	if err != nil {
		return fmt.Errorf("encoding a patch: %w", err)
	}
	r.verb = "patch"
	_, err = services.Patch(ctx, service, types.JSONPatchType, patch, metav1.PatchOptions{FieldManager: fieldManager})
	if err != nil {
		return c.failure(parent, r, err)
	}
	return nil
}

// endpointInterval is how often endpoints are read while they are awaited. The
// controller follows a changed selector within milliseconds.
const endpointInterval = 50 * time.Millisecond

// AwaitEndpoint returns when pod is the only endpoint of a Service.
func (c *Client) AwaitEndpoint(parent context.Context, d *operation.Deployment, service, pod string) error {
	r := request{verb: "list", resource: "endpointslices", namespace: d.Namespace}
	for {
		ctx, cancel := c.bounded(parent)
		list, err := c.clientset.DiscoveryV1().EndpointSlices(d.Namespace).List(ctx, metav1.ListOptions{
			LabelSelector: discoveryv1.LabelServiceName + "=" + service,
		})
		cancel()
		if err != nil {
			return c.failure(parent, r, err)
		}
		current := endpoints(service, list.Items)
		if slices.Equal(current, []string{pod}) {
			return nil
		}
		select {
		case <-parent.Done():
			return operation.Errorf(operation.TimedOut, "service %s/%s still sends traffic to %q, not to %s", d.Namespace, service, current, pod)
		case <-time.After(endpointInterval):
		}
	}
}

// DialService connects to a Service as a client in the cluster does: by its DNS
// name, from inside the Redis container of the pod via, with a relay over exec. It
// needs get and create on pods/exec.
func (c *Client) DialService(
	parent context.Context, d *operation.Deployment, service operation.Service, via operation.Instance,
) (net.Conn, error) {
	shared, err := c.tunnel(d, via)
	if err != nil {
		return nil, err
	}
	ctx, cancel := c.bounded(parent)
	defer cancel()
	to := shared.target
	to.host, to.port = service.Name+"."+d.Namespace+".svc", service.Port
	return newTunnel(c, shared.tunnelKey, to).relay(ctx)
}

// DeletePod deletes the pod of an instance, so that its process ends and its
// workload makes a new one. The process gets grace to end by itself, or with a negative
// one as long as its pod says. A pod of that name which is not the one that was observed is left alone.
//
// The API server forgets the pod only when its kubelet says that the process has
// ended: on a node that is gone it stays in Terminating, and never runs twice.
func (c *Client) DeletePod(parent context.Context, d *operation.Deployment, i operation.Instance, grace time.Duration) error {
	ctx, cancel := c.bounded(parent)
	defer cancel()
	var seconds *int64
	if grace >= 0 {
		seconds = ptr.To(max(1, int64(grace/time.Second))) // 0 would not wait for the kubelet
	}
	err := c.clientset.CoreV1().Pods(d.Namespace).Delete(ctx, i.Name, metav1.DeleteOptions{
		GracePeriodSeconds: seconds, Preconditions: metav1.NewUIDPreconditions(i.Pod.UID),
	})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return c.failure(parent, request{verb: "delete", resource: "pods", namespace: d.Namespace, name: i.Name}, err)
	}
	return nil
}

// Budgets returns the PodDisruptionBudgets that cover pods of the deployment.
func (c *Client) Budgets(parent context.Context, d *operation.Deployment) ([]operation.Budget, error) {
	ctx, cancel := c.bounded(parent)
	defer cancel()
	list, err := c.clientset.PolicyV1().PodDisruptionBudgets(d.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: instanceLabel + "=" + d.Release,
	})
	if err != nil {
		return nil, c.failure(parent, request{verb: "list", resource: "poddisruptionbudgets", namespace: d.Namespace}, err)
	}
	budgets := make([]operation.Budget, 0, len(list.Items))
	for _, b := range list.Items {
		budgets = append(budgets, operation.Budget{
			Name: b.Name, Allowed: int(b.Status.DisruptionsAllowed),
			Healthy: int(b.Status.CurrentHealthy), Wanted: int(b.Status.DesiredHealthy),
		})
	}
	return budgets, nil
}
