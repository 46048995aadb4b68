package redisconn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
)

// DefaultStallTimeout is how long a snapshot waits for the next byte. Servers send
// a newline every second while they prepare a snapshot (replicationCron).
const DefaultStallTimeout = 15 * time.Second

// SnapshotOptions say how to take a snapshot.
type SnapshotOptions struct {
	// Diskless asks the server to send the snapshot without writing it to its own
	// disk first. The server complies if its repl-diskless-sync is on (the default
	// since 7.0, not before); see ReadSnapshotSettings. Without Diskless every
	// version writes the snapshot to its disk, whatever repl-diskless-sync says.
	//
	// With Diskless, the server first waits repl-diskless-sync-delay (5 s by
	// default) for further replicas.
	Diskless bool
	// StallTimeout is the longest time without any byte, keep-alives included, in
	// every phase after connecting (0: DefaultStallTimeout). It does not limit
	// how long the server prepares the snapshot as long as it gives signs of life.
	StallTimeout time.Duration
	// Progress, when set, is called in the goroutine of OpenSnapshot.
	Progress func(SnapshotProgress)
}

// SnapshotState is what a server does before the snapshot's first byte.
type SnapshotState string

// The states, in their order.
const (
	// SnapshotRequested: the request was sent.
	SnapshotRequested SnapshotState = "requested"
	// SnapshotPreparing: the server is alive and waits for further replicas or for
	// another child process, forks, or writes the snapshot to its disk. Reported
	// with every keep-alive.
	SnapshotPreparing SnapshotState = "preparing"
	// SnapshotSending: the snapshot itself comes next.
	SnapshotSending SnapshotState = "sending"
)

// SnapshotProgress is how far the server's preparation has come.
type SnapshotProgress struct {
	State SnapshotState
	// Elapsed since the request.
	Elapsed time.Duration
	// Keepalives counts the newlines that the server sent.
	Keepalives int
}

// SnapshotForm is how the end of a snapshot is marked in the stream.
type SnapshotForm string

// The forms.
const (
	// SnapshotEOF: a random mark follows the snapshot ($EOF:<mark>), which the
	// server made without its disk.
	SnapshotEOF SnapshotForm = "eof"
	// SnapshotLength: the length comes first ($<length>); the server wrote the
	// snapshot to its disk.
	SnapshotLength SnapshotForm = "length"
)

// SnapshotStream is an RDB snapshot on its way from a server. Read returns exactly
// the RDB's bytes, and io.EOF only after the last of them: when the mark or the
// length has been reached. A connection that ends before is io.ErrUnexpectedEOF;
// StallTimeout without a byte is an error of kind TimedOut; the end of
// OpenSnapshot's context ends the stream with kind Interrupted or TimedOut.
//
// A complete stream is not a verified one: the caller checks the RDB's structure
// and CRC. The mark of SnapshotEOF in particular is no secret to other replicas,
// and a server uses the same one for every snapshot of its life.
//
// The connection is closed as soon as the snapshot is complete, so that the server
// drops this pseudo-replica. A SnapshotStream is not safe for concurrent use,
// except for Close.
type SnapshotStream struct {
	// ReplicationID and Offset say which moment of which history of writes the
	// snapshot shows. The ID is empty when PSYNC is renamed, disabled or not
	// allowed; then the RDB's own fields repl-id and repl-offset tell.
	ReplicationID string
	Offset        int64
	Form          SnapshotForm
	// Length in bytes; -1 in the form SnapshotEOF.
	Length int64
	// RDBOnly is set when the server knows that it need not buffer the writes that
	// follow the snapshot (7.0+). Other servers buffer them until the stream is
	// complete, within their client-output-buffer-limit for replicas.
	RDBOnly bool
	// PasswordUnused is as Client.PasswordUnused.
	PasswordUnused bool
	// Preparation is the time from the request to the snapshot's first byte.
	Preparation time.Duration
	// Keepalives counts the newlines that the server sent meanwhile.
	Keepalives int

	options  Options
	snapshot SnapshotOptions
	ctx      context.Context // the caller's, to tell why a read failed
	detach   func() bool     // from ctx
	conn     net.Conn
	release  func() error // closes conn once
	started  time.Time

	payload payload
	vitals  *vitals
	// patience counts how often a silent child was believed to be busy.
	patience int
}

