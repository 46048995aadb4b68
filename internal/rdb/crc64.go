package rdb

import (
	"hash"
	"hash/crc64"
)

// crcTable is the Jones polynomial of Redis's crc64.c (0xad93d23594c935a9),
// bit-reversed as hash/crc64 wants it.
var crcTable = crc64.MakeTable(0x95ac9329ac4bc9b5) //nolint:gochecknoglobals // a table

// updateCRC continues a Redis CRC64. Redis starts from 0 and does not invert
// the result, hash/crc64 inverts before and after: the two inversions here undo
// that.
func updateCRC(crc uint64, p []byte) uint64 {
	return ^crc64.Update(^crc, crcTable, p)
}

// NewCRC64 returns the CRC64 that Redis puts at the end of RDB files and DUMP
// payloads ("123456789" gives 0xe9c6d914c4b8d9ca). Redis stores the sum little
// endian; Sum appends it big endian as package hash demands.
//
// Write in pieces of 256 KiB or more: hash/crc64 rebuilds a 16 KiB table for
// every piece of 2 KiB or more, and is four times slower below.
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
