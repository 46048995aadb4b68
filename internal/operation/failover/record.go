package failover

import (
	"context"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
)

// Record is an unfinished failover. How far it has come is told by the servers' roles;
// only the promotion is recorded as well, because a restart of the target hides it.
type Record struct {
	// From is the primary that hands over, To the one that takes over.
	From string `json:"from"`
	To   string `json:"to"`
	// Begun is when, By who began it.
	Begun time.Time `json:"begun"`
	By    string    `json:"by"`
	// Services are those that were pinned to From.
	Services []string `json:"services,omitempty"`
	// Forced is set when From was given up: it did not answer.
	Forced bool `json:"forced,omitempty"`
	// Promoted is set once To was promoted: it may have taken writes since.
	Promoted bool `json:"promoted,omitempty"`
	// MinReplicas is From's own min-replicas-to-write, which servers before 6.2 get
	// back after a switch.
	MinReplicas string `json:"minReplicas,omitempty"`
}

// load returns the record of an unfinished failover, or nil.
func load(ctx context.Context, notes operation.Notes, d *operation.Deployment) (*Record, error) {
	return operation.LoadNote[Record](ctx, notes, d, operation.NoteFailover, "no failover is in progress")
}

// save replaces the record.
func save(ctx context.Context, notes operation.Notes, d *operation.Deployment, r Record) error {
	return operation.SaveNote(ctx, notes, d, operation.NoteFailover, r)
}

// forget removes the record of a switch that came to nothing.
func forget(ctx context.Context, notes operation.Notes, d *operation.Deployment) error {
	return operation.ForgetNote(ctx, notes, d, operation.NoteFailover)
}

// finish removes the record and notes which instance is meant to be the primary.
func finish(ctx context.Context, notes operation.Notes, d *operation.Deployment, primary string) error {
	return notes.SetNotes(ctx, d, map[string]string{operation.NoteFailover: "", operation.NotePrimary: primary})
}
