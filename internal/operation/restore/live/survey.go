package live

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/rdb/rdbdiff"
)

// largeValue is the size in bytes from which values are remembered by the survey: a scan
// hands out those up to half its window with their size.
const largeValue = rdb.DefaultWindow / 4

// survey is what the first reading of the backup tells about the keys that are selected.
type survey struct {
	selection *Selection
	begun     time.Time

	keys, expired int64
	bytes         int64 // of serialized values
	total         int64 // keys of the backup
	functions     int64
	// forms counts values by type byte.
	forms map[byte]*form
	// large are the sizes of large values by their offset.
	large map[int64]int64
	// oversized are those larger than the largest payload that is sent whole, impossible
	// those that are larger than what the server takes, and no commands make them.
	oversized, impossible int64
	limit                 int64
	// longKeys have names that are longer than what is read of them.
	longKeys int64
	// dbs are the numbers of keys by database of the server.
	dbs map[int]int64
	// probe is the name of the first key.
	probe []byte
}

// form counts the values of one type byte.
type form struct {
	rdbType  byte
	typ      rdb.Type
	encoding rdb.Encoding
	module   string
	keys     int64
	// oversized are those that are too large to be sent whole.
	oversized int64
	// largest is the size of the largest value in bytes, example the name of a key.
	largest int64
	example string
}

// newSurvey returns a survey for a server that takes payloads of up to limit bytes.
func newSurvey(s *Selection, begun time.Time, limit int64) *survey {
	return &survey{
		selection: s, begun: begun, limit: limit, forms: make(map[byte]*form), large: make(map[int64]int64), dbs: make(map[int]int64),
	}
}

func (s *survey) visitor() rdb.Visitor {
	return rdb.Visitor{Entry: s.entry, Function: func(*rdb.Entry) (io.Writer, error) {
		s.functions++
		return nil, nil
	}}
}

func (s *survey) entry(e *rdb.Entry) error {
	s.total++
	if e.Size >= largeValue {
		s.large[e.Offset] = e.Size
	}
	if !s.selection.admits(e, e.Size, s.begun) {
		return nil
	}
	if s.keys == 0 {
		s.probe = append([]byte(nil), e.Key...)
	}
	s.keys++
	s.bytes += e.Size
	s.dbs[s.selection.target(e.DB)]++
	if e.Expired(s.begun) {
		s.expired++
	}
	if int64(len(e.Key)) < e.KeyLen {
		s.longKeys++
	}
	f := s.forms[e.RDBType]
	if f == nil {
		f = &form{rdbType: e.RDBType, typ: e.Type, encoding: e.Encoding, module: e.Module, example: rdbdiff.Escape(e.Key)}
		s.forms[e.RDBType] = f
	}
	f.keys++
	f.largest = max(f.largest, e.Size)
	switch size := e.Size + rdb.DumpOverhead; {
	case size <= s.selection.MaxPayload:
	case rdb.Rebuildable(e.RDBType):
		s.oversized++
		f.oversized++
	case size > s.limit:
		s.impossible++
	}
	return nil
}

// unsupported returns the forms that a server cannot take which reads up to an RDB version.
func (s *survey) unsupported(target int, origin rdb.Origin) []*form {
	var all []*form
	for _, f := range s.forms {
		if !rdb.Reads(target, f.rdbType, origin) {
			all = append(all, f)
		}
	}
	slices.SortFunc(all, func(a, b *form) int { return cmp.Compare(a.rdbType, b.rdbType) })
	return all
}

// describe says how many keys of which forms there are, each with an example.
func describe(forms []*form) (text string, keys int64) {
	parts := make([]string, len(forms))
	for i, f := range forms {
		keys += f.keys
		what := f.typ.String()
		if f.module != "" {
			what = "module " + f.module
		} else if f.encoding != "" {
			what += " (" + string(f.encoding) + ")"
		}
		parts[i] = fmt.Sprintf("%d of type %s, such as %s", f.keys, what, f.example)
	}
	return strings.Join(parts, "; "), keys
}

// databases returns the databases of the server that keys go to, in order.
func (s *survey) databases() []int { return slices.Sorted(maps.Keys(s.dbs)) }
