package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/access"
)

// accessReviewer is what internal/kube has for permissions.
type accessReviewer interface {
	// ConfigMaps returns the names of the ConfigMaps that the pods mount.
	ConfigMaps(ctx context.Context, d *operation.Deployment) ([]string, error)
	// Denied returns which of the permissions the user does not have.
	Denied(ctx context.Context, asked []access.Permission) ([]access.Permission, error)
}

// accessScope is what a command is about, as far as permissions go.
type accessScope struct {
	reviewer accessReviewer // nil for plain addresses
	names    access.Names
}

// permitted makes sure, before anything is changed, that whatever the command cannot do
// without is allowed. Who may not ask goes on: the API server says no when it comes to it.
func (a *app) permitted(ctx context.Context, holds ...string) error {
	need, ok := access.Of(a.command)
	if a.scope.reviewer == nil || !ok {
		return nil
	}
	denied, err := a.scope.reviewer.Denied(ctx, need.Permissions(a.scope.names, holds...))
	switch {
	case operation.KindOf(err) == operation.Denied:
		return nil
	case err != nil:
		return err
	case len(denied) == 0:
		return nil
	}
	missing := make([]string, len(denied))
	for i, p := range denied {
		missing[i] = p.String()
	}
	n := a.scope.names
	next := "redisctl rbac " + a.command + " -n " + n.Namespace
	object := "namespace " + n.Namespace
	if n.Release != "" {
		next, object = next+" -r "+n.Release, n.Namespace+"/"+n.Workload
	}
	return &operation.Error{
		Kind: operation.Denied, Object: object, Phase: "checking permissions",
		Err:       fmt.Errorf("not allowed to %s in namespace %s", strings.Join(missing, ", "), n.Namespace),
		Unchanged: "nothing was changed", Next: next + " prints the Role to ask for",
	}
}
