package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/access"
)

// looking are commands that change nothing. They run under exactly the Role that redisctl
// prints for them, and without each single permission of it.
var looking = [][]string{
	{"health"}, {"health", "ping"}, {"health", "version"}, {"info"},
	{"info", "stats"}, {"info", "clients"}, {"info", "config"}, {"info", "memory"}, {"info", "metrics"},
	{"replication", "info"}, {"replication", "primary"}, {"replication", "role"}, {"replication", "lag"}, {"replication", "check"},
	{"backup", "rdb"}, {"backup", "config"}, {"backup", "resources"}, {"backup", "list", "--volumes"},
	{"failover", "status"}, {"failover", "guard", "status"}, {"upgrade", "status"}, {"upgrade", "validate", "--quick"}, {"restore", "status"},
	{"maintenance", "dbsize"}, {"maintenance", "keys"}, {"keys"}, {"maintenance", "bigkeys"}, {"maintenance", "slowlog"},
	{"maintenance", "latency", "--for", "1s"}, {"maintenance", "latency", "doctor"}, {"maintenance", "memory"}, {"maintenance", "lastsave"},
	{"maintenance", "monitor", "--for", "100ms"}, {"maintenance", "exec"},
	{"logs"}, {"describe"}, {"events"}, {"top", "--once"}, {"shell"},
}

// job is a command that changes something.
type job struct {
	args []string
	// holds are the conditions of permissions that its plan meets.
	holds []string
	// killed is a command whose note is on the workload when it is killed, before the job.
	killed []string
	note   string
}

// changing are commands that do their work under that Role, in this order. Each of them
// is tried before without each single permission that it needs: it ends before it has
// changed anything.
var changing = []job{
	{args: []string{"backup", "aof"}},
	{args: []string{"backup", "full"}},
	{args: []string{"maintenance", "save", "--yes"}},
	{args: []string{"maintenance", "bgsave"}},
	{args: []string{"maintenance", "aof-rewrite"}},
	{args: []string{"support-bundle"}},
	{args: []string{"failover", "guard", "install", "--image", guardImageName, "--yes"}},
	{args: []string{"failover", "guard", "remove", "--yes"}},
	{args: []string{"failover", "promote", "--yes"}},
	{args: []string{"failover", "failback", "--yes"}},
	{args: []string{"failover", "resume"}, killed: promoting, note: operation.NoteFailover},
	{args: []string{"failover", "abort"}, killed: promoting, note: operation.NoteFailover},
	{args: []string{"replication", "resync", "cache-redis-1"}},
	{args: []string{"replication", "heal", "--yes"}},
	{args: []string{"restore", "rdb", "latest", "--method", "live", "--replace", "--yes"}},
	{args: []string{"restore", "test", "latest", "--in", "pod"}},
	{args: restoring, holds: []string{access.OnVolume}},
	{args: []string{"restore", "abort", "--yes"}, holds: []string{access.Begun}, killed: restoring, note: operation.NoteRestore},
	{args: []string{"restore", "resume", "--yes"}, holds: []string{access.Begun}, killed: restoring, note: operation.NoteRestore},
	{args: []string{"restore", "aof", "latest", "--replace", "--yes"}},
	{args: []string{"restore", "config", "latest", "--yes"}},
	{args: []string{"restore", "cleanup", "--yes"}},
	{args: []string{"upgrade", "check", "--no-trial"}},
	{args: upgrading("at once"), holds: []string{access.InPods}},
	{args: []string{"upgrade", "rollback", "--yes", "--no-trial"}, holds: []string{access.InPods}},
	{args: []string{"upgrade", "resume", "--yes"}, holds: []string{access.Begun}, killed: upgrading("resumed"), note: operation.NoteUpgrade},
	{args: []string{"upgrade", "abort", "--yes"}, holds: []string{access.Begun}, killed: upgrading("aborted"), note: operation.NoteUpgrade},
	{args: []string{"maintenance", "flushdb", "--yes"}},
	{args: []string{"maintenance", "flushall", "--yes"}},
	{args: []string{"failover", "force", "--allow-alive", "--yes"}},
	{args: []string{"failover", "failback", "--yes"}},
}

