package volume

import (
	"time"
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
