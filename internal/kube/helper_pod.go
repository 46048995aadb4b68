package kube

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/redisctl/redisctl/internal/operation"
)

const (
	// helperApp is the app.kubernetes.io/name of helper pods. They carry none of the
	// release's own labels: its Services, budgets and StatefulSet must not take them
	// for servers.
	helperApp       = "redisctl-helper"
	helperContainer = "helper"
	helperVolume    = "data"
	// helperLife ends a helper pod whose redisctl was killed.
	helperLife = 4 * time.Hour
	// helperStart is how long a helper pod may take to run: its image is on the node
	// already, unless the pod must go to another one.
	helperStart    = 2 * time.Minute
	helperInterval = 200 * time.Millisecond
)

// HelperSpec says what a helper pod is for.
type HelperSpec struct {
	// Name of the pod. One that is left from a run that was killed is replaced.
	Name string
	// Claim that is mounted where the release's own pods mount their data.
	Claim string
	// Node that the pod must run on; empty for any.
	Node string
	// Beside is another claim, mounted read-only at besidePath; empty for none.
	Beside string
}

// besidePath is where a helper pod mounts the claim beside, in the same way as the
// data volume: with the same subPath.
const (
	besideVolume = "beside"
	besidePath   = "/redisctl-beside"
)

// Helper is a short-lived pod with the image, the user and the restrictions of a
// release's own pods, in which redisctl works on a data volume.
type Helper struct {
	client          *Client
	namespace, name string
	// container is the one that counts.
	container string
}

// StartHelper creates a helper pod and returns when it runs. The caller removes it;
// otherwise it ends by itself after four hours.
func (c *Client) StartHelper(ctx context.Context, d *operation.Deployment, s HelperSpec) (*Helper, error) {
	set, err := c.statefulSet(ctx, d)
	if err != nil {
		return nil, err
	}
	pod, err := helperPod(set, d, s)
	if err != nil {
		return nil, &operation.Error{Kind: operation.Failed, Object: "statefulset " + d.Namespace + "/" + set.Name, Phase: "preparing a helper pod", Err: err}
	}
	h := &Helper{client: c, namespace: d.Namespace, name: s.Name}
	if err := h.Remove(ctx); err != nil {
		return nil, err
	}
	if h, err = c.createPod(ctx, pod); err != nil {
		return nil, err
	}
	if err := h.awaitRunning(ctx, helperStart); err != nil {
		removing, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.timeout)
		defer cancel()
		return nil, errors.Join(err, h.Remove(removing))
	}
	return h, nil
}

// createPod creates a short-lived pod, which the caller removes. A request that Ctrl-C cuts
// short may have been carried out: it is let finish, so that there is something to remove.
func (c *Client) createPod(parent context.Context, pod *corev1.Pod) (*Helper, error) {
	if parent.Err() != nil {
		return nil, c.abandoned(parent, request{verb: "create", resource: "pods", namespace: pod.Namespace})
	}
	ctx, cancel := c.bounded(context.WithoutCancel(parent))
	defer cancel()
	if _, err := c.clientset.CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{FieldManager: fieldManager}); err != nil {
		return nil, c.failure(parent, request{verb: "create", resource: "pods", namespace: pod.Namespace}, err)
	}
	return &Helper{client: c, namespace: pod.Namespace, name: pod.Name, container: pod.Spec.Containers[0].Name}, nil
}

// removeEnded deletes the short-lived pods of one kind that do not run any more: those of
// a redisctl that was killed end by themselves, but stay as objects.
func (c *Client) removeEnded(parent context.Context, namespace, app string) error {
	ctx, cancel := c.bounded(parent)
	defer cancel()
	pods := c.clientset.CoreV1().Pods(namespace)
	list, err := pods.List(ctx, metav1.ListOptions{LabelSelector: nameLabel + "=" + app})
	if err != nil {
		return c.failure(parent, request{verb: "list", resource: "pods", namespace: namespace}, err)
	}
	for i := range list.Items {
		pod := &list.Items[i]
		if !hasEnded(pod) && !isOverdue(pod) {
			continue
		}
		err := pods.Delete(ctx, pod.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pod.UID}})
		if err != nil && !apierrors.IsNotFound(err) {
			return c.failure(parent, request{verb: "delete", resource: "pods", namespace: namespace, name: pod.Name}, err)
		}
	}
	return nil
}

func hasEnded(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded
}

