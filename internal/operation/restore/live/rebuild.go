package live

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/rdb"
)

// temporary is the name under which a value is built that is too large to be sent whole:
// nobody sees a half of it. There is one at a time. It is another one for each restore.
func (r *Record) temporary() []byte {
	return fmt.Appendf(nil, "redisctl:restoring:%d", r.Begun.UnixNano())
}

// rebuilding builds one value by commands. It is the writer that the serialized value is
// written to, in pieces.
type rebuilding struct {
	sender *sender
	pipe   *io.PipeWriter
	done   chan struct{}
	err    error
}

// rebuild begins to build the sender's key. The commands are made in a goroutine of their
// own, which works only while Write or Close waits for it.
func (s *sender) rebuild() *rebuilding {
	source, pipe := io.Pipe()
	b := &rebuilding{sender: s, pipe: pipe, done: make(chan struct{})}
	s.result.Rebuilt++
	go func() {
		defer close(b.done)
		b.err = b.commands(source)
		if b.err == nil {
			_, b.err = io.Copy(io.Discard, source)
		}
		_ = source.CloseWithError(b.err) // never fails; the writer is to see the error
	}()
	return b
}

func (b *rebuilding) Write(p []byte) (int, error) { return b.pipe.Write(p) }

// Close gives the value its name.
func (b *rebuilding) Close() error {
	_ = b.pipe.Close() // never fails
	<-b.done
	if b.err != nil {
		return b.err
	}
	s, k := b.sender, &b.sender.key
	name := s.record.temporary()
	if k.ExpireAt != rdb.None {
		if err := s.replay.Command(k, false, []byte("PEXPIREAT"), name, strconv.AppendInt(nil, k.ExpireAt, 10)); err != nil {
			return err
		}
	}
	rename := "RENAMENX"
	if k.Replace {
		rename = "RENAME"
	}
	if err := s.replay.Command(k, true, []byte(rename), name, k.Name); err != nil {
		return err
	}
	return s.replay.Command(k, false, []byte("UNLINK"), name) // if it could not be renamed
}

// abandon ends the goroutine of a value that will not be completed.
func (b *rebuilding) abandon() {
	_ = b.pipe.CloseWithError(io.ErrUnexpectedEOF) // never fails
	<-b.done
}

func (b *rebuilding) commands(source io.Reader) error {
	s, k := b.sender, &b.sender.key
	name := s.record.temporary()
	if err := s.replay.Command(k, false, []byte("UNLINK"), name); err != nil { // of an earlier run
		return err
	}
	return rdb.Commands(s.ctx, source, rdb.CommandOptions{
		Key: name, RDBType: k.RDBType, Origin: s.origin, Target: s.plan.target.Version.RDBVersion(),
	}, func(words ...[]byte) error { return s.replay.Command(k, false, words...) })
}

// tidy removes what an interrupted restore has not completed. The restore may have been
// ended by its context, or by a server that takes no more data.
func (r Restore) tidy(ctx context.Context, d *operation.Deployment, i operation.Instance, record *Record) error {
	if len(record.Databases) == 0 {
		return nil
	}
	const limit = 10 * time.Second
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	replay, err := r.Replayer.OpenReplay(ctx, d, i, ReplayOptions{
		Connections: 1, Stall: limit, Judge: func(refusal Rejection) error { return refusal.Err },
	})
	if err != nil {
		return err
	}
	for _, db := range record.Databases {
		k := &Key{DB: db, Name: record.temporary()}
		if err = replay.Command(k, false, []byte("UNLINK"), k.Name); err != nil {
			break
		}
	}
	return errors.Join(err, replay.Finish())
}
