package restore

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/redisctl/redisctl/internal/operation"
)

// LoadRecord returns the record of an unfinished restore, or nil when there is none. R is
// the record of one way of restoring; what another way has left is decoded as far as it
// goes: its field "method" tells.
func LoadRecord[R any](ctx context.Context, notes operation.Notes, d *operation.Deployment) (*R, error) {
	text, err := notes.Note(ctx, d, operation.NoteRestore)
	if err != nil || text == "" {
		return nil, err
	}
	r := new(R)
	if err := json.Unmarshal([]byte(text), r); err != nil {
		return nil, &operation.Error{
			Kind: operation.Failed, Object: d.String(), Phase: "reading the annotation " + operation.NoteRestore, Err: err,
			Unchanged: "nothing was changed", Next: "look at the annotation; remove it when no restore is in progress",
		}
	}
	return r, nil
}

// SaveRecord replaces the record.
func SaveRecord(ctx context.Context, notes operation.Notes, d *operation.Deployment, record any) error {
	text, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("encoding the record: %w", err)
	}
	return notes.SetNotes(ctx, d, map[string]string{operation.NoteRestore: string(text)})
}

// ForgetRecord removes the record.
func ForgetRecord(ctx context.Context, notes operation.Notes, d *operation.Deployment) error {
	return notes.SetNotes(ctx, d, map[string]string{operation.NoteRestore: ""})
}

// UnfinishedRestore blocks what would interfere with a restore that is not finished.
func UnfinishedRestore(ctx context.Context, notes operation.Notes, d *operation.Deployment) ([]operation.Finding, error) {
	record, err := LoadRecord[struct{ Backup, By string }](ctx, notes, d)
	if err != nil || record == nil {
		return nil, err
	}
	return []operation.Finding{{
		Code: "unfinished-restore", Severity: operation.Critical, Subject: d.String(),
		Message: fmt.Sprintf("the restore of %s, begun by %s, is not finished", record.Backup, record.By),
		Hint:    "redisctl restore resume or abort",
	}}, nil
}

// UnfinishedFailover blocks what would interfere with a failover that is not finished.
func UnfinishedFailover(ctx context.Context, notes operation.Notes, d *operation.Deployment) ([]operation.Finding, error) {
	record, err := notes.Note(ctx, d, operation.NoteFailover)
	if err != nil || record == "" {
		return nil, err
	}
	return []operation.Finding{{
		Code: "unfinished-failover", Severity: operation.Critical, Subject: d.String(),
		Message: "a failover is not finished", Hint: "redisctl failover resume or abort",
	}}, nil
}
