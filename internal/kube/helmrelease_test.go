package kube

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/redisctl/redisctl/internal/operation"
)

// helmSecret is a revision as Helm stores it.
func helmSecret(t *testing.T, revision int, status, values string) *corev1.Secret {
	t.Helper()
	text := fmt.Sprintf(`{"name":"cache","version":%d,"info":{"status":%q},
		"chart":{"metadata":{"name":"redis","version":"1.4.2","appVersion":"7.0.15"},"values":{"default":1}},"config":%s}`, revision, status, values)
	var compressed bytes.Buffer
	w := gzip.NewWriter(&compressed)
	_, err := w.Write([]byte(text))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "prod", Name: fmt.Sprintf("sh.helm.release.v1.cache.v%d", revision),
			Labels: map[string]string{"owner": "helm", "name": "cache", "status": status, "version": strconv.Itoa(revision)},
		},
		Data: map[string][]byte{"release": []byte(base64.StdEncoding.EncodeToString(compressed.Bytes()))},
	}
}

func TestHelmRelease(t *testing.T) {
	client := newClient(fake.NewClientset(
		helmSecret(t, 9, "superseded", `{"mode":"standalone"}`),
		helmSecret(t, 10, "deployed", `{"mode":"replica","replication":{"replicas":2}}`),
		helmSecret(t, 11, "failed", `{"mode":"broken"}`),
	), nil, "prod", time.Second)
	release, err := client.HelmRelease(t.Context(), &operation.Deployment{Namespace: "prod", Release: "cache"})
	require.NoError(t, err)
	assert.Equal(t, 10, release.Revision, "the one that is deployed, not the newest")
	assert.Equal(t, "redis-1.4.2", release.Chart)
	assert.Equal(t, "7.0.15", release.AppVersion)
	assert.Equal(t, map[string]any{"mode": "replica", "replication": map[string]any{"replicas": 2.0}}, release.Values)

	_, err = client.HelmRelease(t.Context(), &operation.Deployment{Namespace: "prod", Release: "other"})
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestHelmReleaseDamaged(t *testing.T) {
	bomb := &bytes.Buffer{}
	w := gzip.NewWriter(bomb)
	for range maxRelease>>20 + 1 {
		_, err := w.Write(make([]byte, 1<<20))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	for name, data := range map[string][]byte{
		"nothing":        nil,
		"not base64":     []byte("secret!"),
		"not JSON":       []byte(base64.StdEncoding.EncodeToString([]byte("secret"))),
		"a cut gzip":     []byte(base64.StdEncoding.EncodeToString(bomb.Bytes()[:100])),
		"a decompressed": []byte(base64.StdEncoding.EncodeToString(bomb.Bytes())),
	} {
		t.Run(name, func(t *testing.T) {
			secret := helmSecret(t, 1, "deployed", "{}")
			secret.Data["release"] = data
			client := newClient(fake.NewClientset(secret), nil, "prod", time.Second)
			_, err := client.HelmRelease(t.Context(), &operation.Deployment{Namespace: "prod", Release: "cache"})
			require.Error(t, err)
			assert.Contains(t, err.Error(), "sh.helm.release.v1.cache.v1")
			assert.False(t, strings.Contains(strings.TrimPrefix(err.Error(), "Secret "), "secret"), "no contents in the error: %v", err)
		})
	}
}
