package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

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

// Note returns an annotation of the deployment's workload, "" when it has none.
func (c *Client) Note(parent context.Context, d *operation.Deployment, key string) (string, error) {
	ctx, cancel := c.bounded(parent)
	defer cancel()
	set, err := c.clientset.AppsV1().StatefulSets(d.Namespace).Get(ctx, d.Workload.Name, metav1.GetOptions{})
	if err != nil {
		return "", c.failure(parent, request{verb: "get", resource: "statefulsets", namespace: d.Namespace, name: d.Workload.Name}, err)
	}
	return set.Annotations[key], nil
}

// SetNotes sets annotations of the deployment's workload, and removes those whose
// value is empty. Annotations of a StatefulSet do not restart its pods.
func (c *Client) SetNotes(parent context.Context, d *operation.Deployment, notes map[string]string) error {
	ctx, cancel := c.bounded(parent)
	defer cancel()
	values := make(map[string]any, len(notes))
	for key, value := range notes {
		values[key] = value
		if value == "" {
			values[key] = nil
		}
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": values}})
	if err != nil {
		return fmt.Errorf("encoding a patch: %w", err)
	}
	_, err = c.clientset.AppsV1().StatefulSets(d.Namespace).Patch(
		ctx, d.Workload.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: fieldManager})
	if err != nil {
		return c.failure(parent, request{verb: "patch", resource: "statefulsets", namespace: d.Namespace, name: d.Workload.Name}, err)
	}
	return nil
}
