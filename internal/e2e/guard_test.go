package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// guardImageName is imported into the cluster: nothing is pulled.
const guardImageName = "docker.io/redisctl/redisctl:e2e"

// importGuardImage builds redisctl as it is released, and makes an image of it.
var importGuardImage = sync.OnceValue(func() error {
	dir := filepath.Join(world.scratch, "image")
	program, driver := filepath.Join(dir, "redisctl"), filepath.Join(dir, "cluster")
	steps := []*exec.Cmd{
		exec.Command("go", "build", "-ldflags=-s -w", "-o", program, "github.com/redisctl/redisctl/cmd/redisctl"),
		exec.Command("go", "build", "-C", filepath.Join("..", "testkit", "cluster"), "-o", driver, "."),
		exec.Command(driver, "image", program, guardImageName),
	}
	steps[0].Env = append(os.Environ(), "CGO_ENABLED=0")
	for _, step := range steps {
		if out, err := step.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(step.Args, " "), err, out)
		}
	}
	return nil
})

// guarded is a release with a guard.
type guarded struct {
	*release
	s *session
}

// observed returns what the guard has noted last.
func (g *guarded) observed(ctx context.Context) (condition, message string, err error) {
	set, err := g.statefulSet(ctx)
	if err != nil {
		return "", "", err
	}
	var note struct{ Condition, Message string }
	err = json.Unmarshal([]byte(set.Annotations["redisctl.dev/guard"]), &note)
	return note.Condition, note.Message, err
}

// awaitPrimary waits until everybody follows a pod, all Services lead to it, and the
// guard says that all is well. It returns which pod that is.
func (g *guarded) awaitPrimary(t *testing.T, among ...int) int {
	t.Helper()
	found := -1
	eventually(t, fmt.Sprintf("one of %v to be the only primary", among), func(ctx context.Context) error {
		condition, message, err := g.observed(ctx)
		if err != nil {
			return err
		}
		for _, ordinal := range among {
			if condition == "healthy" && strings.HasPrefix(message, g.podName(ordinal)+" is the primary") {
				found = ordinal
				return g.led(ctx, ordinal)
			}
		}
		return fmt.Errorf("the guard says %s: %s", condition, message)
	})
	return found
}

