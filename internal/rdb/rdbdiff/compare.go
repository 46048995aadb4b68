package rdbdiff

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/redisctl/redisctl/internal/rdb"
)

// Options tune a comparison. The zero value compares all keys and lists neither
// examples nor prefixes.
type Options struct {
	// Examples is how many keys of each class to list.
	Examples int
	// Prefixes is how many prefixes of keys to list.
	Prefixes int
	// Delimiter ends the parts of keys, ":" when empty.
	Delimiter string
	// Depth is how many parts make a prefix, 1 when 0.
	Depth int
	// SampleOneIn compares about one key in so many, when it is more than 1. Which
	// ones depends on their names only. Both files are still read to their ends.
	SampleOneIn int64
	// Now decides which keys have expired; the time of the call when zero.
	Now time.Time
	// TempDir is where temporary files are made, os.TempDir() when empty. They
	// take 68 bytes and the name of each key of both files, at most.
	TempDir string

	// partBytes is how many bytes of records are compared at a time.
	partBytes int
}

// defaultPartBytes and what else is alive at a time stay below 32 MiB: the buffers
// of two spills (4 MiB) and of two more while a part is split, the index of a part
// (a third of its size), and before that two scans (6 MiB). The garbage collector
// lets the heap grow to twice of that.
const defaultPartBytes = 8 << 20

func (o Options) withDefaults() Options {
	o.Delimiter = cmp.Or(o.Delimiter, ":")
	o.Depth = max(o.Depth, 1)
	o.SampleOneIn = max(o.SampleOneIn, 1)
	o.Examples = max(o.Examples, 0)
	o.Prefixes = max(o.Prefixes, 0)
	o.partBytes = cmp.Or(o.partBytes, defaultPartBytes)
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	return o
}

// A Side is one of the two files.
type Side string

// The two sides.
const (
	A Side = "A"
	B Side = "B"
)

// A SideError is an error of reading one of the files: it wraps what rdb.Scan
// returns.
type SideError struct {
	Side Side
	Err  error
}

func (e *SideError) Error() string { return fmt.Sprintf("%s: %v", e.Side, e.Err) }

// Unwrap returns the error without the side.
func (e *SideError) Unwrap() error { return e.Err }

// Compare reads two RDB files to their ends, both at the same time, and compares
// what they hold. See the package comment for the memory it takes.
//
// A *SideError tells which of the files could not be read, or is not sound: the
// checks are those of rdb.Scan, and no key may come twice. The other one is given
// up at its next read. Any other error is one of temporary files, or that of ctx.
// There is no Difference with an error.
func Compare(ctx context.Context, a, b io.Reader, opts Options) (*Difference, error) {
	c := comparison{opts: opts.withDefaults()}
	c.tally = newTally(c.opts)
	sides := [2]*side{newSide(A, a, c.opts), newSide(B, b, c.opts)}
	defer sides[0].records.close()
	defer sides[1].records.close()
	if err := readBoth(ctx, sides); err != nil {
		return nil, err
	}
	if err := c.join(ctx, sides[0].records, sides[1].records); err != nil {
		return nil, err
	}
	d := &Difference{
		A: sides[0].summary, B: sides[1].summary,
		Complete: c.opts.SampleOneIn == 1, SampleOneIn: c.opts.SampleOneIn,
		Functions: compareFunctions(sides[0].functions, sides[1].functions),
	}
	c.tally.fill(d)
	d.Same = d.Total.Different() == 0 && d.Functions.OnlyInA == 0 && d.Functions.OnlyInB == 0
	return d, nil
}

// maxFunctions bounds the memory for the digests of function libraries.
const maxFunctions = 1 << 16

// A side is a file as it is read.
type side struct {
	name      Side
	source    io.Reader
	opts      Options
	hash      [16]byte // of the current key
	records   *spill
	functions map[[16]byte]bool
	summary   rdb.Summary
}

func newSide(name Side, source io.Reader, opts Options) *side {
	return &side{
		name: name, source: source, opts: opts, records: newSpill(opts.TempDir, 0, new(pool)), functions: make(map[[16]byte]bool),
	}
}

