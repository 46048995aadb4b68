package redisconn

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/redis"
)

// Pause is a primary whose writes wait. The pause ends by itself: an operator's
// machine may die.
type Pause struct {
	client        *Client
	replicationID string
	offset        int64
	until         time.Time
	info          redis.Info
	// fence is set for servers before 6.2, see fence.
	fence *fence
}

// End names the end of the primary's history: no client's write will pass it while
// the pause lasts.
func (p *Pause) End() (replicationID string, offset int64) { return p.replicationID, p.offset }

// Observed is what the server said of itself in the moment in which the pause began.
func (p *Pause) Observed() redis.Info { return p.info }

// Until is when the server lets writes through again, by this machine's clock and
// never later than by the server's.
func (p *Pause) Until() time.Time { return p.until }

// PauseWrites stops the writes of an instance for limit (milliseconds count). The
// pause and the offset are one transaction, so that no write comes between them.
//
// From 6.2 on, CLIENT PAUSE WRITE holds back writes only. Before, CLIENT PAUSE
// holds back every command of every client, ours included; a fence is prepared
// first, because nothing could be asked of the server afterwards.
func (c Connector) PauseWrites(
	ctx context.Context, d *operation.Deployment, i operation.Instance, limit time.Duration,
) (*Pause, error) {
	o, err := c.Options(ctx, d, i)
	if err != nil {
		return nil, err
	}
	p := &Pause{client: Open(o)}
	err = p.begin(ctx, limit)
	if err != nil {
		_ = p.Close() // the first error counts
		return nil, err
	}
	return p, nil
}

func (p *Pause) begin(ctx context.Context, limit time.Duration) error {
	// A pause of no length tells whether WRITE is known. In a transaction, servers
	// before 6.2 would count the attempt as a change of their data.
	_, err := p.client.Do(ctx, "CLIENT", "PAUSE", 0, "WRITE")
	var reply *ReplyError
	switch {
	case err == nil:
		return p.start(ctx, limit, "WRITE")
	case errors.As(err, &reply) && reply.Code() == "ERR":
		if p.fence, err = openFence(ctx, p.client.options); err != nil {
			return err
		}
		return p.start(ctx, limit)
	default:
		return err
	}
}

// start runs CLIENT PAUSE and INFO replication in one transaction.
func (p *Pause) start(ctx context.Context, limit time.Duration, mode ...string) error {
	const phase = "CLIENT PAUSE"
	pause := make([]any, 0, 4)
	pause = append(pause, p.client.options.commandName("CLIENT"), "PAUSE", limit.Milliseconds())
	for _, m := range mode {
		pause = append(pause, m)
	}
	until := time.Now().Add(limit)
	replies, err := p.client.transaction(ctx, phase, pause, []any{p.client.options.commandName("INFO")})
	if err != nil {
		return err
	}
	text, _ := replies[1].(string)
	info, err := redis.ParseInfo(text)
	if err != nil {
		return p.client.options.fail(ctx, phase, 0, err)
	}
	state, err := info.Replication()
	if err != nil {
		return p.client.options.fail(ctx, phase, 0, err)
	}
	if state.Role != redis.RolePrimary {
		return p.client.options.fail(ctx, phase, 0, errors.New("the server is not a primary any more"))
	}
	p.replicationID, p.offset, p.until, p.info = state.ID, state.Offset, until, info
	return nil
}

// transaction runs commands between MULTI and EXEC on one connection. The error
// is that of the first command that failed; the others may have run.
func (c *Client) transaction(ctx context.Context, phase string, commands ...[]any) ([]any, error) {
	limited, cancel := context.WithTimeout(ctx, c.options.DialTimeout+c.options.Timeout)
	defer cancel()
	results, err := c.redis.TxPipelined(limited, func(p goredis.Pipeliner) error {
		for _, command := range commands {
			p.Do(limited, command...)
		}
		return nil
	})
	if err != nil {
		return nil, c.options.fail(ctx, phase, c.options.Timeout, err)
	}
	replies := make([]any, len(results))
	for i, r := range results {
		replies[i], err = r.(*goredis.Cmd).Result()
		if err != nil {
			return nil, c.options.fail(ctx, phase, c.options.Timeout, err)
		}
	}
	return replies, nil
}

// Demote makes the server refuse writes for good: it follows host:port. On
// servers before 6.2, which cannot be told so during a pause, a fence refuses the
// writes until Settle. After an error it is not known whether the server obeyed.
func (p *Pause) Demote(ctx context.Context, host string, port int) error {
	if p.fence != nil {
		p.fence.host, p.fence.port = host, port
		return p.fence.raise(ctx)
	}
	_, err := p.client.Do(ctx, "REPLICAOF", host, strconv.Itoa(port))
	return err
}

// Settle drops the clients of the demoted server, which would otherwise stay and
// get READONLY for every write, and ends the pause. Before 6.2 it first waits for
// the end of the pause, and then makes the server follow.
func (p *Pause) Settle(ctx context.Context) error {
	if p.fence != nil {
		return p.fence.settle(ctx, p)
	}
	if _, err := p.client.Do(ctx, "CLIENT", "KILL", "TYPE", "normal"); err != nil {
		return err
	}
	return p.Resume(ctx)
}

// Resume lets writes through again. Servers before 6.2 cannot end a pause early:
// there it only takes the fence down, and Until stays.
func (p *Pause) Resume(ctx context.Context) error {
	if p.fence != nil {
		return p.fence.lower(ctx)
	}
	_, err := p.client.Do(ctx, "CLIENT", "UNPAUSE")
	return err
}

