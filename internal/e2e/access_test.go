package e2e_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/redisctl/redisctl/internal/kube"
)

// changed writes a copy of the cluster's kubeconfig with a change and returns its path.
func (c *cluster) changed(t *testing.T, change func(*clientcmdapi.Config)) string {
	t.Helper()
	return changed(t, c.kubeconfig, change)
}

// changed writes a copy of a kubeconfig with a change and returns its path.
func changed(t *testing.T, kubeconfig string, change func(*clientcmdapi.Config)) string {
	t.Helper()
	config, err := clientcmd.LoadFromFile(kubeconfig)
	require.NoError(t, err)
	change(config)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, clientcmd.WriteToFile(*config, path))
	return path
}

// withServer writes a kubeconfig with another API server.
func (c *cluster) withServer(t *testing.T, server string) string {
	t.Helper()
	return c.changed(t, func(config *clientcmdapi.Config) {
		for _, cluster := range config.Clusters {
			cluster.Server = server
		}
	})
}

// withToken writes a kubeconfig with other credentials.
func (c *cluster) withToken(t *testing.T, token string) string {
	t.Helper()
	return c.changed(t, func(config *clientcmdapi.Config) {
		for name := range config.AuthInfos {
			config.AuthInfos[name] = &clientcmdapi.AuthInfo{Token: token}
		}
	})
}

// permission is one line of a Role: "get,list pods".
type permission string

func (p permission) rule() rbacv1.PolicyRule {
	verbs, resource, _ := strings.Cut(string(p), " ")
	group := map[string]string{
		"statefulsets": "apps", "endpointslices": "discovery.k8s.io", "leases": "coordination.k8s.io", "poddisruptionbudgets": "policy",
		"volumesnapshots": "snapshot.storage.k8s.io",
	}[resource]
	return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: []string{resource}, Verbs: strings.Split(verbs, ",")}
}

// operatorRole is what an operator needs for everything that redisctl does.
var operatorRole = []permission{
	"get,list,patch statefulsets",
	"get,list,delete pods",
	"get,list,patch services",
	"list poddisruptionbudgets",
	"list endpointslices",
	"get configmaps",
	"get secrets",
	"get,create pods/portforward",
	"get,create pods/exec",
	"get,create,update leases",
}

// without returns the role without what concerns a resource.
func without(resources ...string) []permission {
	return slices.DeleteFunc(slices.Clone(operatorRole), func(p permission) bool {
		_, resource, _ := strings.Cut(string(p), " ")
		return slices.Contains(resources, resource)
	})
}

// operator makes a service account with the given permissions in the namespace and
// returns a kubeconfig with its token.
func (e *environment) operator(t *testing.T, namespace string, role []permission) (kubeconfig string) {
	t.Helper()
	ctx := t.Context()
	account, err := e.CoreV1().ServiceAccounts(namespace).Create(ctx,
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{GenerateName: "operator-"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	named := metav1.ObjectMeta{Name: account.Name}
	rules := make([]rbacv1.PolicyRule, len(role))
	for i, p := range role {
		rules[i] = p.rule()
	}
	_, err = e.RbacV1().Roles(namespace).Create(ctx, &rbacv1.Role{ObjectMeta: named, Rules: rules}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = e.RbacV1().RoleBindings(namespace).Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: named,
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: account.Name},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: account.Name, Namespace: namespace}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	token, err := e.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, account.Name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	require.NoError(t, err)

	// The API server's authorizer learns of a Role a moment later.
	first := rules[0]
	eventually(t, "the permissions of "+account.Name, func(ctx context.Context) error {
		review, err := e.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{
			Spec: authorizationv1.SubjectAccessReviewSpec{
				User: "system:serviceaccount:" + namespace + ":" + account.Name,
				ResourceAttributes: &authorizationv1.ResourceAttributes{
					Namespace: namespace, Verb: first.Verbs[0], Group: first.APIGroups[0], Resource: first.Resources[0],
				},
			},
		}, metav1.CreateOptions{})
		if err == nil && !review.Status.Allowed {
			err = fmt.Errorf("not allowed yet: %s", review.Status.Reason)
		}
		return err
	})
	return e.withToken(t, token.Status.Token)
}

