// Package full brings a release back from a backup of everything, into a namespace that
// has nothing of it: disaster recovery.
//
// Every step can be run again: objects that are there as they should be are left alone,
// the data's own record says how far it has come, and a note at the workload says what
// was done already. So the same command goes on after an interruption at any point.
package full

import (
	"context"
	"encoding/json"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/operation/restore/config"
	"github.com/redisctl/redisctl/internal/operation/restore/volume"
)

// Restore restores everything. All fields are required.
type Restore struct {
	Cluster   Cluster
	Resolver  operation.Resolver
	Connector operation.Connector
	Locker    operation.Locker
	Notes     operation.Notes
	Data      Data
	Comparer  restore.Comparer
	Config    config.Restore
	Reporter  operation.Reporter
	Now       func() time.Time
	// Random returns a new password.
	Random func() (string, error)
	// By names the operator in the record.
	By string
}

// Options are the user's choices.
type Options struct {
	restore.Overrides
	// Namespace that everything goes to.
	Namespace string
	// CreateNamespace makes it if it is not there.
	CreateNamespace bool
	// Adopt goes on with objects that exist and are as in the backup, and keeps Secrets
	// that exist.
	Adopt bool
	// Replace gives up what volumes hold that exist already.
	Replace bool
	// StorageClass takes the place of that of all claims.
	StorageClass string
	// Password is for a release whose Secret the backup does not have; Generate makes
	// one. Secrets are further objects of kind Secret.
	Password string
	Generate bool
	Secrets  []Object
	// AcceptDifferences goes on although the data is not what the backup holds.
	AcceptDifferences bool
	// Sample is about how many keys are compared with the backup; 0 for all.
	Sample int64
	// Begun is when the user began to wait, RTO how long all of it may take.
	Begun  time.Time
	RTO    time.Duration
	Limits volume.Limits
}

// DefaultRTO is what the chart's documentation promises.
const DefaultRTO = time.Hour

// Cluster is where the objects go.
type Cluster interface {
	// NamespacePhase returns the API's word for the state of a namespace: Active,
	// Terminating, or "" when there is none.
	NamespacePhase(ctx context.Context, name string) (string, error)
	CreateNamespace(ctx context.Context, name string) error
	// Compare tells how an object of the cluster stands to the one that is wanted.
	Compare(ctx context.Context, o Object) (Presence, error)
	// Apply makes an object what it should be (server-side apply). What somebody else
	// has set in the same fields is taken over.
	Apply(ctx context.Context, o Object) error
	// StorageClasses returns their names, and that of the default one.
	StorageClasses(ctx context.Context) (names []string, standard string, err error)
	// SecretData returns the contents of a Secret, nil when there is none.
	SecretData(ctx context.Context, namespace, name string) (map[string][]byte, error)
}

// Presence is what a cluster has of an object.
type Presence struct {
	Exists bool
	// Equal says that applying it would change nothing, Difference what it would change.
	Equal      bool
	Difference string
	// From is the backup that it was restored from: the annotation AnnotationFrom.
	From string
}

// Data restores the data into a release that serves.
type Data interface {
	// Restore restores, or goes on with what was interrupted. replace gives up what the
	// servers hold. The deployment's lock is held.
	Restore(ctx context.Context, d *operation.Deployment, locker operation.Locker, replace bool) (Loaded, error)
}

// Loaded is what became of the data.
type Loaded struct {
	// Method is "volume" or "live".
	Method     string
	Comparison *restore.Comparison
}

const (
	// NoteRecord holds the Record of a full restore as JSON.
	NoteRecord = "redisctl.dev/restore-full"
	// AnnotationFrom names the backup that an object was restored from.
	AnnotationFrom = "redisctl.dev/restored-from"
)

// Record is what was done of a full restore.
type Record struct {
	Backup string    `json:"backup"`
	Begun  time.Time `json:"begun"`
	By     string    `json:"by"`
	// Method is set when the data was restored that way, and Comparison is the proof.
	Method     string              `json:"method,omitempty"`
	Comparison *restore.Comparison `json:"comparison,omitempty"`
	// Done is when everything was.
	Done time.Time `json:"done,omitzero"`
}

// load returns the record of a release, nil when there is none.
func load(ctx context.Context, notes operation.Notes, d *operation.Deployment) (*Record, error) {
	text, err := notes.Note(ctx, d, NoteRecord)
	if err != nil || text == "" {
		return nil, err
	}
	var r Record
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return nil, &operation.Error{
			Kind: operation.Failed, Object: d.String(), Phase: "reading the annotation " + NoteRecord, Err: err,
			Next: "look at the annotation; remove it when no restore is in progress",
		}
	}
	return &r, nil
}

func save(ctx context.Context, notes operation.Notes, d *operation.Deployment, r *Record) error {
	return operation.SaveNote(ctx, notes, d, NoteRecord, r)
}
