package kube

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/upgrade/check"
	"github.com/redisctl/redisctl/internal/redis"
)

const (
	// trialApp is the app.kubernetes.io/name of pods that try an image. They carry none of
	// a release's labels: no Service, budget or StatefulSet may take them for its own.
	trialApp = "redisctl-trial"
	// trialConfig is the annotation that holds the redis.conf of a trial, from where the
	// pod mounts it: so there is only one object to remove.
	trialConfig = "redisctl.dev/redis.conf"
	// trialLogLines is how much of a failed server's log is read: the reason stands at its
	// end, above a few lines of good-bye.
	trialLogLines = 20
	// trialDisk is what the volumes may take that stand for the release's own.
	trialDisk = 128 << 20
)

// TrialHost starts throw-away servers in pods. It implements check.Trials.
type TrialHost struct{ Client *Client }

var _ check.Trials = TrialHost{}

// Start implements check.Trials. It removes what is left of earlier trials whose pods have
// ended.
func (h TrialHost) Start(ctx context.Context, d *operation.Deployment, s check.TrialSpec) (check.TrialServer, error) {
	f, err := h.workload(ctx, d, s)
	if err != nil {
		return nil, err
	}
	config, err := h.parsed(s, d)
	if err != nil {
		return nil, err
	}
	volume := ""
	if s.Config != "" {
		if volume, err = h.configVolume(ctx, f); err != nil {
			return nil, err
		}
	}
	pod := trialPod(f, d, s, config, volume)
	if err := h.Client.removeEnded(ctx, pod.Namespace, trialApp); err != nil {
		return nil, err
	}
	helper, err := h.Client.createPod(ctx, pod)
	if err != nil {
		return nil, err
	}
	server := &trialServer{helper: helper}
	if err := server.begin(ctx, f, d, s, config); err != nil {
		removing, cancel := context.WithTimeout(context.WithoutCancel(ctx), helperStart)
		defer cancel()
		return nil, errors.Join(err, server.Close(removing))
	}
	return server, nil
}

// parsed returns the configuration that the server is started with.
func (TrialHost) parsed(s check.TrialSpec, d *operation.Deployment) (redis.Config, error) {
	if s.Config == "" {
		return d.Config, nil
	}
	return redis.ParseConfig(s.Config)
}

// workload returns the workload as it is to become.
func (h TrialHost) workload(ctx context.Context, d *operation.Deployment, s check.TrialSpec) (found, error) {
	var set *appsv1.StatefulSet
	var err error
	if len(s.Workload) > 0 {
		set = new(appsv1.StatefulSet)
		if err := json.Unmarshal(s.Workload, set); err != nil {
			return found{}, fmt.Errorf("reading the rendered workload: %w", err)
		}
		set.Namespace = d.Namespace
	} else if set, err = h.Client.statefulSet(ctx, d); err != nil {
		return found{}, err
	}
	f := found{StatefulSet: *set}
	if f.container = redisContainer(&f.StatefulSet); f.container == nil {
		return found{}, fmt.Errorf("statefulset %s has no container that runs Redis", set.Name)
	}
	return f, nil
}

// configVolume returns the name of the volume that redis.conf comes from.
func (h TrialHost) configVolume(parent context.Context, f found) (string, error) {
	for _, source := range configSources(f, configFile(f)) {
		ctx, cancel := h.Client.bounded(parent)
		object, err := h.Client.clientset.CoreV1().ConfigMaps(f.Namespace).Get(ctx, source.configMap, metav1.GetOptions{})
		cancel()
		if err != nil {
			return "", h.Client.failure(parent, request{verb: "get", resource: "configmaps", namespace: f.Namespace, name: source.configMap}, err)
		}
		if _, has := object.Data[source.key]; !has {
			continue
		}
		for _, v := range f.Spec.Template.Spec.Volumes {
			if v.ConfigMap != nil && v.ConfigMap.Name == source.configMap {
				return v.Name, nil
			}
		}
	}
	return "", fmt.Errorf("none of the ConfigMaps that %s mounts holds a %s", f.Name, configFile(f))
}