// isOverdue reports whether a pod is older than it may become. One that no node has room
// for does not end by itself: its deadline counts from when a kubelet has it.
func isOverdue(pod *corev1.Pod) bool {
	const clocks = time.Minute // may differ by so much
	life := pod.Spec.ActiveDeadlineSeconds
	return life != nil && time.Since(pod.CreationTimestamp.Time) > time.Duration(*life)*time.Second+clocks
}

// podError says why the container of a short-lived pod does not run.
type podError struct {
	// image is set when its image could not be had, ended when a container has run and
	// ended.
	image, ended    bool
	reason, message string
}

func (e *podError) Error() string { return prefixed(e.reason, e.message) }

// pullPatience is how long an image may fail to be pulled: a registry may be away for a
// moment.
const pullPatience = 15 * time.Second

// awaitRunning returns when the container runs, and fails early, with a *podError, when it
// cannot.
func (h *Helper) awaitRunning(parent context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(parent, limit)
	defer cancel()
	waiting := podError{reason: "the pod is not scheduled"}
	var pullFailed time.Time
	for {
		pod, err := h.client.clientset.CoreV1().Pods(h.namespace).Get(ctx, h.name, metav1.GetOptions{})
		if err == nil {
			state := podState(pod, h.container)
			if state.ContainerRunning {
				return nil
			}
			next := startError(pod, state)
			if next.image && waiting.image && !strings.HasSuffix(next.reason, "ErrImagePull") {
				next = waiting // a back-off does not say why
			}
			waiting = next
			switch {
			case !waiting.image:
				pullFailed = time.Time{}
			case pullFailed.IsZero():
				pullFailed = time.Now()
			}
			hopeless := slices.Contains([]string{"ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError"}, strings.TrimPrefix(waiting.reason, "Init:"))
			if waiting.ended || hopeless || waiting.image && time.Since(pullFailed) > pullPatience {
				return h.failed("starting", &waiting)
			}
		} else if ctx.Err() == nil {
			return h.client.failure(parent, request{verb: "get", resource: "pods", namespace: h.namespace, name: h.name}, err)
		}
		select {
		case <-ctx.Done():
			if parent.Err() != nil {
				return h.failed("starting", context.Cause(parent))
			}
			return h.failed("starting", operation.Errorf(operation.TimedOut, "it does not run after %s: %w", limit, &waiting))
		case <-time.After(helperInterval):
		}
	}
}

// startError says what keeps a pod from running.
func startError(pod *corev1.Pod, state *operation.Pod) podError {
	// https://kubernetes.io/docs/concepts/containers/images/#imagepullbackoff
	pulls := []string{"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError", "RegistryUnavailable"}
	return podError{
		reason: state.Reason, message: state.Message, ended: hasEnded(pod),
		image: slices.Contains(pulls, strings.TrimPrefix(state.Reason, "Init:")),
	}
}

// podEnd says how the server of a short-lived pod has ended.
type podEnd struct {
	// code is its exit code; -1 when there is none.
	code   int
	reason string
	// log is what it printed last.
	log []string
}

// end returns nil while the pod's container runs.
func (h *Helper) end(ctx context.Context, lines int) (*podEnd, error) {
	pod, err := h.read(ctx)
	if err != nil {
		return nil, err
	}
	name := h.container
	var ended *corev1.ContainerStateTerminated
	for _, status := range pod.Status.InitContainerStatuses {
		if t := status.State.Terminated; t != nil && t.ExitCode != 0 {
			name, ended = status.Name, t
		}
	}
	if status := containerStatus(pod.Status.ContainerStatuses, h.container); ended == nil && status != nil {
		ended = status.State.Terminated
	}
	if ended == nil && pod.Status.Phase != corev1.PodFailed {
		return nil, nil
	}
	end := &podEnd{code: -1, reason: prefixed(pod.Status.Reason, pod.Status.Message)}
	if ended != nil && pod.Status.Reason == "" { // else the node has ended it
		end.code, end.reason = int(ended.ExitCode), termination(ended)
	}
	d := &operation.Deployment{Namespace: h.namespace, Workload: &operation.Workload{Container: name}}
	if printed, err := h.client.LastLines(ctx, d, operation.Instance{Name: h.name}, lines); err == nil {
		end.log = printed // the reason alone is better than why there is no more
	}
	return end, nil
}

