package redisconn

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore/live"
)

// replayConn is one connection of a replay.
type replayConn struct {
	replay  *replay
	conn    net.Conn
	in      *bufio.Reader
	stall   time.Duration
	db      int         // of the connection, as its writer knows it
	own     chan *batch // what must go over this connection
	awaited chan *batch
}

func openReplayConn(ctx context.Context, r *replay, stall time.Duration) (*replayConn, error) {
	conn, err := r.options.connect(ctx)
	if err != nil {
		return nil, err
	}
	c := &replayConn{
		replay: r, conn: conn, stall: stall, own: make(chan *batch), awaited: make(chan *batch, batchesAwaited),
	}
	c.in = bufio.NewReaderSize(limitedReader{conn, stall}, 64<<10)
	args := r.options.authArgs()
	if args == nil {
		return c, nil
	}
	if err := c.authenticate(args); err != nil {
		return nil, errors.Join(r.options.fail(ctx, phaseAuth, stall, err), conn.Close())
	}
	return c, nil
}

func (c *replayConn) authenticate(args []string) error {
	if err := c.send(encodeCommand(args)); err != nil {
		return err
	}
	reply, err := c.reply()
	if err == nil && reply.refusal != nil && !reply.refusal.noPasswordConfigured() {
		return reply.refusal
	}
	return err
}

// limitedReader is a connection whose reads end when nothing comes for some time.
type limitedReader struct {
	conn  net.Conn
	limit time.Duration
}

func (r limitedReader) Read(p []byte) (int, error) {
	if err := r.conn.SetReadDeadline(time.Now().Add(r.limit)); err != nil {
		return 0, err
	}
	return r.conn.Read(p)
}

func (c *replayConn) send(p []byte) error {
	if err := c.conn.SetWriteDeadline(time.Now().Add(c.stall)); err != nil {
		return err
	}
	_, err := c.conn.Write(p)
	return err
}

// write sends batches until there are no more, or the replay is to end.
func (c *replayConn) write() {
	defer close(c.awaited)
	shared, own := c.replay.shared, c.own
	for shared != nil || own != nil {
		var b *batch
		var ok bool
		select {
		case <-c.replay.halted:
			return
		case b, ok = <-shared:
			if !ok {
				shared = nil
			}
		case b, ok = <-own:
			if !ok {
				own = nil
			}
		}
		if ok && !c.sendBatch(b) {
			return
		}
	}
}

func (c *replayConn) sendBatch(b *batch) bool {
	var err error
	b.selects = b.db != c.db
	c.db = b.db
	if b.selects {
		err = c.send(encodeCommand([]string{c.replay.options.commandName("SELECT"), strconv.Itoa(b.db)}))
	}
	if err == nil {
		err = c.send(b.buf)
	}
	if err != nil {
		c.broken(err)
		return false
	}
	c.awaited <- b // from now on it is the reader's
	return true
}

// broken ends the replay because the connection has failed.
func (c *replayConn) broken(err error) {
	r := c.replay
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	e := r.options.fail(context.WithoutCancel(r.ctx), phaseReplay, c.stall, err)
	if e.Kind == operation.TimedOut {
		e.Err = fmt.Errorf("the server has not answered for %s: %w", c.stall, err)
	}
	r.halt(e)
	_ = c.conn.Close() // wakes the other goroutine; closing again does no harm
}

// read reads the replies to what was sent.
func (c *replayConn) read() {
	whole := true
	for b := range c.awaited {
		if !whole {
			continue
		}
		if err := c.replies(b); err != nil {
			whole = false
			c.broken(err)
			continue
		}
		c.replay.answered(b)
	}
}

// replies reads the replies to a batch. Its error is that of the connection.
func (c *replayConn) replies(b *batch) error {
	if b.selects {
		reply, err := c.reply()
		if err != nil {
			return err
		}
		if reply.refusal != nil {
			c.refused(b, replayed{name: []byte{}}, reply.refusal)
		}
	}
	restored := int64(0)
	for _, command := range b.commands {
		reply, err := c.reply()
		if err != nil {
			return err
		}
		refusal := reply.refusal
		if refusal == nil && command.last && reply.zero {
			refusal = &ReplyError{Text: "BUSYKEY Target key name already exists."}
		}
		switch {
		case refusal != nil:
			c.refused(b, command, refusal)
		case command.last:
			restored++
			if !b.failed {
				b.restored++
			}
		}
	}
	c.replay.mu.Lock()
	c.replay.settled.AllRestored += restored
	c.replay.mu.Unlock()
	return nil
}

// refused lets the caller judge about an error reply.
func (c *replayConn) refused(b *batch, command replayed, refusal *ReplyError) {
	r := c.replay
	r.mu.Lock()
	defer r.mu.Unlock()
	if b.failed {
		return
	}
	err := r.judge(live.Rejection{
		Key: b.nameOf(command), DB: b.db, Position: command.position, Code: refusal.Code(),
		Err: r.options.fail(context.WithoutCancel(r.ctx), phaseReplay, 0, refusal),
	})
	if err == nil {
		if command.last {
			b.rejected++
		}
		return
	}
	// What came before is settled, what comes behind is counted, but not settled.
	b.failed, b.end = true, command.position
	r.halt(err)
}

// answer is what a reply comes down to.
type answer struct {
	refusal *ReplyError
	zero    bool // the integer 0
}

// reply reads one reply of any kind (RESP2).
func (c *replayConn) reply() (answer, error) {
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return answer{}, err
	}
	if len(line) < 3 {
		return answer{}, protocolErrorf("unexpected reply %.100q", line)
	}
	text := line[1 : len(line)-2]
	switch line[0] {
	case '+':
		return answer{}, nil
	case '-':
		return answer{refusal: newReplyError(string(text))}, nil
	case ':':
		return answer{zero: string(text) == "0"}, nil
	case '$', '*':
		return answer{}, c.discard(line[0], string(text))
	default:
		return answer{}, protocolErrorf("unexpected reply %.100q", line)
	}
}

// discard skips the rest of a bulk string or an array.
func (c *replayConn) discard(kind byte, count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return protocolErrorf("unexpected length %.100q", count)
	}
	if kind == '$' {
		if n >= 0 {
			_, err = c.in.Discard(n + 2)
		}
		return err
	}
	for range n {
		if _, err := c.reply(); err != nil {
			return err
		}
	}
	return nil
}

// appendCount appends a count behind the byte that says of what: '*' or '$'.
func appendCount(b []byte, kind byte, n int64) []byte {
	b = strconv.AppendInt(append(b, kind), n, 10)
	return append(b, '\r', '\n')
}

func appendWord(b, word []byte) []byte {
	b = appendCount(b, '$', int64(len(word)))
	b = append(b, word...)
	return append(b, '\r', '\n')
}

// appendNumber appends a number as a bulk string.
func appendNumber(b []byte, n int64) []byte {
	var digits [20]byte
	return appendWord(b, strconv.AppendInt(digits[:0], n, 10))
}
