package analyze_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/rdb/analyze"
	"github.com/redisctl/redisctl/internal/rdb/rdbtest"
	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

var now = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

func analyzed(t testing.TB, file []byte, o analyze.Options) *analyze.Report {
	t.Helper()
	o.Now = now
	r, err := analyze.Analyze(t.Context(), bytes.NewReader(file), o)
	require.NoError(t, err)
	return r
}

func names(keys []analyze.Key) []string {
	list := []string{}
	for _, k := range keys {
		list = append(list, k.Key)
	}
	return list
}

func keysByName(shares []analyze.Share) map[string]int64 {
	m := map[string]int64{}
	for _, s := range shares {
		m[s.Name] = s.Keys
	}
	return m
}

func TestAnalyze(t *testing.T) {
	in := func(d time.Duration) int64 { return now.Add(d).UnixMilli() }
	file := rdbtest.File(rdbtest.Redis72, func(w *rdbtest.Writer) {
		w.SelectDB(0).String("plain", "text").String("user:1:name", strings.Repeat("x-y-", 100))
		w.ExpireAt(in(-time.Hour)).String("session:1", "12345").ExpireAt(in(time.Hour)).String("session:2", "b")
		w.ExpireAt(in(time.Hour+time.Millisecond)).String("session:3", "c").ExpireAt(in(9000*24*time.Hour)).String("session:4", "d")
		w.SelectDB(5).Set("tags:1", "a", "b", "c").Hash("user:2", "name", "n", "age", "3")
		w.Value(20, "tags:2", rdbtest.AppendString(nil, string(rdbtest.Listpack("z", "y"))))
		w.Set("bad\"\x1b"+strings.Repeat("k", 300), "x")
	})
	r := analyzed(t, file, analyze.Options{Top: 2, Prefixes: 2})

	assert.Equal(t, r.RDB.Keys, r.Total.Keys)
	assert.Equal(t, int64(3+2+2+1), r.Total.Elements)
	require.Len(t, r.DBs, 2)
	assert.Equal(t, []int64{6, 4, 1}, []int64{r.DBs[0].Keys, r.DBs[0].Expires, r.DBs[0].Expired})
	assert.Equal(t, 5, r.DBs[1].DB)
	assert.Equal(t, map[string]int64{"string": 6, "set": 3, "hash": 1}, keysByName(r.Types))
	assert.Equal(t, map[string]int64{
		"string (embstr)": 4, "string (raw)": 1, "string (int)": 1, "set (hashtable)": 2, "set (listpack)": 1, "hash (hashtable)": 1,
	}, keysByName(r.Encodings))
	assert.Equal(t, map[string]int64{
		"expired": 1, "up to 1 minute": 0, "up to 1 hour": 1, "up to 1 day": 1, "up to 7 days": 0, "up to 30 days": 0,
		"up to 1 year": 0, "longer": 1, "never": 6,
	}, keysByName(r.TTL))
	assert.Len(t, r.TTL, 9)

	// user:2 is a hash; user:1:name is longer than it, by far.
	assert.Equal(t, "user:1:name", r.Biggest[0].Key)
	assert.Equal(t, int64(400), r.Biggest[0].Elements)
	assert.Less(t, r.Biggest[0].Bytes, int64(100), "as it is stored: compressed")
	assert.Greater(t, r.Biggest[0].Memory, int64(400), "as it will be in memory")
	assert.Equal(t, []string{"tags:1", "user:2"}, names(r.Longest), "of equal ones that which comes first; no strings")

	require.Len(t, r.Prefixes, 2)
	var listed analyze.Amount
	for _, p := range append(r.Prefixes, analyze.Share{Amount: r.Others}) {
		listed.Keys += p.Keys
		listed.Elements += p.Elements
		listed.Bytes += p.Bytes
		listed.Memory += p.Memory
	}
	assert.Equal(t, r.Total, listed, "nothing is lost")
	assert.True(t, r.PrefixesComplete)

	r = analyzed(t, file, analyze.Options{Top: 99, Prefixes: 99, Depth: 2})
	assert.Equal(t, map[string]int64{"": 2, "user:1:": 1, "session:": 4, "tags:": 2, "user:": 1}, keysByName(r.Prefixes))
	assert.Zero(t, r.Others)
	strange := r.Biggest[len(r.Biggest)-1]
	for _, k := range r.Biggest {
		if strings.HasPrefix(k.Key, "bad") {
			strange = k
		}
	}
	assert.True(t, strings.HasPrefix(strange.Key, `bad\"\x1bkkk`) && strings.HasSuffix(strange.Key, "k… (305 bytes)"), strange.Key)
	assert.Len(t, r.Longest, 4)

	none := analyzed(t, rdbtest.File(rdbtest.Redis6, func(*rdbtest.Writer) {}), analyze.Options{Top: 3})
	assert.Zero(t, none.Total)
	assert.NotNil(t, none.Biggest)

	_, err := analyze.Analyze(t.Context(), bytes.NewReader(file[:len(file)-9]), analyze.Options{})
	require.ErrorIs(t, err, rdb.ErrCorrupt)
}

