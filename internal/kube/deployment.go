package kube

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/redis"
)

// podNameLabel is set on each pod by the StatefulSet controller. A Service that
// selects it is pinned to one pod.
const podNameLabel = "statefulset.kubernetes.io/pod-name"

// passwordVariable is how the chart hands the password to the container.
const passwordVariable = "REDIS_PASSWORD"

// The parts of a deployment that may be missing from it: operation.Gap.Part.
const (
	partServices  = "services"
	partEndpoints = "endpoints"
	partConfig    = "config"
)

// deployment reads everything about a StatefulSet that runs Redis. Without
// permission to read Services, EndpointSlices or the ConfigMap, it records a
// gap: the rest is still worth having. Pods are required.
func (c *Client) deployment(ctx context.Context, f found) (*operation.Deployment, error) {
	d := &operation.Deployment{
		Namespace:   f.Namespace,
		Release:     f.release(),
		Name:        f.Name,
		Chart:       f.Labels[chartLabel],
		Workload:    workload(f),
		Credentials: credentials(f.container),
	}
	var (
		group                       sync.WaitGroup
		podsErr, servicesErr, cfErr error
		serviceGaps, configGaps     []operation.Gap
	)
	group.Go(func() { d.Instances, podsErr = c.instances(ctx, f) })
	group.Go(func() { d.Services, serviceGaps, servicesErr = c.services(ctx, f) })
	group.Go(func() { d.Config, configGaps, cfErr = c.redisConfig(ctx, f) })
	group.Wait()
	for _, err := range []error{podsErr, servicesErr, cfErr} {
		if err != nil {
			return nil, err
		}
	}
	d.Gaps = slices.Concat(serviceGaps, configGaps)
	return d, nil
}

func workload(f found) *operation.Workload {
	return &operation.Workload{
		Kind:            "StatefulSet",
		Name:            f.Name,
		UID:             string(f.UID),
		ResourceVersion: f.ResourceVersion,
		ServiceName:     f.Spec.ServiceName,
		Desired:         f.desired(),
		Ready:           int(f.Status.ReadyReplicas),
		Updated:         int(f.Status.UpdatedReplicas),
		UpdateStrategy:  string(f.Spec.UpdateStrategy.Type),
		UpdateRevision:  f.Status.UpdateRevision,
		Container:       f.container.Name,
		Image:           f.container.Image,
		Volume:          dataVolumeOf(f),
		Annotations:     f.Annotations,
		Manager:         manager(f),
	}
}

// manager names the controller that keeps the workload as it is declared elsewhere,
// by the marks that Argo CD and Flux put on objects, and by ownership.
func manager(f found) string {
	if owner := metav1.GetControllerOf(&f.StatefulSet); owner != nil {
		return owner.Kind + " " + f.Namespace + "/" + owner.Name
	}
	const (
		argoInstance = "argocd.argoproj.io/instance"
		argoTracking = "argocd.argoproj.io/tracking-id" // application:group/kind:namespace/name
		fluxSuffix   = ".toolkit.fluxcd.io"
	)
	if application, _, _ := strings.Cut(cmp.Or(f.Annotations[argoTracking], f.Labels[argoInstance]), ":"); application != "" {
		return "Argo CD application " + application
	}
	for _, flux := range []struct{ label, kind string }{{"helm", "HelmRelease"}, {"kustomize", "Kustomization"}} {
		if name := f.Labels[flux.label+fluxSuffix+"/name"]; name != "" {
			return fmt.Sprintf("Flux %s %s/%s", flux.kind, f.Labels[flux.label+fluxSuffix+"/namespace"], name)
		}
	}
	return ""
}

