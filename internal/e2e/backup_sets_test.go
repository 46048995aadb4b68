package e2e_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

// setManifest is what a script reads of a backup of several files.
type setManifest struct {
	File, ID, Kind string
	Source         struct{ Instance, Role string }
	Files          []struct {
		Name, Kind, Path string
		SizeBytes        int64
		AOF              *struct {
			Commands      int64
			SizeBytes     int64
			CompleteBytes int64
		}
	}
}

// read returns the contents of the file of a kind.
func (m setManifest) read(t *testing.T, s *session, kind string) []byte {
	t.Helper()
	for _, f := range m.Files {
		if f.Kind == kind {
			data, err := os.ReadFile(filepath.Join(s.dir, filepath.Dir(m.File), f.Name))
			require.NoError(t, err)
			return data
		}
	}
	require.Failf(t, "no such file", "%s in %+v", kind, m)
	return nil
}

// lay puts the append-only file where a server looks for it.
func (m setManifest) lay(t *testing.T, s *session, dir string) {
	t.Helper()
	for _, f := range m.Files {
		if f.AOF == nil && f.Kind != "aof-manifest" {
			continue
		}
		data, err := os.ReadFile(filepath.Join(s.dir, filepath.Dir(m.File), f.Name))
		require.NoError(t, err)
		target := filepath.Join(dir, filepath.FromSlash(f.Path))
		require.NoError(t, os.MkdirAll(filepath.Dir(target), 0o700))
		require.NoError(t, os.WriteFile(target, data, 0o600))
	}
}

// An append-only file, copied out of a pod while clients write, loads in a real server
// of the same version.
func TestBackupAOFLoadsInARealServer(t *testing.T) {
	for _, version := range []struct{ image, server string }{
		{"redis:6.0.16", redisserver.Redis60},
		{"redis:7.0.15", redisserver.Redis70},
	} {
		t.Run(version.server, func(t *testing.T) {
			t.Parallel()
			e := setup(t)
			r := e.install(t, e.namespace(t, "aof"), chart{
				files: []string{"replica-password.yaml"}, image: version.image, replicas: 1, password: randomPassword(),
				config: append([]string{"appendonly yes"}, quickSync...),
			})
			client := r.redis(t, 0)
			require.NoError(t, redisserver.Fill(t.Context(), client, 1, 1000))
			require.NoError(t, client.Do(t.Context(), "WAIT", 1, 30_000).Err())
			w := redisserver.StartWriter(t, client, "during")
			s := r.session(t)
			m := decode[setManifest](s.run("backup", "aof", "-o", "json").exits(0).quiet())
			_, err := w.Stop()
			require.NoError(t, err, "the backup must not disturb clients")
			assert.Equal(t, "aof", m.Kind)
			assert.Equal(t, "replica", m.Source.Role)
			s.run("backup", "verify", m.ID).exits(0)
			s.run("backup", "list").exits(0)
			s.run("backup", "show", m.ID).exits(0)

			set, err := r.statefulSet(t.Context())
			require.NoError(t, err)
			assert.NotContains(t, set.Annotations, "redisctl.dev/backup-settings")
			setting := "aof-disable-auto-gc"
			if version.server == redisserver.Redis60 {
				setting = "auto-aof-rewrite-percentage"
			}
			now, err := r.redis(t, 1).ConfigGet(t.Context(), setting).Result()
			require.NoError(t, err)
			assert.NotContains(t, []string{"yes", "0"}, now[setting], "it is as before")

			dir := t.TempDir()
			m.lay(t, s, dir)
			loaded := redisserver.Start(t, redisserver.Options{
				Version: version.server, Dir: dir, Config: []string{"appendonly yes", "aof-load-truncated no"},
			})
			// Replayed commands note anew when consumers of streams were seen.
			require.NoError(t, redisserver.Compare(t.Context(), client, loaded.Client(), "stream:", redisserver.WriterPrefix))
			saved := ledger(t, loaded.Client(), redisserver.WriterPrefix+"during:")
			for n := range len(saved) {
				require.True(t, saved[n], "write %d is missing, later ones are there", n)
			}
		})
	}
}

