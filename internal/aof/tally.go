package aof

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/redisctl/redisctl/internal/rdb/rdbdiff"
)

const (
	// sightings is how many commands a Tally shows at each end, shownNames how many
	// names.
	sightings  = 5
	shownNames = 10
	// otherNames is what those are counted as that are too many to remember.
	otherNames = "(others)"
)

// tally is a Tally in the making. Its buffers are used again.
type tally struct {
	commands    int64
	from, until time.Time
	names       map[string]int64
	first       []sight
	// last holds the last ones, seen tells how many there were.
	last [sightings]sight
	seen int
}

// sight is a Sighting in the making.
type sight struct {
	number int64
	part   int
	offset int64
	time   time.Time
	db     int
	name   string
	key    []byte
}

// keep copies from into s.
func (s *sight) keep(from *sight) {
	buffer := append(s.key[:0], from.key...) //nolint:gocritic // from.key is not for keeping
	*s = *from
	s.key = buffer
}

func (t *tally) reset() {
	t.commands, t.seen, t.first = 0, 0, t.first[:0]
	t.from, t.until = time.Time{}, time.Time{}
	clear(t.names)
}

func (t *tally) add(s sight) {
	t.commands++
	t.count(s.name, 1)
	t.span(s.time, s.time)
	t.show(&s)
}

func (t *tally) count(name string, n int64) {
	if t.names == nil {
		t.names = make(map[string]int64)
	}
	if _, known := t.names[name]; !known && len(t.names) >= maxNames {
		name = otherNames
	}
	t.names[name] += n
}

func (t *tally) span(from, until time.Time) {
	if t.from.IsZero() {
		t.from = from
	}
	if !until.IsZero() {
		t.until = until
	}
}

func (t *tally) show(s *sight) {
	if len(t.first) < sightings {
		t.first = slices.Grow(t.first, 1)[:len(t.first)+1]
		t.first[len(t.first)-1].keep(s)
	}
	t.last[t.seen%sightings].keep(s)
	t.seen++
}

// merge adds what comes behind t.
func (t *tally) merge(other *tally) {
	t.commands += other.commands
	for name, n := range other.names {
		t.count(name, n)
	}
	t.span(other.from, other.until)
	shown := int64(0) // by its number
	for i := range other.first {
		t.show(&other.first[i])
		shown = other.first[i].number
	}
	for i := max(0, other.seen-sightings); i < other.seen; i++ {
		if s := &other.last[i%sightings]; s.number > shown {
			t.show(s)
		}
	}
}

func (t *tally) commandNames() []string {
	names := slices.Sorted(maps.Keys(t.names))
	return slices.DeleteFunc(names, func(name string) bool { return name == otherNames })
}

// result returns the Tally, in which no command is shown twice.
func (t *tally) result(l Log) Tally {
	r := Tally{Commands: t.commands, Names: []NameCount{}, First: []Sighting{}, Last: []Sighting{}}
	if !t.from.IsZero() {
		r.From, r.Until = &t.from, &t.until
	}
	for name, n := range t.names {
		r.Names = append(r.Names, NameCount{Name: rdbdiff.Escape([]byte(name)), Count: n})
	}
	slices.SortFunc(r.Names, func(a, b NameCount) int { return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Name, b.Name)) })
	r.Names = r.Names[:min(len(r.Names), shownNames)]
	shown := int64(0)
	for i := range t.first {
		r.First = append(r.First, t.first[i].sighting(l))
		shown = t.first[i].number
	}
	for i := max(0, t.seen-sightings); i < t.seen; i++ {
		if s := &t.last[i%sightings]; s.number > shown {
			r.Last = append(r.Last, s.sighting(l))
		}
	}
	return r
}

func (s *sight) sighting(l Log) Sighting {
	r := Sighting{
		Number: s.number, File: l.Parts[s.part].Name, Offset: s.offset, DB: s.db,
		Name: rdbdiff.Escape([]byte(s.name)), Key: rdbdiff.Escape(s.key),
	}
	if !s.time.IsZero() {
		r.Time = &s.time
	}
	return r
}
