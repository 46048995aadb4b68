package cli

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"reflect"
	"strings"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/snapshot/codec"
	"github.com/redisctl/redisctl/internal/storage"
)

type backupVerifyOptions struct {
	store    storeOptions
	keys     keyOptions
	outer    bool
	verify   snapshot.VerifyOptions // filled in by the flags
	filter   backupFilter
	deep     bool
	all      bool
	parallel int
}

func (a *app) newBackupVerifyCommand() *cobra.Command {
	o := backupVerifyOptions{}
	cmd := &cobra.Command{
		Use:   "verify ID|latest|FILE | --all",
		Short: "Verify a backup, or any RDB file",
		Long: `Reads a backup from the first to the last byte and checks its size and SHA-256 against
the manifest, the structure and the CRC64 of the RDB, and the number of keys of each
database. A bare .rdb file has no manifest; its structure and CRC64 are checked. Compressed
and encrypted data is decoded on the way: --identity or a passphrase opens it.

A success is recorded beside the manifest: backup list shows it, and backup prune never
removes the last backup that was verified. A file named by its path gets no record.

Exit code 4 when the data failed verification, 8 when it is encrypted and nothing given
opens it (what is stored is compared with the manifest nevertheless; with --outer that is
all that is asked for, and exit code 0), 9 when its version is not known.

With --all every backup that the filters select is verified, several at a time. Exit
code 0 when all were verified, 3 when some were and others were not; when none was: 4 if
the data of at least one failed verification, 9 if all are too new, else 1. What has no
manifest is no backup: it is listed as skipped.`,
		Example: `  redisctl backup verify latest -n redis-prod
  redisctl backup verify ./dump.rdb
  redisctl backup verify latest -n redis-prod --identity ~/.config/age/ops.txt
  redisctl backup verify --all -n redis-prod --since 7d --parallel 2`,
		Args: func(cmd *cobra.Command, args []string) error {
			if o.all {
				return noArgs(cmd, args)
			}
			return oneArg(cmd, args)
		},
	}
	o.store.addSource(cmd)
	o.keys.addFlags(cmd)
	cmd.Flags().BoolVar(&o.outer, "outer", false, "check only what is stored, by size and SHA-256, and not what is inside: needs no key")
	o.filter.addFlags(a, cmd, &o.store)
	cmd.Flags().BoolVar(&o.all, "all", false, "verify all backups that the filters select")
	cmd.Flags().IntVar(&o.parallel, "parallel", defaultParallel, "how many to verify at the same time, with --all")
	cmd.Flags().BoolVar(&o.deep, "deep", false, "also check compressed values from the inside (slower)")
	cmd.ValidArgsFunction = a.completeBackups(&o.store)
	cmd.RunE = runWith(a, &o, func(ctx context.Context, o backupVerifyOptions, args []string) error {
		keys, err := a.keys(o.keys)
		if err != nil {
			return err
		}
		o.verify = snapshot.VerifyOptions{Deep: o.deep, Outer: o.outer, Keys: keys, Now: a.system.Now}
		if o.all {
			return a.runVerifyAll(ctx, o)
		}
		if !reflect.DeepEqual(o.filter, backupFilter{}) {
			return operation.Errorf(operation.Usage, "--since, --until, --instance, --method and --state go with --all")
		}
		store, entry, err := a.findBackup(ctx, o.store, args[0])
		if err != nil {
			return err
		}
		return a.runBackupVerify(ctx, store, entry, o)
	})
	return cmd
}

// findBackup returns the backup that ref names: a file when there is one of that
// name, otherwise a backup of the store. The latest one is chosen of those that have a
// file of one of the given kinds.
func (a *app) findBackup(
	ctx context.Context, o storeOptions, ref string, files ...snapshot.FileKind,
) (storage.Store, snapshot.Entry, error) {
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
	if ref == snapshot.Latest {
		filter.Files = files
	}
	store, err := a.openSource(o)
	if err != nil {
		return nil, snapshot.Entry{}, err
	}
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

func (a *app) runBackupVerify(ctx context.Context, store storage.Store, entry snapshot.Entry, o backupVerifyOptions) error {
	reporter, done := a.narrator()
	defer done()
	opts := o.verify
	opts.Progress = func(bytes, total int64) {
		reporter.Progress(operation.Progress{Done: bytes, Total: total, Unit: "bytes"})
	}
	report, err := snapshot.Verify(ctx, store, entry, opts)
	locked := errors.Is(err, codec.ErrKey)
	judged := err == nil || locked || kind(err) == operation.Corrupt || kind(err) == operation.Unsupported
	if !judged {
		return &operation.Error{Kind: kind(err), Object: entry.ID, Phase: "verifying", Err: err}
	}
	result := verifyResult{Report: report}
	if report.Verified {
		result.Recorded = a.recordVerification(ctx, reporter, store, entry, o.deep)
	}
	done()
	if printErr := a.print(verifyDocument(result, err)); printErr != nil {
		return printErr
	}
	if locked {
		return &operation.Error{
			Kind: kind(err), Object: entry.ID, Phase: "verifying", Err: err,
			Next: "give what opens it with --identity or --passphrase-file, or check only what is stored with --outer",
		}
	}
	if err != nil {
		return outcome(kind(err), "%w", err)
	}
	return nil
}
