// Package analyze tells what takes the space of an RDB file: keys by database, type
// and encoding, the biggest keys, an estimate of the memory that a server needs for
// them, by prefix of their names, and when they expire.
//
// The file is read once, and values are not decoded. Memory does not depend on the
// number of keys: lists of the biggest keys have a fixed length, and of prefixes only
// the ones that matter are counted (see Options.Prefixes).
//
// # The estimate of memory
//
// It follows the structures of Redis 7 with jemalloc on 64-bit systems (dict.c, sds.c,
// t_zset.c, quicklist.c), from the uncompressed size and the number of elements: a
// file does not tell the length of each element. It leaves out what does not belong to
// keys: buffers, fragmentation, the replication backlog. Measured against the sum of
// MEMORY USAGE … SAMPLES 0: within 10 % on Redis 6.0 to 8.0 without streams, and within
// 20 % on Valkey 8.1 with them, which needs a third less for hash tables and sorted sets
// and more for streams with pending entries. (Of these, Redis itself tells several times
// what they take, see streamRadixTreeMemoryUsage in its source.) For values of modules it
// is no more than their serialized size.
package analyze

import (
	"cmp"
	"context"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/rdb/rdbdiff"
)

// Options are the options of Analyze.
type Options struct {
	// Top is how many of the biggest keys are listed.
	Top int
	// Prefixes is how many prefixes are listed, those with the most memory.
	Prefixes int
	// Delimiter ends the parts of a key, Depth is how many parts make a prefix. Keys
	// with fewer parts have a shorter prefix. ":" and 1 when empty.
	Delimiter string
	Depth     int
	// Now decides how long keys have to live; the time of the call when zero.
	Now time.Time
}

// Amount adds up keys.
type Amount struct {
	Keys int64 `json:"keys"`
	// Elements of lists, sets, hashes, sorted sets and streams; strings have none.
	Elements int64 `json:"elements"`
	// Bytes of the serialized values.
	Bytes int64 `json:"sizeBytes"`
	// Memory is the estimate for keys and values, in bytes.
	Memory int64 `json:"memoryBytes"`
}

func (a *Amount) add(b Amount) {
	a.Keys += b.Keys
	a.Elements += b.Elements
	a.Bytes += b.Bytes
	a.Memory += b.Memory
}

// Share is an amount of the keys that have something in common.
type Share struct {
	// Name is the type, the type and the encoding, the prefix, or the time to live.
	Name string `json:"name"`
	Amount
}

// DB is the share of one database.
type DB struct {
	DB int `json:"db"`
	Amount
	// Expires counts the keys that have an expiry, Expired those that are past it.
	Expires int64 `json:"expires"`
	Expired int64 `json:"expired"`
}

// Key is one of the biggest keys.
type Key struct {
	DB int `json:"db"`
	// Key is its name as redis-cli prints it, without quotes; of long ones the beginning.
	Key      string `json:"key"`
	Type     string `json:"type"`
	Encoding string `json:"encoding"`
	// Elements is -1 where the file does not tell it; of a string, its length in bytes.
	Elements int64 `json:"elements"`
	Bytes    int64 `json:"sizeBytes"`
	Memory   int64 `json:"memoryBytes"`
	// ExpiresAt is absent for keys that do not expire.
	ExpiresAt *time.Time `json:"expiresAt,omitempty"`
}

// Report is the result of Analyze.
type Report struct {
	// RDB is what the file holds, Total of all keys.
	RDB   rdb.Summary `json:"rdb"`
	Total Amount      `json:"total"`
	DBs   []DB        `json:"dbs"`
	// Types and Encodings are sorted by memory.
	Types     []Share `json:"types"`
	Encodings []Share `json:"encodings"`
	// Biggest are the keys with the most memory, Longest the collections with the
	// most elements; the biggest first.
	Biggest []Key `json:"biggest"`
	Longest []Key `json:"longest"`
	// Prefixes are those with the most memory; Others is the rest.
	Prefixes []Share `json:"prefixes"`
	Others   Amount  `json:"otherPrefixes"`
	// PrefixesComplete is false if there were more prefixes than are counted at a
	// time. The amounts of those listed are then lower bounds.
	PrefixesComplete bool `json:"prefixesComplete"`
	// TTL says how long keys have to live, from "expired" to "never", all of them.
	TTL []Share `json:"ttl"`
}

