package rdbdiff

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/metrics"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/rdb/rdbtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var update = flag.Bool("update", false, "write what was found into testdata")

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// An item is a key as the tests think of it.
type item struct {
	kind     rdb.Type
	text     string
	expireAt int64 // 0 for none
}

func (i item) write(w *rdbtest.Writer, key string, packed bool) {
	if i.expireAt != 0 {
		w.ExpireAt(i.expireAt)
	}
	switch {
	case i.kind == rdb.TypeString:
		w.String(key, i.text)
	case i.kind == rdb.TypeSet && packed:
		w.Value(20, key, rdbtest.AppendString(nil, string(rdbtest.Listpack("member", i.text))))
	case i.kind == rdb.TypeSet:
		w.Set(key, i.text, "member")
	default: // a value that has no canonical form
		w.Value(7, key, bytes.Join([][]byte{rdbtest.AppendLength(nil, 1<<60), {5}, rdbtest.AppendString(nil, i.text), {0}}, nil))
	}
}

type place struct {
	db  int
	key string
}

func file(dbs int, items map[place]item, packed bool) []byte {
	return rdbtest.File(rdbtest.Redis8, func(w *rdbtest.Writer) {
		for db := range dbs {
			w.SelectDB(db)
			for p, i := range items { // in random order, like in a server
				if p.db == db {
					i.write(w, p.key, packed)
				}
			}
		}
	})
}

func drawItems(t *rapid.T) map[place]item {
	return rapid.MapOfN(
		rapid.Custom(func(t *rapid.T) place {
			return place{rapid.IntRange(0, 2).Draw(t, "db"), rapid.SampledFrom([]string{"", "a", "b:1", "b:2", "b:c:1", "b:c:2", ":", "d:\x00\xff", strings.Repeat("long", 400), strings.Repeat("long", 401)}).Draw(t, "key")}
		}),
		rapid.Custom(func(t *rapid.T) item {
			return item{
				kind:     rapid.SampledFrom([]rdb.Type{rdb.TypeString, rdb.TypeSet, rdb.TypeModule}).Draw(t, "kind"),
				text:     rapid.SampledFrom([]string{"1", "2"}).Draw(t, "text"),
				expireAt: rapid.SampledFrom([]int64{0, 0, 5, noon.UnixMilli() + 1}).Draw(t, "expiry"),
			}
		}), 0, 25).Draw(t, "items")
}

// naive counts in the most obvious way.
func naive(a, b map[place]item, keep func(place) bool) Counts {
	var c Counts
	count := func(p place, amount *Amount, sides ...item) {
		if !keep(p) {
			return
		}
		amount.Keys++
		expired := int64(1)
		for _, i := range sides {
			if i.expireAt == 0 || i.expireAt > noon.UnixMilli() {
				expired = 0
			}
		}
		amount.Expired += expired
	}
	for p, x := range a {
		y, both := b[p]
		switch {
		case !both:
			count(p, &c.OnlyInA, x)
		case x.kind != y.kind:
			count(p, &c.Changed, x, y)
			count(p, &c.TypeChanged, x, y)
		case x.text != y.text && x.kind == rdb.TypeModule:
			count(p, &c.Undecided, x, y)
		case x.text != y.text:
			count(p, &c.Changed, x, y)
		case x.expireAt != y.expireAt:
			count(p, &c.ExpiryChanged, x, y)
		default:
			count(p, &c.Equal, x, y)
		}
	}
	for p, y := range b {
		if _, both := a[p]; !both {
			count(p, &c.OnlyInB, y)
		}
	}
	return c
}

func withoutBytes(c Counts) Counts {
	for _, a := range c.amounts() {
		a.BytesInA, a.BytesInB = 0, 0
	}
	return c
}

func TestCompareAgainstNaive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawItems(t), drawItems(t)
		for p, i := range a { // make equal keys likely
			if rapid.IntRange(0, 2).Draw(t, "shared") > 0 {
				b[p] = i
			}
		}
		opts := Options{
			Now: noon, Examples: 100, Prefixes: 100, Depth: rapid.IntRange(1, 2).Draw(t, "depth"),
			partBytes: rapid.SampledFrom([]int{2_500, 1 << 20}).Draw(t, "part"),
		}
		d, err := Compare(context.Background(), bytes.NewReader(file(3, a, false)), bytes.NewReader(file(3, b, true)), opts)
		require.NoError(t, err)

		want := naive(a, b, func(place) bool { return true })
		require.Equal(t, want, withoutBytes(d.Total))
		require.True(t, d.Complete)
		require.Equal(t, want.Different() == 0, d.Same)
		shared := want.Changed.live() + want.Undecided.live() + want.ExpiryChanged.live()
		require.Equal(t, want.OnlyInB.live()+shared == 0, d.AContainsB())
		require.Equal(t, want.OnlyInA.live()+shared == 0, d.BContainsA())
		require.EqualValues(t, len(a), d.A.Keys)
		require.EqualValues(t, len(b), d.B.Keys)

		for _, db := range d.DBs {
			require.Equal(t, naive(a, b, func(p place) bool { return p.db == db.DB }), withoutBytes(db.Counts))
		}
		for _, kind := range d.Types {
			require.Equal(t, naive(a, b, func(p place) bool {
				i, inA := a[p]
				if !inA {
					i = b[p]
				}
				return i.kind.String() == kind.Type
			}), withoutBytes(kind.Counts))
		}
		var sum Counts
		for _, prefix := range d.Prefixes {
			require.Equal(t, naive(a, b, func(p place) bool {
				parts := strings.SplitAfterN(p.key[:min(256, len(p.key))], ":", opts.Depth+1)
				return Escape([]byte(strings.Join(parts[:len(parts)-1], ""))) == prefix.Prefix
			}), withoutBytes(prefix.Counts))
			for i, amount := range sum.amounts() {
				amount.add(*prefix.amounts()[i])
			}
		}
		require.Equal(t, d.Total, sum)
		require.Zero(t, d.OtherPrefixes)
		require.Len(t, d.Examples.OnlyInA, int(want.OnlyInA.Keys))
		require.Len(t, d.Examples.OnlyInB, int(want.OnlyInB.Keys))
		require.Len(t, d.Examples.Changed, int(want.Changed.Keys))
		require.Len(t, d.Examples.Undecided, int(want.Undecided.Keys))
		require.Len(t, d.Examples.ExpiryChanged, int(want.ExpiryChanged.Keys))
	})
}

