package kube

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/ptr"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/operationtest"
	"github.com/redisctl/redisctl/internal/operation/upgrade/check"
)

// trialSet is a workload with everything that a trial must not take over.
func trialSet() *appsv1.StatefulSet {
	data := corev1.VolumeMount{Name: "data", MountPath: "/data"}
	return &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "cache-redis", Labels: map[string]string{nameLabel: "redis", instanceLabel: "cache"}},
		Spec: appsv1.StatefulSetSpec{
			ServiceName: "cache-redis-headless",
			VolumeClaimTemplates: []corev1.PersistentVolumeClaim{{
				ObjectMeta: metav1.ObjectMeta{Name: "data"},
			}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{nameLabel: "redis", instanceLabel: "cache"}},
				Spec: corev1.PodSpec{
					HostNetwork: true, PriorityClassName: "high", ServiceAccountName: "cache",
					InitContainers: []corev1.Container{
						{Name: "setup", Image: "redis:7.0.15", VolumeMounts: []corev1.VolumeMount{{Name: "config", MountPath: "/config"}}},
						{Name: "own", Image: "busybox"},
						{Name: "sidecar", Image: "busybox", RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways)},
					},
					Containers: []corev1.Container{
						{
							Name: "redis", Image: "redis:7.0.15", Args: []string{"/etc/redis/redis.conf"},
							Ports:         []corev1.ContainerPort{{Name: "redis", ContainerPort: 6379, HostPort: 6379}},
							LivenessProbe: &corev1.Probe{}, ReadinessProbe: &corev1.Probe{}, StartupProbe: &corev1.Probe{}, Lifecycle: &corev1.Lifecycle{},
							VolumeMounts: []corev1.VolumeMount{data},
							Resources:    corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Gi")}},
						},
						{Name: "metrics", Image: "exporter"},
					},
					Volumes: []corev1.Volume{
						{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cache-redis"}}}},
						{Name: "host", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}},
						{Name: "other", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "shared"}}},
						{Name: "tls", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "tls"}}},
					},
				},
			},
		},
	}
}

// TestTrialPod: it is the release's own server, and has nothing to do with the release.
func TestTrialPod(t *testing.T) {
	set := trialSet()
	f := found{StatefulSet: *set}
	f.container = redisContainer(&f.StatefulSet)
	d := operationtest.Deployment(2)
	spec := check.TrialSpec{Image: "redis:8.0.2", Config: "aclfile users.acl\nsave 1 1\n", Life: time.Minute}
	config, err := (TrialHost{}).parsed(spec, d)
	require.NoError(t, err)
	pod := trialPod(f, d, spec, config, "config")

	assert.True(t, strings.HasSuffix(pod.Name, "-0"), "the chart's init container makes pod 0 a primary")
	assert.NotContains(t, pod.Labels, instanceLabel)
	assert.Equal(t, trialApp, pod.Labels[nameLabel])
	assert.Equal(t, spec.Config, pod.Annotations[trialConfig])
	assert.EqualValues(t, 60, *pod.Spec.ActiveDeadlineSeconds)
	assert.Equal(t, corev1.RestartPolicyNever, pod.Spec.RestartPolicy)
	assert.False(t, pod.Spec.HostNetwork)
	assert.Empty(t, pod.Spec.PriorityClassName)
	assert.False(t, *pod.Spec.AutomountServiceAccountToken)
	assert.Contains(t, pod.Spec.HostAliases[0].Hostnames, "cache-redis-0.cache-redis-headless.prod.svc.cluster.local")

	var images []string
	for _, c := range pod.Spec.InitContainers {
		images = append(images, c.Name+" "+c.Image)
	}
	assert.Equal(t, []string{"redisctl-prepare redis:8.0.2", "setup redis:8.0.2", "own busybox"}, images)
	assert.Equal(t, []string{"sh", "/data", "/data/users.acl"}, pod.Spec.InitContainers[0].Command[3:])
	require.Len(t, pod.Spec.Containers, 1)
	server := pod.Spec.Containers[0]
	assert.Equal(t, "redis:8.0.2", server.Image)
	assert.Zero(t, server.Ports[0].HostPort)
	for _, none := range []any{server.LivenessProbe, server.ReadinessProbe, server.StartupProbe, server.Lifecycle} {
		assert.Nil(t, none)
	}
	assert.Equal(t, "64Mi", server.Resources.Requests.Memory().String())

	volumes := make(map[string]corev1.VolumeSource)
	for _, v := range pod.Spec.Volumes {
		assert.Nil(t, v.PersistentVolumeClaim, v.Name)
		assert.Nil(t, v.HostPath, v.Name)
		volumes[v.Name] = v.VolumeSource
	}
	assert.Len(t, volumes, 5)
	assert.NotNil(t, volumes["data"].EmptyDir)
	assert.NotNil(t, volumes["tls"].Secret)
	sources := volumes["config"].Projected.Sources
	require.Len(t, sources, 2)
	assert.Equal(t, "cache-redis", sources[0].ConfigMap.Name)
	assert.Equal(t, "redis.conf", sources[1].DownwardAPI.Items[0].Path)
	assert.EqualValues(t, 6379, set.Spec.Template.Spec.Containers[0].Ports[0].HostPort, "the workload itself is not changed")

	// Without another configuration the release's own is mounted.
	spec.Config = ""
	config, err = (TrialHost{}).parsed(spec, d)
	require.NoError(t, err)
	pod = trialPod(f, d, spec, config, "")
	assert.Empty(t, pod.Annotations)
	assert.NotNil(t, pod.Spec.Volumes[0].ConfigMap)
	assert.Len(t, pod.Spec.InitContainers, 2)
}