// What is not allowed is named, with the permission to ask for.
func testPermissions(t *testing.T, r *release) {
	as := func(t *testing.T, role []permission) *session {
		return r.session(t).with("KUBECONFIG", r.env.operator(t, r.namespace, role))
	}
	t.Run("all", func(t *testing.T) {
		s := as(t, operatorRole)
		for _, command := range observing {
			s.run(command...).exits(0)
		}
		s.run("backup", "rdb").exits(0)
		s.run("backup", "rdb", "--method", "bgsave").exits(0)
	})
	t.Run("pods/portforward", func(t *testing.T) {
		s := as(t, without("pods/portforward"))
		for _, command := range append(slices.Clone(observing), []string{"backup", "rdb"}, []string{"backup", "rdb", "--method", "bgsave"}) {
			s.run(command...).exits(8).says("create pods/portforward", r.namespace, "next: ")
		}
		assert.Empty(t, files(t, s.dir))
	})
	t.Run("statefulsets", func(t *testing.T) {
		s := as(t, without("statefulsets"))
		s.run("health").exits(8).says("list statefulsets", r.namespace)
		s.run("health", "-o", "json").exits(8).says("list statefulsets")
		s.run("health", "--all-namespaces").exits(8).says("list statefulsets in all namespaces")
	})
	t.Run("pods", func(t *testing.T) { as(t, without("pods")).run("health").exits(8).says("list pods") })
	t.Run("secrets", func(t *testing.T) {
		as(t, without("secrets")).run("replication", "info").exits(8).says("get secrets", "secret "+r.namespace+"/"+r.workload)
	})
	t.Run("pods/exec", func(t *testing.T) {
		s := as(t, without("pods/exec"))
		s.run("backup", "rdb").exits(0)
		s.run("backup", "rdb", "--method", "bgsave").exits(8).says("create pods/exec")
	})
	t.Run("leases", func(t *testing.T) {
		s := as(t, without("leases"))
		before := r.info(t, 1)["rdb_last_save_time"]
		s.run("backup", "rdb", "--method", "bgsave", "--pod", r.podName(1)).exits(8).says("leases")
		assert.Equal(t, before, r.info(t, 1)["rdb_last_save_time"], "nothing was saved")
		assert.Empty(t, files(t, s.dir))
	})
	t.Run("services", func(t *testing.T) {
		s := as(t, without("services"))
		report := decode[healthReport](s.run("health", "-o", "json").exits(10))
		require.Len(t, report.Findings, 1)
		f := named(t, report, "not-checked", "services")
		assert.Contains(t, f.Message, "list services")
		s.run("replication", "check").exits(10).shows("not ready", "[not-checked]")
		s.run("backup", "rdb").exits(0)
	})
	t.Run("configmaps", func(t *testing.T) {
		report := decode[healthReport](as(t, without("configmaps")).run("health", "-o", "json").exits(0))
		assert.Contains(t, named(t, report, "not-checked", "config").Message, "get configmaps")
	})
	t.Run("another namespace", func(t *testing.T) {
		s := as(t, operatorRole)
		s.flags = []string{"--namespace", "kube-system"}
		s.run("health").exits(8).says("list statefulsets", "kube-system")
	})
	t.Run("wrong token", func(t *testing.T) {
		r.session(t).with("KUBECONFIG", r.env.withToken(t, "not-a-token")).run("health").exits(8).says("credentials", "Unauthorized")
	})
}

// files lists the regular files in and below a folder, by their paths inside it.
func files(t *testing.T, folder string) []string {
	t.Helper()
	list := []string{}
	require.NoError(t, filepath.WalkDir(folder, func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			var name string
			if name, err = filepath.Rel(folder, path); err == nil {
				list = append(list, name)
			}
		}
		return err
	}))
	return list
}

// The target is found, or the error says what there is.
func testTarget(t *testing.T, r *release, s *session) {
	bare := func() *session {
		clone := *s.in(t)
		clone.flags = nil
		return &clone
	}
	bare().run("health", "-n", r.namespace).exits(0)
	bare().with("REDISCTL_NAMESPACE", r.namespace).run("replication", "primary").exits(0)
	bare().run("replication", "primary", "--pod", r.podName(1), "-n", r.namespace).exits(0).shows(r.podName(0))
	bare().with("REDISCTL_NAMESPACE", "default").run("replication", "primary", "-n", r.namespace).exits(0)
	bare().run("health", "-n", r.namespace, "-r", "absent").exits(2).says(`"absent"`, r.name)
	bare().run("health", "-n", r.namespace, "--pod", r.podName(9)).exits(2).says(r.podName(0), r.podName(1), r.podName(2))
	bare().run("health", "-n", "no-such-namespace").exits(2).says(`namespace "no-such-namespace" does not exist`, r.namespace)
	bare().run("health", "-n", "kube-system").exits(2).says("no Redis release in namespace kube-system", r.namespace)
	bare().run("health", "-n", r.namespace, "--address", "127.0.0.1:1").exits(2).says("--address")
	bare().run("health", "-n", r.namespace, "--context", "nowhere").exits(2).says(`no context "nowhere"`, "there are: ")
	bare().run("health", "-n", r.namespace, "--kubeconfig", "absent.yaml").exits(2).says("absent.yaml", "no such file")

	broken := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(broken, []byte("clusters: ["), 0o600))
	bare().with("KUBECONFIG", broken).run("health").exits(2).says(broken)

	// With neither KUBECONFIG nor a file at its default place there is no cluster,
	// and with a file there it is used.
	unset := bare()
	delete(unset.with("", "").env, "KUBECONFIG")
	unset = unset.with("KUBECONFIG", "")
	unset.run("health").exits(2).says("no cluster is configured", "--kubeconfig")
	folder := filepath.Join(unset.env["HOME"], ".kube")
	require.NoError(t, os.MkdirAll(folder, 0o700))
	text, err := os.ReadFile(r.env.kubeconfig)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(folder, "config"), text, 0o600))
	unset.run("health", "-n", r.namespace).exits(0)
	unset.run("health", "-n", r.namespace, "--kubeconfig", r.env.kubeconfig).exits(0)

	// Nothing listens there: an answer comes at once. Nothing answers there: within
	// the time-out.
	refused := bare().with("KUBECONFIG", r.env.withServer(t, "https://127.0.0.1:1"))
	refused.run("health").exits(1).within(10*time.Second).says("https://127.0.0.1:1", "cannot be reached", "--context")
	silent := bare().with("KUBECONFIG", r.env.withServer(t, "https://"+silentServer(t)))
	silent.run("health", "--timeout", "2s").exits(7).within(20 * time.Second).says("no answer within 2s")
}

// silentServer accepts connections and says nothing. It returns its address.
func silentServer(t *testing.T) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() }) // the test is over
	return listener.Addr().String()
}

// openKube returns redisctl's own client of the cluster.
func openKube(t *testing.T, e *environment) *kube.Client {
	t.Helper()
	client, err := kube.Open(kube.Options{Kubeconfig: e.kubeconfig})
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() }) // the test is over
	return client
}
