package redisconn

import (
	"context"
	"crypto/tls"
	"net"
	"strconv"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
)

// Connector implements operation.Connector over any way to dial an instance: TCP
// (DialInstance) or a stream through Kubernetes.
type Connector struct {
	// Dial opens a connection to an instance. It must honour its context.
	Dial func(ctx context.Context, d *operation.Deployment, i operation.Instance) (net.Conn, error)
	// Credentials returns what to authenticate with. It is asked at every
	// Connect, because passwords are rotated. Nil means no credentials.
	Credentials func(ctx context.Context, d *operation.Deployment) (username, password string, err error)
	// TLS wraps connections when it is not nil. An empty ServerName stands for
	// the instance's Host.
	TLS *tls.Config
	// DialTimeout and Timeout are as in Options.
	DialTimeout, Timeout time.Duration
}

var _ operation.Connector = Connector{}

// Connect implements operation.Connector. The Server is a *Client, connected and
// authenticated.
func (c Connector) Connect(ctx context.Context, d *operation.Deployment, i operation.Instance) (operation.Server, error) {
	o, err := c.Options(ctx, d, i)
	if err != nil {
		return nil, err
	}
	client := Open(o)
	if err := client.Connect(ctx); err != nil {
		_ = client.Close() // nothing was opened, or it is broken: the first error counts
		return nil, err
	}
	return client, nil
}

// OpenSnapshot opens a snapshot of an instance over a connection of its own.
func (c Connector) OpenSnapshot(
	ctx context.Context, d *operation.Deployment, i operation.Instance, so SnapshotOptions,
) (*SnapshotStream, error) {
	o, err := c.Options(ctx, d, i)
	if err != nil {
		return nil, err
	}
	return OpenSnapshot(ctx, o, so)
}

// Options returns the Options that reach an instance.
func (c Connector) Options(ctx context.Context, d *operation.Deployment, i operation.Instance) (Options, error) {
	o := Options{
		Name:    instanceName(d, i),
		Dial:    func(ctx context.Context) (net.Conn, error) { return c.Dial(ctx, d, i) },
		Renames: d.Config.Renames(), DialTimeout: c.DialTimeout, Timeout: c.Timeout,
	}
	if c.TLS != nil {
		o.TLS = c.TLS.Clone()
		if o.TLS.ServerName == "" {
			o.TLS.ServerName = i.Host
		}
	}
	if c.Credentials == nil {
		return o, nil
	}
	var err error
	if o.Username, o.Password, err = c.Credentials(ctx, d); err != nil {
		return Options{}, o.fail(ctx, "reading the credentials", 0, err)
	}
	return o, nil
}

// instanceName is how errors call an instance.
func instanceName(d *operation.Deployment, i operation.Instance) string {
	if i.Pod == nil {
		return "server " + i.Name
	}
	return "pod " + d.Namespace + "/" + i.Name
}

// DialInstance is a Connector.Dial over TCP to the instance's Host and Port.
func DialInstance(ctx context.Context, _ *operation.Deployment, i operation.Instance) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(i.Host, strconv.Itoa(i.Port)))
}
