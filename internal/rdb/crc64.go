package rdb

import (
	"encoding/binary"
	"hash"
	"hash/crc64"
)

// crcPolynomial is the Jones polynomial of Redis's crc64.c (0xad93d23594c935a9),
// bit-reversed.
const crcPolynomial = 0x95ac9329ac4bc9b5

// crcTables are those of the algorithm slicing-by-8, which hash/crc64 uses too. It
// makes them anew for every piece of 2 KiB or more, and does without for shorter ones,
// which most values are: four times slower.
var crcTables = func() *[8]crc64.Table { //nolint:gochecknoglobals // a table
	t := &[8]crc64.Table{*crc64.MakeTable(crcPolynomial)}
	for i, crc := range t[0] {
		for j := 1; j < len(t); j++ {
			crc = t[0][byte(crc)] ^ crc>>8
			t[j][i] = crc
		}
	}
	return t
}()

// updateCRC continues a Redis CRC64. Unlike hash/crc64, Redis starts from 0 and does
// not invert the result.
func updateCRC(crc uint64, p []byte) uint64 {
	t := crcTables
	for len(p) >= 8 {
		crc ^= binary.LittleEndian.Uint64(p)
		crc = t[7][byte(crc)] ^ t[6][byte(crc>>8)] ^ t[5][byte(crc>>16)] ^ t[4][byte(crc>>24)] ^
			t[3][byte(crc>>32)] ^ t[2][byte(crc>>40)] ^ t[1][byte(crc>>48)] ^ t[0][crc>>56]
		p = p[8:]
	}
	for _, b := range p {
		crc = t[0][byte(crc)^b] ^ crc>>8
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
