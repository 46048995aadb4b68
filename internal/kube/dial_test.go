package kube

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/redisctl/redisctl/internal/operation"
)

// TestMain fails when goroutines are left over. Some of client-go's end by
// themselves some time after their connection: spdystream's shutdown after 1 s,
// the exec heartbeat at its next tick after 5 s.
func TestMain(m *testing.M) {
	code := m.Run()
	allowed := []goleak.Option{
		// An idle connection to the API server is net/http's to keep.
		goleak.IgnoreAnyFunction("golang.org/x/net/http2.(*clientConnReadLoop).run"),
		// Waiting for a kubelet that hangs ends after 30 s; the tests need not.
		goleak.IgnoreTopFunction("github.com/moby/spdystream.(*Stream).WaitTimeout"),
	}
	err := goleak.Find(allowed...)
	for limit := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(limit); {
		err = goleak.Find(allowed...)
	}
	if code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// eachTransport runs a test over both transports.
func eachTransport(t *testing.T, test func(t *testing.T, transport string)) {
	for _, transport := range []string{webSocket, spdyOnly} {
		t.Run(transport, func(t *testing.T) { test(t, transport) })
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, condition func() bool, message string) {
	t.Helper()
	require.Eventually(t, condition, 10*time.Second, 5*time.Millisecond, message)
}

// say sends a line and returns the line that comes back.
func say(t *testing.T, conn net.Conn, line string) string {
	t.Helper()
	_, err := io.WriteString(conn, line)
	require.NoError(t, err)
	reply, err := bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)
	return reply
}

func TestDial(t *testing.T) {
	eachTransport(t, func(t *testing.T, transport string) {
		server := newPodServer(t, listen(t, echoRedis)).over(transport)
		client, d := testClient(t, server.URL, time.Minute)

		conn, err := client.Dial(t.Context(), d, d.Instances[0])
		require.NoError(t, err)
		assert.Equal(t, "hello\r\n", say(t, conn, "hello\r\n"), "the answer to the probe must not be left over")
		assert.Equal(t, "prod/redis-0:6379", conn.RemoteAddr().String())
		require.NoError(t, conn.Close())
		_, err = conn.Read(make([]byte, 1))
		require.ErrorIs(t, err, net.ErrClosed)
		require.NoError(t, conn.Close(), "closing twice is harmless")
	})
}

func TestDialSharesOneKubernetesConnection(t *testing.T) {
	eachTransport(t, func(t *testing.T, transport string) {
		server := newPodServer(t, listen(t, echoRedis)).over(transport)
		client, d := testClient(t, server.URL, time.Minute)

		var group sync.WaitGroup
		for n := range 20 {
			group.Go(func() {
				conn, err := client.Dial(t.Context(), d, d.Instances[0])
				if !assert.NoError(t, err) {
					return
				}
				defer func() { assert.NoError(t, conn.Close()) }()
				line := fmt.Sprintf("connection %d\r\n", n)
				_, err = io.WriteString(conn, line)
				assert.NoError(t, err)
				reply, err := bufio.NewReader(conn).ReadString('\n')
				assert.NoError(t, err)
				assert.Equal(t, line, reply)
			})
		}
		group.Wait()
		assert.EqualValues(t, 1, server.dials.Load())

		own, err := client.DialDedicated(t.Context(), d, d.Instances[0])
		require.NoError(t, err)
		assert.Equal(t, "x\r\n", say(t, own, "x\r\n"))
		assert.EqualValues(t, 2, server.dials.Load())
		require.NoError(t, own.Close())
	})
}

func TestConnMovesBytesUnchanged(t *testing.T) {
	eachTransport(t, func(t *testing.T, transport string) {
		payload := make([]byte, 8<<20)
		_, err := rand.Read(payload)
		require.NoError(t, err)
		received := make(chan [sha256.Size]byte, 1)
		server := newPodServer(t, listen(t, func(conn net.Conn) {
			got := make([]byte, len(payload))
			if _, err := io.ReadFull(conn, got); err == nil {
				received <- sha256.Sum256(got)
			}
			_, _ = conn.Write(payload)
		})).over(transport)
		client, d := testClient(t, server.URL, time.Minute)
		tunnel, err := client.tunnel(d, d.Instances[0])
		require.NoError(t, err)
		tunnel.setRoute(routeForward)

		conn, err := client.Dial(t.Context(), d, d.Instances[0])
		require.NoError(t, err)
		defer func() { require.NoError(t, conn.Close()) }()
		_, err = conn.Write(payload)
		require.NoError(t, err)
		assert.Equal(t, sha256.Sum256(payload), <-received)
		got, err := io.ReadAll(conn)
		require.NoError(t, err, "a peer that closes is a plain EOF")
		assert.True(t, bytes.Equal(payload, got))
	})
}

func TestConnDeadlines(t *testing.T) {
	server := newPodServer(t, listen(t, echoRedis))
	client, d := testClient(t, server.URL, time.Minute)
	conn, err := client.Dial(t.Context(), d, d.Instances[0])
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()

	require.NoError(t, conn.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
	_, err = conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	var timeout net.Error
	require.ErrorAs(t, err, &timeout)
	assert.True(t, timeout.Timeout())

	require.NoError(t, conn.SetDeadline(time.Time{}))
	assert.Equal(t, "still works\r\n", say(t, conn, "still works\r\n"))
}

// A peer that does not read must not hang a writer, nor closing.
func TestConnWriteDeadline(t *testing.T) {
	eachTransport(t, func(t *testing.T, transport string) {
		release := make(chan struct{})
		server := newPodServer(t, listen(t, func(net.Conn) { <-release })).over(transport)
		t.Cleanup(func() { close(release) })
		client, d := testClient(t, server.URL, time.Minute)
		tunnel, err := client.tunnel(d, d.Instances[0])
		require.NoError(t, err)
		tunnel.setRoute(routeForward)
		conn, err := client.Dial(t.Context(), d, d.Instances[0])
		require.NoError(t, err)

		require.NoError(t, conn.SetWriteDeadline(time.Now().Add(500*time.Millisecond)))
		chunk := make([]byte, 1<<20)
		for err == nil {
			_, err = conn.Write(chunk)
		}
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)

		closed := make(chan error, 1)
		go func() { closed <- conn.Close() }()
		select {
		case err := <-closed:
			require.NoError(t, err)
		case <-time.After(10 * time.Second):
			t.Fatal("Close hangs")
		}
	})
}

func TestDialFallsBackToSPDY(t *testing.T) {
	for name, refuse := range map[string]string{"no permission for GET": "get", "not supported": ""} {
		t.Run(name, func(t *testing.T) {
			server := newPodServer(t, listen(t, echoRedis)).over(spdyOnly)
			if refuse != "" {
				server.refuse[webSocket] = forbid(refuse)
			}
			client, d := testClient(t, server.URL, time.Minute)
			conn, err := client.Dial(t.Context(), d, d.Instances[0])
			require.NoError(t, err)
			assert.Equal(t, "hello\r\n", say(t, conn, "hello\r\n"))
			require.NoError(t, conn.Close())
		})
	}
}

func TestDialWithoutPermission(t *testing.T) {
	server := newPodServer(t, listen(t, echoRedis))
	server.refuse[webSocket] = forbid("get")
	server.refuse[spdyOnly] = forbid("create")
	client, d := testClient(t, server.URL, time.Minute)

	_, err := client.Dial(t.Context(), d, d.Instances[0])
	var failure *operation.Error
	require.ErrorAs(t, err, &failure)
	assert.Equal(t, operation.Denied, failure.Kind)
	assert.Equal(t, "pod prod/redis-0", failure.Object)
	assert.ErrorContains(t, err, "not allowed to create pods/portforward in namespace prod")
	assert.Contains(t, failure.Next, "kubectl auth can-i create pods --subresource=portforward --namespace prod")
}

// nowhere returns an address on which nothing listens.
func nowhere(t *testing.T) string {
	t.Helper()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	return closed.Addr().String()
}

func TestDialRefusedByThePod(t *testing.T) {
	eachTransport(t, func(t *testing.T, transport string) {
		server := newPodServer(t, nowhere(t)).over(transport)
		client, d := testClient(t, server.URL, time.Minute)

		// The test's server has no exec, so the way around is closed as well.
		_, err := client.Dial(t.Context(), d, d.Instances[0])
		assert.Equal(t, operation.Denied, operation.KindOf(err))
		require.ErrorContains(t, err, "pod prod/redis-0 does not accept connections on localhost, and no relay works")
		require.ErrorContains(t, err, "not allowed to create pods/exec in namespace prod")

		// With the route known, the refusal is what reading fails with.
		tunnel, err := client.tunnel(d, d.Instances[0])
		require.NoError(t, err)
		tunnel.setRoute(routeForward)
		conn, err := client.Dial(t.Context(), d, d.Instances[0])
		require.NoError(t, err)
		_, err = conn.Read(make([]byte, 1))
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
		var refusal *ForwardError
		require.ErrorAs(t, err, &refusal)
		assert.Equal(t, "prod/redis-0", refusal.Pod)
		assert.Equal(t, routeUnknown, tunnel.knownRoute(), "the route must be found out again")
		require.NoError(t, conn.Close())
	})
}

// A refusal that comes before the stream was acknowledged fails the dial.
func TestDialRefusedEarly(t *testing.T) {
	eachTransport(t, func(t *testing.T, transport string) {
		server := newPodServer(t, nowhere(t)).over(transport)
		server.eager = true
		client, d := testClient(t, server.URL, time.Minute)
		tunnel, err := client.tunnel(d, d.Instances[0])
		require.NoError(t, err)
		tunnel.setRoute(routeForward)
		_, err = client.Dial(t.Context(), d, d.Instances[0])
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
		assert.Equal(t, operation.Failed, operation.KindOf(err))
		assert.Equal(t, routeUnknown, tunnel.knownRoute())
	})
}

func TestDialReportsARefusingServer(t *testing.T) {
	server := newPodServer(t, listen(t, func(conn net.Conn) {
		_, _ = io.WriteString(conn, "-DENIED Redis is running in protected mode because no password is set\r\n")
	}))
	client, d := testClient(t, server.URL, time.Minute)
	_, err := client.Dial(t.Context(), d, d.Instances[0])
	assert.Equal(t, operation.Denied, operation.KindOf(err))
	assert.ErrorContains(t, err, "DENIED Redis is running in protected mode")
}

// A server that accepts and does not answer is the caller's to time out.
func TestDialToAHangingServer(t *testing.T) {
	server := newPodServer(t, listen(t, silent))
	client, d := testClient(t, server.URL, time.Minute)
	conn, err := client.Dial(t.Context(), d, d.Instances[0])
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Millisecond)))
	_, err = conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, conn.Close())
}

