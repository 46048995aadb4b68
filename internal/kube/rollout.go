package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/upgrade/roll"
)

// Strategy returns the update strategy of the workload, as JSON, or "" when its pods are
// replaced only when they are deleted.
func (c *Client) Strategy(parent context.Context, d *operation.Deployment) (string, error) {
	set, err := c.statefulSet(parent, d)
	if err != nil || set.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType {
		return "", err
	}
	text, err := json.Marshal(set.Spec.UpdateStrategy)
	if err != nil {
		return "", fmt.Errorf("encoding the update strategy: %w", err)
	}
	return string(text), nil
}

// Hold makes the workload leave its pods as they are until they are deleted, whatever
// becomes of its template.
func (c *Client) Hold(parent context.Context, d *operation.Deployment) error {
	set, err := c.statefulSet(parent, d)
	if err != nil || set.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType {
		return err
	}
	return c.setStrategy(parent, d, set.Spec.UpdateStrategy.Type, appsv1.StatefulSetUpdateStrategy{
		Type: appsv1.OnDeleteStatefulSetStrategyType,
	})
}

// Release gives the workload back the update strategy that it had before Hold. Pods that do
// not follow the template are then replaced by the workload's controller. A workload that
// is not held any more is left alone.
func (c *Client) Release(parent context.Context, d *operation.Deployment, former string) error {
	set, err := c.statefulSet(parent, d)
	if err != nil {
		return err
	}
	if former == "" || set.Spec.UpdateStrategy.Type != appsv1.OnDeleteStatefulSetStrategyType {
		return nil
	}
	var strategy appsv1.StatefulSetUpdateStrategy
	if err := json.Unmarshal([]byte(former), &strategy); err != nil {
		return fmt.Errorf("decoding the update strategy that was recorded: %w", err)
	}
	return c.setStrategy(parent, d, appsv1.OnDeleteStatefulSetStrategyType, strategy)
}

// setStrategy replaces the update strategy, if it is still of the type from.
func (c *Client) setStrategy(
	parent context.Context, d *operation.Deployment, from appsv1.StatefulSetUpdateStrategyType, to appsv1.StatefulSetUpdateStrategy,
) error {
	const path = "/spec/updateStrategy"
	patch, err := json.Marshal([]map[string]any{
		{"op": "test", "path": "/metadata/uid", "value": d.Workload.UID},
		{"op": "test", "path": path + "/type", "value": from},
		{"op": "replace", "path": path, "value": to},
	})
	if err != nil {
		return fmt.Errorf("encoding a patch: %w", err)
	}
	ctx, cancel := c.bounded(parent)
	defer cancel()
	_, err = c.clientset.AppsV1().StatefulSets(d.Namespace).Patch(
		ctx, d.Workload.Name, types.JSONPatchType, patch, metav1.PatchOptions{FieldManager: fieldManager})
	switch {
	case apierrors.IsInvalid(err): // a test has failed
		return &operation.Error{
			Kind: operation.Failed, Object: "statefulset " + d.Namespace + "/" + d.Workload.Name, Phase: "setting the update strategy",
			Err: errors.New("somebody else has changed it meanwhile"),
		}
	case err != nil:
		return c.failure(parent, request{verb: "patch", resource: "statefulsets", namespace: d.Namespace, name: d.Workload.Name}, err)
	}
	return nil
}

// rolloutInterval is how often the workload is read until its controller has seen the
// last change.
const rolloutInterval = 100 * time.Millisecond

// Rollout returns which revision the template of the workload has, and its pods.
func (c *Client) Rollout(parent context.Context, d *operation.Deployment) (roll.Rollout, error) {
	deadline := time.Now().Add(max(c.timeout, 10*time.Second))
	for {
		set, err := c.statefulSet(parent, d)
		if err != nil {
			return roll.Rollout{}, err
		}
		if set.Status.ObservedGeneration >= set.Generation && set.Status.UpdateRevision != "" {
			return c.rollout(parent, set)
		}
		if time.Now().After(deadline) {
			return roll.Rollout{}, operation.Errorf(operation.TimedOut,
				"the controller of statefulset %s/%s has not seen its last change: is kube-controller-manager running?", d.Namespace, set.Name)
		}
		select {
		case <-parent.Done():
			return roll.Rollout{}, context.Cause(parent)
		case <-time.After(rolloutInterval):
		}
	}
}

