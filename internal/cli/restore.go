package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/access"
	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/operation/restore/volume"
	"github.com/redisctl/redisctl/internal/render"
	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/storage"
)

func (a *app) newRestoreCommand() *cobra.Command {
	return newGroup("restore", "Bring a backup's data back, and compare it",
		`Restores a backup that redisctl or a plain redis-server has made, and compares what the
servers then hold with the backup: numbers of keys, values and expiry times. What is
replaced is backed up first.`,
		a.newRestoreRDBCommand(),
		a.newRestoreAOFCommand(),
		a.newRestoreTestCommand(),
		a.newRestoreVolumeCommand(),
		a.newRestoreConfigCommand(),
		a.newRestoreFullCommand(),
		a.newRestoreStatusCommand(),
		a.newRestoreResumeCommand(),
		a.newRestoreAbortCommand(),
		a.newRestoreCleanupCommand(),
	)
}

// sourceOptions say which backup is restored, and what reads it.
type sourceOptions struct {
	store storeOptions
	keys  keyOptions
}

func (o *sourceOptions) addFlags(cmd *cobra.Command) {
	o.store.addSource(cmd)
	o.keys.addFlags(cmd)
}

// withRDB are the kinds of files of backups that have an RDB file of their own; that of
// backup rdb has none.
func withRDB() []snapshot.FileKind { return []snapshot.FileKind{"", snapshot.FileRDB} }

// findSource returns the backup that ref names, see findBackup.
func (a *app) findSource(ctx context.Context, o sourceOptions, ref string, files ...snapshot.FileKind) (restore.Backup, error) {
	keys, err := a.keys(o.keys)
	if err != nil {
		return restore.Backup{}, err
	}
	store, entry, err := a.findBackup(ctx, o.store, ref, files...)
	if err != nil {
		return restore.Backup{}, err
	}
	return restore.Backup{Store: store, Entry: entry, Keys: keys}, nil
}

// safetyOptions say what becomes of the data that a restore replaces.
type safetyOptions struct {
	urls []string
}

func (o *safetyOptions) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&o.urls, "to", nil, "where to store the backup of the present data, instead of --backup-dir: s3://bucket/prefix or a folder (repeatable)")
}

// openSafety returns the store that takes the backup of the present data.
func (a *app) openSafety(o safetyOptions, source storeOptions) (storage.Store, error) {
	source.urls = o.urls
	return a.openTargets(source)
}

func addOverrides(cmd *cobra.Command, o *restore.Overrides) {
	f := cmd.Flags()
	f.BoolVar(&o.Unverified, "allow-unverified", false, "restore a backup that fails verification")
	f.BoolVar(&o.OtherRelease, "allow-other-release", false, "restore a backup of another release")
	f.BoolVar(&o.Memory, "ignore-memory", false, "go on although the data may be larger than maxmemory")
	f.BoolVar(&o.Space, "ignore-space", false, "go on although the volume may be too small")
	f.BoolVar(&o.Managed, "allow-managed", false, "go on although a controller may undo the change")
}

// volumeRestore wires the way through the data volume.
func (a *app) volumeRestore(b *backend, safety storage.Store, reporter operation.Reporter) volume.Restore {
	return volume.Restore{
		Resolver: b.Resolver, Connector: b.Connector, Locker: b.Locker, Notes: b.Notes,
		Volumes: b.Volumes, Traffic: b.Traffic, Holder: b.Holder,
		Keeper:   copies{backup: a.rdbBackup(b, safety, reporter), stall: defaultStall, timeout: a.globals.timeout},
		Comparer: restore.Comparer{Connector: b.Connector, Values: b.Values, Reporter: reporter},
		Reporter: reporter, Now: a.system.Now, By: operator(),
	}
}

// consent says whether a plan is to be carried out, and whether the user is asked.
type consent struct{ dryRun, yes bool }

// carryOut restores through the volume, or shows how. done ends the narration.
func (a *app) carryOut(
	ctx context.Context, op volume.Restore, d *operation.Deployment, source volume.Source, o volume.Options,
	shown func(*volume.Plan) render.Document, c consent, done func(),
) error {
	plan, err := op.Plan(ctx, d, source, o)
	if err != nil {
		return err
	}
	if proceed, err := a.review(ctx, op.Reporter, c.dryRun, plan.Plan, shown(plan), access.OnVolume); !proceed {
		return err
	}
	if !c.yes {
		if err := a.confirmName(d, "stop %s and replace its data with %s", d, plan.Backup); err != nil {
			return err
		}
	}
	result, failed := op.Apply(ctx, plan)
	done()
	return a.finishVolume(result, failed)
}

// finishVolume prints what became of a restore. failed is its error.
func (a *app) finishVolume(result volume.Result, failed error) error {
	if failed != nil && result.Comparison == nil {
		return failed // there is nothing to show
	}
	if err := a.print(volumeDocument(result)); err != nil {
		return err
	}
	return failed
}
