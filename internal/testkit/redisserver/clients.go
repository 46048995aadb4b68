package redisserver

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/require"
)

const (
	// clientTimeout is how long clients wait for an answer, as impatient as those of
	// applications. What they do not get an answer for counts as not acknowledged.
	clientTimeout = time.Second
	// clientPace is the least time between two writes of one client. It bounds the
	// number of keys, which are all looked up in the end.
	clientPace = 500 * time.Microsecond
)

// Clients keep writing to whichever of several servers is the primary, and remember
// what was acknowledged: their ledger. After any error they look for the primary
// anew, as clients do behind a Service whose endpoints move.
type Clients struct {
	t       testing.TB
	servers []*goredis.Client
	cancel  context.CancelFunc
	all     sync.WaitGroup

	mu      sync.Mutex
	acked   []string
	last    time.Time     // of the latest acknowledgement
	silence time.Duration // the longest one since Silence was called
}

// StartClients starts n clients, which write until Stop or the end of the test, and
// waits for the first writes. One test has one group of clients.
func StartClients(t testing.TB, servers []*Server, n int) *Clients {
	t.Helper()
	addresses := make([]string, len(servers))
	for i, s := range servers {
		require.Nil(t, s.TLS, "clients speak plain TCP")
		addresses[i] = s.Addr
	}
	return StartClientsOf(t, addresses, servers[0].Password, n)
}

// StartClientsOf is StartClients for servers at addresses (host:port), one of which
// may also be a Service's.
func StartClientsOf(t testing.TB, addresses []string, password string, n int) *Clients {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	c := &Clients{t: t, cancel: cancel, last: time.Now()}
	for _, address := range addresses {
		c.servers = append(c.servers, goredis.NewClient(&goredis.Options{
			Addr: address, Password: password, Protocol: 2, DisableIdentity: true, ContextTimeoutEnabled: true,
			DialTimeout: clientTimeout, ReadTimeout: clientTimeout, WriteTimeout: clientTimeout,
			// A retry would hide for how long no server took writes.
			MaxRetries: -1, DialerRetries: 1, PoolSize: 2 * n,
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		}))
	}
	for i := range n {
		c.all.Go(func() { c.write(ctx, strconv.Itoa(i)) })
	}
	t.Cleanup(func() {
		c.Stop()
		for _, s := range c.servers {
			_ = s.Close() // nothing is left to say
		}
	})
	c.AwaitWrites(n)
	return c
}

// write is the life of one client. Each value is written under a key of its own, so
// that none hides the loss of another.
func (c *Clients) write(ctx context.Context, name string) {
	var primary *goredis.Client
	for i := 0; ctx.Err() == nil; i++ {
		if primary == nil {
			primary = c.primary(ctx)
		}
		if primary != nil {
			key := fmt.Sprintf("%s%s:%d", WriterPrefix, name, i)
			if primary.Set(ctx, key, key, 0).Err() == nil {
				c.acknowledged(key)
			} else {
				primary = nil
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(clientPace):
		}
	}
}

// primary asks all servers at once and returns the first that says that it is the
// primary; nil when none does.
func (c *Clients) primary(ctx context.Context) *goredis.Client {
	// One that hangs must not keep the client from another one.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan *goredis.Client, len(c.servers))
	for _, s := range c.servers {
		go func() {
			role, err := s.Do(ctx, "ROLE").Slice()
			if err == nil && len(role) > 0 && role[0] == "master" {
				answers <- s
			} else {
				answers <- nil
			}
		}()
	}
	for range c.servers {
		if s := <-answers; s != nil {
			return s
		}
	}
	return nil
}

func (c *Clients) acknowledged(key string) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.acked = append(c.acked, key)
	c.silence = max(c.silence, now.Sub(c.last))
	c.last = now
}

// Acknowledged returns how many writes were acknowledged so far.
func (c *Clients) Acknowledged() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.acked)
}

// AwaitWrites waits until n more writes are acknowledged, and fails the test when
// that takes too long: no server takes writes.
func (c *Clients) AwaitWrites(n int) {
	c.t.Helper()
	want := c.Acknowledged() + n
	require.Eventually(c.t, func() bool { return c.Acknowledged() >= want }, readyTimeout, time.Millisecond,
		"no server takes writes")
}

// Silence returns the longest time in which no write of any client was acknowledged,
// since the last call.
func (c *Clients) Silence() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	silence := c.silence
	c.silence = 0
	return silence
}

// Stop ends the clients. Stopping twice is allowed.
func (c *Clients) Stop() {
	c.cancel()
	c.all.Wait()
}

// Lost returns the keys of the acknowledged writes that a server does not have,
// after Stop.
func (c *Clients) Lost(ctx context.Context, server *goredis.Client) ([]string, error) {
	const perQuery = 1000
	var lost []string
	for first := 0; first < len(c.acked); first += perQuery {
		keys := c.acked[first:min(first+perQuery, len(c.acked))]
		values, err := server.MGet(ctx, keys...).Result()
		if err != nil {
			return nil, fmt.Errorf("reading what the clients wrote: %w", err)
		}
		if len(values) != len(keys) {
			return nil, errors.New("reading what the clients wrote: wrong number of values")
		}
		for i, key := range keys {
			if values[i] != key {
				lost = append(lost, key)
			}
		}
	}
	return lost, nil
}
