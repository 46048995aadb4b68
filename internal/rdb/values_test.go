package rdb_test

import (
	"bytes"
	"encoding/binary"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/rdb/rdbtest"
)

// Shorthands for writing values byte by byte.

func cat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func length(n uint64) []byte { return rdbtest.AppendLength(nil, n) }

func raw(s string) []byte { return rdbtest.AppendRawString(nil, s) }

func packed(b []byte) []byte { return raw(string(b)) }

// lzf stores b compressed however badly that works.
func lzf(b []byte) []byte { return rdbtest.AppendLZF(nil, rdbtest.Compress(b), len(b)) }

func le64(n uint64) []byte { return binary.LittleEndian.AppendUint64(nil, n) }

func score(f float64) []byte { return le64(math.Float64bits(f)) }

var (
	someStrings = []string{"a", "field", "-5", "12", "300", "-70000", "2147483648", strings.Repeat("long ", 30), "", "z"}
)

func repeated(c byte, n int) string { return strings.Repeat(string(c), n) }

// streamID returns the ID 1700000000000-n in its stored form.
func streamID(n uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, 1_700_000_000_000), n)
}

// streamValue builds a stream of one node and one group; versions 1 to 3 have
// more and more fields.
func streamValue(version int, pending, owned uint64) []byte {
	entries := rdbtest.Listpack("1", "0", "1", "f", "0", "2", "0", "0", "v", "4")
	b := cat(length(1), packed(streamID(1)), packed(entries), length(1), length(1700000000000), length(1))
	if version >= 2 {
		b = cat(b, length(1700000000000), length(1), length(0), length(0), length(1))
	}
	b = cat(b, length(1), raw("group"), length(1700000000000), length(1))
	if version >= 2 {
		b = cat(b, length(1))
	}
	b = cat(b, length(pending))
	for i := range pending {
		b = cat(b, streamID(i+1), le64(1700000000001), length(3))
	}
	b = cat(b, length(1), raw("consumer"), le64(1700000000002))
	if version >= 3 {
		b = cat(b, le64(1700000000003))
	}
	b = cat(b, length(owned))
	for i := range owned {
		b = cat(b, streamID(i+1))
	}
	return b
}

// moduleID encodes a module type's name and version.
func moduleID(name string, version uint64) uint64 {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	id := uint64(0)
	for _, c := range name {
		id = id<<6 | uint64(strings.IndexRune(alphabet, c))
	}
	return id<<10 | version
}

// handMadeValue is a value written byte by byte.
type handMadeValue struct {
	name     string
	header   string // the oldest that fits
	rdbType  byte
	value    []byte
	kind     rdb.Type
	encoding rdb.Encoding
	len      int64
}

