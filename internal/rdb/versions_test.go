package rdb_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/redisctl/redisctl/internal/rdb"
)

func TestReads(t *testing.T) {
	const (
		text, ziplistHash, stream, listpackHash, setListpack, hashTTL, function = 0, 13, 15, 16, 20, 24, 245
		valkeyHashTTL                                                           = 22
	)
	for _, c := range []struct {
		target  int
		rdbType byte
		origin  rdb.Origin
		want    bool
	}{
		{9, text, rdb.OriginRedis, true},
		{9, text, rdb.OriginValkey, true},
		{9, ziplistHash, rdb.OriginRedis, true},
		{8, stream, rdb.OriginRedis, false},
		{9, stream, rdb.OriginRedis, true},
		{9, listpackHash, rdb.OriginRedis, false},
		{10, listpackHash, rdb.OriginRedis, true},
		{10, setListpack, rdb.OriginRedis, false},
		{11, setListpack, rdb.OriginValkey, true},
		{11, hashTTL, rdb.OriginRedis, false},
		{12, hashTTL, rdb.OriginRedis, true},
		{80, hashTTL, rdb.OriginRedis, false},
		{80, setListpack, rdb.OriginRedis, true},
		{80, valkeyHashTTL, rdb.OriginValkey, true},
		{12, valkeyHashTTL, rdb.OriginValkey, false},
		{9, function, rdb.OriginRedis, false},
		{10, function, rdb.OriginRedis, true},
	} {
		assert.Equal(t, c.want, rdb.Reads(c.target, c.rdbType, c.origin), "%+v", c)
	}
}
