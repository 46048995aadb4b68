package kube

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/backup"
)

// object is one API object together with how to fetch it by name.
type object interface {
	metav1.Object
	runtime.Object
}

// objectKind is how objects of one kind are read.
type objectKind struct {
	apiVersion, kind, resource string
	list                       func(context.Context, metav1.ListOptions) (runtime.Object, error)
	get                        func(context.Context, string) (object, error)
}

// lister and getter are what the typed clients of all kinds have in common.
type lister[L runtime.Object] interface {
	List(ctx context.Context, o metav1.ListOptions) (L, error)
}

type getter[O object] interface {
	Get(ctx context.Context, name string, o metav1.GetOptions) (O, error)
}

func listing[L runtime.Object](client lister[L]) func(context.Context, metav1.ListOptions) (runtime.Object, error) {
	return func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return client.List(ctx, o) }
}

func getting[O object](client getter[O]) func(context.Context, string) (object, error) {
	return func(ctx context.Context, name string) (object, error) {
		return client.Get(ctx, name, metav1.GetOptions{})
	}
}

// objectKinds are the kinds of the objects of a release, in the order in which they
// can be applied: what others refer to first.
func (c *Client) objectKinds(namespace string, secrets bool) []objectKind {
	core, apps, rbac := c.clientset.CoreV1(), c.clientset.AppsV1(), c.clientset.RbacV1()
	const rbacVersion = "rbac.authorization.k8s.io/v1"
	kinds := []objectKind{
		{"v1", "ServiceAccount", "serviceaccounts", listing(core.ServiceAccounts(namespace)), getting(core.ServiceAccounts(namespace))},
		{"v1", "Secret", "secrets", listing(core.Secrets(namespace)), getting(core.Secrets(namespace))},
		{"v1", "ConfigMap", "configmaps", listing(core.ConfigMaps(namespace)), getting(core.ConfigMaps(namespace))},
		{
			"v1", "PersistentVolumeClaim", "persistentvolumeclaims",
			listing(core.PersistentVolumeClaims(namespace)), getting(core.PersistentVolumeClaims(namespace)),
		},
		{rbacVersion, "Role", "roles", listing(rbac.Roles(namespace)), nil},
		{rbacVersion, "RoleBinding", "rolebindings", listing(rbac.RoleBindings(namespace)), nil},
		{"v1", "Service", "services", listing(core.Services(namespace)), nil},
		{"networking.k8s.io/v1", "NetworkPolicy", "networkpolicies", listing(c.clientset.NetworkingV1().NetworkPolicies(namespace)), nil},
		{"policy/v1", "PodDisruptionBudget", "poddisruptionbudgets", listing(c.clientset.PolicyV1().PodDisruptionBudgets(namespace)), nil},
		{"apps/v1", "StatefulSet", "statefulsets", listing(apps.StatefulSets(namespace)), nil},
	}
	if !secrets {
		kinds = slices.DeleteFunc(kinds, func(k objectKind) bool { return k.kind == "Secret" })
	}
	return kinds
}

// Resources implements backup.Objects: the objects with the release's label, and what
// the StatefulSet refers to by name. Kinds that may not be read are in Missing;
// without the StatefulSets it fails.
func (c *Client) Resources(parent context.Context, d *operation.Deployment, secrets bool) (backup.Resources, error) {
	set, err := c.statefulSet(parent, d)
	if err != nil {
		return backup.Resources{}, err
	}
	referred := references(set)
	var found backup.Resources
	present := map[string]bool{}
	for _, kind := range c.objectKinds(d.Namespace, secrets) {
		objects, err := c.objects(parent, d, kind, referred[kind.kind])
		var failure *operation.Error
		if errors.As(err, &failure) && apierrors.IsForbidden(err) {
			found.Missing = append(found.Missing, operation.Gap{Part: kind.resource, Reason: failure.Error()})
			continue
		}
		if err != nil {
			return backup.Resources{}, err
		}
		for _, o := range objects {
			if set, ok := o.(*appsv1.StatefulSet); ok && !secrets {
				maskLiterals(set)
			}
			text, err := cleaned(kind, o, d)
			if err != nil {
				return backup.Resources{}, err
			}
			present[kind.kind+"/"+o.GetName()] = true
			found.Items = append(found.Items, backup.Resource{Kind: kind.kind, Name: o.GetName(), YAML: text})
		}
	}
	for _, name := range referred["Secret"] {
		if !present["Secret/"+name] {
			found.Secrets = append(found.Secrets, name)
		}
	}
	return found, nil
}

