package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/restmapper"
	"k8s.io/utils/ptr"

	"github.com/redisctl/redisctl/internal/operation/restore/full"
)

var _ full.Cluster = (*Client)(nil)

// helmManager owns the fields of restored objects: Helm does, in a release that it has
// installed. With any other owner, the first change of a value by Helm 4, which applies on
// the server's side, would be a conflict.
const helmManager = "helm"

// storageDefault marks the default storage class.
const storageDefault = "storageclass.kubernetes.io/is-default-class"

// NamespacePhase implements full.Cluster.
func (c *Client) NamespacePhase(parent context.Context, name string) (string, error) {
	ctx, cancel := c.bounded(parent)
	defer cancel()
	namespace, err := c.clientset.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return "", nil
	case apierrors.IsForbidden(err): // a Role is enough for everything else
		return string(corev1.NamespaceActive), nil
	case err != nil:
		return "", c.failure(parent, request{verb: "get", resource: "namespaces", name: name}, err)
	}
	return string(namespace.Status.Phase), nil
}

// CreateNamespace implements full.Cluster. One that is there by now is no error.
func (c *Client) CreateNamespace(parent context.Context, name string) error {
	ctx, cancel := c.bounded(parent)
	defer cancel()
	_, err := c.clientset.CoreV1().Namespaces().Create(ctx,
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{FieldManager: fieldManager})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return c.failure(parent, request{verb: "create", resource: "namespaces", name: name}, err)
	}
	return nil
}

// StorageClasses implements full.Cluster.
func (c *Client) StorageClasses(parent context.Context) (names []string, standard string, err error) {
	ctx, cancel := c.bounded(parent)
	defer cancel()
	list, err := c.clientset.StorageV1().StorageClasses().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, "", c.failure(parent, request{verb: "list", resource: "storageclasses"}, err)
	}
	for _, class := range list.Items {
		names = append(names, class.Name)
		if class.Annotations[storageDefault] == "true" {
			standard = class.Name
		}
	}
	return names, standard, nil
}

// SecretData implements full.Cluster.
func (c *Client) SecretData(parent context.Context, namespace, name string) (map[string][]byte, error) {
	ctx, cancel := c.bounded(parent)
	defer cancel()
	secret, err := c.clientset.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, c.failure(parent, request{verb: "get", resource: "secrets", namespace: namespace, name: name}, err)
	}
	data := map[string][]byte{}
	maps.Copy(data, secret.Data)
	return data, nil
}

// newMapper returns a mapper that asks the cluster once which resource a kind is.
func newMapper(clientset kubernetes.Interface) func() meta.RESTMapper {
	return func() meta.RESTMapper {
		return restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(clientset.Discovery()))
	}
}

// resourceOf returns how to reach an object.
func (c *Client) resourceOf(o full.Object) (dynamic.ResourceInterface, request, error) {
	content := unstructured.Unstructured{Object: o.Content}
	kind := content.GroupVersionKind()
	mapping, err := c.mapper().RESTMapping(schema.GroupKind{Group: kind.Group, Kind: kind.Kind}, kind.Version)
	if err != nil {
		return nil, request{}, fmt.Errorf("%s: %w", o, err)
	}
	if mapping.Scope.Name() != meta.RESTScopeNameNamespace {
		return nil, request{}, fmt.Errorf("%s does not belong to a namespace: it is not touched", o)
	}
	r := request{resource: mapping.Resource.Resource, namespace: o.Namespace, name: o.Name}
	return c.dynamic.Resource(mapping.Resource).Namespace(o.Namespace), r, nil
}

// Compare implements full.Cluster: the server applies the object without storing it, which
// fills in its defaults, and the two are compared. What the server would not allow to be
// changed differs as well.
func (c *Client) Compare(parent context.Context, o full.Object) (full.Presence, error) {
	resource, r, err := c.resourceOf(o)
	if err != nil {
		return full.Presence{}, err
	}
	ctx, cancel := c.bounded(parent)
	defer cancel()
	present, err := resource.Get(ctx, o.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return full.Presence{}, nil
	case err != nil:
		r.verb = "get"
		return full.Presence{}, c.failure(parent, r, err)
	}
	found := full.Presence{Exists: true, From: present.GetAnnotations()[full.AnnotationFrom]}
	if present.GetDeletionTimestamp() != nil {
		found.Difference = "it is being deleted"
		return found, nil
	}
	applied, err := c.applyObject(parent, o, metav1.PatchOptions{FieldManager: helmManager, Force: ptr.To(true), DryRun: []string{metav1.DryRunAll}})
	switch {
	case apierrors.IsInvalid(err):
		found.Difference = "what cannot be changed any more"
	case err != nil:
		return full.Presence{}, err
	default:
		found.Difference = firstDifference(essence(present), essence(applied), "")
		found.Equal = found.Difference == ""
	}
	return found, nil
}

// Apply implements full.Cluster.
func (c *Client) Apply(ctx context.Context, o full.Object) error {
	_, err := c.applyObject(ctx, o, metav1.PatchOptions{FieldManager: helmManager, Force: ptr.To(true)})
	return err
}

func (c *Client) applyObject(parent context.Context, o full.Object, options metav1.PatchOptions) (*unstructured.Unstructured, error) {
	resource, r, err := c.resourceOf(o)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(o.Content)
	if err != nil {
		return nil, fmt.Errorf("encoding %s: %w", o, err)
	}
	ctx, cancel := c.bounded(parent)
	defer cancel()
	applied, err := resource.Patch(ctx, o.Name, types.ApplyPatchType, body, options)
	if err != nil {
		r.verb = "patch"
		return nil, c.failure(parent, r, err)
	}
	return applied, nil
}

// essence is an object without what is about this copy of it.
func essence(o *unstructured.Unstructured) map[string]any {
	content := o.DeepCopy().Object
	delete(content, "status")
	for _, field := range []string{"managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "finalizers"} {
		unstructured.RemoveNestedField(content, "metadata", field)
	}
	dropAnnotations(content)
	return content
}

// firstDifference returns the path of the first value that differs, "" when none does.
// Values are not shown: they may be secrets.
func firstDifference(a, b any, path string) string {
	left, isMap := a.(map[string]any)
	right, both := b.(map[string]any)
	if !isMap || !both {
		if equality.Semantic.DeepEqual(a, b) {
			return ""
		}
		return strings.TrimPrefix(path, ".")
	}
	keys := slices.Sorted(maps.Keys(left))
	for key := range right {
		if _, ok := left[key]; !ok {
			keys = append(keys, key)
		}
	}
	for _, key := range keys {
		if difference := firstDifference(left[key], right[key], path+"."+key); difference != "" {
			return difference
		}
	}
	return ""
}
