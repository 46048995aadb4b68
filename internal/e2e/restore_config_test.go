package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// configReport is what a script reads of a restored configuration.
type configReport struct {
	Settings []struct {
		Name, Value, Problem string
		Instances            []string
	}
	Unset      int
	File, Form string
}

// Settings come back on all instances, and outlive a restart once Helm has them.
func TestRestoreConfig(t *testing.T) {
	t.Parallel()
	e := setup(t)
	r := e.install(t, e.namespace(t, "restore-config"), chart{
		files: []string{"replica.yaml"}, replicas: 1, password: randomPassword(),
		config: append([]string{"# the operators' own", "io-threads 1", "slowlog-max-len 99"}, quickSync...),
	})
	r.configure(t, "maxmemory", "123456789", 0, 1)
	r.configure(t, "save", "60 1 30 2", 0, 1)
	r.configure(t, "client-output-buffer-limit", "pubsub 1 2 3", 0) // on the primary alone
	s := r.session(t)
	m := decode[setManifest](s.run("backup", "config", "-o", "json").exits(0).quiet())

	r.configure(t, "maxmemory", "50mb", 0)
	r.configure(t, "save", "", 0, 1)
	r.configure(t, "slowlog-max-len", "5", 1)
	s.run("restore", "config", m.ID, "--dry-run").exits(0).shows("maxmemory", "123456789", "52428800", "256mb", "slowlog-max-len", "redis.conf asks for it")
	assert.Equal(t, "52428800", r.redis(t, 0).ConfigGet(t.Context(), "maxmemory").Val()["maxmemory"], "a dry run changes nothing")

	report := decode[configReport](s.run("restore", "config", "latest", "--yes", "-o", "json").exits(0).quiet())
	assert.Zero(t, report.Unset)
	assert.Equal(t, "values", report.Form)
	check := func() {
		for i := range 2 {
			for name, want := range map[string]string{"maxmemory": "123456789", "save": "60 1 30 2", "slowlog-max-len": "99"} {
				assert.Equal(t, want, r.redis(t, i).ConfigGet(t.Context(), name).Val()[name], "%s of %s", name, r.podName(i))
			}
			limits := r.redis(t, i).ConfigGet(t.Context(), "client-output-buffer-limit").Val()["client-output-buffer-limit"]
			assert.Contains(t, limits, "pubsub 1 2 3", "the primary's value, on all")
		}
	}
	check()
	s.run("restore", "config", m.ID, "--dry-run").exits(0).shows("it runs like that, and redis.conf asks for something else")

	file := filepath.Join(s.dir, report.File)
	info, err := os.Stat(file)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Contains(t, string(text), "# the operators' own", "what extraConfig holds is kept")
	assert.NotContains(t, string(text), r.password)
	e.runHelm(t, r.namespace, "upgrade", r.name, filepath.Join(e.testdata, "charts", "redis"), "--reuse-values", "--values", file)
	r.awaitReady(t)
	for i := range 2 {
		r.reconnect(t, i)
	}
	check()
	s.run("restore", "config", m.ID, "--dry-run").exits(0).shows("settings are as in the backup")
	s.run("restore", "config", m.ID, "--dry-run", "--only", "replicaof,requirepass").exits(0).
		shows("it is about one server", "a secret: --include-secrets")
}

// Without CONFIG the file has everything, and the exit code says that it does not run.
func TestRestoreConfigWithoutCONFIG(t *testing.T) {
	t.Parallel()
	e := setup(t)
	r := e.install(t, e.namespace(t, "no-config"), chart{files: []string{"standalone.yaml"}, config: []string{"slowlog-max-len 77"}})
	s := r.session(t)
	m := decode[setManifest](s.run("backup", "config", "-o", "json").exits(0).quiet())
	values := writeYAML(t, map[string]any{"redis": map[string]any{"extraConfig": "slowlog-max-len 5\nrename-command CONFIG \"\""}})
	e.runHelm(t, r.namespace, "upgrade", r.name, filepath.Join(e.testdata, "charts", "redis"), "--reuse-values", "--values", values)
	r.awaitReady(t)
	report := decode[configReport](s.run("restore", "config", m.ID, "--yes", "--values", "out.yaml", "-o", "json").exits(3))
	assert.Positive(t, report.Unset)
	assert.Equal(t, "out.yaml", report.File)
	text, err := os.ReadFile(filepath.Join(s.dir, "out.yaml"))
	require.NoError(t, err)
	assert.Contains(t, string(text), "slowlog-max-len 77")
	assert.False(t, strings.Contains(string(text), "slowlog-max-len 5"), "the line is replaced")
	assert.Contains(t, string(text), "rename-command", "other lines are kept")
}
