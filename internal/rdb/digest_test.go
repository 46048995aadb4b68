package rdb_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/rdb/rdbtest"
)

// digests returns the digests of all values by database and key, and those of the
// functions.
func digests(t require.TestingT, file []byte, opts rdb.Options) (values map[string]rdb.ValueDigest, functions []rdb.ValueDigest) {
	values = make(map[string]rdb.ValueDigest)
	_, err := rdb.ScanDigests(context.Background(), bytes.NewReader(file), rdb.DigestVisitor{
		Entry: func(e *rdb.Entry, d rdb.ValueDigest) error {
			values[fmt.Sprintf("%d %s", e.DB, e.Key)] = d
			return nil
		},
		Function: func(d rdb.ValueDigest) error {
			functions = append(functions, d)
			return nil
		},
	}, opts)
	require.NoError(t, err)
	return values, functions
}

// TestDigestsOfServers: what different servers wrote of the same commands has the
// same digests, though they encode much of it differently.
func TestDigestsOfServers(t *testing.T) {
	oldest, _ := digests(t, read(t, "testdata/redis-6.0.rdb"), rdb.Options{})
	require.Greater(t, len(oldest), 40)
	for _, name := range []string{"redis-7.0", "redis-8.0", "valkey-8.1"} {
		for _, window := range []int{0, rdb.MinWindow} {
			got, functions := digests(t, read(t, "testdata/"+name+".rdb"), rdb.Options{Window: window})
			for key, want := range oldest {
				assert.True(t, want.Canonical, key)
				assert.Equal(t, want, got[key], "%s of %s", key, name)
			}
			assert.Len(t, functions, 2)
			assert.Equal(t, name != "redis-8.0", allCanonical(got), "vector sets, which only Redis 8.0 has, are a module's")
		}
	}
	_, of7 := digests(t, read(t, "testdata/redis-7.0.rdb"), rdb.Options{})
	_, of8 := digests(t, read(t, "testdata/redis-8.0.rdb"), rdb.Options{Window: rdb.MinWindow})
	assert.ElementsMatch(t, of7, of8)
}

func allCanonical(values map[string]rdb.ValueDigest) bool {
	for _, d := range values {
		if !d.Canonical {
			return false
		}
	}
	return true
}

// logical is what a value holds, apart from how that is written.
type logical struct {
	kind rdb.Type
	// parts are the text of a string; elements; members and scores; fields,
	// values and expiry times ("0" for none).
	parts []string
}

func (c logical) per() int {
	switch c.kind {
	case rdb.TypeSortedSet:
		return 2
	case rdb.TypeHash:
		return 3
	default:
		return 1
	}
}

// encode writes the contents in one of the forms that servers have for them,
// unordered elements in any order.
func (c logical) encode(t *rapid.T) (rdbType byte, value []byte) {
	if c.kind != rdb.TypeString && c.kind != rdb.TypeList {
		c.parts = slices.Concat(rapid.Permutation(slices.Collect(slices.Chunk(c.parts, c.per()))).Draw(t, "order")...)
	}
	text := func(s string) []byte { return drawEncoded(t, s) }
	texts := func(parts []string) (b []byte) {
		for _, p := range parts {
			b = append(b, text(p)...)
		}
		return b
	}
	n := len(c.parts) / c.per()
	switch c.kind {
	case rdb.TypeString:
		return 0, text(c.parts[0])
	case rdb.TypeList:
		half := rapid.IntRange(0, n).Draw(t, "half")
		first, second := c.parts[:half], c.parts[half:]
		switch rapid.IntRange(0, 3).Draw(t, "list form") {
		case 0:
			return 1, cat(length(uint64(n)), texts(c.parts))
		case 1:
			return 10, text(string(rdbtest.Ziplist(c.parts...)))
		case 2:
			return 14, cat(length(2), text(string(rdbtest.Ziplist(first...))), text(string(rdbtest.Ziplist(second...))))
		default:
			value = length(uint64(1 + len(second)))
			value = cat(value, length(2), text(string(rdbtest.Listpack(first...))))
			for _, s := range second {
				if s == "" { // there are no empty nodes
					value = cat(value, length(2), text(string(rdbtest.Listpack(""))))
				} else {
					value = cat(value, length(1), text(s))
				}
			}
			return 18, value
		}
	case rdb.TypeSet:
		if integers, ok := ascending(c.parts); ok && rapid.Bool().Draw(t, "intset") {
			return 11, text(string(rdbtest.Intset(integers...)))
		}
		if rapid.Bool().Draw(t, "packed") {
			return 20, text(string(rdbtest.Listpack(c.parts...)))
		}
		return 2, cat(length(uint64(n)), texts(c.parts))
	case rdb.TypeSortedSet:
		switch rapid.IntRange(0, 3).Draw(t, "zset form") {
		case 0:
			return 12, text(string(rdbtest.Ziplist(c.parts...)))
		case 1:
			return 17, text(string(rdbtest.Listpack(c.parts...)))
		case 2:
			value = length(uint64(n))
			for m := range slices.Chunk(c.parts, 2) {
				value = cat(value, text(m[0]), textScore(m[1]))
			}
			return 3, value
		default:
			value = length(uint64(n))
			for m := range slices.Chunk(c.parts, 2) {
				f, err := strconv.ParseFloat(m[1], 64)
				require.NoError(t, err)
				value = cat(value, text(m[0]), score(f))
			}
			return 5, value
		}
	default:
		return c.encodeHash(t, text)
	}
}

