package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/maintenance"
	"github.com/redisctl/redisctl/internal/render"
)

type flushOptions struct {
	db       int
	noBackup bool
	settle   time.Duration
	store    storeOptions
	encoding encodingOptions
	dryRun   bool
	yes      bool
}

// newFlushCommand makes flushall and flushdb.
func (a *app) newFlushCommand(all bool) *cobra.Command {
	o := flushOptions{db: -1}
	use, what, example := "flushall", "all databases", "flushall"
	if !all {
		use, what, example = "flushdb", "one database", "flushdb --db 3"
	}
	cmd := &cobra.Command{
		Use:   use,
		Short: "Delete all keys of " + what + ", after a backup",
		Long: `Deletes all keys of ` + what + ` on the primary, and makes sure that the replicas have
done so, too. The whole data set is backed up first (--no-backup: it is not), as redisctl
backup rdb would, and verified while it is read; a backup that fails ends the command with
nothing deleted. Then the keys are deleted with ASYNC: the server gives the memory back
in the background.

It asks for the release's name, or takes --yes, and holds the release's lock. A command
that the release's redis.conf gives another name is found; one that is disabled is a
refusal (exit code 5), as are an unfinished failover or restore, and two primaries. Keys
that clients write meanwhile are told, and are no failure. Writes between the backup and
the deletion are in neither: stop the writers first if that matters.

Exit code 3 when it was done, but a replica has not followed, or does not answer.`,
		Example: `  redisctl maintenance ` + example + ` -n redis-prod --dry-run
  redisctl maintenance ` + example + ` -n redis-prod --to s3://backups/redis --yes`,
		Args: noArgs,
	}
	f := cmd.Flags()
	if !all {
		f.IntVar(&o.db, "db", 0, "database")
		mustComplete(cmd, "db", completeDBs)
	}
	f.BoolVar(&o.noBackup, "no-backup", false, "do not back up first")
	f.DurationVar(&o.settle, "settle", maintenance.DefaultSettle, "how long the replicas may take to follow")
	noCompletion(cmd, "settle")
	o.store.addTargets(cmd)
	o.encoding.addFlags(cmd)
	f.BoolVar(&o.dryRun, "dry-run", false, "print the plan and do nothing")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	cmd.RunE = runWith(a, &o, func(ctx context.Context, o flushOptions, _ []string) error {
		if !all && o.db < 0 {
			return operation.Errorf(operation.Usage, "--db %d: it cannot be negative", o.db)
		}
		return a.runFlush(ctx, o)
	})
	return cmd
}

func (a *app) runFlush(ctx context.Context, o flushOptions) error {
	encoding, err := a.encoding(o.encoding, o.dryRun || o.noBackup)
	if err != nil {
		return err
	}
	store, err := a.openTargets(o.store)
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
	held := *b
	held.Locker = operation.Held{} // the flush around it has the lock
	keeper := copies{backup: a.rdbBackup(&held, store, reporter), stall: defaultStall, timeout: a.globals.timeout}
	keeper.backup.Encoding = encoding
	op := maintenance.Flush{Maintenance: a.maintenance(b, reporter), Locker: b.Locker, Notes: b.Notes, Keeper: keeper}
	plan, err := op.Plan(ctx, d, maintenance.FlushOptions{DB: o.db, Instance: a.globals.target.Pod, NoBackup: o.noBackup, Settle: o.settle})
	if err != nil {
		return err
	}
	if proceed, err := a.review(ctx, reporter, o.dryRun, plan.Plan, planDocument(plan.Plan, plan)); !proceed {
		return err
	}
	if !o.yes {
		kept := "after a backup"
		if o.noBackup {
			kept = "WITHOUT a backup"
		}
		if err := a.confirmName(d, "delete %d keys of %s, %s", plan.Keys, plan.Instance, kept); err != nil {
			return err
		}
	}
	result, failed := op.Apply(ctx, plan)
	done()
	if failed != nil {
		return a.flushFailed(failed, result)
	}
	if err := a.print(flushedDocument(result)); err != nil {
		return err
	}
	if !result.Verified() {
		return outcome(operation.Partial, "a replica of %s has not followed", d)
	}
	return nil
}

// flushFailed says where the backup is that was made before something failed.
func (a *app) flushFailed(err error, r maintenance.Flushed) error {
	var e *operation.Error
	if r.Backup == "" || !asError(err, &e) {
		return err
	}
	kept := *e
	if kept.Unchanged != "" {
		kept.Unchanged += "; "
	}
	kept.Unchanged += "the backup is " + r.Backup
	return &kept
}

func flushedDocument(r maintenance.Flushed) render.Document {
	what := "all databases"
	if r.DB != nil {
		what = fmt.Sprintf("db%d", *r.DB)
	}
	fields := render.Fields{
		{Label: "deleted", Value: render.Cell{Text: fmt.Sprintf("%d keys of %s on %s", r.Deleted, what, r.Instance), Style: render.Good}},
		{Label: "command", Value: render.T(fmt.Sprintf("%s ASYNC, %s", r.Command, confirmedText(r.Confirmed)))},
	}
	if r.Backup != "" {
		fields = append(fields, render.Field{Label: "backup", Value: render.T(r.Backup)})
	} else {
		fields = append(fields, render.Field{Label: "backup", Value: render.Cell{Text: "none", Style: render.Warn}})
	}
	if r.WrittenMeanwhile > 0 {
		fields = append(fields, render.Field{Label: "written meanwhile", Value: render.Cell{
			Text: fmt.Sprintf("%d keys, by clients since then", r.WrittenMeanwhile), Style: render.Warn,
		}})
	}
	memory := fmt.Sprintf("%s before, %s now", operation.Bytes(r.MemoryBefore), operation.Bytes(r.MemoryAfter))
	if r.FreeingObjects > 0 {
		memory += fmt.Sprintf(", %d objects are still being freed", r.FreeingObjects)
	}
	fields = append(fields, render.Field{Label: "memory", Value: render.T(memory)})
	for _, replica := range r.Replicas {
		style := render.Good
		text := fmt.Sprintf("%s, %d keys", replica.State, replica.Keys)
		if replica.State != maintenance.ReplicaFlushed {
			style = render.Bad
		}
		if replica.State == maintenance.ReplicaSilent {
			text = replica.State
		}
		fields = append(fields, render.Field{Label: "replica", Value: render.Cell{Text: replica.Name + " " + text, Style: style}})
	}
	hints := r.Hints
	if r.WrittenAfterBackup > 0 {
		hints = append([]string{fmt.Sprintf(
			"%s of replication history lie between the backup and the deletion: writes among them are in neither", operation.Bytes(r.WrittenAfterBackup),
		)}, hints...)
	}
	return render.Document{Value: r, Names: []string{r.Instance}, Blocks: []render.Block{fields, notesList(render.Dim, hints...)}}
}

func confirmedText(confirmed bool) string {
	if confirmed {
		return "confirmed by the server"
	}
	return "its answer was lost, nothing is left"
}