// A full backup holds everything: the data in both forms, and the objects, from which
// a release comes back into its emptied namespace.
func TestBackupFullBringsAReleaseBack(t *testing.T) {
	t.Parallel()
	e := setup(t)
	r := e.install(t, e.namespace(t, "full"), chart{
		files: []string{"replica.yaml"}, replicas: 1, config: append([]string{"appendonly yes"}, quickSync...),
		values: map[string]any{"podDisruptionBudget": map[string]any{"enabled": true}},
	})
	client := r.redis(t, 0)
	require.NoError(t, redisserver.Fill(t.Context(), client, 1, 500))
	require.NoError(t, client.Do(t.Context(), "WAIT", 1, 30_000).Err())
	s := r.session(t)
	s.run("backup", "full", "--dry-run").exits(0)
	assert.Empty(t, files(t, s.dir))
	m := decode[setManifest](s.run("backup", "full", "-o", "json").exits(0).quiet())
	s.run("backup", "verify", m.ID).exits(0)
	s.run("backup", "show", m.ID).exits(0)

	dir := t.TempDir()
	m.lay(t, s, dir)
	fromAOF := redisserver.Start(t, redisserver.Options{Version: redisserver.Redis70, Dir: dir, Config: []string{"appendonly yes"}})
	require.NoError(t, redisserver.Compare(t.Context(), client, fromAOF.Client(), "stream:"))
	dir = t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "dump.rdb"), m.read(t, s, "rdb"), 0o600))
	fromRDB := redisserver.Start(t, redisserver.Options{Version: redisserver.Redis70, Dir: dir})
	require.NoError(t, redisserver.Compare(t.Context(), client, fromRDB.Client(), "stream:"))

	resources := filepath.Join(t.TempDir(), "resources.yaml")
	require.NoError(t, os.WriteFile(resources, m.read(t, s, "resources"), 0o600))
	_, err := r.helm(t, "uninstall", r.name, "--wait")
	require.NoError(t, err)
	require.NoError(t, e.CoreV1().PersistentVolumeClaims(r.namespace).DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}))
	eventually(t, "an empty namespace", func(ctx context.Context) error {
		pods, err := e.CoreV1().Pods(r.namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		claims, err := e.CoreV1().PersistentVolumeClaims(r.namespace).List(ctx, metav1.ListOptions{})
		if err == nil && len(pods.Items)+len(claims.Items) > 0 {
			err = fmt.Errorf("%d pods and %d claims are left", len(pods.Items), len(claims.Items))
		}
		return err
	})
	out, err := r.kubectl(t, "apply", "--server-side", "--field-manager=helm", "-f", resources)
	require.NoError(t, err, out)
	r.awaitReady(t)
	back := r.session(t)
	back.run("health", "ping").exits(0)
	fresh := r.reconnect(t, 0)
	require.NoError(t, fresh.Set(t.Context(), "written", "after", 0).Err())
	replicas, err := fresh.Do(t.Context(), "WAIT", 1, 30_000).Int()
	require.NoError(t, err)
	assert.Equal(t, 1, replicas, "it replicates again")
	out, err = r.kubectl(t, "get", "poddisruptionbudgets,statefulsets,services", "-o", "name")
	require.NoError(t, err)
	for _, name := range []string{"poddisruptionbudget", "statefulset", "service/" + r.workload + "-headless", "service/" + r.workload + "-master"} {
		assert.Contains(t, out, name)
	}
}

// kubectl runs kubectl, which may fail, and returns what it printed.
func (r *release) kubectl(t *testing.T, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(filepath.Dir(r.env.helm), "kubectl"), append(args, "--namespace", r.namespace)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + r.env.scratch, "KUBECONFIG=" + r.env.kubeconfig}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// reconnect returns a client of a pod that has replaced another of its name.
func (r *release) reconnect(t *testing.T, ordinal int) *goredis.Client {
	t.Helper()
	r.mu.Lock()
	if old := r.clients[ordinal]; old != nil {
		_ = old.Close() // the pod is gone
		delete(r.clients, ordinal)
	}
	r.mu.Unlock()
	return r.redis(t, ordinal)
}

// someRecipient is a public key of nobody in particular.
const someRecipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"

// The configuration is kept with its differences and without its secrets.
func TestBackupConfig(t *testing.T) {
	t.Parallel()
	e := setup(t)
	password := randomPassword()
	r := e.install(t, e.namespace(t, "config"), chart{files: []string{"replica-password.yaml"}, replicas: 1, password: password, config: quickSync})
	require.NoError(t, r.redis(t, 0).ConfigSet(t.Context(), "maxmemory", "12345678").Err())
	require.NoError(t, r.redis(t, 0).Do(t.Context(), "ACL", "SETUSER", "app", "on", ">"+password+"2", "~*", "+@all").Err())
	s := r.session(t)
	s.run("backup", "config").exits(0).shows("maxmemory", "12345678", "256mb")
	m := decode[setManifest](s.run("backup", "config", "-o", "json").exits(0).quiet())
	text := string(m.read(t, s, "config"))
	assert.NotContains(t, text, password)
	hash := sha256.Sum256([]byte(password + "2"))
	assert.NotContains(t, text, hex.EncodeToString(hash[:]))
	assert.Contains(t, text, `"requirepass": "(secret, not included)"`)
	assert.Contains(t, text, `"password": "(secret, not included)"`, "of the Helm values")
	assert.Contains(t, text, `"mode": "replica"`, "of the Helm values")
	s.run("backup", "verify", m.ID).exits(0)

	s.run("backup", "config", "--include-secrets").exits(2).says("secrets are stored only encrypted", "--encrypt-to")
	s.run("backup", "resources", "--include-secrets").exits(2).says("secrets are stored only encrypted")
	for _, what := range []string{"config", "resources", "full"} {
		m := decode[setManifest](s.run("backup", what, "--include-secrets", "--encrypt-to", someRecipient, "-o", "json").exits(0))
		for _, f := range m.Files {
			assert.Regexp(t, `\.age$`, f.Name)
			data, err := os.ReadFile(filepath.Join(s.dir, filepath.Dir(m.File), f.Name))
			require.NoError(t, err)
			assert.True(t, bytes.HasPrefix(data, []byte("age-encryption.org/v1")), f.Name)
			assert.NotContains(t, string(data), password)
		}
	}
	m = decode[setManifest](s.run("backup", "resources", "-o", "json").exits(0))
	text = string(m.read(t, s, "resources"))
	assert.NotContains(t, text, password)
	assert.NotContains(t, text, "kind: Secret")
	assert.Contains(t, text, "Not included, and needed before: Secret "+r.workload)
}
