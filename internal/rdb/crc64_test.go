package rdb_test

import (
	"hash/crc64"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/redisctl/redisctl/internal/rdb"
)

// The sum is that of hash/crc64 with Redis's polynomial and without the inversions,
// however the data is split.
func TestCRC64(t *testing.T) {
	sum := rdb.NewCRC64()
	sum.Write([]byte("123456789"))
	assert.Equal(t, uint64(0xe9c6d914c4b8d9ca), sum.Sum64(), "the check value in Redis's crc64.c")

	table := crc64.MakeTable(0x95ac9329ac4bc9b5)
	random := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, 100_000)
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	for range 200 {
		part := data[:random.IntN(len(data))]
		want := ^crc64.Update(^uint64(0), table, part)
		sum.Reset()
		for len(part) > 0 {
			n := 1 + random.IntN(len(part))
			sum.Write(part[:n])
			part = part[n:]
		}
		assert.Equal(t, want, sum.Sum64())
	}
}
