package rdbdiff

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/rdb"
)

const (
	// maxPrefixes is how many prefixes are counted, at about 0.5 KiB each.
	maxPrefixes = 8192
	// maxPrefixLen is where the search for delimiters ends, in bytes.
	maxPrefixLen = 256
)

// A tally counts keys as they are compared.
type tally struct {
	opts     Options
	total    Counts
	dbs      map[int]*Counts
	types    map[string]*Counts
	prefixes map[string]*Counts
	examples [numClasses][]example
}

type example struct {
	db   int64
	name []byte
	hash [16]byte
	Example
}

func newTally(opts Options) *tally {
	return &tally{
		opts: opts, dbs: make(map[int]*Counts), types: make(map[string]*Counts), prefixes: make(map[string]*Counts),
	}
}

// add counts a key. One of a and b may be nil.
func (t *tally) add(a, b *record) {
	amount := Amount{Keys: 1, Expired: 1}
	either := a
	if a == nil {
		either = b
	}
	if a != nil {
		amount.BytesInA = a.bytes
	}
	if b != nil {
		amount.BytesInB = b.bytes
	}
	for _, r := range [...]*record{a, b} {
		if r != nil && (r.expireAt == rdb.None || r.expireAt >= t.opts.Now.UnixMilli()) {
			amount.Expired = 0
		}
	}
	class := classify(a, b)
	count := func(c *Counts) {
		c.amounts()[class].add(amount)
		if class == changed && a.kind != b.kind {
			c.TypeChanged.add(amount)
		}
	}
	count(&t.total)
	count(counted(t.dbs, int(either.db)))
	count(counted(t.types, either.kind.String()))
	prefix := rdb.KeyPrefix(either.name[:min(len(either.name), maxPrefixLen)], t.opts.Delimiter, t.opts.Depth)
	if c := t.prefixes[string(prefix)]; c != nil { // found without making a string
		count(c)
	} else if len(t.prefixes) < maxPrefixes {
		count(counted(t.prefixes, string(prefix)))
	}
	if class != equal {
		t.remember(class, a, b, either)
	}
}

// counted returns the counts of a group, which it adds when it is new.
func counted[K comparable](groups map[K]*Counts, key K) *Counts {
	c := groups[key]
	if c == nil {
		c = new(Counts)
		groups[key] = c
	}
	return c
}

func classify(a, b *record) class {
	switch {
	case b == nil:
		return onlyInA
	case a == nil:
		return onlyInB
	case a.kind != b.kind:
		return changed
	case a.digest != b.digest:
		if a.canonical && b.canonical {
			return changed
		}
		return undecided
	case a.expireAt != b.expireAt:
		return expiryChanged
	default:
		return equal
	}
}

// remember keeps a key as an example if it is among the first of its class.
func (t *tally) remember(c class, a, b, either *record) {
	list := t.examples[c]
	at, _ := slices.BinarySearchFunc(list, either, func(e example, r *record) int {
		return cmp.Or(cmp.Compare(e.db, r.db), bytes.Compare(e.name, r.name), bytes.Compare(e.hash[:], r.hash[:]))
	})
	if at >= t.opts.Examples {
		return
	}
	e := example{
		db: either.db, name: bytes.Clone(either.name), hash: either.hash,
		Example: Example{
			DB: int(either.db), Key: Escape(either.name), KeyBytes: either.keyLen, InA: state(a), InB: state(b),
		},
	}
	list = slices.Insert(list, at, e)
	t.examples[c] = list[:min(len(list), t.opts.Examples)]
}

func state(r *record) *KeyState {
	if r == nil {
		return nil
	}
	s := &KeyState{Type: r.kind.String(), Bytes: r.bytes}
	if r.expireAt != rdb.None {
		at := time.UnixMilli(min(r.expireAt, lastMillisecond)).UTC()
		s.ExpiresAt = &at
	}
	return s
}

// lastMillisecond is the end of the year 9999, the last that RFC 3339 can write.
const lastMillisecond = 253_402_300_799_999

// fill completes a Difference from what was counted.
func (t *tally) fill(d *Difference) {
	d.Total = t.total
	d.DBs = make([]DBCounts, 0, len(t.dbs))
	for _, db := range slices.Sorted(maps.Keys(t.dbs)) {
		d.DBs = append(d.DBs, DBCounts{db, *t.dbs[db]})
	}
	d.Types = make([]TypeCounts, 0, len(t.types))
	for _, name := range slices.Sorted(maps.Keys(t.types)) {
		d.Types = append(d.Types, TypeCounts{name, *t.types[name]})
	}
	d.Prefixes, d.OtherPrefixes = t.topPrefixes()
	list := func(c class) []Example {
		out := make([]Example, len(t.examples[c]))
		for i, e := range t.examples[c] {
			out[i] = e.Example
		}
		return out
	}
	d.Examples = Examples{
		OnlyInA: list(onlyInA), OnlyInB: list(onlyInB), Changed: list(changed),
		Undecided: list(undecided), ExpiryChanged: list(expiryChanged),
	}
}

func (t *tally) topPrefixes() (top []PrefixCounts, rest Counts) {
	names := slices.SortedFunc(maps.Keys(t.prefixes), func(x, y string) int {
		return cmp.Or(
			cmp.Compare(t.prefixes[y].Different(), t.prefixes[x].Different()),
			cmp.Compare(t.prefixes[y].Equal.Keys, t.prefixes[x].Equal.Keys),
			strings.Compare(x, y),
		)
	})
	rest = t.total
	top = []PrefixCounts{}
	for _, name := range names[:min(len(names), t.opts.Prefixes)] {
		c := t.prefixes[name]
		top = append(top, PrefixCounts{Escape([]byte(name)), *c})
		rest.subtract(c)
	}
	return top, rest
}
