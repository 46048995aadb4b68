package kube

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/utils/ptr"

	"github.com/redisctl/redisctl/internal/operation"
)

// testImage is one of the images that `make cluster-up` imports.
const testImage = "redis:7.0.15"

// cluster is a namespace of the real cluster.
type cluster struct {
	kubeconfig string
	namespace  string
	config     *rest.Config
	admin      kubernetes.Interface
}

// newCluster makes a namespace that is deleted when the test ends.
func newCluster(t testing.TB) *cluster {
	t.Helper()
	if testing.Short() {
		t.Skip("needs the cluster")
	}
	discardLogs()
	cache := os.Getenv("REDISCTL_CACHE")
	if cache == "" {
		base, err := os.UserCacheDir()
		require.NoError(t, err)
		cache = filepath.Join(base, "redisctl")
	}
	c := &cluster{kubeconfig: filepath.Join(cache, "cluster", "kubeconfig")}
	config, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig)
	if err != nil {
		t.Fatalf("there is no cluster (%v): run make cluster-up", err)
	}
	config.QPS = -1
	c.config = config
	httpClient, err := rest.HTTPClientFor(config)
	require.NoError(t, err)
	t.Cleanup(httpClient.CloseIdleConnections)
	c.admin, err = kubernetes.NewForConfigAndClient(config, httpClient)
	require.NoError(t, err)
	namespace, err := c.admin.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "redisctl-kube-test-"},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("the cluster does not work (%v): run make cluster-up", err)
	}
	c.namespace = namespace.Name
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(t, c.admin.CoreV1().Namespaces().Delete(ctx, c.namespace, metav1.DeleteOptions{
			GracePeriodSeconds: ptr.To[int64](0),
		}))
	})
	return c
}

// install creates a release of one pod, in the shape of the chart, that runs
// redis-server with the given arguments, and waits until it runs. redis-server
// is not the container's first process, so that it can be stopped with a signal;
// its process ID is in /tmp/pid.
func (c *cluster) install(t testing.TB, release, arguments string) {
	t.Helper()
	for _, object := range (chart{
		namespace: c.namespace, release: release, replicas: 1, password: "secret", config: "save \"\"\n",
		pods: []corev1.Pod{}, noData: true,
	}).objects() {
		c.create(t, object, func(template *corev1.PodSpec) {
			redis := &template.Containers[0]
			redis.Image = testImage
			redis.ImagePullPolicy = corev1.PullNever
			redis.VolumeMounts = nil
			redis.Env = append(redis.Env, corev1.EnvVar{Name: "POD_IP", ValueFrom: &corev1.EnvVarSource{
				FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"},
			}})
			redis.Command = []string{"sh", "-c", "redis-server --save '' --protected-mode no " + arguments + " & echo $! >/tmp/pid; wait"}
			redis.Args = nil
			template.InitContainers[0].Image = testImage
			template.InitContainers[0].ImagePullPolicy = corev1.PullNever
			template.InitContainers[0].Command = []string{"true"}
			template.TerminationGracePeriodSeconds = ptr.To[int64](0)
		})
	}
	require.Eventually(t, func() bool {
		pod, err := c.admin.CoreV1().Pods(c.namespace).Get(t.Context(), release+"-0", metav1.GetOptions{})
		return err == nil && pod.Status.Phase == corev1.PodRunning && pod.Status.PodIP != ""
	}, 2*time.Minute, 100*time.Millisecond, "pod %s-0 runs", release)
}

// create creates an object of the chart; the StatefulSet's pods are changed to
// run here.
func (c *cluster) create(t testing.TB, object runtime.Object, change func(*corev1.PodSpec)) {
	t.Helper()
	var err error
	ctx, options := t.Context(), metav1.CreateOptions{}
	switch object := object.(type) {
	case *appsv1.StatefulSet:
		object.ResourceVersion, object.UID = "", ""
		change(&object.Spec.Template.Spec)
		_, err = c.admin.AppsV1().StatefulSets(c.namespace).Create(ctx, object, options)
	case *corev1.ConfigMap:
		_, err = c.admin.CoreV1().ConfigMaps(c.namespace).Create(ctx, object, options)
	case *corev1.Secret:
		_, err = c.admin.CoreV1().Secrets(c.namespace).Create(ctx, object, options)
	case *corev1.Service:
		object.Spec.ClusterIP = ""
		_, err = c.admin.CoreV1().Services(c.namespace).Create(ctx, object, options)
	case *discoveryv1.EndpointSlice:
		// The cluster makes its own.
	default:
		t.Fatalf("the chart has a %T", object)
	}
	if !apierrors.IsAlreadyExists(err) { // what releases share
		require.NoError(t, err)
	}
}