// TestDifference compares a whole result with what it should be, as JSON.
func TestDifference(t *testing.T) {
	later := noon.UnixMilli() + 3_600_000
	a := rdbtest.File(rdbtest.Redis72, func(w *rdbtest.Writer) {
		w.Function("one").Function("both").SelectDB(0)
		w.String("user:1", "same").String("user:2", "before").String("user:3", "only in a")
		w.ExpireAt(later).String("session:1", "s").ExpireAt(1).String("session:2", "expired")
		w.Set("tags", "x", "y").String("plain", "text")
	})
	b := rdbtest.File(rdbtest.Valkey9, func(w *rdbtest.Writer) {
		w.Function("both").SelectDB(0)
		w.String("user:1", "same").String("user:2", "after").ExpireAt(later+1).String("session:1", "s")
		w.Set("tags", "y", "x").Set("plain", "text")
		w.SelectDB(3).ExpireAt(1<<62).String("new:\"\x00\n", "v")
	})
	d, err := Compare(t.Context(), bytes.NewReader(a), bytes.NewReader(b), Options{Now: noon, Examples: 2, Prefixes: 2})
	require.NoError(t, err)
	assert.EqualValues(t, 7, d.A.Keys)
	assert.Equal(t, rdb.OriginValkey, d.B.Origin)
	d.A, d.B = rdb.Summary{}, rdb.Summary{}
	text, err := json.MarshalIndent(d, "", " ")
	require.NoError(t, err)
	golden(t, "difference.json", string(text)+"\n")
	assert.False(t, d.AContainsB())
	assert.False(t, d.BContainsA())
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := "testdata/" + name
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, string(want), got, "go test -update writes it anew")
}

// TestContains: what one side alone lacks, and what does not count.
func TestContains(t *testing.T) {
	base := map[place]item{{0, "a"}: {rdb.TypeString, "1", 0}}
	more := map[place]item{{0, "a"}: {rdb.TypeString, "1", 0}, {0, "b"}: {rdb.TypeString, "1", 0}}
	expired := map[place]item{{0, "a"}: {rdb.TypeString, "1", 0}, {0, "b"}: {rdb.TypeString, "1", 5}}
	compare := func(a, b map[place]item, opts Options) *Difference {
		opts.Now = noon
		d, err := Compare(t.Context(), bytes.NewReader(file(1, a, false)), bytes.NewReader(file(1, b, false)), opts)
		require.NoError(t, err)
		return d
	}
	d := compare(more, base, Options{})
	assert.True(t, d.AContainsB())
	assert.False(t, d.BContainsA())
	assert.False(t, d.Same)
	d = compare(base, expired, Options{})
	assert.True(t, d.AContainsB(), "an expired key is none that could be lost")
	assert.False(t, d.Same)
	d = compare(base, base, Options{SampleOneIn: 2})
	assert.True(t, d.Same)
	assert.False(t, d.AContainsB(), "a sample proves nothing")
}

// bulk writes n keys; which of ten groups a key belongs to decides what happens to
// it on side B.
func bulk(n int, side Side) io.Reader {
	r, pipe := io.Pipe()
	go func() {
		w := rdbtest.NewWriter(pipe, rdbtest.Redis72).SelectDB(0)
		for i := range n {
			key, value := fmt.Sprintf("prefix%d:%09d", i%4, i), strconv.Itoa(i)
			switch group := i / 4 % 10; {
			case group == 0 && side == B, group == 1 && side == A:
				continue
			case group == 2 && side == B:
				value += "x"
			case group == 3 && side == B:
				w.ExpireAt(1 << 40)
			}
			w.String(key, value)
		}
		_ = pipe.CloseWithError(w.Close()) // nil becomes io.EOF
	}()
	return r
}