// led returns nil when everybody follows a pod. It asks the servers and Services, not
// redisctl.
func (g *guarded) led(ctx context.Context, primary int) error {
	pods, err := g.env.CoreV1().Pods(g.namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=redis"})
	if err != nil {
		return err
	}
	for _, pod := range pods.Items {
		var ordinal int
		if _, err := fmt.Sscanf(pod.Name, g.workload+"-%d", &ordinal); err != nil {
			return err
		}
		if pod.Status.PodIP == "" {
			continue // one that cannot be scheduled
		}
		fields, err := info(ctx, g.clients[ordinal])
		switch {
		case err != nil:
			return err
		case ordinal == primary && fields["role"] != "master":
			return fmt.Errorf("%s is a %s", pod.Name, fields["role"])
		case ordinal != primary && fields["master_link_status"] != "up":
			return fmt.Errorf("%s has role %s and its link is %q", pod.Name, fields["role"], fields["master_link_status"])
		}
	}
	services, err := g.env.CoreV1().Services(g.namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/instance=" + g.name})
	if err != nil {
		return err
	}
	for _, service := range services.Items {
		pinned, ok := service.Spec.Selector["statefulset.kubernetes.io/pod-name"]
		if ok && pinned != g.podName(primary) {
			return fmt.Errorf("service %s leads to %s", service.Name, pinned)
		}
	}
	return nil
}

const guardedKeys = 500

// hasAll asserts that no key is missing on any pod that is there.
func (g *guarded) hasAll(t *testing.T, ordinals ...int) {
	t.Helper()
	for _, ordinal := range ordinals {
		held := ledger(t, g.redis(t, ordinal), "guarded:")
		assert.Len(t, held, guardedKeys, "keys on %s", g.podName(ordinal))
	}
}

// A pod restarts at night, and nobody needs to get up.
func TestGuard(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.onNode(t)
	require.NoError(t, importGuardImage())
	r := e.install(t, e.namespace(t, "guard"), chart{
		files: []string{"replica-password.yaml"}, password: randomPassword(), config: quickSync,
	})
	g := &guarded{release: r, s: r.session(t)}
	guard := func(args ...string) *result {
		t.Helper()
		return g.s.run(append([]string{"failover", "guard"}, args...)...)
	}
	_, err := r.redis(t, 0).Pipelined(t.Context(), func(p goredis.Pipeliner) error {
		for i := range guardedKeys {
			p.Set(t.Context(), fmt.Sprintf("guarded:%d", i), i, 0)
		}
		return nil
	})
	require.NoError(t, err)

	guard("status").exits(0).shows("no guard is installed")
	guard("install", "--image", guardImageName, "--dry-run").exits(0).shows("create: Role redisctl-guard-" + r.workload)
	guard("status").exits(0).shows("no guard is installed")
	guard("install", "--image", guardImageName, "--yes").exits(0).shows("works", r.podName(0)+" is the primary")
	guard("install", "--image", guardImageName, "--dry-run").exits(0).shows("nothing to do")
	testGuardPermissions(t, r)
	testGuardIsRestricted(t, r)

	// The chart's init container makes pod 1 a replica of pod 0: there is no primary.
	g.s.run("failover", "promote", r.podName(1), "--yes").exits(0)
	r.deletePod(t, 1)
	g.awaitPrimary(t, 1)
	g.hasAll(t, 0, 1, 2)

	// It makes pod 0 a second primary, with the data of its last save.
	r.deletePod(t, 0)
	eventually(t, "the guard to notice", func(ctx context.Context) error {
		condition, message, err := g.observed(ctx)
		if err == nil && condition == "healthy" {
			err = errors.New(message)
		}
		return err
	})
	g.awaitPrimary(t, 1)
	g.hasAll(t, 0, 1, 2)

	testGuardBlocks(t, g, guard)

	// helm upgrade, or a hand, puts a Service back.
	moved := fmt.Sprintf(`{"spec":{"selector":{"statefulset.kubernetes.io/pod-name":%q}}}`, r.podName(0))
	_, err = e.CoreV1().Services(r.namespace).Patch(t.Context(), r.workload, types.MergePatchType, []byte(moved), metav1.PatchOptions{})
	require.NoError(t, err)
	eventually(t, "the Service's way back", func(ctx context.Context) error { return g.led(ctx, 1) })
	guard("status").exits(0).shows("works", "2 of 2 available")

	testGuardPromotes(t, g, guard)

	guard("remove", "--yes").exits(0).shows("removed", "redisctl-guard-"+r.workload)
	guard("remove", "--yes").exits(0).shows("no guard was installed")
	testGuardIsGone(t, r)
}

// When each of two primaries has data of its own, none is discarded: the guard compares,
// says so and waits for a person.
func testGuardBlocks(t *testing.T, g *guarded, guard func(...string) *result) {
	g.follow(t, 2, -1)
	require.NoError(t, g.redis(t, 1).Set(t.Context(), "only-there", "v", 0).Err())
	require.NoError(t, g.redis(t, 2).Set(t.Context(), "only-here", "v", 0).Err())
	eventually(t, "the guard to ask for a decision", func(ctx context.Context) error {
		condition, message, err := g.observed(ctx)
		if err == nil && (condition != "blocked" || !strings.Contains(message, "only-here")) {
			err = errors.New(condition + ": " + message)
		}
		return err
	})
	guard("status").exits(10).shows("needs attention", "blocked", g.podName(2), "only-here")
	assert.Equal(t, "v", g.redis(t, 2).Get(t.Context(), "only-here").Val())

	require.NoError(t, g.redis(t, 2).Del(t.Context(), "only-here").Err())
	g.awaitPrimary(t, 1)
	g.hasAll(t, 0, 1, 2)
}

// The primary is gone for good: told, and given up only when that is switched on.
func testGuardPromotes(t *testing.T, g *guarded, guard func(...string) *result) {
	g.patch(t, `{"spec":{"updateStrategy":{"type":"OnDelete","rollingUpdate":null},
		"template":{"spec":{"nodeSelector":{"redisctl.dev/no-such-node":"x"}}}}}`)
	g.deletePod(t, 1)
	eventually(t, "the guard to find the primary gone", func(ctx context.Context) error {
		condition, message, err := g.observed(ctx)
		if err == nil && condition != "primaryGone" {
			err = errors.New(condition + ": " + message)
		}
		return err
	})
	guard("status").exits(10).shows("needs attention", "primaryGone", "failover force")

	guard("install", "--image", guardImageName, "--promote", "--promote-after", "3s", "--yes").exits(0).shows("when the primary is gone for 3 s")
	primary := g.awaitPrimary(t, 0, 2)
	g.hasAll(t, 0, 2)
	guard("status").exits(0).shows(g.podName(primary) + " is the primary")

	// It returns, and the chart's init container knows nothing of what happened.
	g.patch(t, `{"spec":{"template":{"spec":{"nodeSelector":null}}}}`)
	g.deletePod(t, 1)
	g.awaitReady(t)
	g.awaitPrimary(t, primary)
	g.hasAll(t, 0, 1, 2)
}

// testGuardPermissions asks the API server what the guard may do.
func testGuardPermissions(t *testing.T, r *release) {
	may := func(a authorizationv1.ResourceAttributes) bool {
		t.Helper()
		a.Namespace = r.namespace
		review, err := r.env.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), &authorizationv1.SubjectAccessReview{
			Spec: authorizationv1.SubjectAccessReviewSpec{
				User: "system:serviceaccount:" + r.namespace + ":redisctl-guard-" + r.workload, ResourceAttributes: &a,
			},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
		return review.Status.Allowed
	}
	for _, a := range []authorizationv1.ResourceAttributes{
		{Verb: "get", Resource: "secrets", Name: r.workload},
		{Verb: "create", Resource: "pods", Subresource: "exec"},
		{Verb: "create", Resource: "pods", Subresource: "portforward"},
		{Verb: "delete", Resource: "pods", Name: r.podName(0)}, // without --promote
		{Verb: "patch", Group: "apps", Resource: "statefulsets", Name: "another"},
		{Verb: "patch", Resource: "services", Name: "another"},
		{Verb: "get", Resource: "configmaps", Name: "another"},
		{Verb: "create", Resource: "pods"},
	} {
		assert.False(t, may(a), "%+v", a)
	}
	assert.True(t, may(authorizationv1.ResourceAttributes{Verb: "patch", Group: "apps", Resource: "statefulsets", Name: r.workload}))
}

// testGuardIsRestricted lets the API server judge the pods by the Pod Security Standard
// "restricted".
func testGuardIsRestricted(t *testing.T, r *release) {
	deployment, err := r.env.AppsV1().Deployments(r.namespace).Get(t.Context(), "redisctl-guard-"+r.workload, metav1.GetOptions{})
	require.NoError(t, err)
	namespace := r.env.namespace(t, "restricted")
	_, err = r.env.CoreV1().Namespaces().Patch(t.Context(), namespace, types.MergePatchType,
		[]byte(`{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"restricted"}}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "guard"}, Spec: *deployment.Spec.Template.Spec.DeepCopy()}
	pod.Spec.ServiceAccountName = "default"
	eventually(t, "the pod to be judged", func(ctx context.Context) error {
		_, err := r.env.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	})
}

func testGuardIsGone(t *testing.T, r *release) {
	ctx := t.Context()
	ours := metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=redisctl-guard"}
	deployments, err := r.env.AppsV1().Deployments(r.namespace).List(ctx, ours)
	require.NoError(t, err)
	pods, err := r.env.CoreV1().Pods(r.namespace).List(ctx, ours)
	require.NoError(t, err)
	accounts, err := r.env.CoreV1().ServiceAccounts(r.namespace).List(ctx, ours)
	require.NoError(t, err)
	roles, err := r.env.RbacV1().Roles(r.namespace).List(ctx, ours)
	require.NoError(t, err)
	bindings, err := r.env.RbacV1().RoleBindings(r.namespace).List(ctx, ours)
	require.NoError(t, err)
	leases, err := r.env.CoordinationV1().Leases(r.namespace).List(ctx, ours)
	require.NoError(t, err)
	assert.Empty(t, deployments.Items)
	assert.Empty(t, pods.Items)
	assert.Empty(t, accounts.Items)
	assert.Empty(t, roles.Items)
	assert.Empty(t, bindings.Items)
	assert.Empty(t, leases.Items)
	set, err := r.statefulSet(ctx)
	require.NoError(t, err)
	assert.NotContains(t, set.Annotations, "redisctl.dev/guard")
}
