package helm

import (
	"fmt"

	helmkube "helm.sh/helm/v4/pkg/kube"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/resource"
)

// keeper leaves the update strategy of a workload alone that somebody has set to
// OnDelete: an upgrade replaces the pods itself then.
//
// Charts often name RollingUpdate. Applying that would restart every pod at once behind
// the upgrade's back, or, server-side, fail with a conflict. Leaving the field out of
// what is applied is not enough: a client-side apply deletes a field that the revision
// before had, and the API server's default is RollingUpdate. So what is applied repeats
// what is there. It is done here and not in a post-renderer, because a post-renderer's
// changes become part of the revision, which a later `helm rollback` would bring back,
// and because rollbacks have none.
type keeper struct {
	*helmkube.Client
	workload string
}

// Update implements helmkube.Interface.
func (k *keeper) Update(original, target helmkube.ResourceList, options ...helmkube.ClientUpdateOption) (*helmkube.Result, error) {
	for _, info := range target {
		if info.Mapping.GroupVersionKind.Kind != "StatefulSet" || info.Name != k.workload {
			continue
		}
		if err := k.keep(original.Get(info), info); err != nil {
			// The SDK reads the result even of an update that failed.
			return &helmkube.Result{}, err
		}
	}
	return k.Client.Update(original, target, options...)
}

// keep copies the strategy of the workload as it is into what will be applied.
func (*keeper) keep(original, target *resource.Info) error {
	wanted, ok := target.Object.(*unstructured.Unstructured)
	if !ok || (strategy(wanted.Object) == nil && (original == nil || strategy(contentOf(original)) == nil)) {
		return nil // nothing is going to touch it
	}
	present, err := resource.NewHelper(target.Client, target.Mapping).Get(target.Namespace, target.Name)
	if err != nil {
		return fmt.Errorf("reading the update strategy of %s: %w", target.Name, err)
	}
	live, ok := present.(*unstructured.Unstructured)
	if !ok {
		return fmt.Errorf("reading the update strategy of %s: it is a %T", target.Name, present)
	}
	held := strategy(live.Object)
	if held["type"] != string(appsv1.OnDeleteStatefulSetStrategyType) {
		return nil
	}
	return unstructured.SetNestedMap(wanted.Object, held, "spec", "updateStrategy")
}

func contentOf(info *resource.Info) map[string]any {
	if o, ok := info.Object.(*unstructured.Unstructured); ok {
		return o.Object
	}
	return nil
}

func strategy(statefulSet map[string]any) map[string]any {
	found, _, _ := unstructured.NestedMap(statefulSet, "spec", "updateStrategy")
	return found
}
