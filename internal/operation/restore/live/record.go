package live

import (
	"context"
	"errors"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/rdb"
)

// Record is an unfinished restore.
type Record struct {
	Method string `json:"method"`
	// Backup names what is restored, and From the store that has it. Size in bytes and
	// CRC64 are those of the RDB file, decoded: another file is not taken for it.
	Backup string    `json:"backup"`
	From   string    `json:"from,omitempty"`
	Size   int64     `json:"sizeBytes"`
	CRC64  rdb.CRC64 `json:"crc64"`
	// Instance is the server that it is restored into.
	Instance string `json:"instance"`
	// Begun is when, By who began it.
	Begun time.Time `json:"begun"`
	By    string    `json:"by"`
	// Selection says which keys are restored, and how. Keys of them there are.
	Selection Selection `json:"selection"`
	Keys      int64     `json:"keys"`
	// SafetyBackup is where the backup of the data before is; empty when there is none.
	SafetyBackup string `json:"safetyBackup,omitempty"`
	// WasEmpty is set when the server held nothing before.
	WasEmpty bool `json:"wasEmpty,omitempty"`
	// Databases are those in which values may be built under a temporary name; empty when
	// no value is too large to be sent whole.
	Databases []int `json:"databases,omitempty"`
	// Functions is set when the function libraries were restored.
	Functions bool `json:"functions,omitempty"`
	// Every key before Position, an offset in the file, was restored, or was not to be:
	// Restored and Kept count them. Nothing behind Horizon was ever sent.
	Position int64 `json:"position"`
	Horizon  int64 `json:"horizon"`
	Restored int64 `json:"restored"`
	Kept     int64 `json:"kept,omitempty"`
	// Updated is when this was noted.
	Updated time.Time `json:"updated"`
	// Problem is why it ended; empty when it may still be running.
	Problem string `json:"problem,omitempty"`
}

// Unfinished returns the record of an unfinished live restore, or nil.
func (r Restore) Unfinished(ctx context.Context, d *operation.Deployment) (*Record, error) {
	record, err := restore.LoadRecord[Record](ctx, r.Notes, d)
	if err != nil || record == nil || record.Method != Method {
		return nil, err
	}
	return record, nil
}

// errNothing says that there is nothing to go on with.
func errNothing(d *operation.Deployment) error {
	return &operation.Error{
		Kind: operation.Refused, Object: d.String(), Phase: "reading the record",
		Err: errors.New("no live restore is unfinished"), Unchanged: "nothing was changed",
	}
}
