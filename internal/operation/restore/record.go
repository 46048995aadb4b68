package restore

import (
	"context"
	"fmt"

	"github.com/redisctl/redisctl/internal/operation"
)

// LoadRecord returns the record of an unfinished restore, or nil when there is none. R is
// the record of one way of restoring; what another way has left is decoded as far as it
// goes: its field "method" tells.
func LoadRecord[R any](ctx context.Context, notes operation.Notes, d *operation.Deployment) (*R, error) {
	return operation.LoadNote[R](ctx, notes, d, operation.NoteRestore, "no restore is in progress")
}

// SaveRecord replaces the record.
func SaveRecord(ctx context.Context, notes operation.Notes, d *operation.Deployment, record any) error {
	return operation.SaveNote(ctx, notes, d, operation.NoteRestore, record)
}

// ForgetRecord removes the record.
func ForgetRecord(ctx context.Context, notes operation.Notes, d *operation.Deployment) error {
	return operation.ForgetNote(ctx, notes, d, operation.NoteRestore)
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
