package kube

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	gorilla "github.com/gorilla/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	forwardapi "k8s.io/apimachinery/pkg/util/portforward"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"

	"github.com/redisctl/redisctl/internal/operation"
)

// The transports that pod connections run on.
const (
	webSocket = "WebSocket"
	spdyOnly  = "SPDY"
)

// podServer is an API server that knows nothing but how to forward the port of
// one pod, as the kubelet and containerd do, to a TCP server of the test.
type podServer struct {
	*httptest.Server
	// backend is where forwarded connections lead.
	backend string
	// refuse answers an upgrade of a transport by a status instead.
	refuse map[string]http.HandlerFunc
	// deaf is the number of the Kubernetes connection, counted from 1, whose new
	// streams are ignored.
	deaf atomic.Int64
	// abort makes the server end a stream by a reset, as when the kubelet shuts
	// down, where it would close it.
	abort bool
	// eager makes the server refuse a stream before it has acknowledged it.
	eager bool

	ended   chan struct{} // closed with the test
	dials   atomic.Int64  // upgrades that were agreed to
	links   atomic.Int64  // Kubernetes connections that are open
	streams atomic.Int64  // connections being forwarded

	mu    sync.Mutex
	conns []httpstream.Connection
}

func newPodServer(t testing.TB, backend string) *podServer {
	s := &podServer{backend: backend, refuse: map[string]http.HandlerFunc{}, ended: make(chan struct{})}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(func() {
		close(s.ended)
		s.cut()
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

// over makes the server offer only the given transport.
func (s *podServer) over(transport string) *podServer {
	if transport == spdyOnly {
		s.refuse[webSocket] = func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "no WebSocket here", http.StatusBadRequest)
		}
	}
	return s
}

func (s *podServer) serve(w http.ResponseWriter, r *http.Request) {
	if !strings.HasSuffix(r.URL.Path, "/portforward") {
		http.Error(w, status(http.StatusForbidden, "Forbidden", "pods \"redis-0\" is forbidden: no exec for you"), http.StatusForbidden)
		return
	}
	transport := spdyOnly
	if r.Method == http.MethodGet {
		transport = webSocket
	}
	if refuse, ok := s.refuse[transport]; ok {
		refuse(w, r)
		return
	}
	pairs := &streamPairs{server: s, connection: s.dials.Add(1), open: map[string]httpstream.Stream{}}
	var conn httpstream.Connection
	if transport == webSocket {
		upgrader := gorilla.Upgrader{Subprotocols: []string{forwardapi.WebsocketsSPDYTunnelingPortForwardV1}}
		raw, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		conn, err = spdy.NewServerConnection(portforward.NewTunnelingConnectionWithLogger(logr.Discard(), raw), pairs.add)
		if err != nil {
			return
		}
	} else {
		if _, err := httpstream.Handshake(r, w, []string{forwardapi.PortForwardV1Name}); err != nil {
			return
		}
		conn = spdy.NewResponseUpgrader().UpgradeResponse(w, r, pairs.add)
		if conn == nil {
			return
		}
	}
	s.mu.Lock()
	s.conns = append(s.conns, conn)
	s.mu.Unlock()
	s.links.Add(1)
	defer s.links.Add(-1)
	<-conn.CloseChan()
	_ = conn.Close()
}

// cut ends all Kubernetes connections.
func (s *podServer) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, conn := range s.conns {
		_ = conn.Close()
	}
	s.conns = nil
}

// streamPairs matches error and data streams by their request, as the kubelet
// does (k8s.io/cri-streaming, portforward/httpstream.go).
type streamPairs struct {
	server     *podServer
	connection int64
	mu         sync.Mutex
	open       map[string]httpstream.Stream
}

func (p *streamPairs) add(stream httpstream.Stream, acknowledged <-chan struct{}) error {
	if p.server.deaf.Load() == p.connection {
		<-p.server.ended
		return errors.New("too late")
	}
	request := stream.Headers().Get(corev1.PortForwardRequestIDHeader)
	p.mu.Lock()
	defer p.mu.Unlock()
	other, ok := p.open[request]
	if !ok {
		p.open[request] = stream
		return nil
	}
	delete(p.open, request)
	data, reason := stream, other
	if stream.Headers().Get(corev1.StreamType) != corev1.StreamTypeData {
		data, reason = other, stream
	}
	if p.server.eager {
		p.server.forward(data, reason)
		return nil
	}
	go func() {
		<-acknowledged
		p.server.forward(data, reason)
	}()
	return nil
}

func (s *podServer) forward(data, reason httpstream.Stream) {
	s.streams.Add(1)
	defer s.streams.Add(-1)
	backend, err := net.Dial("tcp", s.backend)
	if err != nil {
		_, _ = fmt.Fprintf(reason, "error forwarding port 6379 to pod abc, uid : failed to connect to localhost:6379 inside namespace: %v", err)
		_ = data.Reset()
		_ = reason.Reset()
		return
	}
	ended := make(chan struct{}, 2)
	go func() { _, _ = io.Copy(backend, data); ended <- struct{}{} }()
	go func() { _, _ = io.Copy(data, backend); ended <- struct{}{} }()
	<-ended
	if s.abort {
		_ = data.Reset()
	}
	_ = reason.Close()
	_ = data.Close()
	_ = backend.Close()
	<-ended
}

func status(code int, reason, message string) string {
	return fmt.Sprintf(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":%q,"message":%q,"code":%d}`, reason, message, code)
}

// forbid refuses an upgrade as the API server does.
func forbid(verb string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, status(http.StatusForbidden, "Forbidden",
			`pods "redis-0" is forbidden: User "eve" cannot `+verb+` resource "pods/portforward" in API group "" in the namespace "prod"`))
	}
}

// listen runs a TCP server whose connections are handled by handle.
func listen(t testing.TB, handle func(net.Conn)) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var group sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	group.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			group.Go(func() {
				defer func() { _ = conn.Close() }()
				handle(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		mu.Lock()
		for _, conn := range conns {
			_ = conn.Close()
		}
		mu.Unlock()
		group.Wait()
	})
	return listener.Addr().String()
}

// echoRedis answers PING as Redis does and sends every other line back.
func echoRedis(conn net.Conn) {
	lines := bufio.NewReaderSize(conn, 1<<20)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		if line == "PING\r\n" {
			line = "+PONG\r\n"
		}
		if _, err := io.WriteString(conn, line); err != nil {
			return
		}
	}
}

// silent accepts and never says a word.
func silent(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

// testClient returns a client of the server and the only pod there is.
func testClient(t testing.TB, server string, timeout time.Duration) (*Client, *operation.Deployment) {
	discardLogs()
	client := newClient(fake.NewClientset(), &rest.Config{Host: server}, "prod", timeout)
	t.Cleanup(func() { assert.NoError(t, client.Close()) })
	return client, &operation.Deployment{
		Namespace: "prod",
		Release:   "redis",
		Workload:  &operation.Workload{Name: "redis", Container: "redis"},
		Instances: []operation.Instance{{
			Name: "redis-0", Host: "10.0.0.1", Port: 6379, Pod: &operation.Pod{UID: "1", Phase: "Running"},
		}},
	}
}
