package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation/resync"
	"github.com/redisctl/redisctl/internal/render"
)

type resyncOptions struct {
	resync resync.Options
	dryRun bool
	yes    bool
}

func (a *app) newReplicationResyncCommand() *cobra.Command {
	o := resyncOptions{resync: resync.DefaultOptions()}
	cmd := &cobra.Command{
		Use:   "resync POD",
		Short: "Make a replica follow the observed primary, and wait until it has caught up",
		Long: `Makes POD follow the instance that says it is the primary, by the name that the chart
uses, and waits until the link is up and POD has all that the primary had by then. When
POD is in sync already, nothing is done.

Redis resynchronises partially when the primary still knows what POD lacks, and fully
otherwise: then the primary forks and sends its whole data set, which replaces POD's. The
plan says which is expected and why. Data that the primary never had is not replaced
without --allow-data-loss.

--full makes POD copy everything, for example after a suspected corruption. POD is never
writable in between: it forgets its history and follows the primary in one transaction.
Until the copy has arrived it serves its old data.`,
		Example: `  redisctl replication resync cache-redis-2 -n redis-prod
  redisctl replication resync cache-redis-2 -n redis-prod --full --dry-run`,
		Args:              oneArg,
		ValidArgsFunction: a.completePods,
	}
	f := cmd.Flags()
	f.BoolVar(&o.resync.Full, "full", false, "copy the whole data set, also when POD is in sync")
	f.DurationVar(&o.resync.Stall, "stall-timeout", o.resync.Stall, "how long the resynchronisation may show no progress")
	f.BoolVar(&o.resync.AllowDataLoss, "allow-data-loss", false, "replace data of POD that the primary never had")
	f.BoolVar(&o.dryRun, "dry-run", false, "print the plan and do nothing")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	cmd.RunE = runWith(a, &o, a.runReplicationResync)
	return cmd
}

func (a *app) runReplicationResync(ctx context.Context, o resyncOptions, args []string) error {
	o.resync.Instance = args[0]
	o.resync.Timeout = a.globals.timeout
	reporter, done := a.narrator()
	defer done()
	b, d, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	op := resync.Operation{Connector: b.Connector, Atomic: b.Atomic, Notes: b.Notes, Locker: b.Locker, Reporter: reporter}
	plan, err := op.Plan(ctx, d, o.resync)
	if err != nil {
		return err
	}
	if proceed, err := a.review(ctx, reporter, o.dryRun, plan.Plan, resyncPlanDocument(plan)); !proceed {
		return err
	}
	if plan.Changes() && !o.yes {
		if err := a.confirm("make %s follow %s, with a %s resynchronisation (%s)", plan.Instance, plan.Primary, plan.Expect, plan.Reason); err != nil {
			return err
		}
	}
	result, err := op.Apply(ctx, plan)
	if err != nil {
		return err
	}
	done()
	return a.print(resyncDocument(result))
}

func resyncPlanDocument(p *resync.Plan) render.Document {
	d := planDocument(p.Plan, p)
	if p.Expect == resync.KindNone {
		d.Blocks = []render.Block{inSync(p.Instance, p.Primary)}
	}
	return d
}

func inSync(instance, primary string) render.Block {
	return render.Text{Text: fmt.Sprintf("nothing to do: %s follows %s and is in sync", instance, primary), Style: render.Good}
}

func resyncDocument(r resync.Result) render.Document {
	d := render.Document{Value: r, Names: []string{r.Instance}}
	if r.Kind == resync.KindNone && r.DurationSeconds == 0 {
		d.Blocks = []render.Block{inSync(r.Instance, r.Primary)}
		return d
	}
	kind := render.T(fmt.Sprintf("%s (served by %s meanwhile: %d partial, %d full)", r.Kind, r.Primary, r.PartialResyncs, r.FullResyncs))
	if r.Kind == resync.KindNone {
		kind = render.T("none was needed: the link came up by itself")
	}
	d.Blocks = []render.Block{render.Fields{
		{Label: "replica", Value: render.Cell{Text: r.Instance, Style: render.Strong}},
		{Label: "follows", Value: render.T(r.Primary)},
		{Label: "resynchronisation", Value: kind},
		{Label: "took", Value: render.T(fmt.Sprintf("%.1f s", r.DurationSeconds))},
		{Label: "offsets", Value: render.T(fmt.Sprintf("%d before, %d now; the primary was at %d when the link came up", r.OffsetBefore, r.Offset, r.PrimaryOffset))},
		{Label: "verified", Value: render.Cell{Text: "the link is up and it has caught up", Style: render.Good}},
	}}
	return d
}
