package rdb

import (
	"encoding/binary"
	"math"
)

// Small collections are stored as one string that holds all elements. The
// checks here take such a string whole. They return the number of elements or
// what is wrong with it ("" when nothing is).
//
// unknownCount is what 16-bit element counts hold when the true one does not fit.
const unknownCount = math.MaxUint16

// packing is a format of packed collections.
type packing struct {
	name string
	// head is the length of the header and end that of the terminator, in bytes.
	head, end int
	// header checks the first head bytes against the length of the string and
	// returns the number of elements they claim, or None.
	header func(b []byte, size uint64) (count int64, problem string)
	// entries checks the whole string, whose header has been checked.
	entries func(b []byte) (count int64, problem string)
}

var (
	listpack = packing{"listpack", listpackHead, 1, listpackHeader, listpackEntries} //nolint:gochecknoglobals // a table
	ziplist  = packing{"ziplist", ziplistHead, 1, ziplistHeader, ziplistEntries}     //nolint:gochecknoglobals // a table
	intset   = packing{"intset", intsetHead, 0, intsetHeader, intsetEntries}         //nolint:gochecknoglobals // a table
	zipmap   = packing{"zipmap", zipmapHead, 1, zipmapHeader, zipmapEntries}         //nolint:gochecknoglobals // a table
)

const (
	listpackHead = 6  // bytes (4), elements (2)
	ziplistHead  = 10 // bytes (4), offset of the last element (4), elements (2)
	intsetHead   = 8  // width (4), elements (4)
	zipmapHead   = 1  // pairs
)

// terminator ends listpacks, ziplists and zipmaps.
const terminator = 0xff

const (
	problemTerminator = "no terminator at the end"
	problemEarlyEnd   = "a terminator before the end"
	problemOverrun    = "an element reaches beyond the end"
	problemCount      = "the number of elements differs from the header's"
	problemEncoding   = "an element of unknown encoding"
	problemSize       = "the header gives another length"
)

func count16(b []byte) int64 {
	if n := binary.LittleEndian.Uint16(b); n != unknownCount {
		return int64(n)
	}
	return None
}

// bounded converts a length found in the data. It keeps sums from overflowing
// where int has 32 bits; whatever it cuts off lies beyond the end of any window.
func bounded(n uint32) int { return int(min(n, MaxWindow)) }

func listpackHeader(b []byte, size uint64) (int64, string) {
	if uint64(binary.LittleEndian.Uint32(b)) != size {
		return 0, problemSize
	}
	return count16(b[4:]), ""
}

// listpackSizes gives the length of an element, without what stands behind it,
// by its first byte (listpack.c). 0 means that more bytes are needed to tell,
// or that the byte is invalid.
var listpackSizes = func() (sizes [256]uint8) { //nolint:gochecknoglobals // a table
	for c := range sizes {
		switch {
		case c < 0x80: // 7-bit unsigned integer
			sizes[c] = 1
		case c < 0xc0: // string of up to 63 bytes
			sizes[c] = 1 + uint8(c&0x3f)
		case c < 0xe0: // 13-bit integer
			sizes[c] = 2
		case c == 0xf1: // 16-bit integer
			sizes[c] = 3
		case c == 0xf2: // 24-bit integer
			sizes[c] = 4
		case c == 0xf3: // 32-bit integer
			sizes[c] = 5
		case c == 0xf4: // 64-bit integer
			sizes[c] = 9
		}
	}
	return sizes
}()

func listpackEntries(b []byte) (int64, string) {
	end := len(b) - 1
	if b[end] != terminator {
		return 0, problemTerminator
	}
	count := int64(0)
	i := listpackHead
	for i < end {
		c := b[i]
		n := int(listpackSizes[c])
		if n == 0 {
			switch {
			case c>>4 == 0xe && i+2 <= end: // string of up to 4095 bytes
				n = 2 + int(c&0xf)<<8 + int(b[i+1])
			case c == 0xf0 && i+5 <= end: // longer string
				n = 5 + bounded(binary.LittleEndian.Uint32(b[i+1:]))
			case c == terminator:
				return 0, problemEarlyEnd
			default:
				return 0, problemEncoding
			}
		}
		i += n
		if i >= end {
			return 0, problemOverrun
		}
		// The length is repeated behind the element, to be read backwards:
		// seven bits a byte, the most significant first and without the mark.
		if n < 1<<7 {
			if int(b[i]) != n {
				return 0, "an element's two lengths differ"
			}
			i++
		} else {
			more := backlenSize(n)
			if i+more > end {
				return 0, problemOverrun
			}
			if decodeBacklen(b[i:i+more]) != n {
				return 0, "an element's two lengths differ"
			}
			i += more
		}
		count++
	}
	if claimed := count16(b[4:]); claimed != None && claimed != count {
		return 0, problemCount
	}
	return count, ""
}

// backlenSize returns how many bytes the trailing length of an element of n
// bytes takes. Except for the first, the limits are one below what would fit,
// as in Redis's lpEncodeBacklen.
func backlenSize(n int) int {
	switch {
	case n < 1<<7:
		return 1
	case n < 1<<14-1:
		return 2
	case n < 1<<21-1:
		return 3
	case n < 1<<28-1:
		return 4
	}
	return 5
}

