package kube

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/access"
	"github.com/redisctl/redisctl/internal/operation/backup"
)

// Volume snapshots are custom resources
// (https://kubernetes.io/docs/concepts/storage/volume-snapshots), read and written without
// types of their own: their Go client would bring a second copy of everything.
const (
	snapshotGroup   = "snapshot.storage.k8s.io"
	snapshotVersion = "v1"
	snapshots       = "volumesnapshots"
	snapshotClasses = "volumesnapshotclasses"
)

// Annotations by which the storage controllers say what made a claim's volume
// (https://kubernetes.io/docs/reference/labels-annotations-taints). For volumes that were
// migrated to CSI it is the CSI driver.
const (
	provisionerAnnotation     = "volume.kubernetes.io/storage-provisioner"
	provisionerAnnotationBeta = "volume.beta.kubernetes.io/storage-provisioner"
	migratedAnnotation        = "pv.kubernetes.io/migrated-to"
	defaultClassAnnotation    = "snapshot.storage.kubernetes.io/is-default-class"
)

func snapshotResource(name string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: snapshotGroup, Version: snapshotVersion, Resource: name}
}

// DataClaim implements backup.Volumes. Where persistent volumes and storage classes, which
// belong to no namespace, may not be read, the claim's annotations have to do.
func (c *Client) DataClaim(parent context.Context, d *operation.Deployment, i operation.Instance) (backup.DataClaim, error) {
	name := claimOf(d, i)
	ctx, cancel := c.bounded(parent)
	defer cancel()
	claim, err := c.clientset.CoreV1().PersistentVolumeClaims(d.Namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		r := request{verb: "get", resource: "persistentvolumeclaims", namespace: d.Namespace, name: name}
		return backup.DataClaim{}, c.failure(parent, r, err)
	}
	found := backup.DataClaim{
		Name: name, Phase: string(claim.Status.Phase),
		Driver: cmp.Or(claim.Annotations[provisionerAnnotation], claim.Annotations[provisionerAnnotationBeta]),
	}
	if claim.Spec.StorageClassName != nil {
		found.StorageClass = *claim.Spec.StorageClassName
	}
	if claim.Spec.VolumeName != "" {
		err = c.readVolume(parent, claim.Spec.VolumeName, &found)
	}
	if found.Driver == "" && found.StorageClass != "" && err == nil {
		err = c.readStorageClass(parent, &found)
	}
	return found, err
}

// claimOf names the claim of an instance's data volume.
func claimOf(d *operation.Deployment, i operation.Instance) string {
	v := d.Workload.Volume
	if v.Kind == operation.VolumeClaimTemplate {
		return v.Claim + "-" + i.Name // as the StatefulSet controller names it
	}
	return v.Claim
}

func (c *Client) readVolume(parent context.Context, name string, found *backup.DataClaim) error {
	ctx, cancel := c.bounded(parent)
	defer cancel()
	volume, err := c.clientset.CoreV1().PersistentVolumes().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsForbidden(err) {
		return nil
	}
	if err != nil {
		return c.failure(parent, request{verb: "get", resource: "persistentvolumes", name: name}, err)
	}
	migrated := volume.Annotations[migratedAnnotation]
	switch {
	case volume.Spec.CSI != nil:
		found.Type, found.Driver = "csi", volume.Spec.CSI.Driver
	case migrated != "":
		found.Type, found.Driver = "csi", migrated
	default:
		found.Type = volumeType(volume)
	}
	return nil
}

// volumeType names the field of the volume's spec that is set: "hostPath", "nfs".
func volumeType(volume *corev1.PersistentVolume) string {
	source, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&volume.Spec.PersistentVolumeSource)
	if err != nil {
		return "unknown"
	}
	for name := range source {
		return name
	}
	return "unknown"
}

func (c *Client) readStorageClass(parent context.Context, found *backup.DataClaim) error {
	ctx, cancel := c.bounded(parent)
	defer cancel()
	class, err := c.clientset.StorageV1().StorageClasses().Get(ctx, found.StorageClass, metav1.GetOptions{})
	if apierrors.IsForbidden(err) || apierrors.IsNotFound(err) {
		return nil // a class may be removed while its volumes are in use
	}
	if err != nil {
		return c.failure(parent, request{verb: "get", resource: "storageclasses", name: found.StorageClass}, err)
	}
	found.Driver = class.Provisioner
	return nil
}