// beside are those of a second release; the first one is not much of a release afterwards.
var beside = []job{
	{args: doubling, holds: []string{access.Beside}},
	{args: []string{"upgrade", "abort", "--yes"}, holds: []string{access.Second}},
	{args: doubling, holds: []string{access.Beside}},
	{args: []string{"upgrade", "cutover", "--yes"}},
	{args: []string{"upgrade", "failback", "--yes"}},
	{args: []string{"upgrade", "cutover", "--yes"}},
	{args: []string{"upgrade", "finish", "--yes"}},
}

var (
	doubling  = []string{"upgrade", "apply", "--strategy", "blue-green", "--to", "8.0.2", "--yes", "--no-trial"}
	promoting = []string{"failover", "promote", "--yes"}
	restoring = []string{"restore", "rdb", "latest", "--method", "volume", "--replace", "--yes"}
)

// upgrading returns an upgrade that changes the pods.
func upgrading(how string) []string {
	return []string{"upgrade", "apply", "--set", "podAnnotations.upgraded=" + how, "--failback", "--yes", "--no-trial"}
}

// elsewhere are commands that other tests run under exactly their Role, or that are tested
// under another name.
var elsewhere = map[string]string{
	"failover guard run": "the guard of TestGuard has no other permissions", "promote": "failover promote",
	"maintenance shell": "shell", "maintenance logs": "logs", "maintenance describe": "describe", "maintenance events": "events",
	"maintenance top": "top", "maintenance port-forward": "port-forward",
	"maintenance latency history": "maintenance latency doctor", "maintenance latency histogram": "maintenance latency doctor",
	"rbac": "every call of this test asks it",
}

// Whatever asks Kubernetes for something is tried under its Role.
func TestEveryRoleIsTried(t *testing.T) {
	tried := map[string]bool{"backup volume": true, "restore volume": true, "restore full": true} // TestLeastPrivilege, by name
	for _, call := range slices.Concat(looking, goingOn) {
		tried[commandOf(call)] = true
	}
	for _, j := range slices.Concat(changing, beside) {
		tried[commandOf(j.args)] = true
	}
	for _, n := range access.Table() {
		same, ok := access.Of(elsewhere[n.Command])
		switch {
		case tried[n.Command], len(n.Rules) == 0, elsewhere[n.Command] != "" && !ok:
		case ok:
			assert.True(t, tried[same.Command], "%s is tested as %s", n.Command, same.Command)
			assert.Equal(t, same.Rules, n.Rules, "%s is tested as %s", n.Command, same.Command)
		default:
			t.Errorf("%s is not tried under its Role", n.Command)
		}
	}
}

// commandOf returns the command of a call: the most words of it that name one.
func commandOf(call []string) string {
	for n := len(call); n > 0; n-- {
		name := strings.Join(call[:n], " ")
		if _, ok := access.Of(name); ok {
			return name
		}
	}
	return call[0]
}

