package redisconn_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/maintenance"
	"github.com/redisctl/redisctl/internal/redis"
	"github.com/redisctl/redisctl/internal/redisconn"
	"github.com/redisctl/redisctl/internal/testkit/faultproxy"
	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

type dialer = func(context.Context) (net.Conn, error)

// connectorOver reaches whatever dial leads to.
func connectorOver(dial dialer, password string) redisconn.Connector {
	return redisconn.Connector{
		Dial: func(ctx context.Context, _ *operation.Deployment, _ operation.Instance) (net.Conn, error) {
			return dial(ctx)
		},
		Credentials: func(context.Context, *operation.Deployment) (string, string, error) {
			return "", password, nil
		},
		DialTimeout: soon, Timeout: soon,
	}
}

func openSession(t *testing.T, dial dialer, password string) maintenance.Session {
	t.Helper()
	s, err := connectorOver(dial, password).OpenSession(t.Context(), &operation.Deployment{}, operation.Instance{Name: "it"}, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() }) // most tests have closed it
	return s
}

func do(t *testing.T, s maintenance.Session, commands ...maintenance.Command) []maintenance.Reply {
	t.Helper()
	replies, err := s.Do(t.Context(), soon, commands...)
	require.NoError(t, err)
	require.Len(t, replies, len(commands))
	return replies
}

// TestSessionReplies: each kind of reply, in order, and each refusal under its own command.
func TestSessionReplies(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		server := redisserver.Start(t, redisserver.Options{Version: version, Password: "s3cret"})
		s := openSession(t, server.Dial, "s3cret")
		binary := "a\r\n\x00\xff"
		r := do(t, s,
			maintenance.Command{"SET", "k", binary}, maintenance.Command{"GET", "k"}, maintenance.Command{"GET", "none"}, maintenance.Command{"STRLEN", "k"},
			maintenance.Command{"LPUSH", "k", "x"}, maintenance.Command{"MGET", "k", "none"}, maintenance.Command{"NO-SUCH", "s3cret"},
			maintenance.Command{"LRANGE", "none", "0", "-1"}, maintenance.Command{"EVAL", "return {1, {'a', false}}", "0"},
		)
		assert.Equal(t, maintenance.Reply{Kind: maintenance.Status, Text: "OK"}, r[0])
		assert.Equal(t, maintenance.Reply{Kind: maintenance.Bulk, Text: binary}, r[1])
		assert.Equal(t, maintenance.Reply{}, r[2], "nil")
		assert.Equal(t, maintenance.Reply{Kind: maintenance.Integer, Int: 5}, r[3])
		require.ErrorContains(t, r[4].Err, "it: LPUSH: WRONGTYPE")
		assert.Equal(t, []maintenance.Reply{{Kind: maintenance.Bulk, Text: binary}, {}}, r[5].Items)
		require.ErrorContains(t, r[6].Err, "it: NO-SUCH: ERR unknown command")
		require.ErrorIs(t, r[6].Err, operation.ErrNoCommand)
		assert.NotContains(t, r[6].Err.Error()+r[6].Text, "s3cret", "servers quote the arguments of what they do not know")
		assert.Equal(t, maintenance.Reply{Kind: maintenance.Array}, r[7])
		assert.Equal(t, []maintenance.Reply{
			{Kind: maintenance.Integer, Int: 1}, {Kind: maintenance.Array, Items: []maintenance.Reply{{Kind: maintenance.Bulk, Text: "a"}, {}}},
		}, r[8].Items)
		// An error within an array is an item.
		r = do(t, s, maintenance.Command{"MULTI"}, maintenance.Command{"LPUSH", "k", "x"}, maintenance.Command{"EXEC"})
		require.Len(t, r[2].Items, 1)
		require.ErrorContains(t, r[2].Items[0].Err, "WRONGTYPE")
	})
}

// TestSessionKeeps what was said on it: the database, and who it is.
func TestSessionKeeps(t *testing.T) {
	t.Parallel()
	server := redisserver.Start(t, redisserver.Options{Password: "s3cret"})
	instance, d := operation.Instance{Name: "it"}, &operation.Deployment{}
	second, err := connectorOver(server.Dial, "s3cret").OpenSession(t.Context(), d, instance, 2)
	require.NoError(t, err)
	defer func() { _ = second.Close() }()
	do(t, second, maintenance.Command{"SET", "k", "second"})
	value, err := server.NewClient(2).Get(t.Context(), "k").Result()
	require.NoError(t, err)
	assert.Equal(t, "second", value)

	_, err = connectorOver(server.Dial, "s3cret").OpenSession(t.Context(), d, instance, 99)
	assert.Equal(t, operation.Usage, operation.KindOf(err))
	require.ErrorContains(t, err, "has no database 99")
	_, err = connectorOver(server.Dial, "wrong").OpenSession(t.Context(), d, instance, 0)
	assert.Equal(t, operation.Denied, operation.KindOf(err))
	require.ErrorContains(t, err, "authenticating")

	open := redisserver.Start(t, redisserver.Options{})
	assert.Equal(t, "PONG", do(t, openSession(t, open.Dial, "not needed"), maintenance.Command{"PING"})[0].Text)
}