// handMade covers what no server at hand writes any more, or only for values too
// large for a fixture.
func handMade() []handMadeValue {
	const count = 70_000
	many := make([]string, 0, count+1)
	for i := range count {
		many = append(many, strconv.Itoa(i))
	}
	return []handMadeValue{
		{"string in 32-bit length form", rdbtest.Redis6, 0, cat([]byte{0x80, 0, 0, 0, 2}, []byte("ab")), rdb.TypeString, rdb.EncodingEmbstr, 2},
		{"string in 64-bit length form", rdbtest.Redis6, 0, cat([]byte{0x81, 0, 0, 0, 0, 0, 0, 0, 2}, []byte("ab")), rdb.TypeString, rdb.EncodingEmbstr, 2},
		{"compressed short string", rdbtest.Redis6, 0, lzf([]byte(strings.Repeat("a", 30))), rdb.TypeString, rdb.EncodingEmbstr, 30},
		{"large string", rdbtest.Redis6, 0, raw(strings.Repeat("large", 500_000)), rdb.TypeString, rdb.EncodingRaw, 2_500_000},
		{"large compressed string", rdbtest.Redis6, 0, lzf([]byte(strings.Repeat(noise(50_000)+"repeat", 50))), rdb.TypeString, rdb.EncodingRaw, 2_500_300},
		{"list", rdbtest.Redis6, 1, rdbtest.AppendStrings(nil, someStrings, 1), rdb.TypeList, rdb.EncodingLinkedList, 10},
		{"set", rdbtest.Redis6, 2, rdbtest.AppendStrings(nil, someStrings, 1), rdb.TypeSet, rdb.EncodingHashtable, 10},
		{"zset with scores as text", rdbtest.Redis6, 3, cat(length(4), raw("a"), raw("-2.5"), raw("b"), []byte{254}, raw("c"), []byte{255}, raw("d"), raw("1e+20")), rdb.TypeSortedSet, rdb.EncodingSkiplist, 4},
		{"hash", rdbtest.Redis6, 4, rdbtest.AppendStrings(nil, someStrings, 2), rdb.TypeHash, rdb.EncodingHashtable, 5},
		{"zset", rdbtest.Redis6, 5, cat(length(2), raw("a"), score(math.Inf(1)), lzf([]byte(strings.Repeat("b", 40))), score(1)), rdb.TypeSortedSet, rdb.EncodingSkiplist, 2},
		{"module", rdbtest.Redis6, 7, cat(length(moduleID("ReJSON-RL", 3)),
			length(1), length(7), length(2), length(1<<40), length(3), make([]byte, 4), length(4), score(1), length(5), raw("text"), length(0)), rdb.TypeModule, rdb.EncodingModule, rdb.None},
		{"zipmap", "REDIS0003", 9, packed(rdbtest.Zipmap(0, someStrings...)), rdb.TypeHash, rdb.EncodingZipmap, 5},
		{"zipmap with gaps and a long value", "REDIS0003", 9, packed(rdbtest.Zipmap(3, "a", "b", "c", strings.Repeat("d", 300))), rdb.TypeHash, rdb.EncodingZipmap, 2},
		{"compressed zipmap", "REDIS0003", 9, lzf(rdbtest.Zipmap(0, someStrings...)), rdb.TypeHash, rdb.EncodingZipmap, 5},
		{"zipmap of many", "REDIS0003", 9, lzf(rdbtest.Zipmap(0, many[:600]...)), rdb.TypeHash, rdb.EncodingZipmap, 300},
		{"list ziplist", "REDIS0006", 10, packed(rdbtest.Ziplist(someStrings...)), rdb.TypeList, rdb.EncodingZiplist, 10},
		{"list ziplist with long elements", "REDIS0006", 10, packed(rdbtest.Ziplist("a", noise(300), "b", noise(20_000), "c")), rdb.TypeList, rdb.EncodingZiplist, 5},
		{"compressed ziplist", "REDIS0006", 10, lzf(rdbtest.Ziplist(someStrings...)), rdb.TypeList, rdb.EncodingZiplist, 10},
		{"ziplist of more than the header can count", "REDIS0006", 10, packed(rdbtest.Ziplist(many...)), rdb.TypeList, rdb.EncodingZiplist, 70_000},
		{"the same, compressed", "REDIS0006", 10, lzf(rdbtest.Ziplist(many...)), rdb.TypeList, rdb.EncodingZiplist, 70_000},
		{"intset of 16 bits", rdbtest.Redis6, 11, packed(rdbtest.Intset(-2, 5, 300)), rdb.TypeSet, rdb.EncodingIntset, 3},
		{"intset of 64 bits", rdbtest.Redis6, 11, packed(rdbtest.Intset(-2, 5, 1<<40)), rdb.TypeSet, rdb.EncodingIntset, 3},
		{"zset ziplist", rdbtest.Redis6, 12, packed(rdbtest.Ziplist("a", "1", "b", "2.5")), rdb.TypeSortedSet, rdb.EncodingZiplist, 2},
		{"hash ziplist", rdbtest.Redis6, 13, packed(rdbtest.Ziplist(someStrings...)), rdb.TypeHash, rdb.EncodingZiplist, 5},
		{"quicklist of ziplists", "REDIS0007", 14, cat(length(2), packed(rdbtest.Ziplist("a", "b")), lzf(rdbtest.Ziplist(someStrings...))), rdb.TypeList, rdb.EncodingQuicklist, 12},
		{"stream 1", rdbtest.Redis6, 15, streamValue(1, 2, 2), rdb.TypeStream, rdb.EncodingStream, 1},
		{"hash listpack", rdbtest.Redis70, 16, packed(rdbtest.Listpack(someStrings...)), rdb.TypeHash, rdb.EncodingListpack, 5},
		{"listpack with elements of every length form", rdbtest.Redis72, 20, packed(rdbtest.Listpack(noise(63), noise(64), noise(200), noise(4095), noise(4096), noise(20_000), "x")), rdb.TypeSet, rdb.EncodingListpack, 7},
		{"listpack with elements around the limits of their trailing lengths", rdbtest.Redis72, 20, lzf(rdbtest.Listpack(
			repeated('a', 126), repeated('b', 127), repeated('c', 16377), repeated('d', 16378), repeated('e', 16379))), rdb.TypeSet, rdb.EncodingListpack, 5},
		{"the same, larger", rdbtest.Redis72, 20, packed(rdbtest.Listpack(
			repeated('f', 2097145), repeated('g', 2097146), repeated('h', 2097147))), rdb.TypeSet, rdb.EncodingListpack, 3},
		{"listpack of more than the header can count", rdbtest.Redis72, 20, packed(rdbtest.Listpack(many...)), rdb.TypeSet, rdb.EncodingListpack, 70_000},
		{"the same, compressed", rdbtest.Redis72, 20, lzf(rdbtest.Listpack(many...)), rdb.TypeSet, rdb.EncodingListpack, 70_000},
		{"listpack larger than half the window", rdbtest.Redis70, 17, packed(rdbtest.Listpack("a", "1", noise(700_000), "2")), rdb.TypeSortedSet, rdb.EncodingListpack, 2},
		{"the same, compressed", rdbtest.Redis70, 17, lzf(rdbtest.Listpack("a", "1", strings.Repeat(noise(700_000), 2), "2")), rdb.TypeSortedSet, rdb.EncodingListpack, 2},
		{"a large listpack of uncounted elements", rdbtest.Redis70, 18, cat(length(1), length(2), packed(rdbtest.Listpack(append(many, noise(700_000))...))), rdb.TypeList, rdb.EncodingQuicklist, rdb.None},
		{"quicklist with plain nodes", rdbtest.Redis70, 18, cat(length(3), length(1), raw(noise(100)), length(2), packed(rdbtest.Listpack("a", "b")), length(1), lzf([]byte(strings.Repeat("z", 100)))), rdb.TypeList, rdb.EncodingQuicklist, 4},
		{"stream 2", rdbtest.Redis70, 19, streamValue(2, 1, 1), rdb.TypeStream, rdb.EncodingStream, 1},
		{"stream 3", rdbtest.Redis72, 21, streamValue(3, 2, 2), rdb.TypeStream, rdb.EncodingStream, 1},
		{"stream that was emptied", rdbtest.Redis72, 21, cat(length(0), length(0), length(5), length(0), length(0), length(0), length(5), length(0), length(1), length(0)), rdb.TypeStream, rdb.EncodingStream, 0},
		{"hash with field expiry, 7.4 candidate", rdbtest.Redis8, 22, cat(length(2), length(0), raw("a"), raw("1"), length(4_102_444_800_000), raw("b"), raw("2")), rdb.TypeHash, rdb.EncodingHashtable, 2},
		{"listpack with field expiry, 7.4 candidate", rdbtest.Redis8, 23, packed(rdbtest.Listpack("a", "1", "4102444800000", "b", "2", "0")), rdb.TypeHash, rdb.EncodingListpackEx, 2},
		{"hash with field expiry", rdbtest.Redis8, 24, cat(le64(4_102_444_800_000), length(2), length(0), raw("a"), raw("1"), length(1), raw("b"), raw("2")), rdb.TypeHash, rdb.EncodingHashtable, 2},
		{"listpack with field expiry", rdbtest.Redis8, 25, cat(le64(4_102_444_800_000), packed(rdbtest.Listpack("a", "1", "4102444800000", "b", "2", "0"))), rdb.TypeHash, rdb.EncodingListpackEx, 2},
		{"hash with field expiry of Valkey", rdbtest.Valkey9, 22, cat(length(2), raw("a"), raw("1"), le64(math.MaxUint64), raw("b"), raw("2"), le64(4_102_444_800_000)), rdb.TypeHash, rdb.EncodingHashtable, 2},
	}
}