// decodeBacklen returns the trailing length in b, or -1 when its marks are wrong.
func decodeBacklen(b []byte) int {
	n := 0
	for i, c := range b {
		if (i > 0) != (c&0x80 != 0) {
			return -1
		}
		n = n<<7 | int(c&0x7f)
	}
	return n
}

func ziplistHeader(b []byte, size uint64) (int64, string) {
	if uint64(binary.LittleEndian.Uint32(b)) != size {
		return 0, problemSize
	}
	if uint64(binary.LittleEndian.Uint32(b[4:])) >= size {
		return 0, "the last element lies beyond the end"
	}
	return count16(b[8:]), ""
}

func ziplistEntries(b []byte) (int64, string) {
	end := len(b) - 1
	if b[end] != terminator {
		return 0, problemTerminator
	}
	count, previous, last := int64(0), 0, ziplistHead
	i := last
	for i < end {
		last = i
		back := int(b[i])
		switch back {
		case terminator:
			return 0, problemEarlyEnd
		case 0xfe:
			if i+5 >= end {
				return 0, problemOverrun
			}
			back = int(binary.LittleEndian.Uint32(b[i+1:]))
			i += 5
		default:
			i++
		}
		if back != previous {
			return 0, "an element gives a wrong length of the one before it"
		}
		if i >= end {
			return 0, problemOverrun
		}
		n := ziplistSize(b[i:end])
		if n == 0 {
			return 0, problemEncoding
		}
		if i += n; i > end {
			return 0, problemOverrun
		}
		previous = i - last
		count++
	}
	if int(binary.LittleEndian.Uint32(b[4:])) != last {
		return 0, "the header gives another last element"
	}
	if claimed := count16(b[8:]); claimed != None && claimed != count {
		return 0, problemCount
	}
	return count, ""
}

// ziplistSize returns the length of the element at the start of b without the
// length of its predecessor (ziplist.c), or 0 when its encoding is unknown. b is
// not empty; the result may be larger than b.
func ziplistSize(b []byte) int {
	switch c := b[0]; {
	case c>>6 == 0: // string of up to 63 bytes
		return 1 + int(c)
	case c>>6 == 1 && len(b) >= 2: // up to 16383 bytes
		return 2 + int(c&0x3f)<<8 + int(b[1])
	case c == 0x80 && len(b) >= 5:
		return 5 + bounded(binary.BigEndian.Uint32(b[1:]))
	case c == 0xc0: // 16-bit integer
		return 3
	case c == 0xd0: // 32-bit integer
		return 5
	case c == 0xe0: // 64-bit integer
		return 9
	case c == 0xf0: // 24-bit integer
		return 4
	case c == 0xfe: // 8-bit integer
		return 2
	case c >= 0xf1 && c <= 0xfd: // 0 to 12, in the byte itself
		return 1
	}
	return 0
}

func intsetHeader(b []byte, size uint64) (int64, string) {
	width := uint64(binary.LittleEndian.Uint32(b))
	if width != 2 && width != 4 && width != 8 {
		return 0, "unknown width of integers"
	}
	n := uint64(binary.LittleEndian.Uint32(b[4:]))
	if n == 0 {
		// Unlike other empty collections, servers refuse this one.
		return 0, "no elements"
	}
	if 8+n*width != size {
		return 0, problemSize
	}
	return int64(n), ""
}

// intsetEntries checks that the integers ascend. It is not called unless
// Options.Deep is set.
func intsetEntries(b []byte) (int64, string) {
	width := int(binary.LittleEndian.Uint32(b))
	previous := int64(math.MinInt64)
	for i := intsetHead; i < len(b); i += width {
		var v int64
		switch width {
		case 2:
			v = int64(int16(binary.LittleEndian.Uint16(b[i:])))
		case 4:
			v = int64(int32(binary.LittleEndian.Uint32(b[i:])))
		default:
			v = int64(binary.LittleEndian.Uint64(b[i:]))
		}
		if i > intsetHead && v <= previous {
			return 0, "integers out of order"
		}
		previous = v
	}
	return int64((len(b) - intsetHead) / width), ""
}

func zipmapHeader(b []byte, _ uint64) (int64, string) {
	if b[0] >= zipmapBigLen {
		return None, ""
	}
	return int64(b[0]), ""
}

// zipmapBigLen as a length means that 4 bytes with the length follow.
const zipmapBigLen = 254

func zipmapEntries(b []byte) (int64, string) {
	end := len(b) - 1
	if b[end] != terminator {
		return 0, problemTerminator
	}
	i := zipmapHead
	// field moves i behind a length, extra bytes more, and what they announce.
	field := func(extra int) bool {
		if i >= end {
			return false
		}
		n := int(b[i])
		i++
		switch n {
		case terminator:
			return false
		case zipmapBigLen:
			if i+4 > end {
				return false
			}
			n = bounded(binary.LittleEndian.Uint32(b[i:]))
			i += 4
		}
		if extra > 0 { // how many bytes behind a value are unused
			if i >= end {
				return false
			}
			n += extra + int(b[i])
		}
		i += n
		return i <= end
	}
	count := int64(0)
	for i < end {
		if !field(0) || !field(1) {
			return 0, problemOverrun
		}
		count++
	}
	if b[0] < zipmapBigLen && int64(b[0]) != count {
		return 0, problemCount
	}
	return count, ""
}
