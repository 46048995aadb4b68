package driver

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"sync"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// defaultSize of a volume in bytes, for callers that name none. Sizes are noted and
// compared, but nothing enforces them.
const defaultSize = 1 << 30

type controller struct {
	csi.UnimplementedControllerServer
	volumes, snapshots store

	// mu keeps callers that repeat themselves from making the same thing twice.
	mu sync.Mutex
}

func (c *controller) ControllerGetCapabilities(
	context.Context, *csi.ControllerGetCapabilitiesRequest,
) (*csi.ControllerGetCapabilitiesResponse, error) {
	types := []csi.ControllerServiceCapability_RPC_Type{
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_SNAPSHOT,
		csi.ControllerServiceCapability_RPC_CLONE_VOLUME,
	}
	list := make([]*csi.ControllerServiceCapability, len(types))
	for i, t := range types {
		list[i] = &csi.ControllerServiceCapability{
			Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{Type: t}},
		}
	}
	return &csi.ControllerGetCapabilitiesResponse{Capabilities: list}, nil
}

// idOf makes a folder's name of a caller's name, which may be long or hold anything.
func idOf(prefix, name string) string {
	sum := sha256.Sum256([]byte(name))
	return prefix + hex.EncodeToString(sum[:10])
}

func (c *controller) CreateVolume(ctx context.Context, r *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	if r.GetName() == "" {
		return nil, status.Error(codes.InvalidArgument, "the volume has no name")
	}
	if err := checkCapabilities(r.GetVolumeCapabilities()); err != nil {
		return nil, err
	}
	size := max(r.GetCapacityRange().GetRequiredBytes(), 0)
	limit := r.GetCapacityRange().GetLimitBytes()
	if limit > 0 && size > limit {
		return nil, status.Errorf(codes.OutOfRange, "%d bytes are more than the limit of %d", size, limit)
	}
	if size == 0 {
		size = defaultSize
		if limit > 0 {
			size = min(size, limit)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	id := idOf("vol-", r.GetName())
	from, source, err := c.source(r.GetVolumeContentSource(), size)
	if err != nil {
		return nil, err
	}
	known, err := c.volumes.get(id)
	switch {
	case err == nil && (known.Size != size || known.Source != source):
		return nil, status.Errorf(codes.AlreadyExists, "volume %s is there, with another size or contents", r.GetName())
	case errors.Is(err, fs.ErrNotExist):
		err = c.volumes.add(ctx, id, from, record{Name: r.GetName(), Size: size, Source: source, Created: time.Now()})
	}
	if err != nil {
		return nil, status.Errorf(codes.Internal, "making the volume: %v", err)
	}
	return &csi.CreateVolumeResponse{Volume: &csi.Volume{
		VolumeId: id, CapacityBytes: size, ContentSource: r.GetVolumeContentSource(),
	}}, nil
}

// source returns the folder that a new volume of size bytes begins as a copy of.
func (c *controller) source(from *csi.VolumeContentSource, size int64) (folder, id string, err error) {
	var s store
	switch {
	case from == nil:
		return "", "", nil
	case from.GetSnapshot() != nil:
		s, id = c.snapshots, from.GetSnapshot().GetSnapshotId()
	case from.GetVolume() != nil:
		s, id = c.volumes, from.GetVolume().GetVolumeId()
	default:
		return "", "", status.Error(codes.InvalidArgument, "an unknown kind of contents")
	}
	known, err := s.get(id)
	if errors.Is(err, fs.ErrNotExist) {
		return "", "", status.Errorf(codes.NotFound, "there is no %q to copy", id)
	}
	if err != nil {
		return "", "", status.Error(codes.Internal, err.Error())
	}
	if known.Size > size {
		return "", "", status.Errorf(codes.OutOfRange, "%d bytes are too few for what %q holds: %d", size, id, known.Size)
	}
	return s.folder(id), id, nil
}

func (c *controller) DeleteVolume(_ context.Context, r *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	if r.GetVolumeId() == "" {
		return nil, status.Error(codes.InvalidArgument, "which volume?")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.volumes.remove(r.GetVolumeId()); err != nil {
		return nil, status.Errorf(codes.Internal, "removing the volume: %v", err)
	}
	return &csi.DeleteVolumeResponse{}, nil
}

func (c *controller) ValidateVolumeCapabilities(
	_ context.Context, r *csi.ValidateVolumeCapabilitiesRequest,
) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	if r.GetVolumeId() == "" || len(r.GetVolumeCapabilities()) == 0 {
		return nil, status.Error(codes.InvalidArgument, "which volume, and for what use?")
	}
	if _, err := c.volumes.get(r.GetVolumeId()); err != nil {
		return nil, status.Error(codes.NotFound, err.Error())
	}
	if err := checkCapabilities(r.GetVolumeCapabilities()); err != nil {
		return &csi.ValidateVolumeCapabilitiesResponse{Message: err.Error()}, nil //nolint:nilerr // that is the answer
	}
	return &csi.ValidateVolumeCapabilitiesResponse{Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{
		VolumeContext: r.GetVolumeContext(), VolumeCapabilities: r.GetVolumeCapabilities(), Parameters: r.GetParameters(),
	}}, nil
}

// checkCapabilities refuses what folders cannot be used as.
func checkCapabilities(list []*csi.VolumeCapability) error {
	if len(list) == 0 {
		return status.Error(codes.InvalidArgument, "it is not said what the volume is for")
	}
	for _, use := range list {
		if use.GetBlock() != nil {
			return status.Error(codes.InvalidArgument, "a folder is no block device")
		}
	}
	return nil
}

// CreateSnapshot copies the volume's folder. A parameter "fail" of the snapshot class
// is the error to fail with, for tests of what reports it: one of those after which
// nothing can have been made, so that the snapshot can be deleted.
func (c *controller) CreateSnapshot(ctx context.Context, r *csi.CreateSnapshotRequest) (*csi.CreateSnapshotResponse, error) {
	if r.GetName() == "" || r.GetSourceVolumeId() == "" {
		return nil, status.Error(codes.InvalidArgument, "a snapshot needs a name and a volume")
	}
	if text := r.GetParameters()["fail"]; text != "" {
		return nil, status.Error(codes.Internal, text)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	id := idOf("snap-", r.GetName())
	known, err := c.snapshots.get(id)
	switch {
	case err == nil && known.Source != r.GetSourceVolumeId():
		return nil, status.Errorf(codes.AlreadyExists, "snapshot %s is there, of another volume", r.GetName())
	case errors.Is(err, fs.ErrNotExist):
		known, err = c.copyVolume(ctx, id, r)
	}
	if err != nil {
		return nil, err
	}
	return &csi.CreateSnapshotResponse{Snapshot: &csi.Snapshot{
		SnapshotId: id, SourceVolumeId: known.Source, SizeBytes: known.Size, ReadyToUse: true,
		CreationTime: timestamppb.New(known.Created),
	}}, nil
}

func (c *controller) copyVolume(ctx context.Context, id string, r *csi.CreateSnapshotRequest) (record, error) {
	volume, err := c.volumes.get(r.GetSourceVolumeId())
	if err != nil {
		return record{}, status.Error(codes.NotFound, err.Error())
	}
	made := record{Name: r.GetName(), Size: volume.Size, Source: r.GetSourceVolumeId(), Created: time.Now()}
	if err := c.snapshots.add(ctx, id, c.volumes.folder(r.GetSourceVolumeId()), made); err != nil {
		return record{}, status.Errorf(codes.Internal, "copying the volume: %v", err)
	}
	return made, nil
}

func (c *controller) DeleteSnapshot(_ context.Context, r *csi.DeleteSnapshotRequest) (*csi.DeleteSnapshotResponse, error) {
	if r.GetSnapshotId() == "" {
		return nil, status.Error(codes.InvalidArgument, "which snapshot?")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.snapshots.remove(r.GetSnapshotId()); err != nil {
		return nil, status.Errorf(codes.Internal, "removing the snapshot: %v", err)
	}
	return &csi.DeleteSnapshotResponse{}, nil
}