func (c logical) encodeHash(t *rapid.T, text func(string) []byte) (byte, []byte) {
	var pairs []string
	expiring := false
	for f := range slices.Chunk(c.parts, 3) {
		pairs = append(pairs, f[0], f[1])
		expiring = expiring || f[2] != "0"
	}
	n := uint64(len(c.parts) / 3)
	forms := []int{24, 25, 23, 22}
	if !expiring {
		forms = []int{4, 9, 13, 16, 24, 25}
	}
	switch form := rapid.SampledFrom(forms).Draw(t, "hash form"); form {
	case 4:
		value := length(n)
		for _, p := range pairs {
			value = append(value, text(p)...)
		}
		return 4, value
	case 9:
		return 9, text(string(rdbtest.Zipmap(3, pairs...)))
	case 13:
		return 13, text(string(rdbtest.Ziplist(pairs...)))
	case 16:
		return 16, text(string(rdbtest.Listpack(pairs...)))
	case 25:
		return 25, cat(le64(12345), text(string(rdbtest.Listpack(c.parts...))))
	case 23:
		return 23, text(string(rdbtest.Listpack(c.parts...)))
	default:
		const earliest = 1_000
		var value []byte
		if form == 24 {
			value = le64(earliest)
		}
		value = cat(value, length(n))
		for f := range slices.Chunk(c.parts, 3) {
			at, err := strconv.ParseUint(f[2], 10, 64)
			require.NoError(t, err)
			if form == 24 && at != 0 {
				at = at - earliest + 1
			}
			value = cat(value, length(at), text(f[0]), text(f[1]))
		}
		return byte(form), value
	}
}

func ascending(parts []string) ([]int64, bool) {
	out := make([]int64, 0, len(parts))
	for _, p := range parts {
		n, err := strconv.ParseInt(p, 10, 64)
		if err != nil || strconv.FormatInt(n, 10) != p {
			return nil, false
		}
		out = append(out, n)
	}
	slices.Sort(out)
	return out, len(out) > 0
}

func textScore(digits string) []byte {
	switch digits {
	case "inf":
		return []byte{254}
	case "-inf":
		return []byte{255}
	}
	return append([]byte{byte(len(digits))}, digits...)
}

func drawLogical(t *rapid.T) logical {
	text := drawString("text")
	c := logical{kind: rapid.SampledFrom([]rdb.Type{
		rdb.TypeString, rdb.TypeList, rdb.TypeSet, rdb.TypeSortedSet, rdb.TypeHash,
	}).Draw(t, "kind")}
	switch c.kind {
	case rdb.TypeString:
		c.parts = []string{text.Draw(t, "string")}
		return c
	case rdb.TypeList:
		c.parts = rapid.SliceOfN(text, 1, 6).Draw(t, "elements")
		return c
	}
	names := text
	if rapid.Bool().Draw(t, "integers only") {
		names = rapid.Map(rapid.Int64(), func(n int64) string { return strconv.FormatInt(n, 10) })
	}
	for _, name := range rapid.SliceOfNDistinct(names, 1, 6, rapid.ID[string]).Draw(t, "names") {
		c.parts = append(c.parts, name)
		switch c.kind {
		case rdb.TypeSortedSet:
			c.parts = append(c.parts, drawScore(t))
		case rdb.TypeHash:
			at := rapid.SampledFrom([]string{"0", "0", "1000", "4102444800000"}).Draw(t, "expiry")
			c.parts = append(c.parts, text.Draw(t, "value"), at)
		}
	}
	return c
}