func (c *Client) rollout(parent context.Context, set *appsv1.StatefulSet) (roll.Rollout, error) {
	r := roll.Rollout{
		Held:     set.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType,
		Revision: set.Status.UpdateRevision, Pods: map[string]string{},
	}
	ctx, cancel := c.bounded(parent)
	defer cancel()
	pods, err := c.clientset.CoreV1().Pods(set.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: metav1.FormatLabelSelector(set.Spec.Selector),
	})
	if err != nil {
		return r, c.failure(parent, request{verb: "list", resource: "pods", namespace: set.Namespace}, err)
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		if metav1.IsControlledBy(pod, set) {
			r.Pods[pod.Name] = pod.Labels[appsv1.StatefulSetRevisionLabel]
		}
	}
	return r, nil
}

// Recreate replaces the workload by the one in manifest, for changes that Kubernetes does
// not make to a workload that exists. Its pods and claims stay, and belong to the new one.
// That one is held and carries the notes from its first moment on.
//
// For a moment there is no workload: until it is there the new one is kept in a Secret,
// from which Recover makes it when this process dies.
func (c *Client) Recreate(parent context.Context, d *operation.Deployment, manifest []byte, notes map[string]string) error {
	var set appsv1.StatefulSet
	if err := json.Unmarshal(manifest, &set); err != nil {
		return fmt.Errorf("the rendered workload: %w", err)
	}
	set.Namespace = d.Namespace
	set.Spec.UpdateStrategy = appsv1.StatefulSetUpdateStrategy{Type: appsv1.OnDeleteStatefulSetStrategyType}
	set.Spec.Replicas = ptr.To(int32(d.Workload.Desired)) //nolint:gosec // a number of pods
	if set.Annotations == nil {
		set.Annotations = map[string]string{}
	}
	for key, value := range notes {
		if value != "" {
			set.Annotations[key] = value
		}
	}
	ctx, cancel := context.WithTimeout(parent, max(c.timeout, recreateLimit))
	defer cancel()
	if err := c.tryWorkload(ctx, parent, &set); err != nil {
		return err
	}
	kept, err := c.keepWorkload(ctx, parent, d, &set)
	if err != nil {
		return err
	}
	err = c.clientset.AppsV1().StatefulSets(d.Namespace).Delete(ctx, d.Workload.Name, metav1.DeleteOptions{
		PropagationPolicy: ptr.To(metav1.DeletePropagationOrphan),
		Preconditions:     &metav1.Preconditions{UID: ptr.To(types.UID(d.Workload.UID))},
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return c.failure(parent, request{verb: "delete", resource: "statefulsets", namespace: d.Namespace, name: d.Workload.Name}, err)
	}
	return c.makeWorkload(ctx, parent, &set, kept)
}

// recreateLimit is how long the garbage collector may take to orphan the pods.
const recreateLimit = 30 * time.Second

// tryWorkload lets the API server judge a workload before the old one is gone.
func (c *Client) tryWorkload(ctx, parent context.Context, set *appsv1.StatefulSet) error {
	dry := set.DeepCopy()
	dry.Name += "-check"
	_, err := c.clientset.AppsV1().StatefulSets(set.Namespace).Create(ctx, dry, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		return c.failure(parent, request{verb: "create", resource: "statefulsets", namespace: set.Namespace, name: set.Name}, err)
	}
	return nil
}

const (
	keptWorkload    = "redisctl-workload"
	keptWorkloadKey = "statefulset.json"
)

// keepWorkload writes a workload to a Secret: its pod template may have passwords in it.
func (c *Client) keepWorkload(ctx, parent context.Context, d *operation.Deployment, set *appsv1.StatefulSet) (string, error) {
	text, err := json.Marshal(set)
	if err != nil {
		return "", fmt.Errorf("encoding the workload: %w", err)
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name: keptWorkload + "-" + set.Name, Namespace: set.Namespace,
			Labels: map[string]string{nameLabel: keptWorkload, managerLabel: fieldManager, instanceLabel: d.Release},
		},
		Data: map[string][]byte{keptWorkloadKey: text},
	}
	secrets := c.clientset.CoreV1().Secrets(set.Namespace)
	_, err = secrets.Create(ctx, secret, metav1.CreateOptions{FieldManager: fieldManager})
	if apierrors.IsAlreadyExists(err) { // of a run that was killed later
		_, err = secrets.Update(ctx, secret, metav1.UpdateOptions{FieldManager: fieldManager})
	}
	if err != nil {
		return "", c.failure(parent, request{verb: "create", resource: "secrets", namespace: set.Namespace, name: secret.Name}, err)
	}
	return secret.Name, nil
}

