package helm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"strings"

	"helm.sh/helm/v4/pkg/storage/driver"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/redisctl/redisctl/internal/operation"
)

// object names the release for errors.
func (s *session) object() string { return "Helm release " + s.namespace + "/" + s.name }

// failure translates an error of the SDK into an *operation.Error. Those that are one
// stay, and nil stays nil.
func (s *session) failure(ctx context.Context, phase string, err error) error {
	if err == nil {
		return nil
	}
	var done *operation.Error
	if errors.As(err, &done) {
		return err
	}
	err = withoutValues(err)
	failure := &operation.Error{Object: s.object(), Phase: phase, Err: err}
	var unreachable net.Error
	switch {
	case ctx.Err() != nil:
		failure.Kind = operation.KindOf(ctx.Err())
		failure.Err = context.Cause(ctx)
	case errors.Is(err, driver.ErrReleaseNotFound), errors.Is(err, driver.ErrNoDeployedReleases):
		failure.Err = fmt.Errorf("%w: no Secret with the labels owner=helm,name=%s has it", fs.ErrNotExist, s.name)
	case errors.Is(err, driver.ErrReleaseExists), strings.Contains(err.Error(), "another operation (install/upgrade/rollback) is in progress"):
		failure.Kind = operation.Locked
		failure.Err = fmt.Errorf("another Helm operation is in progress: %w", err)
	case strings.Contains(err.Error(), "cannot be imported into the current release"), strings.Contains(err.Error(), "cannot reuse a name that is still in use"):
		// The SDK looks before it changes anything.
		failure.Kind = operation.Refused
	case apierrors.IsForbidden(err):
		failure.Kind = operation.Denied
		failure.Err = fmt.Errorf("not allowed: %w", err)
		failure.Next = "ask for a Role with what the message names; `helm upgrade` needs the same"
	case apierrors.IsUnauthorized(err):
		failure.Kind = operation.Denied
		failure.Err = fmt.Errorf("the API server does not accept the kubeconfig's credentials: %w", err)
		failure.Next = "log in to the cluster again, or choose another --context"
	case apierrors.IsConflict(err):
		failure.Next = fmt.Sprintf("see who owns the field: kubectl get --show-managed-fields -o yaml --namespace %s OBJECT; "+
			"a Service that a failover has moved comes back with: redisctl failover failback", s.namespace)
	case errors.Is(err, context.DeadlineExceeded), apierrors.IsTimeout(err), apierrors.IsServerTimeout(err):
		failure.Kind = operation.TimedOut
		failure.Next = "try again with a longer --timeout"
	case errors.As(err, &unreachable):
		var request *url.Error
		if errors.As(err, &request) {
			failure.Err = fmt.Errorf("the API server cannot be reached: %w", request.Err)
		}
		failure.Next = "check the network, the VPN and that --context is the right one"
	}
	return failure
}

// concealed is an error whose text had secrets.
type concealed struct {
	text string
	err  error
}

func (c *concealed) Error() string { return c.text }
func (c *concealed) Unwrap() error { return c.err }

// withoutValues shortens what the API server says of invalid fields to their names and the
// reasons: it quotes the values, which may be long, and secret.
func withoutValues(err error) error {
	text := err.Error()
	for _, status := range statuses(err) {
		details := status.ErrStatus.Details
		if !apierrors.IsInvalid(status) || details == nil || len(details.Causes) == 0 {
			continue
		}
		reasons := make([]string, len(details.Causes))
		for i, cause := range details.Causes {
			reason := cause.Message
			if at := strings.LastIndex(reason, ": "); at >= 0 {
				reason = reason[at+2:]
			}
			reasons[i] = cause.Field + ": " + reason
		}
		short := fmt.Sprintf("%s %s is invalid: %s", details.Kind, details.Name, strings.Join(reasons, ", "))
		text = strings.ReplaceAll(text, status.Error(), short)
	}
	if text == err.Error() {
		return err
	}
	return &concealed{text, err}
}

// statuses lists the API server's answers in err's tree: the SDK goes on after the first.
func statuses(err error) []*apierrors.StatusError {
	//nolint:errorlint // it walks the tree itself
	switch e := err.(type) {
	case *apierrors.StatusError:
		return []*apierrors.StatusError{e}
	case interface{ Unwrap() []error }:
		var all []*apierrors.StatusError
		for _, inner := range e.Unwrap() {
			all = append(all, statuses(inner)...)
		}
		return all
	case interface{ Unwrap() error }:
		return statuses(e.Unwrap())
	}
	return nil
}

// placeholder stands where a secret was.
const placeholder = "(secret)"

// conceal replaces, in the text of an error of the SDK, the values whose names say that
// they are secrets: schemas and the API server quote what they do not accept.
func conceal(err error, values map[string]any) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	hidden := text
	for _, secret := range secrets("", values) {
		hidden = strings.ReplaceAll(hidden, secret, placeholder)
	}
	if hidden == text {
		return err
	}
	return &concealed{hidden, err}
}

// secrets returns the values below key that its name, or their own, gives away.
func secrets(key string, value any) []string {
	var found []string
	switch value := value.(type) {
	case map[string]any:
		for name, v := range value {
			if isSecret(key) {
				name = key
			}
			found = append(found, secrets(name, v)...)
		}
	case []any:
		for _, v := range value {
			found = append(found, secrets(key, v)...)
		}
	case string:
		// A reference to a Secret is none, and a short word is in every text.
		if len(value) >= 4 && isSecret(key) {
			found = append(found, value)
		}
	}
	return found
}

func isSecret(key string) bool {
	key = strings.ToLower(key)
	for _, word := range []string{"pass", "token", "credential", "privatekey"} {
		if strings.Contains(key, word) {
			return true
		}
	}
	return false
}
