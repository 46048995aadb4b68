package kube

import (
	"context"
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/redisctl/redisctl/internal/operation"
)

// Note returns an annotation of the deployment's workload, "" when it has none.
func (c *Client) Note(parent context.Context, d *operation.Deployment, key string) (string, error) {
	set, err := c.statefulSet(parent, d)
	if err != nil {
		return "", err
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
