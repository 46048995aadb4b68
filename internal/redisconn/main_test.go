package redisconn_test

import (
	"context"
	"flag"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/redisctl/redisctl/internal/redisconn"
	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// The tests wait for servers far more than they compute.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// optionsOf returns the Options that reach a test server as its default user.
func optionsOf(s *redisserver.Server) redisconn.Options {
	return redisconn.Options{Name: "server " + s.Addr, Dial: s.Dial, Password: s.Password}
}

func open(t *testing.T, o redisconn.Options) *redisconn.Client {
	t.Helper()
	c := redisconn.Open(o)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// eachVersion runs a test against every prepared version, beside other tests.
func eachVersion(t *testing.T, test func(t *testing.T, version string)) {
	t.Helper()
	t.Parallel()
	redisserver.EachVersion(t, test)
}

// load starts a server of the given version on an RDB file.
func load(t *testing.T, version string, rdb []byte) *redisserver.Server {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "dump.rdb"), rdb, 0o600))
	return redisserver.Start(t, redisserver.Options{Version: version, Dir: dir})
}

// listen starts a fake server that treats every connection with handle. It ends
// with the test.
func listen(t *testing.T, handle func(conn net.Conn)) func(context.Context) (net.Conn, error) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	t.Cleanup(func() { _ = listener.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				handle(conn)
			}()
		}
	}()
	return func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", listener.Addr().String())
	}
}

// soon bounds what must happen promptly, with room for a loaded machine.
const soon = 10 * time.Second
