package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/redisctl/redisctl/internal/operation"
)

// ContainerPort returns the number of a port that a container of the workload's pods names
// so. The error, of kind Usage, lists the names there are.
func (c *Client) ContainerPort(ctx context.Context, d *operation.Deployment, name string) (int, error) {
	set, err := c.statefulSet(ctx, d)
	if err != nil {
		return 0, err
	}
	var names []string
	for _, container := range set.Spec.Template.Spec.Containers {
		for _, port := range container.Ports {
			if port.Name == name {
				return int(port.ContainerPort), nil
			}
			names = append(names, fmt.Sprintf("%s (%d)", port.Name, port.ContainerPort))
		}
	}
	return 0, &operation.Error{
		Kind: operation.Usage, Object: "statefulset " + d.Namespace + "/" + d.Workload.Name,
		Err: fmt.Errorf("no container has a port named %q; there are: %s", name, strings.Join(names, ", ")),
	}
}

// ContainerNames returns the names of the containers of the workload's pods.
func (c *Client) ContainerNames(ctx context.Context, d *operation.Deployment) ([]string, error) {
	set, err := c.statefulSet(ctx, d)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, container := range slices.Concat(set.Spec.Template.Spec.Containers, set.Spec.Template.Spec.InitContainers) {
		names = append(names, container.Name)
	}
	return names, nil
}
