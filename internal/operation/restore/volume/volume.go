// Package volume restores a backup through the data volume of a release: it stops the
// servers, puts the backup's files in the place of theirs, and starts them again.
//
// Nothing is copied while the servers are down unless the volume admits one pod only:
// a helper pod receives the files beside the running server, into a folder of their
// own; renaming them takes milliseconds. What was there is kept in another folder of
// the volume, so that every step can be undone.
//
// The primary starts alone, and its replicas when its data was compared with the
// backup: they copy it whole, whatever their own volumes hold. While it is compared,
// clients' writes wait.
package volume

import (
	"context"
	"io"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/redis"
)

// Restore restores through a volume. All fields are required.
type Restore struct {
	Resolver  operation.Resolver
	Connector operation.Connector
	Locker    operation.Locker
	Notes     operation.Notes
	Volumes   Volumes
	Traffic   Traffic
	Holder    Holder
	Keeper    Keeper
	Comparer  restore.Comparer
	Reporter  operation.Reporter
	Now       func() time.Time
	// By names the operator in the record.
	By string
}

// Limits are how long the parts may take.
type Limits struct {
	// Timeout bounds each answer of a server.
	Timeout time.Duration
	// Stall is how long a transfer may stand still.
	Stall time.Duration
	// Stop is how long the servers may take to end. A server that saves on SIGTERM
	// takes as long as its pod's grace period lets it.
	Stop time.Duration
	// Start is how long a server may make no progress while it starts: its pod is
	// scheduled, its data is loaded.
	Start time.Duration
	// Hold is how long clients' writes wait at most while the data is compared.
	Hold time.Duration
}

// DefaultLimits suit the chart's settings: a grace period of 30 s.
func DefaultLimits() Limits {
	return Limits{
		Timeout: 5 * time.Second, Stall: 30 * time.Second, Stop: 2 * time.Minute, Start: 5 * time.Minute, Hold: 2 * time.Minute,
	}
}

// Options are the user's choices.
type Options struct {
	restore.Overrides
	// Replace gives up the data that the release holds.
	Replace bool
	// NoSafetyBackup leaves out the backup of the present data. The files on the
	// volume are kept all the same.
	NoSafetyBackup bool
	// Sample is about how many keys are compared with the backup; 0 for all.
	Sample int64
	Limits Limits
}

// Volumes works on the pods and the volumes of a release.
type Volumes interface {
	// Claim describes a PersistentVolumeClaim of the deployment's namespace.
	Claim(ctx context.Context, d *operation.Deployment, name string) (Claim, error)
	// OpenVolume makes a volume accessible from a helper pod, on the given node unless
	// that is empty. The claim beside, unless empty, can be read from as well.
	OpenVolume(ctx context.Context, d *operation.Deployment, claim, node, beside string) (Volume, error)
	// ClaimFromSnapshot makes a claim with what a VolumeSnapshot holds, of the class and
	// the size of the claim like. It replaces one of the same name. DeleteClaim removes it.
	ClaimFromSnapshot(ctx context.Context, d *operation.Deployment, name, snapshot, like string) error
	DeleteClaim(ctx context.Context, d *operation.Deployment, name string) error
	// FreeSpace returns the free bytes of the file system of a folder of an instance.
	FreeSpace(ctx context.Context, d *operation.Deployment, i operation.Instance, path string) (int64, error)
	// Scale sets how many pods the workload is to have. It fails, without a change,
	// when that is neither from nor to.
	Scale(ctx context.Context, d *operation.Deployment, from, to int) error
	// AwaitStopped returns when the workload has no pods. state is called with what it
	// is waiting for.
	AwaitStopped(ctx context.Context, d *operation.Deployment, state func(string)) error
	// Kept lists the folders in the data folder of an instance whose names begin with
	// prefix, with name and size; RemoveKept removes one.
	Kept(ctx context.Context, d *operation.Deployment, i operation.Instance, dir, prefix string) ([]Kept, error)
	RemoveKept(ctx context.Context, d *operation.Deployment, i operation.Instance, dir, name string) error
	// LastLines returns what the server of an instance printed last.
	LastLines(ctx context.Context, d *operation.Deployment, i operation.Instance, lines int) ([]string, error)
}

// Claim is a PersistentVolumeClaim.
type Claim struct {
	Name string
	// Bound says that it has a volume; Phase is the API's word for its state.
	Bound bool
	Phase string
	// Capacity in bytes, 0 when it is not known.
	Capacity int64
	// Exclusive volumes admit one pod at a time (ReadWriteOncePod), others at least
	// all pods of one node.
	Exclusive bool
}

// Volume is a data volume that is worked on. Folders are absolute.
type Volume interface {
	// ServerVersion is that of the server that the release's pods run.
	ServerVersion(ctx context.Context) (redis.Version, error)
	// FreeSpace returns the free bytes of the file system of a folder.
	FreeSpace(ctx context.Context, dir string) (int64, error)
	// Upload writes a file of size bytes below a folder. It is there only if all of it
	// has arrived, unchanged. stall is how long no byte may be taken.
	Upload(ctx context.Context, dir, name string, size int64, data io.Reader, stall time.Duration) error
	// Beside returns the sizes in bytes of those of the given files and folders that the
	// data folder of the claim beside has.
	Beside(ctx context.Context, dir string, names []string) (map[string]int64, error)
	// CopyBeside copies a file or folder of the data folder of the claim beside to name
	// below the folder to. It is there only if the copy has the original's digests.
	CopyBeside(ctx context.Context, dir, from, to, name string) error
	// Swap moves files, Undo moves them back and removes what was staged. Each may be
	// called again when it has failed, and Undo whatever became of Swap.
	Swap(ctx context.Context, s Swap) error
	Undo(ctx context.Context, s Swap) error
	// Close removes the helper pod.
	Close(ctx context.Context) error
}

// Swap says which files of a data folder take the place of which.
type Swap struct {
	// Dir is the server's data folder.
	Dir string `json:"dir"`
	// Staged is the folder in Dir that holds what is placed, Kept the one that what
	// was there is kept in.
	Staged string `json:"staged"`
	Kept   string `json:"kept"`
	// Names are the files and folders in Dir that the server keeps its data in,
	// whether they exist or not.
	Names []string `json:"names"`
}

// Traffic moves the clients of Services.
type Traffic interface {
	// Pin makes a Service that is pinned to the pod from select the pod to.
	Pin(ctx context.Context, d *operation.Deployment, service, from, to string) error
}

// Holder makes the writes of a server's clients wait.
type Holder interface {
	// HoldWrites lets writes wait until release is called, for limit at most. The error
	// matches errors.ErrUnsupported for servers that cannot do so without making reads
	// wait as well (before 6.2), or may not be told to.
	HoldWrites(ctx context.Context, d *operation.Deployment, i operation.Instance, limit time.Duration) (release func(context.Context) error, err error)
}

// Keeper backs up what a restore replaces.
type Keeper interface {
	// Keep stores a backup of an instance and returns where it is.
	Keep(ctx context.Context, d *operation.Deployment, i operation.Instance) (string, error)
}