// OpenSnapshot asks a server for a snapshot over the replication protocol and
// returns when it begins to arrive. ctx governs the whole stream. The caller
// closes it.
//
// The server may be a primary or a replica in sync. Until the snapshot is complete
// the server shows the connection as a replica with port 0. The first replica of a
// primary's life, also this one, gives the primary a new replication ID and a
// replication backlog. The user needs the rights `+psync +sync +replconf`.
//
// Besides the kinds that SnapshotStream names, errors are of kind Denied, or Failed
// with a *ReplyError that says why the server refuses: NOMASTERLINK (a replica
// without its primary), LOADING, ....
func OpenSnapshot(ctx context.Context, o Options, so SnapshotOptions) (*SnapshotStream, error) {
	o = o.withDefaults()
	so.StallTimeout = cmp.Or(so.StallTimeout, DefaultStallTimeout)
	conn, err := o.connect(ctx)
	if err != nil {
		return nil, err
	}
	s := &SnapshotStream{options: o, snapshot: so, ctx: ctx, conn: conn, release: sync.OnceValue(conn.Close)}
	s.vitals = &vitals{options: o}
	s.payload.source = &stallReader{ctx: ctx, conn: conn, limit: so.StallTimeout, working: s.working, look: s.vitals.look}
	s.payload.buf = make([]byte, bufferSize)
	s.detach = context.AfterFunc(ctx, func() { _ = s.release() })
	if err := s.open(); err != nil {
		_ = s.Close() // the connection is useless either way
		return nil, err
	}
	return s, nil
}

// Received returns how many bytes of the snapshot have arrived.
func (s *SnapshotStream) Received() int64 { return s.payload.received }

// Read implements io.Reader.
func (s *SnapshotStream) Read(p []byte) (int, error) {
	n, err := s.payload.Read(p)
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, io.EOF):
		_ = s.Close() // everything has arrived
		return n, io.EOF
	default:
		return n, s.fail("reading the snapshot", err)
	}
}

// Close ends the stream, also while Read waits in another goroutine.
func (s *SnapshotStream) Close() error {
	s.detach()
	return errors.Join(s.release(), s.vitals.close())
}

// fail classifies an error of the connection or the protocol.
func (s *SnapshotStream) fail(phase string, err error) error {
	e := s.options.fail(s.ctx, phase, s.snapshot.StallTimeout, err)
	var reply *ReplyError
	switch {
	case s.ctx.Err() != nil || errors.As(e, &reply):
	case isTimeout(err):
		e.Kind = operation.TimedOut
		e.Err = fmt.Errorf("no byte for %v%s: %w", s.snapshot.StallTimeout, s.arrived(), err)
	case isProtocol(err):
	default:
		e.Err = fmt.Errorf("the connection ended early%s: %w", s.arrived(), unexpected(err))
	}
	return e
}

// arrived says how much of the snapshot came before a failure.
func (s *SnapshotStream) arrived() string {
	switch s.Form {
	case SnapshotLength:
		return fmt.Sprintf(", %d of %d bytes received", s.payload.received, s.Length)
	case SnapshotEOF:
		return fmt.Sprintf(", %d bytes received", s.payload.received)
	default:
		return ""
	}
}

// unexpected makes every premature end match io.ErrUnexpectedEOF.
func unexpected(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	return fmt.Errorf("%w (%w)", io.ErrUnexpectedEOF, err)
}

func (s *SnapshotStream) open() error {
	if err := s.authenticate(); err != nil {
		return s.fail(phaseAuth, err)
	}
	const phase = "asking for a snapshot"
	if err := s.negotiate(); err != nil {
		return s.fail(phase, err)
	}
	s.started = time.Now()
	if err := s.request(); err != nil {
		return s.fail(phase, err)
	}
	s.Preparation = time.Since(s.started)
	s.progress(SnapshotSending)
	return nil
}

func (s *SnapshotStream) authenticate() error {
	args := s.options.authArgs()
	if args == nil {
		return nil
	}
	_, err := s.call(args...)
	var reply *ReplyError
	if errors.As(err, &reply) && reply.noPasswordConfigured() {
		s.PasswordUnused = true
		return nil
	}
	return err
}

// negotiate announces what this client can do. What a server does not know, it
// does without, except for the wish to spare its disk.
func (s *SnapshotStream) negotiate() error {
	if s.snapshot.Diskless {
		if _, err := s.call(s.options.commandName("REPLCONF"), "capa", "eof"); err != nil {
			return s.needsReplconf(err)
		}
	}
	_, err := s.call(s.options.commandName("REPLCONF"), "rdb-only", "1")
	var reply *ReplyError
	if errors.As(err, &reply) && !reply.refusesCredentials() {
		return nil
	}
	s.RDBOnly = err == nil
	return err
}

// needsReplconf explains why a snapshot that spares the disk cannot be had.
func (s *SnapshotStream) needsReplconf(err error) error {
	var reply *ReplyError
	if !errors.As(err, &reply) || reply.refusesCredentials() {
		return err
	}
	e := s.options.fail(s.ctx, "asking for a snapshot that does not use the server's disk", 0, err)
	e.Next = "allow the user to run REPLCONF"
	if errors.Is(err, operation.ErrNoCommand) {
		e.Kind, e.Next = operation.Unsupported, ""
	}
	return e
}

