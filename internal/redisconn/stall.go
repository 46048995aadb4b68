package redisconn

import (
	"context"
	"net"
	"sync"
	"time"
)

// stallReader is a connection whose reads fail when no byte comes for a while,
// unless the server is seen to work on the snapshot.
//
// Servers send a newline every second while a snapshot waits or is written to their
// disk. In a diskless one they send nothing between the fork and the first bytes
// of the child, which come when 16 KiB are full (rio.c): a slow child is silent and
// not stalled. Only the server can tell, over another connection.
type stallReader struct {
	ctx   context.Context //nolint:containedctx // the life of the stream, see SnapshotStream
	conn  net.Conn
	limit time.Duration
	// working compares two looks at the server; nil: a silent server is stalled.
	working func(before, now vitalSigns) bool
	look    func(ctx context.Context) (vitalSigns, error)
}

// Read implements io.Reader. It looks at the server after half of the limit and
// after four fifths, so that a stall is told when the limit is over.
func (r *stallReader) Read(p []byte) (int, error) {
	for {
		begun := time.Now()
		n, err := r.readUntil(p, begun.Add(r.limit/2))
		if n > 0 || !isTimeout(err) {
			return n, err
		}
		before, lookErr := r.lookUntil(begun.Add(r.limit * 4 / 5))
		n, err = r.readUntil(p, begun.Add(r.limit*4/5))
		if n > 0 || !isTimeout(err) {
			return n, err
		}
		if lookErr == nil {
			now, err := r.lookUntil(begun.Add(r.limit))
			if err == nil && r.working(before, now) {
				continue
			}
		}
		return r.readUntil(p, begun.Add(r.limit))
	}
}

func (r *stallReader) readUntil(p []byte, deadline time.Time) (int, error) {
	if err := r.conn.SetReadDeadline(deadline); err != nil {
		return 0, err
	}
	return r.conn.Read(p)
}

func (r *stallReader) lookUntil(deadline time.Time) (vitalSigns, error) {
	ctx, cancel := context.WithDeadline(r.ctx, deadline)
	defer cancel()
	return r.look(ctx)
}

// vitalSigns say what a server's child process is doing.
type vitalSigns struct {
	saving bool
	// seconds is how long it has been saving, keys how many it has saved (6.2 and
	// later, counted in steps of 1024).
	seconds, keys int64
}

// vitals looks at a server over a connection of its own, opened when needed.
type vitals struct {
	options Options
	mu      sync.Mutex
	client  *Client
	closed  bool
}

func (v *vitals) look(ctx context.Context) (vitalSigns, error) {
	v.mu.Lock()
	if v.closed {
		v.mu.Unlock()
		return vitalSigns{}, net.ErrClosed
	}
	if v.client == nil {
		v.client = Open(v.options)
	}
	client := v.client
	v.mu.Unlock()
	info, err := client.Info(ctx, "persistence")
	if err != nil {
		return vitalSigns{}, err
	}
	return vitalSigns{
		saving:  info.Bool("rdb_bgsave_in_progress"),
		seconds: info.Int("rdb_current_bgsave_time_sec"),
		keys:    info.Int("current_save_keys_processed"),
	}, nil
}

func (v *vitals) close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.closed = true
	if v.client == nil {
		return nil
	}
	return v.client.Close()
}

// maxPatience is how many times in a row a child that shows no count is believed to
// be busy before its first byte.
const maxPatience = 10

// working reports whether the server's child was seen to get on between two looks.
// Before the first byte of the snapshot a running child is enough: it cannot be
// waiting for us. Later one that does not count keys on may be, because its
// connection to us is stalled.
func (s *SnapshotStream) working(before, now vitalSigns) bool {
	if !before.saving || !now.saving || now.seconds < before.seconds {
		return false
	}
	if now.keys > before.keys {
		return true
	}
	s.patience++
	return s.Form == "" && s.patience <= maxPatience
}
