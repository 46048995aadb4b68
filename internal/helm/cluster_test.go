package helm

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	rcommon "helm.sh/helm/v4/pkg/release/common"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/ptr"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/upgrade"
)

const workload = "cache-redis"

// cluster is a namespace of the real cluster.
type cluster struct {
	namespace string
	config    *rest.Config
	admin     kubernetes.Interface
	folder    string // of the cluster's programs and its kubeconfig
	chart     string // the test chart, with an update strategy
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	if testing.Short() {
		t.Skip("needs the cluster")
	}
	cache := os.Getenv("REDISCTL_CACHE")
	if cache == "" {
		base, err := os.UserCacheDir()
		require.NoError(t, err)
		cache = filepath.Join(base, "redisctl")
	}
	c := &cluster{folder: filepath.Join(cache, "cluster"), chart: chartWithStrategy(t)}
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(c.folder, "kubeconfig"))
	if err != nil {
		t.Fatalf("there is no cluster (%v): run make cluster-up", err)
	}
	config.QPS = -1
	c.config = config
	c.admin, err = kubernetes.NewForConfig(config)
	require.NoError(t, err)
	c.namespace = c.newNamespace(t)
	return c
}

// newNamespace makes a namespace that is deleted when the test ends.
func (c *cluster) newNamespace(t *testing.T) string {
	t.Helper()
	namespace, err := c.admin.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "redisctl-helm-test-"},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("the cluster does not work (%v): run make cluster-up", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(t, c.admin.CoreV1().Namespaces().Delete(ctx, namespace.Name, metav1.DeleteOptions{
			GracePeriodSeconds: ptr.To[int64](0),
		}))
	})
	return namespace.Name
}

// chartWithStrategy copies the chart and makes it insist on rolling updates, as many do.
func chartWithStrategy(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	require.NoError(t, os.CopyFS(folder, os.DirFS(testChart)))
	replaceIn(t, filepath.Join(folder, "templates", "statefulset.yaml"), "spec:\n  serviceName:",
		"spec:\n  updateStrategy: {type: RollingUpdate, rollingUpdate: {partition: 0}}\n  serviceName:")
	return folder
}

func replaceIn(t *testing.T, path, old, by string) {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, string(text), old)
	require.NoError(t, os.WriteFile(path, []byte(strings.Replace(string(text), old, by, 1)), 0o600))
}

