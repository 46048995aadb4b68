package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/snapshot"
)

type backupListOptions struct {
	store storeOptions
	since time.Duration
}

func (a *app) newBackupListCommand() *cobra.Command {
	o := backupListOptions{}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the backups, the newest first",
		Long: `Lists what is stored. Files that are no complete backup are listed with their
problem: an interrupted backup has no manifest. Contents are not read; see backup
verify. Without -n and -r the backups of all releases are listed.`,
		Example: `  redisctl backup list
  redisctl backup list -n redis-prod --since 24h -o name`,
		Args: noArgs,
		RunE: runWith(a, &o, func(ctx context.Context, o backupListOptions, _ []string) error {
			filter, err := a.filter(ctx)
			if err != nil {
				return err
			}
			if o.since > 0 {
				filter.Since = a.system.Now().Add(-o.since)
			}
			store := o.store.open()
			entries, err := snapshot.List(ctx, store, filter)
			if err != nil {
				return operation.Errorf(operation.KindOf(err), "listing %s: %w", store.Location(""), err)
			}
			return a.print(listDocument(store, entries, a.system.Now()))
		}),
	}
	o.store.addFlags(cmd)
	cmd.Flags().DurationVar(&o.since, "since", 0, "only backups that are not older (for example 24h)")
	return cmd
}

func (a *app) newBackupShowCommand() *cobra.Command {
	o := storeOptions{}
	cmd := &cobra.Command{
		Use:   "show ID|latest",
		Short: "Show what a backup holds and where it came from",
		Long: `Shows a backup's manifest: source, replication ID and offset, size, digests, keys per
database. ID is an id from backup list, or the beginning of exactly one.`,
		Example: `  redisctl backup show latest -n redis-prod
  redisctl backup show rdb-20261123T090501Z-k7mq -o json`,
		Args: oneArg,
	}
	o.addFlags(cmd)
	cmd.ValidArgsFunction = a.completeBackups(&o)
	cmd.RunE = runWith(a, &o, func(ctx context.Context, o storeOptions, args []string) error {
		store, entry, err := a.findBackup(ctx, o, args[0])
		if err != nil {
			return err
		}
		if entry.Manifest == nil {
			return &operation.Error{
				Kind: kind(entry.Problem), Object: entry.ID, Phase: "reading the manifest", Err: entry.Problem,
				Next: "redisctl backup verify " + args[0],
			}
		}
		return a.print(showDocument(store, entry))
	})
	return cmd
}
