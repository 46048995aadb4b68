// Package rdbtest writes RDB files for tests: small ones by hand, and large
// ones that look like production data. It shares no code with the reader it
// helps to test. It is not for production use: it checks nothing, so that tests
// can write nonsense on purpose.
package rdbtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc64"
	"io"
	"math"
	"strconv"
)

// Headers of RDB files.
const (
	Redis6  = "REDIS0009"
	Redis70 = "REDIS0010"
	Redis72 = "REDIS0011" // also Valkey 7.2 to 8.1
	Redis8  = "REDIS0012"
	Valkey9 = "VALKEY080"
)

// Type bytes of values, as far as the Writer has methods for them.
const (
	TypeString = 0
	TypeList   = 1
	TypeSet    = 2
	TypeHash   = 4
	TypeZset2  = 5
)

// A Writer writes one RDB file. Errors of the underlying writer are kept and
// returned by Close.
type Writer struct {
	w       io.Writer
	buf     []byte
	crc     uint64
	version int
	size    int64
	err     error
}

var crcTable = crc64.MakeTable(0x95ac9329ac4bc9b5) //nolint:gochecknoglobals // a table

// flushAt is large because hash/crc64 is fast for large pieces only.
const flushAt = 256 << 10

// NewWriter returns a Writer to w that has written the given header.
func NewWriter(w io.Writer, header string) *Writer {
	out := &Writer{w: w}
	out.version, _ = strconv.Atoi(header[len(header)-3:])
	return out.Raw([]byte(header))
}

// File returns the file that fill writes, complete with end and checksum.
func File(header string, fill func(*Writer)) []byte {
	var b bytes.Buffer
	w := NewWriter(&b, header)
	fill(w)
	_ = w.Close() // a bytes.Buffer does not fail
	return b.Bytes()
}

// WithoutChecksum returns a copy of a file with the checksum that servers
// write when it is disabled.
func WithoutChecksum(file []byte) []byte {
	out := bytes.Clone(file)
	clear(out[len(out)-8:])
	return out
}

// WithChecksum returns a copy of a file with its checksum made right.
func WithChecksum(file []byte) []byte {
	out := bytes.Clone(file)
	body := out[:len(out)-8]
	binary.LittleEndian.PutUint64(out[len(body):], ^crc64.Update(^uint64(0), crcTable, body))
	return out
}

// Raw writes bytes as they are.
func (w *Writer) Raw(b []byte) *Writer {
	w.buf = append(w.buf, b...)
	w.size += int64(len(b))
	if len(w.buf) >= flushAt {
		w.flush()
	}
	return w
}

func (w *Writer) flush() {
	w.crc = ^crc64.Update(^w.crc, crcTable, w.buf)
	if w.err == nil {
		_, w.err = w.w.Write(w.buf)
	}
	w.buf = w.buf[:0]
}

// Size returns how many bytes were written so far.
func (w *Writer) Size() int64 { return w.size }

// Close writes the end marker and, from version 5 on, the checksum.
func (w *Writer) Close() error {
	w.Raw([]byte{255})
	w.flush()
	if w.version >= 5 && w.err == nil {
		_, w.err = w.w.Write(binary.LittleEndian.AppendUint64(nil, w.crc))
	}
	return w.err
}

// Aux writes an informational field.
func (w *Writer) Aux(name, value string) *Writer {
	return w.Raw(AppendString(AppendString([]byte{250}, name), value))
}

// SelectDB begins a database.
func (w *Writer) SelectDB(n int) *Writer {
	return w.Raw(AppendLength([]byte{254}, uint64(n)))
}

// ResizeDB announces the size of the current database.
func (w *Writer) ResizeDB(keys, expires int) *Writer {
	return w.Raw(AppendLength(AppendLength([]byte{251}, uint64(keys)), uint64(expires)))
}

// ExpireAt gives the next key an expiry time in ms since 1970.
func (w *Writer) ExpireAt(ms int64) *Writer {
	return w.Raw(binary.LittleEndian.AppendUint64([]byte{252}, uint64(ms)))
}

// ExpireAtSeconds gives the next key an expiry time as old servers write it.
func (w *Writer) ExpireAtSeconds(s int32) *Writer {
	return w.Raw(binary.LittleEndian.AppendUint32([]byte{253}, uint32(s)))
}

// Idle gives the next key an LRU idle time in seconds.
func (w *Writer) Idle(s uint64) *Writer { return w.Raw(AppendLength([]byte{248}, s)) }

// Freq gives the next key an LFU counter.
func (w *Writer) Freq(n byte) *Writer { return w.Raw([]byte{249, n}) }

// Function writes a function library.
func (w *Writer) Function(source string) *Writer { return w.Raw(AppendString([]byte{245}, source)) }

// Value writes a key with a serialized value.
func (w *Writer) Value(rdbType byte, key string, value []byte) *Writer {
	return w.Raw(AppendString([]byte{rdbType}, key)).Raw(value)
}