func TestHandMadeValues(t *testing.T) {
	for _, tt := range handMade() {
		t.Run(tt.name, func(t *testing.T) {
			file := rdbtest.File(tt.header, func(w *rdbtest.Writer) {
				w.String("before", "1").Value(tt.rdbType, "key", tt.value).String("after", "2")
			})
			for _, opts := range []rdb.Options{{}, {Deep: true}, {Deep: true, Window: 32 << 20}} {
				got := scanAll(t, file, opts)
				require.Len(t, got.records, 3)
				r := got.records[1]
				assert.Equal(t, tt.kind, r.Type)
				assert.Equal(t, tt.encoding, r.Encoding)
				if tt.len != rdb.None || tt.kind == rdb.TypeModule || opts.Window == 0 {
					assert.Equal(t, tt.len, r.Len)
				}
				assert.EqualValues(t, len(tt.value), r.Size)
				assert.True(t, bytes.Equal(tt.value, r.value), "the raw value")
				assert.Equal(t, "after", got.records[2].key)
				assert.True(t, bytes.Equal(tt.value, file[r.Offset:r.Offset+r.Size]), "the value's place in the file")
			}
		})
	}
}

func TestModuleNames(t *testing.T) {
	for _, name := range []string{"ReJSON-RL", "vectorset", "MBbloom--", "TSDB-TYPE", "AAAAAAAAA", "_________"} {
		file := rdbtest.File(rdbtest.Redis72, func(w *rdbtest.Writer) {
			w.Value(7, "key", cat(length(moduleID(name, 1023)), length(0)))
		})
		got := scanAll(t, file, rdb.Options{})
		assert.Equal(t, name, got.records[0].Module)
		assert.Equal(t, map[string]int64{"module": 1}, got.summary.DBs[0].Types)
	}
}

