package maintenance_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/maintenance"
)

func TestShown(t *testing.T) {
	for _, c := range []struct {
		command             maintenance.Command
		masked, withoutMask string
	}{
		{maintenance.Command{"set", "k", "hunter2", "EX", "5"}, "SET k *** *** ***", "SET k hunter2 EX 5"},
		{maintenance.Command{"MSET", "a", "1", "b", "2"}, "MSET a *** b ***", "MSET a 1 b 2"},
		{maintenance.Command{"DEL", "a", "b b"}, `DEL a "b b"`, `DEL a "b b"`},
		{maintenance.Command{"RPUSH", "l", "1", "2", "3", "4"}, "RPUSH l ***×4", "RPUSH l 1 2 3 4"},
		{maintenance.Command{"RPUSH", "l", "1", "2", "3", "4", "5"}, "RPUSH l ***×5", "RPUSH l 1 2 3 4 5"},
		{maintenance.Command{"AUTH", "sesame"}, "AUTH ***", "AUTH ***"},
		{maintenance.Command{"hello", "3", "AUTH", "u", "sesame"}, "HELLO ***×4", "HELLO ***×4"},
		{maintenance.Command{"CONFIG", "SET", "requirepass", "sesame"}, "CONFIG SET *** ***", "CONFIG SET *** ***"},
		{maintenance.Command{"CONFIG", "SET", "maxmemory", "1", "masterauth", "x"}, "CONFIG SET ***×4", "CONFIG SET ***×4"},
		{maintenance.Command{"CONFIG", "SET", "maxmemory", "1"}, "CONFIG SET *** ***", "CONFIG SET maxmemory 1"},
		{maintenance.Command{"ACL", "SETUSER", "u", ">sesame"}, "ACL SETUSER *** ***", "ACL SETUSER *** ***"},
		{maintenance.Command{"MIGRATE", "h", "1", "k", "0", "9", "AUTH", "x"}, "MIGRATE ***×7", "MIGRATE ***×7"},
		{maintenance.Command{"xyzzy", "sesame"}, "XYZZY ***", "XYZZY ***"}, // AUTH, renamed
		{maintenance.Command{"GET", "a\x00b"}, `GET a\x00b`, `GET a\x00b`},
		{maintenance.Command{"SADD", "k", "a", "... (12 more arguments)"}, "SADD k *** ... (12 more arguments)", `SADD k a "... (12 more arguments)"`},
		{maintenance.Command{"PING"}, "PING", "PING"},
		{nil, "", ""},
	} {
		assert.Equal(t, c.masked, maintenance.Shown(c.command, false), "%q", c.command)
		assert.Equal(t, c.withoutMask, maintenance.Shown(c.command, true), "%q", c.command)
	}
}

func TestRefuse(t *testing.T) {
	allowed, consent, never := operation.Kind(-1), operation.Refused, operation.Usage
	for line, want := range map[string]operation.Kind{
		"GET a": allowed, "set a b": allowed, "CONFIG GET *": allowed, "BLPOP a 1": allowed, "BLPOP a 0.5": allowed, "XREAD STREAMS s 0": allowed,
		"BGSAVE": allowed, "CLIENT LIST": allowed, "ACL WHOAMI": allowed, "SCRIPT EXISTS a": allowed, "CLUSTER INFO": allowed, "LPUSH k 0": allowed,
		"FLUSHALL": consent, "flushdb": consent, "SHUTDOWN NOSAVE": consent, "DEBUG SLEEP 1": consent, "config set a b": consent, "CONFIG REWRITE": consent,
		"CONFIG RESETSTAT": consent, "REPLICAOF NO ONE": consent, "SLAVEOF a 1": consent, "SCRIPT FLUSH": consent, "KEYS *": consent, "MIGRATE a 1 k 0 1": consent,
		"RESTORE k 0 x": consent, "FAILOVER": consent, "CLIENT KILL a": consent, "CLIENT PAUSE 1": consent, "ACL SETUSER a": consent, "SWAPDB 0 1": consent,
		"CLUSTER RESET": consent, "SAVE": consent, "MODULE LOAD x": consent, "FUNCTION FLUSH": consent, "EVAL x 0": consent,
		"SUBSCRIBE a": never, "MONITOR": never, "BLPOP a 0": never, "BLMPOP 0 1 a LEFT": never, "XREAD BLOCK 0 STREAMS s $": never, "PSYNC ? -1": never,
		"SYNC": never, "MULTI": never, "SELECT 1": never, "WAIT 1 0": never,
	} {
		c := maintenance.Command(strings.Fields(line))
		err := maintenance.Refuse("x", c, false)
		assert.Equal(t, want != allowed, err != nil, line)
		if err != nil {
			assert.Equal(t, want, operation.KindOf(err), line)
		}
		assert.Equal(t, want == never, maintenance.Refuse("x", c, true) != nil, "%s with consent", line)
	}
}

// TestCanonical: a dangerous command is not made harmless by another name.
func TestCanonical(t *testing.T) {
	renames := map[string]string{"FLUSHALL": "wipe-9", "CONFIG": ""}
	assert.Equal(t, maintenance.Command{"FLUSHALL", "ASYNC"}, maintenance.Canonical(maintenance.Command{"WIPE-9", "ASYNC"}, renames))
	assert.Equal(t, maintenance.Command{"GET", "a"}, maintenance.Canonical(maintenance.Command{"GET", "a"}, renames))
	assert.Error(t, maintenance.Refuse("x", maintenance.Canonical(maintenance.Command{"wipe-9"}, renames), false))
}

func TestPercentiles(t *testing.T) {
	samples := []int64{-1}
	for i := int64(100); i >= 1; i-- {
		samples = append(samples, i)
	}
	got := maintenance.Percentiles(samples)
	got.Samples = nil
	assert.Equal(t, maintenance.InstanceTime{Asked: 101, Failed: 1, Min: 1, P50: 50, P95: 95, P99: 99, Max: 100}, got)
	assert.Equal(t, maintenance.InstanceTime{Asked: 1, Failed: 1, Samples: []int64{-1}}, maintenance.Percentiles([]int64{-1}))
}
