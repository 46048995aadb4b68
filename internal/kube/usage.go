package kube

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/dashboard"
)

var _ dashboard.Usages = (*Client)(nil)

// PodUsage implements dashboard.Usages, by the resource metrics API (metrics.k8s.io), which
// a cluster has when metrics-server or the like is installed.
func (c *Client) PodUsage(parent context.Context, d *operation.Deployment) (map[string]dashboard.Usage, error) {
	ctx, cancel := c.bounded(parent)
	defer cancel()
	const group = "/apis/metrics.k8s.io/v1beta1"
	text, err := c.clientset.Discovery().RESTClient().Get().
		AbsPath(group, "namespaces", d.Namespace, "pods").
		Param("labelSelector", instanceLabel+"="+d.Release).DoRaw(ctx)
	if err != nil {
		return nil, c.failure(parent, request{verb: "list", resource: "pods.metrics.k8s.io", namespace: d.Namespace}, err)
	}
	return parseUsage(text, d.Workload.Container)
}

func parseUsage(text []byte, container string) (map[string]dashboard.Usage, error) {
	var list struct {
		Items []struct {
			Metadata   struct{ Name string }
			Containers []struct {
				Name  string
				Usage corev1.ResourceList
			}
		}
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("the metrics API's answer: %w", err)
	}
	usages := make(map[string]dashboard.Usage)
	for _, pod := range list.Items {
		for _, c := range pod.Containers {
			if c.Name == container {
				usages[pod.Metadata.Name] = dashboard.Usage{CPU: c.Usage.Cpu().MilliValue(), Memory: c.Usage.Memory().Value()}
			}
		}
	}
	return usages, nil
}
