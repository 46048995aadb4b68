package kube

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	forwardapi "k8s.io/apimachinery/pkg/util/portforward"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/websocket"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// statusLimit bounds how much of a refused upgrade's body is read, in bytes.
const statusLimit = 64 << 10

// upgradeBuffer is the size of the read buffer below SPDY, in bytes. SPDY reads
// each frame in two steps; without a buffer each is a system call.
const upgradeBuffer = 64 << 10

// fallsBack is kubectl's rule for trying SPDY after WebSocket: the server or a
// proxy on the way refused the upgrade, or the proxy is one that the WebSocket
// library cannot use (kubernetes/kubernetes#126134).
func fallsBack(err error) bool {
	return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
}

// subresource returns the URL of a pod's subresource.
func (c *Client) subresource(namespace, pod, name string, options *corev1.PodExecOptions) (*url.URL, error) {
	server, _, err := rest.DefaultServerUrlFor(c.config)
	if err != nil {
		return nil, fmt.Errorf("the API server's address: %w", err)
	}
	target := server.JoinPath("api", "v1", "namespaces", namespace, "pods", pod, name)
	if options != nil {
		query, err := scheme.ParameterCodec.EncodeParameters(options, corev1.SchemeGroupVersion)
		if err != nil {
			return nil, fmt.Errorf("encoding the exec options: %w", err)
		}
		target.RawQuery = query.Encode()
	}
	return target, nil
}

// dialForward opens a Kubernetes connection that forwards ports of the pod.
func (c *Client) dialForward(ctx context.Context, namespace, pod string) (*link, error) {
	target, err := c.subresource(namespace, pod, "portforward", nil)
	if err != nil {
		return nil, err
	}
	l, err := within(ctx, func() (*link, error) { return c.dialWebSocket(ctx, target) })
	if err != nil && fallsBack(err) {
		return within(ctx, func() (*link, error) { return c.dialSPDY(ctx, target) })
	}
	return l, err
}

// dialWebSocket tunnels SPDY through a WebSocket (KEP-4006).
func (c *Client) dialWebSocket(ctx context.Context, target *url.URL) (*link, error) {
	transport, holder, err := websocket.RoundTripperFor(c.config)
	if err != nil {
		return nil, fmt.Errorf("preparing a WebSocket: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("preparing a WebSocket: %w", err)
	}
	conn, err := websocket.Negotiate(transport, holder, request, forwardapi.WebsocketsSPDYTunnelingPortForwardV1)
	if err != nil {
		return nil, err
	}
	return newLink(portforward.NewTunnelingConnectionWithLogger(logr.Discard(), conn))
}

// dialSPDY is the way of clusters before 1.30, and of proxies without
// WebSocket.
func (c *Client) dialSPDY(ctx context.Context, target *url.URL) (*link, error) {
	transport, err := c.spdyTransport()
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("preparing SPDY: %w", err)
	}
	request.Header.Set(httpstream.HeaderProtocolVersion, forwardapi.PortForwardV1Name)
	response, err := transport.RoundTrip(request) //nolint:bodyclose // the body is the connection, or closed by upgraded
	if err != nil {
		return nil, err
	}
	conn, err := upgraded(response)
	if err != nil {
		return nil, err
	}
	return newLink(conn)
}

// link is one Kubernetes connection to one pod, which carries many streams.
type link struct {
	httpstream.Connection
	// raw is what Connection runs on. Closing it ends everything at once, even
	// where the peer no longer reads.
	raw net.Conn

	mu      sync.Mutex
	users   int
	retired bool
	closing sync.Once
}

func newLink(conn net.Conn) (*link, error) {
	raw := &closeOnce{Conn: conn}
	connection, err := spdy.NewClientConnectionWithPings(raw, portforward.PingPeriod)
	if err != nil {
		return nil, fmt.Errorf("starting SPDY: %w", errors.Join(err, raw.Close()))
	}
	return &link{Connection: connection, raw: raw}, nil
}

// closeOnce closes once and then never fails: spdystream closes again what is
// closed, and waits for a second when that fails.
type closeOnce struct {
	net.Conn
	once sync.Once
}

// Close implements net.Conn.
func (c *closeOnce) Close() error {
	c.once.Do(func() { _ = c.Conn.Close() })
	return nil
}

// alive reports whether the peer has not closed the connection. A connection
// whose packets are silently dropped counts as alive.
func (l *link) alive() bool {
	select {
	case <-l.CloseChan():
		return false
	default:
		return true
	}
}

// acquire counts a user. It fails for a link that takes no more.
func (l *link) acquire() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.retired {
		return false
	}
	l.users++
	return true
}

// release ends a use. The last user of a retired link closes it.
func (l *link) release() {
	l.mu.Lock()
	l.users--
	last := l.retired && l.users == 0
	l.mu.Unlock()
	if last {
		l.closeAll()
	}
}

// retire lets the present users finish and takes no new ones.
func (l *link) retire() {
	l.mu.Lock()
	l.retired = true
	unused := l.users == 0
	l.mu.Unlock()
	if unused {
		l.closeAll()
	}
}

// Close implements io.Closer for within.
func (l *link) Close() error {
	l.closeAll()
	return nil
}

