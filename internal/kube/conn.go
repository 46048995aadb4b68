package kube

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"
)

// closeGrace is how long closing a connection may wait for what was written to
// leave, and for the peer to take note.
const closeGrace = time.Second

// pumpBuffer is the size of the buffers between a pod's stream and its reader,
// in bytes: what the kubelet and containerd copy at a time.
const pumpBuffer = 32 << 10

// address names an end of a connection into a pod: "redis-prod/redis-0:6379".
type address string

// Network implements net.Addr.
func (address) Network() string { return "kubernetes" }

// String implements net.Addr.
func (a address) String() string { return string(a) }

// ForwardError is what the cluster said, on a connection's error stream, about
// why it could not forward the connection. errors.Is(err, syscall.ECONNREFUSED)
// tells that nothing listens on the port on the pod's localhost.
type ForwardError struct {
	// Pod is namespace/name.
	Pod string
	// Message is the text of the container runtime.
	Message string
}

// Error implements error.
func (e *ForwardError) Error() string { return "pod " + e.Pod + ": " + firstLine(e.Message) }

// Is matches syscall.ECONNREFUSED by the text. The runtimes have no code for it;
// containerd and CRI-O both pass on the words of the operating system.
func (e *ForwardError) Is(target error) bool {
	return target == syscall.ECONNREFUSED && strings.Contains(strings.ToLower(e.Message), "connection refused")
}

// conn is a net.Conn made of streams that know no deadlines. The caller holds
// one end of a net.Pipe, which does, and goroutines move bytes between the
// other end and the streams.
type conn struct {
	net.Conn // the caller's end
	remote   address
	// hangUp ends the streams. It is called once, from Close.
	hangUp func()

	mu     sync.Mutex
	err    error // why the peer's end was closed; io.EOF for a clean end
	closed bool
}

// Read implements net.Conn. It returns io.EOF only where the peer closed the
// connection as far as can be told (see ErrConnectionLost).
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	return n, c.explain(err)
}

// Write implements net.Conn. Success means that the bytes are on their way.
func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err = c.explain(err); errors.Is(err, io.EOF) {
		err = syscall.EPIPE
	}
	return n, err
}

// Close implements net.Conn. It waits up to closeGrace for what was written.
func (c *conn) Close() error {
	c.mu.Lock()
	first := !c.closed
	c.closed = true
	c.mu.Unlock()
	if !first {
		return nil
	}
	err := c.Conn.Close()
	c.hangUp()
	return err
}

// RemoteAddr implements net.Conn.
func (c *conn) RemoteAddr() net.Addr { return c.remote }

// LocalAddr implements net.Conn.
func (c *conn) LocalAddr() net.Addr { return address("redisctl") }

// end records why the peer's end is about to be closed. The first reason stays.
func (c *conn) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
}

// explain replaces the errors of net.Pipe by what they mean here.
func (c *conn) explain(err error) error {
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return net.ErrClosed
	case c.err != nil:
		return c.err
	default:
		return err
	}
}
