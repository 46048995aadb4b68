package e2e_test

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestContainerImage: the image runs in the cluster as nobody, on a file system that cannot
// be written, with the Role that the command needs.
func TestContainerImage(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.onNode(t)
	r := e.install(t, e.namespace(t, "image"), chart{password: randomPassword()})
	archive := filepath.Join(t.TempDir(), "image.tar")
	const tag = "redisctl:e2e"
	pack := exec.CommandContext(t.Context(), "go", "run", ".", "-program", e.redisctl, "-tag", tag, "-o", archive)
	pack.Dir = filepath.Join("..", "image")
	out, err := pack.CombinedOutput()
	require.NoError(t, err, "%s", out)
	e.ctr(t, "images", "import", "--local", archive)

	const name = "redisctl"
	_, err = e.RbacV1().Roles(r.namespace).Create(t.Context(), &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: r.roles(t, "health")[0].Rules,
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = e.RbacV1().RoleBindings(r.namespace).Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: "default", Namespace: r.namespace}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	yes, no := true, false
	_, err = e.CoreV1().Pods(r.namespace).Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{
			RestartPolicy:   corev1.RestartPolicyNever,
			SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: &yes},
			Containers: []corev1.Container{{
				Name: name, Image: tag, ImagePullPolicy: corev1.PullNever, Args: []string{"health", "-n", r.namespace, "-o", "json"},
				SecurityContext: &corev1.SecurityContext{
					ReadOnlyRootFilesystem: &yes, AllowPrivilegeEscalation: &no, Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
			}},
		},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	eventually(t, "the pod has ended", func(ctx context.Context) error {
		pod, err := e.CoreV1().Pods(r.namespace).Get(ctx, name, metav1.GetOptions{})
		if err == nil && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
			err = fmt.Errorf("it is %s: %v", pod.Status.Phase, pod.Status.ContainerStatuses)
		}
		return err
	})
	log, err := e.CoreV1().Pods(r.namespace).GetLogs(name, &corev1.PodLogOptions{}).DoRaw(t.Context())
	require.NoError(t, err)
	assert.Contains(t, string(log), `"status": "ok"`)
	assert.Contains(t, string(log), r.podName(0))
}

// containerdSocket is where the local cluster's containerd listens (docs/cluster.md).
const containerdSocket = "/run/redisctl-cluster/containerd.sock"

// ctr asks the node's containerd.
func (c *cluster) ctr(t *testing.T, args ...string) {
	t.Helper()
	folder := filepath.Dir(filepath.Dir(c.auditLog))
	out, err := exec.CommandContext(t.Context(), filepath.Join(folder, "bin", "ctr"),
		append([]string{"--address", containerdSocket, "--namespace", "k8s.io"}, args...)...).CombinedOutput()
	require.NoError(t, err, "%s", out)
}
