// Package provisioner makes a CSI driver's volumes for persistent volume claims, also
// from a VolumeSnapshot: the part of the project's external-provisioner, which cannot be
// had as a module.
package provisioner

import (
	"context"
	"fmt"

	"github.com/container-storage-interface/spec/lib/go/csi"
	snapshots "github.com/kubernetes-csi/external-snapshotter/client/v8/clientset/versioned"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

// Provisioner asks a driver for volumes.
type Provisioner struct {
	// Driver is the driver's name.
	Driver     string
	Controller csi.ControllerServer
	Snapshots  snapshots.Interface
}

// Provision makes the volume of a claim.
func (p Provisioner) Provision(
	ctx context.Context, o controller.ProvisionOptions,
) (*v1.PersistentVolume, controller.ProvisioningState, error) {
	request := o.PVC.Spec.Resources.Requests[v1.ResourceStorage]
	source, err := p.source(ctx, o.PVC, request.Value())
	if err != nil {
		return nil, controller.ProvisioningNoChange, err
	}
	made, err := p.Controller.CreateVolume(ctx, &csi.CreateVolumeRequest{
		Name: o.PVName, CapacityRange: &csi.CapacityRange{RequiredBytes: request.Value()}, VolumeContentSource: source,
		VolumeCapabilities: []*csi.VolumeCapability{{
			AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{}},
			AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
		}},
	})
	if err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	return &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: o.PVName},
		Spec: v1.PersistentVolumeSpec{
			AccessModes:                   o.PVC.Spec.AccessModes,
			Capacity:                      v1.ResourceList{v1.ResourceStorage: *resource.NewQuantity(made.GetVolume().GetCapacityBytes(), resource.BinarySI)},
			PersistentVolumeReclaimPolicy: *o.StorageClass.ReclaimPolicy,
			PersistentVolumeSource: v1.PersistentVolumeSource{
				CSI: &v1.CSIPersistentVolumeSource{Driver: p.Driver, VolumeHandle: made.GetVolume().GetVolumeId()},
			},
		},
	}, controller.ProvisioningFinished, nil
}

// source returns what a claim of size bytes wants to begin with.
func (p Provisioner) source(ctx context.Context, claim *v1.PersistentVolumeClaim, size int64) (*csi.VolumeContentSource, error) {
	from := claim.Spec.DataSource
	if from == nil {
		return nil, nil //nolint:nilnil // an empty volume has no source
	}
	if from.Kind != "VolumeSnapshot" {
		return nil, fmt.Errorf("the claim's data source is a %s: only VolumeSnapshots are supported", from.Kind)
	}
	client := p.Snapshots.SnapshotV1()
	snapshot, err := client.VolumeSnapshots(claim.Namespace).Get(ctx, from.Name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading snapshot %s: %w", from.Name, err)
	}
	status := snapshot.Status
	if status == nil || status.ReadyToUse == nil || !*status.ReadyToUse || status.BoundVolumeSnapshotContentName == nil {
		return nil, fmt.Errorf("snapshot %s is not Ready", from.Name)
	}
	if status.RestoreSize != nil && status.RestoreSize.Value() > size {
		return nil, fmt.Errorf("requested volume size %d is less than the size %d for the source snapshot %s", size, status.RestoreSize.Value(), from.Name)
	}
	content, err := client.VolumeSnapshotContents().Get(ctx, *status.BoundVolumeSnapshotContentName, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading the contents of snapshot %s: %w", from.Name, err)
	}
	if content.Spec.Driver != p.Driver || content.Status == nil || content.Status.SnapshotHandle == nil {
		return nil, fmt.Errorf("snapshot %s is not one of driver %s", from.Name, p.Driver)
	}
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
		Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: *content.Status.SnapshotHandle},
	}}, nil
}

// Delete removes a volume of the driver.
func (p Provisioner) Delete(ctx context.Context, volume *v1.PersistentVolume) error {
	if volume.Spec.CSI == nil || volume.Spec.CSI.Driver != p.Driver {
		return &controller.IgnoredError{Reason: "it is not a volume of this driver"}
	}
	_, err := p.Controller.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: volume.Spec.CSI.VolumeHandle})
	return err
}
