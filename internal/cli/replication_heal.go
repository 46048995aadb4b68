package cli

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/failover"
	"github.com/redisctl/redisctl/internal/render"
)

type healOptions struct {
	watch    failover.WatchOptions
	keep     keepOptions
	watching bool
	dryRun   bool
	yes      bool
}

func (a *app) newReplicationHealCommand() *cobra.Command {
	o := healOptions{watch: failover.DefaultWatchOptions()}
	heal := &o.watch.Heal
	cmd := &cobra.Command{
		Use:   "heal",
		Short: "Bring everybody back to one primary after restarts, without losing data",
		Long: `The chart's init containers know no failover: a pod that restarts makes itself the primary
(ordinal 0) or follows ordinal 0. heal finds what differs from the intended topology, and
repairs it: two primaries, none, replicas of the wrong one, Services that point elsewhere.

The intended primary is kept if it has everything that the others have, by their
replication histories or else by comparing their data; otherwise the instance that has
everything. When none has, heal shows what each lacks and does nothing until --keep says
which one to keep; what the others have is backed up before it is discarded, to --to and
encrypted as redisctl backup rdb would.

--watch goes on observing, and heals whatever can be healed without a decision.`,
		Example: `  redisctl replication heal -n redis-prod --dry-run
  redisctl replication heal -n redis-prod --keep cache-redis-1
  redisctl replication heal -n redis-prod --watch --yes`,
		Args: noArgs,
	}
	f := cmd.Flags()
	addLimits(f, &heal.Limits)
	o.keep.addFlags(cmd)
	f.StringVar(&heal.Keep, "keep", "", "keep the data of this pod, and discard what the others have")
	f.BoolVar(&heal.NoCompare, "no-compare", false, "do not compare data where the histories do not tell which is complete")
	f.BoolVar(&heal.NoBackup, "no-backup", false, "do not back up what is discarded")
	f.BoolVar(&heal.AllowUnreachable, "allow-unreachable", false, "go on although the intended primary does not answer or an instance is loading")
	f.BoolVarP(&o.watching, "watch", "w", false, "go on observing and healing until interrupted")
	f.DurationVar(&o.watch.Interval, "interval", o.watch.Interval, "time between two observations of --watch")
	f.BoolVar(&o.dryRun, "dry-run", false, "print the plan and do nothing")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	mustComplete(cmd, "keep", a.completePods)
	cmd.RunE = runWith(a, &o, a.runHeal)
	return cmd
}

// check refuses what does not go together.
func (o *healOptions) check() error {
	switch {
	case !o.watching:
		return nil
	case o.dryRun:
		return operation.Errorf(operation.Usage, "--watch acts, --dry-run does not: choose one")
	case o.watch.Heal.Keep != "":
		return operation.Errorf(operation.Usage, "--keep decides once; --watch leaves decisions alone")
	case o.watch.Interval <= 0:
		return operation.Errorf(operation.Usage, "--interval %s: it must be positive", o.watch.Interval)
	default:
		return nil
	}
}

func (a *app) runHeal(ctx context.Context, o healOptions, _ []string) error {
	if err := o.check(); err != nil {
		return err
	}
	o.watch.Heal.Timeout = a.globals.timeout
	reporter, done := a.narrator()
	defer done()
	b, d, op, err := a.openKeeping(ctx, reporter, o.keep, o.dryRun)
	if err != nil {
		return err
	}
	defer b.Close()
	if o.watching {
		return a.runHealWatch(ctx, o, op, d)
	}
	plan, err := op.PlanHeal(ctx, d, o.watch.Heal)
	if err != nil {
		return err
	}
	if proceed, err := a.review(ctx, reporter, o.dryRun, plan.Plan, planDocument(plan.Plan, plan)); !proceed {
		return err
	}
	if !o.yes {
		if err := a.confirmHeal(d, plan); err != nil {
			return err
		}
	}
	result, err := op.Heal(ctx, plan)
	if err != nil {
		return err
	}
	done()
	return a.print(healDocument(result))
}

// confirmHeal asks in proportion to what is at stake.
func (a *app) confirmHeal(d *operation.Deployment, plan *failover.HealPlan) error {
	switch {
	case plan.Nothing():
		return nil
	case len(plan.Losses) > 0:
		return a.confirmName(d, "discard what %d instances have and %s lacks", len(plan.Losses), plan.Primary)
	default:
		return a.confirm("bring everybody of %s to %s, in %d steps", d, plan.Primary, len(plan.Steps))
	}
}

func (a *app) runHealWatch(ctx context.Context, o healOptions, op failover.Failover, d *operation.Deployment) error {
	if !o.yes {
		if err := a.confirm("heal %s whenever it drifts, until interrupted", d); err != nil {
			return err
		}
	}
	var printing error
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	target := a.globals.target
	if d.Namespace != "" {
		target = operation.Target{Namespace: d.Namespace, Release: d.Release}
	}
	err := op.Watch(ctx, target, o.watch, func(e failover.Event) {
		if printing = a.printSeries(eventDocument(e)); printing != nil {
			cancel(printing)
		}
	})
	if printing != nil || !errors.Is(err, context.Canceled) {
		return errors.Join(printing, err)
	}
	return nil // Ctrl-C is how a watch ends
}

func eventDocument(e failover.Event) render.Document {
	style := map[failover.Condition]render.Style{
		failover.ConditionHealthy: render.Good, failover.ConditionHealed: render.Good, failover.ConditionPromoted: render.Strong,
		failover.ConditionBlocked: render.Bad, failover.ConditionFailed: render.Bad, failover.ConditionPrimaryGone: render.Bad,
	}[e.Condition]
	line := e.Time.Format(time.RFC3339) + "  " + string(e.Condition) + ": " + e.Message
	return render.Document{Value: e, Names: []string{string(e.Condition)}, Blocks: []render.Block{render.Text{Text: line, Style: style}}}
}
