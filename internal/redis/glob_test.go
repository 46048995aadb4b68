package redis_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/redisctl/redisctl/internal/redis"
)

// internal/operation/restore/live compares it with KEYS of real servers.
func TestMatchGlob(t *testing.T) {
	for _, c := range []struct {
		pattern, key string
		want         bool
	}{
		{"", "", true},
		{"", "a", false},
		{"*", "", true},
		{"**", "any/thing", true},
		{"user:*", "user:1", true},
		{"user:*", "users:1", false},
		{"*:1", "user:1", true},
		{"*a*b*c", "xxaxxbxxbxxc", true},
		{"*a*b*c", "xxaxxbxxbxxcd", false},
		{"a?c", "abc", true},
		{"a?c", "ac", false},
		{"[a-c]x", "bx", true},
		{"[c-a]x", "bx", true},
		{"[a-c]x", "dx", false},
		{"[^a-c]x", "dx", true},
		{"[^a-c]x", "ax", false},
		{"[abc", "a", true},
		{"[", "a", false},
		{`[\]]`, "]", true},
		{`[a\-c]`, "-", true},
		{`\*`, "*", true},
		{`\*`, "a", false},
		{`a\`, `a\`, true},
		{"a*", "b", false},
		{"*a", "ba\x00a", true},
	} {
		assert.Equal(t, c.want, redis.MatchGlob(c.pattern, []byte(c.key)), "%q %q", c.pattern, c.key)
	}
}
