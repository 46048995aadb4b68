package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/access"
	"github.com/redisctl/redisctl/internal/operation/restore/live"
	"github.com/redisctl/redisctl/internal/operation/restore/volume"
	"github.com/redisctl/redisctl/internal/render"
	"github.com/redisctl/redisctl/internal/storage"
)

// restoreStatus is the result of `restore status`.
type restoreStatus struct {
	Namespace string `json:"namespace,omitempty"`
	Release   string `json:"release,omitempty"`
	Name      string `json:"name"`
	// Unfinished is the record of a restore that was interrupted; null when there is
	// none.
	Unfinished any `json:"unfinished"`
}

func (a *app) newRestoreStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show a restore that was interrupted",
		Long: `Shows the record of a restore that was interrupted, how far it has come, and what goes on
or back. Exit code 10 when there is one.`,
		Example: "  redisctl restore status -n redis-prod",
		Args:    noArgs,
		RunE: a.run(func(ctx context.Context, _ []string) error {
			b, d, err := a.open(ctx)
			if err != nil {
				return err
			}
			defer b.Close()
			status := restoreStatus{Namespace: d.Namespace, Release: d.Release, Name: d.Name}
			record, err := a.volumeRestore(b, nil, operation.DiscardReporter{}).Unfinished(ctx, d)
			if err != nil {
				return err
			}
			replay, err := a.liveRestore(b, nil, operation.DiscardReporter{}).Unfinished(ctx, d)
			if err != nil {
				return err
			}
			doc := render.Document{Value: status, Blocks: []render.Block{render.Text{Text: "no restore is unfinished", Style: render.Good}}}
			if record != nil {
				status.Unfinished = record
				doc = volumeRecordDocument(status, record)
			}
			if replay != nil {
				status.Unfinished = replay
				doc = liveRecordDocument(status, replay)
			}
			if err := a.print(doc); err != nil {
				return err
			}
			if record != nil || replay != nil {
				return outcome(operation.Unhealthy, "a restore is unfinished")
			}
			return nil
		}),
	}
}

type restoreResumeOptions struct {
	source sourceOptions
	proof  proofOptions
	volume volumeOptions
	pace   paceOptions
	accept bool
	yes    bool
}

func (a *app) newRestoreResumeCommand() *cobra.Command {
	o := restoreResumeOptions{}
	cmd := &cobra.Command{
		Use:   "resume",
		Short: "Go on with a restore that was interrupted",
		Long: `Goes on where a restore was interrupted, from the record that it has left. When the
backup's files were not in place yet, it is undone instead: the release serves its former
data, and the restore can be begun anew.

The backup is read again for the comparison, from where the record says it is, or from
--from. --accept-differences goes on without, or in spite of a comparison that failed.

A live restore goes on behind the last key that is noted, with the same keys and choices.`,
		Example: `  redisctl restore resume -n redis-prod
  redisctl restore resume -n redis-prod --accept-differences`,
		Args: noArgs,
	}
	o.source.addFlags(cmd)
	o.proof.addFlags(cmd)
	o.volume.addFlags(cmd)
	o.pace.addFlags(cmd)
	cmd.Flags().BoolVar(&o.accept, "accept-differences", false, "go on although the data is not what the backup holds, or was not compared")
	cmd.Flags().BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	cmd.RunE = runWith(a, &o, func(ctx context.Context, o restoreResumeOptions, _ []string) error {
		sample, err := o.proof.sample()
		if err != nil {
			return err
		}
		if handled, err := a.onUnfinishedLive(ctx, func(ctx context.Context, b *backend, d *operation.Deployment, record *live.Record) error {
			return a.resumeLive(ctx, b, d, o, sample, record)
		}); handled {
			return err
		}
		return a.onUnfinished(ctx, o.yes, "go on with", func(ctx context.Context, op volume.Restore, d *operation.Deployment, record *volume.Record) (volume.Result, error) {
			resume := volume.ResumeOptions{AcceptDifferences: o.accept, Sample: sample, Limits: o.volume.limits(a.globals.timeout)}
			if !o.accept && !record.Compared {
				source, err := a.reopenSource(ctx, o.source, record, op.Reporter)
				if err != nil {
					return volume.Result{}, err
				}
				resume.Source = source
			}
			return op.Resume(ctx, d, resume)
		})
	})
	return cmd
}

// reopenSource reads the backup again that a record names.
func (a *app) reopenSource(ctx context.Context, o sourceOptions, record *volume.Record, reporter operation.Reporter) (volume.Source, error) {
	if len(o.store.urls) == 0 && record.From != "" {
		o.store.urls = []string{record.From}
	}
	var source volume.Source
	var err error
	if record.Command == volume.CommandAOF {
		source, err = a.reopenAOF(ctx, o, record.Origin, reporter)
	} else {
		source, err = a.openRDB(ctx, o, record.Ref, reporter)
	}
	if err != nil {
		return nil, withNext(err, "give --from, or go on without comparing: --accept-differences")
	}
	return source, nil
}

type restoreAbortOptions struct {
	volume volumeOptions
	yes    bool
}

func (a *app) newRestoreAbortCommand() *cobra.Command {
	o := restoreAbortOptions{}
	cmd := &cobra.Command{
		Use:   "abort",
		Short: "Bring the former data back after a restore that was interrupted",
		Long: `Undoes a restore that was interrupted: the former files take their places again, and all
pods start with them. What clients wrote since is lost with the restored data.

A live restore is given up instead: what it has restored stays.`,
		Example: "  redisctl restore abort -n redis-prod",
		Args:    noArgs,
	}
	o.volume.addFlags(cmd)
	cmd.Flags().BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	cmd.RunE = runWith(a, &o, func(ctx context.Context, o restoreAbortOptions, _ []string) error {
		if handled, err := a.onUnfinishedLive(ctx, func(ctx context.Context, b *backend, d *operation.Deployment, record *live.Record) error {
			return a.abortLive(ctx, b, d, o.yes, record)
		}); handled {
			return err
		}
		return a.onUnfinished(ctx, o.yes, "undo", func(ctx context.Context, op volume.Restore, d *operation.Deployment, _ *volume.Record) (volume.Result, error) {
			return op.Abort(ctx, d, o.volume.limits(a.globals.timeout))
		})
	})
	return cmd
}

// onUnfinished finds the record of an unfinished restore, asks for consent, and does
// something about it.
func (a *app) onUnfinished(
	ctx context.Context, yes bool, what string,
	do func(context.Context, volume.Restore, *operation.Deployment, *volume.Record) (volume.Result, error),
) error {
	b, d, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	reporter, done := a.narrator()
	defer done()
	var none storage.Store // nothing is backed up
	op := a.volumeRestore(b, none, reporter)
	record, err := op.Unfinished(ctx, d)
	if err != nil {
		return err
	}
	if record == nil {
		return &operation.Error{
			Kind: operation.Refused, Object: d.String(), Phase: "reading the record",
			Err: errNoRestore, Unchanged: "nothing was changed",
		}
	}
	if err := a.permitted(ctx, access.Begun); err != nil {
		return err
	}
	if !yes {
		if err := a.confirm("%s the restore of %s into %s, begun by %s", what, record.Backup, d, record.By); err != nil {
			return err
		}
	}
	result, failed := do(ctx, op, d, record)
	done()
	return a.finishVolume(result, failed)
}
