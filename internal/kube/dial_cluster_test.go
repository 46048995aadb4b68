package kube

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/testkit/faultproxy"
)

// canLook are the permissions to find a release.
var canLook = []rbacv1.PolicyRule{
	{APIGroups: []string{"apps"}, Resources: []string{"statefulsets"}, Verbs: []string{"list"}},
	{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"list"}},
}

func TestCluster(t *testing.T) {
	c := newCluster(t)
	c.install(t, "plain", "")
	c.install(t, "bound", "--bind $POD_IP")
	var refused int
	transports := map[string]func(*clientcmdapi.Config){
		webSocket: nil,
		spdyOnly:  c.withoutWebSocket(t, &refused),
	}
	each := func(t *testing.T, test func(t *testing.T, client *Client)) {
		for transport, change := range transports {
			t.Run(transport, func(t *testing.T) { test(t, c.open(t, change)) })
		}
	}

	t.Run("resolve", func(t *testing.T) { testClusterResolve(t, c) })
	t.Run("dial", func(t *testing.T) {
		each(t, func(t *testing.T, client *Client) { testClusterDial(t, c, client) })
		assert.Positive(t, refused, "the proxy was asked for WebSocket and refused")
	})
	t.Run("fifty connections leave nothing behind", func(t *testing.T) {
		each(t, func(t *testing.T, client *Client) { testClusterLeaks(t, c, client) })
	})
	t.Run("a stopped server", func(t *testing.T) {
		each(t, func(t *testing.T, client *Client) { testClusterStopped(t, c, client) })
	})
	t.Run("a server that does not listen on localhost", func(t *testing.T) {
		each(t, func(t *testing.T, client *Client) { testClusterBound(t, c, client) })
	})
	t.Run("a server that is down", func(t *testing.T) { testClusterDown(t, c) })
	t.Run("the connection is cut", func(t *testing.T) { testClusterCut(t, c) })
	t.Run("the API server falls silent", func(t *testing.T) { testClusterSilent(t, c) })
	t.Run("no permission", func(t *testing.T) { testClusterDenied(t, c) })
	t.Run("exec", func(t *testing.T) {
		each(t, func(t *testing.T, client *Client) { testClusterExec(t, c, client) })
	})
	t.Run("lease", func(t *testing.T) { testClusterLease(t, c) })
}

func testClusterResolve(t *testing.T, c *cluster) {
	client := c.open(t, nil)
	d, instance := c.resolve(t, client, "plain")
	assert.Equal(t, "plain-0", instance.Name)
	assert.Equal(t, "Running", instance.Pod.Phase)
	assert.True(t, instance.Pod.ContainerRunning)
	assert.NotEmpty(t, instance.Host)
	assert.Empty(t, d.Gaps)
	password, err := client.Password(t.Context(), d)
	require.NoError(t, err)
	assert.Equal(t, "s3cret", password)
	eventually(t, func() bool {
		d, err := client.Resolve(t.Context(), operation.Target{Pod: "plain-0"})
		require.NoError(t, err)
		return len(d.Services) == 1 && len(d.Services[0].Endpoints) == 1 && d.Services[0].Endpoints[0] == "plain-0"
	}, "the Service leads to the pod")

	releases, err := client.CompleteReleases(t.Context(), operation.Target{})
	require.NoError(t, err)
	assert.Equal(t, []string{"bound", "plain"}, releases)
	_, err = client.Resolve(t.Context(), operation.Target{})
	require.ErrorContains(t, err, "--release bound, --release plain")
}

func testClusterDial(t *testing.T, c *cluster, client *Client) {
	d, instance := c.resolve(t, client, "plain")
	conn, err := client.Dial(t.Context(), d, instance)
	require.NoError(t, err)
	assert.Equal(t, "+PONG", command(t, conn, "PING"))
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	_, err = conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, conn.SetReadDeadline(time.Time{}))
	assert.Equal(t, "+OK", command(t, conn, "QUIT"))
	_, err = conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "the server hung up")
	require.NoError(t, conn.Close())
}

