package snapshot

import (
	"crypto/sha256"
	"encoding/hex"
)

// digester computes a SHA-256 beside the caller: hashing a gigabyte takes about
// as long as scanning it, and the two together use both cores. It is an
// io.Writer that never fails.
type digester struct {
	free  chan []byte
	work  chan []byte
	done  chan []byte // yields the sum once
	ended bool
}

// Three buffers let the caller fill one while one is hashed and one waits.
const (
	digestBuffers = 3
	digestBuffer  = 512 << 10
)

// newDigester starts a digester, which close stops.
func newDigester() *digester {
	d := &digester{
		free: make(chan []byte, digestBuffers),
		work: make(chan []byte, digestBuffers),
		done: make(chan []byte, 1),
	}
	for range digestBuffers {
		d.free <- nil // allocated when it is needed: most manifests go with small files
	}
	go func() {
		hash := sha256.New()
		for b := range d.work {
			hash.Write(b) // never fails, by its documentation
			d.free <- b
		}
		d.done <- hash.Sum(nil)
	}()
	return d
}

func (d *digester) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		b := <-d.free
		n := min(len(rest), digestBuffer)
		d.work <- append(b[:0], rest[:n]...)
		rest = rest[n:]
	}
	return len(p), nil
}

// sum returns the digest of everything written, in lower-case hexadecimal, and
// ends the digester.
func (d *digester) sum() string {
	d.close()
	return hex.EncodeToString(<-d.done)
}

// close ends the digester. It may be called more than once.
func (d *digester) close() {
	if !d.ended {
		d.ended = true
		close(d.work)
	}
}