func TestLeastPrivilege(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.onNode(t)
	require.NoError(t, importGuardImage())
	r := e.install(t, e.namespace(t, "rbac"), chart{
		files: []string{"replica-password.yaml", "metrics.yaml"}, replicas: 1, password: randomPassword(),
		config: append(slices.Clone(quickSync), "appendonly yes"),
	})
	base := r.session(t) // they share its backups
	for i, j := range changing {
		r.tryJob(t, base, j, fmt.Sprintf("changing-%d", i))
	}
	t.Run("looking", func(t *testing.T) {
		for i, call := range looking {
			t.Run(strings.ReplaceAll(commandOf(call), " ", "-"), func(t *testing.T) {
				t.Parallel()
				r.tryLooking(t, call, fmt.Sprintf("looking-%d", i))
			})
		}
		t.Run("all namespaces", func(t *testing.T) {
			t.Parallel()
			r.tryEverywhere(t)
		})
		for i, call := range goingOn {
			t.Run(commandOf(call), func(t *testing.T) {
				t.Parallel()
				r.tryGoingOn(t, call, fmt.Sprintf("going-on-%d", i))
			})
		}
		t.Run("volumes", func(t *testing.T) {
			t.Parallel()
			onVolume := e.install(t, e.namespace(t, "rbac-volume"), chart{files: []string{"standalone.yaml"}, values: onCSI})
			s := onVolume.session(t)
			onVolume.tryJob(t, s, job{args: []string{"backup", "volume"}}, "backup")
			made := decode[volumeResult](s.run("backup", "volume", "-o", "json").exits(0))
			onVolume.tryJob(t, s, job{args: []string{"restore", "volume", made.Snapshots[0].Name, "--replace", "--yes"}}, "restore")
		})
		t.Run("from nothing", func(t *testing.T) {
			t.Parallel()
			empty := r.at(t, e.namespace(t, "rbac-full"))
			password := filepath.Join(t.TempDir(), "password")
			require.NoError(t, os.WriteFile(password, []byte(r.password), 0o600))
			empty.tryJob(t, base.in(t), job{args: []string{"restore", "full", "latest", "--into", empty.namespace, "--password-file", password, "--yes"}}, "full")
		})
	})
	for i, j := range beside {
		r.tryJob(t, base, j, fmt.Sprintf("beside-%d", i))
	}
}

// tryEverywhere runs a command over all namespaces under its ClusterRole. Other tests
// have releases there that may be ill or go away.
func (r *release) tryEverywhere(t *testing.T) {
	t.Helper()
	s := r.session(t)
	var list struct{ Items []granted }
	require.NoError(t, json.Unmarshal([]byte(s.run("rbac", "health", "-A", "-o", "json").exits(0).stdout), &list))
	s.flags = nil
	got := s.with("KUBECONFIG", r.env.impersonating(t, r.namespace, "everywhere", list.Items)).run("health", "-A")
	assert.Contains(t, []int{0, 3, 10}, got.code, "%s", got)
	assert.NotContains(t, got.stdout+got.stderr, "not allowed")
	for n, less := range oneLess(list.Items) {
		if less.String() == "list statefulsets" {
			s.with("KUBECONFIG", r.env.impersonating(t, r.namespace, fmt.Sprint("everywhere-", n), less.objects)).
				run("health", "-A").exits(8).says("list statefulsets", "in all namespaces")
		}
	}
}

// goingOn are commands that look until Ctrl-C.
var goingOn = [][]string{{"port-forward", "0"}, {"events", "--watch"}, {"info", "stats", "--watch"}, {"logs", "--follow"}}

// tryGoingOn runs such a command under its Role until it has printed something.
func (r *release) tryGoingOn(t *testing.T, call []string, user string) {
	t.Helper()
	s := r.session(t).with("KUBECONFIG", r.env.impersonating(t, r.namespace, user, r.roles(t, commandOf(call))))
	out, _, stop := s.goesOn(t, call...)
	eventually(t, "its output", func(context.Context) error { return absent(out, "\n") })
	stop()
}

// tryLooking runs a command under its Role, and without each single permission of it.
func (r *release) tryLooking(t *testing.T, call []string, user string) {
	t.Helper()
	command := commandOf(call)
	need, ok := access.Of(command)
	require.True(t, ok)
	full := r.roles(t, command)
	base := r.session(t)
	if command == "maintenance exec" || command == "shell" {
		base.flags = append(base.flags, "--", "PING")
	}
	s := base.with("KUBECONFIG", r.env.impersonating(t, r.namespace, user, full))
	// A check may find something; it was allowed to look.
	got := s.run(call...)
	assert.Contains(t, []int{0, 10}, got.code, "%s", got.stderr)
	for n, less := range oneLess(full) {
		got := base.with("KUBECONFIG", r.env.impersonating(t, r.namespace, fmt.Sprint(user, "-", n), less.objects)).run(call...)
		if less.needed(need, nil) {
			less.refused(t, got, r.namespace)
		} else {
			assert.Contains(t, []int{0, 3, 8, 10}, got.code, "without %s: %s", less, got.stderr)
		}
	}
}

