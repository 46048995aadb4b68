package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/backup"
	"github.com/redisctl/redisctl/internal/snapshot"
)

type backupFullOptions struct {
	backup   backup.Options
	set      backup.SetOptions
	store    storeOptions
	encoding encodingOptions
	fleet    fleetOptions
	dryRun   bool
}

func (a *app) newBackupFullCommand() *cobra.Command {
	o := backupFullOptions{}
	cmd := &cobra.Command{
		Use:   "full",
		Short: "Keep everything: RDB, append-only file, configuration and objects",
		Long: `Takes what backup rdb, backup aof (where the server keeps an append-only file), backup
config and backup resources take, as one set with one manifest. The set exists when the
manifest does, which is written last: there is no half of it. RDB and append-only file
come from the same instance.

Passwords and Secrets are left out unless --include-secrets is given together with
encryption.

With --all-namespaces or --all-releases one backup of each release is made: exit code 3
when some failed.`,
		Example: `  redisctl backup full -n redis-prod
  redisctl backup full -n redis-prod --include-secrets --recipients-file ops.txt --compress zstd
  redisctl backup full -n redis-prod --dry-run
  redisctl backup full --all-namespaces --parallel 2`,
		Args: noArgs,
	}
	f := cmd.Flags()
	o.store.addTargets(cmd)
	o.encoding.addFlags(cmd)
	o.fleet.addFlags(cmd)
	addSecretsFlag(cmd, &o.set)
	f.DurationVar(&o.backup.Stall, "stall-timeout", defaultStall, "how long the source may send nothing")
	f.BoolVar(&o.backup.AllowStale, "allow-stale", false, "accept a replica without a link to its primary (with --pod)")
	f.BoolVar(&o.backup.IgnoreSpace, "ignore-space", false, "go on although free space may not suffice")
	f.BoolVar(&o.dryRun, "dry-run", false, "print the plan and do nothing")
	cmd.RunE = runWith(a, &o, a.runBackupFull)
	return cmd
}

func (a *app) runBackupFull(ctx context.Context, o backupFullOptions, _ []string) error {
	if o.backup.Stall <= 0 {
		return operation.Errorf(operation.Usage, "--stall-timeout %s: it must be positive", o.backup.Stall)
	}
	o.backup.Instance, o.backup.Timeout, o.set.Timeout = a.globals.target.Pod, a.globals.timeout, a.globals.timeout
	if o.fleet.selected() {
		return fleetBackup[backup.FullPlan]{o.fleet, o.store, o.encoding, o.dryRun, o.one}.run(ctx, a)
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
func (o *backupFullOptions) one(ctx context.Context, r *backupRun) (made[backup.FullPlan], error) {
	op := backup.Full{RDB: r.rdb(), AOF: r.aof(), Config: r.config(), Resources: r.resources()}
	plan, err := op.Plan(ctx, r.d, o.backup, o.set)
	if err != nil {
		return made[backup.FullPlan]{}, err
	}
	return backupJob[backup.FullPlan]{
		plan: plan, of: plan.Plan, source: plan.Source, next: "redisctl health",
		apply: func() (*snapshot.Manifest, error) { return op.Apply(ctx, plan) }, object: inFolder(plan.Folder()),
	}.run(ctx, r, o.dryRun)
}
