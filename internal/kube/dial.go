package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/redisctl/redisctl/internal/operation"
)

const (
	// probeLimit is how long the first connection to a pod waits for an answer
	// to PING or a refusal. A server that hangs accepts and does not answer.
	probeLimit = time.Second
	// streamLimit is how long a new stream on a Kubernetes connection that was
	// used before may take. A warm stream takes a millisecond and a round trip;
	// past this the connection is taken for dead and dialled again.
	streamLimit = 3 * time.Second
	// reasonLimit is how long the end of a data stream waits for the error
	// stream to say why. The kubelet closes the error stream first.
	reasonLimit = time.Second
	// messageLimit bounds an error stream's text, in bytes.
	messageLimit = 64 << 10
)

// Dial connects to the Redis of an instance. It forwards the port, and where
// Redis does not listen on the pod's localhost (`bind` with the pod's address
// alone) it runs a relay in the container; which of the two works is remembered
// per pod. The first connection to a pod sends one PING to find out.
//
// All connections to a pod share one Kubernetes connection, which has no flow
// control per stream: a connection that is not read from holds up the others.
// What reads slowly wants DialDedicated.
//
// The error is of kind Denied without permission, TimedOut when the cluster
// does not answer within Options.Timeout, and matches syscall.ECONNREFUSED when
// nothing listens.
func (c *Client) Dial(ctx context.Context, d *operation.Deployment, i operation.Instance) (net.Conn, error) {
	t, err := c.tunnel(d, i)
	if err != nil {
		return nil, err
	}
	return t.dial(ctx)
}

// DialDedicated is Dial with a Kubernetes connection of its own, for moving
// much data: it neither holds up the other connections to the pod nor is held
// up by them.
func (c *Client) DialDedicated(ctx context.Context, d *operation.Deployment, i operation.Instance) (net.Conn, error) {
	shared, err := c.tunnel(d, i)
	if err != nil {
		return nil, err
	}
	own := newTunnel(c, shared.tunnelKey, shared.target)
	own.setRoute(shared.knownRoute())
	dialled, err := own.dial(ctx)
	if err != nil {
		own.close()
		return nil, err
	}
	return &dedicated{Conn: dialled, tunnel: own}, nil
}

// dedicated closes its tunnel with itself.
type dedicated struct {
	net.Conn
	tunnel *tunnel
}

// Close implements net.Conn.
func (d *dedicated) Close() error {
	err := d.Conn.Close()
	d.tunnel.close()
	return err
}

// tunnelKey tells a pod from its namesake of before.
type tunnelKey struct{ namespace, pod, uid string }

// target is what a tunnel leads to.
type target struct {
	container string
	host      string // the pod's address
	port      int
}

// tunnel returns the shared tunnel to an instance's pod.
func (c *Client) tunnel(d *operation.Deployment, i operation.Instance) (*tunnel, error) {
	object := "pod " + d.Namespace + "/" + i.Name
	if i.Pod == nil || d.Workload == nil {
		return nil, &operation.Error{Kind: operation.Failed, Object: object, Err: errors.New("is not a pod of a cluster")}
	}
	if i.Pod.Phase == phaseMissing {
		return nil, &operation.Error{Kind: operation.Failed, Object: object, Err: errors.New("does not exist: " + i.Pod.Message)}
	}
	key := tunnelKey{d.Namespace, i.Name, i.Pod.UID}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, net.ErrClosed
	}
	t, ok := c.tunnels[key]
	if !ok {
		t = newTunnel(c, key, target{container: d.Workload.Container, host: i.Host, port: i.Port})
		c.tunnels[key] = t
	}
	return t, nil
}

// route is how a pod's Redis is reached.
type route int

const (
	routeUnknown route = iota
	routeForward
	routeRelay
)

// tunnel reaches one pod.
type tunnel struct {
	tunnelKey
	target target
	client *Client
	// turn is held while the route or the link is being found out, so that many
	// dials at once do it once. It is a channel because waiting for it must end
	// with the context.
	turn chan struct{}

	mu       sync.Mutex
	link     *link
	route    route
	requests int
	closed   bool
}