func drawScore(t *rapid.T) string {
	return rapid.OneOf(
		rapid.SampledFrom([]string{"inf", "-inf", "0", "1", "-2.5"}),
		rapid.Map(rapid.Float64(), func(f float64) string { return strconv.FormatFloat(f, 'g', 17, 64) }),
	).Draw(t, "score")
}

// TestDigestsAreCanonical: the digest depends on what a value holds and on nothing
// else, and on all of that.
func TestDigestsAreCanonical(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawLogical(t)
		other := logical{c.kind, slices.Clone(c.parts)}
		at := rapid.IntRange(0, len(c.parts)-1).Draw(t, "changed part")
		switch {
		case c.kind == rdb.TypeSortedSet && at%2 == 1:
			other.parts[at] = "123.25"
		case c.kind == rdb.TypeHash && at%3 == 2:
			other.parts[at] = "123456789"
		default:
			other.parts[at] += "x"
		}
		file := rdbtest.File(rdbtest.Redis8, func(w *rdbtest.Writer) {
			w.SelectDB(0)
			for _, key := range []string{"a", "b"} {
				rdbType, value := c.encode(t)
				w.Value(rdbType, key, value)
			}
			rdbType, value := other.encode(t)
			w.Value(rdbType, "c", value)
		})
		window := rapid.SampledFrom([]int{rdb.MinWindow, 5_000, 1 << 20}).Draw(t, "window")
		got, _ := digests(t, file, rdb.Options{Window: window})
		require.Equal(t, got["0 a"], got["0 b"])
		require.True(t, got["0 a"].Canonical)
		if other.parts[at] != c.parts[at] {
			require.NotEqual(t, got["0 a"].Sum, got["0 c"].Sum)
		}
	})
}

// TestDigestDetails: what the random values do not hit.
func TestDigestDetails(t *testing.T) {
	type value struct {
		rdbType byte
		bytes   []byte
	}
	digest := func(header string, v value) rdb.ValueDigest {
		file := rdbtest.File(header, func(w *rdbtest.Writer) { w.SelectDB(0).Value(v.rdbType, "k", v.bytes) })
		got, _ := digests(t, file, rdb.Options{})
		return got["0 k"]
	}
	hash := cat(length(2), raw("f"), raw("1"), raw("g"), raw("2"))
	huge := noise(1<<20 + 1)
	for _, c := range []struct {
		name      string
		a, b      value
		header    string
		same      bool
		canonical bool
	}{
		{"a zero without sign in a listpack", value{5, cat(length(1), raw("m"), score(math.Copysign(0, -1)))}, value{17, packed(rdbtest.Listpack("m", "0"))}, rdbtest.Redis8, true, true},
		{"digits of the same number", value{12, packed(rdbtest.Ziplist("m", "0.10000000000000001"))}, value{17, packed(rdbtest.Listpack("m", "0.1"))}, rdbtest.Redis8, true, true},
		{"repeated elements of a list", value{1, cat(length(2), raw("a"), raw("a"))}, value{1, cat(length(1), raw("a"))}, rdbtest.Redis8, false, true},
		{"elements divided in another way", value{1, cat(length(2), raw("ab"), raw("c"))}, value{1, cat(length(2), raw("a"), raw("bc"))}, rdbtest.Redis8, false, true},
		{"field and value swapped", value{4, cat(length(1), raw("a"), raw("b"))}, value{4, cat(length(1), raw("b"), raw("a"))}, rdbtest.Redis8, false, true},
		{"values swapped", value{4, hash}, value{4, cat(length(2), raw("f"), raw("2"), raw("g"), raw("1"))}, rdbtest.Redis8, false, true},
		{"a number with a leading zero", value{0, raw("7")}, value{0, raw("07")}, rdbtest.Redis8, false, true},
		{"fields of Valkey 9 that do not expire", value{4, hash}, value{22, cat(length(2), raw("f"), raw("1"), le64(math.MaxUint64), raw("g"), raw("2"), le64(math.MaxUint64))}, rdbtest.Valkey9, true, true},
		{"fields of Valkey 9 that do", value{4, hash}, value{22, cat(length(2), raw("f"), raw("1"), le64(5), raw("g"), raw("2"), le64(math.MaxUint64))}, rdbtest.Valkey9, false, true},
		{"a huge listpack", value{20, packed(rdbtest.Listpack(huge, "a"))}, value{20, packed(rdbtest.Listpack("a", huge))}, rdbtest.Redis8, false, false},
		{"a huge listpack, compressed", value{20, packed(rdbtest.Listpack(huge, "a"))}, value{20, lzf(rdbtest.Listpack(huge, "a"))}, rdbtest.Redis8, true, false},
		{"a huge listpack in a list", value{18, cat(length(1), length(2), packed(rdbtest.Listpack(huge)))}, value{18, cat(length(1), length(1), raw(huge))}, rdbtest.Redis8, false, false},
		{"a module", value{7, cat(length(moduleID("ReJSON-RL", 3)), length(5), raw("text"), length(0))}, value{7, cat(length(moduleID("ReJSON-RL", 3)), length(5), lzf([]byte("text")), length(0))}, rdbtest.Redis8, false, false},
		{"streams of different versions", value{15, streamValue(1, 3, 3)}, value{21, streamValue(3, 3, 3)}, rdbtest.Redis8, true, true},
		{"pending entries", value{21, streamValue(3, 3, 3)}, value{21, streamValue(3, 2, 2)}, rdbtest.Redis8, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := digest(c.header, c.a), digest(c.header, c.b)
			assert.Equal(t, c.same, a.Sum == b.Sum)
			assert.Equal(t, c.canonical, a.Canonical)
		})
	}
}

