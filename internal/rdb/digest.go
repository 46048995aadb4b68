package rdb

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"io"
	"math"
	"strconv"
)

// A ValueDigest identifies the contents of a value.
//
// Equal contents have equal digests whatever server wrote them: it does not
// matter how a value is encoded, whether it is compressed, and in which order a
// hash table holds its elements. Only a digest that is not Canonical depends on
// the serialized form.
//
// Not part of the contents are, for streams, what servers before 7.0 do not
// store (the first and the largest deleted ID, the counts of entries ever added
// and read), and the times at which entries were delivered and consumers seen.
//
// Digests come from SHA-256; unordered elements are combined by addition. They
// tell apart what differs by accident. They are no signature: who chooses the
// elements of a set can, with effort, find another one with the same digest.
type ValueDigest struct {
	Sum [16]byte
	// Canonical is false for values of modules, and for packed collections of
	// more than 1 MiB, which no server makes with default settings: two of them
	// with different digests may still hold the same.
	Canonical bool
	// FieldExpiry is when the first field of a hash expires, in ms since 1970; 0 when
	// none does. From then on servers have less of the value than was stored.
	FieldExpiry int64
}

// A DigestVisitor is told what ScanDigests finds, in file order. Nil functions
// are skipped; an error ends the scan and is returned as it is.
type DigestVisitor struct {
	// Wanted tells whether the digest of a key's value is needed. The Entry is
	// as incomplete as for Visitor.Value. Nil wants all.
	Wanted func(*Entry) bool
	// Entry is called for each key that is wanted; the Entry is complete.
	Entry func(*Entry, ValueDigest) error
	// Other is called for each key that is not; the Entry is complete.
	Other func(*Entry) error
	// Function is called for each function library with the digest of its source.
	Function func(ValueDigest) error
}

// ScanDigests is Scan with a digest of each value. It decodes values and checks
// what it decodes. Beside a scan's memory it takes another window, and 2 MiB at
// most for a packed collection.
func ScanDigests(ctx context.Context, r io.Reader, v DigestVisitor, opts Options) (Summary, error) {
	s := newScanner(ctx, r, Visitor{}, opts)
	defer s.crc.stop()
	d := newDigester(ctx, s)
	defer d.abandon()
	s.visitor = Visitor{
		Value: func(e *Entry) (io.Writer, error) {
			if err := d.endFunction(v.Function); err != nil {
				return nil, err
			}
			if v.Wanted != nil && !v.Wanted(e) {
				return nil, nil
			}
			d.begin(e)
			return d, nil
		},
		Entry: func(e *Entry) error {
			if !d.active {
				return v.other(e)
			}
			digest, err := d.end()
			if err == nil && v.Entry != nil {
				err = v.Entry(e, digest)
			}
			return err
		},
		Function: func(e *Entry) (io.Writer, error) {
			if err := d.endFunction(v.Function); err != nil {
				return nil, err
			}
			d.begin(e)
			d.rdbType, d.function = rdbString, true
			return d, nil
		},
	}
	err := s.scan()
	if err == nil {
		err = d.endFunction(v.Function)
	}
	if err == nil {
		err = s.expectEnd()
	}
	return s.finish(), err
}

func (v *DigestVisitor) other(e *Entry) error {
	if v.Other == nil {
		return nil
	}
	return v.Other(e)
}

// A digester decodes one serialized value after the other. It is the writer
// that the scanner writes a value to: in one piece when it is small, otherwise
// in several, which reach the decoder in a goroutine through a pipe.
type digester struct {
	in      input
	scanner *scanner

	active   bool
	function bool // the value is a function library
	rdbType  byte
	offset   int64
	section  string
	large    *largeValue // nil unless the value comes in pieces
	digest   ValueDigest

	hash      hash.Hash // of an element, or of all when they have an order
	write     func([]byte)
	opaque    bool
	unordered bool
	count     uint64
	sums      [4]uint64 // of the elements' digests
	scratch   []byte
	small     [32]byte
	digits    [20]byte
	source    bytes.Reader
}

type largeValue struct {
	pipe *io.PipeWriter
	done chan struct{}
	err  error
}

