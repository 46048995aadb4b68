package kube

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
)

const kubeconfig = `apiVersion: v1
kind: Config
clusters:
- name: home
  cluster: {server: "https://192.0.2.1:6443"}
users:
- name: me
  user: {token: abc}
contexts:
- name: staging
  context: {cluster: home, user: me, namespace: stage}
- name: prod
  context: {cluster: home, user: me}
current-context: staging
`

// isolated keeps this machine's own configuration out of a test.
func isolated(t *testing.T) {
	t.Helper()
	t.Setenv("HOME", t.TempDir())
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
}

func writeKubeconfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// Opening must not use the network: 192.0.2.1 does not answer.
func TestOpen(t *testing.T) {
	isolated(t)
	path := writeKubeconfig(t, kubeconfig)
	for name, test := range map[string]struct {
		options            Options
		context, namespace string
	}{
		"current context":    {Options{Kubeconfig: path}, "staging", "stage"},
		"other context":      {Options{Kubeconfig: path, Context: "prod"}, "prod", "default"},
		"namespace override": {Options{Kubeconfig: path, Namespace: "mine"}, "staging", "mine"},
	} {
		t.Run(name, func(t *testing.T) {
			client, err := Open(test.options)
			require.NoError(t, err)
			assert.Equal(t, test.context, client.Context())
			assert.Equal(t, test.namespace, client.Namespace())
			assert.InDelta(t, -1, client.config.QPS, 0)
			require.NoError(t, client.Close())
		})
	}
	t.Run("KUBECONFIG", func(t *testing.T) {
		t.Setenv("KUBECONFIG", path)
		client, err := Open(Options{UserAgent: "redisctl/1.2.3"})
		require.NoError(t, err)
		assert.Equal(t, "staging", client.Context())
		assert.Equal(t, "redisctl/1.2.3", client.config.UserAgent)
		require.NoError(t, client.Close())
	})
}

func TestOpenErrors(t *testing.T) {
	isolated(t)
	path := writeKubeconfig(t, kubeconfig)
	broken := writeKubeconfig(t, "current-context: [")
	dangling := writeKubeconfig(t, "apiVersion: v1\nkind: Config\ncurrent-context: gone\n")
	for name, test := range map[string]struct {
		options   Options
		err, next string
	}{
		"no such context": {
			Options{Kubeconfig: path, Context: "dev"},
			"kubeconfig " + path + `: there is no context "dev"; there are: prod, staging`,
			"pass --context with one of these",
		},
		"no context at all": {
			Options{Kubeconfig: dangling},
			"kubeconfig " + dangling + `: there is no context "gone", nor any other`,
			"pass --kubeconfig FILE",
		},
		"no such file": {
			Options{Kubeconfig: "/nonexistent/config"},
			"kubeconfig /nonexistent/config: no such file",
			"pass --kubeconfig FILE, or --address HOST:PORT for a Redis outside Kubernetes",
		},
		"nothing configured": {
			Options{},
			"kubeconfig " + os.Getenv("KUBECONFIG") + ": no cluster is configured, and this is not a pod with a service account",
			"pass --kubeconfig FILE, or --address HOST:PORT for a Redis outside Kubernetes",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(test.options)
			var failure *operation.Error
			require.ErrorAs(t, err, &failure)
			assert.Equal(t, operation.Usage, failure.Kind)
			assert.EqualError(t, err, test.err)
			assert.Equal(t, test.next, failure.Next)
		})
	}
	_, err := Open(Options{Kubeconfig: broken})
	assert.Equal(t, operation.Usage, operation.KindOf(err))
	assert.ErrorContains(t, err, "kubeconfig "+broken)
}

func TestCompleteContexts(t *testing.T) {
	isolated(t)
	path := writeKubeconfig(t, kubeconfig)
	names, err := CompleteContexts(Options{Kubeconfig: path, Context: "sta"})
	require.NoError(t, err)
	assert.Equal(t, []string{"prod", "staging"}, names)
}