func (h *Helper) read(parent context.Context) (*corev1.Pod, error) {
	ctx, cancel := h.client.bounded(parent)
	defer cancel()
	pod, err := h.client.clientset.CoreV1().Pods(h.namespace).Get(ctx, h.name, metav1.GetOptions{})
	if err != nil {
		return nil, h.client.failure(parent, request{verb: "get", resource: "pods", namespace: h.namespace, name: h.name}, err)
	}
	return pod, nil
}

func (h *Helper) failed(phase string, err error) error {
	return &operation.Error{Kind: operation.KindOf(err), Object: "pod " + h.namespace + "/" + h.name, Phase: phase, Err: err}
}

// Remove deletes the pod and returns when it is gone.
func (h *Helper) Remove(parent context.Context) error {
	pods := h.client.clientset.CoreV1().Pods(h.namespace)
	ctx, cancel := context.WithTimeout(parent, helperStart)
	defer cancel()
	err := pods.Delete(ctx, h.name, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](1)})
	for {
		switch {
		case apierrors.IsNotFound(err):
			return nil
		case err != nil:
			return h.client.failure(parent, request{verb: "delete", resource: "pods", namespace: h.namespace, name: h.name}, err)
		}
		select {
		case <-ctx.Done():
			return h.failed("removing", causeOr(parent, context.DeadlineExceeded))
		case <-time.After(helperInterval):
		}
		_, err = pods.Get(ctx, h.name, metav1.GetOptions{})
	}
}

// Run runs a shell script in the pod, with arguments that it knows as $1, $2, ..., and
// returns what it printed. The error holds the first line of its error output.
func (h *Helper) Run(ctx context.Context, script string, arguments ...string) (string, error) {
	return h.execute(ctx, nil, script, arguments...)
}

func (h *Helper) execute(ctx context.Context, stdin io.Reader, script string, arguments ...string) (string, error) {
	out, said := firstBytes{limit: 1 << 20}, firstBytes{limit: messageLimit}
	command := append([]string{"sh", "-c", script, "sh"}, arguments...)
	err := h.client.Exec(ctx, h.namespace, h.name, h.container, command, stdin, &out, &said)
	var exit *ExitError
	if errors.As(err, &exit) && said.Len() > 0 {
		err = h.failed("working on the volume", errors.New(firstLine(said.String())))
	}
	return out.String(), err
}

// uploadScript writes what stdin yields to $1, if it is $2 bytes, and prints its
// SHA-256. The file has its name only when it is complete and on the disk.
const uploadScript = `umask 077
mkdir -p "$(dirname "$1")" || exit 1
head -c "$2" > "$1.part" || exit 1
size=$(wc -c < "$1.part") || exit 1
[ "$size" -eq "$2" ] || { echo "only $size of $2 bytes arrived" >&2; exit 1; }
sync "$1.part" 2>/dev/null || sync
sum=$(sha256sum "$1.part") || exit 1
mv "$1.part" "$1" || exit 1
printf 'redisctl-sha256 %s\n' "${sum%% *}"`

// durableRate is how fast a volume writes at least, in bytes per second: what has
// arrived is in memory, and made durable and digested at the end.
const durableRate = 16 << 20

// Upload writes a file of size bytes, which is there under its name only when all
// bytes have arrived with the digest of what data has yielded: exec by itself reports
// success after a cut. stall is how long no byte may be taken.
func (h *Helper) Upload(parent context.Context, path string, size int64, data io.Reader, stall time.Duration) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	watchdog := time.AfterFunc(stall, func() {
		cancel(fmt.Errorf("nothing was taken for %s: %w", stall, context.DeadlineExceeded))
	})
	defer watchdog.Stop()
	source := &uploaded{data: io.LimitReader(data, size), digest: sha256.New()}
	source.taken = func(ended bool) {
		patience := stall
		if ended {
			patience += time.Duration(size/durableRate) * time.Second
		}
		watchdog.Reset(patience)
	}
	out, err := h.execute(ctx, source, uploadScript, path, strconv.FormatInt(size, 10))
	switch {
	case source.err != nil:
		return source.err
	case ctx.Err() != nil && parent.Err() == nil:
		return h.failed("writing "+path, context.Cause(ctx))
	case err != nil:
		return err
	}
	printed, _ := strings.CutPrefix(strings.TrimSpace(out), "redisctl-sha256 ")
	if sent := hex.EncodeToString(source.digest.Sum(nil)); printed != sent {
		return h.failed("writing "+path, operation.Errorf(operation.Corrupt, "SHA-256 in the pod is %.64s, of what was sent %s", printed, sent))
	}
	return nil
}

