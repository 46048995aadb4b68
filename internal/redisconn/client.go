package redisconn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/redis"
)

// poolSize is how many commands a Client runs at the same time. Operations run
// few; the rest waits.
const poolSize = 4

// Client is a connection to one server: a small pool that is filled on demand.
// It implements operation.Server.
//
// No command is sent twice, except that Info, ConfigGet and Ping are repeated
// once when the connection that they were sent on had been closed meanwhile (by
// CLIENT KILL, a restart, a timeout).
type Client struct {
	options Options
	redis   *goredis.Client
	// life ends with Close, and with it every dial in progress.
	life context.Context
	end  context.CancelFunc
	// running counts calls, which may outlive the cancellation of their context
	// until their reply or time limit comes. mu orders Add before Wait.
	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup

	connects       atomic.Int64 // connections that were opened and authenticated
	passwordUnused atomic.Bool
	oneSection     atomic.Bool // INFO takes one section only (before 7.0)
}

var _ operation.Server = (*Client)(nil)

// Open returns a Client for the server. It does not connect yet; see
// Client.Connect.
func Open(o Options) *Client {
	// go-redis logs to stderr, through a logger that all clients share. Errors are
	// returned as well, so nothing is lost.
	logging.Disable()
	c := &Client{options: o.withDefaults()}
	c.life, c.end = context.WithCancel(context.Background())
	c.redis = goredis.NewClient(&goredis.Options{
		Addr:   c.options.Name, // shown in texts only, Dialer decides
		Dialer: c.dial,
		// The password is not go-redis's business: authenticate treats the
		// answers to AUTH more exactly, and only once per connection.
		OnConnect: c.authenticate,
		// RESP3 would bring push messages and other reply types.
		Protocol:                 2,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		DisableIdentity:          true, // CLIENT SETINFO is unknown before 7.2
		MaxRetries:               -1,
		DialerRetries:            1,
		// connect has its own limit, whose error says more.
		DialTimeout:           c.options.DialTimeout + time.Second,
		ReadTimeout:           c.options.Timeout,
		WriteTimeout:          c.options.Timeout,
		ContextTimeoutEnabled: true,
		PoolSize:              poolSize,
		PoolTimeout:           c.options.DialTimeout + c.options.Timeout,
		PipelinePoolSize:      -1,
	})
	return c
}

// PasswordUnused reports that a password was given but the server has none: it
// lets everybody in. It is known after the first connection.
func (c *Client) PasswordUnused() bool { return c.passwordUnused.Load() }

// Connect opens a connection and authenticates, so that an unreachable server and
// wrong credentials are found early. A server that answers but is LOADING or BUSY
// is connected.
func (c *Client) Connect(ctx context.Context) error {
	_, err := c.do(ctx, "connecting", "PING")
	var reply *ReplyError
	var e *operation.Error
	if errors.As(err, &reply) && !reply.refusesCredentials() && errors.As(err, &e) && e.Phase != phaseAuth {
		return nil // the server's answer to PING
	}
	return err
}

// Info implements operation.Server.
func (c *Client) Info(ctx context.Context, sections ...string) (redis.Info, error) {
	text, err := c.infoText(ctx, sections)
	if err != nil {
		return redis.Info{}, err
	}
	info, err := redis.ParseInfo(text)
	if err != nil {
		return redis.Info{}, c.options.fail(ctx, "INFO", 0, err)
	}
	return info, nil
}

func (c *Client) infoText(ctx context.Context, sections []string) (string, error) {
	if len(sections) > 1 && c.oneSection.Load() {
		var all strings.Builder
		for _, section := range sections {
			text, err := c.infoText(ctx, []string{section})
			if err != nil {
				return "", err
			}
			all.WriteString(text)
		}
		return all.String(), nil
	}
	args := []any{"INFO"}
	for _, section := range sections {
		args = append(args, section)
	}
	reply, err := c.query(ctx, args...)
	var refusal *ReplyError
	if len(sections) > 1 && errors.As(err, &refusal) && strings.HasPrefix(refusal.Text, "ERR syntax error") {
		c.oneSection.Store(true)
		return c.infoText(ctx, sections)
	}
	if err != nil {
		return "", err
	}
	text, ok := reply.(string)
	if !ok {
		return "", c.options.fail(ctx, "INFO", 0, fmt.Errorf("unexpected reply of type %T", reply))
	}
	return text, nil
}

// ConfigGet implements operation.Server.
func (c *Client) ConfigGet(ctx context.Context, pattern string) (map[string]string, error) {
	reply, err := c.query(ctx, "CONFIG", "GET", pattern)
	if err != nil {
		return nil, err
	}
	pairs, ok := reply.([]any)
	if !ok || len(pairs)%2 != 0 {
		return nil, c.options.fail(ctx, "CONFIG GET", 0, fmt.Errorf("unexpected reply of type %T", reply))
	}
	values := make(map[string]string, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		values[fmt.Sprint(pairs[i])] = fmt.Sprint(pairs[i+1])
	}
	return values, nil
}