// tryJob runs a command that changes something without each single permission that it
// needs, which changes nothing, and then under its Role.
func (r *release) tryJob(t *testing.T, base *session, j job, user string) {
	t.Helper()
	command := commandOf(j.args)
	need, ok := access.Of(command)
	require.True(t, ok)
	full := r.roles(t, command)
	if j.killed != nil {
		r.killOnce(t, base, j.killed, j.note)
	}
	before := r.state(t)
	t.Run(strings.ReplaceAll(command, " ", "-"), func(t *testing.T) {
		for n, less := range oneLess(full) {
			if !less.needed(need, j.holds) {
				continue
			}
			t.Run("without "+less.String(), func(t *testing.T) {
				t.Parallel()
				s := base.in(t).with("KUBECONFIG", r.env.impersonating(t, r.namespace, fmt.Sprint(user, "-", n), less.objects))
				less.refused(t, s.run(j.args...), r.namespace)
			})
		}
	})
	assert.Equal(t, before, r.state(t), "%s changed something although it was not allowed to", command)
	got := base.with("KUBECONFIG", r.env.impersonating(t, r.namespace, user, full)).run(j.args...)
	assert.Contains(t, []int{0, 10}, got.code, "%s: %s", command, got.stderr)
}

// killOnce starts a command and kills it when its note is on the workload. What it has
// locked is given back by hand, as its lock tells who is certain that nobody works.
func (r *release) killOnce(t *testing.T, s *session, args []string, note string) {
	t.Helper()
	c := s.start(args...)
	c.while("the note of "+strings.Join(args, " "), func(ctx context.Context) error {
		set, err := r.statefulSet(ctx)
		if err == nil && set.Annotations[note] == "" {
			err = errors.New("it is not there")
		}
		return err
	})
	c.signal(os.Kill)
	c.wait()
	require.NoError(t, r.env.CoordinationV1().Leases(r.namespace).Delete(t.Context(), "redisctl-"+r.workload, metav1.DeleteOptions{}))
}

// state is what a command may change of a release.
func (r *release) state(t *testing.T) map[string]string {
	t.Helper()
	state := map[string]string{}
	sets, err := r.env.AppsV1().StatefulSets(r.namespace).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	for i := range sets.Items {
		state["statefulset "+sets.Items[i].Name] = fmt.Sprint(sets.Items[i].Generation, sets.Items[i].Annotations)
	}
	services, err := r.env.CoreV1().Services(r.namespace).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	for i := range services.Items {
		state["service "+services.Items[i].Name] = services.Items[i].ResourceVersion
	}
	pods, err := r.env.CoreV1().Pods(r.namespace).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	for i := range pods.Items {
		if pods.Items[i].DeletionTimestamp == nil { // else it is on its way out already
			state["pod "+pods.Items[i].Name] = string(pods.Items[i].UID)
		}
	}
	secrets, err := r.env.CoreV1().Secrets(r.namespace).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	for i := range secrets.Items {
		state["secret "+secrets.Items[i].Name] = secrets.Items[i].ResourceVersion
	}
	return state
}

// granted is one Role or ClusterRole.
type granted struct {
	Kind  string
	Rules []rbacv1.PolicyRule
}

// roles is what redisctl says that a command needs.
func (r *release) roles(t *testing.T, command string) []granted {
	t.Helper()
	s := r.session(t)
	if command == "restore full" {
		s.flags = []string{"-n", r.namespace} // the release is not there yet
	}
	var list struct{ Items []granted }
	out := s.run(append(append([]string{"rbac"}, strings.Fields(command)...), "-o", "json")...).exits(0).stdout
	require.NoError(t, json.Unmarshal([]byte(out), &list))
	require.NotEmpty(t, list.Items)
	return list.Items
}

// lesser is a set of roles without one permission.
type lesser struct {
	objects     []granted
	rule        rbacv1.PolicyRule
	verb        string
	clusterWide bool
}

func (l lesser) String() string { return l.verb + " " + l.rule.Resources[0] }

