package kube

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/redisctl/redisctl/internal/operation"
)

// Ctrl-C while the API server is making the pod: whoever asked for it must learn of it, to
// remove it again.
func TestPodThatIsBeingCreatedIsNotLost(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "drill"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "redis"}}},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		interrupt()
		select { // what has reached the server is carried out; its answer takes a while
		case <-r.Context().Done():
		case <-time.After(100 * time.Millisecond):
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		assert.NoError(t, json.NewEncoder(w).Encode(pod))
	}))
	t.Cleanup(server.Close)
	clientset, err := kubernetes.NewForConfig(&rest.Config{Host: server.URL})
	require.NoError(t, err)
	c := &Client{clientset: clientset, timeout: time.Minute}

	h, err := c.createPod(ctx, pod)
	require.NoError(t, err)
	assert.Equal(t, "drill", h.name)
	_, err = c.createPod(ctx, pod)
	assert.Equal(t, operation.Interrupted, operation.KindOf(err), "once interrupted, no pod is asked for")
}