func TestUncompressedSize(t *testing.T) {
	text := strings.Repeat("text ", 100)
	plain := scanAll(t, rdbtest.File(rdbtest.Redis72, func(w *rdbtest.Writer) {
		w.Value(0, "string", raw(text))
		w.Value(4, "hash", cat(length(2), raw("f"), raw(text), raw("g"), rdbtest.AppendString(nil, "12345")))
		w.Value(16, "packed", packed(rdbtest.Listpack("a", text)))
	}), rdb.Options{})
	small := scanAll(t, rdbtest.File(rdbtest.Redis72, func(w *rdbtest.Writer) {
		w.Value(0, "string", lzf([]byte(text)))
		w.Value(4, "hash", cat(length(2), raw("f"), lzf([]byte(text)), raw("g"), rdbtest.AppendString(nil, "12345")))
		w.Value(16, "packed", lzf(rdbtest.Listpack("a", text)))
	}), rdb.Options{})
	for i, p := range plain.records {
		assert.Equal(t, p.Size, p.Uncompressed, "%s: nothing to save", p.key)
		s := small.records[i]
		assert.Less(t, s.Size, p.Size/5, s.key)
		// The headers of compressed strings are a few bytes longer.
		assert.InDelta(t, p.Size, s.Uncompressed, 6, s.key)
	}
}