// makeWorkload creates a workload as soon as the old one is gone, and removes the Secret
// that it is kept in.
func (c *Client) makeWorkload(ctx, parent context.Context, set *appsv1.StatefulSet, kept string) error {
	sets := c.clientset.AppsV1().StatefulSets(set.Namespace)
	r := request{verb: "create", resource: "statefulsets", namespace: set.Namespace, name: set.Name}
	for {
		_, err := sets.Create(ctx, set, metav1.CreateOptions{FieldManager: fieldManager})
		if err == nil {
			break
		}
		if !apierrors.IsAlreadyExists(err) {
			return c.failure(parent, r, err)
		}
		// The old one stays until the garbage collector has orphaned its pods.
		current, err := sets.Get(ctx, set.Name, metav1.GetOptions{})
		if err == nil && current.DeletionTimestamp == nil {
			break
		}
		select {
		case <-ctx.Done():
			return c.failure(parent, r, ctx.Err())
		case <-time.After(rolloutInterval):
		}
	}
	// Only what Helm does not render stays ours: server-side apply then takes the rest
	// without a conflict. An empty list would give everything to "before-first-apply".
	patch := []byte(`[{"op":"replace","path":"/metadata/managedFields","value":[{"manager":"` + fieldManager + `","operation":"Update",
		"apiVersion":"apps/v1","fieldsType":"FieldsV1","fieldsV1":{"f:spec":{"f:updateStrategy":{"f:type":{}}}}}]}]`)
	if _, err := sets.Patch(ctx, set.Name, types.JSONPatchType, patch, metav1.PatchOptions{}); err != nil {
		r.verb = "patch"
		return c.failure(parent, r, err)
	}
	err := c.clientset.CoreV1().Secrets(set.Namespace).Delete(ctx, kept, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return c.failure(parent, request{verb: "delete", resource: "secrets", namespace: set.Namespace, name: kept}, err)
	}
	return nil
}

// Recover makes the workload of a release that Recreate was killed over, and reports
// whether there was one.
func (c *Client) Recover(parent context.Context, t operation.Target) (bool, error) {
	if t.Namespace == "" {
		t.Namespace = c.Namespace()
	}
	ctx, cancel := context.WithTimeout(parent, max(c.timeout, recreateLimit))
	defer cancel()
	selector := nameLabel + "=" + keptWorkload
	if t.Release != "" {
		selector += "," + instanceLabel + "=" + t.Release
	}
	list, err := c.clientset.CoreV1().Secrets(t.Namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return false, c.failure(parent, request{verb: "list", resource: "secrets", namespace: t.Namespace}, err)
	}
	for i := range list.Items {
		var set appsv1.StatefulSet
		if err := json.Unmarshal(list.Items[i].Data[keptWorkloadKey], &set); err != nil {
			return false, fmt.Errorf("the workload in secret %s/%s: %w", t.Namespace, list.Items[i].Name, err)
		}
		if err := c.makeWorkload(ctx, parent, &set, list.Items[i].Name); err != nil {
			return false, err
		}
	}
	return len(list.Items) > 0, nil
}
