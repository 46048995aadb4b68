package kube

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
)

// startRelay runs the relay's command line on this machine, with a PATH of the
// given programs only.
func startRelay(t *testing.T, to string, programs ...string) (*exec.Cmd, io.WriteCloser, io.ReadCloser, *bytes.Buffer) {
	t.Helper()
	host, portText, err := net.SplitHostPort(to)
	require.NoError(t, err)
	port, err := strconv.Atoi(portText)
	require.NoError(t, err)
	path := t.TempDir()
	for _, program := range programs {
		found, err := exec.LookPath(program)
		require.NoError(t, err, "the tests need %s", program)
		require.NoError(t, os.Symlink(found, filepath.Join(path, program)))
	}
	command := relayCommand(host, port)
	shell, err := exec.LookPath(command[0])
	require.NoError(t, err)
	relay := exec.CommandContext(t.Context(), shell, command[1:]...)
	relay.Env = []string{"PATH=" + path}
	stderr := &bytes.Buffer{}
	relay.Stderr = stderr
	stdin, err := relay.StdinPipe()
	require.NoError(t, err)
	stdout, err := relay.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, relay.Start())
	return relay, stdin, stdout, stderr
}

// hungUpOn runs a server and tells when its only client's connection is gone:
// when no process holds it any more.
func hungUpOn(t *testing.T, handle func(net.Conn)) (address string, gone <-chan struct{}) {
	t.Helper()
	ended := make(chan struct{})
	return listen(t, func(conn net.Conn) {
		handle(conn)
		silent(conn)
		close(ended)
	}), ended
}

// mustEnd waits for the end of a relay's processes.
func mustEnd(t *testing.T, gone <-chan struct{}) {
	t.Helper()
	if !wait(gone, 10*time.Second) {
		t.Fatal("the relay leaves a process behind")
	}
}

func TestRelayScript(t *testing.T) {
	converse := func(t *testing.T, stdin io.Writer, stdout io.Reader) {
		t.Helper()
		_, err := io.WriteString(stdin, "hello\r\n")
		require.NoError(t, err)
		reply := make([]byte, 7)
		_, err = io.ReadFull(stdout, reply)
		require.NoError(t, err)
		assert.Equal(t, "hello\r\n", string(reply))
	}
	t.Run("the caller hangs up", func(t *testing.T) {
		address, gone := hungUpOn(t, echoRedis)
		relay, stdin, stdout, _ := startRelay(t, address, "bash", "cat")
		converse(t, stdin, stdout)
		require.NoError(t, stdin.Close())
		require.NoError(t, relay.Wait())
		mustEnd(t, gone)
	})
	t.Run("the server hangs up", func(t *testing.T) {
		payload := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
		address, gone := hungUpOn(t, func(conn net.Conn) {
			_, _ = conn.Write(payload)
			_ = conn.(*net.TCPConn).CloseWrite()
		})
		relay, stdin, stdout, _ := startRelay(t, address, "bash", "cat")
		got, err := io.ReadAll(stdout)
		require.NoError(t, err)
		assert.True(t, bytes.Equal(payload, got), "all of %d bytes arrive, got %d", len(payload), len(got))
		require.NoError(t, relay.Wait())
		mustEnd(t, gone)
		require.ErrorIs(t, stdin.Close(), os.ErrClosed)
	})
	t.Run("the main process is killed", func(t *testing.T) {
		address, gone := hungUpOn(t, echoRedis)
		relay, stdin, stdout, _ := startRelay(t, address, "bash", "cat")
		converse(t, stdin, stdout)
		require.NoError(t, relay.Process.Kill())
		require.NoError(t, stdin.Close())
		mustEnd(t, gone)
		require.Error(t, relay.Wait())
	})
	t.Run("nothing listens", func(t *testing.T) {
		relay, _, _, stderr := startRelay(t, "127.0.0.1:1", "bash", "cat")
		var exit *exec.ExitError
		require.ErrorAs(t, relay.Wait(), &exit)
		tunnel := &tunnel{}
		err := tunnel.relayEnding(&ExitError{Code: exit.ExitCode()}, stderr.String())
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
	})
	t.Run("an image with nothing to connect with", func(t *testing.T) {
		relay, _, _, stderr := startRelay(t, "127.0.0.1:1")
		var exit *exec.ExitError
		require.ErrorAs(t, relay.Wait(), &exit)
		tunnel := &tunnel{target: target{container: "redis"}}
		err := tunnel.relayEnding(&ExitError{Code: exit.ExitCode()}, stderr.String())
		require.ErrorContains(t, err, "container redis has neither bash nor nc")
		assert.Equal(t, operation.Failed, operation.KindOf(err))
	})
}

func TestGateKeepsWritersOut(t *testing.T) {
	var to bytes.Buffer
	g := newGate(&to)
	_, err := g.Write([]byte("in"))
	require.NoError(t, err)
	g.shut()
	_, err = g.Write([]byte("out"))
	require.ErrorIs(t, err, io.ErrClosedPipe)
	assert.Equal(t, "in", to.String())
	assert.Nil(t, newGate(nil).writer(), "a stream that is not wanted is not asked for")
}

func TestExecBounds(t *testing.T) {
	client, _ := testClient(t, "http://"+listen(t, silent), 50*time.Millisecond)
	run := func(ctx context.Context) error {
		return client.Exec(ctx, "prod", "redis-0", "redis", []string{"true"}, nil, io.Discard, nil)
	}
	err := run(t.Context())
	assert.Equal(t, operation.TimedOut, operation.KindOf(err))
	require.ErrorContains(t, err, "create pods/exec: no answer within 50ms")

	client.timeout = time.Minute
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	assert.Equal(t, operation.Interrupted, operation.KindOf(run(ctx)))
}

func TestExecDenied(t *testing.T) {
	server := newPodServer(t, "")
	client, _ := testClient(t, server.URL, time.Minute)
	err := client.Exec(t.Context(), "prod", "redis-0", "redis", []string{"true"}, nil, io.Discard, nil)
	assert.Equal(t, operation.Denied, operation.KindOf(err))
	require.ErrorContains(t, err, "not allowed to create pods/exec in namespace prod")
}
