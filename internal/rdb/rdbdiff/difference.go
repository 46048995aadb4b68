package rdbdiff

import (
	"time"

	"github.com/redisctl/redisctl/internal/rdb"
)

// An Amount is a number of keys and what they take.
type Amount struct {
	Keys int64 `json:"keys"`
	// Expired counts those of Keys that had expired at Options.Now in every file
	// that holds them. A server removes such keys at some time of its own, so
	// that one file can lack what the other still has.
	Expired int64 `json:"expired"`
	// BytesInA and BytesInB are the lengths of the serialized values in the
	// files, which depend on encoding and compression.
	BytesInA int64 `json:"bytesInA"`
	BytesInB int64 `json:"bytesInB"`
}

func (a *Amount) add(n Amount) {
	a.Keys += n.Keys
	a.Expired += n.Expired
	a.BytesInA += n.BytesInA
	a.BytesInB += n.BytesInB
}

func (a *Amount) subtract(n Amount) {
	a.Keys -= n.Keys
	a.Expired -= n.Expired
	a.BytesInA -= n.BytesInA
	a.BytesInB -= n.BytesInB
}

// live is the number of keys that had not expired.
func (a *Amount) live() int64 { return a.Keys - a.Expired }

// Counts divides keys by what the comparison found. Each key is in exactly one
// of the amounts, except for TypeChanged.
type Counts struct {
	OnlyInA Amount `json:"onlyInA"`
	OnlyInB Amount `json:"onlyInB"`
	// Changed keys have different values, and possibly another expiry.
	Changed Amount `json:"changed"`
	// TypeChanged are those of Changed that have different types, too.
	TypeChanged Amount `json:"typeChanged"`
	// Undecided keys are changed or encoded differently: their values are stored
	// in different bytes, and have no form to compare them in (those of modules,
	// see rdb.ValueDigest).
	Undecided Amount `json:"undecided"`
	// ExpiryChanged keys have equal values and expire at different times, or in
	// one of the files only.
	ExpiryChanged Amount `json:"expiryChanged"`
	// Equal keys have equal values and expiry times.
	Equal Amount `json:"equal"`
}

// Different is the number of keys that are not equal.
func (c *Counts) Different() int64 {
	return c.OnlyInA.Keys + c.OnlyInB.Keys + c.Changed.Keys + c.Undecided.Keys + c.ExpiryChanged.Keys
}

// amounts lists the fields of Counts, in the order of classes.
func (c *Counts) amounts() [numClasses]*Amount {
	return [numClasses]*Amount{&c.OnlyInA, &c.OnlyInB, &c.Changed, &c.TypeChanged, &c.Undecided, &c.ExpiryChanged, &c.Equal}
}

func (c *Counts) subtract(other *Counts) {
	theirs := other.amounts()
	for i, a := range c.amounts() {
		a.subtract(*theirs[i])
	}
}

// DBCounts are the counts of one database.
type DBCounts struct {
	DB int `json:"db"`
	Counts
}

// TypeCounts are the counts of the keys of one type, as TYPE answers, modules
// together as "module". A key whose type changed counts by its type in A.
type TypeCounts struct {
	Type string `json:"type"`
	Counts
}

// PrefixCounts are the counts of the keys whose names begin in the same way.
type PrefixCounts struct {
	// Prefix reaches up to and including a delimiter. It is empty for keys
	// without one in their first 256 bytes. Quoted like Example.Key.
	Prefix string `json:"prefix"`
	Counts
}

// Functions counts function libraries by their source code. A library that was
// changed is in both.
type Functions struct {
	OnlyInA int64 `json:"onlyInA"`
	OnlyInB int64 `json:"onlyInB"`
	Equal   int64 `json:"equal"`
}

// An Example is one of the keys that differ.
type Example struct {
	DB int `json:"db"`
	// Key is the key's name with the escapes that redis-cli prints (\n, \x00,
	// \", \\). At most the first KiB of it is there.
	Key string `json:"key"`
	// KeyBytes is the length of the whole name.
	KeyBytes int64 `json:"keyBytes"`
	// InA and InB describe the key in a file that has it.
	InA *KeyState `json:"inA,omitempty"`
	InB *KeyState `json:"inB,omitempty"`
}

// A KeyState describes a key in one file.
type KeyState struct {
	Type string `json:"type"`
	// Bytes is the length of the serialized value.
	Bytes int64 `json:"sizeBytes"`
	// ExpiresAt is nil for keys that do not expire. Times after the year 9999
	// become the end of that year.
	ExpiresAt *time.Time `json:"expiresAt,omitempty"`
}

// Examples are the first keys of each class, in the order of databases and names,
// up to Options.Examples of each.
type Examples struct {
	OnlyInA       []Example `json:"onlyInA"`
	OnlyInB       []Example `json:"onlyInB"`
	Changed       []Example `json:"changed"` // TypeChanged included
	Undecided     []Example `json:"undecided"`
	ExpiryChanged []Example `json:"expiryChanged"`
}

// A Difference is what Compare found.
type Difference struct {
	// Same is set when no difference was found, that is, among the keys that were
	// compared.
	Same bool `json:"same"`
	// Complete is set when all keys were compared. Otherwise all counts are those
	// of a sample, about one key in SampleOneIn; they are not extrapolated.
	Complete    bool  `json:"complete"`
	SampleOneIn int64 `json:"sampleOneIn"`
	// A and B say what each file holds in all, sampled or not.
	A rdb.Summary `json:"a"`
	B rdb.Summary `json:"b"`

	Total Counts `json:"total"`
	// DBs are in the order of their numbers, Types in that of their names.
	DBs   []DBCounts   `json:"dbs"`
	Types []TypeCounts `json:"types"`
	// Prefixes are the Options.Prefixes with the most keys that differ, the first
	// one having the most. Their counts are exact. A prefix can be missing that
	// comes up only after several thousand others did; as keys are looked at in a
	// random order, that happens to rare ones.
	Prefixes []PrefixCounts `json:"prefixes"`
	// OtherPrefixes are all keys that none of Prefixes counts.
	OtherPrefixes Counts `json:"otherPrefixes"`
	// Functions are always compared completely. What EVAL scripts and modules
	// store beside keys is not compared.
	Functions Functions `json:"functions"`
	Examples  Examples  `json:"examples"`
}

// AContainsB reports whether B could be discarded without losing anything: all
// keys of B are in A with the same value and expiry, and all its functions. Keys
// that have expired do not count. A sample never proves that.
func (d *Difference) AContainsB() bool {
	return d.Complete && d.Total.OnlyInB.live() == 0 && d.Functions.OnlyInB == 0 && d.sharedAgree()
}

// BContainsA is AContainsB the other way round.
func (d *Difference) BContainsA() bool {
	return d.Complete && d.Total.OnlyInA.live() == 0 && d.Functions.OnlyInA == 0 && d.sharedAgree()
}

func (d *Difference) sharedAgree() bool {
	return d.Total.Changed.live() == 0 && d.Total.Undecided.live() == 0 && d.Total.ExpiryChanged.live() == 0
}

// class is what was found about a key.
type class int

const (
	onlyInA class = iota
	onlyInB
	changed
	typeChanged // counted in addition to changed
	undecided
	expiryChanged
	equal
	numClasses
)