// request sends PSYNC, or SYNC to a server that does not have PSYNC for us, and
// reads up to the snapshot's first byte.
func (s *SnapshotStream) request() error {
	header, err := s.psync()
	var reply *ReplyError
	if errors.As(err, &reply) && (errors.Is(err, operation.ErrNoCommand) || reply.Code() == "NOPERM") {
		header, err = s.call(s.options.commandName("SYNC"))
	}
	if errors.As(err, &reply) && reply.Code() == "NOPERM" {
		e := s.options.fail(s.ctx, "asking for a snapshot", 0, err)
		e.Next = "allow the user to replicate: +psync +sync +replconf"
		return e
	}
	if err != nil {
		return err
	}
	return s.parseHeader(header)
}

// psync asks for a full resynchronisation and returns the line behind its reply,
// the snapshot's header. A PSYNC that was renamed acts as SYNC, because the server
// compares the word that was sent (replication.c, syncCommand): the header comes
// at once.
func (s *SnapshotStream) psync() (header string, err error) {
	reply, err := s.call(s.options.commandName("PSYNC"), "?", "-1")
	if err != nil || strings.HasPrefix(reply, "$") {
		return reply, err
	}
	words := strings.Fields(reply)
	if len(words) != 3 || words[0] != "+FULLRESYNC" {
		return "", protocolErrorf("unexpected reply to PSYNC: %.100q", reply)
	}
	s.ReplicationID = words[1]
	if s.Offset, err = strconv.ParseInt(words[2], 10, 64); err != nil {
		return "", protocolErrorf("unexpected reply to PSYNC: %.100q", reply)
	}
	return s.readLine()
}

// parseHeader reads "$EOF:<40 bytes>" or "$<length>" (replication.c,
// readSyncBulkPayload).
func (s *SnapshotStream) parseHeader(line string) error {
	text, ok := strings.CutPrefix(line, "$")
	if !ok {
		return protocolErrorf("want a snapshot, got %.100q", line)
	}
	if mark, ok := strings.CutPrefix(text, "EOF:"); ok {
		if len(mark) != markSize {
			return protocolErrorf("the snapshot's end mark has %d bytes, want %d", len(mark), markSize)
		}
		s.Form, s.Length = SnapshotEOF, -1
		s.payload.startMarked(mark)
		return nil
	}
	length, err := strconv.ParseInt(text, 10, 64)
	if err != nil || length <= 0 {
		return protocolErrorf("the snapshot's length is %.100q", text)
	}
	s.Form, s.Length = SnapshotLength, length
	s.payload.startCounted(length)
	return nil
}

// call sends a command and returns the reply, a line with its type byte.
func (s *SnapshotStream) call(args ...string) (string, error) {
	if err := s.conn.SetWriteDeadline(time.Now().Add(s.snapshot.StallTimeout)); err != nil {
		return "", err
	}
	if _, err := s.conn.Write(encodeCommand(args)); err != nil {
		return "", err
	}
	if !s.started.IsZero() {
		s.progress(SnapshotRequested)
	}
	return s.readLine()
}

// readLine returns the next line that is not a keep-alive. An error reply is a
// *ReplyError.
func (s *SnapshotStream) readLine() (string, error) {
	for {
		line, err := s.payload.readLine()
		switch {
		case err != nil:
			return "", err
		case line == "":
			s.Keepalives++
			s.progress(SnapshotPreparing)
		case line[0] == '-':
			return "", newReplyError(line[1:])
		default:
			return line, nil
		}
	}
}

func (s *SnapshotStream) progress(state SnapshotState) {
	if s.snapshot.Progress == nil || s.started.IsZero() {
		return
	}
	s.snapshot.Progress(SnapshotProgress{State: state, Elapsed: time.Since(s.started), Keepalives: s.Keepalives})
}

// SnapshotSettings are a server's settings that decide how a snapshot with
// SnapshotOptions.Diskless is made.
type SnapshotSettings struct {
	// Diskless is repl-diskless-sync. Without it the server writes snapshots to
	// its disk all the same.
	Diskless bool
	// Delay is repl-diskless-sync-delay: how long the server waits before it
	// starts, in whole seconds.
	Delay time.Duration
}

// ReadSnapshotSettings asks for them with CONFIG GET. The error is ConfigGet's.
func ReadSnapshotSettings(ctx context.Context, server operation.Server) (SnapshotSettings, error) {
	values, err := server.ConfigGet(ctx, "repl-diskless-sync*")
	if err != nil {
		return SnapshotSettings{}, err
	}
	delay, err := strconv.Atoi(values["repl-diskless-sync-delay"])
	if err != nil {
		return SnapshotSettings{}, fmt.Errorf("repl-diskless-sync-delay: %w", err)
	}
	return SnapshotSettings{
		Diskless: values["repl-diskless-sync"] == "yes",
		Delay:    time.Duration(delay) * time.Second,
	}, nil
}