// SnapshotClasses implements backup.Volumes.
func (c *Client) SnapshotClasses(parent context.Context) ([]backup.SnapshotClass, error) {
	if err := c.hasSnapshots(parent); err != nil {
		return nil, err
	}
	ctx, cancel := c.bounded(parent)
	defer cancel()
	list, err := c.dynamic.Resource(snapshotResource(snapshotClasses)).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, c.failure(parent, request{verb: "list", resource: snapshotClasses}, err)
	}
	classes := []backup.SnapshotClass{}
	for _, item := range list.Items {
		driver, _, _ := unstructured.NestedString(item.Object, "driver")
		policy, _, _ := unstructured.NestedString(item.Object, "deletionPolicy")
		classes = append(classes, backup.SnapshotClass{
			Name: item.GetName(), Driver: driver, Default: item.GetAnnotations()[defaultClassAnnotation] == "true", Keeps: policy == "Retain",
		})
	}
	slices.SortFunc(classes, func(a, b backup.SnapshotClass) int { return cmp.Compare(a.Name, b.Name) })
	return classes, nil
}

// hasSnapshots returns an error matching backup.ErrNoSnapshots when the API server does
// not serve volume snapshots. Discovery needs no permission.
func (c *Client) hasSnapshots(parent context.Context) error {
	ctx, cancel := c.bounded(parent)
	defer cancel()
	const version = snapshotGroup + "/" + snapshotVersion
	_, err := discovery.ToServerResourcesInterfaceWithContext(c.clientset.Discovery()).
		ServerResourcesForGroupVersionWithContext(ctx, version)
	switch {
	case apierrors.IsNotFound(err):
		return backup.ErrNoSnapshots
	case err != nil:
		return c.failure(parent, request{verb: "discover", resource: snapshotGroup}, err)
	}
	return nil
}

// MaySnapshot implements backup.Volumes with access reviews, which everybody may ask for.
func (c *Client) MaySnapshot(ctx context.Context, d *operation.Deployment) error {
	var asked []access.Permission
	for _, verb := range []string{"create", "get", "list", "watch", "delete"} {
		asked = append(asked, access.Permission{Verb: verb, Group: snapshotGroup, Resource: snapshots, Namespace: d.Namespace})
	}
	denied, err := c.Denied(ctx, asked)
	if err != nil || len(denied) == 0 {
		return err
	}
	var missing []string
	for _, p := range denied {
		missing = append(missing, p.Verb)
	}
	r := request{verb: missing[0], resource: snapshots, namespace: d.Namespace}
	return &operation.Error{
		Kind: operation.Denied, Object: r.object(), Phase: "checking permissions",
		Err:       fmt.Errorf("not allowed to %s %s %s", strings.Join(missing, ", "), snapshots, r.where()),
		Unchanged: "nothing was changed",
		Next:      fmt.Sprintf("ask for a Role with %q on %q of the API group %s %s", strings.Join(missing, ", "), snapshots, snapshotGroup, r.where()),
	}
}

// CreateSnapshot implements backup.Volumes.
func (c *Client) CreateSnapshot(parent context.Context, s backup.VolumeSnapshot) error {
	contents, err := s.Holds.Encode()
	if err != nil {
		return fmt.Errorf("encoding what the snapshot holds: %w", err)
	}
	object := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": snapshotGroup + "/" + snapshotVersion,
		"kind":       "VolumeSnapshot",
		"spec": map[string]any{
			"volumeSnapshotClassName": s.Class,
			"source":                  map[string]any{"persistentVolumeClaimName": s.Claim},
		},
	}}
	object.SetName(s.Name)
	object.SetLabels(map[string]string{instanceLabel: s.Release, managerLabel: fieldManager})
	object.SetAnnotations(map[string]string{backup.AnnotationContents: contents})
	ctx, cancel := c.bounded(parent)
	defer cancel()
	_, err = c.snapshots(s.Namespace).Create(ctx, object, metav1.CreateOptions{FieldManager: fieldManager})
	if err != nil {
		return c.failure(parent, request{verb: "create", resource: snapshots, namespace: s.Namespace, name: s.Name}, err)
	}
	return nil
}

func (c *Client) snapshots(namespace string) dynamic.ResourceInterface {
	return c.dynamic.Resource(snapshotResource(snapshots)).Namespace(namespace)
}

// Getting a snapshot may fail so many times in a row, so far apart, before a wait for it
// does: the wait may last many minutes.
const (
	snapshotTries = 5
	snapshotPause = 2 * time.Second
)

