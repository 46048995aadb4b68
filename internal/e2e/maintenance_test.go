package e2e_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/redisctl/redisctl/internal/operation/maintenance"
)

// The daily work on a release with a password, whose FLUSHALL and CONFIG have other names:
// everything is deleted after a backup, the replica has followed, and it comes back.
func TestMaintenance(t *testing.T) {
	t.Parallel()
	e := setup(t)
	r := e.install(t, e.namespace(t, "maintenance"), chart{
		files: []string{"replica-password.yaml"}, replicas: 1, password: randomPassword(),
		config: append([]string{"rename-command FLUSHALL hidden_wipe", "rename-command CONFIG hidden_config"}, quickSync...),
	})
	s := r.session(t)
	const count = 1000
	client := r.redis(t, 0)
	fillFlat(t, client, count, 64)
	client.HSet(t.Context(), "a hash", "field", "hunter2")
	client.Do(t.Context(), "WAIT", 1, 30_000)

	size := decode[maintenance.DBSize](s.run("maintenance", "dbsize", "-o", "json").exits(0))
	assert.Len(t, size.Instances, 2)
	for _, i := range size.Instances {
		assert.EqualValues(t, count+1, i.Keys, i.Name)
		assert.False(t, i.Differs, i.Name)
	}
	assert.Len(t, s.run("keys", "-o", "name").exits(0).lines(), count+1)
	s.run("keys", "--type", "hash", "-l", "--pod", r.podName(1)).exits(0).shows("a hash")
	found := decode[maintenance.BigKeys](s.run("maintenance", "bigkeys", "-o", "json", "--pod", r.podName(1)).exits(0))
	assert.True(t, found.Complete)
	assert.EqualValues(t, count+1, found.Keys)

	exec := func(args ...string) *result { // flags stand before the command
		return e.session(t).run(append([]string{"maintenance", "exec", "-n", r.namespace, "-r", "cache"}, args...)...)
	}
	exec("--", "HGET", "a hash", "field").exits(0).shows(`"hunter2"`)
	exec("--all-pods", "--", "CONFIG", "GET", "maxmemory").exits(0).shows(r.podName(0), r.podName(1))
	exec("--", "CONFIG", "SET", "maxmemory", "300mb").exits(5).says("nothing was sent")
	exec("--", "hidden_wipe").exits(5).says("redisctl maintenance flushall")
	exec("--", "MONITOR").exits(2).says("redisctl maintenance monitor")
	exec("--pod", r.podName(1), "--", "SET", "a", "b").exits(1).says("READONLY")
	s.run("maintenance", "bgsave").exits(0).shows("BGSAVE", "done")
	s.run("maintenance", "memory").exits(0).shows("values")
	s.run("maintenance", "slowlog").exits(0)

	s.run("maintenance", "flushall").exits(5).says("nothing was changed")
	flushed := decode[maintenance.Flushed](s.run("maintenance", "flushall", "--yes", "-o", "json").exits(0))
	assert.EqualValues(t, count+1, flushed.Deleted)
	assert.NotEmpty(t, flushed.Backup)
	assert.True(t, flushed.Confirmed && flushed.Verified())
	assert.Len(t, flushed.Replicas, 1)
	for n := range 2 {
		left, err := r.redis(t, n).DBSize(t.Context()).Result()
		assert.NoError(t, err)
		assert.Zero(t, left, r.podName(n))
	}
	s.run("restore", "rdb", flushed.Backup, "--method", "live", "--yes", "--no-safety-backup").exits(0)
	assert.EqualValues(t, count+1, client.DBSize(t.Context()).Val())
}
