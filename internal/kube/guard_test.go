package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	rbacconfig "k8s.io/client-go/applyconfigurations/rbac/v1"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/guard"
)

// rules are a Role's, as the API server's authorizer reads them.
type rules []*rbacconfig.PolicyRuleApplyConfiguration

func (r rules) allow(a clienttesting.Action) bool {
	name := "" // of what is created: the authorizer does not know it yet
	switch a.GetVerb() {
	case "get", "patch", "delete":
		name = a.(interface{ GetName() string }).GetName()
	case "update":
		name = a.(clienttesting.UpdateAction).GetObject().(metav1.Object).GetName()
	}
	return slices.ContainsFunc(r, func(rule *rbacconfig.PolicyRuleApplyConfiguration) bool {
		return slices.Contains(rule.Verbs, a.GetVerb()) && slices.Contains(rule.APIGroups, a.GetResource().Group) &&
			slices.Contains(rule.Resources, a.GetResource().Resource) &&
			(len(rule.ResourceNames) == 0 || slices.Contains(rule.ResourceNames, name))
	})
}

// under returns a client of a cluster that lets it do what the rules say.
func under(r rules, objects []runtime.Object) *Client {
	clientset := fake.NewClientset(objects...)
	clientset.PrependReactor("*", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
		if r.allow(a) {
			return false, nil, nil
		}
		resource := schema.GroupResource{Group: a.GetResource().Group, Resource: a.GetResource().Resource}
		return true, nil, apierrors.NewForbidden(resource, "", errors.New("no rule allows to "+a.GetVerb()))
	})
	client := newClient(clientset, nil, "prod", time.Second)
	client.only = "cache-redis"
	return client
}

// guardWork is all that the guard asks of Kubernetes.
func guardWork(ctx context.Context, c *Client) error {
	d, err := c.Resolve(ctx, operation.Target{Namespace: "prod", Release: "cache"})
	if err != nil {
		return err
	}
	if len(d.Gaps) > 0 {
		return fmt.Errorf("gaps: %v", d.Gaps)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var work error
	leading := false
	lead := func(context.Context) {
		defer cancel()
		leading = true
		_, release, err := c.Acquire(ctx, d.Namespace, d.Name, "guard", time.Minute)
		if err == nil {
			err = release()
		}
		_, held := c.LockHolder(ctx, d)
		work = errors.Join(err, held,
			c.SetNotes(ctx, d, map[string]string{guard.Note: "x"}),
			c.NewJournal().RecordEvent(ctx, d, guard.JournalEntry{Reason: "Healed", Message: "m", Holder: "guard"}),
			c.Pin(ctx, d, "cache-redis", "cache-redis-0", "cache-redis-1"),
			c.Pin(ctx, d, "cache-redis-master", "cache-redis-0", "cache-redis-1"),
			c.DeletePod(ctx, d, *d.Instance("cache-redis-2"), time.Second),
		)
		if _, err := c.Note(ctx, d, guard.Note); err != nil {
			work = errors.Join(work, err)
		}
	}
	if err := c.Lead(ctx, d, "guard", func(string) {}, lead); err != nil {
		return err
	}
	if !leading {
		return errors.New("it never became the leader")
	}
	return work
}

// The guard works with exactly its Role: none of the rules, nor a verb of them, is
// superfluous.
func TestGuardRole(t *testing.T) {
	objects := chart{namespace: "prod", release: "cache", fullName: "cache-redis", replicas: 3, replication: true, password: "secret"}.objects()
	open := newClient(fake.NewClientset(objects...), nil, "prod", time.Second)
	d, err := open.Resolve(t.Context(), operation.Target{Release: "cache"})
	require.NoError(t, err)
	configs, err := open.configs(t.Context(), d, guard.Spec{Promote: true})
	require.NoError(t, err)
	all := make(rules, len(configs.role.Rules))
	for i := range configs.role.Rules {
		all[i] = &configs.role.Rules[i]
	}
	require.NoError(t, guardWork(t.Context(), under(all, objects)))

	for i, rule := range all {
		for _, verb := range rule.Verbs {
			name := fmt.Sprintf("without %s %s %s", verb, rule.Resources[0], rule.ResourceNames)
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				less := *rule
				less.Verbs = slices.DeleteFunc(slices.Clone(rule.Verbs), func(v string) bool { return v == verb })
				fewer := slices.Clone(all)
				fewer[i] = &less
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // a guard without its Lease waits
				defer cancel()
				assert.Error(t, guardWork(ctx, under(fewer, objects)))
			})
		}
	}
	for _, rule := range all {
		assert.NotContains(t, rule.Resources, "secrets")
		assert.NotContains(t, rule.Verbs, "*")
	}
}

