package kube

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/redisctl/redisctl/internal/operation"
)

// ErrConnectionLost is what reading from a pod connection fails with when the
// Kubernetes connection below it ended. A peer that closed the connection is
// io.EOF instead. The distinction is best effort: a cut behind the kubelet
// looks like an end of file.
var ErrConnectionLost = errors.New("the Kubernetes connection to the pod was lost")

// request names one request to the API server in the words of RBAC, for the
// errors about it.
type request struct {
	verb string
	// resource may have a subresource: "pods/portforward".
	resource  string
	namespace string // empty: all namespaces, or not namespaced
	name      string // empty for a list
}

// object returns what the request is about: "pod redis-prod/redis-1".
func (r request) object() string {
	resource, _, _ := strings.Cut(r.resource, "/")
	if r.name == "" {
		if r.namespace == "" {
			return resource
		}
		return resource + " in namespace " + r.namespace
	}
	singular := strings.TrimSuffix(resource, "s")
	if r.namespace == "" {
		return singular + " " + r.name
	}
	return singular + " " + r.namespace + "/" + r.name
}

// where returns the scope of a permission: "in namespace redis-prod".
func (r request) where() string {
	if r.namespace == "" {
		return "in all namespaces"
	}
	return "in namespace " + r.namespace
}

// canI returns the kubectl command that checks the permission.
func (r request) canI() string {
	resource, sub, _ := strings.Cut(r.resource, "/")
	command := "kubectl auth can-i " + r.verb + " " + resource
	if sub != "" {
		command += " --subresource=" + sub
	}
	if r.namespace == "" {
		return command + " --all-namespaces"
	}
	return command + " --namespace " + r.namespace
}

// failure translates the error of a request into an *operation.Error. The
// parent context tells a caller who gave up (the error then is the context's
// cause) from a server that did not answer within the request's own limit.
func (c *Client) failure(parent context.Context, r request, err error) error {
	if parent.Err() != nil {
		return c.abandoned(parent, r)
	}
	failure := &operation.Error{Kind: operation.Failed, Object: r.object(), Err: err}
	var unreachable net.Error
	switch {
	case apierrors.IsForbidden(err):
		failure.Kind = operation.Denied
		failure.Err = fmt.Errorf("not allowed to %s %s %s: %w", r.verb, r.resource, r.where(), err)
		failure.Next = fmt.Sprintf("ask for a Role with %q on %q %s; %s tells whether you have it",
			r.verb, r.resource, r.where(), r.canI())
	case apierrors.IsUnauthorized(err):
		failure.Kind = operation.Denied
		failure.Object = c.server()
		failure.Err = fmt.Errorf("does not accept the kubeconfig's credentials: %w", err)
		failure.Next = "log in to the cluster again, or choose another --context"
	case apierrors.IsNotFound(err):
		failure.Err = fmt.Errorf("does not exist: %w", err)
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		failure.Kind = operation.TimedOut
		failure.Object = c.server()
		failure.Phase = fmt.Sprintf("%s %s", r.verb, r.resource)
		failure.Err = fmt.Errorf("no answer within %s: %w", c.timeout, err)
		failure.Next = "try again with a longer --timeout"
	case isStatus(err):
		// The server answered; its message is the best there is.
	case errors.As(err, &unreachable):
		failure.Object = c.server()
		failure.Err = fmt.Errorf("cannot be reached: %w", withoutURL(err))
		failure.Next = "check the network, the VPN and that --context is the right one"
	}
	return failure
}

// abandoned says that the caller's context ended during a request.
func (c *Client) abandoned(ctx context.Context, r request) error {
	cause := context.Cause(ctx)
	kind := operation.Interrupted
	if errors.Is(cause, context.DeadlineExceeded) {
		kind = operation.TimedOut
	}
	return &operation.Error{
		Kind:   kind,
		Object: r.object(),
		Phase:  fmt.Sprintf("%s %s", r.verb, r.resource),
		Err:    cause,
	}
}

// server names the API server and the context it was chosen by.
func (c *Client) server() string {
	name := "API server"
	if c.config != nil {
		name += " " + c.config.Host
	}
	if c.context != "" {
		name += " (context " + c.context + ")"
	}
	return name
}

func isStatus(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status)
}

func isTimeout(err error) bool {
	if apierrors.IsTimeout(err) || apierrors.IsServerTimeout(err) {
		return true
	}
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// withoutURL drops the request's URL, which is long and says nothing new, from
// an error of net/http.
func withoutURL(err error) error {
	var failed *url.Error
	if errors.As(err, &failed) {
		return failed.Err
	}
	return err
}