// open returns a client of the cluster by way of a kubeconfig that was changed.
func (c *cluster) open(t testing.TB, change func(*clientcmdapi.Config)) *Client {
	t.Helper()
	raw, err := clientcmd.LoadFromFile(c.kubeconfig)
	require.NoError(t, err)
	if change != nil {
		change(raw)
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, clientcmd.WriteToFile(*raw, path))
	client, err := Open(Options{Kubeconfig: path, Namespace: c.namespace, Timeout: 30 * time.Second})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return client
}

// resolve returns a release and its only instance.
func (c *cluster) resolve(t testing.TB, client *Client, release string) (*operation.Deployment, operation.Instance) {
	t.Helper()
	d, err := client.Resolve(t.Context(), operation.Target{Release: release})
	require.NoError(t, err)
	require.Len(t, d.Instances, 1)
	return d, d.Instances[0]
}

// address returns host:port of the API server.
func (c *cluster) address(t testing.TB) string {
	t.Helper()
	server, err := url.Parse(c.config.Host)
	require.NoError(t, err)
	return server.Host
}

// through makes a kubeconfig go through a TCP proxy.
func through(proxy string, c *cluster, t testing.TB) func(*clientcmdapi.Config) {
	return func(raw *clientcmdapi.Config) {
		for _, cluster := range raw.Clusters {
			host, _, _ := strings.Cut(c.address(t), ":")
			cluster.TLSServerName = host
			cluster.Server = "https://" + proxy
		}
	}
}

// withoutWebSocket makes a kubeconfig go through an HTTP proxy that refuses
// WebSocket, as some corporate ones do. It counts what it refused.
func (c *cluster) withoutWebSocket(t testing.TB, refused *int) func(*clientcmdapi.Config) {
	t.Helper()
	config := rest.CopyConfig(c.config)
	config.NextProtos = []string{"http/1.1"}
	transport, err := rest.TransportFor(config)
	require.NoError(t, err)
	target, err := url.Parse(c.config.Host)
	require.NoError(t, err)
	proxy := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
			*refused++
			http.Error(w, "WebSocket is not allowed here", http.StatusForbidden)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		utilnet.CloseIdleConnectionsFor(transport)
	})
	return func(raw *clientcmdapi.Config) {
		for _, cluster := range raw.Clusters {
			cluster.Server = server.URL
			cluster.CertificateAuthorityData = nil
			cluster.CertificateAuthority = ""
		}
	}
}

// as makes a kubeconfig log in as a service account with the given permissions.
func (c *cluster) as(t testing.TB, name string, rules ...rbacv1.PolicyRule) func(*clientcmdapi.Config) {
	t.Helper()
	ctx := t.Context()
	meta := metav1.ObjectMeta{Name: name}
	_, err := c.admin.CoreV1().ServiceAccounts(c.namespace).Create(ctx, &corev1.ServiceAccount{ObjectMeta: meta}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = c.admin.RbacV1().Roles(c.namespace).Create(ctx, &rbacv1.Role{ObjectMeta: meta, Rules: rules}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = c.admin.RbacV1().RoleBindings(c.namespace).Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: meta,
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Name: name, Namespace: c.namespace}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	token, err := c.admin.CoreV1().ServiceAccounts(c.namespace).CreateToken(ctx, name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	require.NoError(t, err)
	return func(raw *clientcmdapi.Config) {
		for user := range raw.AuthInfos {
			raw.AuthInfos[user] = &clientcmdapi.AuthInfo{Token: token.Status.Token}
		}
	}
}

// run executes a shell command in a release's container.
func (c *cluster) run(t testing.TB, client *Client, release, script string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	err := client.Exec(t.Context(), c.namespace, release+"-0", "redis", []string{"sh", "-c", script}, nil, &stdout, &stderr)
	require.NoError(t, err, stderr.String())
	return stdout.String()
}

// command sends an inline command and returns the first line of the reply.
func command(t testing.TB, conn io.ReadWriter, format string, args ...any) string {
	t.Helper()
	_, err := fmt.Fprintf(conn, format+"\r\n", args...)
	require.NoError(t, err)
	line := make([]byte, 0, 1<<16)
	for !bytes.Contains(line, []byte("\r\n")) {
		n, err := conn.Read(line[len(line):cap(line)])
		line = line[:len(line)+n]
		require.NoError(t, err)
	}
	return strings.TrimSpace(string(line))
}
