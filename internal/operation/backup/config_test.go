package backup

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/redisctl/redisctl/internal/operation/redact"
	"github.com/redisctl/redisctl/internal/redis"
)

func TestDifferences(t *testing.T) {
	wanted, err := redis.ParseConfig("maxmemory 256mb\nsave 900 1\nsave 300 10\ndir /data/\nappendonly yes\nrequirepass one\n" +
		"maxmemory-policy allkeys-lru\nclient-output-buffer-limit pubsub 32mb 8mb 60\ntimeout 0\nrename-command FLUSHALL \"\"\n")
	assert.NoError(t, err)
	running := map[string]string{
		"maxmemory": "268435456", "save": "900 1 300 10", "dir": "/data", "appendonly": "no", "requirepass": "two",
		"maxmemory-policy": "noeviction", "client-output-buffer-limit": "normal 0 0 0 pubsub 33554432 8388608 60", "timeout": "0",
	}
	assert.Equal(t, []Difference{
		{Setting: "appendonly", Running: "no", Wanted: "yes"},
		{Setting: "maxmemory-policy", Running: "noeviction", Wanted: "allkeys-lru"},
		{Setting: "requirepass", Running: Placeholder, Wanted: Placeholder},
	}, differences(running, wanted, &redact.Mask{}))
}

func TestQuoteIsReadBack(t *testing.T) {
	for _, arg := range []string{"", "plain", "two words", `a"b\c`, "#hash", "tab\tand\nline", "ü"} {
		parsed, err := redis.ParseConfig("name " + quote(arg))
		assert.NoError(t, err)
		got, _ := parsed.Get("name")
		assert.Equal(t, arg, got)
	}
}