// String writes a string key.
func (w *Writer) String(key, value string) *Writer {
	return w.Value(TypeString, key, AppendString(nil, value))
}

// List writes a list in its oldest form.
func (w *Writer) List(key string, elements ...string) *Writer {
	return w.Value(TypeList, key, AppendStrings(nil, elements, 1))
}

// Set writes a set as a hash table.
func (w *Writer) Set(key string, members ...string) *Writer {
	return w.Value(TypeSet, key, AppendStrings(nil, members, 1))
}

// Hash writes a hash as a hash table; pairs are fields and values in turn.
func (w *Writer) Hash(key string, pairs ...string) *Writer {
	return w.Value(TypeHash, key, AppendStrings(nil, pairs, 2))
}

// A Member belongs to a sorted set.
type Member struct {
	Name  string
	Score float64
}

// SortedSet writes a sorted set as a skip list.
func (w *Writer) SortedSet(key string, members ...Member) *Writer {
	b := AppendLength(nil, uint64(len(members)))
	for _, m := range members {
		b = binary.LittleEndian.AppendUint64(AppendString(b, m.Name), math.Float64bits(m.Score))
	}
	return w.Value(TypeZset2, key, b)
}

// AppendLength appends a length in its shortest form.
func AppendLength(b []byte, n uint64) []byte {
	switch {
	case n < 1<<6:
		return append(b, byte(n))
	case n < 1<<14:
		return append(b, 0x40|byte(n>>8), byte(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, 0x80), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, 0x81), n)
}

// AppendRawString appends a string without any encoding.
func AppendRawString(b []byte, s string) []byte { return append(AppendLength(b, uint64(len(s))), s...) }

// AppendString appends a string the way servers do: small numbers as integers,
// what is longer than 20 bytes and compressible as LZF, all else as it is.
func AppendString(b []byte, s string) []byte {
	if len(s) <= 11 {
		if n, err := strconv.ParseInt(s, 10, 32); err == nil && strconv.FormatInt(n, 10) == s {
			switch {
			case n == int64(int8(n)):
				return append(b, 0xc0, byte(n))
			case n == int64(int16(n)):
				return binary.LittleEndian.AppendUint16(append(b, 0xc1), uint16(n))
			}
			return binary.LittleEndian.AppendUint32(append(b, 0xc2), uint32(n))
		}
	}
	if len(s) > 20 {
		if c := Compress([]byte(s)); len(c) <= len(s)-4 {
			return AppendLZF(b, c, len(s))
		}
	}
	return AppendRawString(b, s)
}

// AppendLZF appends a string that is compressed already.
func AppendLZF(b, compressed []byte, size int) []byte {
	b = AppendLength(append(b, 0xc3), uint64(len(compressed)))
	return append(AppendLength(b, uint64(size)), compressed...)
}

// AppendStrings appends how many groups of per strings there are, and the
// strings.
func AppendStrings(b []byte, s []string, per int) []byte {
	b = AppendLength(b, uint64(len(s)/per))
	for _, e := range s {
		b = AppendString(b, e)
	}
	return b
}

// Compress returns an LZF stream that yields data.
func Compress(data []byte) []byte {
	const tableBits, maxLiterals, maxMatch, maxDistance = 11, 32, 264, 8192
	var table [1 << tableBits]int // position + 1 by hash of three bytes
	out := make([]byte, 0, len(data))
	literals := 0 // start of those not written yet
	flush := func(end int) {
		for literals < end {
			n := min(maxLiterals, end-literals)
			out = append(append(out, byte(n-1)), data[literals:literals+n]...)
			literals += n
		}
	}
	for i := 0; i+2 < len(data); {
		h := (uint32(data[i])<<16 | uint32(data[i+1])<<8 | uint32(data[i+2])) * 2654435761 >> (32 - tableBits)
		at := table[h] - 1
		table[h] = i + 1
		if at < 0 || i-at > maxDistance || !bytes.Equal(data[at:at+3], data[i:i+3]) {
			i++
			continue
		}
		n := 3
		for n < maxMatch && i+n < len(data) && data[at+n] == data[i+n] {
			n++
		}
		flush(i)
		distance, length := i-at-1, n-2
		if length < 7 {
			out = append(out, byte(length<<5|distance>>8), byte(distance))
		} else {
			out = append(out, byte(7<<5|distance>>8), byte(length-7), byte(distance))
		}
		i += n
		literals = i
	}
	flush(len(data))
	return out
}

// Listpack returns a listpack; numbers are stored as integers.
func Listpack(elements ...string) []byte {
	b := make([]byte, 6)
	for _, e := range elements {
		start := len(b)
		b = appendListpackElement(b, e)
		n := len(b) - start
		// The length again, seven bits a byte, most significant first. The limits
		// are those of servers, not those of what fits.
		switch {
		case n < 1<<7:
			b = append(b, byte(n))
		case n < 1<<14-1:
			b = append(b, byte(n>>7), byte(n&0x7f|0x80))
		case n < 1<<21-1:
			b = append(b, byte(n>>14), byte(n>>7&0x7f|0x80), byte(n&0x7f|0x80))
		default:
			b = append(b, byte(n>>21), byte(n>>14&0x7f|0x80), byte(n>>7&0x7f|0x80), byte(n&0x7f|0x80))
		}
	}
	b = append(b, 0xff)
	binary.LittleEndian.PutUint32(b, uint32(len(b)))
	binary.LittleEndian.PutUint16(b[4:], uint16(min(len(elements), math.MaxUint16)))
	return b
}

