package redisconn

import (
	"cmp"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore/live"
	"github.com/redisctl/redisctl/internal/rdb"
)

const (
	// replayBatch is how many bytes of commands are handed over at a time.
	replayBatch = 128 << 10
	// batchesAwaited is how many batches of one connection may wait for replies.
	batchesAwaited = 4
	phaseReplay    = "restoring keys"
)

// replay implements live.Replay. It writes the protocol itself: a general client makes
// an object of every command and reply, which takes longer than the server needs.
//
// The caller's goroutine fills batches, two goroutines for each connection send them and
// read the replies. A batch is for one database; connections change theirs when needed.
type replay struct {
	options Options
	judge   func(live.Rejection) error
	ctx     context.Context //nolint:containedctx // the caller's, to tell why a replay ended
	detach  func() bool

	command []byte // RESTORE, or what the server calls it
	batch   *batch // being filled
	pinned  bool   // batches go over the first connection, in order
	shared  chan *batch
	free    chan *batch
	conns   []*replayConn
	running sync.WaitGroup

	halted   chan struct{} // closed when nothing more is to be sent
	halt     func(error)
	err      error // set before halted is closed
	finished bool

	mu      sync.Mutex // for what follows, and calls of judge
	queue   []*batch   // in the order in which they were filled
	settled live.Settled
	failed  bool // the first batch of the queue has a reply that ended the replay
	bytes   atomic.Int64
}

var _ live.Replay = (*replay)(nil)

// batch is a run of commands for one database.
type batch struct {
	db       int
	selects  bool // SELECT goes before it
	buf      []byte
	commands []replayed
	// end is the position behind the last key that it completes.
	end int64

	// What became of it.
	answered           bool
	restored, rejected int64
	failed             bool
}

// replayed is a command whose reply is awaited.
type replayed struct {
	position int64
	// key is where the batch has the key's name; a key that began in another batch is in
	// name.
	key, keyLen int
	name        []byte
	last        bool // it completes the key
}

func (b *batch) nameOf(c replayed) []byte {
	if c.name != nil {
		return c.name
	}
	return b.buf[c.key : c.key+c.keyLen]
}

// OpenReplay implements live.Replayer.
func (c Connector) OpenReplay(
	ctx context.Context, d *operation.Deployment, i operation.Instance, o live.ReplayOptions,
) (live.Replay, error) {
	options, err := c.Options(ctx, d, i)
	if err != nil {
		return nil, err
	}
	r, err := openReplay(ctx, options, o)
	if err != nil {
		return nil, err
	}
	return r, nil
}

func openReplay(ctx context.Context, options Options, o live.ReplayOptions) (*replay, error) {
	options = options.withDefaults()
	o.Stall = cmp.Or(o.Stall, DefaultStallTimeout)
	n := max(1, o.Connections)
	r := &replay{
		options: options, judge: o.Judge, ctx: ctx, command: []byte(options.commandName("RESTORE")),
		shared: make(chan *batch), free: make(chan *batch, n*(batchesAwaited+2)), halted: make(chan struct{}),
		batch: &batch{db: noDB},
	}
	var once sync.Once
	r.halt = func(err error) {
		once.Do(func() {
			r.err = err
			close(r.halted)
		})
	}
	for range n {
		conn, err := openReplayConn(ctx, r, o.Stall)
		if err != nil {
			return nil, errors.Join(err, r.closeConns())
		}
		r.conns = append(r.conns, conn)
	}
	r.detach = context.AfterFunc(ctx, func() { r.halt(options.fail(ctx, phaseReplay, 0, context.Cause(ctx))) })
	for _, conn := range r.conns {
		r.running.Go(conn.write)
		r.running.Go(conn.read)
	}
	return r, nil
}

func (r *replay) closeConns() error {
	var all []error
	for _, c := range r.conns {
		all = append(all, c.conn.Close())
	}
	return errors.Join(all...)
}

// Restore implements live.Replay.
func (r *replay) Restore(k *live.Key, value []byte) error {
	if r.pinned {
		if err := r.unpin(); err != nil {
			return err
		}
	}
	if err := r.room(k.DB); err != nil {
		return err
	}
	b := r.batch
	r.head(b, k)
	b.buf = rdb.AppendDump(b.buf, k.RDBType, k.Version, value)
	r.tail(b, k)
	return nil
}

// room makes sure that the current batch has room for another command on db.
func (r *replay) room(db int) error {
	if b := r.batch; b.db != db && b.db != noDB || len(b.buf) >= replayBatch {
		if err := r.dispatch(); err != nil {
			return err
		}
	}
	r.batch.db = db
	return nil
}

// head appends a RESTORE up to its payload.
func (r *replay) head(b *batch, k *live.Key) {
	words := 4
	if k.Replace {
		words++
	}
	if k.ExpireAt != rdb.None {
		words++
	}
	if k.Idle != rdb.None || k.Freq != rdb.None {
		words += 2
	}
	b.buf = appendCount(b.buf, '*', int64(words))
	b.buf = appendWord(b.buf, r.command)
	b.buf = appendCount(b.buf, '$', int64(len(k.Name)))
	b.commands = append(b.commands, replayed{position: k.Position, key: len(b.buf), keyLen: len(k.Name), last: true})
	b.buf = append(b.buf, k.Name...)
	b.buf = append(b.buf, '\r', '\n')
	b.buf = appendNumber(b.buf, max(0, k.ExpireAt)) // 0: it does not expire
	b.buf = appendCount(b.buf, '$', k.Size+rdb.DumpOverhead)
}