func TestConnectionLost(t *testing.T) {
	eachTransport(t, func(t *testing.T, transport string) {
		server := newPodServer(t, listen(t, echoRedis)).over(transport)
		client, d := testClient(t, server.URL, time.Minute)
		conn, err := client.Dial(t.Context(), d, d.Instances[0])
		require.NoError(t, err)

		server.cut()
		_, err = conn.Read(make([]byte, 1))
		require.ErrorIs(t, err, ErrConnectionLost)
		require.NotErrorIs(t, err, io.EOF)
		require.NoError(t, conn.Close())

		conn, err = client.Dial(t.Context(), d, d.Instances[0])
		require.NoError(t, err, "the next connection dials again")
		assert.Equal(t, "back\r\n", say(t, conn, "back\r\n"))
		assert.EqualValues(t, 2, server.dials.Load())
		require.NoError(t, conn.Close())
	})
}

// A stream that was reset did not end in order, also where its Kubernetes
// connection goes on.
func TestConnectionReset(t *testing.T) {
	eachTransport(t, func(t *testing.T, transport string) {
		server := newPodServer(t, listen(t, func(conn net.Conn) { _, _ = io.WriteString(conn, "+PONG\r\n") })).over(transport)
		server.abort = true
		client, d := testClient(t, server.URL, time.Minute)
		tunnel, err := client.tunnel(d, d.Instances[0])
		require.NoError(t, err)
		tunnel.setRoute(routeForward)
		conn, err := client.Dial(t.Context(), d, d.Instances[0])
		require.NoError(t, err)
		_, err = io.ReadAll(conn)
		require.ErrorIs(t, err, ErrConnectionLost)
		require.NoError(t, conn.Close())
	})
}

