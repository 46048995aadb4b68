package redisconn

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/maintenance"
)

// The bounds of a reply: what is beyond them is not read.
const (
	maxBulk  = 1 << 30 // bytes; servers send 512 MiB at most unless told otherwise
	maxDepth = 64      // of nested arrays; COMMAND DOCS has about ten
)

// Session is one connection, which is kept: what SELECT and MONITOR say of it holds for
// what follows. It implements maintenance.Session. go-redis's replies do not tell a
// status from a string, and its calls do not end with their context.
type Session struct {
	options Options
	conn    net.Conn
	in      *bufio.Reader
	closing sync.Once
}

var _ maintenance.Session = (*Session)(nil)

// OpenSession implements maintenance.Sessions.
func (c Connector) OpenSession(
	ctx context.Context, d *operation.Deployment, i operation.Instance, db int,
) (maintenance.Session, error) {
	o, err := c.Options(ctx, d, i)
	if err != nil {
		return nil, err
	}
	o = o.withDefaults()
	conn, err := o.connect(ctx)
	if err != nil {
		return nil, err
	}
	s := &Session{options: o, conn: conn, in: bufio.NewReaderSize(conn, 64<<10)}
	if err := s.begin(ctx, db); err != nil {
		_ = s.Close() // the first error counts
		return nil, err
	}
	return s, nil
}

// begin authenticates and selects a database.
func (s *Session) begin(ctx context.Context, db int) error {
	if args := s.options.authArgs(); args != nil {
		replies, err := s.exchange(ctx, s.options.Timeout, []string{phaseAuth}, encodeCommand(args))
		if err != nil {
			return err
		}
		var refusal *ReplyError
		if errors.As(replies[0].Err, &refusal) && !refusal.noPasswordConfigured() {
			return s.options.fail(ctx, phaseAuth, 0, refusal)
		}
	}
	if db == 0 {
		return nil
	}
	replies, err := s.Do(ctx, s.options.Timeout, maintenance.Command{"SELECT", strconv.Itoa(db)})
	if err != nil {
		return err
	}
	var refusal *ReplyError
	if errors.As(replies[0].Err, &refusal) && strings.Contains(refusal.Text, "out of range") {
		return operation.Errorf(operation.Usage, "%s has no database %d: %w", s.options.Name, db, refusal)
	}
	return replies[0].Err
}

// Do implements maintenance.Session.
func (s *Session) Do(ctx context.Context, limit time.Duration, commands ...maintenance.Command) ([]maintenance.Reply, error) {
	if len(commands) == 0 {
		return nil, nil
	}
	var out []byte
	phases := make([]string, len(commands))
	for n, command := range commands {
		if len(command) == 0 {
			return nil, s.options.fail(ctx, "", 0, errors.New("no command given"))
		}
		out = append(out, encodeCommand(append([]string{s.options.commandName(command[0])}, command[1:]...))...)
		phases[n] = commandPhase(command)
	}
	return s.exchange(ctx, limit, phases, out)
}

func commandPhase(command maintenance.Command) string {
	args := make([]any, len(command))
	for i, arg := range command {
		args[i] = arg
	}
	return phase(args)
}

// exchange sends out, and reads one reply for each of phases. Writing and reading go on at
// the same time: a server that cannot get rid of its replies stops to read.
func (s *Session) exchange(ctx context.Context, limit time.Duration, phases []string, out []byte) ([]maintenance.Reply, error) {
	stop, err := s.bound(ctx, time.Now().Add(limit))
	if err != nil {
		return nil, s.options.fail(ctx, phases[0], limit, err)
	}
	defer stop()
	written := make(chan error, 1)
	go func() {
		_, err := s.conn.Write(out)
		written <- err
	}()
	replies := make([]maintenance.Reply, 0, len(phases))
	for _, phase := range phases {
		reply, err := s.read(0)
		if err != nil {
			_ = s.Close() // wakes the writer
			<-written     //nolint:errcheck // it has failed with the connection
			return nil, s.options.fail(ctx, phase, limit, eofIsUnexpected(err))
		}
		replies = append(replies, s.classified(ctx, phase, reply))
	}
	if err := <-written; err != nil {
		return nil, s.options.fail(ctx, phases[len(phases)-1], limit, err)
	}
	return replies, nil
}