// TestManyKeys: so many that records go to the disk and parts are split, in memory
// that does not depend on how many there are.
func TestManyKeys(t *testing.T) {
	const n = 400_000
	temp := t.TempDir()
	stop := watchHeap(t, 64<<20)
	d, err := Compare(t.Context(), bulk(n, A), bulk(n, B), Options{Examples: 1, Prefixes: 3, TempDir: temp, partBytes: 100 << 10})
	stop()
	require.NoError(t, err)
	assert.EqualValues(t, n/10*9, d.A.Keys)
	for _, amount := range []Amount{d.Total.OnlyInA, d.Total.OnlyInB, d.Total.Changed, d.Total.ExpiryChanged} {
		assert.EqualValues(t, n/10, amount.Keys)
	}
	assert.EqualValues(t, n/10*6, d.Total.Equal.Keys)
	require.Len(t, d.Prefixes, 3)
	for i, p := range d.Prefixes {
		assert.Equal(t, fmt.Sprintf("prefix%d:", i), p.Prefix)
		assert.EqualValues(t, n/10, p.Different())
	}
	assert.EqualValues(t, n/10, d.OtherPrefixes.Different())
	assert.Equal(t, "prefix0:000000000", d.Examples.OnlyInA[0].Key)
	assert.Equal(t, "prefix0:000000008", d.Examples.Changed[0].Key)
	left, err := os.ReadDir(temp)
	require.NoError(t, err)
	assert.Empty(t, left)

	sample, err := Compare(t.Context(), bulk(n, A), bulk(n, B), Options{SampleOneIn: 100})
	require.NoError(t, err)
	assert.False(t, sample.Complete)
	assert.InEpsilon(t, n/10/100, sample.Total.Changed.Keys, 0.3)
	assert.InEpsilon(t, n/10*6/100, sample.Total.Equal.Keys, 0.3)
	again, err := Compare(t.Context(), bulk(n, A), bulk(n, B), Options{SampleOneIn: 100})
	require.NoError(t, err)
	assert.Equal(t, sample, again)
}

// watchHeap fails the test if the heap grows by more than limit bytes until the
// returned function is called.
func watchHeap(t *testing.T, limit uint64) (stop func()) {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	heap := func() uint64 {
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	begin, peak := heap(), uint64(0)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			peak = max(peak, heap())
			<-tick.C
		}
	}()
	return func() {
		cancel()
		<-done
		t.Logf("peak heap: %d MiB above the start", (max(peak, begin)-begin)>>20)
		assert.LessOrEqual(t, peak, begin+limit)
	}
}

func TestErrors(t *testing.T) {
	good := file(1, map[place]item{{0, "a"}: {rdb.TypeString, "1", 0}}, false)
	compare := func(ctx context.Context, a, b io.Reader, opts Options) error {
		d, err := Compare(ctx, a, b, opts)
		assert.Nil(t, d)
		return err
	}
	var side *SideError

	err := compare(t.Context(), bytes.NewReader(good), bytes.NewReader(good[:20]), Options{})
	require.ErrorAs(t, err, &side)
	assert.Equal(t, B, side.Side)
	require.ErrorIs(t, err, rdb.ErrTruncated)

	twice := rdbtest.File(rdbtest.Redis72, func(w *rdbtest.Writer) { w.SelectDB(0).String("k\n", "1").String("k\n", "2") })
	err = compare(t.Context(), bytes.NewReader(twice), bytes.NewReader(good), Options{})
	require.ErrorAs(t, err, &side)
	assert.Equal(t, A, side.Side)
	require.ErrorIs(t, err, rdb.ErrCorrupt)
	assert.ErrorContains(t, err, `"k\n" of database 0 comes twice`)

	many := rdbtest.File(rdbtest.Redis72, func(w *rdbtest.Writer) {
		for range 5_000 {
			w.String("k", "1")
		}
	})
	err = compare(t.Context(), bytes.NewReader(good), bytes.NewReader(many), Options{TempDir: t.TempDir(), partBytes: 100 << 10})
	require.ErrorAs(t, err, &side)
	assert.Equal(t, B, side.Side)
	require.ErrorContains(t, err, `"k" of database 0 comes twice`)

	err = compare(t.Context(), bytes.NewReader(good), bytes.NewReader(many), Options{TempDir: "/nonexistent"})
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NotErrorAs(t, err, &side, "that is not the file's fault")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = compare(ctx, bytes.NewReader(good), bytes.NewReader(good), Options{})
	require.ErrorIs(t, err, context.Canceled)

	broken := errors.New("the link broke")
	err = compare(t.Context(), io.MultiReader(bytes.NewReader(good[:20]), failing{broken}), bytes.NewReader(good), Options{})
	require.ErrorIs(t, err, broken)
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestEscape: as sdscatrepr does.
func TestEscape(t *testing.T) {
	assert.Equal(t, `user:1`, Escape([]byte("user:1")))
	assert.Equal(t, `a \"b\" \\ \n\r\t\a\b \x00\x7f\xc3\xa9`, Escape([]byte("a \"b\" \\ \n\r\t\a\b \x00\x7fé")))
}