func appendListpackElement(b []byte, e string) []byte {
	if n, err := strconv.ParseInt(e, 10, 64); err == nil && strconv.FormatInt(n, 10) == e {
		switch {
		case n >= 0 && n < 1<<7:
			return append(b, byte(n))
		case n >= -1<<12 && n < 1<<12:
			return append(b, 0xc0|byte(n>>8&0x1f), byte(n))
		case n == int64(int16(n)):
			return binary.LittleEndian.AppendUint16(append(b, 0xf1), uint16(n))
		case n >= -1<<23 && n < 1<<23:
			return append(b, 0xf2, byte(n), byte(n>>8), byte(n>>16))
		case n == int64(int32(n)):
			return binary.LittleEndian.AppendUint32(append(b, 0xf3), uint32(n))
		}
		return binary.LittleEndian.AppendUint64(append(b, 0xf4), uint64(n))
	}
	switch n := len(e); {
	case n < 1<<6:
		b = append(b, 0x80|byte(n))
	case n < 1<<12:
		b = append(b, 0xe0|byte(n>>8), byte(n))
	default:
		b = binary.LittleEndian.AppendUint32(append(b, 0xf0), uint32(n))
	}
	return append(b, e...)
}

// Ziplist returns a ziplist; numbers are stored as integers.
func Ziplist(elements ...string) []byte {
	b := make([]byte, 10)
	last, previous := len(b), 0
	for _, e := range elements {
		last = len(b)
		if previous < 254 {
			b = append(b, byte(previous))
		} else {
			b = binary.LittleEndian.AppendUint32(append(b, 254), uint32(previous))
		}
		b = appendZiplistElement(b, e)
		previous = len(b) - last
	}
	b = append(b, 0xff)
	binary.LittleEndian.PutUint32(b, uint32(len(b)))
	binary.LittleEndian.PutUint32(b[4:], uint32(last))
	binary.LittleEndian.PutUint16(b[8:], uint16(min(len(elements), math.MaxUint16)))
	return b
}

func appendZiplistElement(b []byte, e string) []byte {
	if n, err := strconv.ParseInt(e, 10, 64); err == nil && strconv.FormatInt(n, 10) == e {
		switch {
		case n >= 0 && n <= 12:
			return append(b, 0xf1+byte(n))
		case n == int64(int8(n)):
			return append(b, 0xfe, byte(n))
		case n == int64(int16(n)):
			return binary.LittleEndian.AppendUint16(append(b, 0xc0), uint16(n))
		case n >= -1<<23 && n < 1<<23:
			return append(b, 0xf0, byte(n), byte(n>>8), byte(n>>16))
		case n == int64(int32(n)):
			return binary.LittleEndian.AppendUint32(append(b, 0xd0), uint32(n))
		}
		return binary.LittleEndian.AppendUint64(append(b, 0xe0), uint64(n))
	}
	switch n := len(e); {
	case n < 1<<6:
		b = append(b, byte(n))
	case n < 1<<14:
		b = append(b, 0x40|byte(n>>8), byte(n))
	default:
		b = binary.BigEndian.AppendUint32(append(b, 0x80), uint32(n))
	}
	return append(b, e...)
}

// Intset returns an intset of integers that must ascend.
func Intset(integers ...int64) []byte {
	width := 2
	for _, n := range integers {
		switch {
		case n != int64(int32(n)):
			width = 8
		case n != int64(int16(n)):
			width = max(width, 4)
		}
	}
	b := binary.LittleEndian.AppendUint32(nil, uint32(width))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(integers)))
	for _, n := range integers {
		b = append(b, binary.LittleEndian.AppendUint64(nil, uint64(n))[:width]...)
	}
	return b
}

// Zipmap returns a zipmap of fields and values in turn. free is how many unused
// bytes stand behind each value.
func Zipmap(free int, pairs ...string) []byte {
	if len(pairs)%2 != 0 {
		panic(fmt.Sprintf("rdbtest: %d strings are no pairs", len(pairs)))
	}
	b := []byte{byte(min(len(pairs)/2, 254))}
	for i, e := range pairs {
		if len(e) < 254 {
			b = append(b, byte(len(e)))
		} else {
			b = binary.LittleEndian.AppendUint32(append(b, 254), uint32(len(e)))
		}
		if i%2 == 0 {
			b = append(b, e...)
		} else {
			b = append(append(append(b, byte(free)), e...), make([]byte, free)...)
		}
	}
	return append(b, 0xff)
}