// AwaitSnapshot implements backup.Volumes.
func (c *Client) AwaitSnapshot(
	parent context.Context, namespace, name string, done func(backup.VolumeSnapshot) (bool, error),
) (backup.VolumeSnapshot, error) {
	r := request{verb: "get", resource: snapshots, namespace: namespace, name: name}
	var last backup.VolumeSnapshot
	for failures := 0; ; {
		ctx, cancel := c.bounded(parent)
		object, err := c.snapshots(namespace).Get(ctx, name, metav1.GetOptions{})
		cancel()
		if err == nil {
			failures = 0
			last = snapshotOf(object)
			if ended, err := done(last); ended || err != nil {
				return last, err
			}
			var ended bool
			if ended, err = c.watchSnapshot(parent, object, &last, done); ended {
				return last, err
			}
		}
		failures++
		if err != nil && (parent.Err() != nil || failures > snapshotTries || apierrors.IsNotFound(err) || apierrors.IsForbidden(err)) {
			return last, c.failure(parent, r, err)
		}
		select {
		case <-parent.Done():
			return last, c.failure(parent, r, parent.Err())
		case <-time.After(snapshotPause):
		}
	}
}

// watchSnapshot watches a snapshot from the given state on. It returns false when the API
// server ended the watch, as it does now and then, or refused it.
func (c *Client) watchSnapshot(
	ctx context.Context, from *unstructured.Unstructured, last *backup.VolumeSnapshot, done func(backup.VolumeSnapshot) (bool, error),
) (ended bool, err error) {
	watcher, err := c.snapshots(from.GetNamespace()).Watch(ctx, metav1.ListOptions{
		FieldSelector:   fields.OneTermEqualSelector("metadata.name", from.GetName()).String(),
		ResourceVersion: from.GetResourceVersion(),
	})
	if err != nil {
		return false, err
	}
	defer watcher.Stop()
	for {
		var event watch.Event
		var open bool
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case event, open = <-watcher.ResultChan():
		}
		if !open || event.Type == watch.Deleted || event.Type == watch.Error {
			return false, nil // getting it again tells why
		}
		object, ok := event.Object.(*unstructured.Unstructured)
		if !ok {
			continue
		}
		*last = snapshotOf(object)
		if ended, err := done(*last); ended || err != nil {
			return true, err
		}
	}
}

// DeleteSnapshot implements backup.Volumes.
func (c *Client) DeleteSnapshot(parent context.Context, namespace, name string) error {
	ctx, cancel := c.bounded(parent)
	defer cancel()
	err := c.snapshots(namespace).Delete(ctx, name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return c.failure(parent, request{verb: "delete", resource: snapshots, namespace: namespace, name: name}, err)
	}
	return nil
}

// HasSnapshot implements backup.Volumes.
func (c *Client) HasSnapshot(parent context.Context, namespace, name string) (bool, error) {
	ctx, cancel := c.bounded(parent)
	defer cancel()
	_, err := c.snapshots(namespace).Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return false, nil
	case err != nil:
		return false, c.failure(parent, request{verb: "get", resource: snapshots, namespace: namespace, name: name}, err)
	default:
		return true, nil
	}
}

// ListSnapshots implements backup.Volumes.
func (c *Client) ListSnapshots(parent context.Context, namespace, release string) ([]backup.VolumeSnapshot, error) {
	if err := c.hasSnapshots(parent); err != nil {
		return nil, err
	}
	selector := managerLabel + "=" + fieldManager
	if release != "" {
		selector += "," + instanceLabel + "=" + release
	}
	ctx, cancel := c.bounded(parent)
	defer cancel()
	list, err := c.snapshots(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, c.failure(parent, request{verb: "list", resource: snapshots, namespace: namespace}, err)
	}
	found := make([]backup.VolumeSnapshot, len(list.Items))
	for i := range list.Items {
		found[i] = snapshotOf(&list.Items[i])
	}
	slices.SortFunc(found, func(a, b backup.VolumeSnapshot) int {
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return found, nil
}

// snapshotOf reads a VolumeSnapshot. What is missing stays zero.
func snapshotOf(o *unstructured.Unstructured) backup.VolumeSnapshot {
	text := func(path ...string) string {
		value, _, _ := unstructured.NestedString(o.Object, path...)
		return value
	}
	s := backup.VolumeSnapshot{
		Namespace: o.GetNamespace(), Name: o.GetName(), Release: o.GetLabels()[instanceLabel],
		Claim:   text("spec", "source", "persistentVolumeClaimName"),
		Class:   text("spec", "volumeSnapshotClassName"),
		Created: o.GetCreationTimestamp().UTC(),
		Content: text("status", "boundVolumeSnapshotContentName"),
		Problem: text("status", "error", "message"),
		Holds:   backup.ParseVolumeContents(o.GetAnnotations()[backup.AnnotationContents]),
	}
	s.Ready, _, _ = unstructured.NestedBool(o.Object, "status", "readyToUse")
	if taken, err := time.Parse(time.RFC3339, text("status", "creationTime")); err == nil {
		taken = taken.UTC()
		s.Taken = &taken
	}
	if size, err := resource.ParseQuantity(text("status", "restoreSize")); err == nil {
		s.RestoreSize = size.Value()
	}
	return s
}