// tail appends what follows the payload.
func (r *replay) tail(b *batch, k *live.Key) {
	b.buf = append(b.buf, '\r', '\n')
	if k.Replace {
		b.buf = append(b.buf, "$7\r\nREPLACE\r\n"...)
	}
	if k.ExpireAt != rdb.None {
		b.buf = append(b.buf, "$6\r\nABSTTL\r\n"...)
	}
	switch {
	case k.Idle != rdb.None:
		b.buf = append(b.buf, "$8\r\nIDLETIME\r\n"...)
		b.buf = appendNumber(b.buf, k.Idle)
	case k.Freq != rdb.None:
		b.buf = append(b.buf, "$4\r\nFREQ\r\n"...)
		b.buf = appendNumber(b.buf, int64(k.Freq))
	}
	b.end = k.Position + 1
}

// Stream implements live.Replay.
func (r *replay) Stream(k *live.Key) (io.WriteCloser, error) {
	if err := r.pin(k.DB); err != nil {
		return nil, err
	}
	r.head(r.batch, k)
	// The reply comes after the last piece: the command is in that one's batch.
	r.batch.commands = r.batch.commands[:0]
	s := &valueStream{replay: r, key: *k}
	s.key.Name = append([]byte(nil), k.Name...)
	s.dump = rdb.NewDumpWriter(pieces{r, k.DB}, k.RDBType, k.Version)
	return s, nil
}

// valueStream is a value that is sent in pieces.
type valueStream struct {
	replay *replay
	key    live.Key
	dump   *rdb.DumpWriter
}

func (s *valueStream) Write(p []byte) (int, error) { return s.dump.Write(p) }

func (s *valueStream) Close() error {
	if err := s.dump.Close(); err != nil {
		return err
	}
	b := s.replay.batch
	s.replay.tail(b, &s.key)
	b.commands = append(b.commands, replayed{position: s.key.Position, name: s.key.Name, last: true})
	return s.replay.unpin()
}

// pieces writes raw bytes of a command into batches.
type pieces struct {
	replay *replay
	db     int
}

func (w pieces) Write(p []byte) (int, error) {
	for n := 0; n < len(p); {
		if err := w.replay.room(w.db); err != nil {
			return n, err
		}
		b := w.replay.batch
		m := min(len(p)-n, max(replayBatch-len(b.buf), 1))
		b.buf = append(b.buf, p[n:n+m]...)
		n += m
	}
	return len(p), nil
}

// Command implements live.Replay.
func (r *replay) Command(k *live.Key, completes bool, words ...[]byte) error {
	if !r.pinned {
		if err := r.pin(k.DB); err != nil {
			return err
		}
	}
	if err := r.room(k.DB); err != nil {
		return err
	}
	b := r.batch
	b.buf = appendCount(b.buf, '*', int64(len(words)))
	b.buf = appendWord(b.buf, []byte(r.options.commandName(string(words[0]))))
	for _, word := range words[1:] {
		b.buf = appendCount(b.buf, '$', int64(len(word)))
		if _, err := (pieces{r, k.DB}).Write(word); err != nil {
			return err
		}
		b = r.batch
		b.buf = append(b.buf, '\r', '\n')
	}
	b.commands = append(b.commands, replayed{position: k.Position, name: append([]byte(nil), k.Name...), last: completes})
	if completes {
		b.end = k.Position + 1
	}
	return nil
}

// pin sends what follows over the first connection, in order.
func (r *replay) pin(db int) error {
	if err := r.dispatch(); err != nil {
		return err
	}
	r.pinned = true
	return r.room(db)
}

func (r *replay) unpin() error {
	err := r.dispatch()
	r.pinned = false
	return err
}

// dispatch hands the current batch over, and takes another one.
func (r *replay) dispatch() error {
	select {
	case <-r.halted:
		return r.err
	default:
	}
	b := r.batch
	if len(b.buf) == 0 {
		return nil
	}
	r.mu.Lock()
	r.queue = append(r.queue, b)
	r.mu.Unlock()
	to := r.shared
	if r.pinned {
		to = r.conns[0].own
	}
	select {
	case to <- b:
	case <-r.halted:
		return r.err
	}
	r.bytes.Add(int64(len(b.buf)))
	select {
	case r.batch = <-r.free:
	default:
		r.batch = &batch{buf: make([]byte, 0, replayBatch+replayBatch/8)}
	}
	r.batch.reset()
	return nil
}

// noDB is the database of a batch without commands.
const noDB = -1

func (b *batch) reset() {
	*b = batch{db: noDB, buf: b.buf[:0], commands: b.commands[:0]}
}

// Finish implements live.Replay.
func (r *replay) Finish() error {
	if r.finished {
		return r.err
	}
	r.finished = true
	err := r.dispatch()
	close(r.shared)
	for _, c := range r.conns {
		close(c.own)
	}
	r.running.Wait()
	r.detach()
	r.halt(err) // so that later calls fail, and r.err is set for good
	_ = r.closeConns()
	return r.err
}

// Settled implements live.Replay.
func (r *replay) Settled() live.Settled {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.settled
	s.Bytes = r.bytes.Load()
	return s
}

// answered notes that all replies of a batch are there, and settles what is complete
// from the beginning on.
func (r *replay) answered(b *batch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b.answered = true
	done := 0
	for _, first := range r.queue {
		if r.failed || !first.answered {
			break
		}
		r.settled.Restored += first.restored
		r.settled.Rejected += first.rejected
		r.settled.Before = max(r.settled.Before, first.end)
		if r.failed = first.failed; r.failed {
			break
		}
		done++
		select {
		case r.free <- first:
		default:
		}
	}
	r.queue = append(r.queue[:0], r.queue[done:]...)
}
