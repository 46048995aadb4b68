package e2e_test

import (
	"archive/tar"
	"compress/gzip"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redisctl/redisctl/internal/operation/bundle"
)

// What a release tells about itself: to Prometheus, in its settings, and in an archive for
// somebody who helps, which holds no secret in any form.
func TestInfoAndSupportBundle(t *testing.T) {
	t.Parallel()
	e := setup(t)
	env := randomPassword()
	r := e.install(t, e.namespace(t, "bundle"), chart{
		files: []string{"replica-password.yaml", "metrics.yaml"}, replicas: 1, password: randomPassword(), config: quickSync,
		values: map[string]any{"extraEnv": []any{map[string]any{"name": "UPSTREAM_LOGIN", "value": env}}},
	})
	s := r.session(t)
	t.Run("metrics", func(t *testing.T) {
		s := s.in(t)
		page := s.run("info", "metrics", "--pod", r.podName(0)).exits(0)
		page.shows("# TYPE redis_up gauge", "redis_up 1")
		s.run("info", "metrics", "--grep", "^redis_up$", "-o", "name").exits(0).shows(r.podName(0)+" redis_up", r.podName(1)+" redis_up")
	})
	t.Run("settings", func(t *testing.T) {
		s := s.in(t)
		s.run("info", "config", "--diff").exits(0)
		r.configure(t, "repl-diskless-sync-delay", "7", 1)
		s.run("info", "config", "--diff").exits(0).shows("repl-diskless-sync-delay", "7", r.podName(1))
	})
	t.Run("bundle", func(t *testing.T) { bundleCanary(t, s.in(t), r, env) })
}

// bundleCanary puts secrets wherever a release can have them, and looks for each in all
// that support-bundle writes.
func bundleCanary(t *testing.T, s *session, r *release, env string) {
	secrets := map[string]string{"the password": r.password, "a variable": env}
	for _, name := range []string{"masterauth", "an ACL user's password", "a key", "a value", "a client's name", "a TLS key", "a slow command"} {
		secrets[name] = rand.Text() + `"\/+=%<` + rand.Text() + ">" // without spaces, which names of clients may not have
	}
	ctx := t.Context()
	_, err := r.env.CoreV1().Secrets(r.namespace).Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name: "cache-tls", Labels: map[string]string{"app.kubernetes.io/instance": r.name}, Annotations: map[string]string{"note": secrets["a TLS key"]},
		},
		StringData: map[string]string{"tls.key": "-----BEGIN PRIVATE KEY-----\n" + secrets["a TLS key"] + "\n-----END PRIVATE KEY-----\n"},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	r.configure(t, "slowlog-log-slower-than", "0", 0)
	r.configure(t, "masterauth", secrets["masterauth"], 0)
	client := r.redis(t, 0)
	for _, command := range [][]any{
		{"ACL", "SETUSER", "canary", "on", ">" + secrets["an ACL user's password"], "~*", "+@read"},
		{"SET", secrets["a key"], secrets["a value"]},
		{"LRANGE", secrets["a slow command"], 0, -1},
	} {
		require.NoError(t, client.Do(ctx, command...).Err())
	}
	named := client.Conn()
	t.Cleanup(func() { _ = named.Close() }) // the test is over
	require.NoError(t, named.ClientSetName(ctx, secrets["a client's name"]).Err())
	// A wrong password, which the server may write down.
	err = client.Do(ctx, "AUTH", "canary", secrets["a slow command"]).Err()
	var refused goredis.Error
	require.ErrorAs(t, err, &refused)

	result := s.run("support-bundle", "--to", "bundle.tar.gz", "-o", "json", "-v").exits(0)
	m := decode[bundle.Manifest](result)
	assert.Empty(t, m.Missing)
	held := filesOfBundle(t, filepath.Join(s.dir, "bundle.tar.gz"))
	for _, f := range m.Files {
		assert.Contains(t, held, "redisctl-support/"+f.Name)
	}
	assert.Contains(t, held["redisctl-support/objects.yaml"], "UPSTREAM_LOGIN", "the name of a variable is no secret")
	held["stdout"], held["stderr"] = result.stdout, result.stderr
	for what, secret := range secrets {
		for form, text := range formsOf(secret) {
			for name, content := range held {
				assert.NotContains(t, content, text, "%s of %s in %s", form, what, name)
			}
		}
	}
	s.run("support-bundle", "--to", "bundle.tar.gz").exits(1).says("already exists")
}

// filesOfBundle reads an archive.
func filesOfBundle(t *testing.T, name string) map[string]string {
	t.Helper()
	file, err := os.Open(name)
	require.NoError(t, err)
	defer func() { assert.NoError(t, file.Close()) }()
	compressed, err := gzip.NewReader(file)
	require.NoError(t, err)
	held := make(map[string]string)
	for archive := tar.NewReader(compressed); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return held
		}
		require.NoError(t, err)
		content, err := io.ReadAll(archive)
		require.NoError(t, err)
		held[header.Name] = string(content)
	}
}