// TestDamagedValues has sound files with the right checksum and one bad value:
// what a checksum cannot find.
func TestDamagedValues(t *testing.T) {
	set32 := func(b []byte, at int, n uint32) []byte {
		b = bytes.Clone(b)
		binary.LittleEndian.PutUint32(b[at:], n)
		return b
	}
	set := func(b []byte, at int, v ...byte) []byte {
		b = bytes.Clone(b)
		if at < 0 {
			at += len(b)
		}
		copy(b[at:], v)
		return b
	}
	lp, zl, zm, is := rdbtest.Listpack("a", "b", "300", noise(200)), rdbtest.Ziplist("a", "b", "300", noise(300), "c"), rdbtest.Zipmap(0, "a", "b", "c", "d"), rdbtest.Intset(1, 2, 3)
	const always, deepOnly = false, true
	tests := []struct {
		name    string
		rdbType byte
		value   []byte
		deep    bool
		want    string
	}{
		{"string encoding in place of a count", 1, []byte{0xc0, 1}, always, "in place of a length"},
		{"unknown string encoding", 0, []byte{0xc4, 1}, always, "unknown string encoding 4"},
		{"unknown length form", 0, []byte{0x82, 1}, always, "unknown form of length 0x82"},
		{"string longer than any file", 0, []byte{0x81, 0xff, 0, 0, 0, 0, 0, 0, 0}, always, "a string of"},
		{"absurd count", 1, []byte{0x81, 0xff, 0, 0, 0, 0, 0, 0, 0}, always, "elements"},
		{"LZF: size beyond what it can yield", 0, rdbtest.AppendLZF(nil, []byte{0, 'a'}, 10_000), always, "cannot be the compressed form"},
		{"LZF: empty", 0, rdbtest.AppendLZF(nil, nil, 10), always, "cannot be the compressed form"},
		{"LZF: yields too little", 0, rdbtest.AppendLZF(nil, []byte{1, 'a', 'b'}, 3), always, "does not yield"},
		{"LZF: literals cut off", 0, rdbtest.AppendLZF(nil, []byte{0, 'a', 5, 'b', 'c'}, 7), always, "does not yield"},
		{"LZF: reference cut off", 0, rdbtest.AppendLZF(nil, []byte{1, 'a', 'b', 0x20}, 5), always, "does not yield"},
		{"LZF: long reference cut off", 0, rdbtest.AppendLZF(nil, []byte{1, 'a', 'b', 0xe0, 0}, 11), always, "does not yield"},
		{"LZF: reference before the start", 0, rdbtest.AppendLZF(nil, []byte{1, 'a', 'b', 0x20, 2}, 5), deepOnly, "does not yield"},
		{"LZF: reference before the start in a packed value", 16, rdbtest.AppendLZF(nil, []byte{1, 'a', 'b', 0xe0, 0, 9}, 11), always, "does not yield"},
		{"zset: score not a number", 5, cat(length(1), raw("a"), score(math.NaN())), always, "not a number"},
		{"zset: text score not a number", 3, cat(length(1), raw("a"), []byte{253}), always, "not a number"},
		{"zset: NaN as text", 3, cat(length(1), raw("a"), raw("nan")), always, "not a number"},
		{"zset: nonsense as score", 3, cat(length(1), raw("a"), raw("12x")), always, "not a number"},
		{"packed value too short", 16, raw("abc"), always, "too short"},
		{"packed value is a number", 16, rdbtest.AppendString(nil, "12"), always, "too short"},
		{"listpack: wrong length", 16, packed(set32(lp, 0, 9)), always, "another length"},
		{"listpack: no terminator", 16, packed(set(lp, -1, 0)), always, "no terminator"},
		{"listpack: early terminator", 16, packed(set(lp, 6, 0xff)), always, "before the end"},
		{"listpack: unknown encoding", 16, packed(set(lp, 6, 0xf5)), always, "unknown encoding"},
		{"listpack: element too long", 16, packed(set(lp, 6, 0xf0, 0xff, 0xff, 0xff, 0xff)), always, "beyond the end"},
		{"listpack: lengths differ", 16, packed(set(lp, 8, 9)), always, "two lengths differ"},
		{"listpack: long lengths differ", 16, packed(set(lp, -2, 9)), always, "two lengths differ"},
		{"listpack: wrong count", 16, packed(set(lp, 4, 2)), always, "differs from the header"},
		{"listpack: field without value", 16, packed(rdbtest.Listpack("a", "b", "c")), always, "incomplete"},
		{"listpack: field without expiry", 25, cat(le64(1), packed(rdbtest.Listpack("a", "b"))), always, "incomplete"},
		{"compressed listpack: wrong length", 16, lzf(set32(lp, 0, 9)), always, "another length"},
		{"compressed listpack: field without value", 16, lzf(rdbtest.Listpack("a", "b", "c")), always, "incomplete"},
		{"compressed listpack: lengths differ", 16, lzf(set(lp, 8, 9)), deepOnly, "two lengths differ"},
		{"large listpack: no terminator", 20, packed(set(rdbtest.Listpack(noise(700_000)), -1, 0)), always, "no terminator"},
		{"large listpack: wrong length", 20, packed(set32(rdbtest.Listpack(noise(700_000)), 0, 9)), always, "another length"},
		{"large compressed listpack: no terminator", 20, lzf(set(rdbtest.Listpack(strings.Repeat(noise(700_000), 2)), -1, 0)), always, "no terminator"},
		{"ziplist: wrong length", 13, packed(set32(zl, 0, 9)), always, "another length"},
		{"ziplist: last element beyond the end", 13, packed(set32(zl, 4, 1<<30)), always, "beyond the end"},
		{"ziplist: wrong last element", 10, packed(set32(zl, 4, 10)), always, "another last element"},
		{"ziplist: wrong count", 10, packed(set(zl, 8, 4)), always, "differs from the header"},
		{"ziplist: no terminator", 10, packed(set(zl, -1, 0)), always, "no terminator"},
		{"ziplist: early terminator", 10, packed(set(zl, 10, 0xff)), always, "before the end"},
		{"ziplist: unknown encoding", 10, packed(set(zl, 11, 0xff)), always, "unknown encoding"},
		{"ziplist: wrong length of the predecessor", 10, packed(set(zl, 13, 9)), always, "the one before it"},
		{"ziplist: element too long", 10, packed(set(zl, 11, 0x80, 0xff, 0xff, 0xff, 0xff)), always, "beyond the end"},
		{"intset: unknown width", 11, packed(set32(is, 0, 3)), always, "unknown width"},
		{"intset: wrong length", 11, packed(set32(is, 4, 4)), always, "another length"},
		{"intset: empty", 11, packed(rdbtest.Intset()), always, "no elements"},
		{"intset: out of order", 11, packed(rdbtest.Intset(3, 1)), deepOnly, "out of order"},
		{"zipmap: no terminator", 9, packed(set(zm, -1, 0)), always, "no terminator"},
		{"zipmap: wrong count", 9, packed(set(zm, 0, 9)), always, "differs from the header"},
		{"zipmap: element too long", 9, packed(set(zm, 1, 200)), always, "beyond the end"},
		{"quicklist: unknown node", 18, cat(length(1), length(3), packed(lp)), always, "unknown kind 3"},
		{"quicklist: empty node", 18, cat(length(1), length(1), raw("")), always, "an empty node"},
		{"stream: node key of the wrong size", 21, cat(length(1), raw("short"), packed(lp), length(1)), always, "size of an entry ID"},
		{"stream: empty node", 21, cat(length(1), packed(streamID(1)), packed(rdbtest.Listpack()), length(1)), always, "an empty node"},
		{"stream: entries without nodes", 21, cat(length(0), length(3)), always, "no nodes"},
		{"stream: consumer with more than the group", 21, streamValue(3, 1, 2), always, "more pending entries than their group"},
		{"stream: pending entry without consumer", 21, streamValue(3, 2, 1), deepOnly, "without a consumer"},
		{"module: unknown opcode", 7, cat(length(1), length(6)), always, "unknown module opcode 6"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var at int64
			file := rdbtest.File(rdbtest.Redis8, func(w *rdbtest.Writer) {
				w.String("before", "sound").Raw([]byte{tt.rdbType}).Raw(raw("key"))
				at = w.Size()
				w.Raw(tt.value)
			})
			_, err := collect(t, bytes.NewReader(file), rdb.Options{Deep: true})
			require.ErrorIs(t, err, rdb.ErrCorrupt)
			assert.NotErrorIs(t, err, rdb.ErrUnsupported)
			assert.ErrorContains(t, err, tt.want)
			var fault *rdb.FormatError
			require.ErrorAs(t, err, &fault)
			assert.GreaterOrEqual(t, fault.Offset, at, "where it is")
			assert.LessOrEqual(t, fault.Offset, at+int64(len(tt.value)), "where it is")

			_, err = collect(t, bytes.NewReader(file), rdb.Options{})
			if tt.deep {
				assert.NoError(t, err, "found only with Deep: move it to the others if that improved")
			} else {
				assert.ErrorContains(t, err, tt.want)
			}
		})
	}
}