// Do implements operation.Server.
func (c *Client) Do(ctx context.Context, args ...any) (any, error) {
	return c.do(ctx, phase(args), args...)
}

// Ping implements operation.Server. The time does not include the opening of a
// connection.
func (c *Client) Ping(ctx context.Context) (time.Duration, error) {
	connects := c.connects.Load()
	took, err := c.timePing(ctx)
	if err == nil && connects != c.connects.Load() {
		return c.timePing(ctx)
	}
	return took, err
}

func (c *Client) timePing(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	if _, err := c.query(ctx, "PING"); err != nil {
		return 0, err
	}
	return time.Since(start), nil
}

// Close closes all connections and waits for the calls in progress, which fail at
// once. Closing twice is allowed.
func (c *Client) Close() error {
	c.mu.Lock()
	closed := c.closed
	c.closed = true
	c.mu.Unlock()
	if closed {
		return nil
	}
	c.end()
	err := c.redis.Close()
	c.running.Wait()
	return err
}

// query is do for commands that change nothing: it asks again when a pooled
// connection turned out to be dead.
func (c *Client) query(ctx context.Context, args ...any) (any, error) {
	connects := c.connects.Load()
	reply, err := c.do(ctx, phase(args), args...)
	if err == nil || connects == 0 || connects != c.connects.Load() || !isBroken(err) {
		return reply, err
	}
	return c.do(ctx, phase(args), args...)
}

// isBroken reports whether a call failed for want of a working connection.
func isBroken(err error) bool {
	var reply *ReplyError
	return operation.KindOf(err) == operation.Failed && !errors.As(err, &reply)
}

// phase names a command in errors: its first word, and the second where the first
// is a container of subcommands. Other arguments may be secret.
func phase(args []any) string {
	if len(args) == 0 {
		return ""
	}
	name := strings.ToUpper(fmt.Sprint(args[0]))
	switch name {
	case "ACL", "CLIENT", "CLUSTER", "COMMAND", "CONFIG", "FUNCTION", "LATENCY", "MEMORY", "SCRIPT", "SENTINEL", "SLOWLOG":
		if len(args) > 1 {
			name += " " + strings.ToUpper(fmt.Sprint(args[1]))
		}
	}
	return name
}

// do runs a command and returns its reply, nil for a nil reply.
func (c *Client) do(ctx context.Context, phase string, args ...any) (any, error) {
	if len(args) == 0 {
		return nil, c.options.fail(ctx, phase, 0, errors.New("no command given"))
	}
	translated := append([]any{c.options.commandName(fmt.Sprint(args[0]))}, args[1:]...)
	limit := c.options.Timeout
	var reply any
	err := c.call(ctx, c.options.DialTimeout+limit, func(ctx context.Context) (err error) {
		reply, err = c.redis.Do(ctx, translated...).Result()
		return err
	})
	if errors.Is(err, goredis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, c.options.fail(ctx, phase, limit, err)
	}
	return reply, nil
}

// call runs f, which uses the connections, for so long at most. go-redis minds the
// deadline of a context but not its cancellation, hence the goroutine: when call returns
// the context's error, f lives on until the reply, the time limit or Close.
func (c *Client) call(ctx context.Context, limit time.Duration, f func(ctx context.Context) error) error {
	if err := c.begin(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		defer c.running.Done()
		done <- f(ctx)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *Client) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.running.Add(1)
	return nil
}

// dial is go-redis's Dialer. Its context belongs to the pool and outlives calls.
func (c *Client) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.life, cancel)() //nolint:contextcheck // both contexts end the dial
	conn, err := c.options.connect(ctx)
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// authenticate is go-redis's OnConnect: it runs on each new connection, after
// HELLO 2, whose refusal by servers that want AUTH first go-redis ignores.
func (c *Client) authenticate(ctx context.Context, conn *goredis.Conn) error {
	args := c.options.authArgs()
	if args == nil {
		c.connects.Add(1)
		return nil
	}
	auth := make([]any, len(args))
	for i, arg := range args {
		auth[i] = arg
	}
	err := conn.Do(ctx, auth...).Err()
	var server goredis.Error
	if errors.As(err, &server) && newReplyError(server.Error()).noPasswordConfigured() {
		c.passwordUnused.Store(true)
		err = nil
	}
	if err != nil {
		// go-redis takes one layer of wrapping off what this returns.
		return fmt.Errorf("%w", c.options.fail(ctx, phaseAuth, c.options.Timeout, err))
	}
	c.connects.Add(1)
	return nil
}