// objects returns those of a kind that carry the release's label, and those of the
// given names, sorted by name.
func (c *Client) objects(parent context.Context, d *operation.Deployment, kind objectKind, names []string) ([]object, error) {
	ctx, cancel := c.bounded(parent)
	defer cancel()
	list, err := kind.list(ctx, metav1.ListOptions{LabelSelector: instanceLabel + "=" + d.Release})
	if err != nil {
		return nil, c.failure(parent, request{verb: "list", resource: kind.resource, namespace: d.Namespace}, err)
	}
	byName := map[string]object{}
	err = eachItem(list, func(o object) { byName[o.GetName()] = o })
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if byName[name] != nil || kind.get == nil {
			continue
		}
		ctx, cancel := c.bounded(parent)
		o, err := kind.get(ctx, name)
		cancel()
		switch {
		case apierrors.IsNotFound(err): // optional, or made by nobody: there is nothing to keep
		case err != nil:
			return nil, c.failure(parent, request{verb: "get", resource: kind.resource, namespace: d.Namespace, name: name}, err)
		default:
			byName[name] = o
		}
	}
	return slices.SortedFunc(maps.Values(byName), func(a, b object) int { return cmp.Compare(a.GetName(), b.GetName()) }), nil
}

// references returns the names of what the pods of a StatefulSet need, by kind.
func references(set *appsv1.StatefulSet) map[string][]string {
	names := map[string][]string{}
	add := func(kind, name string) {
		if name != "" && !slices.Contains(names[kind], name) {
			names[kind] = append(names[kind], name)
		}
	}
	spec := set.Spec.Template.Spec
	if spec.ServiceAccountName != "default" {
		add("ServiceAccount", spec.ServiceAccountName)
	}
	for _, secret := range spec.ImagePullSecrets {
		add("Secret", secret.Name)
	}
	for _, volume := range spec.Volumes {
		volumeReferences(volume, add)
	}
	for _, container := range slices.Concat(spec.InitContainers, spec.Containers) {
		containerReferences(container, add)
	}
	for _, template := range set.Spec.VolumeClaimTemplates {
		replicas := 1
		if set.Spec.Replicas != nil {
			replicas = int(*set.Spec.Replicas)
		}
		for n := range replicas {
			add("PersistentVolumeClaim", fmt.Sprintf("%s-%s-%d", template.Name, set.Name, n))
		}
	}
	return names
}

func volumeReferences(volume corev1.Volume, add func(kind, name string)) {
	if volume.ConfigMap != nil {
		add("ConfigMap", volume.ConfigMap.Name)
	}
	if volume.Secret != nil {
		add("Secret", volume.Secret.SecretName)
	}
	if volume.PersistentVolumeClaim != nil {
		add("PersistentVolumeClaim", volume.PersistentVolumeClaim.ClaimName)
	}
	if volume.Projected == nil {
		return
	}
	for _, source := range volume.Projected.Sources {
		if source.ConfigMap != nil {
			add("ConfigMap", source.ConfigMap.Name)
		}
		if source.Secret != nil {
			add("Secret", source.Secret.Name)
		}
	}
}

func containerReferences(container corev1.Container, add func(kind, name string)) {
	for _, variable := range container.Env {
		if from := variable.ValueFrom; from != nil {
			if from.SecretKeyRef != nil {
				add("Secret", from.SecretKeyRef.Name)
			}
			if from.ConfigMapKeyRef != nil {
				add("ConfigMap", from.ConfigMapKeyRef.Name)
			}
		}
	}
	for _, source := range container.EnvFrom {
		if source.SecretRef != nil {
			add("Secret", source.SecretRef.Name)
		}
		if source.ConfigMapRef != nil {
			add("ConfigMap", source.ConfigMapRef.Name)
		}
	}
}

// maskLiterals replaces a password that stands in the pod template itself.
func maskLiterals(set *appsv1.StatefulSet) {
	spec := &set.Spec.Template.Spec
	for _, containers := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range containers {
			for j := range containers[i].Env {
				if e := &containers[i].Env[j]; e.Value != "" && strings.HasSuffix(e.Name, "PASSWORD") {
					e.Value = backup.Placeholder
				}
			}
		}
	}
}