func newDigester(ctx context.Context, s *scanner) *digester {
	d := &digester{
		in:      input{ctx: ctx, buf: make([]byte, len(s.buf)), unsummed: true},
		scanner: s, hash: sha256.New(),
	}
	d.write = func(b []byte) { _, _ = d.hash.Write(b) } // a hash.Hash does not fail
	return d
}

func (d *digester) begin(e *Entry) {
	d.active, d.function, d.large = true, false, nil
	d.rdbType, d.offset, d.section = e.RDBType, e.Offset, d.scanner.section
	if e.Size != None {
		return
	}
	r, w := io.Pipe()
	large := &largeValue{pipe: w, done: make(chan struct{})}
	d.large = large
	go func() {
		defer close(large.done)
		large.err = d.run(r)
		if large.err == nil {
			_, large.err = io.Copy(io.Discard, r)
		}
		_ = r.CloseWithError(large.err) // never fails; the writer is to see the error
	}()
}

// Write takes the value, or a piece of a large one.
func (d *digester) Write(p []byte) (int, error) {
	if d.large != nil {
		return d.large.pipe.Write(p)
	}
	d.source.Reset(p)
	if err := d.run(&d.source); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (d *digester) end() (ValueDigest, error) {
	d.active = false
	if l := d.large; l != nil {
		_ = l.pipe.Close() // never fails
		<-l.done
		if l.err != nil {
			return ValueDigest{}, l.err
		}
	}
	return d.digest, nil
}

// endFunction reports a function library. The scanner does not tell when it is
// complete, except by going on.
func (d *digester) endFunction(report func(ValueDigest) error) error {
	if !d.active || !d.function {
		return nil
	}
	digest, err := d.end()
	if err == nil && report != nil {
		err = report(digest)
	}
	return err
}

// abandon ends the goroutine of a large value that the scan did not complete.
func (d *digester) abandon() {
	if d.active && d.large != nil {
		_ = d.large.pipe.CloseWithError(io.ErrUnexpectedEOF) // never fails
		<-d.large.done
	}
}

// run computes the digest of the value that src holds.
func (d *digester) run(src io.Reader) error {
	in := &d.in
	in.src, in.err, in.r, in.w, in.base = src, nil, 0, 0, d.offset
	in.section, in.start = d.section, d.offset
	d.hash.Reset()
	d.opaque, d.count, d.sums, d.digest.FieldExpiry = false, 0, [4]uint64{}, 0
	switch kinds[d.rdbType].Type {
	case TypeSet, TypeSortedSet, TypeHash:
		d.unordered = true
	default:
		d.unordered = false
	}
	if err := d.value(d.rdbType); err != nil {
		return err
	}
	if d.unordered {
		d.hash.Reset()
		d.number(d.count)
		for _, s := range d.sums {
			d.number(s)
		}
	}
	d.digest.Canonical = !d.opaque
	copy(d.digest.Sum[:], d.hash.Sum(d.small[:0]))
	return nil
}

// value decodes a value. What is hashed for a type must not depend on the
// encoding; the type itself is not hashed.
func (d *digester) value(op byte) error {
	switch op {
	case rdbString:
		return d.text()
	case rdbList:
		return d.repeat(d.text)
	case rdbSet:
		return d.repeat(func() error { return d.element(d.text()) })
	case rdbHash:
		return d.repeat(func() error {
			if err := d.text(); err != nil {
				return err
			}
			return d.element(d.text())
		})
	case rdbZset, rdbZset2:
		return d.repeat(func() error { return d.member(op) })
	case rdbHashTTL, rdbHashTTLPreGA:
		return d.hashWithTTL(op)
	case rdbListZiplist:
		return d.packed(&ziplist, 0, nil)
	case rdbHashZipmap:
		return d.packed(&zipmap, 2, nil)
	case rdbHashZiplist:
		return d.packed(&ziplist, 2, nil)
	case rdbHashListpack:
		return d.packed(&listpack, 2, nil)
	case rdbSetIntset:
		return d.packed(&intset, 1, nil)
	case rdbSetListpack:
		return d.packed(&listpack, 1, nil)
	case rdbZsetZiplist:
		return d.packed(&ziplist, 2, d.textScore)
	case rdbZsetListpack:
		return d.packed(&listpack, 2, d.textScore)
	case rdbHashListpackEx:
		if err := d.in.skip(8); err != nil { // the earliest expiry of a field
			return err
		}
		return d.packed(&listpack, 3, d.textTime)
	case rdbHashLpExPreGA:
		return d.packed(&listpack, 3, d.textTime)
	case rdbQuicklist, rdbQuicklist2:
		return d.quicklist(op)
	case rdbStream, rdbStream2, rdbStream3:
		return d.stream(op)
	default:
		return d.raw()
	}
}

// raw hashes the serialized form.
func (d *digester) raw() error {
	d.opaque = true
	d.hash.Write([]byte{d.rdbType})
	for {
		d.write(d.in.buf[d.in.r:d.in.w])
		d.in.r = d.in.w
		if d.in.w == len(d.in.buf) {
			d.in.base += int64(d.in.w)
			d.in.r, d.in.w = 0, 0
		}
		if err := d.in.read(); err != nil {
			if err == io.EOF { //nolint:errorlint // the io.Reader contract: the bare io.EOF
				return nil
			}
			return err
		}
	}
}

func (d *digester) number(n uint64) {
	d.write(binary.LittleEndian.AppendUint64(d.small[:0], n))
}

// add hashes a string behind its length, so that two strings in a row can be
// nothing else.
func (d *digester) add(b []byte) {
	d.number(uint64(len(b)))
	d.write(b)
}

// element ends an element, unless err says that it could not be read. Where
// elements have an order, they go into one hash.
func (d *digester) element(err error) error {
	if err != nil || !d.unordered {
		return err
	}
	d.count++
	sum := d.hash.Sum(d.small[:0])
	for i := range d.sums {
		d.sums[i] += binary.LittleEndian.Uint64(sum[8*i:])
	}
	d.hash.Reset()
	return nil
}

// repeat reads a count and calls f as many times.
func (d *digester) repeat(f func() error) error {
	n, err := d.in.length()
	if err != nil {
		return err
	}
	return d.times(n, f)
}

// times calls f n times. It reads a byte at least, so that n cannot lie for long.
func (d *digester) times(n uint64, f func() error) error {
	for range n {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// text hashes a string of any form.
func (d *digester) text() error {
	head, err := d.in.stringHead()
	if err != nil {
		return err
	}
	if head.form == formInt {
		n, err := d.in.integer(head)
		if err != nil {
			return err
		}
		d.add(strconv.AppendInt(d.digits[:0], n, 10))
		return nil
	}
	d.number(head.size)
	return d.body(head, d.write)
}

// body passes the bytes of a string that is no integer to sink.
func (d *digester) body(head stringHead, sink func([]byte)) error {
	switch {
	case head.form == formRaw:
		return d.in.chunks(head.stored, sink)
	case head.size > maxUnpacked || head.stored > uint64(d.in.contiguous()):
		return d.in.lzfStream(head, sink)
	}
	data, err := d.in.take(int(head.stored))
	if err != nil {
		return err
	}
	if err := d.in.checkNow(data, head.size); err != nil {
		return err
	}
	d.scratch = lzfDecode(d.scratch, data, int(head.size))
	sink(d.scratch)
	return nil
}

// member hashes a member of a sorted set and its score.
func (d *digester) member(op byte) error {
	if err := d.text(); err != nil {
		return err
	}
	if op == rdbZset2 {
		bits, err := d.in.uint64()
		d.score(math.Float64frombits(bits))
		return d.element(err)
	}
	const minusInf, plusInf, notANumber = 255, 254, 253
	n, err := d.in.byte()
	switch {
	case err != nil:
	case n == minusInf:
		d.score(math.Inf(-1))
	case n == plusInf:
		d.score(math.Inf(1))
	case n == notANumber:
		d.score(math.NaN())
	default:
		var digits []byte
		if digits, err = d.in.take(int(n)); err == nil {
			d.textScore(digits)
		}
	}
	return d.element(err)
}

// score hashes a score. Packed sorted sets do not keep the sign of a zero.
func (d *digester) score(f float64) {
	if f == 0 {
		f = 0
	}
	d.number(math.Float64bits(f))
}

// textScore hashes a score that is stored as text. Servers write different
// digits for the same number.
func (d *digester) textScore(digits []byte) {
	if f, err := strconv.ParseFloat(string(digits), 64); err == nil {
		d.score(f)
		return
	}
	d.add(digits) // no server reads it either
}

// time hashes the time at which a field expires, in ms since 1970. A field
// without one is hashed like those of hashes that cannot have any.
func (d *digester) time(ms uint64) {
	if ms == 0 {
		return
	}
	d.number(ms)
	if first := d.digest.FieldExpiry; first == 0 || int64(ms) < first {
		d.digest.FieldExpiry = int64(ms)
	}
}

func (d *digester) textTime(digits []byte) {
	if n, err := strconv.ParseUint(string(digits), 10, 64); err == nil {
		d.time(n)
		return
	}
	d.add(digits)
}

// hashWithTTL reads what scanner.hashWithTTL describes. Redis stores times
// relative to the earliest one, plus 1 (rdb.c, rdbSaveObject).
func (d *digester) hashWithTTL(op byte) error {
	valkey := d.scanner.sum.Origin == OriginValkey
	earliest := uint64(1)
	if op == rdbHashTTL {
		var err error
		if earliest, err = d.in.uint64(); err != nil {
			return err
		}
	}
	return d.repeat(func() error {
		var expires uint64
		var err error
		if !valkey {
			if expires, err = d.in.length(); err != nil {
				return err
			}
			if expires != 0 {
				expires += earliest - 1
			}
		}
		for range 2 {
			if err := d.text(); err != nil {
				return err
			}
		}
		if valkey {
			expires, err = d.in.uint64()
			if int64(expires) == None {
				expires = 0
			}
		}
		d.time(expires)
		return d.element(err)
	})
}

// unpack reads a packed collection whole. ok is false when it is too large for
// that; its bytes have then been hashed as they are.
func (d *digester) unpack(p *packing) (all elements, ok bool, err error) {
	at := d.in.offset()
	head, err := d.in.stringHead()
	if err != nil {
		return all, false, err
	}
	problem := "the string is too short"
	switch {
	case head.form == formInt || head.size < uint64(p.head+p.end):
	case head.size > maxUnpacked:
		d.opaque = true
		d.number(head.size)
		return all, false, d.body(head, d.write)
	default:
		b, err := d.whole(head)
		if err != nil {
			return all, false, err
		}
		if _, problem = p.header(b, head.size); problem == "" {
			_, problem = p.entries(b)
		}
		all = newElements(p, b)
	}
	if problem != "" {
		return all, false, d.in.failAt(at, ErrCorrupt, "%s: %s", p.name, problem)
	}
	return all, true, nil
}

// whole returns a string of up to maxUnpacked bytes, valid until the next call
// of any method that reads.
func (d *digester) whole(head stringHead) ([]byte, error) {
	if head.form == formRaw && head.stored <= uint64(d.in.contiguous()) {
		return d.in.take(int(head.stored))
	}
	if head.form == formLZF && head.stored <= uint64(d.in.contiguous()) {
		err := d.body(head, func([]byte) {}) // leaves it in scratch
		return d.scratch, err
	}
	b := make([]byte, 0, head.size)
	err := d.body(head, func(piece []byte) { b = append(b, piece...) })
	return b, err
}

// packed hashes a packed collection. per is how many strings make an element of
// it, 0 when elements have an order; last, if not nil, hashes the last of them.
func (d *digester) packed(p *packing, per int, last func([]byte)) error {
	all, ok, err := d.unpack(p)
	if err != nil {
		return err
	}
	if !ok {
		return d.element(nil) // one that stands for all
	}
	n := 0
	for {
		b, more := all.next()
		if !more {
			break
		}
		n++
		if last != nil && n == per {
			last(b)
		} else {
			d.add(b)
		}
		if n == per {
			n = 0
			_ = d.element(nil) // passes on what it is given
		}
	}
	if n != 0 && per > 0 {
		return d.in.fail(ErrCorrupt, "%s: an incomplete last element", p.name)
	}
	return nil
}

func (d *digester) quicklist(op byte) error {
	const plainNode = 1
	return d.repeat(func() error {
		if op == rdbQuicklist {
			return d.packed(&ziplist, 0, nil)
		}
		container, err := d.in.length()
		if err != nil {
			return err
		}
		if container == plainNode {
			return d.text()
		}
		return d.packed(&listpack, 0, nil)
	})
}