// needed reports whether the command ends without the permission, when the conditions hold.
func (l lesser) needed(n access.Need, holds []string) bool {
	return slices.ContainsFunc(n.Rules, func(r access.Rule) bool {
		return r.Needed(holds...) && r.Cluster == l.clusterWide &&
			r.Resource == l.rule.Resources[0] && slices.Contains(r.Verbs, l.verb) && r.Group == l.rule.APIGroups[0]
	})
}

// refused asserts that the missing permission is named.
func (l lesser) refused(t *testing.T, got *result, namespace string) {
	t.Helper()
	assert.Equal(t, 8, got.code, "without %s: %s", l, got)
	// Helm's errors are in the API server's words.
	if !strings.Contains(got.stderr, fmt.Sprintf("cannot %s resource %q", l.verb, l.rule.Resources[0])) {
		assert.Contains(t, got.stderr, l.String())
	}
	if !l.clusterWide {
		assert.Contains(t, got.stderr, namespace)
	}
}

// oneLess takes each verb of each rule away, one at a time.
func oneLess(full []granted) []lesser {
	var all []lesser
	for o, object := range full {
		for i, rule := range object.Rules {
			for k, verb := range rule.Verbs {
				less := slices.Clone(full)
				less[o].Rules = slices.Clone(object.Rules)
				less[o].Rules[i].Verbs = slices.Delete(slices.Clone(rule.Verbs), k, k+1)
				if len(less[o].Rules[i].Verbs) == 0 {
					less[o].Rules = slices.Delete(less[o].Rules, i, i+1)
				}
				all = append(all, lesser{less, rule, verb, object.Kind == "ClusterRole"})
			}
		}
	}
	return all
}

// impersonating gives a user of that name the rules, and returns a kubeconfig that acts
// as them: nothing else of the administrator's permissions is left.
func (e *environment) impersonating(t *testing.T, namespace, user string, objects []granted) (kubeconfig string) {
	t.Helper()
	user = namespace + "-" + user
	subjects := []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}}
	named := metav1.ObjectMeta{Name: user, Labels: map[string]string{ownerLabel: machine()}}
	// What tells that the API server has learned of the Role.
	probe := rbacv1.PolicyRule{APIGroups: []string{"redisctl.dev"}, Resources: []string{"probes"}, Verbs: []string{"get"}}
	rules := []rbacv1.PolicyRule{probe}
	var clusterWide []rbacv1.PolicyRule
	for _, o := range objects {
		if o.Kind == "ClusterRole" {
			clusterWide = append(clusterWide, o.Rules...)
		} else {
			rules = append(rules, o.Rules...)
		}
	}
	_, err := e.RbacV1().Roles(namespace).Create(t.Context(), &rbacv1.Role{ObjectMeta: named, Rules: rules}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = e.RbacV1().RoleBindings(namespace).Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: named, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: user}, Subjects: subjects,
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	if clusterWide != nil {
		t.Cleanup(func() {
			ctx := context.WithoutCancel(t.Context())
			assert.NoError(t, e.RbacV1().ClusterRoleBindings().Delete(ctx, user, metav1.DeleteOptions{}))
			assert.NoError(t, e.RbacV1().ClusterRoles().Delete(ctx, user, metav1.DeleteOptions{}))
		})
		_, err := e.RbacV1().ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{ObjectMeta: named, Rules: clusterWide}, metav1.CreateOptions{})
		require.NoError(t, err)
		_, err = e.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
			ObjectMeta: named, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: user}, Subjects: subjects,
		}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	eventually(t, "the permissions of "+user, func(ctx context.Context) error {
		review, err := e.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{
			Spec: authorizationv1.SubjectAccessReviewSpec{
				User:               user,
				ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: namespace, Verb: "get", Group: "redisctl.dev", Resource: "probes"},
			},
		}, metav1.CreateOptions{})
		if err == nil && !review.Status.Allowed {
			err = fmt.Errorf("not allowed yet: %s", review.Status.Reason)
		}
		return err
	})
	return filepath.Clean(e.changed(t, func(config *clientcmdapi.Config) {
		for _, info := range config.AuthInfos {
			info.Impersonate = user
			info.ImpersonateGroups = []string{"system:authenticated"}
		}
	}))
}