func newTunnel(c *Client, key tunnelKey, to target) *tunnel {
	return &tunnel{tunnelKey: key, target: to, client: c, turn: make(chan struct{}, 1)}
}

func (t *tunnel) String() string { return t.namespace + "/" + t.pod }

// dial returns a connection to the pod's Redis.
func (t *tunnel) dial(parent context.Context) (net.Conn, error) {
	ctx, cancel := t.client.bounded(parent)
	defer cancel()
	dialled, err := t.dialRoute(ctx)
	if err != nil {
		return nil, t.failure(parent, err)
	}
	return dialled, nil
}

func (t *tunnel) dialRoute(ctx context.Context) (net.Conn, error) {
	switch t.knownRoute() {
	case routeForward:
		return t.forward(ctx)
	case routeRelay:
		return t.relay(ctx)
	}
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if t.knownRoute() != routeUnknown { // found out while this dial waited
		return t.dialKnown(ctx)
	}
	return t.explore(ctx)
}

func (t *tunnel) dialKnown(ctx context.Context) (net.Conn, error) {
	if t.knownRoute() == routeRelay {
		return t.relay(ctx)
	}
	return t.forward(ctx)
}

// explore dials for the first time and finds out the route. A refusal on
// localhost is only taken for a matter of routes when the relay gets through:
// a server that is down refuses both.
func (t *tunnel) explore(ctx context.Context) (net.Conn, error) {
	forwarded, err := t.forward(ctx)
	if refusedByPod(err) {
		return t.detour(ctx, err)
	}
	if err != nil {
		return nil, err
	}
	err = probe(ctx, forwarded, probeLimit)
	if err == nil {
		t.setRoute(routeForward)
		return forwarded, nil
	}
	_ = forwarded.Close()
	var denied *operation.Error
	switch {
	case refusedByPod(err):
		return t.detour(ctx, err)
	case ctx.Err() != nil, errors.Is(err, ErrConnectionLost), errors.As(err, &denied):
		return nil, err
	default:
		// Something accepted the connection and did not answer like Redis: it
		// hangs, or it speaks TLS. Either way this is the route.
		t.setRoute(routeForward)
		return t.forward(ctx)
	}
}

// detour dials a relay after a refusal on localhost.
func (t *tunnel) detour(ctx context.Context, refusal error) (net.Conn, error) {
	relayed, err := t.relay(ctx)
	switch {
	case err == nil:
		t.setRoute(routeRelay)
		return relayed, nil
	case refusedByPod(err):
		return nil, refusal
	default:
		return nil, fmt.Errorf("pod %s does not accept connections on localhost, and no relay works: %w", t, err)
	}
}

// forward opens a forwarded connection, on the tunnel's link or on a new one
// where that is dead.
func (t *tunnel) forward(ctx context.Context) (net.Conn, error) {
	for {
		l, fresh, err := t.acquire(ctx)
		if err != nil {
			return nil, err
		}
		limited, cancel := ctx, func() {}
		if !fresh {
			limited, cancel = context.WithTimeout(ctx, streamLimit)
		}
		opened, err := within(limited, func() (*streams, error) { return l.open(t.String(), t.target.port, t.nextRequest()) })
		cancel()
		if err == nil {
			return t.newConn(l, opened), nil
		}
		// A stream that did not come leaves spdystream in a state that blocks the
		// other streams, so the link is done for either way.
		l.retire()
		l.release()
		if refusedByPod(err) {
			t.setRoute(routeUnknown)
			return nil, err
		}
		if fresh || ctx.Err() != nil {
			return nil, fmt.Errorf("opening a stream to the pod: %w", err)
		}
	}
}

// acquire returns the tunnel's link, counted as used, and dials one where there
// is none that works. fresh tells that it was not used before.
func (t *tunnel) acquire(ctx context.Context) (l *link, fresh bool, err error) {
	t.mu.Lock()
	l = t.link
	closed := t.closed
	t.mu.Unlock()
	if closed {
		return nil, false, net.ErrClosed
	}
	if l != nil && l.alive() && l.acquire() {
		return l, false, nil
	}
	l, err = t.client.dialForward(ctx, t.namespace, t.pod)
	if err != nil {
		return nil, false, err
	}
	l.acquire()
	t.mu.Lock()
	closed = t.closed
	old := t.link
	if !closed {
		t.link = l
	}
	t.mu.Unlock()
	if closed {
		l.closeAll()
		return nil, false, net.ErrClosed
	}
	if old != nil {
		old.retire()
	}
	return l, true, nil
}