// uploaded is the data of an upload. It keeps the error of reading it: to the pod,
// that looks like the end.
type uploaded struct {
	data   io.Reader
	taken  func(ended bool)
	digest hash.Hash
	err    error
}

// Read implements io.Reader.
func (u *uploaded) Read(p []byte) (int, error) {
	n, err := u.data.Read(p)
	u.digest.Write(p[:n])
	ended := errors.Is(err, io.EOF)
	u.taken(ended)
	if err != nil && !ended {
		u.err = err
	}
	return n, err
}

// helperPod returns the pod: the release's own as far as it decides where and as whom
// it runs, with the data volume alone.
func helperPod(set *appsv1.StatefulSet, d *operation.Deployment, s HelperSpec) (*corev1.Pod, error) {
	own := set.Spec.Template.Spec
	server := slices.IndexFunc(own.Containers, func(c corev1.Container) bool { return c.Name == d.Workload.Container })
	if server < 0 {
		return nil, fmt.Errorf("it has no container %s any more", d.Workload.Container)
	}
	mount := slices.IndexFunc(own.Containers[server].VolumeMounts, func(m corev1.VolumeMount) bool {
		return m.MountPath == d.Workload.Volume.MountPath
	})
	if mount < 0 {
		return nil, fmt.Errorf("its container mounts nothing at %s any more", d.Workload.Volume.MountPath)
	}
	data := own.Containers[server].VolumeMounts[mount]
	if data.SubPathExpr != "" {
		return nil, fmt.Errorf("it mounts its data with subPathExpr %q, which depends on the pod", data.SubPathExpr)
	}
	data.Name = helperVolume
	mounts := []corev1.VolumeMount{data}
	volumes := []corev1.Volume{claimVolume(helperVolume, s.Claim)}
	if s.Beside != "" {
		beside := data
		beside.Name, beside.MountPath, beside.ReadOnly = besideVolume, besidePath, true
		mounts, volumes = append(mounts, beside), append(volumes, claimVolume(besideVolume, s.Beside))
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: s.Name, Namespace: d.Namespace,
			Labels: map[string]string{nameLabel: helperApp, managerLabel: fieldManager, workloadLabel: d.Workload.Name},
		},
		Spec: corev1.PodSpec{
			Containers: []corev1.Container{{
				Name:            helperContainer,
				Image:           own.Containers[server].Image,
				ImagePullPolicy: own.Containers[server].ImagePullPolicy,
				SecurityContext: own.Containers[server].SecurityContext,
				// The shell waits in the background: as process 1 it would ignore SIGTERM.
				Command:      []string{"sh", "-c", "trap 'exit 0' TERM; sleep " + strconv.Itoa(int(helperLife/time.Second)) + " & wait"},
				VolumeMounts: mounts,
				Resources: corev1.ResourceRequirements{
					Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("20m"), corev1.ResourceMemory: resource.MustParse("32Mi")},
					Limits:   corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1"), corev1.ResourceMemory: resource.MustParse("256Mi")},
				},
			}},
			Volumes:                       volumes,
			RestartPolicy:                 corev1.RestartPolicyNever,
			ActiveDeadlineSeconds:         ptr.To(int64(helperLife / time.Second)),
			TerminationGracePeriodSeconds: ptr.To[int64](1),
			AutomountServiceAccountToken:  ptr.To(false),
			ServiceAccountName:            own.ServiceAccountName,
			SecurityContext:               own.SecurityContext,
			ImagePullSecrets:              own.ImagePullSecrets,
			NodeSelector:                  own.NodeSelector,
			Tolerations:                   own.Tolerations,
			PriorityClassName:             own.PriorityClassName,
			RuntimeClassName:              own.RuntimeClassName,
			SchedulerName:                 own.SchedulerName,
			Affinity:                      onNode(own.Affinity, s.Node),
		},
	}, nil
}

func claimVolume(name, claim string) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
	}}
}

// onNode keeps what the release says of nodes; what it says of pods is about servers.
// A node is required by its name rather than set, so that the scheduler still checks
// that the pod fits there.
func onNode(own *corev1.Affinity, node string) *corev1.Affinity {
	if node == "" {
		if own == nil || own.NodeAffinity == nil {
			return nil
		}
		return &corev1.Affinity{NodeAffinity: own.NodeAffinity}
	}
	return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchFields: []corev1.NodeSelectorRequirement{{
				Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpIn, Values: []string{node},
			}},
		}}},
	}}
}
