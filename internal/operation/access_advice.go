package operation

import (
	"errors"
	"fmt"
)

// AccessAdvice says what to do about a server that has refused to serve for want of
// credentials or of permissions. It is empty for any other error.
func (d *Deployment) AccessAdvice(err error) string {
	var reply interface{ Code() string }
	switch {
	case KindOf(err) != Denied || !errors.As(err, &reply):
		return ""
	case reply.Code() == "NOPERM":
		return "the server's access list does not let this user do it: ACL GETUSER in redisctl shell, or the release's aclfile, tells what it may"
	}
	switch c := d.Credentials; {
	case c.Kind == "secret" && d.Workload != nil:
		return fmt.Sprintf("the server runs with another password than key %s of Secret %s/%s: put that back into the Secret; "+
			"if nobody knows it, kubectl rollout restart %s %s -n %s starts all with the Secret's and with what their volumes hold",
			c.Key, d.Namespace, c.Secret, d.Workload.Kind, d.Workload.Name, d.Namespace)
	case d.Workload != nil:
		return "the server wants a password that the release does not name: it was set with CONFIG SET or ACL SETUSER, or by an aclfile"
	default:
		return "set REDISCTL_PASSWORD, or pass --ask-password; --username names an ACL user"
	}
}