// closeAll ends every stream and the connection. It takes no longer than
// closeGrace plus what the transport needs to say goodbye.
func (l *link) closeAll() {
	l.mu.Lock()
	l.retired = true
	l.mu.Unlock()
	l.closing.Do(func() {
		// The polite close writes to the peer, and so blocks when the peer does
		// not read. Then the raw connection is closed under it.
		polite := make(chan struct{})
		go func() {
			defer close(polite)
			_ = l.Connection.Close()
		}()
		wait(polite, closeGrace)
		_ = l.raw.Close()
	})
}

// wait waits for done, at most for limit, and reports whether it came.
func wait(done <-chan struct{}, limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// within runs open and gives up on it when ctx ends. What open returns after
// that is closed. It bounds calls that take no context, or do not honour its
// cancellation everywhere, as gorilla/websocket's handshake does not.
func within[T io.Closer](ctx context.Context, open func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	results := make(chan result)
	go func() {
		value, err := open()
		select {
		case results <- result{value, err}:
		case <-ctx.Done():
			if err == nil {
				_ = value.Close()
			}
		}
	}()
	select {
	case r := <-results:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// spdyUpgrade upgrades requests to SPDY on net/http's own transport. client-go
// has a round tripper for this too (transport/spdy), but that one does not
// honour the request's context while it waits for the response, and reduces the
// server's answer to its text, so that "forbidden" cannot be told from
// "not found".
type spdyUpgrade struct{ http.RoundTripper }

func newSPDYTransport(config *rest.Config) (*spdyUpgrade, error) {
	config = rest.CopyConfig(config)
	// HTTP/2 has no Upgrade.
	config.NextProtos = []string{"http/1.1"}
	transport, err := rest.TransportFor(config)
	if err != nil {
		return nil, fmt.Errorf("preparing SPDY: %w", err)
	}
	return &spdyUpgrade{transport}, nil
}

// WrappedRoundTripper lets CloseIdleConnectionsFor find the transport.
func (u *spdyUpgrade) WrappedRoundTripper() http.RoundTripper { return u.RoundTripper }

// RoundTrip asks for the upgrade. The response's body then is the connection.
func (u *spdyUpgrade) RoundTrip(request *http.Request) (*http.Response, error) {
	request = request.Clone(request.Context())
	request.Header.Set(httpstream.HeaderConnection, httpstream.HeaderUpgrade)
	request.Header.Set(httpstream.HeaderUpgrade, spdy.HeaderSpdy31)
	response, err := u.RoundTripper.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	response.Body = &upgradeBody{ReadCloser: response.Body}
	return response, nil
}

// NewConnection implements httpstream.UpgradeRoundTripper for client-go's
// executor.
func (*spdyUpgrade) NewConnection(response *http.Response) (httpstream.Connection, error) {
	conn, err := upgraded(response)
	if err != nil {
		return nil, err
	}
	return spdy.NewClientConnectionWithPings(&closeOnce{Conn: conn}, portforward.PingPeriod)
}

// upgradeBody is a response body that can be detached: client-go closes the
// body of a response that it has made a connection of.
type upgradeBody struct {
	io.ReadCloser
	detached bool
}

func (b *upgradeBody) Close() error {
	if b.detached {
		return nil
	}
	return b.ReadCloser.Close()
}

// upgraded returns the connection of a response to an upgrade request, or the
// server's reason for refusing it: an apierrors.StatusError where it sent one.
func upgraded(response *http.Response) (net.Conn, error) {
	body, ok := response.Body.(*upgradeBody)
	if ok && response.StatusCode == http.StatusSwitchingProtocols &&
		strings.EqualFold(response.Header.Get(httpstream.HeaderUpgrade), spdy.HeaderSpdy31) {
		// net/http: "As of Go 1.12, the Body will also implement io.Writer on a
		// successful 101 Switching Protocols response".
		if stream, ok := body.ReadCloser.(io.ReadWriteCloser); ok {
			body.detached = true
			return &upgradedConn{ReadWriteCloser: stream, reader: bufio.NewReaderSize(stream, upgradeBuffer)}, nil
		}
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(response.Body, statusLimit))
	if err != nil {
		return nil, fmt.Errorf("upgrade to SPDY refused: %s", response.Status)
	}
	object, _, err := scheme.Codecs.UniversalDeserializer().Decode(text, nil, &metav1.Status{})
	if status, ok := object.(*metav1.Status); err == nil && ok {
		return nil, &apierrors.StatusError{ErrStatus: *status}
	}
	return nil, fmt.Errorf("upgrade to SPDY refused: %s: %s", response.Status, firstLine(string(text)))
}

// upgradedConn makes a net.Conn of an upgraded response's body. SPDY only reads,
// writes and closes it.
type upgradedConn struct {
	io.ReadWriteCloser
	reader *bufio.Reader
}

func (c *upgradedConn) Read(p []byte) (int, error)     { return c.reader.Read(p) }
func (*upgradedConn) LocalAddr() net.Addr              { return address("redisctl") }
func (*upgradedConn) RemoteAddr() net.Addr             { return address("kubernetes") }
func (*upgradedConn) SetDeadline(time.Time) error      { return errors.ErrUnsupported }
func (*upgradedConn) SetReadDeadline(time.Time) error  { return errors.ErrUnsupported }
func (*upgradedConn) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }
