package cli

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/storage"
)

type backupVerifyOptions struct {
	store storeOptions
	deep  bool
}

func (a *app) newBackupVerifyCommand() *cobra.Command {
	o := backupVerifyOptions{}
	cmd := &cobra.Command{
		Use:   "verify ID|latest|FILE",
		Short: "Verify a backup, or any RDB file",
		Long: `Reads a backup from the first to the last byte and checks its size and SHA-256 against
the manifest, the structure and the CRC64 of the RDB, and the number of keys of each
database. A bare .rdb file has no manifest; its structure and CRC64 are checked.

Exit code 4 when the data failed verification, 9 when its version is not known.`,
		Example: `  redisctl backup verify latest -n redis-prod
  redisctl backup verify ./dump.rdb`,
		Args: oneArg,
	}
	o.store.addFlags(cmd)
	cmd.Flags().BoolVar(&o.deep, "deep", false, "also check compressed values from the inside (slower)")
	cmd.ValidArgsFunction = a.completeBackups(&o.store)
	cmd.RunE = runWith(a, &o, func(ctx context.Context, o backupVerifyOptions, args []string) error {
		store, entry, err := a.findBackup(ctx, o.store, args[0])
		if err != nil {
			return err
		}
		return a.runBackupVerify(ctx, store, entry, o.deep)
	})
	return cmd
}

// findBackup returns the backup that ref names: a file when there is one of that
// name, otherwise a backup of the store.
func (a *app) findBackup(ctx context.Context, o storeOptions, ref string) (storage.Store, snapshot.Entry, error) {
	if info, err := os.Stat(ref); err == nil && !info.IsDir() {
		store, entry, err := snapshot.FindFile(ctx, ref)
		if err != nil {
			err = operation.Errorf(operation.Failed, "%w", err)
		}
		return store, entry, err
	}
	filter, err := a.filter(ctx)
	if err != nil {
		return nil, snapshot.Entry{}, err
	}
	store := o.open()
	entry, err := snapshot.Find(ctx, store, filter, ref)
	var ambiguous *snapshot.AmbiguousError
	switch {
	case err == nil:
		return store, entry, nil
	case errors.As(err, &ambiguous), errors.Is(err, fs.ErrNotExist):
		e := &operation.Error{Kind: operation.Usage, Err: err, Next: "redisctl backup list"}
		if strings.ContainsAny(ref, `/\.`) {
			e.Next += "; there is no file " + ref + " either"
		}
		return nil, entry, e
	default:
		return nil, entry, operation.Errorf(operation.KindOf(err), "searching %s: %w", store.Location(""), err)
	}
}

func (a *app) runBackupVerify(ctx context.Context, store storage.Store, entry snapshot.Entry, deep bool) error {
	reporter, done := a.narrator()
	defer done()
	report, err := snapshot.Verify(ctx, store, entry, snapshot.VerifyOptions{
		Deep: deep,
		Now:  a.system.Now,
		Progress: func(bytes, total int64) {
			reporter.Progress(operation.Progress{Done: bytes, Total: total, Unit: "bytes"})
		},
	})
	done()
	judged := err == nil || kind(err) == operation.Corrupt || kind(err) == operation.Unsupported
	if !judged {
		return &operation.Error{Kind: kind(err), Object: entry.ID, Phase: "verifying", Err: err}
	}
	if printErr := a.print(verifyDocument(report)); printErr != nil {
		return printErr
	}
	if err != nil {
		return outcome(kind(err), "%w", err)
	}
	return nil
}
