package cli

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/backup"
	"github.com/redisctl/redisctl/internal/render"
	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/storage"
)

type backupListOptions struct {
	store  storeOptions
	filter backupFilter
	limit  int
	// volumes lists volume snapshots instead.
	volumes bool
}

// backupFilter narrows down which backups a command is about, beyond -n, -r and
// --address.
type backupFilter struct {
	since, until     string
	instance, method string
	states           []string
}

func (f *backupFilter) addFlags(a *app, cmd *cobra.Command, store *storeOptions) {
	flags := cmd.Flags()
	flags.StringVar(&f.since, "since", "", "only backups that are not older: an age (24h, 7d), a day (2026-11-23) or a time")
	flags.StringVar(&f.until, "until", "", "only backups that are not newer: an age, a day (its beginning) or a time")
	flags.StringVar(&f.instance, "instance", "", "only backups of this pod or address")
	flags.StringVar(&f.method, "method", "", "only backups made in this way: "+strings.Join(backup.Methods(), " or "))
	flags.StringSliceVar(&f.states, "state", nil, "only backups in these states: "+strings.Join(stateNames(), ", "))
	mustComplete(cmd, "instance", a.completeInstances(store))
	mustComplete(cmd, "method", cobra.FixedCompletions(backup.Methods(), cobra.ShellCompDirectiveNoFileComp))
	mustComplete(cmd, "state", cobra.FixedCompletions(stateNames(), cobra.ShellCompDirectiveNoFileComp))
}

func stateNames() []string {
	var names []string
	for _, state := range snapshot.States() {
		names = append(names, string(state))
	}
	return names
}

// narrow adds what the flags say to a filter.
func (a *app) narrow(filter snapshot.Filter, f backupFilter) (snapshot.Filter, error) {
	var err error
	if filter.Since, err = a.moment("since", f.since); err != nil {
		return filter, err
	}
	if filter.Until, err = a.moment("until", f.until); err != nil {
		return filter, err
	}
	filter.Instance, filter.Method = f.instance, f.method
	for _, name := range f.states {
		state := snapshot.State(name)
		if !slices.Contains(snapshot.States(), state) {
			return filter, operation.Errorf(operation.Usage, "--state %q: choose from %s", name, strings.Join(stateNames(), ", "))
		}
		filter.States = append(filter.States, state)
	}
	return filter, nil
}

// listBackups returns the backups that the flags select, the newest first.
func (a *app) listBackups(ctx context.Context, store storage.Store, f backupFilter) ([]snapshot.Entry, error) {
	filter, err := a.filter(ctx)
	if err != nil {
		return nil, err
	}
	if filter, err = a.narrow(filter, f); err != nil {
		return nil, err
	}
	done := a.waiting("reading the list of backups in " + store.Location(""))
	entries, err := snapshot.List(ctx, store, filter)
	done()
	if err != nil {
		return nil, operation.Errorf(operation.KindOf(err), "listing %s: %w", store.Location(""), err)
	}
	return entries, nil
}

// listed is a backup and where it is.
type listed struct {
	snapshot.Entry
	store storage.Store
}

// storeProblem is a store that could not be read, in results about several.
type storeProblem struct {
	Location string `json:"location"`
	Error    string `json:"error"`

	err error
}

// listAll is listBackups for several stores. One that cannot be listed hides nothing of
// the others; the error is for when none could be.
func (a *app) listAll(ctx context.Context, stores []storage.Store, f backupFilter) ([]listed, []storeProblem, error) {
	var all []listed
	var problems []storeProblem
	var errs []error
	for _, store := range stores {
		entries, err := a.listBackups(ctx, store, f)
		if operation.KindOf(err) == operation.Usage && err != nil {
			return nil, nil, err // it is not about the store
		}
		if err != nil {
			problems = append(problems, storeProblem{Location: store.Location(""), Error: err.Error(), err: err})
			errs = append(errs, err)
		}
		for _, e := range entries {
			all = append(all, listed{e, store})
		}
	}
	if len(problems) == len(stores) {
		return nil, nil, allFailed(errs)
	}
	slices.SortStableFunc(all, func(a, b listed) int { return b.Created.Compare(a.Created) })
	return all, problems, nil
}

// allFailed is the failure of several targets, of which none succeeded.
func allFailed(errs []error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	return operation.Errorf(combined(0, errs), "%w", errors.Join(errs...))
}

// problemBlock names the stores that could not be read.
func problemBlock(problems []storeProblem) render.Block {
	list := render.List{}
	for _, p := range problems {
		list = append(list, render.Entry{
			Mark: render.Cell{Text: "✗", Style: render.Bad}, Line: []render.Cell{{Text: p.Location, Style: render.Strong}},
			Details: []string{p.Error},
		})
	}
	return list
}

func (a *app) newBackupListCommand() *cobra.Command {
	o := backupListOptions{}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the backups, the newest first",
		Long: `Lists what is stored. Contents are not read; see backup verify, which records when a
backup was last found to be sound. Without -n and -r the backups of all releases are
listed.

The states: intact (as far as that shows without reading), incomplete (no manifest: the
backup did not finish), damaged, unsupported (made by a newer redisctl), unreadable (the
manifest could not be read), foreign (a file that redisctl did not make), removing (a
prune was interrupted).

With several --from, a store that cannot be listed is named behind the others' backups
(exit code 3).

With --volumes the VolumeSnapshots that backup volume made are listed instead, from the
cluster: of all namespaces without -n. The other flags are about stores.`,
		Example: `  redisctl backup list
  redisctl backup list -n redis-prod --since 24h -o name
  redisctl backup list --state damaged,incomplete
  redisctl backup list --from /backups --from s3://dr-backups/redis
  redisctl backup list --volumes -n redis-prod
  redisctl backup list --until 30d --instance cache-redis-1 --limit 10`,
		Args: noArgs,
		RunE: runWith(a, &o, func(ctx context.Context, o backupListOptions, _ []string) error {
			if o.limit < 0 {
				return operation.Errorf(operation.Usage, "--limit %d: it must not be negative", o.limit)
			}
			if o.volumes {
				return a.listVolumes(ctx, o.limit)
			}
			stores, err := a.openStores(o.store)
			if err != nil {
				return err
			}
			entries, problems, err := a.listAll(ctx, stores, o.filter)
			if err != nil {
				return err
			}
			total := len(entries)
			if o.limit > 0 && total > o.limit {
				entries = entries[:o.limit]
			}
			if err := a.print(listDocument(stores, entries, problems, total, a.system.Now())); err != nil {
				return err
			}
			if len(problems) > 0 {
				return outcome(operation.Partial, "%d of %d stores could not be listed", len(problems), len(stores))
			}
			return nil
		}),
	}
	o.store.addSource(cmd)
	o.filter.addFlags(a, cmd, &o.store)
	cmd.Flags().IntVar(&o.limit, "limit", 0, "at most so many (default all)")
	cmd.Flags().BoolVar(&o.volumes, "volumes", false, "list the volume snapshots in the cluster instead")
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
	o.addSource(cmd)
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
		return a.print(showDocument(store, entry, a.system.Now()))
	})
	return cmd
}
