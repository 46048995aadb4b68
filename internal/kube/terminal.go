package kube

import (
	"context"

	"k8s.io/client-go/tools/remotecommand"

	"github.com/redisctl/redisctl/internal/operation/session"
)

var _ session.Containers = (*Client)(nil)

// Interact implements session.Containers. Its errors are those of Exec.
func (c *Client) Interact(
	ctx context.Context, namespace, pod, container string, command []string, s session.Streams,
) error {
	streams := remotecommand.StreamOptions{Stdin: s.In, Stdout: s.Out, Stderr: s.Err, Tty: s.TTY}
	if s.TTY {
		streams.Stderr = nil // the remote terminal is one stream
		streams.TerminalSizeQueue = sizeQueue(s.Sizes)
	}
	return c.exec(ctx, namespace, pod, container, command, streams)
}

// sizeQueue implements remotecommand.TerminalSizeQueue.
type sizeQueue <-chan session.Size

// Next implements remotecommand.TerminalSizeQueue.
func (q sizeQueue) Next() *remotecommand.TerminalSize {
	size, ok := <-q
	if !ok {
		return nil
	}
	return &remotecommand.TerminalSize{Width: cell(size.Width), Height: cell(size.Height)}
}

// cell converts columns or lines to what the protocol has room for.
func cell(n int) uint16 { return uint16(min(max(n, 0), 1<<16-1)) } //nolint:gosec // it is bounded
