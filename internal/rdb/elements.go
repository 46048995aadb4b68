package rdb

import (
	"encoding/binary"
	"strconv"
)

// elements hands out the elements of a packed collection one after the other.
// The string must have passed the packing's checks of header and entries: there
// are none here.
type elements struct {
	packing *packing
	b       []byte
	i, end  int
	odd     bool // the next element is a value of a zipmap
	digits  [20]byte
}

func newElements(p *packing, b []byte) elements {
	return elements{packing: p, b: b, i: p.head, end: len(b) - p.end}
}

// next returns the next element, numbers as their digits, and false behind the
// last one. The bytes are valid until the next call.
func (e *elements) next() ([]byte, bool) {
	if e.i >= e.end {
		return nil, false
	}
	switch e.packing {
	case &listpack:
		return e.listpack(), true
	case &ziplist:
		return e.ziplist(), true
	case &intset:
		return e.intset(), true
	default:
		return e.zipmap(), true
	}
}

func (e *elements) integer(v int64) []byte { return strconv.AppendInt(e.digits[:0], v, 10) }

// int24 is a signed integer of three bytes, little endian.
func int24(b []byte) int64 {
	return int64(int32(uint32(b[0])<<8|uint32(b[1])<<16|uint32(b[2])<<24) >> 8)
}

// littleEndian is a signed integer of as many bytes as there are: 2, 4 or 8.
func littleEndian(b []byte) int64 {
	switch len(b) {
	case 2:
		return int64(int16(binary.LittleEndian.Uint16(b)))
	case 4:
		return int64(int32(binary.LittleEndian.Uint32(b)))
	default:
		return int64(binary.LittleEndian.Uint64(b))
	}
}

func (e *elements) listpack() []byte {
	b := e.b[e.i:e.end]
	c := b[0]
	n, head := int(listpackSizes[c]), 1
	switch {
	case c>>4 == 0xe:
		head = 2
		n = head + int(c&0xf)<<8 + int(b[1])
	case c == 0xf0:
		head = 5
		n = head + int(binary.LittleEndian.Uint32(b[1:]))
	}
	e.i += n + backlenSize(n)
	switch {
	case c < 0x80:
		return e.integer(int64(c))
	case c >= 0xc0 && c < 0xe0: // 13 bits with sign
		return e.integer(int64(int16(uint16(c)<<11|uint16(b[1])<<3) >> 3))
	case c == 0xf2:
		return e.integer(int24(b[1:]))
	case c == 0xf1 || c > 0xf2:
		return e.integer(littleEndian(b[1:n]))
	}
	return b[head:n]
}

func (e *elements) ziplist() []byte {
	if e.b[e.i] == 0xfe { // the length of the element before it takes four bytes more
		e.i += 4
	}
	e.i++
	b := e.b[e.i:e.end]
	n := ziplistSize(b)
	e.i += n
	switch c := b[0]; {
	case c>>6 == 0:
		return b[1:n]
	case c>>6 == 1:
		return b[2:n]
	case c == 0x80:
		return b[5:n]
	case c == 0xf0:
		return e.integer(int24(b[1:]))
	case c == 0xfe:
		return e.integer(int64(int8(b[1])))
	case c > 0xf0:
		return e.integer(int64(c) - 0xf1)
	default:
		return e.integer(littleEndian(b[1:n]))
	}
}

func (e *elements) intset() []byte {
	width := int(binary.LittleEndian.Uint32(e.b))
	e.i += width
	return e.integer(littleEndian(e.b[e.i-width : e.i]))
}

func (e *elements) zipmap() []byte {
	n := int(e.b[e.i])
	e.i++
	if n == zipmapBigLen {
		n = int(binary.LittleEndian.Uint32(e.b[e.i:]))
		e.i += 4
	}
	unused := 0
	if e.odd {
		unused = int(e.b[e.i])
		e.i++
	}
	e.odd = !e.odd
	out := e.b[e.i : e.i+n]
	e.i += n + unused
	return out
}
