package kube

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/access"
)

// parallelReviews limits how many permissions are asked about at once.
const parallelReviews = 16

// Denied returns which of the permissions the user does not have, in their order. The API
// server is asked about each (SelfSubjectAccessReview), so whatever decides there, decides.
func (c *Client) Denied(parent context.Context, asked []access.Permission) ([]access.Permission, error) {
	ctx, cancel := c.bounded(parent)
	defer cancel()
	denied, errs := make([]bool, len(asked)), make([]error, len(asked))
	slots := make(chan struct{}, parallelReviews)
	var group sync.WaitGroup
	for i, p := range asked {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			denied[i], errs[i] = c.denied(ctx, p)
		})
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, c.failure(parent, request{verb: "create", resource: "selfsubjectaccessreviews"}, err)
		}
	}
	var missing []access.Permission
	for i, p := range asked {
		if denied[i] {
			missing = append(missing, p)
		}
	}
	return missing, nil
}

func (c *Client) denied(ctx context.Context, p access.Permission) (bool, error) {
	resource, subresource, _ := strings.Cut(p.Resource, "/")
	review, err := c.clientset.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
			Verb: p.Verb, Group: p.Group, Resource: resource, Subresource: subresource, Namespace: p.Namespace, Name: p.Name,
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		return false, err
	}
	return !review.Status.Allowed, nil
}

// ConfigMaps returns the names of the ConfigMaps that d's pods mount.
func (c *Client) ConfigMaps(ctx context.Context, d *operation.Deployment) ([]string, error) {
	sets, err := c.releases(ctx, d.Namespace)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(sets, func(f found) bool { return f.Name == d.Workload.Name })
	if i < 0 {
		return nil, &operation.Error{Kind: operation.Failed, Object: d.Name, Err: errors.New("the StatefulSet is gone")}
	}
	var names []string
	for _, source := range configSources(sets[i], configFile(sets[i])) {
		if !slices.Contains(names, source.configMap) {
			names = append(names, source.configMap)
		}
	}
	return names, nil
}
