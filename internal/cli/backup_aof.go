package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/backup"
	"github.com/redisctl/redisctl/internal/snapshot"
)

type backupAOFOptions struct {
	backup   backup.AOFOptions
	store    storeOptions
	encoding encodingOptions
	fleet    fleetOptions
	dryRun   bool
}

func (a *app) newBackupAOFCommand() *cobra.Command {
	o := backupAOFOptions{}
	cmd := &cobra.Command{
		Use:   "aof",
		Short: "Copy the append-only file, with all its parts",
		Long: `Copies the append-only file of the connected replica that lags least (of the primary
when there is none): the manifest, the base and the incremental files of Redis 7.0 and
later, or the single file of older servers. Every command in it is read on the way; the
files are published when all are complete, and the manifest as the last.

A rewrite must not remove files that are being copied. So, under the release's lock,
aof-disable-auto-gc is set while copying (before 7.0 auto-aof-rewrite-percentage 0), and
set back afterwards, also after a failure and Ctrl-C. What was changed is noted in an
annotation first, and the next backup aof sets it back after kill -9. Where CONFIG is
disabled, a rewrite during the copy is noticed and the copy begins again.

The file that the server appends to is copied as long as it is when the copy begins. A
command or transaction at its end that is not complete is left out, which is said.

When the copy is interrupted, what has arrived is kept, and the next backup aof to the
same folder goes on with it where inode, size, time and SHA-256 prove that it is the same
file. Copies that are compressed or encrypted, or go to object storage or to several
places, begin anew.

With --all-namespaces or --all-releases one backup of each release is made: exit code 3
when some failed.`,
		Example: `  redisctl backup aof -n redis-prod
  redisctl backup aof -n redis-prod --pod cache-redis-0 --backup-dir /backups
  redisctl backup aof -n redis-prod --dry-run
  redisctl backup aof --all-namespaces --parallel 2`,
		Args: noArgs,
	}
	f := cmd.Flags()
	o.store.addTargets(cmd)
	o.encoding.addFlags(cmd)
	o.fleet.addFlags(cmd)
	f.DurationVar(&o.backup.Stall, "stall-timeout", defaultStall, "how long the source may send nothing")
	f.BoolVar(&o.backup.AllowStale, "allow-stale", false, "accept a replica without a link to its primary (with --pod)")
	f.BoolVar(&o.backup.IgnoreSpace, "ignore-space", false, "go on although free space may not suffice")
	f.BoolVar(&o.dryRun, "dry-run", false, "print the plan and do nothing")
	cmd.RunE = runWith(a, &o, a.runBackupAOF)
	return cmd
}

// complete checks the flags and fills in the operation's options.
func (o *backupAOFOptions) complete(g globals) error {
	if o.backup.Stall <= 0 {
		return operation.Errorf(operation.Usage, "--stall-timeout %s: it must be positive", o.backup.Stall)
	}
	o.backup.Instance = g.target.Pod
	o.backup.Timeout = g.timeout
	return nil
}

func (a *app) runBackupAOF(ctx context.Context, o backupAOFOptions, _ []string) error {
	if err := o.complete(a.globals); err != nil {
		return err
	}
	if o.fleet.selected() {
		return fleetBackup[backup.AOFPlan]{o.fleet, o.store, o.encoding, o.dryRun, o.one}.run(ctx, a)
	}
	r, err := a.openBackup(ctx, o.store, o.encoding, o.dryRun)
	if err != nil {
		return err
	}
	defer r.Close()
	m, err := o.one(ctx, r)
	if m.plan != nil {
		return errors.Join(a.print(planDocument(m.plan.Plan, m.plan)), err)
	}
	return r.finish(m.stored, m.manifest, err)
}

// one backs up one release, or plans it. The error of a setting that could not be put
// back comes together with a manifest.
func (o *backupAOFOptions) one(ctx context.Context, r *backupRun) (made[backup.AOFPlan], error) {
	op := r.aof()
	plan, err := op.Plan(ctx, r.d, o.backup)
	if err != nil {
		return made[backup.AOFPlan]{}, err
	}
	return backupJob[backup.AOFPlan]{
		plan: plan, of: plan.Plan, source: plan.Source, next: "redisctl info persistence",
		apply: func() (*snapshot.Manifest, error) { return op.Apply(ctx, plan) }, object: inFolder(plan.Folder()),
	}.run(ctx, r, o.dryRun)
}