// However many prefixes there are, those that matter are found.
func TestPrefixesAreBounded(t *testing.T) {
	const n = 60_000
	file := rdbtest.File(rdbtest.Redis72, func(w *rdbtest.Writer) {
		w.SelectDB(0)
		for i := range n {
			w.String(fmt.Sprintf("%d:", i), "v")
			if i%10 == 0 {
				w.String(fmt.Sprintf("hot:%d", i), "v")
			}
		}
	})
	r := analyzed(t, file, analyze.Options{Prefixes: 3})
	assert.False(t, r.PrefixesComplete)
	assert.Equal(t, "hot:", r.Prefixes[0].Name)
	assert.Equal(t, int64(n/10), r.Prefixes[0].Keys)
	assert.Equal(t, int64(n+n/10), r.Total.Keys)
	assert.Equal(t, r.Total.Keys-r.Others.Keys, r.Prefixes[0].Keys+r.Prefixes[1].Keys+r.Prefixes[2].Keys)
}

// TestMemoryIsWhatServersSay compares the estimate with MEMORY USAGE, of all keys and
// of each type.
func TestMemoryIsWhatServersSay(t *testing.T) {
	for _, version := range redisserver.Versions(t) {
		t.Run(version, func(t *testing.T) {
			server := redisserver.Start(t, redisserver.Options{Version: version})
			client := server.Client()
			require.NoError(t, redisserver.Fill(t.Context(), client, 1, 4000))
			require.NoError(t, client.Save(t.Context()).Err())
			file, err := os.ReadFile(filepath.Join(server.Dir, "dump.rdb"))
			require.NoError(t, err)
			r, err := analyze.Analyze(t.Context(), bytes.NewReader(file), analyze.Options{})
			require.NoError(t, err)

			want := map[string]int64{}
			for db := range 16 {
				addUsage(t, server.NewClient(db), want)
			}
			// Redis counts every node of a stream's trees as about 250 bytes.
			streams, tolerance, ofAll := false, 0.25, 0.1
			if version == redisserver.Valkey81 {
				streams, tolerance, ofAll = true, 0.6, 0.2 // its hash tables need less
			}
			var total, estimated int64
			for _, share := range r.Types {
				t.Logf("%-7s %6d keys, %9d bytes, the server says %9d", share.Name, share.Keys, share.Memory, want[share.Name])
				if share.Name == "stream" && !streams {
					continue
				}
				total += want[share.Name]
				estimated += share.Memory
				assert.InEpsilon(t, want[share.Name], share.Memory, tolerance, share.Name)
			}
			assert.InEpsilon(t, total, estimated, ofAll)
		})
	}
}

// addUsage adds the memory of all keys of a database by type.
func addUsage(t *testing.T, client *goredis.Client, sums map[string]int64) {
	t.Helper()
	keys := client.Scan(t.Context(), 0, "", 1000).Iterator()
	for keys.Next(t.Context()) {
		usage, err := client.MemoryUsage(t.Context(), keys.Val(), 0).Result()
		require.NoError(t, err)
		kind, err := client.Type(t.Context(), keys.Val()).Result()
		require.NoError(t, err)
		sums[kind] += usage
	}
	require.NoError(t, keys.Err())
}

// FuzzAnalyze: whatever the file is, a report adds up.
func FuzzAnalyze(f *testing.F) {
	seeds, err := filepath.Glob("../testdata/*.rdb")
	require.NoError(f, err)
	require.NotEmpty(f, seeds)
	for _, name := range seeds {
		data, err := os.ReadFile(name)
		require.NoError(f, err)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := analyze.Analyze(t.Context(), bytes.NewReader(data), analyze.Options{Top: 3, Prefixes: 3, Now: now})
		if err != nil {
			return
		}
		assert.Equal(t, r.RDB.Keys, r.Total.Keys)
		for _, shares := range [][]analyze.Share{r.Types, r.Encodings, r.TTL, append(r.Prefixes, analyze.Share{Amount: r.Others})} {
			var sum analyze.Amount
			for _, s := range shares {
				sum.Keys += s.Keys
				sum.Memory += s.Memory
			}
			assert.Equal(t, []int64{r.Total.Keys, r.Total.Memory}, []int64{sum.Keys, sum.Memory})
		}
	})
}

// BenchmarkAnalyze reads realistic data; compare with BenchmarkScan of package rdb.
func BenchmarkAnalyze(b *testing.B) {
	data := rdbtest.File(rdbtest.Redis72, func(w *rdbtest.Writer) { rdbtest.Realistic(w, 1, 64<<20) })
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := analyze.Analyze(b.Context(), bytes.NewReader(data), analyze.Options{Top: 20, Prefixes: 20}); err != nil {
			b.Fatal(err)
		}
	}
}