// trialPod returns a pod that runs the workload's server as its pod 0 would, but with
// volumes of its own. The chart makes pod 0 a primary by the name that the host has.
// configVolume is replaced by s.Config, unless it is empty.
func trialPod(f found, d *operation.Deployment, s check.TrialSpec, config redis.Config, configVolume string) *corev1.Pod {
	own := f.Spec.Template.Spec
	former := f.container.Image
	server := trialContainer(*f.container, s.Image)
	server.Resources = corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("50m"), corev1.ResourceMemory: resource.MustParse("64Mi")},
		Limits:   corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: resource.MustParse("512Mi")},
	}
	var before []corev1.Container
	for _, c := range own.InitContainers {
		if ptr.Deref(c.RestartPolicy, "") == corev1.ContainerRestartPolicyAlways {
			continue // a sidecar
		}
		image := c.Image
		if image == former {
			image = s.Image
		}
		before = append(before, trialContainer(c, image))
	}
	if preparing := prepared(server, config); preparing != nil {
		before = slices.Insert(before, 0, *preparing)
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: trialApp + "-" + strings.ToLower(rand.Text()[:8]) + "-0", Namespace: f.Namespace,
			Labels: map[string]string{nameLabel: trialApp, managerLabel: fieldManager, workloadLabel: d.Workload.Name},
		},
		Spec: corev1.PodSpec{
			InitContainers:                before,
			Containers:                    []corev1.Container{server},
			Volumes:                       trialVolumes(f, configVolume),
			HostAliases:                   []corev1.HostAlias{{IP: "127.0.0.1", Hostnames: releaseHosts(d)}},
			RestartPolicy:                 corev1.RestartPolicyNever,
			ActiveDeadlineSeconds:         ptr.To(max(1, int64(s.Life/time.Second))),
			TerminationGracePeriodSeconds: ptr.To[int64](1),
			AutomountServiceAccountToken:  ptr.To(false),
			EnableServiceLinks:            own.EnableServiceLinks,
			ServiceAccountName:            own.ServiceAccountName,
			SecurityContext:               own.SecurityContext,
			ImagePullSecrets:              own.ImagePullSecrets,
			NodeSelector:                  own.NodeSelector,
			Tolerations:                   own.Tolerations,
			RuntimeClassName:              own.RuntimeClassName,
			SchedulerName:                 own.SchedulerName,
			DNSPolicy:                     own.DNSPolicy,
			DNSConfig:                     own.DNSConfig,
			Affinity:                      onNode(own.Affinity, ""),
		},
	}
	if configVolume != "" {
		pod.Annotations = map[string]string{trialConfig: s.Config}
	}
	return pod
}

// trialContainer leaves out what leads others to a container, or ends it.
func trialContainer(c corev1.Container, image string) corev1.Container {
	c.Image = image
	c.LivenessProbe, c.ReadinessProbe, c.StartupProbe, c.Lifecycle, c.VolumeDevices = nil, nil, nil, nil, nil
	c.Ports = slices.Clone(c.Ports)
	for i := range c.Ports {
		c.Ports[i].HostPort = 0
	}
	return c
}

// prepared returns an init container that makes the folder and the ACL file that the
// server wants to find on its volume; nil when it wants neither.
func prepared(server corev1.Container, config redis.Config) *corev1.Container {
	dir, _ := config.Get("dir")
	acl, _ := config.Get("aclfile")
	if acl == "" && (dir == "" || path.Clean(dir) == dataPath) {
		return nil
	}
	dir = cmp.Or(dir, dataPath)
	if acl != "" && !path.IsAbs(acl) {
		acl = path.Join(dir, acl)
	}
	return &corev1.Container{
		Name: "redisctl-prepare", Image: server.Image, ImagePullPolicy: server.ImagePullPolicy,
		SecurityContext: server.SecurityContext, VolumeMounts: server.VolumeMounts,
		Command: []string{"sh", "-c", `mkdir -p "$1" && { [ -z "$2" ] || [ -e "$2" ] || : > "$2"; }`, "sh", dir, acl},
	}
}

// trialVolumes returns the workload's volumes: those that only bring configuration as
// they are, all others empty.
func trialVolumes(f found, configVolume string) []corev1.Volume {
	empty := corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: resource.NewQuantity(trialDisk, resource.BinarySI)}}
	var volumes []corev1.Volume
	for _, v := range f.Spec.Template.Spec.Volumes {
		switch {
		case v.Name == configVolume:
			v.VolumeSource = annotated(v.ConfigMap, configFile(f))
		case v.ConfigMap != nil, v.Secret != nil, v.DownwardAPI != nil, v.Projected != nil, v.EmptyDir != nil,
			v.CSI != nil && ptr.Deref(v.CSI.ReadOnly, false):
		default:
			v.VolumeSource = empty
		}
		volumes = append(volumes, v)
	}
	for _, claim := range f.Spec.VolumeClaimTemplates {
		volumes = append(volumes, corev1.Volume{Name: claim.Name, VolumeSource: empty})
	}
	return volumes
}

