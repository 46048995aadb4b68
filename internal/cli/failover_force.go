package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation/failover"
)

type forceOptions struct {
	force  failover.ForceOptions
	keep   keepOptions
	dryRun bool
	yes    bool
}

func (a *app) newFailoverForceCommand() *cobra.Command {
	o := forceOptions{force: failover.DefaultForceOptions()}
	cmd := &cobra.Command{
		Use:   "force [POD]",
		Short: "Promote a replica although the primary is gone; this may lose writes",
		Long: `Gives up a primary that is deleted, crash-looping, on a lost node or hanging, and promotes
POD, or the replica that has applied the most of its history. The plan says what may be
lost: what the old primary has acknowledged since the replica last heard from it.

The old primary is fenced. A process that hangs is ended by deleting its pod
(--keep-pod leaves it alone), the Services are moved before the replica is promoted, and
when the old primary returns within --return it is made a replica; what only it has is
backed up first (--to and encryption as for backup rdb). One that is still down then gets
no clients of the Services, and redisctl replication heal makes it a replica later.

Exit code 3 says that the replica is the primary, but that nobody can tell whether the
old one still runs.`,
		Example: `  redisctl failover force -n redis-prod --dry-run
  redisctl failover force cache-redis-2 -n redis-prod --yes`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completePods,
	}
	f := cmd.Flags()
	addLimits(f, &o.force.Limits)
	o.keep.addFlags(cmd)
	f.DurationVar(&o.force.Return, "return", o.force.Return, "how long to wait for the old primary to return; 0 does not wait")
	f.BoolVar(&o.force.KeepPod, "keep-pod", false, "do not delete the pod of a process that hangs")
	f.BoolVar(&o.force.NoBackup, "no-backup", false, "do not back up what only the old primary has")
	f.BoolVar(&o.force.AllowAlive, "allow-alive", false, "go on although the primary answers")
	f.BoolVar(&o.force.AllowLessData, "allow-less-data", false, "promote POD although another replica has more data")
	f.BoolVar(&o.force.AllowDiverged, "allow-diverged", false, "go on although another instance may have data of its own")
	f.BoolVar(&o.force.AllowPriorityZero, "allow-priority-zero", false, "promote a replica that is configured never to be promoted")
	f.BoolVar(&o.dryRun, "dry-run", false, "print the plan and do nothing")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	cmd.RunE = runWith(a, &o, a.runForce)
	return cmd
}

func (a *app) runForce(ctx context.Context, o forceOptions, args []string) error {
	if len(args) == 1 {
		o.force.To = args[0]
	}
	o.force.Timeout = a.globals.timeout
	reporter, done := a.narrator()
	defer done()
	b, d, op, err := a.openKeeping(ctx, reporter, o.keep, o.dryRun)
	if err != nil {
		return err
	}
	defer b.Close()
	plan, err := op.PlanForce(ctx, d, o.force)
	if err != nil {
		return err
	}
	if proceed, err := a.review(ctx, reporter, o.dryRun, plan.Plan, planDocument(plan.Plan, plan)); !proceed {
		return err
	}
	if !o.yes {
		err := a.confirmName(d, "give up the primary %s and promote %s, losing %s", plan.From, plan.To, plan.Bound)
		if err != nil {
			return err
		}
	}
	result, err := op.Force(ctx, plan)
	if err != nil && result.Offset == 0 {
		return err // nothing was promoted
	}
	done()
	if err := a.print(forceDocument(result)); err != nil {
		return err
	}
	return err
}
