package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strings"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/failover"
)

func (a *app) newFailoverCommand() *cobra.Command {
	return newGroup("failover", "Hand the primary over without losing a write",
		`Hands the primary's role to a replica: pauses writes, waits until the replica has all of
them, demotes the old primary, promotes the replica, moves the Services and lets every
other instance follow. An acknowledged write is never lost by a planned switch.`,
		a.newPromoteCommand(),
		a.newFailoverStatusCommand(),
		a.newFailoverResumeCommand(),
	)
}

type promoteOptions struct {
	failover failover.Options
	dryRun   bool
	yes      bool
}

// newPromoteCommand makes `failover promote`, which `promote` is short for.
func (a *app) newPromoteCommand() *cobra.Command {
	o := promoteOptions{failover: failover.DefaultOptions()}
	cmd := &cobra.Command{
		Use:   "promote [POD]",
		Short: "Make a replica the primary, losing no acknowledged write",
		Long: `Makes POD the primary; without POD the replica in sync that lags least. Writes wait for
milliseconds, for --pause at most: the pause ends by itself, whatever happens to
redisctl.

Any failure before the old primary is demoted leaves it serving. After that the switch is
completed; if that is interrupted, redisctl failover resume completes it.`,
		Example: `  redisctl failover promote cache-redis-1 -n redis-prod
  redisctl promote -n redis-prod --dry-run`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completePods,
	}
	f := cmd.Flags()
	f.DurationVar(&o.failover.Pause, "pause", o.failover.Pause, "how long writes may wait")
	f.DurationVar(&o.failover.Settle, "settle", o.failover.Settle, "how long the instances may take to follow the new primary")
	f.Int64Var(&o.failover.MaxLag, "max-bytes", o.failover.MaxLag, "bytes that the replica may be behind at the start")
	f.BoolVar(&o.failover.AllowLag, "allow-lag", false, "promote a replica that is further behind")
	f.BoolVar(&o.failover.AllowUnreachable, "allow-unreachable", false, "go on although an instance does not answer")
	f.BoolVar(&o.failover.AllowPriorityZero, "allow-priority-zero", false, "promote a replica that is configured never to be promoted")
	f.BoolVar(&o.failover.AllowOlder, "allow-older", false, "promote a replica of an older version")
	f.BoolVar(&o.failover.AllowNoPersistence, "allow-no-persistence", false, "promote a replica that keeps nothing on disk")
	f.BoolVar(&o.dryRun, "dry-run", false, "print the plan and do nothing")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	cmd.RunE = runWith(a, &o, a.runPromote)
	return cmd
}

// openFailover resolves the target and wires the operation.
func (a *app) openFailover(ctx context.Context, reporter operation.Reporter) (*backend, *operation.Deployment, failover.Planned, error) {
	b, d, err := a.open(ctx)
	if err != nil {
		return nil, nil, failover.Planned{}, err
	}
	return b, d, failover.Planned{
		Connector: b.Connector, Pauser: b.Pauser, Traffic: b.Traffic, Notes: b.Notes, Locker: b.Locker,
		Reporter: reporter, Now: a.system.Now, By: operator(),
	}, nil
}

// operator names who runs this process, for records.
func operator() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		return name
	}
	return name + "@" + host
}

func (a *app) runPromote(ctx context.Context, o promoteOptions, args []string) error {
	if len(args) == 1 {
		o.failover.To = args[0]
	}
	o.failover.Timeout = a.globals.timeout
	reporter, done := a.narrator()
	defer done()
	b, d, op, err := a.openFailover(ctx, reporter)
	if err != nil {
		return err
	}
	defer b.Close()
	plan, err := op.Plan(ctx, d, o.failover)
	if err != nil {
		return err
	}
	if o.dryRun {
		if err := a.print(planDocument(plan.Plan, plan)); err != nil {
			return err
		}
		return plan.Refusal()
	}
	if err := plan.Refusal(); err != nil {
		return err
	}
	if !o.yes {
		if err := a.confirm("hand the primary of %s from %s over to %s", d, plan.From, plan.To); err != nil {
			return err
		}
	}
	result, err := op.Apply(ctx, plan)
	if err != nil {
		return err
	}
	done()
	return a.print(promoteDocument(result))
}

// confirm asks in a terminal; without one consent must have been given by --yes.
func (a *app) confirm(format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	if a.system.ReadLine == nil {
		return &operation.Error{
			Kind: operation.Refused, Phase: "asking for consent",
			Err:       fmt.Errorf("about to %s, and there is no terminal to ask in", what),
			Unchanged: "nothing was changed", Next: "add --yes, or look at the plan with --dry-run",
		}
	}
	answer, err := a.system.ReadLine("About to " + what + ". Go on? [y/N] ")
	if err != nil {
		return operation.Errorf(operation.Failed, "reading the answer: %w", err)
	}
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return &operation.Error{
			Kind: operation.Refused, Phase: "asking for consent", Err: errors.New("not confirmed"), Unchanged: "nothing was changed",
		}
	}
	return nil
}

func (a *app) newFailoverStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		Short:   "Show where the primary is meant to be, is, and where Services point",
		Long:    "Shows the instance that the last failover made the primary, the instance that says it\nis, where the Services send clients, and a failover that was interrupted. Exit code 10\nwhen these disagree.",
		Example: "  redisctl failover status -n redis-prod",
		Args:    noArgs,
		RunE: a.run(func(ctx context.Context, _ []string) error {
			b, d, op, err := a.openFailover(ctx, operation.DiscardReporter{})
			if err != nil {
				return err
			}
			defer b.Close()
			o := failover.DefaultOptions()
			o.Timeout = a.globals.timeout
			status, err := op.Status(ctx, d, o)
			if err != nil {
				return err
			}
			if err := a.print(failoverStatusDocument(status)); err != nil {
				return err
			}
			if !status.Consistent() {
				return outcome(operation.Unhealthy, "the primary of %s is not where it is meant to be", d)
			}
			return nil
		}),
	}
}

func (a *app) newFailoverResumeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "resume",
		Short: "Complete or undo a failover that was interrupted",
		Long: `Looks at what an interrupted failover really did: undoes it when the old primary was not
demoted yet, and completes it otherwise. It refuses when data is at stake.`,
		Example: "  redisctl failover resume -n redis-prod",
		Args:    noArgs,
		RunE: a.run(func(ctx context.Context, _ []string) error {
			reporter, done := a.narrator()
			defer done()
			b, d, op, err := a.openFailover(ctx, reporter)
			if err != nil {
				return err
			}
			defer b.Close()
			o := failover.DefaultOptions()
			o.Timeout = a.globals.timeout
			what, result, err := op.Resume(ctx, d, o)
			if err != nil {
				return err
			}
			done()
			return a.print(resumeDocument(what, result))
		}),
	}
}
