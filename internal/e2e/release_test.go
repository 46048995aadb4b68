package e2e_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/redisctl/redisctl/internal/kube"
	"github.com/redisctl/redisctl/internal/operation"
)

// chart says how to install a release.
type chart struct {
	// release is its name, "cache" when empty.
	release string
	// files in testdata/values, besides quick.yaml.
	files []string
	// image is name:tag, for example "valkey:8.1.1"; the chart's own when empty.
	image string
	// replicas besides the primary, in replica mode; the chart's 2 when 0.
	replicas int
	// password of the chart's own Secret. What a values file says is known to
	// everybody who reads this repository, so the tests that look for leaks set it.
	password string
	// token is the password in the Secret that testdata/values/existing-secret.yaml
	// wants to exist.
	token string
	// config are lines of redis.conf. They replace those of the values files.
	config []string
	// values are any others.
	values map[string]any
}

// quickSync spares servers that wait for further replicas before each full
// synchronisation: 5 s for every replica and every backup.
var quickSync = []string{"repl-diskless-sync-delay 0"}

// release is an installed release whose pods are all Ready and in sync.
type release struct {
	env             *environment
	namespace, name string
	// workload is the StatefulSet's name.
	workload string
	password string

	mu      sync.Mutex
	clients map[int]*goredis.Client
}

// install installs a release and waits for it.
func (e *environment) install(t *testing.T, namespace string, c chart) *release {
	t.Helper()
	r := &release{env: e, namespace: namespace, name: c.release, password: c.password, clients: map[int]*goredis.Client{}}
	t.Cleanup(func() {
		for _, client := range r.clients {
			_ = client.Close() // the test is over
		}
	})
	if r.name == "" {
		r.name = "cache"
	}
	r.workload = r.name
	if !strings.Contains(r.name, "redis") {
		r.workload += "-redis"
	}
	if c.token != "" {
		r.password = c.token
		_, err := e.CoreV1().Secrets(namespace).Create(t.Context(), &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: "redis-auth"}, StringData: map[string]string{"token": c.token},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	files := []string{filepath.Join(e.testdata, "values", "quick.yaml")}
	for _, file := range c.files {
		files = append(files, filepath.Join(e.testdata, "values", file))
	}
	// The password goes through a file: arguments are visible to everybody.
	files = append(files, writeYAML(t, c.overrides()))
	e.runHelm(t, namespace, append([]string{"install", r.name, filepath.Join(e.testdata, "charts", "redis"), "--values"},
		strings.Join(files, ","))...)
	r.awaitReady(t)
	return r
}

func (c chart) overrides() map[string]any {
	values := map[string]any{}
	redis := map[string]any{}
	if c.password != "" {
		redis["password"] = c.password
	}
	if len(c.config) > 0 {
		redis["extraConfig"] = strings.Join(c.config, "\n")
	}
	if len(redis) > 0 {
		values["redis"] = redis
	}
	if c.replicas > 0 {
		values["replication"] = map[string]any{"replicas": c.replicas}
	}
	if name, tag, ok := strings.Cut(c.image, ":"); ok {
		values["image"] = map[string]any{"repository": "docker.io/library/" + name, "tag": tag}
	}
	for name, value := range c.values {
		values[name] = value
	}
	return values
}

func writeYAML(t *testing.T, value any) string {
	t.Helper()
	text, err := yaml.Marshal(value)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "values.yaml")
	require.NoError(t, os.WriteFile(path, text, 0o600))
	return path
}

func (e *environment) runHelm(t *testing.T, namespace string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, e.helm, append(args, "--namespace", namespace)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + e.scratch, "KUBECONFIG=" + e.kubeconfig}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "helm %s\n%s", args, out)
}

// session returns a session whose commands are about the release.
func (r *release) session(t *testing.T, flags ...string) *session {
	t.Helper()
	s := r.env.session(t, append([]string{"--namespace", r.namespace, "--release", r.name}, flags...)...)
	if r.password != "" {
		s.secrets = []string{r.password}
	}
	return s
}

// podName returns the name of the pod with an ordinal.
func (r *release) podName(ordinal int) string { return fmt.Sprintf("%s-%d", r.workload, ordinal) }

func (r *release) statefulSet(ctx context.Context) (*appsv1.StatefulSet, error) {
	return r.env.AppsV1().StatefulSets(r.namespace).Get(ctx, r.workload, metav1.GetOptions{})
}

func (r *release) getPod(ctx context.Context, ordinal int) (*corev1.Pod, error) {
	return r.env.CoreV1().Pods(r.namespace).Get(ctx, r.podName(ordinal), metav1.GetOptions{})
}

func (r *release) pod(t *testing.T, ordinal int) *corev1.Pod {
	t.Helper()
	pod, err := r.getPod(t.Context(), ordinal)
	require.NoError(t, err)
	return pod
}

func (r *release) pods(t *testing.T) []corev1.Pod {
	t.Helper()
	set, err := r.statefulSet(t.Context())
	require.NoError(t, err)
	pods := make([]corev1.Pod, *set.Spec.Replicas)
	for i := range pods {
		pods[i] = *r.pod(t, i)
	}
	return pods
}

