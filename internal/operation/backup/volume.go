package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/redis"
)

// Volumes makes snapshots of the volumes that a release keeps its data on.
type Volumes interface {
	// DataClaim returns the claim that an instance keeps its data on.
	DataClaim(ctx context.Context, d *operation.Deployment, i operation.Instance) (DataClaim, error)
	// SnapshotClasses lists the classes of the cluster. An error matching ErrNoSnapshots
	// says that the cluster has no volume snapshots at all; this is found out before
	// permissions are.
	SnapshotClasses(ctx context.Context) ([]SnapshotClass, error)
	// MaySnapshot returns an *operation.Error of kind Denied that names what the user
	// may not do with volume snapshots in the deployment's namespace.
	MaySnapshot(ctx context.Context, d *operation.Deployment) error
	// HasSnapshot reports whether there is a snapshot of a name, whoever made it.
	HasSnapshot(ctx context.Context, namespace, name string) (bool, error)
	// CreateSnapshot creates a snapshot from its name, claim, class, labels and contents.
	CreateSnapshot(ctx context.Context, s VolumeSnapshot) error
	// AwaitSnapshot watches a snapshot until done returns true or an error, which is
	// returned, and returns its last state.
	AwaitSnapshot(ctx context.Context, namespace, name string, done func(VolumeSnapshot) (bool, error)) (VolumeSnapshot, error)
	// DeleteSnapshot deletes a snapshot. One that is not there is no error.
	DeleteSnapshot(ctx context.Context, namespace, name string) error
	// ListSnapshots lists the snapshots that redisctl made, of one release or with an
	// empty name of all; an empty namespace is all namespaces.
	ListSnapshots(ctx context.Context, namespace, release string) ([]VolumeSnapshot, error)
}

// ErrNoSnapshots says that a cluster has no volume snapshots: their custom resource
// definitions are not installed.
var ErrNoSnapshots = errors.New("the cluster has no volume snapshots (the API snapshot.storage.k8s.io/v1 is missing)")

// DataClaim is the claim that an instance keeps its data on.
type DataClaim struct {
	Name string
	// Phase is Bound when there is a volume.
	Phase string
	// StorageClass is empty for a volume that was made by hand.
	StorageClass string
	// Driver is what made the volume: the name of a CSI driver, or of another
	// provisioner. Empty when it cannot be told.
	Driver string
	// Type is the kind of volume, "csi" or another name of the Kubernetes API such as
	// "hostPath". Empty when the user may not read persistent volumes.
	Type string
}

// SnapshotClass is a VolumeSnapshotClass.
type SnapshotClass struct {
	Name, Driver string
	// Default is set for the class that its driver's snapshots are of when none is named.
	Default bool
	// Keeps is set when the data outlives the VolumeSnapshot (deletionPolicy Retain).
	Keeps bool
}

// VolumeSnapshot is a VolumeSnapshot that redisctl made.
type VolumeSnapshot struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Release   string `json:"release"`
	// Claim is the claim whose volume it is of.
	Claim string `json:"claim"`
	// Class is the VolumeSnapshotClass.
	Class string `json:"class"`
	// Created is when redisctl asked for it, Taken when the storage took it: the moment
	// that it shows. Nil while it is not taken.
	Created time.Time  `json:"created,omitzero"`
	Taken   *time.Time `json:"taken,omitempty"`
	// Ready is set when a claim can be made from it.
	Ready bool `json:"readyToUse"`
	// RestoreSize is the least size of such a claim in bytes; 0 when the driver does not say.
	RestoreSize int64 `json:"restoreSizeBytes,omitempty"`
	// Content is the VolumeSnapshotContent that it is bound to.
	Content string `json:"content,omitempty"`
	// Problem is what the storage says is wrong.
	Problem string `json:"problem,omitempty"`
	// Holds is what redisctl knew of the data. Nil when it cannot be read.
	Holds *VolumeContents `json:"holds,omitempty"`
}

// Persistence says in which form a snapshot's data is worth having.
type Persistence string

// The forms.
const (
	// PersistenceRDB is an RDB file that BGSAVE has just completed.
	PersistenceRDB Persistence = "rdb"
	// PersistenceAOF is an append-only file whose writes were on the disk.
	PersistenceAOF Persistence = "aof"
	// PersistenceUnknown is whatever was on the disk (--as-is).
	PersistenceUnknown Persistence = "as-is"
)

