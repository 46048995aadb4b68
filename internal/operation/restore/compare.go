package restore

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/rdb"
)

// Defaults of CompareOptions.
const (
	// DefaultSample is about how many keys are compared where not all are. When one
	// key in a thousand is not as in the backup, a sample of so many misses that in
	// one of 22,000 cases (0.999^10000).
	DefaultSample = 10_000
	// DefaultMaxValue is the size in bytes up to which values are asked for. A server
	// does nothing else while it serializes one, at some 200 MB/s.
	DefaultMaxValue = 64 << 20
)

// CompareOptions say what a server is expected to hold.
type CompareOptions struct {
	// Contents is what the backup holds: the number of keys to choose a sample from,
	// and the size to show progress.
	Contents Contents
	// Sample is about how many keys are compared; 0 for all. Which ones depends on
	// their names and databases only.
	Sample int64
	// Filter tells which keys of the backup were restored. The Entry is complete. Nil
	// admits all.
	Filter func(*rdb.Entry) bool
	// DB tells which database of the server one of the backup has become. Nil for the
	// same.
	DB func(int) int
	// Counts is set when the server held nothing before: then the numbers of keys and
	// of function libraries must be those of the backup.
	Counts bool
	// NoFunctions leaves function libraries out.
	NoFunctions bool
	// EvictedBefore is what evicted_keys was before the restore.
	EvictedBefore int64
	// MaxValue is the size in bytes of the largest value in the backup that is asked
	// for, DefaultMaxValue when 0. Memory for about three of them may be needed.
	MaxValue int64
}

// Comparer compares servers with backups.
type Comparer struct {
	Connector operation.Connector
	Values    Values
	Reporter  operation.Reporter
}

// Compare reads a backup once and compares what an instance holds with it. Equal of the
// result is the verdict; a difference is no error.
//
// It takes memory for some MiB of values, or the largest one (MaxValue). Its reads count
// as accesses to the keys, for evictions by LRU and LFU as well. The instance must have
// finished loading.
//
// A key that expires meanwhile is no difference. Any other change is one: as long as
// clients write, differences are to be expected, and what they mean is the caller's to
// judge.
func (c Comparer) Compare(
	ctx context.Context, b Backup, d *operation.Deployment, i operation.Instance, o CompareOptions,
) (Comparison, error) {
	run := &comparing{
		comparer: c, deployment: d, instance: i, options: o,
		dbs: make(map[int]*DBComparison), functions: make(map[[16]byte]bool),
		result: Comparison{Instance: i.Name, CountsCompared: o.Counts, DBs: []DBComparison{}, Examples: []Example{}},
	}
	if run.options.MaxValue == 0 {
		run.options.MaxValue = DefaultMaxValue
	}
	run.oneIn = 1
	if o.Sample > 0 {
		run.oneIn = max(1, uint64(o.Contents.Summary.Keys/o.Sample))
	}
	if err := run.ask(ctx); err != nil {
		return Comparison{}, err
	}
	contents, err := b.Open(ctx)
	if err != nil {
		return Comparison{}, err
	}
	err = run.read(ctx, contents)
	if closeErr := contents.Close(); err == nil && closeErr != nil {
		err = &unreadableError{closeErr}
	}
	var unreadable *unreadableError
	if errors.As(err, &unreadable) {
		return Comparison{}, b.failed("comparing the server with the backup", unreadable.error)
	}
	if err != nil {
		return Comparison{}, err
	}
	return run.finish(), nil
}

// unreadableError says that it was the backup that could not be read.
type unreadableError struct{ error }

// comparing is a comparison in progress.
type comparing struct {
	comparer   Comparer
	deployment *operation.Deployment
	instance   operation.Instance
	options    CompareOptions
	oneIn      uint64

	// clock is the server's, when it said how many keys it has.
	clock     time.Time
	functions map[[16]byte]bool // of the server
	dbs       map[int]*DBComparison
	sampled   bool // the key that is read
	scratch   []byte
	batch     batch
	batches   chan batch

	mu     sync.Mutex // of what add adds
	result Comparison
}

