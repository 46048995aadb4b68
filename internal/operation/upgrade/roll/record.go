package roll

import (
	"context"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
)

// Phase is how far an upgrade has come. Each is recorded before its first change.
type Phase string

// The phases.
const (
	// PhasePreparing: the first pod becomes the primary, the workload is held.
	PhasePreparing Phase = "preparing"
	// PhaseChanging: Helm makes the next revision.
	PhaseChanging Phase = "changing"
	// PhaseRolling: pods are replaced.
	PhaseRolling Phase = "rolling"
	// PhaseUndoing: Helm goes back, and the pods that were replaced.
	PhaseUndoing Phase = "undoing"
	// PhaseReleasing: the pods are as they are to be, the workload gets its update strategy
	// back.
	PhaseReleasing Phase = "releasing"
)

// Record is an unfinished upgrade.
type Record struct {
	// Operation is the command: "upgrade apply" or "upgrade rollback".
	Operation string `json:"operation"`
	// From and To are images.
	From  string    `json:"from"`
	To    string    `json:"to"`
	Begun time.Time `json:"begun"`
	By    string    `json:"by"`
	Phase Phase     `json:"phase"`
	// Strategy is how pods are replaced.
	Strategy Strategy `json:"strategy"`
	// Former is Helm's revision before, Making the one that Helm is asked for, Revision the
	// one that was made. The latter two are 0 before.
	Former   int `json:"formerRevision"`
	Making   int `json:"making,omitempty"`
	Revision int `json:"revision,omitempty"`
	// Update is the workload's revision that the pods are to have.
	Update string `json:"update,omitempty"`
	// Held is the update strategy that the workload gets back.
	Held string `json:"held,omitempty"`
	// Recreated is set before the workload is made anew.
	Recreated bool `json:"recreated,omitempty"`
	// Undone is set when it is the former revision that the pods have in PhaseReleasing.
	Undone bool `json:"undone,omitempty"`
	// Failback makes the first pod the primary again at the end.
	Failback   bool   `json:"failback,omitempty"`
	AllowOlder bool   `json:"allowOlder,omitempty"`
	Backup     string `json:"backup,omitempty"`
}

// Unfinished returns the record of an unfinished upgrade, or nil.
func (r Roll) Unfinished(ctx context.Context, d *operation.Deployment) (*Record, error) {
	return operation.LoadNote[Record](ctx, r.Notes, d, operation.NoteUpgrade, "no upgrade is in progress")
}

// enter records that a phase begins.
func (x *rolling) enter(ctx context.Context, phase Phase) error {
	x.record.Phase = phase
	return x.save(ctx)
}

func (x *rolling) save(ctx context.Context) error {
	return operation.SaveNote(ctx, x.Notes, x.deployment, operation.NoteUpgrade, x.record)
}

func (x *rolling) forget(ctx context.Context) error {
	return operation.ForgetNote(ctx, x.Notes, x.deployment, operation.NoteUpgrade)
}