func TestDialToAHangingAPIServer(t *testing.T) {
	hanging := listen(t, silent)
	t.Run("times out", func(t *testing.T) {
		client, d := testClient(t, "http://"+hanging, 50*time.Millisecond)
		_, err := client.Dial(t.Context(), d, d.Instances[0])
		assert.Equal(t, operation.TimedOut, operation.KindOf(err))
		assert.ErrorContains(t, err, "API server http://"+hanging)
	})
	t.Run("is interrupted", func(t *testing.T) {
		client, d := testClient(t, "http://"+hanging, time.Minute)
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(50*time.Millisecond, func() { cancel(context.Canceled) })
		_, err := client.Dial(ctx, d, d.Instances[0])
		assert.Equal(t, operation.Interrupted, operation.KindOf(err))
	})
}

func TestDialToAnUnreachableAPIServer(t *testing.T) {
	client, d := testClient(t, "http://127.0.0.1:1", time.Minute)
	client.context = "staging"
	_, err := client.Dial(t.Context(), d, d.Instances[0])
	assert.Equal(t, operation.Failed, operation.KindOf(err))
	require.ErrorContains(t, err, "API server http://127.0.0.1:1 (context staging): cannot be reached")
	require.ErrorContains(t, err, "connection refused")
}

func TestDialAfterClose(t *testing.T) {
	client, d := testClient(t, "http://127.0.0.1:1", time.Minute)
	require.NoError(t, client.Close())
	_, err := client.Dial(t.Context(), d, d.Instances[0])
	require.ErrorIs(t, err, net.ErrClosed)
}