// ask finds out what the server says of itself. The clock comes after the counts: then
// every key that the server may have dropped before counting has expired.
func (r *comparing) ask(ctx context.Context) error {
	server, err := r.comparer.Connector.Connect(ctx, r.deployment, r.instance)
	if err != nil {
		return err
	}
	defer func() { _ = server.Close() }() // it was only asked
	info, err := server.Info(ctx, "keyspace", "stats")
	if err != nil {
		return err
	}
	for _, db := range info.Keyspace() {
		r.db(db.DB).Found = db.Keys
	}
	r.result.Evicted = info.Int("evicted_keys")
	if before := r.options.EvictedBefore; before <= r.result.Evicted { // else it counts from 0 again
		r.result.Evicted -= before
	}
	if r.clock, err = operation.ServerTime(ctx, server); err != nil || r.options.NoFunctions {
		return err
	}
	return r.serverFunctions(ctx, server)
}

// serverFunctions reads the function libraries that the server has.
func (r *comparing) serverFunctions(ctx context.Context, server operation.Server) error {
	reply, err := server.Do(ctx, "FUNCTION", "DUMP")
	if errors.Is(err, operation.ErrNoCommand) {
		return nil // before 7.0
	}
	payload, isText := reply.(string)
	if err != nil || !isText {
		return err
	}
	var file bytes.Buffer
	a := rdb.NewAssembler(&file)
	if err := cmp.Or(a.Functions([]byte(payload)), a.Close()); err != nil {
		return fmt.Errorf("FUNCTION DUMP of %s: %w", r.instance.Name, err)
	}
	_, err = rdb.ScanDigests(ctx, &file, rdb.DigestVisitor{Function: func(source rdb.ValueDigest) error {
		r.result.FunctionsFound++
		r.functions[source.Sum] = true
		return nil
	}}, rdb.Options{})
	if err != nil {
		return fmt.Errorf("FUNCTION DUMP of %s: %w", r.instance.Name, err)
	}
	return nil
}

func (r *comparing) db(n int) *DBComparison {
	db := r.dbs[n]
	if db == nil {
		db = &DBComparison{DB: n}
		r.dbs[n] = db
	}
	return db
}

// readers is how many connections ask for values: one computes digests while the server
// answers the other.
const readers = 2

// read reads the backup while the readers ask for what it holds. The error is that of
// whoever failed first.
func (r *comparing) read(ctx context.Context, contents io.Reader) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r.batches = make(chan batch)
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() {
			if err := r.compareBatches(ctx); err != nil {
				cancel(err)
			}
		})
	}
	if err := r.scan(ctx, contents); err != nil {
		cancel(err)
	}
	close(r.batches)
	wg.Wait()
	return context.Cause(ctx)
}

func (r *comparing) scan(ctx context.Context, contents io.Reader) error {
	source := NewProgressReader(contents, r.comparer.Reporter, 0, r.options.Contents.Size)
	var sendErr error
	send := func(err error) error {
		sendErr = err
		return err
	}
	_, err := rdb.ScanDigests(ctx, source, rdb.DigestVisitor{
		Wanted: func(e *rdb.Entry) bool {
			r.sampled = r.isSampled(e)
			return r.sampled || e.HasFieldExpiry()
		},
		Entry:    func(e *rdb.Entry, value rdb.ValueDigest) error { return send(r.entry(ctx, e, value)) },
		Other:    func(e *rdb.Entry) error { return send(r.entry(ctx, e, rdb.ValueDigest{})) },
		Function: r.function,
	}, rdb.Options{Now: r.clock})
	if err == nil {
		err = send(r.send(ctx))
	}
	if err == nil || sendErr != nil || ctx.Err() != nil {
		return cmp.Or(sendErr, err)
	}
	return &unreadableError{err}
}

