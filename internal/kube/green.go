package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/upgrade/green"
)

// Routes implements green.Cluster. What pods are called is told by the pods themselves.
func (c *Client) Routes(parent context.Context, d *operation.Deployment, from, to string) (routes []green.Route, others []string, err error) {
	before, err := c.podLabels(parent, d.Namespace, from)
	if err != nil {
		return nil, nil, err
	}
	after, err := c.podLabels(parent, d.Namespace, to)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := c.bounded(parent)
	defer cancel()
	list, err := c.clientset.CoreV1().Services(d.Namespace).List(ctx, metav1.ListOptions{LabelSelector: instanceLabel + "=" + d.Release})
	if err != nil {
		return nil, nil, c.failure(parent, request{verb: "list", resource: "services", namespace: d.Namespace}, err)
	}
	for _, s := range list.Items {
		selector := s.Spec.Selector
		if s.Spec.ClusterIP == corev1.ClusterIPNone || len(selector) == 0 || !contains(before, selector) {
			continue
		}
		if selector[podNameLabel] == "" && len(d.Instances) > 1 {
			others = append(others, s.Name)
			continue
		}
		route := green.Route{Service: s.Name, Port: servicePort(s.Spec.Ports), Blue: selector, Green: map[string]string{}}
		for key := range selector {
			value, ok := after[key]
			if !ok {
				return nil, nil, operation.Errorf(operation.Refused, "service %s/%s selects by the label %s, which pod %s does not have", d.Namespace, s.Name, key, to)
			}
			route.Green[key] = value
		}
		routes = append(routes, route)
	}
	return routes, others, nil
}

// contains reports whether labels has all of selector.
func contains(labels, selector map[string]string) bool {
	for key, value := range selector {
		if labels[key] != value {
			return false
		}
	}
	return true
}

func (c *Client) podLabels(parent context.Context, namespace, name string) (map[string]string, error) {
	ctx, cancel := c.bounded(parent)
	defer cancel()
	pod, err := c.clientset.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, c.failure(parent, request{verb: "get", resource: "pods", namespace: namespace, name: name}, err)
	}
	return pod.Labels, nil
}

// Reroute implements green.Cluster.
func (c *Client) Reroute(parent context.Context, d *operation.Deployment, service string, from, to map[string]string) error {
	ctx, cancel := c.bounded(parent)
	defer cancel()
	services := c.clientset.CoreV1().Services(d.Namespace)
	r := request{verb: "get", resource: "services", namespace: d.Namespace, name: service}
	current, err := services.Get(ctx, service, metav1.GetOptions{})
	if err != nil {
		return c.failure(parent, r, err)
	}
	if maps.Equal(current.Spec.Selector, to) {
		return nil
	}
	// The test makes the change conditional: somebody else may move it too.
	patch, err := json.Marshal([]map[string]any{
		{"op": "test", "path": "/spec/selector", "value": from},
		{"op": "replace", "path": "/spec/selector", "value": to},
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

// Claims implements green.Cluster: a StatefulSet gives its claims the labels that it
// selects its pods by.
func (c *Client) Claims(parent context.Context, namespace, release string) ([]string, error) {
	ctx, cancel := c.bounded(parent)
	defer cancel()
	list, err := c.clientset.CoreV1().PersistentVolumeClaims(namespace).List(ctx, metav1.ListOptions{LabelSelector: instanceLabel + "=" + release})
	if err != nil {
		return nil, c.failure(parent, request{verb: "list", resource: "persistentvolumeclaims", namespace: namespace}, err)
	}
	var names []string
	for _, claim := range list.Items {
		if claim.DeletionTimestamp == nil {
			names = append(names, claim.Name)
		}
	}
	slices.Sort(names)
	return names, nil
}
