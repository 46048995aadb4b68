package rdb_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/rdb/rdbtest"
)

// drawn is a key that a property test wrote, and what should be read.
type drawn struct {
	key      string
	kind     rdb.Type
	encoding rdb.Encoding
	value    []byte
	len      int64
	expireAt int64
	idle     int64
	freq     int
}

func drawString(label string) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		switch rapid.IntRange(0, 5).Draw(t, label+" kind") {
		case 0:
			return strconv.FormatInt(rapid.Int64().Draw(t, label)>>rapid.IntRange(0, 63).Draw(t, label+" shift"), 10)
		case 1:
			return variedText(rapid.IntRange(0, 3_000).Draw(t, label+" size"))
		case 2:
			return noise(rapid.SampledFrom([]int{0, 1, 63, 64, 200, 253, 254, 4_095, 4_096, 16_377, 16_378, 16_379, 16_383, 16_384, 20_000}).Draw(t, label+" size"))
		default:
			return rapid.StringN(0, 20, 40).Draw(t, label)
		}
	})
}

func drawEncoded(t *rapid.T, s string) []byte {
	switch rapid.IntRange(0, 2).Draw(t, "form") {
	case 0:
		return rdbtest.AppendRawString(nil, s)
	case 1:
		if s != "" {
			return rdbtest.AppendLZF(nil, rdbtest.Compress([]byte(s)), len(s))
		}
	}
	return rdbtest.AppendString(nil, s)
}