// isSampled decides by the key and its database only.
func (r *comparing) isSampled(e *rdb.Entry) bool {
	if r.oneIn == 1 {
		return true
	}
	r.scratch = append(binary.LittleEndian.AppendUint64(r.scratch[:0], uint64(e.DB)), e.Key...)
	sum := sha256.Sum256(r.scratch)
	return binary.LittleEndian.Uint64(sum[:])%r.oneIn == 0
}

func (r *comparing) function(source rdb.ValueDigest) error {
	if r.options.NoFunctions {
		return nil
	}
	r.result.Functions++
	if !r.functions[source.Sum] {
		r.result.FunctionsMissing++
	}
	return nil
}

// entry counts a key of the backup, and queues it if it is in the sample.
func (r *comparing) entry(ctx context.Context, e *rdb.Entry, value rdb.ValueDigest) error {
	if r.options.Filter != nil && !r.options.Filter(e) {
		return nil
	}
	k := expected{
		Query: Query{LengthOnly: e.Size > r.options.MaxValue, Type: e.Type},
		db:    e.DB, digest: value, expireAt: e.ExpireAt, length: e.Len,
		empty: e.Len == 0 && e.Type != rdb.TypeString && e.Type != rdb.TypeStream,
	}
	if r.options.DB != nil {
		k.db = r.options.DB(e.DB)
	}
	r.result.OfKeys++
	db := r.db(k.db)
	db.Backup++
	if k.mayBeGone(r.clock) {
		db.Expired++
	}
	if !r.sampled {
		return nil
	}
	if int64(len(e.Key)) < e.KeyLen { // it cannot be asked for
		r.add(&Comparison{Keys: 1, NotComparable: 1})
		return nil
	}
	k.Key = bytes.Clone(e.Key)
	return r.queue(ctx, k, e.Size)
}

func (r *comparing) queue(ctx context.Context, k expected, size int64) error {
	if len(r.batch.keys) > 0 && (r.batch.db != k.db || r.batch.size+size > maxBatchBytes || len(r.batch.keys) == maxBatchKeys) {
		if err := r.send(ctx); err != nil {
			return err
		}
	}
	r.batch.db = k.db
	r.batch.keys = append(r.batch.keys, k)
	if !k.LengthOnly {
		r.batch.size += size
	}
	return nil
}

// send hands the batch over to the readers.
func (r *comparing) send(ctx context.Context) error {
	if len(r.batch.keys) == 0 {
		return nil
	}
	select {
	case r.batches <- r.batch:
		r.batch = batch{}
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// add adds the numbers and examples of a part.
func (r *comparing) add(part *Comparison) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := &r.result
	c.Keys += part.Keys
	c.Missing += part.Missing
	c.Different += part.Different
	c.ExpiryDiffers += part.ExpiryDiffers
	c.Expired += part.Expired
	c.NotComparable += part.NotComparable
	c.Examples = append(c.Examples, part.Examples[:min(len(part.Examples), maxExamples-len(c.Examples))]...)
}

func (r *comparing) finish() Comparison {
	for _, db := range r.dbs {
		r.result.DBs = append(r.result.DBs, *db)
	}
	slices.SortFunc(r.result.DBs, func(a, b DBComparison) int { return cmp.Compare(a.DB, b.DB) })
	r.result.judge()
	return r.result
}

// NewProgressReader returns a reader of r that reports how much was read of total bytes,
// of which done were before.
func NewProgressReader(r io.Reader, report operation.Reporter, done, total int64) io.Reader {
	return &progressReader{Reader: r, report: report, done: done, total: total}
}

type progressReader struct {
	io.Reader
	report      operation.Reporter
	done, total int64
}

func (p *progressReader) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	p.done += int64(n)
	p.report.Progress(operation.Progress{Done: p.done, Total: p.total, Unit: "bytes"})
	return n, err
}