// helm runs helm, or helm3, in the namespace.
func (c *cluster) helm(t *testing.T, program string, args ...string) (string, error) {
	t.Helper()
	home := t.TempDir()
	command := exec.CommandContext(t.Context(), filepath.Join(c.folder, "bin", program), append(args, "--namespace", c.namespace)...)
	command.Env = append(os.Environ(), "KUBECONFIG="+filepath.Join(c.folder, "kubeconfig"),
		"HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home)
	out, err := command.CombinedOutput()
	return string(out), err
}

// install installs a release of one pod, and waits until it runs.
func (c *cluster) install(t *testing.T, program string) *operation.Deployment {
	t.Helper()
	out, err := c.helm(t, program, "install", "cache", c.chart, "--values", "../../testdata/values/quick.yaml",
		"--set", "mode=replica,replication.replicas=0,terminationGracePeriodSeconds=0,podAnnotations.team=shop")
	require.NoError(t, err, out)
	require.Eventually(t, func() bool {
		pod, err := c.admin.CoreV1().Pods(c.namespace).Get(t.Context(), workload+"-0", metav1.GetOptions{})
		return err == nil && pod.Status.Phase == corev1.PodRunning
	}, 2*time.Minute, 100*time.Millisecond)
	d := deployment(workload)
	d.Namespace = c.namespace
	return d
}

func (c *cluster) set(t *testing.T) *appsv1.StatefulSet {
	t.Helper()
	set, err := c.admin.AppsV1().StatefulSets(c.namespace).Get(t.Context(), workload, metav1.GetOptions{})
	require.NoError(t, err)
	return set
}

func (c *cluster) pod(t *testing.T) *corev1.Pod {
	t.Helper()
	pod, err := c.admin.CoreV1().Pods(c.namespace).Get(t.Context(), workload+"-0", metav1.GetOptions{})
	require.NoError(t, err)
	return pod
}

// hold does what kube.Client.Hold does.
func (c *cluster) hold(t *testing.T) {
	t.Helper()
	_, err := c.admin.AppsV1().StatefulSets(c.namespace).Patch(t.Context(), workload, types.MergePatchType,
		[]byte(`{"spec":{"updateStrategy":{"type":"OnDelete","rollingUpdate":null}}}`), metav1.PatchOptions{FieldManager: "redisctl"})
	require.NoError(t, err)
}

// assertHeld asserts that the workload has image, and that its controller, which has seen
// that, leaves the pod alone.
func (c *cluster) assertHeld(t *testing.T, image string, pod types.UID) {
	t.Helper()
	set := c.set(t)
	assert.Equal(t, image, set.Spec.Template.Spec.Containers[0].Image)
	assert.Equal(t, appsv1.OnDeleteStatefulSetStrategyType, set.Spec.UpdateStrategy.Type)
	require.Eventually(t, func() bool {
		return c.set(t).Status.ObservedGeneration >= set.Generation
	}, 30*time.Second, 50*time.Millisecond)
	now := c.pod(t)
	assert.Equal(t, pod, now.UID)
	assert.Nil(t, now.DeletionTimestamp)
}

func TestCluster(t *testing.T) {
	for _, program := range []string{"helm", "helm3"} {
		t.Run(program, func(t *testing.T) {
			c := newCluster(t)
			d := c.install(t, program)
			r := New(c.config, 0)
			t.Run("upgrade and way back", func(t *testing.T) { testClusterUpgrade(t, c, r, d, program) })
			t.Run("pending", func(t *testing.T) { testClusterPending(t, c, r, d, program) })
			t.Run("interrupted", func(t *testing.T) { testClusterInterrupted(t, c, r, d) })
			t.Run("second release", func(t *testing.T) { testClusterSecond(t, c, r, d) })
			t.Run("not allowed", func(t *testing.T) { testClusterDenied(t, c, d) })
			t.Run("hooks", func(t *testing.T) { testClusterHooks(t, c, r, d) })
			t.Run("moved Service", func(t *testing.T) { testClusterMoved(t, c, r, d, program == "helm") })
			t.Run("chart version", func(t *testing.T) { testClusterImmutable(t, c, r, d) })
		})
	}
}

func testClusterUpgrade(t *testing.T, c *cluster, r *Releases, d *operation.Deployment, program string) {
	c.hold(t)
	pod := c.pod(t).UID
	change, err := r.WithImage(t.Context(), d, upgrade.Change{Description: "redisctl: to 8.0"}, "redis:8.0.2")
	require.NoError(t, err)
	assert.Equal(t, map[string]any{"image": map[string]any{"tag": "8.0.2"}}, change.Values)

	preview, err := r.Preview(t.Context(), d, change)
	require.NoError(t, err)
	assert.Equal(t, []upgrade.ObjectChange{{Kind: "StatefulSet", Name: workload, Action: "changed"}}, preview.Objects)
	assert.Equal(t, "docker.io/library/redis:8.0.2", preview.Image)
	assert.True(t, preview.Replaced)
	assert.Empty(t, preview.Immutable)
	assert.Contains(t, preview.Config, "maxmemory-policy allkeys-lru")

	made, err := r.Upgrade(t.Context(), d, change)
	require.NoError(t, err)
	assert.Equal(t, 2, made.Number)
	assert.Equal(t, "deployed", made.Status)
	c.assertHeld(t, "docker.io/library/redis:8.0.2", pod)

	out, err := c.helm(t, program, "get", "values", "cache")
	require.NoError(t, err, out)
	assert.Contains(t, out, "tag: 8.0.2")
	assert.Contains(t, out, "team: shop")
	out, err = c.helm(t, program, "get", "manifest", "cache")
	require.NoError(t, err, out)
	assert.Contains(t, out, "RollingUpdate", "the record is what the chart says")

	back, err := r.Upgrade(t.Context(), d, upgrade.Change{Back: 1})
	require.NoError(t, err)
	assert.Equal(t, "Rollback to 1", back.Description)
	c.assertHeld(t, "docker.io/library/redis:7.0.15", pod)
	out, err = c.helm(t, program, "history", "cache")
	require.NoError(t, err, out)
	assert.Contains(t, out, "redisctl: to 8.0")
	assert.Contains(t, out, "Rollback to 1")

	history, err := r.History(t.Context(), d)
	require.NoError(t, err)
	require.Len(t, history, 3)
	assert.Equal(t, "docker.io/library/redis:8.0.2", history[1].Image)
	for _, entry := range c.set(t).ManagedFields {
		assert.Contains(t, []string{"helm", "redisctl", "kube-controller-manager"}, entry.Manager)
	}
}

func testClusterPending(t *testing.T, c *cluster, r *Releases, d *operation.Deployment, program string) {
	s, err := r.open(t.Context(), d)
	require.NoError(t, err)
	kept, err := s.revisions(t.Context())
	require.NoError(t, err)
	killed := *kept[len(kept)-1]
	killed.Version++
	killed.SetStatus(rcommon.StatusPendingUpgrade, "Preparing upgrade")
	require.NoError(t, s.configuration.Releases.Create(&killed))

	_, err = r.Upgrade(t.Context(), d, upgrade.Change{})
	require.Equal(t, operation.Locked, operation.KindOf(err), "%v", err)
	require.NoError(t, r.Settle(t.Context(), d))
	out, err := c.helm(t, program, "history", "cache")
	require.NoError(t, err, out)
	assert.Contains(t, out, "interrupted, and marked as failed by redisctl")
	_, err = r.Upgrade(t.Context(), d, upgrade.Change{})
	require.NoError(t, err)
}

// cancelOn gives up when the API server is asked to change a StatefulSet.
type cancelOn struct {
	http.RoundTripper
	cancel context.CancelFunc
}

func (c *cancelOn) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.Method == http.MethodPatch && strings.Contains(request.URL.Path, "/statefulsets/") {
		c.cancel()
		<-request.Context().Done()
		return nil, request.Context().Err()
	}
	return c.RoundTripper.RoundTrip(request)
}

