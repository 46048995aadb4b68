package cli

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/backup"
)

type backupVolumeOptions struct {
	backup backup.VolumeOptions
	dryRun bool
}

// defaultVolumeReady is how long a volume snapshot may take: clouds copy the data away
// before they call it ready.
const defaultVolumeReady = 10 * time.Minute

func (a *app) newBackupVolumeCommand() *cobra.Command {
	o := backupVolumeOptions{}
	cmd := &cobra.Command{
		Use:   "volume",
		Short: "Snapshot the volume that holds the data",
		Long: `Makes a VolumeSnapshot of the primary's claim, of another pod's with --pod, or of every
pod's with --all-claims. It needs a CSI driver with snapshots, and their CRDs and
snapshot-controller in the cluster.

The files on the volume are made worth having first, under the release's lock: BGSAVE is
run and waited for, or with an append-only file a running rewrite is waited for, and then
until what was written so far is on the disk. The lock is held until the storage has taken
the snapshot, and not while it copies it to its place. The command ends when the snapshot
can be used, bound and ready.

The class is the one for the claim's driver; with several, the default one. What the
snapshot holds (version, replication ID and offset, keys) is in its annotation
redisctl.dev/contents. It stays in the cluster: it is no copy elsewhere, and it goes with
its namespace.

Ctrl-C removes a snapshot that was not taken yet. One that was taken stays, and may still
become usable.`,
		Example: `  redisctl backup volume -n redis-prod
  redisctl backup volume -n redis-prod --all-claims --snapshot-class csi-fast
  redisctl backup volume -n redis-prod --pod cache-redis-1 --name before-upgrade -o name
  redisctl backup volume -n redis-prod --dry-run
  redisctl backup list --volumes -n redis-prod`,
		Args: noArgs,
	}
	f := cmd.Flags()
	f.BoolVar(&o.backup.All, "all-claims", false, "snapshot the volumes of all pods")
	f.StringVar(&o.backup.Class, "snapshot-class", "", "VolumeSnapshotClass (default: the one for the claim's driver)")
	f.StringVar(&o.backup.Name, "name", "", "name of the VolumeSnapshot; with --all-claims the pods' names are added (default: claim and time)")
	f.DurationVar(&o.backup.Ready, "ready-timeout", defaultVolumeReady, "how long a snapshot may take until it can be used")
	f.BoolVar(&o.backup.AsIs, "as-is", false, "take the volume without making the server write its data, for servers that do not answer")
	f.BoolVar(&o.backup.AllowStale, "allow-stale", false, "accept a replica without a link to its primary")
	f.BoolVar(&o.backup.IgnoreSpace, "ignore-space", false, "go on although BGSAVE may not find enough free space")
	f.BoolVar(&o.dryRun, "dry-run", false, "print the plan and do nothing")
	mustComplete(cmd, "snapshot-class", a.complete(completeSnapshotClasses))
	cmd.RunE = runWith(a, &o, a.runBackupVolume)
	return cmd
}

// completeSnapshotClasses completes the cluster's classes with their drivers.
func completeSnapshotClasses(ctx context.Context, b *backend) ([]string, error) {
	if b.Snapshots == nil {
		return nil, errNoCluster
	}
	classes, err := b.Snapshots.SnapshotClasses(ctx)
	words := make([]string, len(classes))
	for i, c := range classes {
		words[i] = c.Name + "\t" + c.Driver
	}
	return words, err
}

// complete checks the flags and fills in the operation's options.
func (o *backupVolumeOptions) complete(g globals) error {
	if o.backup.Ready <= 0 {
		return operation.Errorf(operation.Usage, "--ready-timeout %s: it must be positive", o.backup.Ready)
	}
	if o.backup.All && g.target.Pod != "" {
		return operation.Errorf(operation.Usage, "--all-claims and --pod exclude each other")
	}
	o.backup.Instance = g.target.Pod
	o.backup.Timeout = g.timeout
	return nil
}

func (a *app) runBackupVolume(ctx context.Context, o backupVolumeOptions, _ []string) error {
	if err := o.complete(a.globals); err != nil {
		return err
	}
	b, d, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	reporter, done := a.narrator()
	defer done()
	op := backup.VolumeBackup{
		Connector: b.Connector, Saver: b.Saver, Files: b.Files, Volumes: b.Snapshots, Locker: b.Locker,
		Reporter: reporter, Now: a.system.Now, Version: ThisBuild().Version,
	}
	plan, err := op.Plan(ctx, d, o.backup)
	if err != nil {
		return err
	}
	proceed, err := a.reviewNext(ctx, reporter, o.dryRun, plan.Plan, planDocument(plan.Plan, plan), "redisctl health"+a.targetFlags(d))
	if !proceed {
		return err
	}
	made, err := op.Apply(ctx, plan)
	done()
	if len(made) > 0 {
		if err := a.print(volumesDocument(made)); err != nil {
			return err
		}
	}
	return err
}

// listVolumes prints the volume snapshots that -n and -r select, limit of them at most
// unless that is 0.
func (a *app) listVolumes(ctx context.Context, limit int) error {
	if len(a.globals.target.Addresses) > 0 {
		return operation.Errorf(operation.Usage, "--volumes: plain addresses have no volumes in Kubernetes")
	}
	b, err := a.backend(a)
	if err != nil {
		return err
	}
	defer b.Close()
	found, err := b.Snapshots.ListSnapshots(ctx, a.globals.target.Namespace, a.globals.target.Release)
	if err != nil {
		return err
	}
	total := len(found)
	if limit > 0 {
		found = slices.Clip(found[:min(limit, total)])
	}
	return a.print(volumeListDocument(found, total, a.system.Now()))
}
