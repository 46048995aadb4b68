package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/backup"
)

type backupFullOptions struct {
	backup   backup.Options
	set      backup.SetOptions
	store    storeOptions
	encoding encodingOptions
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
encryption.`,
		Example: `  redisctl backup full -n redis-prod
  redisctl backup full -n redis-prod --include-secrets --recipients-file ops.txt --compress zstd
  redisctl backup full -n redis-prod --dry-run`,
		Args: noArgs,
	}
	f := cmd.Flags()
	o.store.addTargets(cmd)
	o.encoding.addFlags(cmd)
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
	r, err := a.openBackup(ctx, o.store, o.encoding, o.dryRun)
	if err != nil {
		return err
	}
	defer r.Close()
	op := backup.Full{RDB: r.rdb(), AOF: r.aof(), Config: r.config(), Resources: r.resources()}
	plan, err := op.Plan(ctx, r.d, o.backup, o.set)
	if err != nil {
		return err
	}
	next := "redisctl health" + a.targetFlags(r.d)
	if proceed, err := a.reviewNext(r.reporter, o.dryRun, plan.Plan, planDocument(plan.Plan, plan), next); !proceed {
		return err
	}
	manifest, err := op.Apply(ctx, plan)
	if manifest == nil {
		return withNext(err, next)
	}
	return r.finish(plan.Folder(), manifest, err) // the error is of a setting that could not be put back
}
