package kube

import (
	"context"
	"fmt"
	"net"

	"github.com/redisctl/redisctl/internal/operation"
)

// DialPort connects to a TCP port of an instance's pod, over a Kubernetes connection of
// its own. The error matches syscall.ECONNREFUSED when nothing listens there; the cluster
// may say so only when the connection is read from.
func (c *Client) DialPort(ctx context.Context, d *operation.Deployment, i operation.Instance, port int) (net.Conn, error) {
	shared, err := c.tunnel(d, i)
	if err != nil {
		return nil, err
	}
	to := shared.target
	to.port = port
	own := newTunnel(c, shared.tunnelKey, to)
	bounded, cancel := c.bounded(ctx)
	defer cancel()
	dialled, err := own.forward(bounded)
	if err != nil {
		own.close()
		if refusedByPod(err) {
			return nil, fmt.Errorf("port %d: %w", port, err)
		}
		return nil, own.failure(ctx, err)
	}
	return &dedicated{Conn: dialled, tunnel: own}, nil
}