func testClusterLeaks(t *testing.T, c *cluster, client *Client) {
	d, instance := c.resolve(t, client, "plain")
	watch, err := client.Dial(t.Context(), d, instance)
	require.NoError(t, err)
	defer func() { require.NoError(t, watch.Close()) }()
	clients := func() string {
		_, count, _ := strings.Cut(command(t, watch, "EVAL \"local _, n = redis.call('INFO','clients'):gsub('', ''); "+
			"return redis.call('INFO','clients'):match('connected_clients:(%%d+)')\" 0"), "\r\n")
		return count
	}
	eventually(t, func() bool { return clients() == "1" }, "the clients of other tests are gone")
	var group sync.WaitGroup
	for range 5 {
		group.Go(func() {
			for range 10 {
				conn, err := client.Dial(t.Context(), d, instance)
				if assert.NoError(t, err) {
					assert.NoError(t, conn.Close())
				}
			}
		})
	}
	group.Wait()
	eventually(t, func() bool { return clients() == "1" }, "the server's connections end")
	tunnel, err := client.tunnel(d, instance)
	require.NoError(t, err)
	assert.Equal(t, 1, tunnel.link.users)
}

// stopped stops redis-server while test runs.
func stopped(t *testing.T, c *cluster, client *Client, test func()) {
	t.Helper()
	c.run(t, client, "plain", "kill -STOP $(cat /tmp/pid)")
	defer c.run(t, client, "plain", "kill -CONT $(cat /tmp/pid)")
	test()
}

func testClusterStopped(t *testing.T, c *cluster, client *Client) {
	d, instance := c.resolve(t, client, "plain")
	before, err := client.Dial(t.Context(), d, instance)
	require.NoError(t, err)
	defer func() { require.NoError(t, before.Close()) }()
	stopped(t, c, client, func() {
		fresh := c.open(t, nil) // has to find out the route
		after, err := fresh.Dial(t.Context(), d, instance)
		require.NoError(t, err)
		defer func() { require.NoError(t, after.Close()) }()
		for _, conn := range []net.Conn{before, after} {
			require.NoError(t, conn.SetDeadline(time.Now().Add(200*time.Millisecond)))
			_, err = io.WriteString(conn, "PING\r\n")
			require.NoError(t, err)
			_, err = conn.Read(make([]byte, 1))
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		}
	})
	require.NoError(t, before.SetDeadline(time.Time{}))
	reply := make([]byte, 7)
	_, err = io.ReadFull(before, reply)
	require.NoError(t, err, "the answer comes when the server goes on")
	assert.Equal(t, "+PONG\r\n", string(reply))
}

func testClusterBound(t *testing.T, c *cluster, client *Client) {
	d, instance := c.resolve(t, client, "bound")
	conn, err := client.Dial(t.Context(), d, instance)
	require.NoError(t, err)
	assert.Equal(t, instance.Host+":6379 in "+c.namespace+"/bound-0", conn.RemoteAddr().String())
	assert.Equal(t, "+PONG", command(t, conn, "PING"))
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	_, err = conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, conn.SetReadDeadline(time.Time{}))

	// 8 MiB each way.
	command(t, conn, "SETRANGE big %d x", 8<<20-1)
	_, err = io.WriteString(conn, "GET big\r\n")
	require.NoError(t, err)
	header := fmt.Sprintf("$%d\r\n", 8<<20)
	reply := make([]byte, len(header)+8<<20+2)
	_, err = io.ReadFull(conn, reply)
	require.NoError(t, err)
	assert.Equal(t, header, string(reply[:len(header)]))
	assert.Equal(t, "x\r\n", string(reply[len(reply)-3:]))

	again, err := client.Dial(t.Context(), d, instance)
	require.NoError(t, err)
	assert.Equal(t, "+OK", command(t, again, "QUIT"))
	_, err = again.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "the server hung up")
	require.NoError(t, again.Close())
	require.NoError(t, conn.Close())
	noRelays(t, c, client)
}

