package kube

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redisctl/redisctl/internal/operation"
)

// completionLimit bounds each query of shell completion: someone waits for it
// with a finger on the tab key.
const completionLimit = 2 * time.Second

// CompleteNamespaces returns the names of all namespaces, sorted, within two
// seconds.
func (c *Client) CompleteNamespaces(parent context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(parent, completionLimit)
	defer cancel()
	list, err := c.clientset.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, c.failure(parent, request{verb: "list", resource: "namespaces"}, err)
	}
	names := make([]string, 0, len(list.Items))
	for _, namespace := range list.Items {
		names = append(names, namespace.Name)
	}
	slices.Sort(names)
	return names, nil
}

// CompleteReleases returns the names of the Redis releases that the target
// admits, sorted, within two seconds.
func (c *Client) CompleteReleases(parent context.Context, t operation.Target) ([]string, error) {
	matches, err := c.completionReleases(parent, t)
	if err != nil {
		return nil, err
	}
	return releaseNames(matches), nil
}

// CompletePods returns the names of the pods that the releases the target admits
// should have, by ordinal, within two seconds. They need not exist.
func (c *Client) CompletePods(parent context.Context, t operation.Target) ([]string, error) {
	matches, err := c.completionReleases(parent, t)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, match := range matches {
		for ordinal := range match.ordinals() {
			names = append(names, fmt.Sprintf("%s-%d", match.Name, ordinal))
		}
	}
	return names, nil
}

func (c *Client) completionReleases(parent context.Context, t operation.Target) ([]found, error) {
	ctx, cancel := context.WithTimeout(parent, completionLimit)
	defer cancel()
	t = c.completed(t)
	all, err := c.releases(ctx, t.Namespace)
	if err != nil {
		return nil, err
	}
	return admitted(all, t), nil
}

// CompleteContexts returns the names of the kubeconfig's contexts, sorted. It
// does not use the network.
func CompleteContexts(options Options) ([]string, error) {
	// The context being completed is not one yet.
	options.Context = ""
	raw, err := configLoader(options).RawConfig()
	if err != nil {
		return nil, configError(options, err)
	}
	return contextNames(raw), nil
}

// CurrentContext returns the name of the context that the options and the kubeconfig
// choose, "" when there is none. It does not use the network.
func CurrentContext(options Options) (string, error) {
	raw, err := configLoader(options).RawConfig()
	if err != nil {
		return "", configError(options, err)
	}
	return cmp.Or(options.Context, raw.CurrentContext), nil
}
