package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// contextVariable names a context of the current kubeconfig to test on, instead of
// the local cluster.
const contextVariable = "REDISCTL_E2E_CONTEXT"

// ownerLabel is on every namespace of these tests. Its value is the machine that
// runs them, so that two machines can share a cluster.
const ownerLabel = "redisctl.github.io/e2e"

// cluster is the Kubernetes that the tests run on.
type cluster struct {
	// kubeconfig is a file with exactly one context: nothing that is run with it
	// can reach another cluster.
	kubeconfig string
	config     *rest.Config
	kubernetes.Interface
	// auditLog is the API server's, empty where it is not on this machine. The
	// node's processes are then not on this machine either.
	auditLog string
}

// openCluster connects to the cluster that package e2e describes.
func openCluster(ctx context.Context, cache, scratch string) (cluster, error) {
	c := cluster{kubeconfig: filepath.Join(scratch, "kubeconfig")}
	local := filepath.Join(cache, "cluster", "kubeconfig")
	rules, overrides := &clientcmd.ClientConfigLoadingRules{ExplicitPath: local}, &clientcmd.ConfigOverrides{}
	missing := "the local cluster is not up: run `make cluster-up`"
	if name := os.Getenv(contextVariable); name != "" {
		rules, overrides.CurrentContext = clientcmd.NewDefaultClientConfigLoadingRules(), name
		missing = fmt.Sprintf("the cluster of %s=%s cannot be used", contextVariable, name)
	} else {
		c.auditLog = filepath.Join(cache, "cluster", "logs", "audit.log")
	}
	fail := func(err error) (cluster, error) { return cluster{}, fmt.Errorf("%s (%w)", missing, err) }

	raw, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides).RawConfig()
	if err != nil {
		return fail(err)
	}
	if overrides.CurrentContext != "" {
		raw.CurrentContext = overrides.CurrentContext
	}
	if err := errors.Join(clientcmdapi.MinifyConfig(&raw), clientcmdapi.FlattenConfig(&raw)); err != nil {
		return fail(err)
	}
	if err := clientcmd.WriteToFile(raw, c.kubeconfig); err != nil {
		return fail(err)
	}
	if c.config, err = clientcmd.BuildConfigFromFlags("", c.kubeconfig); err != nil {
		return fail(err)
	}
	c.config.QPS = -1 // the API server shares itself out
	if c.Interface, err = kubernetes.NewForConfig(c.config); err != nil {
		return fail(err)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if _, err = c.CoreV1().Namespaces().List(ctx, metav1.ListOptions{Limit: 1}); err != nil {
		return fail(err)
	}
	return c, nil
}

// onNode skips the test where the node is another machine.
func (c *cluster) onNode(t *testing.T) {
	t.Helper()
	if c.auditLog == "" {
		t.Skip("needs the node's processes and logs, which are not on this machine (" + contextVariable + " is set)")
	}
}

// machine is the value of ownerLabel.
func machine() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return strings.Trim(regexp.MustCompile(`[^A-Za-z0-9-]`).ReplaceAllString(name, "-"), "-")
}

// namespace makes a namespace for one test, deleted at its end.
func (c *cluster) namespace(t *testing.T, name string) string {
	t.Helper()
	created, err := c.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		GenerateName: "e2e-" + name + "-",
		Labels:       map[string]string{ownerLabel: machine()},
	}}, metav1.CreateOptions{})
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			c.describe(t, created.Name)
			if os.Getenv("REDISCTL_E2E_KEEP") != "" {
				t.Logf("namespace %s is kept", created.Name)
				return
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := c.CoreV1().Namespaces().Delete(ctx, created.Name, metav1.DeleteOptions{}); err != nil {
			t.Errorf("deleting namespace %s: %v", created.Name, err)
		}
	})
	return created.Name
}

// describe logs what helps to understand a failed test.
func (c *cluster) describe(t *testing.T, namespace string) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	pods, err := c.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Logf("listing the pods of %s: %v", namespace, err)
		return
	}
	lines := int64(15)
	for _, pod := range pods.Items {
		log, err := c.CoreV1().Pods(namespace).GetLogs(pod.Name, &corev1.PodLogOptions{TailLines: &lines}).DoRaw(ctx)
		t.Logf("pod %s/%s, phase %s, log (%v):\n%s", namespace, pod.Name, pod.Status.Phase, err, log)
	}
	events, err := c.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: "type=Warning"})
	if err != nil {
		t.Logf("listing the events of %s: %v", namespace, err)
		return
	}
	for _, e := range events.Items {
		t.Logf("event on %s: %s: %s", e.InvolvedObject.Name, e.Reason, e.Message)
	}
}

// owned lists the namespaces that tests of this machine have made.
func (c *cluster) owned(ctx context.Context) ([]corev1.Namespace, error) {
	list, err := c.CoreV1().Namespaces().List(ctx, metav1.ListOptions{LabelSelector: ownerLabel + "=" + machine()})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

func (c *cluster) deleteNamespaces(ctx context.Context) error {
	left, err := c.owned(ctx)
	if err != nil {
		return err
	}
	for _, namespace := range left {
		err := c.CoreV1().Namespaces().Delete(ctx, namespace.Name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return fmt.Errorf("deleting namespace %s: %w", namespace.Name, err)
		}
	}
	return nil
}

// awaitNamespacesGone returns when nothing of the tests is left, apart from what
// REDISCTL_E2E_KEEP keeps.
func (c *cluster) awaitNamespacesGone(ctx context.Context) error {
	return poll(ctx, func(ctx context.Context) error {
		left, err := c.owned(ctx)
		if err != nil {
			return err
		}
		for _, namespace := range left {
			if namespace.DeletionTimestamp != nil {
				return fmt.Errorf("namespace %s is still being deleted", namespace.Name)
			}
		}
		return nil
	})
}

// poll asks until condition returns nil. Its error is the condition's last, unless that
// is only that time is up.
func poll(ctx context.Context, condition func(context.Context) error) error {
	var last error
	for {
		err := condition(ctx)
		switch {
		case err == nil:
			return nil
		case last != nil && ctx.Err() != nil:
			return last
		}
		last = err
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// patience is how long a test waits for the cluster: much longer than it takes, so
// that only what is really stuck fails on a busy machine.
const patience = 3 * time.Minute

// eventually waits for a condition, which returns nil when it is met.
func eventually(t *testing.T, what string, condition func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, poll(ctx, condition), "waiting for "+what)
}