func testClusterInterrupted(t *testing.T, c *cluster, r *Releases, d *operation.Deployment) {
	for name, change := range map[string]upgrade.Change{
		"upgrade":  {Values: map[string]any{"image": map[string]any{"tag": "8.0.2"}}},
		"way back": {Back: 2},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		config := rest.CopyConfig(c.config)
		config.Wrap(func(next http.RoundTripper) http.RoundTripper { return &cancelOn{next, cancel} })
		made, err := New(config, 0).Upgrade(ctx, d, change)
		assert.Equal(t, operation.Interrupted, operation.KindOf(err), "%s: %v", name, err)
		assert.Equal(t, "failed", made.Status, name)
		history, err := r.History(t.Context(), d)
		require.NoError(t, err)
		assert.Equal(t, "failed", history[len(history)-1].Status, name)
	}
	_, err := r.Upgrade(t.Context(), d, upgrade.Change{})
	require.NoError(t, err)
}

func testClusterSecond(t *testing.T, c *cluster, r *Releases, d *operation.Deployment) {
	namespace := c.newNamespace(t)
	green, err := r.Install(t.Context(), d, "cache", namespace, upgrade.Change{
		Values: map[string]any{"image": map[string]any{"tag": "8.0.2"}},
	})
	require.NoError(t, err)
	assert.Equal(t, "deployed", green.Status)
	set, err := c.admin.AppsV1().StatefulSets(namespace).Get(t.Context(), workload, metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, "docker.io/library/redis:8.0.2", set.Spec.Template.Spec.Containers[0].Image)
	assert.Equal(t, "shop", set.Spec.Template.Annotations["team"])
	require.NoError(t, r.Uninstall(t.Context(), namespace, "cache"))
	_, err = c.admin.AppsV1().StatefulSets(namespace).Get(t.Context(), workload, metav1.GetOptions{})
	require.Error(t, err)
	require.NoError(t, r.Uninstall(t.Context(), namespace, "cache"))

	_, err = r.Install(t.Context(), d, "cache", namespace+"-none", upgrade.Change{})
	assert.ErrorContains(t, err, "not found")
}

func testClusterDenied(t *testing.T, c *cluster, d *operation.Deployment) {
	config := rest.CopyConfig(c.config)
	config.Impersonate.UserName = "nobody"
	_, err := New(config, 0).History(t.Context(), d)
	assert.Equal(t, operation.Denied, operation.KindOf(err))
	assert.ErrorContains(t, err, `cannot list resource "secrets"`)
}