func drawValue(t *rapid.T, d *drawn) byte {
	few := rapid.SliceOfN(drawString("element"), 0, 8)
	strings := func(list []string) []byte {
		b := make([]byte, 0, 64)
		for _, s := range list {
			b = append(b, drawEncoded(t, s)...)
		}
		return b
	}
	pairs := func() []string { l := few.Draw(t, "pairs"); return l[:len(l)/2*2] }
	rdbType := rapid.SampledFrom([]byte{0, 1, 2, 4, 5, 7, 9, 10, 11, 13, 14, 15, 16, 17, 18, 19, 20, 21, 24, 25}).Draw(t, "type")
	switch rdbType {
	case 0:
		s := drawString("value").Draw(t, "value")
		d.kind, d.value, d.len = rdb.TypeString, drawEncoded(t, s), int64(len(s))
	case 1, 2:
		l := few.Draw(t, "elements")
		d.kind, d.encoding = rdb.TypeList, rdb.EncodingLinkedList
		if rdbType == 2 {
			d.kind, d.encoding = rdb.TypeSet, rdb.EncodingHashtable
		}
		d.value, d.len = append(rdbtest.AppendLength(nil, uint64(len(l))), strings(l)...), int64(len(l))
	case 4:
		l := pairs()
		d.kind, d.encoding, d.len = rdb.TypeHash, rdb.EncodingHashtable, int64(len(l)/2)
		d.value = append(rdbtest.AppendLength(nil, uint64(len(l)/2)), strings(l)...)
	case 5:
		l := few.Draw(t, "members")
		d.kind, d.encoding, d.len = rdb.TypeSortedSet, rdb.EncodingSkiplist, int64(len(l))
		d.value = rdbtest.AppendLength(nil, uint64(len(l)))
		for _, m := range l {
			d.value = cat(d.value, drawEncoded(t, m), score(rapid.Float64().Draw(t, "score")))
		}
	case 7:
		d.kind, d.encoding, d.len = rdb.TypeModule, rdb.EncodingModule, rdb.None
		d.value = cat(length(rapid.Uint64().Draw(t, "module")), length(5), drawEncoded(t, drawString("data").Draw(t, "data")), length(2), length(rapid.Uint64().Draw(t, "data")), length(0))
	case 9:
		l := pairs()
		d.kind, d.encoding, d.len = rdb.TypeHash, rdb.EncodingZipmap, int64(len(l)/2)
		d.value = drawEncoded(t, string(rdbtest.Zipmap(rapid.IntRange(0, 5).Draw(t, "free"), l...)))
	case 10, 14:
		l := few.Draw(t, "elements")
		d.kind, d.encoding, d.len = rdb.TypeList, rdb.EncodingZiplist, int64(len(l))
		d.value = drawEncoded(t, string(rdbtest.Ziplist(l...)))
		if rdbType == 14 {
			d.encoding = rdb.EncodingQuicklist
			d.value, d.len = cat(length(2), d.value, d.value), 2*d.len
		}
	case 11:
		n := rapid.SliceOfNDistinct(rapid.Int64(), 1, 9, rapid.ID[int64]).Draw(t, "integers")
		for i := range n { // ascending
			for j := range i {
				if n[i] < n[j] {
					n[i], n[j] = n[j], n[i]
				}
			}
		}
		d.kind, d.encoding, d.len = rdb.TypeSet, rdb.EncodingIntset, int64(len(n))
		d.value = drawEncoded(t, string(rdbtest.Intset(n...)))
	case 13:
		l := pairs()
		d.kind, d.encoding, d.len = rdb.TypeHash, rdb.EncodingZiplist, int64(len(l)/2)
		d.value = drawEncoded(t, string(rdbtest.Ziplist(l...)))
	case 16, 17:
		l := pairs()
		d.kind, d.encoding, d.len = rdb.TypeHash, rdb.EncodingListpack, int64(len(l)/2)
		if rdbType == 17 {
			d.kind = rdb.TypeSortedSet
		}
		d.value = drawEncoded(t, string(rdbtest.Listpack(l...)))
	case 18:
		l := few.Draw(t, "elements")
		d.kind, d.encoding, d.len = rdb.TypeList, rdb.EncodingQuicklist, int64(len(l))+1
		d.value = cat(length(2), length(2), drawEncoded(t, string(rdbtest.Listpack(l...))), length(1), drawEncoded(t, "plain"+drawString("plain").Draw(t, "plain")))
	case 15, 19, 21:
		n := rapid.Uint64Range(0, 50).Draw(t, "pending")
		d.kind, d.encoding, d.len = rdb.TypeStream, rdb.EncodingStream, 1
		d.value = streamValue(map[byte]int{15: 1, 19: 2, 21: 3}[rdbType], n, n)
	case 20:
		l := few.Draw(t, "members")
		d.kind, d.encoding, d.len = rdb.TypeSet, rdb.EncodingListpack, int64(len(l))
		d.value = drawEncoded(t, string(rdbtest.Listpack(l...)))
	case 24:
		l := pairs()
		d.kind, d.encoding, d.len = rdb.TypeHash, rdb.EncodingHashtable, int64(len(l)/2)
		d.value = append(le64(farFuture), length(uint64(len(l)/2))...)
		for i := 0; i < len(l); i += 2 {
			d.value = cat(d.value, length(rapid.Uint64Range(0, 1<<40).Draw(t, "ttl")), drawEncoded(t, l[i]), drawEncoded(t, l[i+1]))
		}
	case 25:
		l := pairs()
		var triples []string
		for i := 0; i < len(l); i += 2 {
			triples = append(triples, l[i], l[i+1], "4102444800000")
		}
		d.kind, d.encoding, d.len = rdb.TypeHash, rdb.EncodingListpackEx, int64(len(l)/2)
		d.value = append(le64(farFuture), drawEncoded(t, string(rdbtest.Listpack(triples...)))...)
	}
	return rdbType
}