// annotated is the volume of a ConfigMap with one of its files taken from the pod's
// annotation: of files with one path the last one counts.
func annotated(own *corev1.ConfigMapVolumeSource, file string) corev1.VolumeSource {
	rest := &corev1.ConfigMapProjection{LocalObjectReference: own.LocalObjectReference, Optional: ptr.To(true)}
	for _, item := range own.Items {
		if path.Base(item.Path) == file {
			file = item.Path
		} else {
			rest.Items = append(rest.Items, item)
		}
	}
	sources := []corev1.VolumeProjection{{ConfigMap: rest}, {DownwardAPI: &corev1.DownwardAPIProjection{
		Items: []corev1.DownwardAPIVolumeFile{{
			Path: file, FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.annotations['" + trialConfig + "']"},
		}},
	}}}
	if len(own.Items) > 0 && len(rest.Items) == 0 { // no items would mean all
		sources = sources[1:]
	}
	return corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: sources, DefaultMode: own.DefaultMode}}
}

// releaseHosts are the names of the release's pods and Services. The trial finds itself
// under them, whatever its configuration wants to follow.
func releaseHosts(d *operation.Deployment) []string {
	var names []string
	for _, i := range d.Instances {
		names = append(names, i.Name+"."+d.Workload.ServiceName)
	}
	for _, s := range d.Services {
		names = append(names, s.Name)
	}
	hosts := slices.Clone(names)
	for _, name := range names {
		for _, domain := range []string{"", ".svc", ".svc.cluster.local"} {
			hosts = append(hosts, name+"."+d.Namespace+domain)
		}
	}
	return hosts
}

// trialServer implements check.TrialServer.
type trialServer struct {
	helper     *Helper
	deployment *operation.Deployment
}

// begin waits until the server's program runs.
func (s *trialServer) begin(ctx context.Context, f found, d *operation.Deployment, spec check.TrialSpec, config redis.Config) error {
	if err := s.helper.awaitRunning(ctx, spec.Life); err != nil {
		var why *podError
		switch {
		case !errors.As(err, &why):
			return err
		case why.ended:
			return cmp.Or(s.Ended(ctx), err)
		default:
			return &check.PodError{Image: why.image, Reason: why.reason, Message: why.message}
		}
	}
	pod, err := s.helper.read(ctx)
	if err != nil {
		return err
	}
	s.deployment = &operation.Deployment{
		Namespace: d.Namespace, Release: d.Release, Name: pod.Name, Config: config, Credentials: credentials(f.container),
		Workload: &operation.Workload{Kind: "Pod", Name: d.Workload.Name, Container: f.container.Name},
		Instances: []operation.Instance{{
			Name: pod.Name, Host: pod.Status.PodIP, Port: redisPort(f.container), Pod: podState(pod, f.container.Name),
		}},
	}
	return nil
}

// Name implements check.TrialServer.
func (s *trialServer) Name() string { return "pod " + s.helper.namespace + "/" + s.helper.name }

// Deployment implements check.TrialServer.
func (s *trialServer) Deployment() *operation.Deployment { return s.deployment }

// Ended implements check.TrialServer.
func (s *trialServer) Ended(ctx context.Context) error {
	end, err := s.helper.end(ctx, trialLogLines)
	if err != nil || end == nil {
		return err
	}
	return &check.EndError{Reason: end.reason, Log: end.log}
}

// Close implements check.TrialServer.
func (s *trialServer) Close(ctx context.Context) error { return s.helper.Remove(ctx) }

// MemoryLimit implements check.Cluster.
func (c *Client) MemoryLimit(ctx context.Context, d *operation.Deployment) (int64, error) {
	set, err := c.statefulSet(ctx, d)
	if err != nil {
		return 0, err
	}
	return containerOf(set, d.Workload.Container).Resources.Limits.Memory().Value(), nil
}