// Analyze reads an RDB file to its end. Errors are those of rdb.Scan; there is no
// report then.
func Analyze(ctx context.Context, r io.Reader, o Options) (*Report, error) {
	if o.Delimiter == "" {
		o.Delimiter = ":"
	}
	o.Depth = max(o.Depth, 1)
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	t := newTally(o)
	summary, err := rdb.Scan(ctx, r, rdb.Visitor{Entry: t.add}, rdb.Options{Now: o.Now, KeyLimit: maxKey})
	if err != nil {
		return nil, err
	}
	return t.report(summary), nil
}

const (
	// maxKey is how much of a key's name is kept, in bytes.
	maxKey = 256
	// maxPrefixes is how many prefixes are counted at a time. When there are more,
	// those with the least memory are given up: half of them, so that it seldom
	// happens.
	maxPrefixes = 16384
)

type form struct {
	kind     rdb.Type
	encoding rdb.Encoding
}

type tally struct {
	o         Options
	dbs       []*DB
	db        *DB // that of the last key
	forms     map[form]*Amount
	lastForm  form
	lastShare *Amount
	prefixes  map[string]*Amount
	dropped   bool
	ttl       []Amount // by ttlClasses
	biggest   top
	longest   top
}

func newTally(o Options) *tally {
	byMemory := func(k *Key) int64 { return k.Memory }
	byElements := func(k *Key) int64 { return k.Elements }
	return &tally{
		o: o, forms: make(map[form]*Amount), prefixes: make(map[string]*Amount), ttl: make([]Amount, len(ttlClasses())+3),
		biggest: top{limit: o.Top, rank: byMemory}, longest: top{limit: o.Top, rank: byElements},
	}
}

func (t *tally) add(e *rdb.Entry) error {
	a := Amount{Keys: 1, Bytes: e.Size, Memory: estimate(e)}
	if e.Type != rdb.TypeString && e.Len > 0 {
		a.Elements = e.Len
	}
	if t.db == nil || t.db.DB != e.DB {
		t.db = &DB{DB: e.DB} // a database comes once
		t.dbs = append(t.dbs, t.db)
	}
	t.db.add(a)
	if f := (form{e.Type, e.Encoding}); t.lastShare == nil || f != t.lastForm {
		t.lastForm, t.lastShare = f, counted(t.forms, f)
	}
	t.lastShare.add(a)
	t.ttl[t.class(e)].add(a)
	t.addPrefix(rdb.KeyPrefix(e.Key, t.o.Delimiter, t.o.Depth), a)
	t.biggest.offer(e, a.Memory, a.Memory)
	if e.Type != rdb.TypeString {
		t.longest.offer(e, e.Len, a.Memory)
	}
	return nil
}

func counted[K comparable](m map[K]*Amount, key K) *Amount {
	a := m[key]
	if a == nil {
		a = new(Amount)
		m[key] = a
	}
	return a
}

func (t *tally) addPrefix(prefix []byte, a Amount) {
	share := t.prefixes[string(prefix)] // found without making a string
	if share == nil {
		if len(t.prefixes) >= maxPrefixes {
			t.dropSmallest()
		}
		share = counted(t.prefixes, string(prefix))
	}
	share.add(a)
}

// dropSmallest gives up the half of the prefixes that has the least memory.
func (t *tally) dropSmallest() {
	t.dropped = true
	names := t.prefixesByMemory()
	for _, name := range names[len(names)/2:] {
		delete(t.prefixes, name)
	}
}

func (t *tally) prefixesByMemory() []string {
	return slices.SortedFunc(maps.Keys(t.prefixes), func(a, b string) int {
		return cmp.Or(cmp.Compare(t.prefixes[b].Memory, t.prefixes[a].Memory), strings.Compare(a, b))
	})
}

// ttlClass is a range of times to live, up to and including limit.
type ttlClass struct {
	name  string
	limit time.Duration
}

