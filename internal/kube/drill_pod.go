package kube

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore/drill"
	"github.com/redisctl/redisctl/internal/redis"
)

const (
	// drillApp is the app.kubernetes.io/name of pods with throw-away servers. They
	// carry none of a release's labels: no Service may ever select them.
	drillApp    = "redisctl-drill"
	drillFolder = "/data"
	drillPort   = 6379
	// drillUser runs the servers of images whose release does not say who: "redis" of
	// the official images.
	drillUser = 999
	// drillStall is how long an upload may stand still.
	drillStall = 30 * time.Second
	// drillLogLines is how much of a failed server's log is shown.
	drillLogLines = 8
)

// DrillHost starts throw-away servers in pods. It implements drill.Host.
type DrillHost struct {
	// Client of the cluster.
	Client *Client
	// Deployment whose namespace, image, user and nodes the pod gets. Without one it is
	// in the client's namespace and may be on any node.
	Deployment *operation.Deployment
	// Image instead of the deployment's.
	Image string
	// Memory that the pod may take, in the notation of resources ("4Gi"). Empty to
	// conclude it from the backup.
	Memory string
}

// Name implements drill.Host.
func (h DrillHost) Name() string { return "a pod in the namespace " + h.namespace() }

func (h DrillHost) namespace() string {
	if h.Deployment != nil {
		return h.Deployment.Namespace
	}
	return h.Client.Namespace()
}

// Open implements drill.Host. It removes what is left of earlier drills whose pods have
// ended.
func (h DrillHost) Open(ctx context.Context, n drill.Needs) (drill.Server, error) {
	pod, err := h.pod(ctx, n)
	if err != nil {
		return nil, err
	}
	if err := h.Client.removeEnded(ctx, pod.Namespace, drillApp); err != nil {
		return nil, err
	}
	helper, err := h.Client.createPod(ctx, pod)
	if err != nil {
		return nil, err
	}
	s := &drillServer{helper: helper, password: rand.Text()}
	if err := s.begin(ctx, n); err != nil {
		removing, cancel := context.WithTimeout(context.WithoutCancel(ctx), helperStart)
		defer cancel()
		return nil, errors.Join(err, s.Close(removing))
	}
	return s, nil
}

// drillScript waits for the file redisctl-start and becomes the server.
const drillScript = `trap 'exit 0' TERM
until [ -e ` + drillFolder + `/redisctl-start ]; do sleep 0.2; done
exec "$(command -v redis-server || command -v valkey-server)" ` + drillFolder + `/redis.conf`

// pod returns the pod: by the restricted pod security standard, on the nodes that the
// release may be on.
func (h DrillHost) pod(ctx context.Context, n drill.Needs) (*corev1.Pod, error) {
	spec, err := h.like(ctx)
	if err != nil {
		return nil, err
	}
	request, limit, err := h.memory(n)
	if err != nil {
		return nil, err
	}
	disk := resource.NewQuantity(diskNeeded(n), resource.BinarySI)
	container := &spec.Containers[0]
	container.Name = helperContainer
	container.Command = []string{"sh", "-c", drillScript}
	container.VolumeMounts = []corev1.VolumeMount{{Name: helperVolume, MountPath: drillFolder}}
	container.Resources = corev1.ResourceRequirements{
		// No ephemeral storage: nodes that do not count it would never get the pod.
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: request},
		Limits:   corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: limit},
	}
	container.SecurityContext = &corev1.SecurityContext{
		AllowPrivilegeEscalation: ptr.To(false), ReadOnlyRootFilesystem: ptr.To(true),
		Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
	spec.Volumes = []corev1.Volume{{Name: helperVolume, VolumeSource: corev1.VolumeSource{
		EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: disk},
	}}}
	spec.RestartPolicy = corev1.RestartPolicyNever
	spec.ActiveDeadlineSeconds = ptr.To(max(1, int64(n.Life/time.Second)))
	spec.TerminationGracePeriodSeconds = ptr.To[int64](1)
	spec.AutomountServiceAccountToken = ptr.To(false)
	spec.EnableServiceLinks = ptr.To(false)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: drillApp + "-" + strings.ToLower(rand.Text()[:8]), Namespace: h.namespace(),
			Labels: map[string]string{nameLabel: drillApp, managerLabel: fieldManager},
		},
		Spec: spec,
	}, nil
}

