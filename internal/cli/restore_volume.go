package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/backup"
	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/operation/restore/volume"
)

type restoreVolumeOptions struct {
	store     storeOptions
	overrides restore.Overrides
	volume    volumeOptions
	replace   bool
	noSafety  bool
	dryRun    bool
	yes       bool
}

func (a *app) newRestoreVolumeCommand() *cobra.Command {
	o := restoreVolumeOptions{}
	cmd := &cobra.Command{
		Use:   "volume SNAPSHOT",
		Short: "Restore a volume snapshot",
		Long: `Restores a VolumeSnapshot that redisctl backup volume, or somebody else, has made. A claim
is made from it for the time of copying; a helper pod that mounts both copies the server's
files from there to the release's own claim, and compares digests. From then on it is what
restore rdb --method volume does: stop, rename, start the first pod alone, compare, start
the others; and it is resumed and aborted in the same way.

A snapshot holds no digests: the numbers of keys are compared with those that redisctl
noted when it made the snapshot. The release keeps its own claim.`,
		Example: `  redisctl restore volume data-cache-redis-0-20261123t090501z -n redis-prod --dry-run
  redisctl restore volume data-cache-redis-0-20261123t090501z -n redis-prod --replace`,
		Args: oneArg,
	}
	f := cmd.Flags()
	o.store.addTargets(cmd)
	o.volume.addFlags(cmd)
	addOverrides(cmd, &o.overrides)
	f.BoolVar(&o.replace, "replace", false, "give up the data that the release holds")
	f.BoolVar(&o.noSafety, "no-safety-backup", false, "do not back up the data that is replaced")
	f.BoolVar(&o.dryRun, "dry-run", false, "print the plan and do nothing")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	cmd.ValidArgsFunction = a.completeSnapshots
	cmd.RunE = runWith(a, &o, a.runRestoreVolume)
	return cmd
}

// completeSnapshots completes the names of the volume snapshots that redisctl made.
func (a *app) completeSnapshots(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.complete(func(ctx context.Context, b *backend) ([]string, error) {
		if b.Snapshots == nil {
			return nil, errNoCluster
		}
		all, err := b.Snapshots.ListSnapshots(ctx, a.globals.target.Namespace, a.globals.target.Release)
		names := make([]string, len(all))
		for i, s := range all {
			names[i] = s.Name
		}
		return names, err
	})(cmd, args, toComplete)
}

func (a *app) runRestoreVolume(ctx context.Context, o restoreVolumeOptions, args []string) error {
	safety, err := a.openTargets(o.store)
	if err != nil {
		return err
	}
	b, d, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	reporter, done := a.narrator()
	defer done()
	taken, err := findSnapshot(ctx, b, d, args[0])
	if err != nil {
		return err
	}
	return a.carryOut(ctx, a.volumeRestore(b, safety, reporter), d, &volume.Snapshot{Taken: taken}, volume.Options{
		Overrides: o.overrides, Replace: o.replace, NoSafetyBackup: o.noSafety, Limits: o.volume.limits(a.globals.timeout),
	}, volumePlanDocument, consent{o.dryRun, o.yes}, done)
}

// findSnapshot reads a VolumeSnapshot of the deployment's namespace.
func findSnapshot(ctx context.Context, b *backend, d *operation.Deployment, name string) (backup.VolumeSnapshot, error) {
	if d.Workload == nil {
		return backup.VolumeSnapshot{}, operation.Errorf(operation.Usage, "plain addresses have no volumes that redisctl could restore")
	}
	asItIs := func(backup.VolumeSnapshot) (bool, error) { return true, nil }
	taken, err := b.Snapshots.AwaitSnapshot(ctx, d.Namespace, name, asItIs)
	if err != nil {
		return backup.VolumeSnapshot{}, withNext(err, "redisctl backup list --volumes shows those that redisctl made")
	}
	return taken, nil
}