// TestAnnotatedItems: a ConfigMap of which only redis.conf is mounted brings nothing else.
func TestAnnotatedItems(t *testing.T) {
	own := &corev1.ConfigMapVolumeSource{Items: []corev1.KeyToPath{{Key: "main", Path: "conf/redis.conf"}}}
	sources := annotated(own, "redis.conf").Projected.Sources
	require.Len(t, sources, 1)
	assert.Equal(t, "conf/redis.conf", sources[0].DownwardAPI.Items[0].Path)
	own.Items = append(own.Items, corev1.KeyToPath{Key: "other", Path: "other.conf"})
	sources = annotated(own, "redis.conf").Projected.Sources
	require.Len(t, sources, 2)
	assert.Equal(t, []corev1.KeyToPath{{Key: "other", Path: "other.conf"}}, sources[0].ConfigMap.Items)
}

// TestTrialThatFails: what the kubelet says of the pod is what Start says, the pod is
// removed, and with it what an earlier run has left.
func TestTrialThatFails(t *testing.T) {
	ended := metav1.NewTime(time.Now().Add(-time.Hour))
	left := func(name string, created metav1.Time, phase corev1.PodPhase) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: name, CreationTimestamp: created, Labels: map[string]string{nameLabel: trialApp}},
			Spec:       corev1.PodSpec{ActiveDeadlineSeconds: ptr.To[int64](60)}, Status: corev1.PodStatus{Phase: phase},
		}
	}
	waiting := func(reason string) corev1.PodStatus {
		return corev1.PodStatus{Phase: corev1.PodPending, ContainerStatuses: []corev1.ContainerStatus{{
			Name: "redis", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: "the kubelet's words"}},
		}}}
	}
	exited := corev1.PodStatus{Phase: corev1.PodFailed, ContainerStatuses: []corev1.ContainerStatus{{
		Name: "redis", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1, Reason: "Error"}},
	}}}
	for _, c := range []struct {
		name   string
		status corev1.PodStatus
		want   error
	}{
		{"image", waiting("InvalidImageName"), &check.PodError{Image: true, Reason: "InvalidImageName", Message: "the kubelet's words"}},
		{"secret", waiting("CreateContainerConfigError"), &check.PodError{Reason: "CreateContainerConfigError", Message: "the kubelet's words"}},
		{"exit", exited, &check.EndError{Reason: "Error, exit code 1", Log: []string{"fake logs"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			clientset := fake.NewClientset(
				left("over", metav1.Now(), corev1.PodFailed), left("stuck", ended, corev1.PodPending), left("running", metav1.Now(), corev1.PodRunning))
			clientset.PrependReactor("create", "pods", func(action clienttesting.Action) (bool, runtime.Object, error) {
				pod := action.(clienttesting.CreateAction).GetObject().(*corev1.Pod)
				pod.Status = c.status
				return false, nil, nil
			})
			client := newClient(clientset, nil, "prod", time.Second)
			workload, err := json.Marshal(trialSet())
			require.NoError(t, err)
			_, err = TrialHost{Client: client}.Start(t.Context(), operationtest.Deployment(2), check.TrialSpec{Image: "x", Workload: workload, Life: time.Minute})
			require.Error(t, err)
			var pod *check.PodError
			var end *check.EndError
			if errors.As(err, &pod) {
				assert.Equal(t, c.want, pod)
			} else {
				require.ErrorAs(t, err, &end)
				assert.Equal(t, c.want, end)
			}
			list, err := clientset.CoreV1().Pods("prod").List(t.Context(), metav1.ListOptions{})
			require.NoError(t, err)
			require.Len(t, list.Items, 1)
			assert.Equal(t, "running", list.Items[0].Name, "that of another redisctl")
		})
	}
}

// TestTrialDenied: without permission to create pods the error says so.
func TestTrialDenied(t *testing.T) {
	clientset := fake.NewClientset(trialSet())
	clientset.PrependReactor("create", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(corev1.Resource("pods"), "", nil)
	})
	client := newClient(clientset, nil, "prod", time.Second)
	_, err := TrialHost{Client: client}.Start(t.Context(), operationtest.Deployment(2), check.TrialSpec{Image: "x", Life: time.Minute})
	assert.Equal(t, operation.Denied, operation.KindOf(err))
}

func TestMemoryLimit(t *testing.T) {
	set := trialSet()
	set.Spec.Template.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")}
	client := newClient(fake.NewClientset(set), nil, "prod", time.Second)
	d := operationtest.Deployment(2)
	d.Workload.Container = "redis"
	limit, err := client.MemoryLimit(t.Context(), d)
	require.NoError(t, err)
	assert.EqualValues(t, 1<<30, limit)
	d.Workload.Container = "metrics"
	limit, err = client.MemoryLimit(t.Context(), d)
	require.NoError(t, err)
	assert.Zero(t, limit)
}

func TestFileSystem(t *testing.T) {
	size, free, err := fileSystem("Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/sda 1000 400 600 40% /data\n")
	require.NoError(t, err)
	assert.EqualValues(t, 1000<<10, size)
	assert.EqualValues(t, 600<<10, free)
	for _, bad := range []string{"", "Filesystem\n", "F 1 2 3 4 M\n/dev/sda many 1 2 3% /\n", "F 1 2 3 4 M\n/dev/sda 1 1 few 3% /\n"} {
		_, _, err := fileSystem(bad)
		require.Error(t, err, "%q", bad)
	}
}