// like returns the parts of the spec that are the release's own, with one container.
func (h DrillHost) like(ctx context.Context) (corev1.PodSpec, error) {
	spec := corev1.PodSpec{
		Containers: []corev1.Container{{Image: h.Image}},
		SecurityContext: &corev1.PodSecurityContext{
			RunAsNonRoot: ptr.To(true), RunAsUser: ptr.To[int64](drillUser), RunAsGroup: ptr.To[int64](drillUser), FSGroup: ptr.To[int64](drillUser),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
	}
	if h.Deployment == nil || h.Deployment.Workload == nil {
		if h.Image == "" {
			return spec, operation.Errorf(operation.Unsupported, "a pod needs an image: there is no release to take it from")
		}
		return spec, nil
	}
	set, err := h.Client.statefulSet(ctx, h.Deployment)
	if err != nil {
		return spec, err
	}
	own := set.Spec.Template.Spec
	server := slices.IndexFunc(own.Containers, func(c corev1.Container) bool { return c.Name == h.Deployment.Workload.Container })
	if server < 0 {
		return spec, fmt.Errorf("%s has no container %s any more", set.Name, h.Deployment.Workload.Container)
	}
	if h.Image == "" {
		spec.Containers[0].Image = own.Containers[server].Image
	}
	spec.Containers[0].ImagePullPolicy = own.Containers[server].ImagePullPolicy
	if user := runAs(own.SecurityContext, own.Containers[server].SecurityContext); user != 0 {
		spec.SecurityContext.RunAsUser = ptr.To(user)
	}
	spec.ImagePullSecrets, spec.NodeSelector, spec.Tolerations = own.ImagePullSecrets, own.NodeSelector, own.Tolerations
	spec.RuntimeClassName, spec.SchedulerName = own.RuntimeClassName, own.SchedulerName
	spec.Affinity = onNode(own.Affinity, "")
	return spec, nil
}

// runAs returns the user that a release's server runs as; 0 when it does not say, or is
// root.
func runAs(pod *corev1.PodSecurityContext, container *corev1.SecurityContext) int64 {
	switch {
	case container != nil && container.RunAsUser != nil:
		return *container.RunAsUser
	case pod != nil:
		return ptr.Deref(pod.RunAsUser, 0)
	default:
		return 0
	}
}

// diskNeeded is the room for the files, the configuration, and what a server that replays
// commands appends.
func diskNeeded(n drill.Needs) int64 { return n.Files + n.Files/10 + 64<<20 }

// memory returns what the pod requests and what it may take. The data took n.Memory in
// another version perhaps, whose encodings differ; a value that is compared takes its
// size once more.
func (h DrillHost) memory(n drill.Needs) (request, limit resource.Quantity, err error) {
	if h.Memory != "" {
		chosen, err := resource.ParseQuantity(h.Memory)
		if err == nil && chosen.Sign() <= 0 {
			err = resource.ErrFormatWrong
		}
		if err != nil {
			return request, limit, operation.Errorf(operation.Usage, "memory of the pod %q: %w", h.Memory, err)
		}
		return chosen, chosen, nil
	}
	const own = 64 << 20 // of a server without data, and more than it needs
	needed := n.Memory
	if needed == 0 {
		needed = 4 * n.Files // compressed
	}
	least, most := needed+needed/10+own, needed+needed/2+4*own
	return *resource.NewQuantity(least, resource.BinarySI), *resource.NewQuantity(most, resource.BinarySI), nil
}

// drillServer implements drill.Server.
type drillServer struct {
	helper     *Helper
	deployment *operation.Deployment
	version    redis.Version
	password   string
}

// begin waits for the pod, and asks for its server's version and the room on its node.
func (s *drillServer) begin(ctx context.Context, n drill.Needs) error {
	if err := s.helper.awaitRunning(ctx, helperStart); err != nil {
		return err
	}
	free, err := dataVolume{Helper: s.helper}.FreeSpace(ctx, drillFolder)
	if err != nil {
		return err
	}
	if free < diskNeeded(n) {
		return s.helper.failed("making room", fmt.Errorf("its node has %s of disk left, the backup needs %s", operation.Bytes(free), operation.Bytes(diskNeeded(n))))
	}
	pod, err := s.helper.read(ctx)
	if err != nil {
		return err
	}
	s.deployment = &operation.Deployment{
		Namespace: s.helper.namespace, Name: s.helper.name,
		Workload: &operation.Workload{Kind: "Pod", Name: s.helper.name, Container: helperContainer},
		Instances: []operation.Instance{{
			Name: s.helper.name, Host: pod.Status.PodIP, Port: drillPort, Pod: podState(pod, helperContainer),
		}},
	}
	text, err := s.helper.Run(ctx, `"$(command -v redis-server || command -v valkey-server)" --version`)
	if err != nil {
		return err
	}
	if s.version, err = redis.ParseProgramVersion(text); err != nil {
		return s.helper.failed("asking for its version", err)
	}
	return nil
}

// Name implements drill.Server.
func (s *drillServer) Name() string { return "pod " + s.helper.namespace + "/" + s.helper.name }

// Version implements drill.Server.
func (s *drillServer) Version() redis.Version { return s.version }

// Password implements drill.Server.
func (s *drillServer) Password() string { return s.password }

// Deployment implements drill.Server.
func (s *drillServer) Deployment() *operation.Deployment { return s.deployment }

// Dial implements drill.Server.
func (s *drillServer) Dial(ctx context.Context) (net.Conn, error) {
	return s.helper.client.Dial(ctx, s.deployment, s.deployment.Instances[0])
}

// Put implements drill.Server.
func (s *drillServer) Put(ctx context.Context, name string, size int64, data io.Reader) error {
	return s.helper.Upload(ctx, drillFolder+"/"+name, size, data, drillStall)
}

// Start implements drill.Server. The password travels in the file's contents: arguments
// are recorded.
func (s *drillServer) Start(ctx context.Context, config []string) error {
	lines := append([]string{
		"bind 127.0.0.1", "port " + strconv.Itoa(drillPort), "requirepass " + s.password, "dir " + drillFolder, "daemonize no", `logfile ""`,
	}, config...)
	text := strings.Join(lines, "\n") + "\n"
	if err := s.Put(ctx, "redis.conf", int64(len(text)), strings.NewReader(text)); err != nil {
		return err
	}
	_, err := s.helper.Run(ctx, ": > "+drillFolder+"/redisctl-start")
	return err
}

// Ended implements drill.Server.
func (s *drillServer) Ended(ctx context.Context) error {
	end, err := s.helper.end(ctx, drillLogLines)
	if err != nil || end == nil {
		return err
	}
	return &drill.EndError{Code: end.code, Reason: end.reason, Log: end.log}
}

// Close implements drill.Server.
func (s *drillServer) Close(ctx context.Context) error { return s.helper.Remove(ctx) }