// TestRoundTrip writes files of random contents and reads them through random
// windows in random pieces.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.UnixMilli(1_760_000_000_000)
		want := rdb.Summary{Origin: rdb.OriginRedis, Version: 12, Checksum: rdb.ChecksumOK, Aux: map[string]string{"redis-ver": "8.0.2"}, DBs: []rdb.DBSummary{}}
		var keys []drawn
		file := rdbtest.File(rdbtest.Redis8, func(w *rdbtest.Writer) {
			w.Aux("redis-ver", "8.0.2")
			for range rapid.IntRange(0, 2).Draw(t, "functions") {
				w.Function(drawString("function").Draw(t, "function"))
				want.Functions++
			}
			for _, n := range rapid.SliceOfNDistinct(rapid.IntRange(0, 70_000), 0, 3, rapid.ID[int]).Draw(t, "databases") {
				db := rdb.DBSummary{DB: n, KeysHint: rdb.None, ExpiresHint: rdb.None}
				w.SelectDB(n)
				for range rapid.IntRange(0, 10).Draw(t, "keys") {
					d := drawn{key: drawString("key").Draw(t, "key"), expireAt: rdb.None, idle: rdb.None, freq: rdb.None}
					switch rapid.IntRange(0, 3).Draw(t, "expiry") {
					case 0:
						d.expireAt = rapid.Int64Range(0, 2*now.UnixMilli()).Draw(t, "ms")
						w.ExpireAt(d.expireAt)
					case 1:
						s := rapid.Int32Range(0, 1<<31-1).Draw(t, "s")
						d.expireAt = int64(s) * 1000
						w.ExpireAtSeconds(s)
					}
					if rapid.Bool().Draw(t, "has idle time") {
						d.idle = rapid.Int64Range(0, 1<<40).Draw(t, "idle")
						w.Idle(uint64(d.idle))
					} else if rapid.Bool().Draw(t, "has frequency") {
						d.freq = rapid.IntRange(0, 255).Draw(t, "frequency")
						w.Freq(byte(d.freq))
					}
					rdbType := drawValue(t, &d)
					w.Value(rdbType, d.key, d.value)
					keys = append(keys, d)

					if db.Types == nil {
						db.Types = make(map[string]int64)
					}
					db.Keys++
					db.Types[d.kind.String()]++
					if d.expireAt != rdb.None {
						db.Expires++
						if d.expireAt < now.UnixMilli() {
							db.Expired++
						}
					}
					if d.len == 0 && d.kind != rdb.TypeString && d.kind != rdb.TypeStream {
						db.EmptyKeys++
					}
				}
				want.DBs = append(want.DBs, db)
				want.Keys += db.Keys
				want.Expires += db.Expires
				want.Expired += db.Expired
				want.EmptyKeys += db.EmptyKeys
			}
		})
		want.Size = int64(len(file))

		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "pieces"), 0))
		source := bytes.NewReader(file)
		pieces := readerFunc(func(p []byte) (int, error) { return source.Read(p[:1+rng.IntN(len(p))]) })
		opts := rdb.Options{
			Now: now, KeyLimit: 1 << 20, Deep: rapid.Bool().Draw(t, "deep"),
			Window: rapid.SampledFrom([]int{rdb.MinWindow, 1_000, 10_000, 1 << 20}).Draw(t, "window"),
		}

		var value bytes.Buffer
		seen := 0
		got, err := rdb.Scan(t.Context(), pieces, rdb.Visitor{
			Value: func(*rdb.Entry) (io.Writer, error) {
				value.Reset()
				return &value, nil
			},
			Entry: func(e *rdb.Entry) error {
				w := keys[seen]
				seen++
				require.Equal(t, w.key, string(e.Key))
				require.EqualValues(t, len(w.key), e.KeyLen)
				require.Equal(t, w.kind, e.Type)
				if w.kind != rdb.TypeString {
					require.Equal(t, w.encoding, e.Encoding)
				}
				require.Equal(t, w.len, e.Len)
				require.Equal(t, [3]int64{w.expireAt, w.idle, int64(w.freq)}, [3]int64{e.ExpireAt, e.Idle, int64(e.Freq)})
				require.True(t, bytes.Equal(w.value, value.Bytes()), "the raw value of %q", w.key)
				require.True(t, bytes.Equal(w.value, file[e.Offset:e.Offset+e.Size]), "the place of %q", w.key)
				return nil
			},
		}, opts)
		require.NoError(t, err)
		require.Len(t, keys, seen)
		want.StoredCRC, want.ComputedCRC = got.ComputedCRC, got.ComputedCRC
		require.Equal(t, want, got)
	})
}