// TestSessionRenames: a command is sent by the name that the deployment gives it.
func TestSessionRenames(t *testing.T) {
	t.Parallel()
	const line = "rename-command GET get-7f3a"
	server := redisserver.Start(t, redisserver.Options{Config: []string{line}})
	config, err := redis.ParseConfig(line)
	require.NoError(t, err)
	s, err := connectorOver(server.Dial, "").OpenSession(t.Context(), &operation.Deployment{Config: config}, operation.Instance{Name: "it"}, 0)
	require.NoError(t, err)
	defer func() { _ = s.Close() }()
	assert.Equal(t, "v", do(t, s, maintenance.Command{"SET", "k", "v"}, maintenance.Command{"GET", "k"})[1].Text)
}

// TestSessionBothWays: a server that cannot get rid of its replies stops to read.
func TestSessionBothWays(t *testing.T) {
	t.Parallel()
	// A command is an array of strings, as a reply may be.
	s := openSession(t, listen(t, func(conn net.Conn) { _, _ = io.Copy(conn, conn) }), "")
	commands := make([]maintenance.Command, 64)
	for n := range commands {
		commands[n] = maintenance.Command{"ECHO", strings.Repeat(string(rune('a'+n%26)), 1<<20)}
	}
	for n, reply := range do(t, s, commands...) {
		require.Equal(t, commands[n][1], reply.Items[1].Text, n)
	}
}

// TestSessionMonitor: what the server sends by itself, also a line that is longer than any
// buffer, of which the beginning is enough; and the end of the context ends the waiting.
func TestSessionMonitor(t *testing.T) {
	t.Parallel()
	server := redisserver.Start(t, redisserver.Options{})
	s := openSession(t, server.Dial, "")
	do(t, s, maintenance.Command{"MONITOR"})
	require.NoError(t, server.Client().Set(t.Context(), "big", strings.Repeat("x", 1<<20), 0).Err())
	require.NoError(t, server.Client().Set(t.Context(), "small", "y", 0).Err())
	seen := func(what string) string {
		for {
			reply, err := s.Next(t.Context())
			require.NoError(t, err)
			if strings.Contains(reply.Text, what) {
				return reply.Text
			}
		}
	}
	assert.Less(t, len(seen(`"big" "xxx`)), 1<<20)
	assert.Contains(t, seen(`"small"`), `"set" "small" "y"`)

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := s.Next(ctx)
		ended <- err
	}()
	cancel()
	select {
	case err := <-ended:
		assert.Equal(t, operation.Interrupted, operation.KindOf(err))
	case <-time.After(soon):
		t.Fatal("Next goes on")
	}
}

// TestSessionFaults: how a connection fails decides what is said, and the session is of no
// use afterwards.
func TestSessionFaults(t *testing.T) {
	t.Parallel()
	server := redisserver.Start(t, redisserver.Options{})
	for name, c := range map[string]struct {
		faults faultproxy.Faults
		kind   operation.Kind
		says   string
	}{
		"silent": {faultproxy.Faults{Action: faultproxy.Stall, After: 3}, operation.TimedOut, "it: ECHO: no answer within 300ms"},
		"cut":    {faultproxy.Faults{Action: faultproxy.RST, After: 3}, operation.Failed, "it: ECHO: "},
		"ended":  {faultproxy.Faults{Action: faultproxy.FIN, After: 3}, operation.Failed, "it: ECHO: unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openSession(t, faultproxy.Start(t, server.Addr, faultproxy.Options{ToClient: c.faults}).Dial, "")
			_, err := s.Do(t.Context(), 300*time.Millisecond, maintenance.Command{"ECHO", "hello"})
			assert.Equal(t, c.kind, operation.KindOf(err))
			require.ErrorContains(t, err, c.says)
			_, err = s.Do(t.Context(), soon, maintenance.Command{"PING"})
			require.Error(t, err, "what would come is the rest of the former reply")
		})
	}
	t.Run("given up", func(t *testing.T) {
		t.Parallel()
		proxy := faultproxy.Start(t, server.Addr, faultproxy.Options{ToClient: faultproxy.Faults{Action: faultproxy.Stall, After: 3}})
		s := openSession(t, proxy.Dial, "")
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-proxy.Fired(); cancel() }()
		begin := time.Now()
		_, err := s.Do(ctx, time.Hour, maintenance.Command{"ECHO", "hello"})
		assert.Equal(t, operation.Interrupted, operation.KindOf(err))
		assert.Less(t, time.Since(begin), soon)
	})
}

// TestSessionNonsense: what no server sends is an error, never a wait or a crash.
func TestSessionNonsense(t *testing.T) {
	t.Parallel()
	for _, reply := range []string{
		"HTTP/1.1 400 Bad Request\r\n\r\n", ":x\r\n", "$2000000000\r\n", "$x\r\n", "*x\r\n", "+no carriage return\n", "\r\n",
		strings.Repeat("*1\r\n", 100), "$" + strings.Repeat("1", 100_000) + "\r\n",
	} {
		t.Run(fmt.Sprintf("%.20q", reply), func(t *testing.T) {
			t.Parallel()
			s := openSession(t, listen(t, func(conn net.Conn) {
				_, _ = io.WriteString(conn, reply)
				_, _ = io.Copy(io.Discard, conn)
			}), "")
			_, err := s.Do(t.Context(), soon, maintenance.Command{"PING"})
			assert.Equal(t, operation.Failed, operation.KindOf(err))
			require.ErrorContains(t, err, "it: PING: unexpected ")
		})
	}
}