// streamNode is a node of a stream that starts at an ID.
func streamNode(first uint64, elements ...string) []byte {
	return cat(packed(streamID(first)), packed(rdbtest.Listpack(elements...)))
}

// TestStreamDigest: nodes, templates and deleted entries are how entries are
// stored and not part of them.
func TestStreamDigest(t *testing.T) {
	end := cat(length(2), length(1), length(9), length(0)) // entries, last ID, groups
	digest := func(nodes ...[]byte) [16]byte {
		value := cat(length(uint64(len(nodes))), cat(nodes...), end)
		file := rdbtest.File(rdbtest.Redis6, func(w *rdbtest.Writer) { w.SelectDB(0).Value(15, "k", value) })
		got, _ := digests(t, file, rdb.Options{})
		return got["0 k"].Sum
	}
	one := digest(streamNode(1, "2", "0", "2", "f", "g", "0", "2", "0", "0", "v", "w", "5", "2", "0", "4", "x", "y", "5"))
	assert.Equal(t, one, digest(
		streamNode(1, "1", "0", "2", "f", "g", "0", "2", "0", "0", "v", "w", "5"),
		streamNode(5, "1", "0", "2", "f", "g", "0", "2", "0", "0", "x", "y", "5"),
	), "in two nodes")
	assert.Equal(t, one, digest(
		streamNode(1, "2", "0", "1", "other", "0", "0", "0", "0", "2", "f", "v", "g", "w", "8", "0", "0", "4", "2", "f", "x", "g", "y", "8"),
	), "fields beside the template's")
	assert.Equal(t, one, digest(
		streamNode(1, "2", "2", "2", "f", "g", "0", "2", "0", "0", "v", "w", "5",
			"3", "0", "1", "gone", "gone", "5", "1", "0", "2", "1", "also", "gone", "6", "2", "0", "4", "x", "y", "5"),
	), "with deleted entries")
	assert.NotEqual(t, one, digest(
		streamNode(1, "2", "0", "2", "f", "g", "0", "2", "0", "0", "v", "w", "5", "2", "0", "3", "x", "y", "5"),
	), "another ID")
}

