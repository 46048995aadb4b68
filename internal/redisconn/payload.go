package redisconn

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

const (
	// markSize is the length of the end mark in the form $EOF:
	// (CONFIG_RUN_ID_SIZE in server.h).
	markSize = 40
	// bufferSize is large enough that system calls and deadlines cost nothing
	// beside the kernel's own copying.
	bufferSize = 512 << 10
	// batchSize is how much Read collects before it hands anything out. Servers send
	// pieces of 16 KiB; passing each on would wake all who digest, encode and store it
	// ten thousand times for 200 MB, which takes longer than their work.
	batchSize = bufferSize / 2
	// maxLine bounds the replies. The longest known are error texts.
	maxLine = 16 << 10
)

// payload reads the server's side of a snapshot conversation: lines first, then
// the snapshot. It is a pure function of what source yields, independent of how
// the bytes are split over reads.
type payload struct {
	source io.Reader
	buf    []byte
	// buf[r:ready] may be handed out; buf[ready:w] has arrived but may turn out to
	// be the mark, or belongs to nobody.
	r, ready, w int

	mark     []byte // nil: the snapshot has a length
	left     int64  // bytes of the snapshot that have not arrived, if it has a length
	received int64  // bytes of the snapshot that have arrived, with the beginning of the mark
	err      error  // what Read returns when nothing is ready
}

// readLine returns the next line without its end; servers end the keep-alives with
// \n and everything else with \r\n.
func (p *payload) readLine() (string, error) {
	for searched := p.r; ; {
		if end := bytes.IndexByte(p.buf[searched:p.w], '\n'); end >= 0 {
			line := p.buf[p.r : searched+end]
			p.r = searched + end + 1
			return string(bytes.TrimSuffix(line, []byte("\r"))), nil
		}
		searched = p.w
		if searched-p.r > maxLine {
			return "", protocolErrorf("this is not a Redis server: got a line of more than %d bytes", maxLine)
		}
		moved := p.compact()
		searched -= moved
		if err := p.fill(p.buf[p.w:]); err != nil {
			return "", err
		}
	}
}

// startMarked begins a snapshot that ends with a mark.
func (p *payload) startMarked(mark string) {
	p.mark = []byte(mark)
	p.ready = p.r
	p.received = int64(p.w - p.r)
	p.findMark()
}

// startCounted begins a snapshot of a known length, at least 1.
func (p *payload) startCounted(length int64) {
	p.left = length
	p.received = min(length, int64(p.w-p.r))
	p.left -= p.received
	p.ready = p.r + int(p.received)
	p.endCounted()
}

// Read returns the bytes of the snapshot, io.EOF after the last one, and the
// source's error (io.EOF as io.ErrUnexpectedEOF) when it fails before. It waits for as
// much as dst or a batch holds.
func (p *payload) Read(dst []byte) (int, error) {
	for p.r == p.ready {
		if p.err != nil {
			return 0, p.err
		}
		if p.mark == nil && int64(len(dst)) <= p.left && len(dst) >= bufferSize/16 {
			return p.readDirect(dst)
		}
		p.more(min(max(len(dst), 1), batchSize))
	}
	n := copy(dst, p.buf[p.r:p.ready])
	p.r += n
	return n, nil
}

// readDirect reads a counted snapshot into a large dst without copying.
func (p *payload) readDirect(dst []byte) (int, error) {
	n := 0
	for n < min(len(dst), batchSize) && p.err == nil {
		got, err := p.read(dst[n:])
		n += got
		p.received += int64(got)
		p.left -= int64(got)
		p.endCounted()
		if p.err == nil && err != nil {
			p.err = err
		}
	}
	if n > 0 {
		return n, nil
	}
	return 0, p.err
}

// more makes the wanted number of bytes ready, at most batchSize, or fewer and sets err.
func (p *payload) more(want int) {
	p.compact()
	for p.ready-p.r < want && p.err == nil {
		space := p.buf[p.w:]
		if p.mark == nil {
			space = space[:min(int64(len(space)), p.left)]
		}
		before := p.w
		err := p.fill(space)
		n := p.w - before
		p.received += int64(n)
		if p.mark == nil {
			p.left -= int64(n)
			p.ready = p.w
			p.endCounted()
		} else {
			p.findMark()
		}
		if p.err == nil && err != nil {
			p.err = err
		}
	}
}

func (p *payload) endCounted() {
	if p.left == 0 {
		p.err = io.EOF
	}
}

// findMark looks for the mark at the end of what has arrived, as replicas do: the
// server sends nothing behind it until a replica acknowledges, except that
// 7.0.0-7.0.5 may send a newline. The mark inside the data is data. What could be
// the beginning of a mark is held back.
func (p *payload) findMark() {
	arrived := p.buf[p.ready:p.w]
	if rest, found := bytes.CutSuffix(bytes.TrimRight(arrived, "\n"), p.mark); found {
		p.received -= int64(len(arrived) - len(rest))
		p.ready += len(rest)
		p.err = io.EOF
		return
	}
	p.ready = max(p.ready, p.w-markSize+1)
}

// compact moves what has not been handed out to the front of the buffer and
// returns by how much.
func (p *payload) compact() int {
	moved := p.r
	copy(p.buf, p.buf[p.r:p.w])
	p.r, p.ready, p.w = 0, max(0, p.ready-moved), p.w-moved
	return moved
}

// fill reads at least one byte into space, which begins at buf[w].
func (p *payload) fill(space []byte) error {
	n, err := p.read(space)
	p.w += n
	if n > 0 {
		return nil // an error comes again
	}
	return err
}

// read reads at least one byte or returns an error.
func (p *payload) read(space []byte) (int, error) {
	const attempts = 100 // as bufio: a reader that yields nothing is broken
	for range attempts {
		n, err := p.source.Read(space)
		if n > 0 {
			return n, nil
		}
		if errors.Is(err, io.EOF) {
			return 0, io.ErrUnexpectedEOF
		}
		if err != nil {
			return 0, err
		}
	}
	return 0, io.ErrNoProgress
}

// protocolError says that the server does not follow the replication protocol.
type protocolError struct{ text string }

func (e *protocolError) Error() string { return e.text }

func protocolErrorf(format string, args ...any) error {
	return &protocolError{fmt.Sprintf(format, args...)}
}

func isProtocol(err error) bool {
	var protocol *protocolError
	return errors.As(err, &protocol)
}
