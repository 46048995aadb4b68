package kube

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"sigs.k8s.io/yaml"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/backup"
)

// marked adds what a cluster adds to objects.
func marked(objects []runtime.Object) []runtime.Object {
	for _, o := range objects {
		if m, ok := o.(metav1.Object); ok {
			m.SetUID("0b8b5c1e")
			m.SetResourceVersion("42")
			m.SetCreationTimestamp(metav1.Now())
			m.SetGeneration(3)
			m.SetFinalizers([]string{"kubernetes.io/pvc-protection"})
			m.SetManagedFields([]metav1.ManagedFieldsEntry{{Manager: "helm"}})
			m.SetAnnotations(map[string]string{
				corev1.LastAppliedConfigAnnotation: "{}", operation.NoteFailover: "{}", operation.NotePrimary: "cache-redis-1",
				"pv.kubernetes.io/bind-completed": "yes", "meta.helm.sh/release-name": "cache",
			})
		}
		if s, ok := o.(*corev1.Service); ok {
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "1.2.3.4"}}
			if s.Spec.ClusterIP != corev1.ClusterIPNone {
				s.Spec.ClusterIP, s.Spec.ClusterIPs = "10.96.0.7", []string{"10.96.0.7"}
			}
			if s.Spec.Selector[podNameLabel] != "" {
				s.Spec.Selector[podNameLabel] = "cache-redis-1"
			}
			for i := range s.Spec.Ports {
				s.Spec.Ports[i].NodePort = 30123
			}
		}
	}
	return objects
}

func claim(name string) *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: name},
		Spec:       corev1.PersistentVolumeClaimSpec{VolumeName: "pv-0815"},
		Status:     corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound},
	}
}

func TestResources(t *testing.T) {
	c := chart{namespace: "prod", release: "cache", fullName: "cache-redis", replicas: 2, replication: true, password: "secret", config: "appendonly yes\n"}
	objects := marked(append(c.objects(), claim("data-cache-redis-0"), claim("data-cache-redis-1"), claim("data-other-0")))
	client := newClient(fake.NewClientset(objects...), nil, "prod", time.Second)
	d, err := client.Resolve(t.Context(), operation.Target{Namespace: "prod", Release: "cache"})
	require.NoError(t, err)

	found, err := client.Resources(t.Context(), d, false)
	require.NoError(t, err)
	var names []string
	for _, item := range found.Items {
		names = append(names, item.Kind+" "+item.Name)
		for _, word := range []string{
			"0b8b5c1e", "resourceVersion", "creationTimestamp", "managedFields", "finalizers", "status", "generation:", "last-applied",
			"redisctl.dev", "bind-completed", "10.96.0.7", "30123", "pv-0815", "cache-redis-1\n  type",
		} {
			assert.NotContains(t, string(item.YAML), word, item.Name)
		}
		var content map[string]any
		require.NoError(t, yaml.Unmarshal(item.YAML, &content))
		assert.Equal(t, item.Kind, content["kind"])
		assert.NotEmpty(t, content["apiVersion"])
		helm, _, _ := unstructured.NestedString(content, "metadata", "annotations", "meta.helm.sh/release-name")
		assert.Equal(t, "cache", helm, "Helm finds it again")
		if pod, ok, _ := unstructured.NestedString(content, "spec", "selector", podNameLabel); ok {
			assert.Equal(t, "cache-redis-0", pod, "new pods begin with pod 0 as the primary")
		}
	}
	assert.Equal(t, []string{
		"ConfigMap cache-redis", "ConfigMap scripts", "PersistentVolumeClaim data-cache-redis-0", "PersistentVolumeClaim data-cache-redis-1",
		"Service cache-redis", "Service cache-redis-headless", "Service cache-redis-master", "StatefulSet cache-redis",
	}, names)
	assert.Equal(t, []string{"cache-redis"}, found.Secrets, "what it needs besides")

	found, err = client.Resources(t.Context(), d, true)
	require.NoError(t, err)
	assert.Empty(t, found.Secrets)
	assert.Contains(t, string(found.Items[0].YAML), "kind: Secret")
}

func TestResourcesNotAllowed(t *testing.T) {
	c := chart{namespace: "prod", release: "cache", replicas: 1, replication: true}
	clientset := fake.NewClientset(c.objects()...)
	clientset.PrependReactor("list", "networkpolicies", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "networkpolicies"}, "", nil)
	})
	client := newClient(clientset, nil, "prod", time.Second)
	d, err := client.Resolve(t.Context(), operation.Target{Namespace: "prod", Release: "cache"})
	require.NoError(t, err)
	found, err := client.Resources(t.Context(), d, false)
	require.NoError(t, err)
	require.Len(t, found.Missing, 1)
	assert.Equal(t, "networkpolicies", found.Missing[0].Part)
}

// A password that stands in the pod template is no part of a backup without secrets.
func TestResourcesLiteralPassword(t *testing.T) {
	c := chart{namespace: "prod", release: "cache", replicas: 1, replication: true, password: "literal"}
	client := newClient(fake.NewClientset(c.objects()...), nil, "prod", time.Second)
	d, err := client.Resolve(t.Context(), operation.Target{Namespace: "prod", Release: "cache"})
	require.NoError(t, err)
	password, err := client.Password(t.Context(), d)
	require.NoError(t, err)
	text := func(secrets bool) string {
		found, err := client.Resources(t.Context(), d, secrets)
		require.NoError(t, err)
		var b strings.Builder
		for _, item := range found.Items {
			b.Write(item.YAML)
		}
		return b.String()
	}
	assert.NotContains(t, text(false), password)
	assert.Contains(t, text(false), backup.Placeholder)
	assert.Contains(t, text(true), password)
}