func testClusterHooks(t *testing.T, c *cluster, r *Releases, d *operation.Deployment) {
	const job = `apiVersion: batch/v1
kind: Job
metadata: {name: migrate, annotations: {helm.sh/hook: pre-upgrade, helm.sh/hook-delete-policy: before-hook-creation}}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 0
      containers:
      - {name: migrate, image: "redis:7.0.15", imagePullPolicy: Never, command: [sh, -c, "{{ .Values.podAnnotations.hook }}"]}
`
	hooked := chartWithStrategy(t)
	require.NoError(t, os.WriteFile(filepath.Join(hooked, "templates", "job.yaml"), []byte(job), 0o600))
	running := func(command string) upgrade.Change {
		return upgrade.Change{Chart: hooked, Values: map[string]any{"podAnnotations": map[string]any{"hook": command}}}
	}

	preview, err := r.Preview(t.Context(), d, running("true"))
	require.NoError(t, err)
	assert.Equal(t, []string{"migrate"}, preview.Hooks)
	_, err = r.Upgrade(t.Context(), d, running("sleep 1"))
	require.NoError(t, err)
	done, err := c.admin.BatchV1().Jobs(c.namespace).Get(t.Context(), "migrate", metav1.GetOptions{})
	require.NoError(t, err)
	assert.EqualValues(t, 1, done.Status.Succeeded, "it was waited for")

	made, err := r.Upgrade(t.Context(), d, running("exit 1"))
	assert.ErrorContains(t, err, "pre-upgrade hooks failed")
	assert.Equal(t, "failed", made.Status)
	assert.Equal(t, "sleep 1", c.set(t).Spec.Template.Annotations["hook"], "nothing was applied")

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for ctx.Err() == nil {
			j, err := c.admin.BatchV1().Jobs(c.namespace).Get(ctx, "migrate", metav1.GetOptions{})
			if err == nil && j.UID != done.UID && ptr.Deref(j.Status.Ready, 0) > 0 {
				cancel()
			}
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	made, err = r.Upgrade(ctx, d, running("sleep 600"))
	assert.Equal(t, operation.Interrupted, operation.KindOf(err), "%v", err)
	assert.Equal(t, "failed", made.Status)

	_, err = r.Upgrade(t.Context(), d, upgrade.Change{Chart: c.chart})
	require.NoError(t, err)
}

func testClusterMoved(t *testing.T, c *cluster, r *Releases, d *operation.Deployment, serverSide bool) {
	_, err := c.admin.CoreV1().Services(c.namespace).Patch(t.Context(), workload, types.MergePatchType,
		[]byte(`{"spec":{"selector":{"statefulset.kubernetes.io/pod-name":"cache-redis-1"}}}`), metav1.PatchOptions{FieldManager: "redisctl"})
	require.NoError(t, err)
	made, err := r.Upgrade(t.Context(), d, upgrade.Change{Values: map[string]any{"podAnnotations": map[string]any{"a": "b"}}})
	if !serverSide {
		require.NoError(t, err, "a three-way merge knows no owners")
		return
	}
	assert.Equal(t, "failed", made.Status)
	assert.Equal(t, operation.Failed, operation.KindOf(err), "other objects have changed")
	assert.ErrorContains(t, err, c.namespace+"/cache-redis /v1, Kind=Service")
	assert.ErrorContains(t, err, `conflict with "redisctl" using v1: .spec.selector`)
	assert.Equal(t, "b", c.set(t).Spec.Template.Annotations["a"])
}

func testClusterImmutable(t *testing.T, c *cluster, r *Releases, d *operation.Deployment) {
	replaceIn(t, filepath.Join(c.chart, "Chart.yaml"), "version: 1.0.0", "version: 1.1.0")
	change := upgrade.Change{Chart: c.chart}
	preview, err := r.Preview(t.Context(), d, change)
	require.NoError(t, err)
	assert.Equal(t, []string{"spec.volumeClaimTemplates"}, preview.Immutable)
	made, err := r.Upgrade(t.Context(), d, change)
	assert.Equal(t, "failed", made.Status)
	assert.ErrorContains(t, err, "StatefulSet cache-redis is invalid: spec.volumeClaimTemplates: field is immutable")
	assert.NotContains(t, err.Error(), "256Mi", "the value, which could be a secret")
}
