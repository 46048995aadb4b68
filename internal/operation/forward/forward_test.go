package forward_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/forward"
	"github.com/redisctl/redisctl/internal/operation/operationtest"
)

// world is a release of two whose primary moves. Its servers answer every line with their
// name.
type world struct {
	operation.DiscardReporter
	mu      sync.Mutex
	primary string
	refuse  bool
	warned  string
}

// Warn implements operation.Reporter.
func (w *world) Warn(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.warned += fmt.Sprintf(format, args...) + "\n"
}

func (w *world) heard() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.warned
}

func (w *world) set(primary string, refuse bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.primary, w.refuse = primary, refuse
}

// Connect implements operation.Connector.
func (w *world) Connect(ctx context.Context, d *operation.Deployment, i operation.Instance) (operation.Server, error) {
	w.mu.Lock()
	primary := w.primary
	w.mu.Unlock()
	fleet := operationtest.Fleet{"cache-redis-0": operationtest.Replica("10.0.0.11"), "cache-redis-1": operationtest.Replica("10.0.0.10")}
	if primary != "" {
		fleet[primary] = operationtest.Primary()
	}
	return fleet.Connect(ctx, d, i)
}

func (w *world) dial(_ context.Context, _ *operation.Deployment, i operation.Instance) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refuse {
		return nil, errors.New("connection refused")
	}
	near, far := net.Pipe()
	go func() {
		defer func() { _ = far.Close() }()
		for lines := bufio.NewScanner(far); lines.Scan(); {
			if _, err := fmt.Fprintln(far, i.Name); err != nil {
				return
			}
		}
	}()
	return near, nil
}

func serve(t *testing.T, w *world, to forward.Target) string {
	t.Helper()
	f := &forward.Forward{
		Resolve:   func(context.Context) (*operation.Deployment, error) { return operationtest.Deployment(2), nil },
		Connector: w, Dial: w.dial, Target: to, Reporter: w,
		Interval: 5 * time.Millisecond, Timeout: time.Second, Patience: 10 * time.Second,
	}
	_, err := f.Start(t.Context())
	require.NoError(t, err)
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.Serve(ctx, l) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-ended) })
	return l.Addr().String()
}

func connect(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	return c
}

func ask(t *testing.T, c net.Conn) string {
	t.Helper()
	_, err := io.WriteString(c, "who\n")
	require.NoError(t, err)
	answer, err := bufio.NewReader(c).ReadString('\n')
	require.NoError(t, err)
	return answer[:len(answer)-1]
}

// TestFollowsThePrimary: connections to the former primary are closed, new ones go to the
// new one; while nobody is, nothing is closed.
func TestFollowsThePrimary(t *testing.T) {
	w := &world{primary: "cache-redis-0"}
	address := serve(t, w, forward.Target{})
	c := connect(t, address)
	assert.Equal(t, "cache-redis-0", ask(t, c))
	w.set("", false)
	assert.Equal(t, "cache-redis-0", ask(t, c))
	require.Eventually(t, func() bool {
		return strings.Contains(w.heard(), "still go to cache-redis-0; redisctl replication heal")
	},
		10*time.Second, time.Millisecond, "both follow each other")
	w.set("cache-redis-1", false)
	_, err := c.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	assert.Equal(t, "cache-redis-1", ask(t, connect(t, address)))
}

// TestWaitsForARestart: a connection made meanwhile is served afterwards.
func TestWaitsForARestart(t *testing.T) {
	w := &world{primary: "cache-redis-0"}
	address := serve(t, w, forward.Target{Pod: "cache-redis-1"})
	w.set("cache-redis-0", true)
	c := connect(t, address)
	w.set("cache-redis-0", false)
	assert.Equal(t, "cache-redis-1", ask(t, c))
}

// TestHalfClosed: what says that it sends nothing more still gets its answer, and is not
// kept for ever.
func TestHalfClosed(t *testing.T) {
	c := connect(t, serve(t, &world{primary: "cache-redis-0"}, forward.Target{Service: "cache-redis"}))
	_, err := io.WriteString(c, "who\n")
	require.NoError(t, err)
	require.NoError(t, c.(*net.TCPConn).CloseWrite())
	all, err := io.ReadAll(c)
	require.NoError(t, err)
	assert.Equal(t, "cache-redis-0\n", string(all))
}

func TestTargetsThatAreNotThere(t *testing.T) {
	for want, c := range map[string]struct {
		w  *world
		to forward.Target
	}{
		"no instance says that it is the primary": {&world{}, forward.Target{}},
		"there is no such Service":                {&world{primary: "cache-redis-0"}, forward.Target{Service: "x"}},
		"it sends traffic to no pod":              {&world{primary: "cache-redis-0"}, forward.Target{Service: "cache-redis-headless"}},
		"has no instance":                         {&world{primary: "cache-redis-0"}, forward.Target{Pod: "x"}},
	} {
		f := &forward.Forward{
			Resolve:   func(context.Context) (*operation.Deployment, error) { return operationtest.Deployment(2), nil },
			Connector: c.w, Target: c.to, Timeout: time.Second,
		}
		_, err := f.Start(t.Context())
		assert.ErrorContains(t, err, want)
	}
}