// readBoth ends with the error that came first.
func readBoth(ctx context.Context, sides [2]*side) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, s := range sides {
		wg.Go(func() {
			if err := s.read(ctx); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

func (s *side) read(ctx context.Context) error {
	var spillErr error
	var err error
	s.summary, err = rdb.ScanDigests(ctx, s.source, rdb.DigestVisitor{
		Wanted: func(e *rdb.Entry) bool {
			s.hash = hashKey(e)
			return sampled(s.hash, s.opts.SampleOneIn)
		},
		Entry: func(e *rdb.Entry, value rdb.ValueDigest) error {
			spillErr = s.records.add(&record{
				hash: s.hash, digest: value.Sum, canonical: value.Canonical,
				db: int64(e.DB), expireAt: e.ExpireAt, bytes: e.Size, keyLen: e.KeyLen, kind: e.Type, name: e.Key,
			})
			return spillErr
		},
		Function: func(source rdb.ValueDigest) error {
			s.functions[source.Sum] = true
			if len(s.functions) > maxFunctions {
				return fmt.Errorf("%w: more than %d function libraries", rdb.ErrUnsupported, maxFunctions)
			}
			return nil
		},
	}, rdb.Options{Now: s.opts.Now, KeyLimit: maxName})
	if err == nil || spillErr != nil || ctx.Err() != nil {
		return cmp.Or(spillErr, err)
	}
	return &SideError{s.name, err}
}

func compareFunctions(a, b map[[16]byte]bool) Functions {
	var f Functions
	for sum := range a {
		if b[sum] {
			f.Equal++
		} else {
			f.OnlyInA++
		}
	}
	f.OnlyInB = int64(len(b)) - f.Equal
	return f
}

// A comparison joins the records of both sides.
type comparison struct {
	opts   Options
	tally  *tally
	pages  [2]page
	memory []byte // of the records of both pages
	a, b   record // that are being compared
}

// A page is what one side has of a part, sorted.
type page struct {
	records []byte
	order   []position
}

// A position is where a record is in a page. The hash saves looking there while
// sorting.
type position struct {
	hash [16]byte
	at   int
}

func (p *page) record(i int) record { return parseRecord(p.records[p.order[i].at:]) }

// maxLevel is the byte of the hash from which on a part is not split: so many
// keys with 64 equal bits are but one key.
const maxLevel = 8

// join compares the spills part by part. Parts that are too large are split
// first.
func (c *comparison) join(ctx context.Context, a, b *spill) error {
	for i := range fanOut {
		if err := ctx.Err(); err != nil {
			return err
		}
		join := c.joinPart
		if a.parts[i].size+b.parts[i].size > c.opts.partBytes {
			join = c.joinSplit
		}
		if err := join(ctx, a, b, i); err != nil {
			return err
		}
	}
	return nil
}

func (c *comparison) joinSplit(ctx context.Context, a, b *spill, i int) error {
	if a.level == maxLevel {
		return repeated(a, b, i)
	}
	nextA, err := a.split(i)
	if err != nil {
		return err
	}
	defer nextA.close()
	nextB, err := b.split(i)
	if err != nil {
		return err
	}
	defer nextB.close()
	return c.join(ctx, nextA, nextB)
}

func (c *comparison) joinPart(_ context.Context, a, b *spill, i int) error {
	if size := a.parts[i].size + b.parts[i].size; size > cap(c.memory) {
		c.memory = make([]byte, 0, min(2*size, c.opts.partBytes))
	}
	rest := c.memory[:0]
	for n, s := range [...]*spill{a, b} {
		if err := c.pages[n].load(s, i, rest); err != nil {
			return err
		}
		used := len(c.pages[n].records)
		rest = rest[used:used]
	}
	pa, pb := &c.pages[0], &c.pages[1]
	if r := pa.duplicate(); r != nil {
		return twice(A, r)
	}
	if r := pb.duplicate(); r != nil {
		return twice(B, r)
	}
	for x, y := 0, 0; x < len(pa.order) || y < len(pb.order); {
		order := 0
		if x < len(pa.order) {
			c.a = pa.record(x)
		} else {
			order = 1
		}
		if y < len(pb.order) {
			c.b = pb.record(y)
		} else {
			order = -1
		}
		if order == 0 {
			order = c.a.compare(&c.b)
		}
		switch {
		case order < 0:
			c.tally.add(&c.a, nil)
			x++
		case order > 0:
			c.tally.add(nil, &c.b)
			y++
		default:
			c.tally.add(&c.a, &c.b)
			x, y = x+1, y+1
		}
	}
	return nil
}

// load reads a side's part into memory, which has room for it.
func (p *page) load(s *spill, i int, memory []byte) error {
	var err error
	if p.records, err = s.read(i, memory); err != nil {
		return err
	}
	s.drop(i)
	p.order = p.order[:0]
	for at := 0; at < len(p.records); {
		r := parseRecord(p.records[at:])
		p.order = append(p.order, position{r.hash, at})
		at += r.size()
	}
	slices.SortFunc(p.order, func(x, y position) int {
		if n := bytes.Compare(x.hash[:], y.hash[:]); n != 0 {
			return n
		}
		rx, ry := parseRecord(p.records[x.at:]), parseRecord(p.records[y.at:])
		return rx.compare(&ry)
	})
	return nil
}

// duplicate returns a record whose key is there twice.
func (p *page) duplicate() *record {
	for i := 1; i < len(p.order); i++ {
		if p.order[i-1].hash != p.order[i].hash {
			continue
		}
		before, r := p.record(i-1), p.record(i)
		if before.compare(&r) == 0 {
			return &r
		}
	}
	return nil
}

// repeated names the key that a part consists of.
func repeated(a, b *spill, i int) error {
	side, larger := A, a
	if b.parts[i].size > a.parts[i].size {
		side, larger = B, b
	}
	p := larger.parts[i]
	records, err := p.buf, error(nil)
	if len(p.pieces) > 0 {
		records, err = larger.readPiece(p.pieces[0], nil)
	}
	if err != nil {
		return err
	}
	r := parseRecord(records)
	return twice(side, &r)
}

func twice(s Side, r *record) error {
	return &SideError{s, fmt.Errorf("%w: the key %q of database %d comes twice, which no server loads", rdb.ErrCorrupt, r.name, r.db)}
}