func (t *tunnel) close() {
	t.mu.Lock()
	l := t.link
	t.link = nil
	t.closed = true
	t.mu.Unlock()
	if l != nil {
		l.closeAll()
	}
}

func (t *tunnel) knownRoute() route {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.route
}

func (t *tunnel) setRoute(r route) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.route = r
}

func (t *tunnel) nextRequest() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.requests++
	return t.requests
}

// failure translates an error of dialling. A relay's own errors are translated
// already.
func (t *tunnel) failure(parent context.Context, err error) error {
	var translated *operation.Error
	if errors.As(err, &translated) {
		return err
	}
	if refusedByPod(err) {
		return &operation.Error{
			Kind:   operation.Failed,
			Object: "pod " + t.String(),
			Phase:  "connecting to Redis",
			Err:    err,
			Next:   fmt.Sprintf("see whether the server runs: kubectl logs --namespace %s %s %s", t.namespace, t.pod, t.target.container),
		}
	}
	return t.client.failure(parent, request{verb: "create", resource: "pods/portforward", namespace: t.namespace, name: t.pod}, err)
}

// refusedByPod tells a connection refused in the pod from one refused by the
// API server, which matches syscall.ECONNREFUSED too.
func refusedByPod(err error) bool {
	var refusal *ForwardError
	return errors.As(err, &refusal) && errors.Is(refusal, syscall.ECONNREFUSED)
}

// streams are the two streams of one forwarded connection.
type streams struct {
	link         *link
	data, reason httpstream.Stream
	// said receives what the error stream said, once, when it has ended.
	said chan string
}

// open creates the streams of a forwarded connection: the error stream first,
// as client-go's PortForwarder does. It may block for as long as the peer does
// not answer; spdystream gives up after 30 seconds.
func (l *link) open(pod string, port, request int) (*streams, error) {
	headers := http.Header{}
	headers.Set(corev1.PortHeader, strconv.Itoa(port))
	headers.Set(corev1.PortForwardRequestIDHeader, strconv.Itoa(request))
	headers.Set(corev1.StreamType, corev1.StreamTypeError)
	reason, err := l.CreateStream(headers)
	if err != nil {
		return nil, fmt.Errorf("error stream: %w", err)
	}
	// Nothing is ever sent on it. This is not the half-close that containerd
	// answers by ending the data stream.
	_ = reason.Close()
	opened := &streams{link: l, reason: reason, said: make(chan string, 1)}
	go func() {
		text, _ := io.ReadAll(io.LimitReader(reason, messageLimit))
		opened.said <- string(text)
	}()
	headers = headers.Clone()
	headers.Set(corev1.StreamType, corev1.StreamTypeData)
	opened.data, err = l.CreateStream(headers)
	if err == nil {
		return opened, nil
	}
	// The kubelet may reset the stream before it has acknowledged it.
	message := opened.message()
	_ = reason.Reset()
	l.RemoveStreams(reason)
	if message != "" {
		return nil, &ForwardError{Pod: pod, Message: message}
	}
	return nil, fmt.Errorf("data stream: %w", err)
}

// message returns what the error stream said about why the data stream ended:
// nothing when all is well. It can be called once.
func (s *streams) message() string {
	timer := time.NewTimer(reasonLimit)
	defer timer.Stop()
	select {
	case text := <-s.said:
		return text
	case <-timer.C:
		return ""
	}
}

// Close ends both streams and makes the link forget them.
func (s *streams) Close() error {
	err := errors.Join(s.data.Reset(), s.reason.Reset())
	s.link.RemoveStreams(s.data, s.reason)
	return err
}