// dataVolumeOf finds the data volume: a claim mounted in the Redis container,
// preferably at /data.
func dataVolumeOf(f found) operation.Volume {
	mounts := slices.Clone(f.container.VolumeMounts)
	slices.SortStableFunc(mounts, func(a, b corev1.VolumeMount) int {
		return cmp.Compare(unless(a.MountPath == dataPath), unless(b.MountPath == dataPath))
	})
	for _, mount := range mounts {
		for _, template := range f.Spec.VolumeClaimTemplates {
			if template.Name == mount.Name {
				return operation.Volume{Kind: operation.VolumeClaimTemplate, Claim: template.Name, MountPath: mount.MountPath}
			}
		}
		for _, source := range f.Spec.Template.Spec.Volumes {
			if source.Name == mount.Name && source.PersistentVolumeClaim != nil {
				return operation.Volume{
					Kind:      operation.VolumeExistingClaim,
					Claim:     source.PersistentVolumeClaim.ClaimName,
					MountPath: mount.MountPath,
				}
			}
		}
	}
	return operation.Volume{Kind: operation.VolumeNone, MountPath: dataPath}
}

// dataPath is where the chart mounts the data volume.
const dataPath = "/data"

// unless orders what matches before what does not.
func unless(matches bool) int {
	if matches {
		return 0
	}
	return 1
}

// credentials reads where the container gets its password from. The container
// is the truth: the chart's Secret exists also where there is no password.
func credentials(container *corev1.Container) operation.CredentialSource {
	for _, variable := range container.Env {
		if variable.Name != passwordVariable {
			continue
		}
		if variable.ValueFrom != nil && variable.ValueFrom.SecretKeyRef != nil {
			reference := variable.ValueFrom.SecretKeyRef
			return operation.CredentialSource{Kind: credentialSecret, Secret: reference.Name, Key: reference.Key}
		}
		if variable.Value != "" {
			return operation.CredentialSource{Kind: credentialLiteral}
		}
	}
	return operation.CredentialSource{Kind: credentialNone}
}

// The kinds of operation.CredentialSource that a cluster can hold.
const (
	credentialNone    = "none"
	credentialSecret  = "secret"
	credentialLiteral = "literal"
)

// instances returns the StatefulSet's pods by ordinal, with a stand-in for each
// that should be there and is not.
func (c *Client) instances(parent context.Context, f found) ([]operation.Instance, error) {
	ctx, cancel := c.bounded(parent)
	defer cancel()
	list, err := c.clientset.CoreV1().Pods(f.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: metav1.FormatLabelSelector(f.Spec.Selector),
	})
	if err != nil {
		return nil, c.failure(parent, request{verb: "list", resource: "pods", namespace: f.Namespace}, err)
	}
	port := redisPort(f.container)
	byOrdinal := map[int]operation.Instance{}
	for _, pod := range list.Items {
		// The name decides rather than the owner, so that the pods of a
		// StatefulSet that was recreated around them (kubectl delete
		// --cascade=orphan) count; a pod that something else controls does not.
		ordinal, ok := f.ordinal(pod.Name)
		if !ok {
			continue
		}
		if owner := metav1.GetControllerOf(&pod); owner != nil && owner.UID != f.UID {
			continue
		}
		byOrdinal[ordinal] = operation.Instance{
			Name:    pod.Name,
			Ordinal: ordinal,
			Host:    pod.Status.PodIP,
			Port:    port,
			Pod:     podState(&pod, f.container.Name),
		}
	}
	for ordinal := range f.ordinals() {
		if _, ok := byOrdinal[ordinal]; ok {
			continue
		}
		byOrdinal[ordinal] = operation.Instance{
			Name:    fmt.Sprintf("%s-%d", f.Name, ordinal),
			Ordinal: ordinal,
			Port:    port,
			Pod: &operation.Pod{
				Phase:   phaseMissing,
				Reason:  phaseMissing,
				Message: "StatefulSet " + f.Name + " has not created this pod",
			},
		}
	}
	instances := make([]operation.Instance, 0, len(byOrdinal))
	for _, instance := range byOrdinal {
		instances = append(instances, instance)
	}
	slices.SortFunc(instances, func(a, b operation.Instance) int { return cmp.Compare(a.Ordinal, b.Ordinal) })
	return instances, nil
}