func ttlClasses() []ttlClass {
	const day = 24 * time.Hour
	return []ttlClass{
		{"up to 1 minute", time.Minute}, {"up to 1 hour", time.Hour}, {"up to 1 day", day}, {"up to 7 days", 7 * day},
		{"up to 30 days", 30 * day}, {"up to 1 year", 365 * day},
	}
}

// class returns the index in t.ttl: expired, ttlClasses, longer, never.
func (t *tally) class(e *rdb.Entry) int {
	classes := ttlClasses()
	switch {
	case e.ExpireAt == rdb.None:
		return len(classes) + 2
	case e.Expired(t.o.Now):
		t.db.Expires++
		t.db.Expired++
		return 0
	}
	t.db.Expires++
	left := e.ExpireAt - t.o.Now.UnixMilli()
	for i, c := range classes {
		if left <= c.limit.Milliseconds() {
			return i + 1
		}
	}
	return len(classes) + 1
}

// top keeps the biggest keys: a min-heap would be faster, but hardly any key gets
// past the comparison with the smallest one.
type top struct {
	limit int
	rank  func(*Key) int64
	keys  []Key // the biggest first; of equal ones, that which came first
}

func (t *top) offer(e *rdb.Entry, rank, memory int64) {
	if t.limit == 0 || len(t.keys) == t.limit && rank <= t.rank(&t.keys[t.limit-1]) {
		return
	}
	k := Key{
		DB: e.DB, Key: rdbdiff.Escape(e.Key), Type: e.Type.String(), Encoding: string(e.Encoding),
		Elements: e.Len, Bytes: e.Size, Memory: memory,
	}
	if e.KeyLen > int64(len(e.Key)) {
		k.Key += "… (" + strconv.FormatInt(e.KeyLen, 10) + " bytes)"
	}
	if e.Module != "" {
		k.Type = e.Module
	}
	if e.ExpireAt != rdb.None {
		at := time.UnixMilli(min(e.ExpireAt, lastMillisecond)).UTC()
		k.ExpiresAt = &at
	}
	at, _ := slices.BinarySearchFunc(t.keys, rank, func(k Key, rank int64) int {
		if t.rank(&k) >= rank {
			return -1
		}
		return 1
	})
	t.keys = slices.Insert(t.keys, at, k)
	t.keys = t.keys[:min(len(t.keys), t.limit)]
}

// lastMillisecond is the end of the year 9999, the last that RFC 3339 can write.
const lastMillisecond = 253_402_300_799_999

func (t *tally) report(summary rdb.Summary) *Report {
	r := &Report{
		RDB: summary, DBs: []DB{}, Biggest: append([]Key{}, t.biggest.keys...), Longest: append([]Key{}, t.longest.keys...),
		PrefixesComplete: !t.dropped,
	}
	for _, db := range t.dbs {
		r.DBs = append(r.DBs, *db)
		r.Total.add(db.Amount)
	}
	types, encodings := map[string]*Amount{}, map[string]*Amount{}
	for f, a := range t.forms {
		counted(types, f.kind.String()).add(*a)
		name := f.kind.String()
		if f.encoding != "" && string(f.encoding) != name {
			name += " (" + string(f.encoding) + ")"
		}
		counted(encodings, name).add(*a)
	}
	r.Types, r.Encodings = shares(types), shares(encodings)
	r.Prefixes, r.Others = []Share{}, r.Total
	names := t.prefixesByMemory()
	for _, name := range names[:min(len(names), t.o.Prefixes)] {
		a := *t.prefixes[name]
		r.Prefixes = append(r.Prefixes, Share{rdbdiff.Escape([]byte(name)), a})
		r.Others.add(Amount{-a.Keys, -a.Elements, -a.Bytes, -a.Memory})
	}
	labels := []string{"expired"}
	for _, c := range ttlClasses() {
		labels = append(labels, c.name)
	}
	for i, label := range append(labels, "longer", "never") {
		r.TTL = append(r.TTL, Share{label, t.ttl[i]})
	}
	return r
}

func shares(m map[string]*Amount) []Share {
	list := make([]Share, 0, len(m))
	for name, a := range m {
		list = append(list, Share{name, *a})
	}
	slices.SortFunc(list, func(a, b Share) int {
		return cmp.Or(cmp.Compare(b.Memory, a.Memory), strings.Compare(a.Name, b.Name))
	})
	return list
}