func guardOf(t *testing.T, password string) (guardConfigs, *operation.Deployment) {
	t.Helper()
	c := chart{namespace: "prod", release: "cache", fullName: "cache-redis", replicas: 3, replication: true, password: password}
	client := newClient(fake.NewClientset(c.objects()...), nil, "prod", time.Second)
	d, err := client.Resolve(t.Context(), operation.Target{Release: "cache"})
	require.NoError(t, err)
	configs, err := client.configs(t.Context(), d, guard.Spec{Image: "i", Version: "v1+dirty", Replicas: 2})
	require.NoError(t, err)
	return configs, d
}

// The password comes from the Secret that the release itself names, as a file, and
// never as a value.
func TestGuardPassword(t *testing.T) {
	configs, _ := guardOf(t, "existing")
	pod := configs.deployment.Spec.Template.Spec
	assert.Contains(t, pod.Containers[0].Args, "--password-file=/run/redisctl/password")
	require.Len(t, pod.Volumes, 2)
	assert.Equal(t, "team-secret", *pod.Volumes[1].Secret.SecretName)
	assert.Equal(t, "cache-pw", *pod.Volumes[1].Secret.Items[0].Key)

	for _, password := range []string{"", "literal"} {
		configs, _ := guardOf(t, password)
		pod := configs.deployment.Spec.Template.Spec
		assert.Len(t, pod.Volumes, 1)
		assert.NotContains(t, fmt.Sprint(pod.Containers[0].Args), "password")
	}
}

// Without --promote the guard deletes no pod.
func TestGuardRoleWithoutPromote(t *testing.T) {
	configs, _ := guardOf(t, "secret")
	for _, rule := range configs.role.Rules {
		assert.NotContains(t, rule.Verbs, "delete")
	}
}

func TestGuardInstallAndRemove(t *testing.T) {
	ctx := t.Context()
	objects := chart{namespace: "prod", release: "cache", fullName: "cache-redis", replicas: 3, replication: true}.objects()
	client := newClient(fake.NewClientset(objects...), nil, "prod", time.Second)
	d, err := client.Resolve(ctx, operation.Target{Release: "cache"})
	require.NoError(t, err)
	spec := guard.Spec{Image: "redisctl/redisctl:1", Version: "1", Replicas: 2, Interval: time.Second, Timeout: time.Second, Promote: true, PromoteAfter: time.Minute}

	state, err := client.GuardState(ctx, d)
	require.NoError(t, err)
	assert.Equal(t, guard.State{}, state)
	require.NoError(t, client.ApplyGuard(ctx, d, spec))
	require.NoError(t, client.ApplyGuard(ctx, d, spec), "again")
	state, err = client.GuardState(ctx, d)
	require.NoError(t, err)
	assert.True(t, state.Deployed)
	assert.True(t, state.Promote)
	assert.Equal(t, time.Minute, state.PromoteAfter)
	assert.Equal(t, spec.Image, state.Image)
	assert.Len(t, state.Objects, 4)

	require.NoError(t, client.DeleteGuard(ctx, d, state.Objects))
	require.NoError(t, client.DeleteGuard(ctx, d, state.Objects), "again")
	state, err = client.GuardState(ctx, d)
	require.NoError(t, err)
	assert.Empty(t, state.Objects)
}

// What somebody else has made under the guard's name is neither taken over nor
// deleted.
func TestGuardLeavesOthersAlone(t *testing.T) {
	objects := chart{namespace: "prod", release: "cache", fullName: "cache-redis", replicas: 3, replication: true}.objects()
	objects = append(objects, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "redisctl-guard-cache-redis"}})
	client := newClient(fake.NewClientset(objects...), nil, "prod", time.Second)
	d, err := client.Resolve(t.Context(), operation.Target{Release: "cache"})
	require.NoError(t, err)
	_, err = client.GuardChanges(t.Context(), d, guard.Spec{Image: "i", Replicas: 1})
	assert.Equal(t, operation.Refused, operation.KindOf(err))
	assert.ErrorContains(t, err, "was not made by redisctl")
}

// A leader that is told to end finishes what it does before the Lease is given back.
func TestLeadGivesBackLast(t *testing.T) {
	_, d := guardOf(t, "")
	client := newClient(fake.NewClientset(), nil, "prod", time.Second)
	holder := func() string {
		lease, err := client.clientset.CoordinationV1().Leases("prod").Get(context.Background(), "redisctl-guard-cache-redis", metav1.GetOptions{})
		require.NoError(t, err)
		return *lease.Spec.HolderIdentity
	}
	ctx, cancel := context.WithCancel(t.Context())
	during := ""
	err := client.Lead(ctx, d, "me", func(string) {}, func(work context.Context) {
		cancel()
		<-work.Done()
		during = holder()
	})
	require.NoError(t, err)
	assert.Equal(t, "me", during)
	assert.Empty(t, holder())
}

func TestShortened(t *testing.T) {
	assert.Equal(t, "abc", shortened("abc", 3))
	assert.Equal(t, "ä...", shortened("äöüäö", 6))
}