// Next implements maintenance.Session.
func (s *Session) Next(ctx context.Context) (maintenance.Reply, error) {
	stop, err := s.bound(ctx, time.Time{})
	if err != nil {
		return maintenance.Reply{}, s.options.fail(ctx, "waiting", 0, err)
	}
	defer stop()
	reply, err := s.read(0)
	if err != nil {
		return maintenance.Reply{}, s.options.fail(ctx, "waiting", 0, eofIsUnexpected(err))
	}
	return s.classified(ctx, "waiting", reply), nil
}

// Close implements maintenance.Session.
func (s *Session) Close() (err error) {
	s.closing.Do(func() { err = s.conn.Close() })
	return err
}

// bound ends reads and writes at a deadline, and with ctx.
func (s *Session) bound(ctx context.Context, deadline time.Time) (stop func() bool, err error) {
	if err := s.conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	return context.AfterFunc(ctx, func() { _ = s.Close() }), nil
}

func eofIsUnexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// classified gives an error reply its error.
func (s *Session) classified(ctx context.Context, phase string, reply maintenance.Reply) maintenance.Reply {
	if reply.Kind == maintenance.ErrorReply {
		refusal := newReplyError(reply.Text)
		reply.Text, reply.Err = refusal.Text, s.options.fail(context.WithoutCancel(ctx), phase, 0, refusal)
	}
	return reply
}

// read reads one reply of any kind (RESP2).
func (s *Session) read(depth int) (maintenance.Reply, error) {
	line, err := s.in.ReadSlice('\n')
	if err != nil {
		if !errors.Is(err, bufio.ErrBufferFull) {
			return maintenance.Reply{}, err
		}
		return s.longLine(line)
	}
	if len(line) < 3 || line[len(line)-2] != '\r' {
		return maintenance.Reply{}, protocolErrorf("unexpected reply %.100q", line)
	}
	text := string(line[1 : len(line)-2])
	switch line[0] {
	case '+':
		return maintenance.Reply{Kind: maintenance.Status, Text: text}, nil
	case '-':
		return maintenance.Reply{Kind: maintenance.ErrorReply, Text: text}, nil
	case ':':
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return maintenance.Reply{}, protocolErrorf("unexpected integer %.100q", text)
		}
		return maintenance.Reply{Kind: maintenance.Integer, Int: n}, nil
	case '$':
		return s.readBulk(text)
	case '*':
		return s.readArray(text, depth)
	default:
		return maintenance.Reply{}, protocolErrorf("unexpected reply %.100q", line)
	}
}

// longLine reads a status that is longer than the buffer: MONITOR sends whole commands so.
func (s *Session) longLine(begun []byte) (maintenance.Reply, error) {
	if begun[0] != '+' && begun[0] != '-' {
		return maintenance.Reply{}, protocolErrorf("unexpected reply %.100q", begun)
	}
	kind := maintenance.Status
	if begun[0] == '-' {
		kind = maintenance.ErrorReply
	}
	// Its beginning is enough for whoever shows it: values may be of any size.
	text := string(begun[1:])
	for {
		_, err := s.in.ReadSlice('\n')
		if err == nil {
			return maintenance.Reply{Kind: kind, Text: text}, nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return maintenance.Reply{}, err
		}
	}
}

func (s *Session) readBulk(count string) (maintenance.Reply, error) {
	n, err := strconv.ParseInt(count, 10, 64)
	switch {
	case err != nil || n > maxBulk:
		return maintenance.Reply{}, protocolErrorf("unexpected length %.100q", count)
	case n < 0:
		return maintenance.Reply{}, nil
	}
	// It grows with what arrives: a length is only a claim.
	var text bytes.Buffer
	if _, err := io.CopyN(&text, s.in, n+2); err != nil {
		return maintenance.Reply{}, err
	}
	return maintenance.Reply{Kind: maintenance.Bulk, Text: string(text.Bytes()[:n])}, nil
}

func (s *Session) readArray(count string, depth int) (maintenance.Reply, error) {
	n, err := strconv.ParseInt(count, 10, 64)
	switch {
	case err != nil || depth == maxDepth:
		return maintenance.Reply{}, protocolErrorf("unexpected array %.100q", count)
	case n < 0:
		return maintenance.Reply{}, nil
	}
	reply := maintenance.Reply{Kind: maintenance.Array}
	for range n {
		item, err := s.read(depth + 1)
		if err != nil {
			return maintenance.Reply{}, err
		}
		if item.Kind == maintenance.ErrorReply {
			item.Err = newReplyError(item.Text)
		}
		reply.Items = append(reply.Items, item)
	}
	return reply, nil
}
