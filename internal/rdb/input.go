package rdb

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

// input is the window through which the file is seen. Bytes enter it by fill,
// are consumed by advancing r, and leave it by slide, which is also where they
// are checksummed and where the bytes of a captured value are handed out: large
// pieces at a time, and never a byte behind the end marker.
type input struct {
	ctx context.Context
	src io.Reader

	buf  []byte
	r, w int   // buf[r:w] is what has been read and not yet consumed
	base int64 // offset of buf[0] in the RDB data
	err  error // came from src together with data, to be returned next
	crc  summer
	// unsummed windows are not checksummed and stay in one buffer.
	unsummed bool

	capture capture
	queue   lzfQueue

	// What is being read, for error messages.
	section string
	start   int64
}

// capture hands the consumed bytes from mark on to a writer. Opening the writer
// waits until the value is complete or too large for half the window.
type capture struct {
	active bool
	opened bool
	mark   int // index in buf of the first byte not handed out yet
	open   func() (io.Writer, error)
	dst    io.Writer // nil after open when nobody wants the bytes
}

// maxEmptyReads is how many reads in a row may return nothing without an error,
// as in package bufio.
const maxEmptyReads = 100

func (in *input) offset() int64 { return in.base + int64(in.r) }

func (in *input) enter(section string) {
	in.section, in.start = section, in.offset()
}

func (in *input) fail(kind error, format string, args ...any) error {
	return in.failAt(in.offset(), kind, format, args...)
}

func (in *input) failAt(offset int64, kind error, format string, args ...any) error {
	return &FormatError{
		Kind: kind, Offset: offset, Section: in.section, Start: in.start,
		Msg: fmt.Sprintf(format, args...),
	}
}

// contiguous is the longest run of bytes that fill can bring together.
func (in *input) contiguous() int { return len(in.buf) / 2 }

// fill makes at least n unconsumed bytes available; n is at most contiguous().
func (in *input) fill(n int) error {
	if in.w-in.r >= n {
		return nil
	}
	if len(in.buf)-in.r < n {
		if err := in.slide(n); err != nil {
			return err
		}
	}
	for in.w-in.r < n {
		if err := in.read(); err != nil {
			if err == io.EOF { //nolint:errorlint // the io.Reader contract: the bare io.EOF
				return in.failAt(in.base+int64(in.w), ErrTruncated, "the input ends here")
			}
			return err
		}
	}
	return nil
}

// read adds what the source gives in one piece. It returns io.EOF itself at the
// end of the source.
func (in *input) read() error {
	err := in.err
	for range maxEmptyReads {
		if err == nil {
			err = in.ctx.Err()
		}
		if err != nil {
			break
		}
		var n int
		n, err = in.src.Read(in.buf[in.w:])
		in.w += n
		if n > 0 {
			in.err = err
			return nil
		}
	}
	if err == io.EOF { //nolint:errorlint // the io.Reader contract: the bare io.EOF
		return io.EOF
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return fmt.Errorf("reading RDB data at offset %d: %w", in.base+int64(in.w), err)
}

// slide frees the consumed part of the window. Bytes of a captured value stay
// as long as it may still turn out to fit, with the n bytes wanted next, in half
// the window.
func (in *input) slide(n int) error {
	if err := in.checkQueued(); err != nil {
		return err
	}
	keep := in.r
	if c := &in.capture; c.active {
		if !c.opened && in.r-c.mark+n <= in.contiguous() {
			keep = c.mark
		} else if err := in.handOut(); err != nil {
			return err
		}
		c.mark -= keep
	}
	next := in.buf
	if !in.unsummed {
		next = in.crc.spare(len(in.buf))
	}
	tail := copy(next, in.buf[keep:in.w])
	if !in.unsummed {
		in.crc.add(in.buf[:keep])
	}
	in.buf = next
	in.base += int64(keep)
	in.r -= keep
	in.w = tail
	return nil
}

// handOut writes the captured bytes consumed so far.
func (in *input) handOut() error {
	c := &in.capture
	if !c.opened {
		c.opened = true
		var err error
		if c.dst, err = c.open(); err != nil {
			return err
		}
	}
	if c.dst != nil && in.r > c.mark {
		n, err := c.dst.Write(in.buf[c.mark:in.r])
		if err == nil && n < in.r-c.mark {
			err = io.ErrShortWrite
		}
		if err != nil {
			return err
		}
	}
	c.mark = in.r
	return nil
}

func (in *input) startCapture(open func() (io.Writer, error)) {
	in.capture = capture{active: true, mark: in.r, open: open}
}

func (in *input) endCapture() error {
	err := in.handOut()
	in.capture = capture{}
	return err
}

// take consumes n bytes, at most contiguous(), and returns them. They are valid
// until the next call.
func (in *input) take(n int) ([]byte, error) {
	if in.w-in.r < n { // asked here too: it is seldom true, and this saves a call
		if err := in.fill(n); err != nil {
			return nil, err
		}
	}
	b := in.buf[in.r : in.r+n]
	in.r += n
	return b, nil
}

func (in *input) byte() (byte, error) {
	if in.r == in.w {
		if err := in.fill(1); err != nil {
			return 0, err
		}
	}
	b := in.buf[in.r]
	in.r++
	return b, nil
}

func (in *input) skip(n uint64) error {
	for {
		have := in.w - in.r
		if n <= uint64(have) {
			in.r += int(n)
			return nil
		}
		n -= uint64(have)
		in.r = in.w
		if err := in.fill(1); err != nil {
			return err
		}
	}
}

// chunks consumes n bytes and passes them to f in pieces as they come. The
// pieces are valid during the call only.
func (in *input) chunks(n uint64, f func([]byte)) error {
	for n > 0 {
		if err := in.fill(1); err != nil {
			return err
		}
		m := min(n, uint64(in.w-in.r))
		f(in.buf[in.r : in.r+int(m)])
		in.r += int(m)
		n -= m
	}
	return nil
}

func (in *input) uint64() (uint64, error) {
	b, err := in.take(8)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b), nil
}