// cleaned returns an object as YAML, without what the cluster added and what is about
// this very copy of it.
func cleaned(kind objectKind, o object, d *operation.Deployment) ([]byte, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return nil, fmt.Errorf("encoding %s %s: %w", kind.kind, o.GetName(), err)
	}
	content["apiVersion"], content["kind"] = kind.apiVersion, kind.kind
	remove := func(fields ...string) { unstructured.RemoveNestedField(content, fields...) }
	remove("status")
	for _, field := range []string{
		"uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "selfLink", "ownerReferences", "finalizers",
		"deletionTimestamp", "deletionGracePeriodSeconds",
	} {
		remove("metadata", field)
	}
	dropAnnotations(content)
	switch kind.kind {
	case "ServiceAccount":
		remove("secrets") // tokens, which the cluster makes
	case "PersistentVolumeClaim":
		remove("spec", "volumeName")
	case "Service":
		cleanService(content, d)
	case "StatefulSet":
		cleanStatefulSet(content)
	}
	return yaml.Marshal(content)
}

// dropAnnotations removes those that are about this copy of the object: what kubectl
// and the volume controllers note, and what redisctl has not finished. Which pod was
// made the primary goes as well: new pods begin as the chart orders them.
func dropAnnotations(content map[string]any) {
	annotations, _, _ := unstructured.NestedStringMap(content, "metadata", "annotations")
	maps.DeleteFunc(annotations, func(name, _ string) bool {
		domain, _, _ := strings.Cut(name, "/")
		return name == corev1.LastAppliedConfigAnnotation || domain == "redisctl.dev" ||
			domain == "pv.kubernetes.io" || domain == "volume.kubernetes.io" || domain == "volume.beta.kubernetes.io"
	})
	unstructured.RemoveNestedField(content, "metadata", "annotations")
	if len(annotations) > 0 {
		_ = unstructured.SetNestedStringMap(content, annotations, "metadata", "annotations") // metadata is a map
	}
}

// cleanService removes the addresses that the cluster chose. A Service that follows a
// promotion goes back to pod 0, which the chart makes the primary of new pods.
func cleanService(content map[string]any, d *operation.Deployment) {
	if ip, _, _ := unstructured.NestedString(content, "spec", "clusterIP"); ip != corev1.ClusterIPNone {
		unstructured.RemoveNestedField(content, "spec", "clusterIP")
		unstructured.RemoveNestedField(content, "spec", "clusterIPs")
	}
	for _, field := range []string{"ipFamilies", "healthCheckNodePort"} {
		unstructured.RemoveNestedField(content, "spec", field)
	}
	ports, _, _ := unstructured.NestedSlice(content, "spec", "ports")
	for _, port := range ports {
		if port, ok := port.(map[string]any); ok {
			delete(port, "nodePort")
		}
	}
	if len(ports) > 0 {
		_ = unstructured.SetNestedSlice(content, ports, "spec", "ports") // it was a list before
	}
	if pod, ok, _ := unstructured.NestedString(content, "spec", "selector", podNameLabel); ok && strings.HasPrefix(pod, d.Workload.Name+"-") {
		_ = unstructured.SetNestedField(content, d.Workload.Name+"-0", "spec", "selector", podNameLabel) // it was a map before
	}
}

func cleanStatefulSet(content map[string]any) {
	unstructured.RemoveNestedField(content, "spec", "template", "metadata", "creationTimestamp")
	claims, _, _ := unstructured.NestedSlice(content, "spec", "volumeClaimTemplates")
	for _, claim := range claims {
		if claim, ok := claim.(map[string]any); ok {
			delete(claim, "status")
			unstructured.RemoveNestedField(claim, "metadata", "creationTimestamp")
		}
	}
	if len(claims) > 0 {
		_ = unstructured.SetNestedSlice(content, claims, "spec", "volumeClaimTemplates") // it was a list before
	}
}

// eachItem visits the items of a typed list.
func eachItem(list runtime.Object, visit func(object)) error {
	items, err := meta.ExtractList(list)
	if err != nil {
		return err
	}
	for _, item := range items {
		if o, ok := item.(object); ok {
			visit(o)
		}
	}
	return nil
}