// noRelays waits until no relay runs in the container.
func noRelays(t *testing.T, c *cluster, client *Client) {
	t.Helper()
	var processes string
	assert.Eventually(t, func() bool {
		processes = c.run(t, client, "bound", `for p in /proc/[0-9]*; do tr '\0' ' ' <$p/cmdline; echo; done`)
		return !strings.Contains(processes, "relay ") && !strings.Contains(processes, "cat ")
	}, 20*time.Second, 100*time.Millisecond, "relays leave no process behind")
	if t.Failed() {
		t.Log(processes)
	}
}

func testClusterDown(t *testing.T, c *cluster) {
	client := c.open(t, nil)
	d, instance := c.resolve(t, client, "plain")
	instance.Port = 6380 // where nothing listens, neither on localhost nor on the pod's address
	client = c.open(t, nil)
	_, err := client.Dial(t.Context(), d, instance)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	assert.Equal(t, operation.Failed, operation.KindOf(err))
	var failure *operation.Error
	require.ErrorAs(t, err, &failure)
	assert.Equal(t, "pod "+c.namespace+"/plain-0", failure.Object)
	assert.Contains(t, failure.Next, "kubectl logs --namespace "+c.namespace+" plain-0 redis")
}

func testClusterCut(t *testing.T, c *cluster) {
	for name, action := range map[string]faultproxy.Action{"FIN": faultproxy.FIN, "RST": faultproxy.RST} {
		t.Run(name, func(t *testing.T) {
			direct := c.open(t, nil)
			d, instance := c.resolve(t, direct, "plain")
			proxy := faultproxy.Start(t, c.address(t), faultproxy.Options{ToClient: faultproxy.Faults{Action: action, After: 4 << 20}})
			client := c.open(t, through(proxy.Addr, c, t))
			conn, err := client.Dial(t.Context(), d, instance)
			require.NoError(t, err)
			command(t, conn, "SETRANGE big %d x", 8<<20-1)
			_, err = io.WriteString(conn, "GET big\r\n")
			require.NoError(t, err)
			n, err := io.Copy(io.Discard, conn)
			require.ErrorIs(t, err, ErrConnectionLost)
			assert.Less(t, n, int64(8<<20))
			require.NoError(t, conn.Close())

			proxy.Set(faultproxy.Options{})
			conn, err = client.Dial(t.Context(), d, instance)
			require.NoError(t, err, "the next one dials again")
			assert.Equal(t, "+PONG", command(t, conn, "PING"))
			require.NoError(t, conn.Close())
		})
	}
	t.Run("under a relay", func(t *testing.T) {
		direct := c.open(t, nil)
		d, instance := c.resolve(t, direct, "bound")
		proxy := faultproxy.Start(t, c.address(t), faultproxy.Options{ToClient: faultproxy.Faults{Action: faultproxy.RST, After: 4 << 20}})
		client := c.open(t, through(proxy.Addr, c, t))
		conn, err := client.Dial(t.Context(), d, instance)
		require.NoError(t, err)
		command(t, conn, "SETRANGE big %d x", 8<<20-1)
		_, err = io.WriteString(conn, "GET big\r\n")
		require.NoError(t, err)
		n, err := io.Copy(io.Discard, conn)
		require.Error(t, err)
		assert.Less(t, n, int64(8<<20))
		require.NoError(t, conn.Close())
		noRelays(t, c, direct)
	})
}

func testClusterSilent(t *testing.T, c *cluster) {
	direct := c.open(t, nil)
	d, instance := c.resolve(t, direct, "plain")
	for _, after := range []int64{0, 1500, 6000} { // before TLS, in it, and in the upgrade or after
		t.Run(fmt.Sprintf("after %d bytes", after), func(t *testing.T) {
			proxy := faultproxy.Start(t, c.address(t), faultproxy.Options{ToClient: faultproxy.Faults{Action: faultproxy.Stall, After: after}})
			client := c.open(t, through(proxy.Addr, c, t))
			client.timeout = 2 * time.Second
			begun := time.Now()
			conn, err := client.Dial(t.Context(), d, instance)
			if err == nil { // the upgrade came through; then reading must not hang
				require.NoError(t, conn.SetDeadline(time.Now().Add(200*time.Millisecond)))
				_, err = conn.Read(make([]byte, 1))
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
				require.NoError(t, conn.Close())
			} else {
				assert.Equal(t, operation.TimedOut, operation.KindOf(err), err)
			}
			assert.Less(t, time.Since(begun), 10*time.Second)
		})
	}
}