// The names, app.kubernetes.io/name, of the pods that redisctl makes beside a release.
const (
	drillPods = "redisctl-drill"
	trialPods = "redisctl-trial"
)

// podsNamed are the pods in the release's namespace that have a name label.
func (r *release) podsNamed(t *testing.T, name string) []corev1.Pod {
	t.Helper()
	list, err := r.env.CoreV1().Pods(r.namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=" + name})
	require.NoError(t, err)
	return list.Items
}

// podNamed waits until a command that runs has made its pod.
func (r *release) podNamed(t *testing.T, name string, running *command) corev1.Pod {
	t.Helper()
	var found corev1.Pod
	running.while("its pod", func(context.Context) error {
		pods := r.podsNamed(t, name)
		if len(pods) != 1 {
			return fmt.Errorf("%d pods %s", len(pods), name)
		}
		found = pods[0]
		return nil
	})
	return found
}

// awaitReady waits until every pod is Ready and every replica in sync.
func (r *release) awaitReady(t *testing.T) {
	t.Helper()
	eventually(t, "the pods of "+r.namespace+"/"+r.name, func(ctx context.Context) error {
		set, err := r.statefulSet(ctx)
		if err != nil {
			return err
		}
		status, want := set.Status, *set.Spec.Replicas
		if status.ObservedGeneration != set.Generation || status.UpdatedReplicas != want || status.ReadyReplicas != want {
			return fmt.Errorf("%d of %d pods are Ready and up to date", min(status.ReadyReplicas, status.UpdatedReplicas), want)
		}
		return nil
	})
	for i := range r.pods(t) {
		r.awaitLink(t, i)
	}
}

// awaitLink waits until a server is a primary, or a replica in sync.
func (r *release) awaitLink(t *testing.T, ordinal int) {
	t.Helper()
	client := r.redis(t, ordinal)
	eventually(t, r.podName(ordinal)+" in sync", func(ctx context.Context) error {
		info, err := info(ctx, client)
		if err == nil && info["role"] == "slave" && info["master_link_status"] != "up" {
			err = fmt.Errorf("its link is %s", info["master_link_status"])
		}
		return err
	})
}

// deletePod deletes a pod at once. Its StatefulSet makes a new one.
func (r *release) deletePod(t *testing.T, ordinal int) {
	t.Helper()
	now := int64(0)
	err := r.env.CoreV1().Pods(r.namespace).Delete(t.Context(), r.podName(ordinal), metav1.DeleteOptions{GracePeriodSeconds: &now})
	require.NoError(t, err)
}

// patch changes the StatefulSet with a strategic merge patch.
func (r *release) patch(t *testing.T, patch string) {
	t.Helper()
	_, err := r.env.AppsV1().StatefulSets(r.namespace).Patch(
		t.Context(), r.workload, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
	require.NoError(t, err)
}

// redis returns the tests' own client to a pod's server: it goes to the pod's
// address, without redisctl's code where the cluster's network is this machine's. It
// is closed at the end of the test that installed the release.
func (r *release) redis(t *testing.T, ordinal int) *goredis.Client {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if client, ok := r.clients[ordinal]; ok {
		return client
	}
	r.clients[ordinal] = goredis.NewClient(&goredis.Options{
		Addr: r.podName(ordinal), Protocol: 2, DisableIdentity: true, Password: r.password,
		ReadTimeout: 30 * time.Second, ContextTimeoutEnabled: true, PipelinePoolSize: -1, DialerRetries: 1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		Dialer:                   func(ctx context.Context, _, _ string) (net.Conn, error) { return r.dial(ctx, ordinal) },
	})
	return r.clients[ordinal]
}

func (r *release) dial(ctx context.Context, ordinal int) (net.Conn, error) {
	pod, err := r.getPod(ctx, ordinal)
	if err != nil {
		return nil, err
	}
	if r.env.auditLog != "" {
		return new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(pod.Status.PodIP, "6379"))
	}
	client, err := kube.Open(kube.Options{Kubeconfig: r.env.kubeconfig})
	if err != nil {
		return nil, err
	}
	d, err := client.Resolve(ctx, operation.Target{Namespace: r.namespace, Release: r.name})
	if err != nil {
		return nil, err
	}
	return client.DialDedicated(ctx, d, *d.Instance(pod.Name))
}

// info returns the fields of INFO.
func info(ctx context.Context, client *goredis.Client) (map[string]string, error) {
	text, err := client.Info(ctx).Result()
	if err != nil {
		return nil, err
	}
	fields := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[name] = value
		}
	}
	return fields, nil
}

// info returns the fields of INFO of one pod's server.
func (r *release) info(t *testing.T, ordinal int) map[string]string {
	t.Helper()
	fields, err := info(t.Context(), r.redis(t, ordinal))
	require.NoError(t, err)
	return fields
}

// configure runs CONFIG SET on servers.
func (r *release) configure(t *testing.T, name, value string, ordinals ...int) {
	t.Helper()
	for _, ordinal := range ordinals {
		require.NoError(t, r.redis(t, ordinal).ConfigSet(t.Context(), name, value).Err())
	}
}

func number(t *testing.T, text string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(text, 10, 64)
	require.NoError(t, err)
	return n
}
