package rdbdiff

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
)

const (
	// fanOut is how many parts a spill has: one for each value of a byte of the
	// hash.
	fanOut = 256
	// bufferSize bytes of each part are kept in memory. No record is longer.
	bufferSize = 8 << 10
)

// A spill holds records, divided by one byte of their hash. What exceeds its
// buffers is in a temporary file, encrypted with a key that only this process has:
// records have names of keys, and the input may be encrypted itself.
type spill struct {
	dir   string
	level int // which byte of the hash divides
	free  *pool
	file  *os.File
	key   cipher.Block // nil without a file
	end   int64        // of the file
	parts [fanOut]part
}

// A part of a spill: pieces in the file, then the buffer.
type part struct {
	pieces []piece
	buf    []byte
	size   int // of all, in bytes
}

type piece struct {
	offset int64
	size   int
}

// A pool keeps buffers to use them again, those of one side's spills.
type pool struct{ buffers [][]byte }

func (p *pool) get() []byte {
	if n := len(p.buffers); n > 0 {
		b := p.buffers[n-1]
		p.buffers = p.buffers[:n-1]
		return b
	}
	return make([]byte, 0, bufferSize)
}

func (p *pool) put(b []byte) {
	if b != nil {
		p.buffers = append(p.buffers, b[:0])
	}
}

func newSpill(dir string, level int, free *pool) *spill {
	return &spill{dir: dir, level: level, free: free}
}

func (s *spill) add(r *record) error {
	p := &s.parts[r.hash[s.level]]
	size := r.size()
	if len(p.buf)+size > bufferSize {
		if err := s.flush(p); err != nil {
			return err
		}
	}
	if p.buf == nil {
		p.buf = s.free.get()
	}
	p.buf = r.append(p.buf)
	p.size += size
	return nil
}

func (s *spill) flush(p *part) error {
	if s.file == nil {
		file, err := os.CreateTemp(s.dir, "redisctl-diff-*")
		if err != nil {
			return fmt.Errorf("no room for what does not fit in memory: %w", err)
		}
		// Where an open file can be removed, a killed process leaves nothing.
		_ = os.Remove(file.Name())
		s.file = file
		if s.key, err = newKey(); err != nil {
			return err
		}
	}
	s.crypt(p.buf, s.end) // the buffer is free afterwards
	if _, err := s.file.WriteAt(p.buf, s.end); err != nil {
		return fmt.Errorf("no room for what does not fit in memory: %w", err)
	}
	p.pieces = append(p.pieces, piece{s.end, len(p.buf)})
	s.end += int64(len(p.buf))
	p.buf = p.buf[:0]
	return nil
}

// read appends all records of a part to b.
func (s *spill) read(i int, b []byte) ([]byte, error) {
	p := &s.parts[i]
	for n := range p.pieces {
		var err error
		if b, err = s.readPiece(p.pieces[n], b); err != nil {
			return b, err
		}
	}
	return append(b, p.buf...), nil
}

func (s *spill) readPiece(p piece, b []byte) ([]byte, error) {
	start := len(b)
	b = slices.Grow(b, p.size)[:start+p.size]
	if _, err := s.file.ReadAt(b[start:], p.offset); err != nil {
		return b, fmt.Errorf("reading back a temporary file: %w", err)
	}
	s.crypt(b[start:], p.offset)
	return b, nil
}

func newKey() (cipher.Block, error) {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails, by its documentation
	return aes.NewCipher(key)
}

// crypt encrypts or decrypts a piece in place. Its offset, which no other piece of
// this file has, is the first half of the counter; the second half counts the
// blocks of the piece.
func (s *spill) crypt(piece []byte, offset int64) {
	var counter [aes.BlockSize]byte
	binary.BigEndian.PutUint64(counter[:], uint64(offset))
	cipher.NewCTR(s.key, counter[:]).XORKeyStream(piece, piece)
}

// split divides a part by the next byte of the hash.
func (s *spill) split(i int) (*spill, error) {
	next := newSpill(s.dir, s.level+1, s.free)
	p := &s.parts[i]
	piece := make([]byte, 0, bufferSize)
	for n := range p.pieces {
		var err error
		if piece, err = s.readPiece(p.pieces[n], piece[:0]); err == nil {
			err = next.addAll(piece)
		}
		if err != nil {
			next.close()
			return nil, err
		}
	}
	if err := next.addAll(p.buf); err != nil {
		next.close()
		return nil, err
	}
	s.drop(i)
	return next, nil
}

func (s *spill) addAll(b []byte) error {
	for len(b) > 0 {
		r := parseRecord(b)
		if err := s.add(&r); err != nil {
			return err
		}
		b = b[r.size():]
	}
	return nil
}

// drop forgets a part's memory.
func (s *spill) drop(i int) {
	s.free.put(s.parts[i].buf)
	s.parts[i] = part{}
}

// close removes the temporary file. Its contents are not needed any more, so
// that errors mean nothing.
func (s *spill) close() {
	if s.file != nil {
		_ = s.file.Close()
		_ = os.Remove(s.file.Name())
	}
}
