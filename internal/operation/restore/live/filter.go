package live

import (
	"slices"
	"time"

	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/redis"
)

// Filter says which keys are restored: those that pass every part of it. The zero value
// lets all pass.
type Filter struct {
	// InDBs are databases of the backup, Types words that TYPE answers ("module" for
	// those of modules).
	InDBs []int    `json:"inDatabases,omitempty"`
	Types []string `json:"types,omitempty"`
	// Match are patterns as of SCAN MATCH, of which one must match; none of Exclude may.
	Match   []string `json:"match,omitempty"`
	Exclude []string `json:"exclude,omitempty"`
	// MinSize and MaxSize bound the serialized value, in bytes; 0 for no bound.
	MinSize int64 `json:"minSizeBytes,omitempty"`
	MaxSize int64 `json:"maxSizeBytes,omitempty"`
	// Expiry selects by whether a key expires.
	Expiry Expiry `json:"expiry,omitempty"`
	// MinTTL and MaxTTL bound the time that a key has left, in ns, when the restore
	// begins; 0 for no bound. A key that does not expire has more than any bound.
	MinTTL time.Duration `json:"minTtl,omitempty"`
	MaxTTL time.Duration `json:"maxTtl,omitempty"`
}

// Expiry selects keys by whether they expire.
type Expiry string

// The selections.
const (
	ExpiryAny  Expiry = ""
	ExpirySet  Expiry = "set"
	ExpiryNone Expiry = "none"
)

// All reports whether every key passes.
func (f *Filter) All() bool {
	return len(f.InDBs) == 0 && len(f.Types) == 0 && len(f.Match) == 0 && len(f.Exclude) == 0 &&
		f.MinSize == 0 && f.MaxSize == 0 && f.Expiry == ExpiryAny && f.MinTTL == 0 && f.MaxTTL == 0
}

// admits decides about a key. size is the serialized size, begun the moment from which
// times to live count: a restore that goes on later must decide the same.
func (f *Filter) admits(e *rdb.Entry, size int64, begun time.Time) bool {
	if f.All() {
		return true
	}
	switch {
	case len(f.InDBs) > 0 && !slices.Contains(f.InDBs, e.DB),
		len(f.Types) > 0 && !slices.Contains(f.Types, e.Type.String()),
		size < f.MinSize, f.MaxSize > 0 && size > f.MaxSize,
		f.Expiry == ExpirySet && e.ExpireAt == rdb.None, f.Expiry == ExpiryNone && e.ExpireAt != rdb.None:
		return false
	}
	return f.admitsTTL(e.ExpireAt, begun) && f.admitsKey(e.Key)
}

func (f *Filter) admitsTTL(expireAt int64, begun time.Time) bool {
	if expireAt == rdb.None {
		return f.MaxTTL == 0
	}
	left := expireAt - begun.UnixMilli()
	return left >= f.MinTTL.Milliseconds() && (f.MaxTTL == 0 || left <= f.MaxTTL.Milliseconds())
}

func (f *Filter) admitsKey(key []byte) bool {
	matches := func(pattern string) bool { return redis.MatchGlob(pattern, key) }
	return (len(f.Match) == 0 || slices.ContainsFunc(f.Match, matches)) && !slices.ContainsFunc(f.Exclude, matches)
}