// The two high bits of a length's first byte choose its form (rdb.h).
const (
	len6Bit  = 0
	len14Bit = 1
	lenWide  = 2
	lenCode  = 3 // not a length: the low bits name a string encoding

	len32Bit = 0x80
	len64Bit = 0x81
)

// length reads a length that must not be a string encoding.
func (in *input) length() (uint64, error) {
	n, coded, err := in.lengthOrCode()
	if err == nil && coded {
		return 0, in.failAt(in.offset()-1, ErrCorrupt, "a string encoding (%d) in place of a length", n)
	}
	return n, err
}

// lengthOrCode reads a length or, when coded is true, the number of a string
// encoding.
func (in *input) lengthOrCode() (n uint64, coded bool, err error) {
	c, err := in.byte()
	if err != nil {
		return 0, false, err
	}
	switch c >> 6 {
	case len6Bit:
		return uint64(c), false, nil
	case len14Bit:
		low, err := in.byte()
		return uint64(c&0x3f)<<8 | uint64(low), false, err
	case lenCode:
		return uint64(c & 0x3f), true, nil
	}
	switch c {
	case len32Bit:
		b, err := in.take(4)
		if err != nil {
			return 0, false, err
		}
		return uint64(binary.BigEndian.Uint32(b)), false, nil
	case len64Bit:
		b, err := in.take(8)
		if err != nil {
			return 0, false, err
		}
		return binary.BigEndian.Uint64(b), false, nil
	}
	return 0, false, in.failAt(in.offset()-1, ErrCorrupt, "unknown form of length 0x%02x", c)
}

// String encodings (rdb.h, RDB_ENC_*).
const (
	codeInt8  = 0
	codeInt16 = 1
	codeInt32 = 2
	codeLZF   = 3
)

// stringHead is what stands before the bytes of a string.
type stringHead struct {
	form   stringForm
	stored uint64 // bytes that follow in the file
	size   uint64 // bytes of the string; for integers not known before they are read
}

type stringForm uint8

const (
	formRaw stringForm = iota
	formInt
	formLZF
)

func (in *input) stringHead() (stringHead, error) {
	n, coded, err := in.lengthOrCode()
	if err != nil {
		return stringHead{}, err
	}
	if !coded {
		if n > math.MaxInt64 {
			return stringHead{}, in.fail(ErrCorrupt, "a string of %d bytes", n)
		}
		return stringHead{form: formRaw, stored: n, size: n}, nil
	}
	switch n {
	case codeInt8, codeInt16, codeInt32:
		return stringHead{form: formInt, stored: 1 << n}, nil
	case codeLZF:
		head := stringHead{form: formLZF}
		if head.stored, err = in.length(); err != nil {
			return head, err
		}
		if head.size, err = in.length(); err != nil {
			return head, err
		}
		// The longest yield of LZF is a 3-byte reference for 264 bytes. A
		// compressed string is never empty.
		if head.stored == 0 || head.size == 0 || head.stored > math.MaxInt64 || head.size/maxLZFReference > head.stored {
			return head, in.fail(ErrCorrupt, "%d bytes cannot be the compressed form of %d", head.stored, head.size)
		}
		return head, nil
	}
	return stringHead{}, in.failAt(in.offset()-1, ErrCorrupt, "unknown string encoding %d", n)
}

// integer reads the value of a string with formInt.
func (in *input) integer(head stringHead) (int64, error) {
	b, err := in.take(int(head.stored))
	if err != nil {
		return 0, err
	}
	switch len(b) {
	case 1:
		return int64(int8(b[0])), nil
	case 2:
		return int64(int16(binary.LittleEndian.Uint16(b))), nil
	default:
		return int64(int32(binary.LittleEndian.Uint32(b))), nil
	}
}

// summer computes the CRC64 of what left the window, beside the walk: the two
// together are faster than either after the other. Its goroutine starts with
// the second window, so small files do without.
type summer struct {
	crc  uint64
	work chan []byte
	free chan []byte
	done chan struct{}
}

// spare returns a buffer to continue in.
func (s *summer) spare(size int) []byte {
	if s.work == nil {
		return make([]byte, size)
	}
	return <-s.free
}

// add queues b and takes over its whole buffer, to come back from spare.
func (s *summer) add(b []byte) {
	if s.work == nil {
		s.work = make(chan []byte)
		s.free = make(chan []byte, 1)
		s.done = make(chan struct{})
		go s.run()
	}
	s.work <- b
}

func (s *summer) run() {
	defer close(s.done)
	for b := range s.work {
		s.crc = updateCRC(s.crc, b)
		s.free <- b[:cap(b)]
	}
}

// finish adds the last bytes and returns the sum of all.
func (s *summer) finish(b []byte) uint64 {
	s.stop()
	s.crc = updateCRC(s.crc, b)
	return s.crc
}

// stop ends the goroutine. It may be called more than once.
func (s *summer) stop() {
	if s.work != nil {
		close(s.work)
		<-s.done
		s.work = nil
	}
}
