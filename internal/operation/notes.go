package operation

import (
	"context"
	"encoding/json"
	"fmt"
)

// LoadNote returns the record that d's note under key holds as JSON, or nil when there is
// none. unless completes what an operator is told about a note that cannot be read: it may
// be removed when "no failover is in progress".
func LoadNote[R any](ctx context.Context, notes Notes, d *Deployment, key, unless string) (*R, error) {
	text, err := notes.Note(ctx, d, key)
	if err != nil || text == "" {
		return nil, err
	}
	r := new(R)
	if err := json.Unmarshal([]byte(text), r); err != nil {
		return nil, &Error{
			Kind: Failed, Object: d.String(), Phase: "reading the annotation " + key, Err: err,
			Unchanged: "nothing was changed", Next: "look at the annotation; remove it when " + unless,
		}
	}
	return r, nil
}

// EncodeNote returns a record as LoadNote reads it.
func EncodeNote(record any) (string, error) {
	text, err := json.Marshal(record)
	if err != nil {
		return "", fmt.Errorf("encoding the record: %w", err)
	}
	return string(text), nil
}

// SaveNote replaces d's note under key by a record.
func SaveNote(ctx context.Context, notes Notes, d *Deployment, key string, record any) error {
	text, err := EncodeNote(record)
	if err != nil {
		return err
	}
	return notes.SetNotes(ctx, d, map[string]string{key: text})
}

// ForgetNote removes d's note under key.
func ForgetNote(ctx context.Context, notes Notes, d *Deployment, key string) error {
	return notes.SetNotes(ctx, d, map[string]string{key: ""})
}
