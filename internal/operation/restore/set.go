package restore

import (
	"context"
	"errors"
	"io"
	"path"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/snapshot"
)

// OpenFile reads a file of a set by its name in the manifest, decoded. The caller closes
// it.
func (b Backup) OpenFile(ctx context.Context, name string) (io.ReadCloser, error) {
	return b.open(ctx, path.Join(b.Entry.Dir, name))
}

// VerifySet is Verify for a set that may have no RDB file. problem is why it failed
// verification; nil when it has passed.
func (b Backup) VerifySet(ctx context.Context, now time.Time, report operation.Reporter) (problem, err error) {
	_, err = snapshot.Verify(ctx, b.Store, b.Entry, snapshot.VerifyOptions{
		Keys: b.Keys,
		Now:  func() time.Time { return now },
		Progress: func(done, total int64) {
			report.Progress(operation.Progress{Done: done, Total: total, Unit: "bytes"})
		},
	})
	switch {
	case errors.Is(err, snapshot.ErrCorrupt):
		return err, nil
	case err != nil:
		return nil, b.failed("verifying the backup", err)
	default:
		return nil, nil
	}
}