func TestDialToAMissingPod(t *testing.T) {
	client, d := testClient(t, "http://127.0.0.1:1", time.Minute)
	d.Instances[0].Pod = &operation.Pod{Phase: phaseMissing, Message: "StatefulSet redis has not created this pod"}
	_, err := client.Dial(t.Context(), d, d.Instances[0])
	require.EqualError(t, err, "pod prod/redis-0: does not exist: StatefulSet redis has not created this pod")
}

// Fifty connections, opened and closed, leave nothing behind on either side.
func TestConnectionsLeaveNothingBehind(t *testing.T) {
	eachTransport(t, func(t *testing.T, transport string) {
		server := newPodServer(t, listen(t, echoRedis)).over(transport)
		client, d := testClient(t, server.URL, time.Minute)
		warm, err := client.Dial(t.Context(), d, d.Instances[0])
		require.NoError(t, err)
		assert.Equal(t, "x\r\n", say(t, warm, "x\r\n"))
		require.NoError(t, warm.Close())
		eventually(t, func() bool { return server.streams.Load() == 0 }, "the warm-up ends")

		tunnel, err := client.tunnel(d, d.Instances[0])
		require.NoError(t, err)
		counted := &countedStreams{Connection: tunnel.link.Connection}
		tunnel.link.Connection = counted
		before := goleak.IgnoreCurrent()
		for n := range 50 {
			conn, err := client.Dial(t.Context(), d, d.Instances[0])
			require.NoError(t, err)
			if n%2 == 0 {
				assert.Equal(t, "x\r\n", say(t, conn, "x\r\n"))
			}
			require.NoError(t, conn.Close())
		}
		eventually(t, func() bool { return server.streams.Load() == 0 }, "the server's streams end")
		require.NoError(t, goleak.Find(before))
		assert.Zero(t, tunnel.link.users)
		assert.EqualValues(t, 100, counted.created.Load())
		assert.EqualValues(t, 100, counted.removed.Load())
		assert.EqualValues(t, 1, server.dials.Load())
		require.NoError(t, client.Close())
		eventually(t, func() bool { return server.links.Load() == 0 }, "closing the client ends the Kubernetes connection")
	})
}

