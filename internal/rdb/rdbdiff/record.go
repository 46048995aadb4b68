package rdbdiff

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"

	"github.com/redisctl/redisctl/internal/rdb"
)

// maxName is how many bytes of a key are kept for examples and prefixes. Longer
// keys are told apart by their hash.
const maxName = 1 << 10

// recordHead is the length of a record without the key's name.
const recordHead = 16 + 16 + 4*8 + 1 + 1 + 2

// A record is what is remembered of a key.
type record struct {
	hash      [16]byte // of the key and the database
	digest    [16]byte // of the value
	db        int64
	expireAt  int64 // ms since 1970 or rdb.None
	bytes     int64 // of the serialized value
	keyLen    int64
	kind      rdb.Type
	canonical bool
	name      []byte // the first maxName bytes of the key
}

// hashKey identifies a key of a database. Its first bytes decide which part of
// a spill a key belongs to, its last ones whether it is in a sample.
func hashKey(e *rdb.Entry) (hash [16]byte) {
	sum := e.KeySHA256
	if e.KeyLen == int64(len(e.Key)) {
		sum = sha256.Sum256(e.Key)
	}
	copy(hash[:], sum[:])
	// The same key in many databases must not end up in one part. The factor
	// spreads small numbers over 64 bits (2^64 divided by the golden ratio).
	const spread = 0x9e3779b97f4a7c15
	binary.BigEndian.PutUint64(hash[:], binary.BigEndian.Uint64(hash[:])^uint64(e.DB)*spread)
	return hash
}

// sampled tells whether a key belongs to a sample of one in n.
func sampled(hash [16]byte, n int64) bool {
	return n <= 1 || binary.BigEndian.Uint64(hash[8:])%uint64(n) == 0
}

func (r *record) size() int { return recordHead + len(r.name) }

func (r *record) append(b []byte) []byte {
	b = append(b, r.hash[:]...)
	b = append(b, r.digest[:]...)
	for _, n := range [...]int64{r.db, r.expireAt, r.bytes, r.keyLen} {
		b = binary.LittleEndian.AppendUint64(b, uint64(n))
	}
	canonical := byte(0)
	if r.canonical {
		canonical = 1
	}
	b = append(b, byte(r.kind), canonical)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(r.name)))
	return append(b, r.name...)
}

// parseRecord reads the record at the start of b. Its name shares memory with b.
func parseRecord(b []byte) record {
	number := func(at int) int64 { return int64(binary.LittleEndian.Uint64(b[at:])) }
	r := record{
		db: number(32), expireAt: number(40), bytes: number(48), keyLen: number(56),
		kind: rdb.Type(b[64]), canonical: b[65] != 0,
	}
	copy(r.hash[:], b)
	copy(r.digest[:], b[16:])
	r.name = b[recordHead : recordHead+int(binary.LittleEndian.Uint16(b[66:]))]
	return r
}

// compare orders records by hash, then by database: 0 means the same key.
func (r *record) compare(other *record) int {
	return cmp.Or(bytes.Compare(r.hash[:], other.hash[:]), cmp.Compare(r.db, other.db))
}