func testClusterDenied(t *testing.T, c *cluster) {
	blind := c.open(t, c.as(t, "blind"))
	_, err := blind.Resolve(t.Context(), operation.Target{})
	assert.Equal(t, operation.Denied, operation.KindOf(err))
	require.ErrorContains(t, err, "not allowed to list statefulsets in namespace "+c.namespace)

	looker := c.open(t, c.as(t, "looker", canLook...))
	d, instance := c.resolve(t, looker, "plain")
	parts := make([]string, 0, len(d.Gaps))
	for _, gap := range d.Gaps {
		parts = append(parts, gap.Part)
	}
	assert.Equal(t, []string{partServices, partConfig}, parts)
	_, err = looker.Password(t.Context(), d)
	assert.Equal(t, operation.Denied, operation.KindOf(err))
	require.ErrorContains(t, err, "not allowed to get secrets")
	_, err = looker.Dial(t.Context(), d, instance)
	assert.Equal(t, operation.Denied, operation.KindOf(err))
	require.ErrorContains(t, err, "not allowed to create pods/portforward in namespace "+c.namespace)
	err = looker.Exec(t.Context(), c.namespace, "plain-0", "redis", []string{"true"}, nil, io.Discard, nil)
	assert.Equal(t, operation.Denied, operation.KindOf(err))
	require.ErrorContains(t, err, "not allowed to create pods/exec in namespace "+c.namespace)
	_, _, err = looker.Acquire(t.Context(), c.namespace, "plain", Holder(), ttl)
	assert.Equal(t, operation.Denied, operation.KindOf(err))
	require.ErrorContains(t, err, "not allowed to get leases")

	// With create alone, WebSocket (GET) is refused and SPDY (POST) is not.
	forwarder := c.open(t, c.as(t, "forwarder", append([]rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"pods/portforward"}, Verbs: []string{"create"}},
	}, canLook...)...))
	conn, err := forwarder.Dial(t.Context(), d, instance)
	require.NoError(t, err)
	assert.Equal(t, "+PONG", command(t, conn, "PING"))
	require.NoError(t, conn.Close())

	stranger := c.open(t, func(raw *clientcmdapi.Config) {
		for user := range raw.AuthInfos {
			raw.AuthInfos[user] = &clientcmdapi.AuthInfo{Token: "expired"}
		}
	})
	_, err = stranger.Resolve(t.Context(), operation.Target{})
	assert.Equal(t, operation.Denied, operation.KindOf(err))
	require.ErrorContains(t, err, "does not accept the kubeconfig's credentials")
}

func testClusterExec(t *testing.T, c *cluster, client *Client) {
	run := func(stdin io.Reader, stdout, stderr io.Writer, script string) error {
		return client.Exec(t.Context(), c.namespace, "plain-0", "redis", []string{"sh", "-c", script}, stdin, stdout, stderr)
	}
	var stdout, stderr bytes.Buffer
	require.NoError(t, run(strings.NewReader("in"), &stdout, &stderr, "cat; echo oops >&2"))
	assert.Equal(t, "in", stdout.String())
	assert.Equal(t, "oops\n", stderr.String())

	var exit *ExitError
	require.ErrorAs(t, run(nil, nil, nil, "exit 42"), &exit)
	assert.Equal(t, 42, exit.Code)

	stdout.Reset()
	sum := sha256.New()
	require.NoError(t, run(nil, io.MultiWriter(&stdout, sum), nil, "head -c 8388608 /dev/urandom | tee /tmp/random"))
	assert.Equal(t, 8<<20, stdout.Len())
	stdout.Reset()
	require.NoError(t, run(nil, &stdout, nil, "sha256sum </tmp/random"))
	assert.Equal(t, hex.EncodeToString(sum.Sum(nil)), strings.Fields(stdout.String())[0])

	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err := client.Exec(ctx, c.namespace, "plain-0", "redis", []string{"sleep", "5"}, nil, io.Discard, nil)
	assert.Equal(t, operation.TimedOut, operation.KindOf(err))

	err = client.Exec(t.Context(), c.namespace, "plain-7", "redis", []string{"true"}, nil, io.Discard, nil)
	require.ErrorContains(t, err, "pod "+c.namespace+"/plain-7: does not exist")
}

