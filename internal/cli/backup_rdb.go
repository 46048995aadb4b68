package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/backup"
	"github.com/redisctl/redisctl/internal/snapshot"
)

type backupRDBOptions struct {
	backup   backup.Options
	store    storeOptions
	encoding encodingOptions
	fleet    fleetOptions
	method   string
	transfer string
	dryRun   bool
}

// defaultStall is how long a server that sends a snapshot may say nothing.
const defaultStall = 15 * time.Second

func (a *app) newBackupRDBCommand() *cobra.Command {
	o := backupRDBOptions{}
	cmd := &cobra.Command{
		Use:   "rdb",
		Short: "Take a verified RDB snapshot",
		Long: `Takes an RDB snapshot from the connected replica that lags least (from the primary
when there is none), verifies its structure and CRC64 while it streams, and publishes
it with a manifest. Until then nothing stands under a final name.

--method stream takes the snapshot over the replication protocol, as a replica would.
--method bgsave runs BGSAVE under the release's lock, waits until it has succeeded, and
copies the file with its length and SHA-256 in-band. When that copy is interrupted, what
has arrived is kept; --resume goes on with it if inode, size, time and the SHA-256 of what
is here prove that the server still has this very file, and saves anew otherwise.

With repl-diskless-sync yes (the default since Redis 7.0) the server waits
repl-diskless-sync-delay seconds (5 by default) before it streams. --transfer disk
avoids the wait and uses the server's disk instead.

--compress zstd compresses what is stored, --encrypt-to, --recipients-file or a passphrase
encrypt it (age), in the same pass: nothing is stored in plain, not even temporarily. What
the manifest says stays readable without the key: where the data is from, sizes, digests,
numbers of keys, and the public keys of the recipients.

A source that sends nothing for --stall-timeout ends the backup with exit code 7; a
server that is busy forking sends newlines, which count.

With --all-namespaces or --all-releases one backup of each release is taken, several at a
time. What succeeded is kept whatever becomes of the others: exit code 3 when some
failed.`,
		Example: `  redisctl backup rdb -n redis-prod
  redisctl backup rdb -n redis-prod --pod cache-redis-0 --backup-dir /backups
  redisctl backup rdb --address 127.0.0.1:6379 -o jsonpath='{.file}'
  redisctl backup rdb -n redis-prod --compress zstd --recipients-file ops.txt
  redisctl backup rdb -n redis-prod --dry-run
  redisctl backup rdb --all-namespaces --parallel 2`,
		Args: noArgs,
	}
	f := cmd.Flags()
	o.store.addTargets(cmd)
	o.encoding.addFlags(cmd)
	o.fleet.addFlags(cmd)
	f.StringVar(&o.method, "method", string(backup.MethodStream), "how to take the snapshot: stream or bgsave")
	f.StringVar(&o.transfer, "transfer", "auto", "how --method stream asks for the data: auto (diskless where the server offers it) or disk")
	f.DurationVar(&o.backup.Stall, "stall-timeout", defaultStall, "how long the source may send nothing")
	f.BoolVar(&o.backup.AllowStale, "allow-stale", false, "accept a replica without a link to its primary (with --pod); --method stream then reads its data key by key")
	f.BoolVar(&o.backup.IgnoreSpace, "ignore-space", false, "go on although free space may not suffice")
	f.BoolVar(&o.backup.Resume, "resume", false, "go on with an interrupted copy of --method bgsave, where the server still has the file")
	f.BoolVar(&o.dryRun, "dry-run", false, "print the plan and do nothing")
	mustComplete(cmd, "method", cobra.FixedCompletions(backup.Methods(), cobra.ShellCompDirectiveNoFileComp))
	mustComplete(cmd, "transfer", cobra.FixedCompletions([]string{"auto", "disk"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = runWith(a, &o, a.runBackupRDB)
	return cmd
}

// complete checks the flags and fills in the operation's options.
func (o *backupRDBOptions) complete(g globals) error {
	o.backup.Method = backup.Method(o.method)
	switch o.backup.Method {
	case backup.MethodStream, backup.MethodBgsave:
	default:
		return operation.Errorf(operation.Usage, "--method %q: choose stream or bgsave", o.method)
	}
	switch o.transfer {
	case "auto":
	case "disk":
		o.backup.DiskBased = true
	default:
		return operation.Errorf(operation.Usage, "--transfer %q: choose auto or disk", o.transfer)
	}
	if o.backup.Resume && o.backup.Method != backup.MethodBgsave {
		return operation.Errorf(operation.Usage, "--resume goes with --method bgsave: a stream cannot be gone on with")
	}
	if o.backup.Stall <= 0 {
		return operation.Errorf(operation.Usage, "--stall-timeout %s: it must be positive", o.backup.Stall)
	}
	o.backup.Instance = g.target.Pod
	o.backup.Timeout = g.timeout
	return nil
}

func (a *app) runBackupRDB(ctx context.Context, o backupRDBOptions, _ []string) error {
	if err := o.complete(a.globals); err != nil {
		return err
	}
	if o.fleet.selected() {
		return fleetBackup[backup.Plan]{o.fleet, o.store, o.encoding, o.dryRun, o.one}.run(ctx, a)
	}
	r, err := a.openBackup(ctx, o.store, o.encoding, o.dryRun)
	if err != nil {
		return err
	}
	defer r.Close()
	done, err := o.one(ctx, r)
	if done.plan != nil {
		if err := a.print(planDocument(done.plan.Plan, done.plan)); err != nil {
			return err
		}
	}
	if err != nil || o.dryRun {
		return err
	}
	r.done()
	if err := a.print(backupDocument(done.stored, done.manifest)); err != nil {
		return err
	}
	return partial(done.stored)
}

// one backs up one release, or plans it.
func (o *backupRDBOptions) one(ctx context.Context, r *backupRun) (made[backup.Plan], error) {
	op := r.rdb()
	plan, err := op.Plan(ctx, r.d, o.backup)
	if err != nil {
		return made[backup.Plan]{}, err
	}
	return backupJob[backup.Plan]{
		plan: plan, of: plan.Plan, source: plan.Source, next: "redisctl health",
		apply: func() (*snapshot.Manifest, error) { return op.Apply(ctx, plan) }, object: plan.DataName,
	}.run(ctx, r, o.dryRun)
}
