// Package provisioner gives persistent volume claims a folder on the node, the
// way a cloud's storage driver gives them a disk. It runs as a process on the
// machine beside the kubelet, so it needs no image.
package provisioner

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

// Name is what a storage class refers to this provisioner by.
const Name = "redisctl.github.io/local"

// owner is the user and group the volumes belong to: that of the server
// images, since the kubelet does not apply a pod's fsGroup to a folder of the
// machine.
const owner = 999

// folders makes one folder per volume below root.
type folders struct {
	root string
}

// Provision makes the volume's folder and describes it. The folder's name
// carries the claim's, so that a person finds their data.
func (f folders) Provision(_ context.Context, options controller.ProvisionOptions) (*v1.PersistentVolume, controller.ProvisioningState, error) {
	claim := options.PVC
	dir := filepath.Join(f.root, claim.Namespace+"_"+claim.Name+"_"+options.PVName)
	if err := makeVolume(dir); err != nil {
		return nil, controller.ProvisioningFinished, fmt.Errorf("making the volume's folder: %w", err)
	}
	kind := v1.HostPathDirectory
	return &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: options.PVName},
		Spec: v1.PersistentVolumeSpec{
			AccessModes:                   claim.Spec.AccessModes,
			Capacity:                      v1.ResourceList{v1.ResourceStorage: claim.Spec.Resources.Requests[v1.ResourceStorage]},
			PersistentVolumeReclaimPolicy: *options.StorageClass.ReclaimPolicy,
			MountOptions:                  options.StorageClass.MountOptions,
			PersistentVolumeSource: v1.PersistentVolumeSource{
				HostPath: &v1.HostPathVolumeSource{Path: dir, Type: &kind},
			},
		},
	}, controller.ProvisioningFinished, nil
}

// Delete removes the volume's folder. It refuses any path outside the root: a
// volume is an object that others can edit.
func (f folders) Delete(_ context.Context, volume *v1.PersistentVolume) error {
	if volume.Spec.HostPath == nil {
		return &controller.IgnoredError{Reason: "it is not a folder"}
	}
	dir := filepath.Clean(volume.Spec.HostPath.Path)
	if !strings.HasPrefix(dir, f.root+string(filepath.Separator)) {
		return &controller.IgnoredError{Reason: "it is not one of this provisioner's folders"}
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("removing the volume's folder: %w", err)
	}
	return nil
}

// makeVolume makes dir owned and writable by the servers' user and group only.
// The mode is set separately because the umask applies to the one given to
// Mkdir; the set-group bit keeps new files in the group.
func makeVolume(dir string) error {
	if err := os.MkdirAll(dir, 0o770); err != nil {
		return err
	}
	if err := os.Chown(dir, owner, owner); err != nil {
		return err
	}
	return os.Chmod(dir, 0o770|os.ModeSetgid)
}