// Close closes the connections; it does not end the pause.
func (p *Pause) Close() error {
	err := p.client.Close()
	if p.fence != nil {
		err = errors.Join(err, p.fence.conn.Close())
	}
	return err
}

// fence makes servers before 6.2 refuse writes during a CLIENT PAUSE, which there
// holds back every client but replicas and monitors. A monitor's connection gets
// commands through (measured on 6.0.16), except REPLICAOF. It can set
// min-replicas-to-write to more than any server has: the writes that waited are
// then refused with NOREPLICAS when the pause ends, instead of being lost.
type fence struct {
	options Options
	conn    net.Conn
	lines   *bufio.Reader
	// before is the setting to go back to.
	before string
	raised bool
	// host and port are what the server shall follow.
	host string
	port int
}

// impossibleReplicas is more replicas than a server ever has.
const impossibleReplicas = "1000000"

const minReplicas = "min-replicas-to-write"

func openFence(ctx context.Context, o Options) (*fence, error) {
	client := Open(o)
	defer func() { _ = client.Close() }() // it was only asked
	values, err := client.ConfigGet(ctx, minReplicas)
	if err != nil {
		return nil, fmt.Errorf("servers before 6.2 need CONFIG for a planned failover: %w", err)
	}
	conn, err := o.connect(ctx)
	if err != nil {
		return nil, err
	}
	f := &fence{options: o, conn: conn, lines: bufio.NewReader(conn), before: values[minReplicas]}
	for _, command := range [][]string{o.authArgs(), {o.commandName("MONITOR")}} {
		if command == nil {
			continue
		}
		if err := f.call(ctx, command...); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	return f, nil
}

// call sends a command on the monitor's connection and waits for +OK among the
// lines that describe what the server runs.
func (f *fence) call(ctx context.Context, args ...string) error {
	deadline := time.Now().Add(f.options.Timeout)
	if end, ok := ctx.Deadline(); ok && end.Before(deadline) {
		deadline = end
	}
	if err := f.conn.SetDeadline(deadline); err != nil {
		return f.options.fail(ctx, args[0], 0, err)
	}
	if _, err := f.conn.Write(encodeCommand(args)); err != nil {
		return f.options.fail(ctx, args[0], f.options.Timeout, err)
	}
	for {
		line, err := f.lines.ReadString('\n')
		if err != nil {
			return f.options.fail(ctx, args[0], f.options.Timeout, err)
		}
		line = strings.TrimRight(line, "\r\n")
		switch {
		case line == "":
		case line[0] == '-':
			return f.options.fail(ctx, args[0], 0, newReplyError(line[1:]))
		case line == "+OK" || line[0] == ':':
			return nil
		}
	}
}

// raise makes the server refuse writes.
func (f *fence) raise(ctx context.Context) error {
	f.raised = true
	return f.call(ctx, f.options.commandName("CONFIG"), "SET", minReplicas, impossibleReplicas)
}

// lower undoes raise.
func (f *fence) lower(ctx context.Context) error {
	if !f.raised {
		return nil
	}
	if err := f.call(ctx, f.options.commandName("CONFIG"), "SET", minReplicas, f.before); err != nil {
		return err
	}
	f.raised = false
	return nil
}

// settle drops the clients, waits for the end of the pause, makes the server
// follow and takes the fence down.
func (f *fence) settle(ctx context.Context, p *Pause) error {
	if err := f.call(ctx, f.options.commandName("CLIENT"), "KILL", "TYPE", "normal"); err != nil {
		return err
	}
	timer := time.NewTimer(time.Until(p.until))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return f.options.fail(ctx, "waiting for the end of the pause", 0, ctx.Err())
	case <-timer.C:
	}
	if _, err := p.client.query(ctx, "REPLICAOF", f.host, strconv.Itoa(f.port)); err != nil {
		return err
	}
	return f.lower(ctx)
}

// Fenced reports whether an instance refuses writes because a process that ended too
// early has left its fence up.
func (c Connector) Fenced(ctx context.Context, d *operation.Deployment, i operation.Instance) (bool, error) {
	server, err := c.Connect(ctx, d, i)
	if err != nil {
		return false, err
	}
	defer func() { _ = server.Close() }() // it was only asked
	values, err := server.ConfigGet(ctx, minReplicas)
	if errors.Is(err, operation.ErrNoCommand) {
		return false, nil // without CONFIG there never was a fence
	}
	return values[minReplicas] == impossibleReplicas, err
}

// LetWrites undoes what a process that ended too early has left on an instance: it
// ends a pause, where the server can (6.2), and takes down a fence, going back to the
// given min-replicas-to-write; empty means 0, the server's default.
func (c Connector) LetWrites(ctx context.Context, d *operation.Deployment, i operation.Instance, before string) error {
	fenced, err := c.Fenced(ctx, d, i)
	if err != nil {
		return err
	}
	server, err := c.Connect(ctx, d, i)
	if err != nil {
		return err
	}
	defer func() { _ = server.Close() }() // everything was said
	if fenced {
		if _, err := server.Do(ctx, "CONFIG", "SET", minReplicas, cmp.Or(before, "0")); err != nil {
			return err
		}
	}
	var reply *ReplyError
	if _, err := server.Do(ctx, "CLIENT", "UNPAUSE"); err != nil && (!errors.As(err, &reply) || reply.Code() != "ERR") {
		return err
	}
	return nil
}

// encodeCommand returns a command in the wire format.
func encodeCommand(args []string) []byte {
	command := fmt.Appendf(nil, "*%d\r\n", len(args))
	for _, arg := range args {
		command = fmt.Appendf(command, "$%d\r\n%s\r\n", len(arg), arg)
	}
	return command
}