// newConn makes a connection of streams. It takes over the use of the link.
func (t *tunnel) newConn(l *link, s *streams) *conn {
	near, far := net.Pipe()
	c := &conn{Conn: near, remote: address(fmt.Sprintf("%s:%d", t, t.target.port))}

	sent := make(chan struct{})
	go func() { // to the pod
		defer close(sent)
		_, err := io.CopyBuffer(onlyWriter{s.data}, onlyReader{far}, make([]byte, pumpBuffer))
		if err != nil && !errors.Is(err, io.ErrClosedPipe) {
			c.end(fmt.Errorf("%w: %w", ErrConnectionLost, err))
			_ = far.Close()
		}
	}()
	go func() { // from the pod
		_, err := io.CopyBuffer(onlyWriter{far}, onlyReader{s.data}, make([]byte, pumpBuffer))
		if !errors.Is(err, io.ErrClosedPipe) { // else the caller closed it
			c.end(t.ending(s, err))
		}
		_ = far.Close()
	}()
	c.hangUp = func() {
		drained := wait(sent, closeGrace)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = s.Close()
		}()
		if !drained || !wait(ended, closeGrace) {
			// Nothing can be written to this link any more, so no stream can be
			// ended on it either.
			l.closeAll()
		}
		l.release()
	}
	return c
}

// ending finds out why a data stream ended.
func (t *tunnel) ending(s *streams, err error) error {
	if message := s.message(); message != "" {
		refusal := &ForwardError{Pod: t.String(), Message: message}
		if refusedByPod(refusal) {
			t.setRoute(routeUnknown)
		}
		// kubectl gives up the whole connection after any such error. It may mean
		// that the pod's sandbox was replaced.
		s.link.retire()
		return refusal
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrConnectionLost, err)
	}
	if !s.link.alive() || !s.finish() {
		return ErrConnectionLost
	}
	return io.EOF
}

// finish closes this side of a data stream whose peer has ended, and reports
// whether that was in order. spdystream reads EOF also after a reset, as when the
// kubelet shuts down; only closing tells the difference, because it fails on a
// stream that was reset.
func (s *streams) finish() bool {
	closed := make(chan error, 1)
	go func() { closed <- s.data.Close() }()
	timer := time.NewTimer(reasonLimit)
	defer timer.Stop()
	select {
	case err := <-closed:
		return err == nil
	case <-timer.C:
		return false
	}
}

// onlyReader and onlyWriter hide the other methods from io.CopyBuffer, which
// else would not use the buffer.
type (
	onlyReader struct{ io.Reader }
	onlyWriter struct{ io.Writer }
)

// probe finds out whether a Redis answers, by an inline PING: any state of the
// server answers with one line (PONG, NOAUTH, LOADING), which is read here, so
// that the connection can be used afterwards. The error is the connection's, or
// the server's own where it answers by hanging up.
func probe(ctx context.Context, to net.Conn, limit time.Duration) error {
	deadline := time.Now().Add(limit)
	if end, ok := ctx.Deadline(); ok && end.Before(deadline) {
		deadline = end
	}
	if err := to.SetDeadline(deadline); err != nil {
		return err
	}
	cut := context.AfterFunc(ctx, func() { _ = to.SetDeadline(time.Now()) })
	reply, err := ping(to)
	if !cut() {
		return ctx.Err() // the deadline is no longer ours
	}
	if err != nil {
		return err
	}
	// After these the server closes the connection.
	if strings.HasPrefix(reply, "-DENIED") || strings.HasPrefix(reply, "-ERR max number of clients") {
		return &operation.Error{
			Kind:  operation.Denied,
			Phase: "connecting to Redis",
			Err:   errors.New(strings.TrimPrefix(firstLine(reply), "-")),
		}
	}
	return to.SetDeadline(time.Time{})
}

// ping sends an inline PING and returns the line that comes back.
func ping(to net.Conn) (string, error) {
	if _, err := io.WriteString(to, "PING\r\n"); err != nil {
		return "", err
	}
	line := make([]byte, 0, 512)
	for !strings.HasSuffix(string(line), "\n") {
		if len(line) == cap(line) {
			return "", errors.New("the answer to PING is not a line")
		}
		n, err := to.Read(line[len(line):cap(line)])
		line = line[:len(line)+n]
		if err != nil {
			return "", err
		}
	}
	return string(line), nil
}
