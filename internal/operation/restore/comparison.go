package restore

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/redisctl/redisctl/internal/rdb/rdbdiff"
)

// Comparison is the proof of a restore: what a server holds against what the backup
// holds. Its JSON form is part of redisctl's interface (docs/json-output.md).
type Comparison struct {
	// Instance that was asked.
	Instance string `json:"instance"`
	// DBs compares the numbers of keys of each database of either side, by the
	// numbers that the databases have on the server.
	DBs []DBComparison `json:"dbs"`
	// CountsCompared is set when the numbers of DBs and Functions decide: the server
	// was empty before. Otherwise they only inform.
	CountsCompared bool `json:"countsCompared"`
	// Keys counts the keys whose values and expiry times were compared, out of
	// OfKeys: those of the backup that were restored.
	Keys   int64 `json:"keysCompared"`
	OfKeys int64 `json:"keysOf"`
	// Missing, Different and ExpiryDiffers count those that were not as in the
	// backup, each key once. Examples names some of them, in the order of databases
	// and names.
	Missing       int64     `json:"missing"`
	Different     int64     `json:"different"`
	ExpiryDiffers int64     `json:"expiryDiffers"`
	Examples      []Example `json:"examples"`
	// Expired counts the compared keys whose time had come meanwhile, or that of
	// some of their fields.
	Expired int64 `json:"expired"`
	// NotComparable counts the compared keys that are there, but whose values have no
	// form to compare them in: of modules, in packed collections of more than 1 MiB,
	// of types that redisctl does not know, and those too large to be asked for, of
	// which the number of elements was compared. They do not make a server unequal.
	NotComparable int64 `json:"notComparable"`
	// Evicted is how many keys the server gave up for want of memory since it
	// started, or since the restore began.
	Evicted int64 `json:"evictedKeys"`
	// Functions are the libraries of each side, FunctionsMissing those of the backup
	// that the server does not have in the same form.
	Functions        int64 `json:"functions"`
	FunctionsFound   int64 `json:"functionsFound"`
	FunctionsMissing int64 `json:"functionsMissing"`
	// LoadedOnly is set when there is nothing to compare with: of an append-only file
	// nobody but a server knows what its commands leave. The server has loaded all of
	// it, and DBs tell what it holds.
	LoadedOnly bool `json:"loadedOnly,omitempty"`
	// Equal is the verdict: nothing that was compared differs.
	Equal bool `json:"equal"`
}

// DBComparison compares one database.
type DBComparison struct {
	DB int `json:"db"`
	// Backup is how many keys the backup has. Expired of those the server may have
	// dropped or not: their time, or that of their fields, has come, or they are
	// collections without elements, which servers from 6.2 drop while loading.
	Backup  int64 `json:"backup"`
	Expired int64 `json:"expired"`
	Found   int64 `json:"found"`
}

// Equal reports whether the number found is one of those that the backup allows.
func (c DBComparison) Equal() bool { return c.Found <= c.Backup && c.Found >= c.Backup-c.Expired }

// Example is a key that is not as in the backup.
type Example struct {
	// DB is the number of the database on the server.
	DB int `json:"db"`
	// Key is the name with the escapes that redis-cli prints; at most its first KiB.
	Key string `json:"key"`
	// Problem says what is not as in the backup.
	Problem string `json:"problem"`
}

// String returns "db 0: user:1: is missing".
func (e Example) String() string { return fmt.Sprintf("db %d: %s: %s", e.DB, e.Key, e.Problem) }

const (
	maxExamples   = 10
	maxExampleKey = 1 << 10
)

// differs names a key that is not as in the backup.
func (c *Comparison) differs(db int, key []byte, problem string) {
	if len(c.Examples) < maxExamples {
		key = key[:min(len(key), maxExampleKey)]
		c.Examples = append(c.Examples, Example{DB: db, Key: rdbdiff.Escape(key), Problem: problem})
	}
}

// judge completes the comparison.
func (c *Comparison) judge() {
	c.Equal = c.Missing == 0 && c.Different == 0 && c.ExpiryDiffers == 0 && c.Evicted == 0 && c.FunctionsMissing == 0
	if c.CountsCompared {
		c.Equal = c.Equal && c.Functions == c.FunctionsFound &&
			!slices.ContainsFunc(c.DBs, func(db DBComparison) bool { return !db.Equal() })
	}
	slices.SortFunc(c.Examples, compareExamples)
}

func compareExamples(a, b Example) int {
	return cmp.Or(cmp.Compare(a.DB, b.DB), cmp.Compare(a.Key, b.Key))
}
