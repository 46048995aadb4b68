package cli

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/render"
	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/storage"
	"github.com/redisctl/redisctl/internal/storage/tee"
)

type backupCopyOptions struct {
	source storeOptions
	to     []string
}

func (a *app) newBackupCopyCommand() *cobra.Command {
	o := backupCopyOptions{}
	cmd := &cobra.Command{
		Use:   "copy ID|latest|FILE --to URL",
		Short: "Copy a backup to other places",
		Long: `Copies a backup to one or several other places, reading it once. While it is copied its
size and SHA-256 are compared with the manifest; the manifest comes last, so that a copy
that was interrupted is no backup. The files are copied as they are stored, compressed
and encrypted ones as well. FILE is a backup's file or manifest; files without a
manifest cannot be copied.

A place that has the backup already counts as done. Exit code 3 when some places have it
and others could not be written, 4 when the original is damaged, 5 when there is another
backup of the same id.`,
		Example: `  redisctl backup copy latest -n redis-prod --to s3://dr-backups/redis
  redisctl backup copy rdb-20261123T090501Z-k7mq --from s3://dr-backups/redis --to /backups`,
		Args: oneArg,
	}
	o.source.addSource(cmd)
	cmd.Flags().StringSliceVar(&o.to, "to", nil, "where to copy it: s3://bucket/prefix or a folder (repeatable, or comma-separated)")
	cmd.ValidArgsFunction = a.completeBackups(&o.source)
	cmd.RunE = runWith(a, &o, a.runBackupCopy)
	return cmd
}

// copied is what became of one place of `backup copy`.
type copied struct {
	storedAt
	// Result is copied, present (it was there before) or failed.
	Result string `json:"result"`

	store storage.Store
	err   error
}

// copyResult is the JSON form of `backup copy`.
type copyResult struct {
	ID string `json:"id"`
	// From is the file that was read.
	From string `json:"from"`
	// Size of all files in bytes.
	Size   int64    `json:"sizeBytes"`
	Copies []copied `json:"copies"`
}

func (a *app) runBackupCopy(ctx context.Context, o backupCopyOptions, args []string) error {
	if len(o.to) == 0 {
		return operation.Errorf(operation.Usage, "name at least one place with --to")
	}
	targets, err := a.openStores(storeOptions{urls: o.to, s3: o.source.s3})
	if err != nil {
		return err
	}
	from, entry, err := a.findBackup(ctx, o.source, args[0])
	if err != nil {
		return err
	}
	if entry.Problem != nil || entry.Manifest == nil {
		return &operation.Error{
			Kind: kind(entry.Problem), Object: from.Location(entry.DataName), Phase: "copying",
			Err: entry.Problem, Next: "redisctl backup verify " + args[0],
		}
	}
	copies := lookAtTargets(ctx, targets, entry)
	if err := a.copyTo(ctx, from, entry, copies); err != nil {
		return &operation.Error{
			Kind: kind(err), Object: entry.ID, Phase: "copying from " + from.Location(""), Err: err,
			Unchanged: "the original, and copies that were there before",
		}
	}
	return a.tellCopies(from, entry, copies)
}

// lookAtTargets finds out which targets have the backup already.
func lookAtTargets(ctx context.Context, targets []storage.Store, entry snapshot.Entry) []copied {
	copies := make([]copied, len(targets))
	for i, target := range targets {
		copies[i] = copied{storedAt: storedAt{Location: target.Location("")}, store: target}
		there, err := snapshot.Holds(ctx, target, entry)
		switch {
		case err != nil:
			copies[i].fail(err)
		case there:
			copies[i].Result = "present"
		}
	}
	return copies
}

func (c *copied) fail(err error) { c.Result, c.Problem, c.err = "failed", err.Error(), err }

// copyTo copies to all targets whose result is open. The error is that of the
// source, or of ctx; those of targets are in their results.
func (a *app) copyTo(ctx context.Context, from storage.Store, entry snapshot.Entry, copies []copied) error {
	var open []storage.Store
	for _, c := range copies {
		if c.Result == "" {
			open = append(open, c.store)
		}
	}
	if len(open) == 0 {
		return nil
	}
	reporter, done := a.narrator()
	defer done()
	reporter.Step("copying %s to %s", from.Location(entry.DataName), locations(open))
	to := tee.New(tee.DefaultPatience, open...)
	_, err := snapshot.Copy(ctx, from, entry, to, snapshot.CopyOptions{
		Progress: func(bytes, total int64) {
			reporter.Progress(operation.Progress{Done: bytes, Total: total, Unit: "bytes"})
		},
	})
	var target *snapshot.TargetError
	if err != nil && (!errors.As(err, &target) || ctx.Err() != nil) {
		return err
	}
	for _, o := range to.Outcomes() {
		c := &copies[slices.IndexFunc(copies, func(c copied) bool { return c.store == o.Store })]
		c.Result = "copied"
		if failed := cmp.Or(o.Err, err); failed != nil { // err is that of the last target
			c.fail(failed)
		}
	}
	return nil
}

// tellCopies prints the result and returns the outcome.
func (a *app) tellCopies(from storage.Store, entry snapshot.Entry, copies []copied) error {
	result := copyResult{ID: entry.ID, From: from.Location(entry.DataName), Copies: copies}
	for _, f := range entry.Manifest.Files {
		result.Size += f.Size
	}
	t := render.Table{Columns: []render.Column{{Title: "RESULT"}, {Title: "LOCATION"}, {Title: "DETAIL"}}}
	reached := 0
	for i := range copies {
		c := &copies[i]
		cell, detail := render.Cell{Text: c.Result, Style: render.Good}, c.Problem
		if c.err != nil {
			cell.Style = render.Bad
		} else {
			reached++
			dir, err := snapshot.CopyDir(entry)
			if err != nil {
				return err
			}
			c.File = c.store.Location(path.Join(dir, path.Base(entry.DataName)))
			detail = c.File
		}
		t.Rows = append(t.Rows, []render.Cell{cell, render.T(c.Location), render.T(detail)})
	}
	verdict := render.Text{Text: entry.ID + " is in all places asked for.", Style: render.Good}
	if reached < len(copies) {
		verdict = render.Text{Text: entry.ID + " could not be copied everywhere.", Style: render.Bad}
	}
	if err := a.print(render.Document{
		Value: result, Names: []string{entry.ID}, Blocks: []render.Block{verdict, t},
	}); err != nil {
		return err
	}
	return copyOutcome(copies, reached)
}

// copyOutcome chooses the exit code.
func copyOutcome(copies []copied, reached int) error {
	switch {
	case reached == len(copies):
		return nil
	case reached > 0:
		return outcome(operation.Partial, "copied to %d of %d places", reached, len(copies))
	}
	// Nothing was reached: the first reason decides.
	err := copies[0].err
	if errors.Is(err, fs.ErrExist) {
		return outcome(operation.Refused, "%w", err)
	}
	return outcome(kind(err), "%w", err)
}
