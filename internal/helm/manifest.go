package helm

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	releaseutil "helm.sh/helm/v4/pkg/release/v1/util"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/upgrade"
)

// identity tells the objects of a release apart.
type identity struct{ group, kind, namespace, name string }

// objects are those of one manifest.
type objects map[identity]map[string]any

// parse reads a manifest as Helm keeps it. Objects that name no namespace get the
// release's.
func parse(manifest, namespace string) (objects, error) {
	found := objects{}
	for _, document := range releaseutil.SplitManifests(manifest) {
		var content map[string]any
		if err := yaml.Unmarshal([]byte(document), &content); err != nil {
			// The parser quotes what it cannot read, which may be a Secret.
			return nil, errors.New("the manifest has a document that is not YAML")
		}
		if len(content) == 0 {
			continue
		}
		o := unstructured.Unstructured{Object: content}
		id := identity{o.GroupVersionKind().Group, o.GetKind(), cmp.Or(o.GetNamespace(), namespace), o.GetName()}
		found[id] = content
	}
	return found, nil
}

// workload returns the StatefulSet of d, or nil.
func (o objects) workload(d *operation.Deployment) map[string]any {
	return o[identity{"apps", "StatefulSet", d.Namespace, d.Workload.Name}]
}

// image returns the image of the server's container, or "".
func (o objects) image(d *operation.Deployment) string {
	containers, _, _ := unstructured.NestedSlice(normal(o.workload(d)), "spec", "template", "spec", "containers")
	for _, c := range containers {
		if c, ok := c.(map[string]any); ok && c["name"] == d.Workload.Container {
			image, _ := c["image"].(string)
			return image
		}
	}
	return ""
}

// config returns the redis.conf that the pods of d mount, or "" when it is not part of
// the release.
func (o objects) config(d *operation.Deployment) string {
	volumes, _, _ := unstructured.NestedSlice(normal(o.workload(d)), "spec", "template", "spec", "volumes")
	for _, v := range volumes {
		v, ok := v.(map[string]any)
		if !ok {
			continue
		}
		name, _, _ := unstructured.NestedString(v, "configMap", "name")
		content, found, _ := unstructured.NestedString(o[identity{"", "ConfigMap", d.Namespace, name}], "data", "redis.conf")
		if found {
			return content
		}
	}
	return ""
}

// normal returns m with the types that package unstructured can copy.
func normal(m map[string]any) map[string]any {
	text, err := json.Marshal(m)
	if err != nil {
		return nil
	}
	var out map[string]any
	if err := json.Unmarshal(text, &out); err != nil {
		return nil
	}
	return out
}

// changes lists what differs, by kind and name.
func changes(before, after objects) []upgrade.ObjectChange {
	differ := []upgrade.ObjectChange{}
	add := func(id identity, action string) {
		differ = append(differ, upgrade.ObjectChange{Kind: id.kind, Name: id.name, Action: action})
	}
	for id, is := range after {
		was, ok := before[id]
		switch {
		case !ok:
			add(id, "added")
		case !reflect.DeepEqual(was, is):
			add(id, "changed")
		}
	}
	for id := range before {
		if _, ok := after[id]; !ok {
			add(id, "removed")
		}
	}
	slices.SortFunc(differ, func(a, b upgrade.ObjectChange) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Action, b.Action))
	})
	return differ
}

// templateDiffers reports whether the pods of two StatefulSets do.
func templateDiffers(before, after map[string]any) bool {
	return !reflect.DeepEqual(specOf(before)["template"], specOf(after)["template"])
}

// immutable names the fields of a StatefulSet that differ and can never be changed: those
// that ValidateStatefulSetUpdate of Kubernetes 1.37 (pkg/apis/apps/validation) compares.
func immutable(before, after map[string]any) []string {
	if before == nil || after == nil {
		return nil
	}
	was, is := specOf(before), specOf(after)
	var differ []string
	for _, field := range []string{"podManagementPolicy", "selector", "serviceName", "volumeClaimTemplates"} {
		if !reflect.DeepEqual(was[field], is[field]) {
			differ = append(differ, "spec."+field)
		}
	}
	return differ
}

// specOf returns the spec of a StatefulSet, with the defaults of immutable fields.
func specOf(statefulSet map[string]any) map[string]any {
	spec, _ := statefulSet["spec"].(map[string]any)
	return union(spec, map[string]any{"podManagementPolicy": "OrderedReady"})
}

// union has the fields of both, those of first where both have one.
func union(first, second map[string]any) map[string]any {
	all := maps.Clone(second)
	if all == nil {
		all = map[string]any{}
	}
	maps.Copy(all, first)
	return all
}

// owned returns the object as JSON with what Helm adds when it applies it, by which it
// knows its own objects again.
func owned(object map[string]any, release, namespace string) ([]byte, error) {
	if object == nil {
		return nil, nil
	}
	o := unstructured.Unstructured{Object: normal(object)}
	o.SetNamespace(cmp.Or(o.GetNamespace(), namespace))
	o.SetLabels(with(o.GetLabels(), map[string]string{"app.kubernetes.io/managed-by": "Helm"}))
	o.SetAnnotations(with(o.GetAnnotations(), map[string]string{
		"meta.helm.sh/release-name": release, "meta.helm.sh/release-namespace": namespace,
	}))
	text, err := json.Marshal(o.Object)
	if err != nil {
		return nil, fmt.Errorf("encoding the workload: %w", err)
	}
	return text, nil
}

func with(m, more map[string]string) map[string]string {
	if m == nil {
		m = map[string]string{}
	}
	maps.Copy(m, more)
	return m
}
