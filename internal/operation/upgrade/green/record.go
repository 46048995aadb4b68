package green

import (
	"context"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
)

// Phase is how far a second release has come. Each is recorded before its first change.
type Phase string

// The phases.
const (
	// PhaseInstalling: Helm makes the release, its pods start.
	PhaseInstalling Phase = "installing"
	// PhaseSyncing: it copies the data.
	PhaseSyncing Phase = "syncing"
	// PhaseReady: it follows.
	PhaseReady Phase = "ready"
	// PhaseSwitching: a cutover or a failback is being made.
	PhaseSwitching Phase = "switching"
	// PhaseServing: it serves, and the first release follows it.
	PhaseServing Phase = "serving"
)

// Record is kept at the first release as long as the second one is not for good.
type Record struct {
	// Green is the second release.
	Green string `json:"green"`
	// From and To are images.
	From  string    `json:"from"`
	To    string    `json:"to"`
	Begun time.Time `json:"begun"`
	By    string    `json:"by"`
	Phase Phase     `json:"phase"`
	// Copies is set when the data is copied instead of replicated; Copied is the last copy.
	Copies bool    `json:"copies,omitempty"`
	Copied *Copied `json:"copied,omitempty"`
	// Primary was the first release's at the last cutover.
	Primary string `json:"primary,omitempty"`
	// CutOver is when clients were moved; nil before.
	CutOver *time.Time `json:"cutOver,omitempty"`
	// Services are those that a cutover moves.
	Services []Route `json:"services,omitempty"`
}

// Record returns what is recorded of a second release, or nil.
func (g Green) Record(ctx context.Context, d *operation.Deployment) (*Record, error) {
	if d.Workload == nil {
		return nil, nil //nolint:nilnil // there is none, which is no failure
	}
	return operation.LoadNote[Record](ctx, g.Notes, d, operation.NoteGreen, "there is no second release")
}

// required is Record where there has to be one.
func (g Green) required(ctx context.Context, d *operation.Deployment, phase string) (*Record, error) {
	record, err := g.Record(ctx, d)
	if err == nil && record == nil {
		err = refused(d.String(), phase, "redisctl upgrade apply --strategy blue-green makes one", "%w", errNone)
	}
	return record, err
}

// save replaces the record. The notes of more are set in the same step.
func (g Green) save(ctx context.Context, d *operation.Deployment, r *Record, more map[string]string) error {
	text, err := operation.EncodeNote(r)
	if err != nil {
		return err
	}
	notes := map[string]string{operation.NoteGreen: text}
	for key, value := range more {
		notes[key] = value
	}
	return g.Notes.SetNotes(ctx, d, notes)
}

// enter records that a phase begins.
func (g Green) enter(ctx context.Context, d *operation.Deployment, r *Record, phase Phase) error {
	r.Phase = phase
	return g.save(ctx, d, r, nil)
}