// countedStreams counts what a link is made to remember and to forget.
type countedStreams struct {
	httpstream.Connection
	created, removed atomic.Int64
}

func (c *countedStreams) CreateStream(headers http.Header) (httpstream.Stream, error) {
	c.created.Add(1)
	return c.Connection.CreateStream(headers)
}

func (c *countedStreams) RemoveStreams(streams ...httpstream.Stream) {
	c.removed.Add(int64(len(streams)))
	c.Connection.RemoveStreams(streams...)
}

// A link that was cut below SPDY is given up for a new one.
func TestDialReplacesADeadConnection(t *testing.T) {
	server := newPodServer(t, listen(t, echoRedis))
	client, d := testClient(t, server.URL, time.Minute)
	conn, err := client.Dial(t.Context(), d, d.Instances[0])
	require.NoError(t, err)
	require.NoError(t, conn.Close())

	tunnel, err := client.tunnel(d, d.Instances[0])
	require.NoError(t, err)
	first := tunnel.link
	require.NoError(t, first.raw.Close())
	conn, err = client.Dial(t.Context(), d, d.Instances[0])
	require.NoError(t, err)
	assert.Equal(t, "x\r\n", say(t, conn, "x\r\n"))
	assert.NotSame(t, first, tunnel.link)
	require.NoError(t, conn.Close())
}

// A kubelet that hangs does not hang a dial, and a connection on which it used
// to answer is given up for a new one.
func TestDialToAHangingKubelet(t *testing.T) {
	t.Run("from the start", func(t *testing.T) {
		server := newPodServer(t, listen(t, echoRedis))
		server.deaf.Store(1)
		client, d := testClient(t, server.URL, 200*time.Millisecond)
		_, err := client.Dial(t.Context(), d, d.Instances[0])
		assert.Equal(t, operation.TimedOut, operation.KindOf(err))
	})
	t.Run("later", func(t *testing.T) {
		server := newPodServer(t, listen(t, echoRedis))
		client, d := testClient(t, server.URL, time.Minute)
		conn, err := client.Dial(t.Context(), d, d.Instances[0])
		require.NoError(t, err)
		require.NoError(t, conn.Close())

		server.deaf.Store(1)
		conn, err = client.Dial(t.Context(), d, d.Instances[0])
		require.NoError(t, err)
		assert.Equal(t, "x\r\n", say(t, conn, "x\r\n"))
		assert.EqualValues(t, 2, server.dials.Load())
		require.NoError(t, conn.Close())
	})
}

func TestForwardErrorIsARefusalByItsText(t *testing.T) {
	for message, refused := range map[string]bool{
		"failed to connect to localhost:6379 inside namespace: dial tcp4 127.0.0.1:6379: connect: connection refused": true,  // containerd
		"exit status 1: 2026/01/01 socat[1] E connect(5, AF=2 127.0.0.1:6379, 16): Connection refused":                true,  // CRI-O, older
		"network namespace for sandbox \"abc\" is closed":                                                             false, // a replaced sandbox
	} {
		err := fmt.Errorf("reading: %w", &ForwardError{Pod: "a/b", Message: message})
		assert.Equal(t, refused, errors.Is(err, syscall.ECONNREFUSED), message)
	}
}

func BenchmarkConn(b *testing.B) {
	for _, transport := range []string{webSocket, spdyOnly} {
		b.Run(transport, func(b *testing.B) {
			chunk := make([]byte, 64<<10)
			server := newPodServer(b, listen(b, func(conn net.Conn) {
				for {
					if _, err := conn.Write(chunk); err != nil {
						return
					}
				}
			})).over(transport)
			client, d := testClient(b, server.URL, time.Minute)
			tunnel, err := client.tunnel(d, d.Instances[0])
			require.NoError(b, err)
			tunnel.setRoute(routeForward)
			conn, err := client.Dial(b.Context(), d, d.Instances[0])
			require.NoError(b, err)
			const total = 64 << 20
			b.SetBytes(total)
			for b.Loop() {
				_, err := io.CopyN(io.Discard, onlyReader{conn}, total)
				require.NoError(b, err)
			}
			require.NoError(b, conn.Close())
		})
	}
}