// services returns the release's Services that lead to the StatefulSet's pods.
func (c *Client) services(parent context.Context, f found) ([]operation.Service, []operation.Gap, error) {
	ctx, cancel := c.bounded(parent)
	defer cancel()
	list, err := c.clientset.CoreV1().Services(f.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: instanceLabel + "=" + f.release(),
	})
	if err != nil {
		gaps, err := optional(partServices,
			c.failure(parent, request{verb: "list", resource: "services", namespace: f.Namespace}, err))
		return nil, gaps, err
	}
	var services []operation.Service
	for _, service := range list.Items {
		if !leadsTo(service.Spec.Selector, f) {
			continue
		}
		services = append(services, operation.Service{
			Name:        service.Name,
			Headless:    service.Spec.ClusterIP == corev1.ClusterIPNone,
			Port:        servicePort(service.Spec.Ports),
			PodSelector: service.Spec.Selector[podNameLabel],
		})
	}
	slices.SortFunc(services, func(a, b operation.Service) int { return cmp.Compare(a.Name, b.Name) })
	if len(services) == 0 {
		return nil, nil, nil
	}

	names := make([]string, 0, len(services))
	for _, service := range services {
		names = append(names, service.Name)
	}
	ctx, cancel = c.bounded(parent)
	defer cancel()
	slicesOf, err := c.clientset.DiscoveryV1().EndpointSlices(f.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: discoveryv1.LabelServiceName + " in (" + strings.Join(names, ",") + ")",
	})
	if err != nil {
		gaps, err := optional(partEndpoints,
			c.failure(parent, request{verb: "list", resource: "endpointslices", namespace: f.Namespace}, err))
		return services, gaps, err
	}
	for i := range services {
		services[i].Endpoints = endpoints(services[i].Name, slicesOf.Items)
		services[i].EndpointsKnown = true
	}
	return services, nil, nil
}

// servicePort returns where a Service takes Redis clients: the port that is named so,
// the default one, or the only one.
func servicePort(ports []corev1.ServicePort) int {
	for _, port := range ports {
		if port.Name == "redis" || port.Port == defaultPort {
			return int(port.Port)
		}
	}
	if len(ports) == 1 {
		return int(ports[0].Port)
	}
	return 0
}

// leadsTo reports whether a selector can match pods of the StatefulSet: every
// label that it asks for is in the pod template, the pinned pod's name apart.
func leadsTo(selector map[string]string, f found) bool {
	if len(selector) == 0 {
		return false
	}
	for key, value := range selector {
		if key == podNameLabel {
			// A Service of another StatefulSet of the same release.
			if _, ok := f.ordinal(value); !ok {
				return false
			}
			continue
		}
		if f.Spec.Template.Labels[key] != value {
			return false
		}
	}
	return true
}

// endpoints returns the pods that a Service sends traffic to.
func endpoints(service string, all []discoveryv1.EndpointSlice) []string {
	var names []string
	for _, slice := range all {
		if slice.Labels[discoveryv1.LabelServiceName] != service {
			continue
		}
		for _, endpoint := range slice.Endpoints {
			// "nil should be interpreted as true": discovery/v1 EndpointConditions.
			ready := endpoint.Conditions.Ready == nil || *endpoint.Conditions.Ready
			if ready && endpoint.TargetRef != nil && endpoint.TargetRef.Kind == "Pod" {
				names = append(names, endpoint.TargetRef.Name)
			}
		}
	}
	// A dual-stack Service has one slice per address family.
	slices.Sort(names)
	return slices.Compact(names)
}

// redisConfig reads the redis.conf that the pods are given.
func (c *Client) redisConfig(parent context.Context, f found) (redis.Config, []operation.Gap, error) {
	for _, source := range configSources(f, configFile(f)) {
		ctx, cancel := c.bounded(parent)
		object, err := c.clientset.CoreV1().ConfigMaps(f.Namespace).Get(ctx, source.configMap, metav1.GetOptions{})
		cancel()
		if err != nil {
			gaps, err := optional(partConfig,
				c.failure(parent, request{verb: "get", resource: "configmaps", namespace: f.Namespace, name: source.configMap}, err))
			return redis.Config{}, gaps, err
		}
		text, ok := object.Data[source.key]
		if !ok {
			continue
		}
		config, err := redis.ParseConfig(text)
		if err != nil {
			return config, []operation.Gap{{
				Part:   partConfig,
				Reason: fmt.Sprintf("ConfigMap %s, key %s: %v", source.configMap, source.key, err),
			}}, nil
		}
		return config, nil, nil
	}
	return redis.Config{}, nil, nil
}