// TestDamagedLongStreams has compressed strings too long for half the window,
// which are checked as they come.
func TestDamagedLongStreams(t *testing.T) {
	text := noise(2_000)
	sound := rdbtest.Compress([]byte(text))
	before := append([]byte{0x20, 0x05}, sound...) // a reference to before the start
	tests := map[string][]byte{
		"":                           rdbtest.AppendLZF(nil, sound, len(text)),
		"too long":                   rdbtest.AppendLZF(nil, sound, len(text)-1),
		"too short":                  rdbtest.AppendLZF(nil, sound, len(text)+1),
		"literals cut off":           rdbtest.AppendLZF(nil, append(bytes.Clone(sound), 5, 'a'), len(text)+6),
		"reference cut off":          rdbtest.AppendLZF(nil, append(bytes.Clone(sound), 0x20), len(text)+3),
		"long reference cut off":     rdbtest.AppendLZF(nil, append(bytes.Clone(sound), 0xe0, 0), len(text)+9),
		"reference before the start": rdbtest.AppendLZF(nil, before, len(text)+3),
	}
	for name, value := range tests {
		for part, file := range map[string][]byte{
			"value":  rdbtest.File(rdbtest.Redis72, func(w *rdbtest.Writer) { w.Value(0, "key", value) }),
			"packed": rdbtest.File(rdbtest.Redis72, func(w *rdbtest.Writer) { w.Value(20, "key", value) }),
			"key":    rdbtest.File(rdbtest.Redis72, func(w *rdbtest.Writer) { w.Raw([]byte{0}).Raw(value).Raw(raw("value")) }),
		} {
			_, err := collect(t, bytes.NewReader(file), rdb.Options{Window: rdb.MinWindow, KeyLimit: 10})
			switch {
			case name != "":
				require.ErrorIs(t, err, rdb.ErrCorrupt, "%s of a %s", name, part)
				assert.ErrorContains(t, err, "does not yield", "%s of a %s", name, part)
			case part != "packed": // noise is no listpack
				assert.NoError(t, err, part)
			}
		}
	}
}
