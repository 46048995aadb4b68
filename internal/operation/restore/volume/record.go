package volume

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
)

// Method is what records of this way of restoring are told by.
const Method = "volume"

// Phase is how far a restore has come. Each is recorded before its first change.
type Phase string

// The phases.
const (
	// PhaseStaging: files are copied beside those of the running server.
	PhaseStaging Phase = "staging"
	// PhaseStopping: the workload is scaled to 0.
	PhaseStopping Phase = "stopping"
	// PhaseSwapping: files are moved.
	PhaseSwapping Phase = "swapping"
	// PhaseStarting: the primary starts and loads its data.
	PhaseStarting Phase = "starting"
	// PhaseComparing: the primary runs, its data is compared.
	PhaseComparing Phase = "comparing"
	// PhaseReplicas: the replicas start and copy the data.
	PhaseReplicas Phase = "replicas"
	// PhaseUndoing: all of it is undone.
	PhaseUndoing Phase = "undoing"
)

// Record is an unfinished restore.
type Record struct {
	Method string `json:"method"`
	// Backup is what is restored.
	Backup string `json:"backup"`
	Origin
	// Begun is when, By who began it.
	Begun time.Time `json:"begun"`
	By    string    `json:"by"`
	Phase Phase     `json:"phase"`
	// Stopped is set before the servers are stopped, Moved before files are moved.
	// Compared is set once the data was compared with the backup, or the difference was
	// accepted.
	Stopped  bool `json:"stopped,omitempty"`
	Moved    bool `json:"moved,omitempty"`
	Compared bool `json:"compared,omitempty"`
	// Replicas is how many pods the workload had and is to have again.
	Replicas int `json:"replicas"`
	// Claim holds the data.
	Claim string `json:"claim"`
	// Beside is the claim that was made from a volume snapshot for the time of copying.
	Beside string `json:"beside,omitempty"`
	Swap   Swap   `json:"swap"`
	// SafetyBackup is where the backup of the data before is; empty when none was
	// taken.
	SafetyBackup string `json:"safetyBackup,omitempty"`
	// Services tells which ones led to another pod than the first one, and to which.
	Services map[string]string `json:"services,omitempty"`
}

// load returns the record of an unfinished restore, or nil. That of another method is
// returned as it is.
func load(ctx context.Context, notes operation.Notes, d *operation.Deployment) (*Record, error) {
	text, err := notes.Note(ctx, d, operation.NoteRestore)
	if err != nil || text == "" {
		return nil, err
	}
	var r Record
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return nil, &operation.Error{
			Kind: operation.Failed, Object: d.String(), Phase: "reading the annotation " + operation.NoteRestore, Err: err,
			Unchanged: "nothing was changed", Next: "look at the annotation; remove it when no restore is in progress",
		}
	}
	return &r, nil
}

func save(ctx context.Context, notes operation.Notes, d *operation.Deployment, r Record) error {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encoding the record: %w", err)
	}
	return notes.SetNotes(ctx, d, map[string]string{operation.NoteRestore: string(text)})
}

func forget(ctx context.Context, notes operation.Notes, d *operation.Deployment) error {
	return notes.SetNotes(ctx, d, map[string]string{operation.NoteRestore: ""})
}
