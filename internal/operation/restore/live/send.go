package live

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/rdb/rdbdiff"
)

// sender reads the backup and hands its keys over to the replay. It is the writer that
// the scan writes values to.
type sender struct {
	*restoring
	ctx    context.Context //nolint:containedctx // of one scan
	from   int64           // position from which on keys are sent
	now    int64           // of the server, in ms since 1970
	count  int
	key    Key
	origin rdb.Origin
	// version is the newest payload that the server takes.
	version uint16
	// stream takes a value in pieces; building is the same if commands are made of it.
	stream   io.WriteCloser
	building *rebuilding
}

// send reads the backup and sends what is selected.
func (x *restoring) send(ctx context.Context) error {
	p := x.plan
	file, err := p.backup.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // it was only read, and is compared below
	s := &sender{
		restoring: x, ctx: ctx, from: x.base().Position, origin: p.contents.Summary.Origin,
		version: uint16(min(p.target.Version.RDBVersion(), p.contents.Summary.Version)),
	}
	sum, err := rdb.Scan(ctx, file, rdb.Visitor{Value: s.value, Entry: s.entry}, rdb.Options{})
	if s.building != nil {
		s.building.abandon()
	}
	if err != nil {
		return err
	}
	if sum.Size != p.contents.Size || sum.ComputedCRC != p.contents.Summary.ComputedCRC {
		return operation.Errorf(operation.Corrupt, "%s has changed since it was verified", p.Backup)
	}
	return nil
}

// refreshEvery is after how many keys the clock is looked at.
const refreshEvery = 256

// value decides about a key, and returns where its value goes.
func (s *sender) value(e *rdb.Entry) (io.Writer, error) {
	p := s.plan
	size := e.Size
	if size == rdb.None {
		size = p.survey.large[e.Offset]
	}
	if !p.options.admits(e, size, p.begun) {
		return nil, nil
	}
	if len(p.refused) > 0 && p.refused[e.RDBType] {
		s.result.Unsupported++
		return nil, nil
	}
	if e.Offset < s.from {
		s.result.Expired++ // finish subtracts those that earlier runs have restored
		return nil, nil
	}
	if s.count%refreshEvery == 0 {
		s.now = s.Now().Add(p.skew).UnixMilli()
		if err := s.gate.wait(s.ctx); err != nil {
			return nil, err
		}
	}
	s.count++
	if e.ExpireAt != rdb.None && e.ExpireAt <= s.now {
		s.result.Expired++
		return nil, nil
	}
	if e.Offset+size >= s.horizon.at.Load() {
		if err := s.horizon.await(s.ctx, e.Offset+size); err != nil {
			return nil, err
		}
	}
	return s.open(e, size)
}

func (s *sender) open(e *rdb.Entry, size int64) (io.Writer, error) {
	k := &s.key
	k.DB, k.ExpireAt, k.Idle, k.Freq = s.plan.options.target(e.DB), e.ExpireAt, e.Idle, e.Freq
	k.Name = append(k.Name[:0], e.Key...)
	k.RDBType, k.Size, k.Position = e.RDBType, size, e.Offset
	k.Version = max(s.version, uint16(rdb.FirstVersion(e.RDBType, s.origin)))
	k.Replace = s.plan.options.Replace
	var err error
	switch {
	case s.plan.converted[e.RDBType], size+rdb.DumpOverhead > s.plan.options.MaxPayload && rdb.Rebuildable(e.RDBType):
		s.building = s.rebuild()
		s.stream = s.building
	case e.Size != rdb.None:
		return s, nil
	default:
		s.stream, err = s.replay.Stream(k)
	}
	return s.stream, err
}

// Write takes a whole value.
func (s *sender) Write(value []byte) (int, error) {
	if err := s.replay.Restore(&s.key, value); err != nil {
		return 0, err
	}
	return len(value), nil
}

// entry completes a large value.
func (s *sender) entry(*rdb.Entry) error {
	if s.stream == nil {
		return nil
	}
	err := s.stream.Close()
	s.stream, s.building = nil, nil
	return err
}

// maxExamples is how many keys are named.
const maxExamples = 10

// judge decides about an error reply.
func (x *restoring) judge(refusal Rejection) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if refusal.Code == "BUSYKEY" {
		if x.plan.options.SkipExisting || x.inDoubt(refusal.Position) {
			return nil
		}
		// The server was empty when the restore began: a client has written the key since.
		x.conflicts++
		x.example(fmt.Sprintf("db %d: %s", refusal.DB, rdbdiff.Escape(refusal.Key)))
		return nil
	}
	x.refusal = refusal.Code
	text := refusal.Err.Error()
	var cause *operation.Error
	if errors.As(refusal.Err, &cause) {
		text = cause.Err.Error()
	}
	return &operation.Error{
		Kind: operation.KindOf(refusal.Err), Object: x.plan.Instance, Phase: "restoring keys",
		Err: fmt.Errorf("it refused the key %s in database %d: %s", rdbdiff.Escape(refusal.Key), refusal.DB, text),
	}
}

// inDoubt reports whether an earlier run of this restore may have restored the key.
func (x *restoring) inDoubt(position int64) bool {
	r := x.plan.record
	return r != nil && position >= r.Position && position < r.Horizon
}

// readFunctions returns the payloads for FUNCTION RESTORE.
func readFunctions(ctx context.Context, backup restore.Backup, c restore.Contents) ([]string, error) {
	file, err := backup.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // it was only read
	var payloads []string
	var b *strings.Builder
	var dump *rdb.DumpWriter
	end := func() error {
		if dump == nil {
			return nil
		}
		err := dump.Close()
		payloads = append(payloads, b.String())
		dump = nil
		return err
	}
	done := errors.New("the functions come first")
	_, err = rdb.Scan(ctx, file, rdb.Visitor{
		Function: func(e *rdb.Entry) (io.Writer, error) {
			if err := end(); err != nil {
				return nil, err
			}
			b = new(strings.Builder)
			dump = rdb.NewDumpWriter(b, e.RDBType, uint16(min(c.Summary.Version, rdb.FirstVersion(e.RDBType, rdb.OriginRedis))))
			return dump, nil
		},
		Value: func(*rdb.Entry) (io.Writer, error) {
			return nil, done
		},
	}, rdb.Options{})
	if err != nil && !errors.Is(err, done) {
		return nil, err
	}
	return payloads, end()
}

func isReply(err error, text string) bool { return strings.Contains(err.Error(), text) }
