package failover

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
)

// The notes that failovers keep with a deployment.
const (
	// NoteFailover holds the Record of an unfinished failover as JSON.
	NoteFailover = "redisctl.dev/failover"
	// NotePrimary names the instance that is meant to be the primary.
	NotePrimary = "redisctl.dev/primary"
)

// Record is an unfinished failover. How far it has come is not recorded: the
// servers' roles tell, and writing it down would prolong the pause.
type Record struct {
	// From is the primary that hands over, To the one that takes over.
	From string `json:"from"`
	To   string `json:"to"`
	// Begun is when, By who began it.
	Begun time.Time `json:"begun"`
	By    string    `json:"by"`
	// Services are those that were pinned to From.
	Services []string `json:"services,omitempty"`
}

// load returns the record of an unfinished failover, or nil.
func load(ctx context.Context, notes operation.Notes, d *operation.Deployment) (*Record, error) {
	text, err := notes.Note(ctx, d, NoteFailover)
	if err != nil || text == "" {
		return nil, err
	}
	var r Record
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return nil, &operation.Error{
			Kind: operation.Failed, Object: d.String(), Phase: "reading the annotation " + NoteFailover, Err: err,
			Unchanged: "nothing was changed", Next: "look at the annotation; remove it when no failover is in progress",
		}
	}
	return &r, nil
}

// save replaces the record.
func save(ctx context.Context, notes operation.Notes, d *operation.Deployment, r Record) error {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encoding the record: %w", err)
	}
	return notes.SetNotes(ctx, d, map[string]string{NoteFailover: string(text)})
}

// finish removes the record and notes which instance is meant to be the primary.
func finish(ctx context.Context, notes operation.Notes, d *operation.Deployment, primary string) error {
	return notes.SetNotes(ctx, d, map[string]string{NoteFailover: "", NotePrimary: primary})
}
