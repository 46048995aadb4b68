package driver

import (
	"context"
	"os"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/mount-utils"
)

type node struct {
	csi.UnimplementedNodeServer
	volumes store
	name    string
	mounter mount.Interface
}

func (n node) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: n.name}, nil
}

func (n node) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	return &csi.NodeGetCapabilitiesResponse{}, nil
}

// NodePublishVolume mounts the volume's folder where a pod looks for it.
func (n node) NodePublishVolume(_ context.Context, r *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	target := r.GetTargetPath()
	if r.GetVolumeId() == "" || target == "" || r.GetVolumeCapability() == nil {
		return nil, status.Error(codes.InvalidArgument, "a volume, a place and a use are needed")
	}
	if err := checkCapabilities([]*csi.VolumeCapability{r.GetVolumeCapability()}); err != nil {
		return nil, err
	}
	if _, err := n.volumes.get(r.GetVolumeId()); err != nil {
		return nil, status.Error(codes.NotFound, err.Error())
	}
	if err := os.MkdirAll(target, 0o750); err != nil {
		return nil, status.Errorf(codes.Internal, "making the place to mount at: %v", err)
	}
	mounted, err := n.mounter.IsMountPoint(target)
	if err != nil {
		return nil, status.Errorf(codes.Internal, "looking at %s: %v", target, err)
	}
	if mounted {
		return &csi.NodePublishVolumeResponse{}, nil
	}
	options := []string{"bind"}
	if r.GetReadonly() {
		options = append(options, "ro")
	}
	if err := n.mounter.Mount(n.volumes.folder(r.GetVolumeId()), target, "", options); err != nil {
		return nil, status.Errorf(codes.Internal, "mounting: %v", err)
	}
	return &csi.NodePublishVolumeResponse{}, nil
}

// NodeUnpublishVolume undoes NodePublishVolume, as often as it is asked to.
func (n node) NodeUnpublishVolume(_ context.Context, r *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	target := r.GetTargetPath()
	if r.GetVolumeId() == "" || target == "" {
		return nil, status.Error(codes.InvalidArgument, "a volume and a place are needed")
	}
	mounted, err := n.mounter.IsMountPoint(target)
	if os.IsNotExist(err) {
		return &csi.NodeUnpublishVolumeResponse{}, nil
	}
	if err == nil && mounted {
		err = unix.Unmount(target, unix.UMOUNT_NOFOLLOW)
	}
	if err == nil {
		err = os.Remove(target) // an empty folder, never what a failed unmount left in the way
	}
	if err != nil {
		return nil, status.Errorf(codes.Internal, "unmounting: %v", err)
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}
