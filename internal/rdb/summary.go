package rdb

import (
	"fmt"
	"strconv"
)

// An Origin names the family of servers whose magic a file begins with.
type Origin string

// The magics: "REDIS" is also that of Valkey before version 9.
const (
	OriginRedis  Origin = "redis"
	OriginValkey Origin = "valkey"
)

// A ChecksumStatus is the outcome of comparing the CRC64.
type ChecksumStatus string

// The outcomes of comparing the CRC64. It is empty when the scan did not get
// that far.
const (
	ChecksumOK ChecksumStatus = "ok"
	// ChecksumDisabled: the server ran with `rdbchecksum no`.
	ChecksumDisabled ChecksumStatus = "disabled"
	// ChecksumAbsent: RDB versions before 5 have none.
	ChecksumAbsent   ChecksumStatus = "absent"
	ChecksumMismatch ChecksumStatus = "mismatch"
)

// A CRC64 is a checksum that text formats show as 16 hexadecimal digits.
type CRC64 uint64

func (c CRC64) String() string { return fmt.Sprintf("%016x", uint64(c)) }

// MarshalText returns the 16 digits.
func (c CRC64) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (c *CRC64) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 16, 64)
	if err != nil {
		return fmt.Errorf("CRC64: %w", err)
	}
	*c = CRC64(n)
	return nil
}

// A Summary says what an RDB file holds.
type Summary struct {
	// Origin is the magic of the file, Version its RDB version.
	Origin  Origin `json:"magic"`
	Version int    `json:"rdbVersion"`
	// Aux holds the informational fields by their names in the file: redis-ver
	// or valkey-ver, redis-bits, ctime (s since 1970), used-mem (bytes),
	// repl-stream-db, repl-id, repl-offset, aof-base, … At most 64 of at most
	// 256 bytes are kept; of a name that comes twice, the last one counts.
	Aux map[string]string `json:"aux,omitempty"`
	// DBs describes the databases in file order, also empty ones.
	DBs []DBSummary `json:"dbs"`

	// Keys, Expires, Expired and EmptyKeys are the totals of DBs.
	Keys      int64 `json:"keys"`
	Expires   int64 `json:"expires"`
	Expired   int64 `json:"expired"`
	EmptyKeys int64 `json:"emptyKeys,omitempty"`
	// Functions counts function libraries.
	Functions int64 `json:"functions,omitempty"`
	// LuaScripts counts the EVAL scripts that servers before 7 store.
	LuaScripts int64 `json:"luaScripts,omitempty"`
	// ModuleAux counts the records that modules store beside their keys.
	ModuleAux int64 `json:"moduleAux,omitempty"`

	// Size is the length of the RDB data in bytes, checksum included.
	Size int64 `json:"sizeBytes"`
	// Checksum tells how the stored and the computed CRC64 compare. Both are 0
	// when the format has none.
	Checksum    ChecksumStatus `json:"checksum"`
	StoredCRC   CRC64          `json:"storedCrc64"`
	ComputedCRC CRC64          `json:"computedCrc64"`
}

// A DBSummary counts the keys of one database.
type DBSummary struct {
	DB int `json:"db"`
	// Keys counts all keys, Types the same by the word that TYPE answers.
	Keys  int64            `json:"keys"`
	Types map[string]int64 `json:"types,omitempty"`
	// Expires counts the keys that have an expiry time, Expired those of them
	// that are past it at Options.Now: a primary drops these while loading.
	Expires int64 `json:"expires"`
	Expired int64 `json:"expired"`
	// EmptyKeys counts collections without elements, which bugs of older
	// servers left behind: servers from 6.2 drop them while loading.
	EmptyKeys int64 `json:"emptyKeys,omitempty"`
	// KeysHint and ExpiresHint are the counts that the server announced before
	// the keys, None when it did not. Servers write exact ones (up to 2^32-1).
	KeysHint    int64 `json:"keysHint"`
	ExpiresHint int64 `json:"expiresHint"`
}

const (
	// maxAux and maxAuxLen bound what Summary.Aux keeps.
	maxAux    = 64
	maxAuxLen = 256
	// maxDBs is how many databases a file may have. Servers have 16 unless
	// configured otherwise.
	maxDBs = 1 << 14
)

// dbCounts is DBSummary with the map replaced by what is fast to count in.
type dbCounts struct {
	DBSummary
	types [numTypes]int64
}

func (d *dbCounts) summary() DBSummary {
	out := d.DBSummary
	for t, n := range d.types {
		if n > 0 {
			if out.Types == nil {
				out.Types = make(map[string]int64)
			}
			out.Types[Type(t).String()] = n
		}
	}
	return out
}
