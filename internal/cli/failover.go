package cli

import (
	"context"
	"os"
	"os/user"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/failover"
	"github.com/redisctl/redisctl/internal/storage"
	"github.com/redisctl/redisctl/internal/storage/folder"
)

func (a *app) newFailoverCommand() *cobra.Command {
	return newGroup("failover", "Hand the primary over without losing a write",
		`Hands the primary's role to a replica: pauses writes, waits until the replica has all of
them, demotes the old primary, promotes the replica, moves the Services and lets every
other instance follow. An acknowledged write is never lost by a planned switch.`,
		a.newPromoteCommand(),
		a.newFailoverForceCommand(),
		a.newFailoverFailbackCommand(),
		a.newFailoverStatusCommand(),
		a.newFailoverResumeCommand(),
		a.newFailoverAbortCommand(),
		a.newFailoverGuardCommand(),
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
	o.addFlags(cmd.Flags())
	cmd.RunE = runWith(a, &o, a.runPromote)
	return cmd
}

func (o *promoteOptions) addFlags(f *pflag.FlagSet) {
	addLimits(f, &o.failover.Limits)
	f.Int64Var(&o.failover.MaxLag, "max-bytes", o.failover.MaxLag, "bytes that the replica may be behind at the start")
	f.BoolVar(&o.failover.AllowLag, "allow-lag", false, "promote a replica that is further behind")
	f.BoolVar(&o.failover.AllowUnreachable, "allow-unreachable", false, "go on although an instance does not answer")
	f.BoolVar(&o.failover.AllowPriorityZero, "allow-priority-zero", false, "promote a replica that is configured never to be promoted")
	f.BoolVar(&o.failover.AllowOlder, "allow-older", false, "promote a replica of an older version")
	f.BoolVar(&o.failover.AllowNoPersistence, "allow-no-persistence", false, "promote a replica that keeps nothing on disk")
	f.BoolVar(&o.dryRun, "dry-run", false, "print the plan and do nothing")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
}

func addLimits(f *pflag.FlagSet, l *failover.Limits) {
	f.DurationVar(&l.Pause, "pause", l.Pause, "how long writes may wait")
	f.DurationVar(&l.Settle, "settle", l.Settle, "how long the instances may take to follow the new primary")
}

// newFailoverFailbackCommand makes the way back to the chart's own primary.
func (a *app) newFailoverFailbackCommand() *cobra.Command {
	o := promoteOptions{failover: failover.DefaultOptions()}
	cmd := &cobra.Command{
		Use:   "failback",
		Short: "Make the first pod the primary again, losing no acknowledged write",
		Long: `Makes the pod with ordinal 0 the primary, as redisctl failover promote would: it is the
one that the chart's init containers make the primary, so that restarts no longer undo
anything. For plain addresses it is the first one. When it is the primary already,
nothing is done.`,
		Example: `  redisctl failover failback -n redis-prod --dry-run
  redisctl failover failback -n redis-prod --yes`,
		Args: noArgs,
	}
	o.addFlags(cmd.Flags())
	cmd.RunE = runWith(a, &o, func(ctx context.Context, o promoteOptions, _ []string) error {
		return a.runSwitch(ctx, o, func(d *operation.Deployment) string { return d.Instances[0].Name })
	})
	return cmd
}

// keepOptions say where and how the copies of what is discarded are kept.
type keepOptions struct {
	store    storeOptions
	encoding encodingOptions
}

func (o *keepOptions) addFlags(cmd *cobra.Command) {
	o.store.addTargets(cmd)
	o.encoding.addFlags(cmd)
}

// openKeeping is openFailover for a command that keeps copies of what it discards.
// Mistakes in where and how are found before anything is asked of the servers.
func (a *app) openKeeping(
	ctx context.Context, reporter operation.Reporter, keep keepOptions, dryRun bool,
) (*backend, *operation.Deployment, failover.Failover, error) {
	encoding, err := a.encoding(keep.encoding, dryRun)
	if err != nil {
		return nil, nil, failover.Failover{}, err
	}
	if _, err := a.openTargets(keep.store); err != nil {
		return nil, nil, failover.Failover{}, err
	}
	b, d, op, err := a.openFailover(ctx, reporter)
	if err != nil {
		return nil, nil, op, err
	}
	kept := a.newCopies(b, reporter)
	kept.backup.Encoding = encoding
	kept.open = func() (storage.Store, error) { return a.openTargets(keep.store) } // one that failed may work for the next copy
	op.Copies = kept
	return b, d, op, nil
}

func (a *app) newCopies(b *backend, reporter operation.Reporter) copies {
	return copies{backup: a.rdbBackup(b, folder.New(""), reporter), stall: defaultStall, timeout: a.globals.timeout}
}

// openFailover resolves the target and wires the operation.
func (a *app) openFailover(ctx context.Context, reporter operation.Reporter) (*backend, *operation.Deployment, failover.Failover, error) {
	b, d, err := a.open(ctx)
	if err != nil {
		return nil, nil, failover.Failover{}, err
	}
	return b, d, a.failover(b, reporter), nil
}

func (a *app) failover(b *backend, reporter operation.Reporter) failover.Failover {
	return failover.Failover{
		Connector: b.Connector, Pauser: b.Pauser, Traffic: b.Traffic, Notes: b.Notes, Locker: b.Locker, Cluster: b.Cluster,
		Resolver: b.Resolver, Reporter: reporter, Now: a.system.Now, By: operator(),
		Copies: a.newCopies(b, reporter),
	}
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
	return a.runSwitch(ctx, o, func(*operation.Deployment) string {
		if len(args) == 0 {
			return ""
		}
		return args[0]
	})
}

// runSwitch hands over to the instance that choose returns; "" chooses the best.
func (a *app) runSwitch(ctx context.Context, o promoteOptions, choose func(*operation.Deployment) string) error {
	o.failover.Timeout = a.globals.timeout
	reporter, done := a.narrator()
	defer done()
	b, d, op, err := a.openFailover(ctx, reporter)
	if err != nil {
		return err
	}
	defer b.Close()
	o.failover.To = choose(d)
	plan, err := op.Plan(ctx, d, o.failover)
	if err != nil {
		return err
	}
	if proceed, err := a.review(ctx, reporter, o.dryRun, plan.Plan, planDocument(plan.Plan, plan)); !proceed {
		return err
	}
	if !o.yes && !plan.Nothing() {
		if err := a.confirm("hand the primary of %s from %s over to %s", d, plan.From, plan.To); err != nil {
			return err
		}
	}
	result, err := op.Apply(ctx, plan)
	if err != nil {
		return err
	}
	if i := d.Instance(result.To); i.Ordinal > 0 {
		reporter.Note("restarts undo this unless redisctl failover guard runs; before the next helm upgrade: redisctl failover failback")
	}
	done()
	return a.print(promoteDocument(result))
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
			status, err := op.Status(ctx, d, a.limits())
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

// limits returns the default limits with the user's time-out.
func (a *app) limits() failover.Limits {
	l := failover.DefaultLimits()
	l.Timeout = a.globals.timeout
	return l
}

func (a *app) newFailoverResumeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "resume",
		Short: "Complete or undo a failover that was interrupted",
		Long: `Looks at what an interrupted failover really did: undoes it when the old primary was not
demoted yet, and completes it otherwise. It refuses when data is at stake, and says what
to do then.`,
		Example: "  redisctl failover resume -n redis-prod",
		Args:    noArgs,
		RunE: a.run(func(ctx context.Context, _ []string) error {
			return a.finishFailover(ctx, func(op failover.Failover, d *operation.Deployment) (failover.Outcome, failover.Result, error) {
				return op.Resume(ctx, d, a.limits())
			})
		}),
	}
}

