package failover

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/redis"
)

// at returns a server with a history: its ID and offset, and the one that it left.
func at(id string, offset int64, left string, leftAt int64) *topology.Member {
	info, err := redis.ParseInfo("role:master\r\nrepl_backlog_active:1\r\n# Keyspace\r\ndb0:keys=1,expires=0,avg_ttl=0\r\n")
	if err != nil {
		panic(err) // the text is above
	}
	return &topology.Member{
		Info: info, Version: redis.Version{Product: "redis", Major: 7},
		Replication: redis.Replication{Role: redis.RolePrimary, ID: id, Offset: offset, SecondID: left, SecondOffset: leftAt},
	}
}

// TestCompare: what the replication histories prove, and what they do not.
func TestCompare(t *testing.T) {
	a, b, c := strings.Repeat("a", 40), strings.Repeat("b", 40), strings.Repeat("c", 40)
	empty := at(c, 10, "", 0)
	empty.Info, _ = redis.ParseInfo("role:master\r\n")
	old := at(b, 100, a, 101)
	old.Version.Major = 6
	old.Info, _ = redis.ParseInfo("role:master\r\nrepl_backlog_active:0\r\n# Keyspace\r\ndb0:keys=1,expires=0,avg_ttl=0\r\n")
	for name, test := range map[string]struct {
		m, other  *topology.Member
		contained bool
		own       int64
	}{
		"one history, equal":                           {at(a, 100, "", 0), at(a, 100, "", 0), true, 0},
		"one history, behind":                          {at(a, 90, "", 0), at(a, 100, "", 0), true, 0},
		"one history, ahead":                           {at(a, 110, "", 0), at(a, 100, "", 0), false, 10},
		"the other one was promoted at the end":        {at(a, 100, "", 0), at(b, 150, a, 101), true, 0},
		"the other one was promoted before the end":    {at(a, 120, "", 0), at(b, 150, a, 101), false, 20},
		"restarted, no write since":                    {at(b, 100, a, 101), at(a, 150, "", 0), true, 0},
		"restarted with an older snapshot":             {at(b, 80, a, 81), at(a, 150, "", 0), true, 0},
		"restarted, and took writes":                   {at(b, 130, a, 101), at(a, 150, "", 0), false, 30},
		"restarted with more than the other one has":   {at(b, 160, a, 161), at(a, 150, "", 0), false, 10},
		"both left one history, this one took nothing": {at(b, 100, a, 101), at(c, 500, a, 101), true, 0},
		"both left one history, this one took writes":  {at(b, 105, a, 101), at(c, 500, a, 101), false, 5},
		"both left one history, this one left later":   {at(b, 110, a, 111), at(c, 500, a, 101), false, 10},
		"nothing in common":                            {at(a, 100, "", 0), at(b, 100, "", 0), false, -1},
		"nothing in common, but empty":                 {empty, at(b, 100, "", 0), true, 0},
		"an offset that does not move with each write": {old, at(a, 150, "", 0), false, -1},
	} {
		t.Run(name, func(t *testing.T) {
			r := compare(test.m, test.other)
			assert.Equal(t, test.contained, r.contained, r.why)
			if !test.contained {
				assert.Equal(t, test.own, r.own, r.why)
			}
			assert.NotEmpty(t, r.why)
		})
	}
}