// configFile is the name of the file that the server is started with.
func configFile(f found) string {
	for _, arg := range slices.Concat(f.container.Command, f.container.Args) {
		if strings.HasSuffix(arg, ".conf") {
			return path.Base(arg)
		}
	}
	return "redis.conf"
}

// configSource is a place that a redis.conf may come from.
type configSource struct{ configMap, key string }

// configSources returns the ConfigMaps that the pod mounts, in the order in
// which they are likely to hold the Redis configuration. The volumes are the
// truth, not the chart's naming: redis.existingConfigMap replaces the name. The
// mount may be in an init container, which copies the file and appends to it.
func configSources(f found, file string) []configSource {
	var mounted []string
	for _, container := range slices.Concat([]corev1.Container{*f.container}, f.Spec.Template.Spec.InitContainers) {
		for _, mount := range container.VolumeMounts {
			mounted = append(mounted, mount.Name)
		}
	}
	var sources []configSource
	for _, name := range mounted {
		for _, volume := range f.Spec.Template.Spec.Volumes {
			if volume.Name != name || volume.ConfigMap == nil {
				continue
			}
			source := configSource{configMap: volume.ConfigMap.Name, key: file}
			for _, item := range volume.ConfigMap.Items {
				if path.Base(item.Path) == file {
					source.key = item.Key
				}
			}
			if !slices.Contains(sources, source) {
				sources = append(sources, source)
			}
		}
	}
	return sources
}

// optional turns a failure that the deployment can do without into a gap: what
// the user may not read, and what is not there.
func optional(part string, err error) ([]operation.Gap, error) {
	var failure *operation.Error
	if errors.As(err, &failure) && (apierrors.IsForbidden(err) || apierrors.IsNotFound(err)) {
		return []operation.Gap{{Part: part, Reason: failure.Error()}}, nil
	}
	return nil, err
}

// Password reads the deployment's password where the deployment says that it
// is. It is empty for a deployment without one. The error names the Secret and
// never holds a value of it.
func (c *Client) Password(parent context.Context, d *operation.Deployment) (string, error) {
	ctx, cancel := c.bounded(parent)
	defer cancel()
	switch d.Credentials.Kind {
	case credentialSecret:
		return c.secretValue(ctx, parent, d.Namespace, d.Credentials.Secret, d.Credentials.Key)
	case credentialLiteral:
		return c.literalPassword(parent, d)
	default:
		return "", nil
	}
}

func (c *Client) secretValue(ctx, parent context.Context, namespace, name, key string) (string, error) {
	read := request{verb: "get", resource: "secrets", namespace: namespace, name: name}
	secret, err := c.clientset.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return "", c.failure(parent, read, err)
	}
	value, ok := secret.Data[key]
	if !ok {
		keys := make([]string, 0, len(secret.Data))
		for key := range secret.Data {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		return "", &operation.Error{
			Kind:   operation.Failed,
			Object: read.object(),
			Phase:  "reading the password",
			Err:    fmt.Errorf("there is no key %q; there are: %s", key, strings.Join(keys, ", ")),
		}
	}
	return string(value), nil
}

// literalPassword reads a password that stands in the pod template itself.
func (c *Client) literalPassword(parent context.Context, d *operation.Deployment) (string, error) {
	set, err := c.statefulSet(parent, d)
	if err != nil {
		return "", err
	}
	for _, container := range set.Spec.Template.Spec.Containers {
		if container.Name != d.Workload.Container {
			continue
		}
		for _, variable := range container.Env {
			if variable.Name == passwordVariable {
				return variable.Value, nil
			}
		}
	}
	return "", &operation.Error{
		Kind:   operation.Failed,
		Object: "statefulset " + d.Namespace + "/" + d.Workload.Name,
		Phase:  "reading the password",
		Err:    fmt.Errorf("container %s no longer sets %s", d.Workload.Container, passwordVariable),
		Next:   "run the command again",
	}
}
