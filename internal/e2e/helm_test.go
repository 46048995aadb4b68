package e2e_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redisctl/redisctl/internal/operation"
)

// What docs/helm.md promises about `helm upgrade` and `helm rollback` of a release
// whose primary is not pod 0. The chart's Services select pod 0.
func TestHelmUpgradeAfterFailover(t *testing.T) {
	t.Parallel()
	e := setup(t)
	requireHelm4(t, e)
	t.Run("server-side apply", func(t *testing.T) {
		t.Parallel()
		testHelmServerSide(t, e)
	})
	t.Run("client-side apply", func(t *testing.T) {
		t.Parallel()
		testHelmClientSide(t, e)
	})
}

// How Helm 4 keeps the releases that it has installed: redisctl owns the selector
// that it has changed, and Helm refuses to change it back.
func testHelmServerSide(t *testing.T, e *environment) {
	r := e.install(t, e.namespace(t, "helm-server"), chart{files: []string{"replica.yaml"}, replicas: 1, config: quickSync})
	first, second := r.podName(0), r.podName(1)
	s := r.session(t)
	s.run("failover", "promote", second, "--yes").exits(0)
	require.NoError(t, r.redis(t, 1).Set(t.Context(), "k", "v", 0).Err())
	require.NoError(t, r.redis(t, 1).Do(t.Context(), "WAIT", 1, 30_000).Err())
	uid := r.pod(t, 1).UID

	const conflict = `conflict with "redisctl" using v1: .spec.selector`
	out, err := r.upgrade(t, "--dry-run=server")
	require.NoError(t, err, "a dry run does not find the conflict\n%s", out)
	out, err = r.upgrade(t)
	require.Error(t, err)
	assert.Contains(t, out, conflict)
	out, err = r.helm(t, "rollback", r.name, "1")
	require.Error(t, err)
	assert.Contains(t, out, conflict)
	assert.Equal(t, uid, r.pod(t, 1).UID, "nothing restarts")
	r.assertServices(t, second)
	s.run("failover", "status").exits(0)
	s.run("health").exits(0)

	// The refusal is about the Services only: the pods restart, in the chart's roles.
	out, err = r.upgrade(t, "--set", "podAnnotations.edition=second")
	require.Error(t, err)
	assert.Contains(t, out, conflict)
	r.awaitReady(t)
	assert.NotEqual(t, uid, r.pod(t, 1).UID)
	assert.Equal(t, "master", r.info(t, 0)["role"])
	assert.Equal(t, "slave", r.info(t, 1)["role"])
	assert.Equal(t, "v", r.redis(t, 0).Get(t.Context(), "k").Val())
	r.assertServices(t, second)
	r.assertIntended(t, second)
	s.run("failover", "status").exits(10)
	r.assertElsewhere(t, s, second, first)

	// The way out: the Services follow the primary, and Helm agrees.
	s.run("replication", "heal", "--yes").exits(0)
	r.assertServices(t, first)
	uid = r.pod(t, 0).UID
	out, err = r.upgrade(t, "--set", "podAnnotations.edition=second")
	require.NoError(t, err, out)
	assert.Equal(t, uid, r.pod(t, 0).UID, "the failed upgrade had changed the pods already")
	r.assertServices(t, first)
	s.run("failover", "status").exits(0)
	s.run("health").exits(0).quiet()

	// Forced, Helm takes the field.
	s.run("failover", "promote", second, "--yes").exits(0)
	out, err = r.upgrade(t, "--force-conflicts")
	require.NoError(t, err, out)
	r.assertServices(t, first)
	r.assertElsewhere(t, s, first, second)
}

// How Helm 3 keeps releases, and Helm 4 those that Helm 3 has installed: the selector
// silently goes back to a pod that is a replica now.
func testHelmClientSide(t *testing.T, e *environment) {
	r := e.install(t, e.namespace(t, "helm-client"), chart{files: []string{"replica.yaml"}, replicas: 1, config: quickSync})
	first, second := r.podName(0), r.podName(1)
	s := r.session(t)
	out, err := r.upgrade(t, "--server-side=false") // later runs do as this one did
	require.NoError(t, err, out)

	for _, args := range [][]string{
		{"upgrade", r.name, e.chart(), "--reuse-values"},
		{"rollback", r.name}, // to the revision before
	} {
		s.run("failover", "promote", second, "--yes").exits(0)
		r.assertServices(t, second)
		uid := r.pod(t, 1).UID
		out, err = r.helm(t, args...)
		require.NoError(t, err, out)
		assert.Equal(t, uid, r.pod(t, 1).UID, "nothing restarts")
		r.assertServices(t, first)
		r.assertIntended(t, second)
		s.run("failover", "status").exits(10)
		r.assertElsewhere(t, s, first, second)

		s.run("replication", "heal", "--yes").exits(0)
		r.assertServices(t, second)
		s.run("health").exits(0)

		// What the user should have done before.
		s.run("failover", "failback", "--yes").exits(0)
		out, err = r.upgrade(t)
		require.NoError(t, err, out)
		r.assertServices(t, first)
		s.run("health").exits(0).quiet()
	}
}

// requireHelm4 fails the test when the Helm in PATH is an older one.
func requireHelm4(t *testing.T, e *environment) {
	t.Helper()
	version, err := exec.CommandContext(t.Context(), e.helm, "version", "--template", "{{.Version}}").Output()
	require.NoError(t, err)
	require.Regexp(t, `^v4\.`, string(version), "%s is not Helm 4: take it out of PATH, `make cluster-up` provides one", e.helm)
}

// chart is the folder of the chart.
func (e *environment) chart() string { return filepath.Join(e.testdata, "charts", "redis") }

// helm runs helm, which may fail, and returns what it printed.
func (r *release) helm(t *testing.T, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.env.helm, append(args, "--namespace", r.namespace)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + r.env.scratch, "KUBECONFIG=" + r.env.kubeconfig}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// upgrade runs helm upgrade with the release's own chart and values.
func (r *release) upgrade(t *testing.T, flags ...string) (string, error) {
	t.Helper()
	return r.helm(t, append([]string{"upgrade", r.name, r.env.chart(), "--reuse-values"}, flags...)...)
}

// assertServices asserts which pod the release's pinned Services select.
func (r *release) assertServices(t *testing.T, pod string) {
	t.Helper()
	for _, name := range []string{r.workload, r.workload + "-master"} {
		service, err := r.env.CoreV1().Services(r.namespace).Get(t.Context(), name, metav1.GetOptions{})
		require.NoError(t, err)
		assert.Equal(t, pod, service.Spec.Selector["statefulset.kubernetes.io/pod-name"], "selector of Service %s", name)
	}
}

// assertIntended asserts that the workload still says which pod is meant to be the
// primary.
func (r *release) assertIntended(t *testing.T, pod string) {
	t.Helper()
	set, err := r.statefulSet(t.Context())
	require.NoError(t, err)
	assert.Equal(t, pod, set.Annotations[operation.NotePrimary])
}

// assertElsewhere asserts that health reports Services that select another pod than
// the primary.
func (r *release) assertElsewhere(t *testing.T, s *session, selected, primary string) {
	t.Helper()
	report := decode[healthReport](s.run("health", "-o", "json").exits(10))
	assert.Equal(t, primary, report.Primary)
	for _, name := range []string{r.workload, r.workload + "-master"} {
		f := named(t, report, "service-elsewhere", name)
		assert.Contains(t, f.Message, selected)
		assert.Contains(t, f.Message, primary)
	}
}
