package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	utilexec "k8s.io/client-go/util/exec"
)

// ExitError says that a command in a container ended with a code other than 0.
type ExitError struct {
	// Code is the command's exit code, or 128 plus the signal that ended it.
	Code int
}

// ExitCode returns Code: adapters' callers know this error by it.
func (e *ExitError) ExitCode() int { return e.Code }

// Error implements error.
func (e *ExitError) Error() string { return fmt.Sprintf("the command ended with exit code %d", e.Code) }

// Exec runs a command in a container and returns when it has ended, or when ctx
// has. WebSocket is tried first, SPDY second. The error is an *ExitError when
// the command failed, of kind Denied without permission, and of kind TimedOut
// when the cluster does not begin within Options.Timeout.
//
// Never take a nil error for proof that all output arrived: over SPDY an exec
// whose connection was cut returns nil with whatever part came through
// (kubernetes/kubernetes#124571). The output must tell by itself that it is
// complete.
//
// The command's arguments are recorded in the API server's audit log and are
// visible to everyone who can see the node's processes: never pass a secret,
// write it to stdin.
//
// Any of stdin, stdout and stderr may be nil. After Exec has returned nothing is
// written to stdout or stderr any more. stdin may still be read from until a
// Read returns: close it.
func (c *Client) Exec(
	parent context.Context, namespace, pod, container string, command []string,
	stdin io.Reader, stdout, stderr io.Writer,
) error {
	return c.exec(parent, namespace, pod, container, command,
		remotecommand.StreamOptions{Stdin: stdin, Stdout: stdout, Stderr: stderr})
}

func (c *Client) exec(
	parent context.Context, namespace, pod, container string, command []string, streams remotecommand.StreamOptions,
) error {
	if streams.Stdin == nil && streams.Stdout == nil && streams.Stderr == nil {
		streams.Stdout = io.Discard // the API wants at least one stream
	}
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	var begun atomic.Bool
	executor, err := c.executor(cancel, &begun, namespace, pod, &corev1.PodExecOptions{
		Container: container,
		Command:   command,
		Stdin:     streams.Stdin != nil,
		Stdout:    streams.Stdout != nil,
		Stderr:    streams.Stderr != nil,
		TTY:       streams.Tty,
	})
	if err != nil {
		return err
	}
	out, errOut := newGate(streams.Stdout), newGate(streams.Stderr)
	defer out.shut()
	defer errOut.shut()
	streams.Stdout, streams.Stderr = out.writer(), errOut.writer()

	ended := make(chan error, 1)
	go func() {
		ended <- executor.StreamWithContext(ctx, streams)
	}()
	select {
	case err = <-ended:
	case <-ctx.Done():
		err = ctx.Err()
	}
	var exit utilexec.CodeExitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit):
		return &ExitError{Code: exit.Code}
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case begun.Load() && !isStatus(err):
		err = fmt.Errorf("%w: %s", ErrConnectionLost, err.Error())
	}
	return c.failure(parent, request{verb: "create", resource: "pods/exec", namespace: namespace, name: pod}, err)
}

// executor returns client-go's executor with a limit on how long the API server
// may take to begin; cancel is called when it is past. begun is set when the
// server has agreed.
func (c *Client) executor(
	cancel context.CancelCauseFunc, begun *atomic.Bool, namespace, pod string, options *corev1.PodExecOptions,
) (remotecommand.Executor, error) {
	target, err := c.subresource(namespace, pod, "exec", options)
	if err != nil {
		return nil, err
	}
	limited := func(transport http.RoundTripper) http.RoundTripper {
		return roundTripper(func(request *http.Request) (*http.Response, error) {
			timer := time.AfterFunc(c.timeout, func() { cancel(context.DeadlineExceeded) })
			defer timer.Stop()
			response, err := transport.RoundTrip(request)
			begun.Store(err == nil && response.StatusCode == http.StatusSwitchingProtocols)
			return response, err
		})
	}
	config := rest.CopyConfig(c.config)
	config.Wrap(limited)
	primary, err := remotecommand.NewWebSocketExecutor(config, http.MethodGet, target.String())
	if err != nil {
		return nil, fmt.Errorf("preparing exec over WebSocket: %w", err)
	}
	transport, err := c.spdyTransport()
	if err != nil {
		return nil, err
	}
	secondary, err := remotecommand.NewSPDYExecutorForTransports(
		limited(transport), spdy.NewUpgraderForStreaming(transport), http.MethodPost, target)
	if err != nil {
		return nil, fmt.Errorf("preparing exec over SPDY: %w", err)
	}
	executor, err := remotecommand.NewFallbackExecutor(primary, secondary, fallsBack)
	if err != nil {
		return nil, fmt.Errorf("preparing exec: %w", err)
	}
	return executor, nil
}

// roundTripper makes an http.RoundTripper of a function.
type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }

// gate passes writes on until it is shut. client-go leaves its copying
// goroutines behind when the context ends; the gate keeps them from writing
// into what the caller believes is its own again.
type gate struct {
	mu   sync.Mutex
	to   io.Writer // nil when shut
	none bool
}

func newGate(to io.Writer) *gate { return &gate{to: to, none: to == nil} }

// writer returns what client-go writes to: nil for a stream that is not wanted.
func (g *gate) writer() io.Writer {
	if g.none {
		return nil
	}
	return g
}

// Write implements io.Writer.
func (g *gate) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.to == nil {
		return 0, io.ErrClosedPipe
	}
	return g.to.Write(p)
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.to = nil
}