// VolumeContents is what was known of the data on a volume before its snapshot was
// taken. All of it is in the snapshot; writes that came later may be, too.
type VolumeContents struct {
	// Redisctl is the version that made the snapshot.
	Redisctl string `json:"redisctl"`
	// Instance is the pod, Role what it said to be.
	Instance string `json:"instance"`
	Role     string `json:"role,omitempty"`
	Product  string `json:"product,omitempty"`
	Version  string `json:"version,omitempty"`
	// Persistence is which of the files on the volume hold the data.
	Persistence Persistence `json:"persistence"`
	// ReplicationID and ReplicationOffset are where the instance was in its history, and
	// Keys its numbers of keys, at AsOf.
	ReplicationID     string         `json:"replicationId,omitempty"`
	ReplicationOffset int64          `json:"replicationOffset"`
	Keys              []redis.DBKeys `json:"keys"`
	AsOf              time.Time      `json:"asOf"`
}

// AnnotationContents is the annotation of a VolumeSnapshot that holds its
// VolumeContents as JSON.
const AnnotationContents = "redisctl.dev/contents"

// Encode returns the annotation's value.
func (c *VolumeContents) Encode() (string, error) {
	text, err := json.Marshal(c)
	return string(text), err
}

// ParseVolumeContents reads the annotation's value; nil when it is something else.
func ParseVolumeContents(text string) *VolumeContents {
	c := new(VolumeContents)
	if text == "" || json.Unmarshal([]byte(text), c) != nil {
		return nil
	}
	return c
}

// VolumeOptions are the user's choices for one backup of volumes.
type VolumeOptions struct {
	// Instance whose volume is taken, the primary's when empty; All for those of all.
	Instance string
	All      bool
	// Class is the VolumeSnapshotClass; empty for the one that fits.
	Class string
	// Name of the snapshot; with several, the beginning of their names. Empty for one
	// made of the claim's name and the time.
	Name string
	// AsIs takes the volumes without making the server write anything first.
	AsIs bool
	// AllowStale accepts a replica without a link to its primary.
	AllowStale bool
	// IgnoreSpace accepts too little free space for BGSAVE.
	IgnoreSpace bool
	// Timeout bounds each answer of a server, Ready the time until a snapshot can be used.
	Timeout, Ready time.Duration
}

// VolumeBackup makes snapshots of a release's volumes. All fields are required.
type VolumeBackup struct {
	Connector operation.Connector
	Saver     Saver
	Files     Files
	Volumes   Volumes
	Locker    operation.Locker
	Reporter  operation.Reporter
	Now       func() time.Time
	// Version of redisctl, for the snapshots' annotation.
	Version string
}

// VolumePlan is what `backup volume` is going to do.
type VolumePlan struct {
	operation.Plan
	// Snapshots that will be made.
	Snapshots []PlannedSnapshot `json:"snapshots"`

	deployment *operation.Deployment
	options    VolumeOptions
}

// PlannedSnapshot is one snapshot of a plan.
type PlannedSnapshot struct {
	Name     string `json:"name"`
	Instance string `json:"instance"`
	Claim    string `json:"claim"`
	// Class is empty when none could be chosen.
	Class       string      `json:"class"`
	Persistence Persistence `json:"persistence"`

	source topology.Member
	// sync is the setting appendfsync; empty when it is not known.
	sync string
}

// fullName names a snapshot in messages.
func fullName(namespace, name string) string { return "volumesnapshot " + namespace + "/" + name }

// kubectl returns a command about a snapshot.
func kubectl(verb, namespace, name string) string {
	return fmt.Sprintf("kubectl -n %s %s volumesnapshot %s", namespace, verb, name)
}

// classNames lists classes for messages: "fast (driver a), slow (driver b)".
func classNames(classes []SnapshotClass) string {
	if len(classes) == 0 {
		return "none"
	}
	names := make([]string, len(classes))
	for i, c := range classes {
		names[i] = fmt.Sprintf("%s (driver %s)", c.Name, c.Driver)
	}
	return strings.Join(names, ", ")
}