// TestDamagedStreamNodes: nodes whose listpack is sound and whose entries are not.
func TestDamagedStreamNodes(t *testing.T) {
	for _, elements := range [][]string{
		{"1"},
		{"1", "0", "x"},
		{"1", "0", "-1"},
		{"1", "0", "9223372036854775807", "0"},
		{"1", "0", "1", "f"},
		{"1", "0", "1", "f", "0", "2", "0"},
		{"1", "0", "1", "f", "0", "2", "0", "0"},
		{"1", "0", "1", "f", "0", "0", "0", "0", "9223372036854775807", "v"},
		{"1", "0", "1", "f", "0", "1", "0", "0", "4611686018427387904", "v"},
		{"1", "0", "1", "f", "0", "2", "0", "0", "v"},
	} {
		value := cat(length(1), streamNode(1, elements...), length(1), length(1), length(1), length(0))
		file := rdbtest.File(rdbtest.Redis6, func(w *rdbtest.Writer) { w.SelectDB(0).Value(15, "k", value) })
		_, err := rdb.ScanDigests(t.Context(), bytes.NewReader(file), rdb.DigestVisitor{}, rdb.Options{})
		require.ErrorIs(t, err, rdb.ErrCorrupt, "%v", elements)
	}
}

// TestDigestVisitor: values that are not wanted are not decoded, and errors of the
// visitor come back as they are, also from the middle of a large value.
func TestDigestVisitor(t *testing.T) {
	large := noise(10 << 10)
	file := rdbtest.File(rdbtest.Redis8, func(w *rdbtest.Writer) {
		w.Function("#!lua name=large\n" + large).SelectDB(0)
		w.Value(0, "hollow", rdbtest.AppendLZF(nil, []byte{0, 'a', 0x20, 5}, 4)) // from before the start
		w.String("large", large).String("small", "v")
	})
	scan := func(v rdb.DigestVisitor, data []byte) error {
		_, err := rdb.ScanDigests(t.Context(), bytes.NewReader(data), v, rdb.Options{Window: rdb.MinWindow})
		return err
	}
	wanted := func(e *rdb.Entry) bool { return string(e.Key) != "hollow" }
	var keys []string
	require.NoError(t, scan(rdb.DigestVisitor{Wanted: wanted, Entry: func(e *rdb.Entry, _ rdb.ValueDigest) error {
		keys = append(keys, string(e.Key))
		return nil
	}}, file))
	assert.Equal(t, []string{"large", "small"}, keys)

	var fault *rdb.FormatError
	require.ErrorAs(t, scan(rdb.DigestVisitor{}, file), &fault)
	assert.Equal(t, "compressed string", fault.Section)
	assert.EqualValues(t, bytes.Index(file, []byte{0, 'a', 0x20, 5}), fault.Offset)

	stop := errors.New("stop")
	assert.Same(t, stop, scan(rdb.DigestVisitor{Wanted: wanted, Entry: func(*rdb.Entry, rdb.ValueDigest) error { return stop }}, file))
	assert.Same(t, stop, scan(rdb.DigestVisitor{Function: func(rdb.ValueDigest) error { return stop }}, file))
	for _, end := range []int{2_000, 15_000} { // inside the function, inside the large value
		require.ErrorIs(t, scan(rdb.DigestVisitor{Wanted: wanted}, file[:end]), rdb.ErrTruncated)
	}
}

// FuzzScanDigests: whatever the bytes, nothing but a *FormatError comes of them, and
// digests do not depend on the window.
func FuzzScanDigests(f *testing.F) {
	for _, name := range fixtures(f) {
		f.Add(read(f, name))
	}
	f.Add(rdbtest.File(rdbtest.Redis8, func(w *rdbtest.Writer) {
		for i, v := range handMade() {
			if strings.HasPrefix(v.header, "REDIS") {
				w.Value(v.rdbType, strconv.Itoa(i), v.value)
			}
		}
	}))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 8 {
			data = rdbtest.WithoutChecksum(data)
		}
		run := func(window int) (out []rdb.ValueDigest, err error) {
			_, err = rdb.ScanDigests(t.Context(), bytes.NewReader(data), rdb.DigestVisitor{
				Entry: func(_ *rdb.Entry, d rdb.ValueDigest) error {
					out = append(out, d)
					return nil
				},
			}, rdb.Options{Window: window, Deep: true})
			if err != nil && !errors.As(err, new(*rdb.FormatError)) {
				t.Fatalf("unexpected error: %v", err)
			}
			return out, err
		}
		large, largeErr := run(1 << 16)
		small, smallErr := run(rdb.MinWindow)
		if (largeErr == nil) && (smallErr != nil || !slices.Equal(large, small)) {
			t.Fatalf("a small window: %d digests, %v; a large one: %d digests", len(small), smallErr, len(large))
		}
	})
}