func (a *app) newFailoverAbortCommand() *cobra.Command {
	o := failover.AbortOptions{Limits: failover.DefaultLimits()}
	cmd := &cobra.Command{
		Use:   "abort",
		Short: "Undo a failover that was interrupted before its target became the primary",
		Long: `Makes the old primary the primary again after a failover that was interrupted. It refuses
when the target is the primary already, or may have taken writes.`,
		Example: "  redisctl failover abort -n redis-prod",
		Args:    noArgs,
	}
	cmd.Flags().BoolVar(&o.AllowUnreachable, "allow-unreachable", false,
		"go on although the target does not answer: what it acknowledged if it was promoted in its last moment is lost")
	cmd.RunE = runWith(a, &o, func(ctx context.Context, o failover.AbortOptions, _ []string) error {
		o.Timeout = a.globals.timeout
		return a.finishFailover(ctx, func(op failover.Failover, d *operation.Deployment) (failover.Outcome, failover.Result, error) {
			result, err := op.Abort(ctx, d, o)
			return failover.OutcomeUndone, result, err
		})
	})
	return cmd
}

// finishFailover runs what deals with an interrupted failover.
func (a *app) finishFailover(
	ctx context.Context, act func(failover.Failover, *operation.Deployment) (failover.Outcome, failover.Result, error),
) error {
	reporter, done := a.narrator()
	defer done()
	b, d, op, err := a.openFailover(ctx, reporter)
	if err != nil {
		return err
	}
	defer b.Close()
	if err := a.permitted(ctx); err != nil {
		return err
	}
	what, result, err := act(op, d)
	if err != nil {
		return err
	}
	done()
	return a.print(resumeDocument(what, result))
}
