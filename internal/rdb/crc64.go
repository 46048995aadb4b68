package rdb

import (
	"encoding/binary"
	"hash"
	"hash/crc64"
)

// Redis's CRC64 begins at 0 and is not inverted, so it is linear: two parts of the data
// can be summed side by side and put together. Summing one byte waits for the byte before;
// two parts in turn take half the time. (hash/crc64 sums one, at 1.7 GB/s, and builds its
// tables anew for every piece of 2 KiB or more; shorter ones, which most values are, it sums
// without.)

// crcPart is the length of a part in bytes.
const crcPart = 8 << 10

type crcTables struct {
	// bytes[k][b] is the sum of the byte b followed by k zeros.
	bytes [8][256]uint64
	// parts[i] is what crcPart zeros make of a sum that has only bit i.
	parts [64]uint64
}

var crc64Tables = newCRCTables() //nolint:gochecknoglobals // a table

func newCRCTables() *crcTables {
	t := new(crcTables)
	// The Jones polynomial of Redis's crc64.c (0xad93d23594c935a9), bit-reversed as
	// hash/crc64 wants it.
	t.bytes[0] = *crc64.MakeTable(0x95ac9329ac4bc9b5)
	for k := 1; k < len(t.bytes); k++ {
		for b, sum := range &t.bytes[k-1] {
			t.bytes[k][b] = t.bytes[0][byte(sum)] ^ sum>>8
		}
	}
	for i := range t.parts {
		t.parts[i] = t.bytes[0][byte(1<<i)] ^ 1<<i>>8 // one zero
	}
	for n := 1; n < crcPart; n *= 2 {
		doubled := t.parts
		for i, sum := range &t.parts {
			doubled[i] = t.skip(sum)
		}
		t.parts = doubled
	}
	return t
}

// skip returns what the zeros of parts make of a sum.
func (t *crcTables) skip(sum uint64) uint64 {
	out := uint64(0)
	for i := range t.parts {
		out ^= t.parts[i] & -(sum >> i & 1)
	}
	return out
}

// step returns the sum after eight more bytes, which have been added to it.
func (t *crcTables) step(sum uint64) uint64 {
	return t.bytes[7][byte(sum)] ^ t.bytes[6][byte(sum>>8)] ^ t.bytes[5][byte(sum>>16)] ^ t.bytes[4][byte(sum>>24)] ^
		t.bytes[3][byte(sum>>32)] ^ t.bytes[2][byte(sum>>40)] ^ t.bytes[1][byte(sum>>48)] ^ t.bytes[0][byte(sum>>56)]
}

// updateCRC continues a Redis CRC64.
func updateCRC(crc uint64, p []byte) uint64 {
	t := crc64Tables
	for len(p) >= 2*crcPart {
		a, b := p[:crcPart], p[crcPart:2*crcPart]
		sum := uint64(0)
		for i := 0; i <= crcPart-8; i += 8 {
			crc = t.step(crc ^ binary.LittleEndian.Uint64(a[i:]))
			sum = t.step(sum ^ binary.LittleEndian.Uint64(b[i:]))
		}
		crc = t.skip(crc) ^ sum
		p = p[2*crcPart:]
	}
	for len(p) >= 8 {
		crc = t.step(crc ^ binary.LittleEndian.Uint64(p))
		p = p[8:]
	}
	for _, b := range p {
		crc = t.bytes[0][byte(crc)^b] ^ crc>>8
	}
	return crc
}

// NewCRC64 returns the CRC64 that Redis puts at the end of RDB files and DUMP
// payloads ("123456789" gives 0xe9c6d914c4b8d9ca). Redis stores the sum little
// endian; Sum appends it big endian as package hash demands.
func NewCRC64() hash.Hash64 { return new(crcHash) }

type crcHash uint64

func (c *crcHash) Write(p []byte) (int, error) {
	*c = crcHash(updateCRC(uint64(*c), p))
	return len(p), nil
}

func (c *crcHash) Sum64() uint64  { return uint64(*c) }
func (c *crcHash) Reset()         { *c = 0 }
func (c *crcHash) Size() int      { return crc64.Size }
func (c *crcHash) BlockSize() int { return 1 }

func (c *crcHash) Sum(b []byte) []byte {
	s := uint64(*c)
	return append(b, byte(s>>56), byte(s>>48), byte(s>>40), byte(s>>32),
		byte(s>>24), byte(s>>16), byte(s>>8), byte(s))
}
