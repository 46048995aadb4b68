package live

import (
	"context"
	"fmt"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore"
)

// Resume goes on with a restore that was interrupted, behind the last key that it noted.
// backup must be the one of the record; of o, what the record keeps is not looked at.
func (r Restore) Resume(ctx context.Context, d *operation.Deployment, backup restore.Backup, o Options) (Result, error) {
	record, err := r.Unfinished(ctx, d)
	if err != nil {
		return Result{}, err
	}
	if record == nil {
		return Result{}, errNothing(d)
	}
	o.Selection, o.Instance = record.Selection, record.Instance
	o.OtherRelease, o.Managed = true, true // that was consented to when it was begun
	p, err := r.plan(ctx, d, backup, o, record)
	if err != nil {
		return Result{}, err
	}
	if p.contents.Size != record.Size || p.contents.Summary.ComputedCRC != record.CRC64 {
		return Result{}, &operation.Error{
			Kind: operation.Corrupt, Object: backup.Name(), Phase: "comparing it with the record",
			Err:       fmt.Errorf("it is not the file that the restore of %s was begun with", record.Backup),
			Unchanged: "nothing was changed", Next: "redisctl restore abort, and begin anew",
		}
	}
	return r.Apply(ctx, p)
}

// Abort gives an unfinished restore up: what was restored stays. It returns the record.
func (r Restore) Abort(ctx context.Context, d *operation.Deployment) (Record, error) {
	locked, release, err := r.Locker.Lock(ctx, d)
	if err != nil {
		return Record{}, err
	}
	defer release()
	record, err := r.Unfinished(locked, d)
	if err != nil {
		return Record{}, err
	}
	if record == nil {
		return Record{}, errNothing(d)
	}
	if i := d.Instance(record.Instance); i != nil {
		if err := r.tidy(locked, d, *i, record); err != nil {
			return Record{}, err
		}
	}
	if err := restore.ForgetRecord(locked, r.Notes, d); err != nil {
		return Record{}, err
	}
	return *record, nil
}
