package e2e_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
)

type validation struct {
	Valid  bool
	Checks []struct{ Name, State, Message string }
	// Recorded is the state before the upgrade.
	Recorded *struct{ Image string }
	Backups  []string
	Findings []finding
}

func (v validation) states() map[string]string {
	found := map[string]string{}
	for _, c := range v.Checks {
		found[c.Name] = c.State
	}
	return found
}

// A release is compared with what an upgrade would have recorded of it, then spoilt.
func TestUpgradeValidate(t *testing.T) {
	t.Parallel()
	e := setup(t)
	r := e.install(t, e.namespace(t, "validate"), chart{
		files: []string{"replica-password.yaml"}, password: randomPassword(), replicas: 1, config: quickSync,
	})
	client := r.redis(t, 0)
	for i := range 25 {
		require.NoError(t, client.Set(t.Context(), fmt.Sprintf("key:%d", i), i, 0).Err())
	}
	require.NoError(t, client.Do(t.Context(), "WAIT", 1, 10_000).Err())
	s := r.session(t)

	first := decode[validation](s.run("upgrade", "validate", "--quick", "-o", "json").exits(0).quiet())
	assert.Equal(t, []string{"not-recorded"}, codes(first.Findings))
	assert.Nil(t, first.Recorded)

	image := r.pod(t, 0).Spec.Containers[0].Image
	save := client.ConfigGet(t.Context(), "save").Val()["save"]
	r.annotate(t, operation.NoteUpgraded, fmt.Sprintf(`{"time":"2026-11-23T19:00:00Z","image":"docker.io/library/redis:6.0","target":%q,"primary":%[2]q,`+
		`"instances":[{"name":%[2]q,"version":"redis 6.0.16","data":{"keys":[{"db":0,"keys":25,"expires":0}],"save":%q,`+
		`"latency":{"p50Microseconds":100000,"p99Microseconds":500000,"maxMicroseconds":900000}}},{"name":%q}]}`,
		image, r.podName(0), save, r.podName(1)))
	good := decode[validation](s.run("upgrade", "validate", "-o", "json").exits(0).quiet())
	assert.Empty(t, good.Findings)
	assert.Equal(t, map[string]string{
		"versions": "changed", "rollout": "changed", "replication": "ok", "health": "ok", "keys": "ok", "settings": "ok", "log": "ok",
		"latency": "ok", "backup": "ok",
	}, good.states(), "the record has another version, and no chart")
	require.Len(t, good.Backups, 1)
	s.run("backup", "verify", "latest").exits(0)

	// A line of warning in a log, which the server prints when HTTP is spoken to it.
	assert.Error(t, client.Do(t.Context(), "POST", "/").Err())
	spoilt := decode[validation](s.run("upgrade", "validate", "--quick", "-o", "json").exits(10).quiet())
	require.Equal(t, []string{"log-errors"}, codes(spoilt.Findings))
	assert.Equal(t, r.podName(0), spoilt.Findings[0].Subject)
	assert.Contains(t, spoilt.Findings[0].Message, "SECURITY ATTACK")

	require.NoError(t, client.FlushAll(t.Context()).Err())
	r.annotate(t, operation.NoteUpgrade, `{"to":"docker.io/library/redis:8.0","by":"ops","begun":"2026-11-23T19:00:00Z","phase":"rolling"}`)
	r.patch(t, `{"spec":{"updateStrategy":{"$retainKeys":["type"],"type":"OnDelete"}}}`)
	spoilt = decode[validation](s.run("upgrade", "validate", "--no-backup", "-o", "json").exits(10).quiet())
	assert.Subset(t, codes(spoilt.Findings), []string{"keys-missing", "unfinished-upgrade", "update-held"})
	assert.Equal(t, []string{"failed", "failed", "skipped"},
		[]string{spoilt.states()["keys"], spoilt.states()["replication"], spoilt.states()["backup"]})
	s.run("health").exits(10).shows("the upgrade to docker.io/library/redis:8.0 was begun by ops", "[update-held]")
	s.run("upgrade", "validate", "--quick").exits(10).shows("CHECK", "database 0 has 0 keys, before 25")
}

// annotate sets an annotation of the workload.
func (r *release) annotate(t *testing.T, key, value string) {
	t.Helper()
	r.patch(t, fmt.Sprintf(`{"metadata":{"annotations":{%q:%s}}}`, key, quoteJSON(value)))
}

func quoteJSON(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}