func testClusterLease(t *testing.T, c *cluster) {
	client := c.open(t, nil)
	ctx, release, err := client.Acquire(t.Context(), c.namespace, "plain", "ann@laptop/7", 6*time.Second)
	require.NoError(t, err)
	_, _, err = client.Acquire(t.Context(), c.namespace, "plain", "bob@laptop/8", 6*time.Second)
	assert.Equal(t, operation.Locked, operation.KindOf(err))
	require.ErrorContains(t, err, "held by ann@laptop/7 since ")

	leases := c.admin.CoordinationV1().Leases(c.namespace)
	first, err := leases.Get(t.Context(), "redisctl-plain", metav1.GetOptions{})
	require.NoError(t, err)
	eventually(t, func() bool {
		lease, err := leases.Get(t.Context(), "redisctl-plain", metav1.GetOptions{})
		return err == nil && lease.Spec.RenewTime.After(first.Spec.RenewTime.Time)
	}, "it is renewed")
	require.NoError(t, ctx.Err())
	require.NoError(t, release())
	ctx, release, err = client.Acquire(t.Context(), c.namespace, "plain", "bob@laptop/8", 6*time.Second)
	require.NoError(t, err)

	require.NoError(t, leases.Delete(t.Context(), "redisctl-plain", metav1.DeleteOptions{}))
	<-ctx.Done()
	require.ErrorIs(t, context.Cause(ctx), operation.ErrLeaseLost)
	require.NoError(t, release())
}

// BenchmarkClusterConn reads a 64 MiB value of a real Redis over and over.
func BenchmarkClusterConn(b *testing.B) {
	c := newCluster(b)
	c.install(b, "plain", "")
	c.install(b, "bound", "--bind $POD_IP")
	var refused int
	read := func(client *Client, release string) func(b *testing.B) {
		return func(b *testing.B) {
			d, instance := c.resolve(b, client, release)
			conn, err := client.DialDedicated(b.Context(), d, instance)
			require.NoError(b, err)
			const size = 64 << 20
			command(b, conn, "SETRANGE big %d x", size-1)
			length := int64(len(fmt.Sprintf("$%d\r\n", size)) + size + 2)
			b.SetBytes(length)
			for b.Loop() {
				_, err = io.WriteString(conn, "GET big\r\n")
				require.NoError(b, err)
				_, err := io.CopyN(io.Discard, onlyReader{conn}, length)
				require.NoError(b, err)
			}
			require.NoError(b, conn.Close())
		}
	}
	b.Run("WebSocket/forward", read(c.open(b, nil), "plain"))
	b.Run("WebSocket/relay", read(c.open(b, nil), "bound"))
	b.Run("SPDY/forward", read(c.open(b, c.withoutWebSocket(b, &refused)), "plain"))
	b.Run("SPDY/relay", read(c.open(b, c.withoutWebSocket(b, &refused)), "bound"))
}

// BenchmarkClusterDial opens a connection on a warm link.
func BenchmarkClusterDial(b *testing.B) {
	c := newCluster(b)
	c.install(b, "plain", "")
	client := c.open(b, nil)
	d, instance := c.resolve(b, client, "plain")
	b.Run("cold", func(b *testing.B) {
		for b.Loop() {
			conn, err := client.DialDedicated(b.Context(), d, instance)
			require.NoError(b, err)
			require.NoError(b, conn.Close())
		}
	})
	b.Run("warm", func(b *testing.B) {
		for b.Loop() {
			conn, err := client.Dial(b.Context(), d, instance)
			require.NoError(b, err)
			require.NoError(b, conn.Close())
		}
	})
}
