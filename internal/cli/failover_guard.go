package cli

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/failover"
	"github.com/redisctl/redisctl/internal/operation/guard"
)

// guardSettle is how long an image may take to be pulled, and a pod to start.
const guardSettle = 90 * time.Second

func (a *app) newFailoverGuardCommand() *cobra.Command {
	return newGroup("guard", "Keep failovers kept without an operator, from inside the cluster",
		`Runs what redisctl replication heal --watch does as a small Deployment in the namespace of
the release: when a restart puts the chart's own topology back, the guard restores the
intended one within seconds, never discarding data. It promotes a replica of a primary
that is gone only when --promote says so. docs/guard.md compares it with Sentinel.`,
		a.newGuardInstallCommand(),
		a.newGuardRemoveCommand(),
		a.newGuardStatusCommand(),
		a.newGuardRunCommand(),
	)
}

// guardCluster is what internal/kube has of guards.
type guardCluster interface {
	guard.Cluster
	// GuardManifests returns the objects as YAML.
	GuardManifests(ctx context.Context, d *operation.Deployment, s guard.Spec) ([]byte, error)
}

var errNoGuard = &operation.Error{
	Kind: operation.Usage, Err: errors.New("a guard runs in the cluster of a release; plain addresses have none"),
	Next: "redisctl replication heal --watch does the same from here",
}

// openGuard resolves the target and wires the operation.
func (a *app) openGuard(ctx context.Context, reporter operation.Reporter) (*backend, *operation.Deployment, guard.Guard, error) {
	b, d, err := a.open(ctx)
	if err != nil {
		return nil, nil, guard.Guard{}, err
	}
	if b.Guard == nil {
		b.Close()
		return nil, nil, guard.Guard{}, errNoGuard
	}
	return b, d, guard.Guard{Cluster: b.Guard, Notes: b.Notes, Reporter: reporter, Now: a.system.Now}, nil
}

type guardInstallOptions struct {
	image     string
	replicas  int
	watch     guardWatchOptions
	settle    time.Duration
	manifests bool
	dryRun    bool
	yes       bool
}

// guardWatchOptions are the flags that install passes on to run.
type guardWatchOptions struct {
	promote      bool
	promoteAfter time.Duration
	interval     time.Duration
}

func defaultGuardWatch() guardWatchOptions {
	o := failover.DefaultWatchOptions()
	return guardWatchOptions{promoteAfter: o.PromoteAfter, interval: o.Interval}
}

func (o *guardWatchOptions) addFlags(f *pflag.FlagSet) {
	f.BoolVar(&o.promote, "promote", false, "promote a replica when the primary is gone, which may lose writes")
	f.DurationVar(&o.promoteAfter, "promote-after", o.promoteAfter, "how long all evidence must agree that the primary is gone")
	f.DurationVar(&o.interval, "interval", o.interval, "time between two observations")
}

// defaultImage is the image of this very version.
func defaultImage() string {
	// A tag has no plus sign, which the version of an unclean build has.
	return "redisctl/redisctl:" + strings.ReplaceAll(ThisBuild().Version, "+", "-")
}

func (o guardInstallOptions) spec(timeout time.Duration) guard.Spec {
	image := o.image
	if image == "" {
		image = defaultImage()
	}
	return guard.Spec{
		Image: image, Version: ThisBuild().Version, Replicas: o.replicas, Promote: o.watch.promote,
		PromoteAfter: o.watch.promoteAfter, Interval: o.watch.interval, Timeout: timeout,
	}
}

func (a *app) newGuardInstallCommand() *cobra.Command {
	o := guardInstallOptions{replicas: 2, watch: defaultGuardWatch(), settle: guardSettle}
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Install the guard, or bring an installed one up to date",
		Long: `Applies a ServiceAccount, a Role, a RoleBinding and a Deployment named
redisctl-guard-WORKLOAD, and waits until one of its pods acts and has observed the
release. Running it again changes what its flags now say, and nothing else: flags that
are left out go back to their defaults.

The Role allows what docs/guard.md lists: to change the one StatefulSet's annotations and
the release's Services, and to read what it needs. It reads no Secret; the kubelet hands
it the password. It connects to the pods directly, so that a NetworkPolicy must let it.

With --promote it gives a primary up when for --promote-after its pod is not Ready, it does
not answer, and no replica has a link to it. What was not replicated is lost then.`,
		Example: `  redisctl failover guard install -n redis-prod --dry-run
  redisctl failover guard install -n redis-prod --yes
  redisctl failover guard install -n redis-prod --promote --promote-after 1m --manifests > guard.yaml`,
		Args: noArgs,
	}
	f := cmd.Flags()
	f.StringVar(&o.image, "image", "", "image that holds redisctl (default redisctl/redisctl with this version)")
	f.IntVar(&o.replicas, "replicas", o.replicas, "pods, of which one acts")
	o.watch.addFlags(f)
	f.DurationVar(&o.settle, "settle", o.settle, "how long it may take until the guard works")
	f.BoolVar(&o.manifests, "manifests", false, "print the objects as YAML, for others to apply, and do nothing")
	f.BoolVar(&o.dryRun, "dry-run", false, "print the plan and do nothing")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	cmd.RunE = runWith(a, &o, a.runGuardInstall)
	return cmd
}

func (a *app) runGuardInstall(ctx context.Context, o guardInstallOptions, _ []string) error {
	reporter, done := a.narrator()
	defer done()
	b, d, op, err := a.openGuard(ctx, reporter)
	if err != nil {
		return err
	}
	defer b.Close()
	spec := o.spec(a.globals.timeout)
	if o.manifests {
		return a.printManifests(ctx, b, d, spec)
	}
	// The plan tries the changes out (dry runs of the API server), which takes permissions, too.
	if a.scope.names.ConfigMaps, err = b.Access.ConfigMaps(ctx, d); err != nil {
		return err
	}
	if err := a.permitted(ctx); err != nil {
		return err
	}
	plan, err := op.PlanInstall(ctx, d, spec)
	if err != nil {
		return err
	}
	if proceed, err := a.review(ctx, reporter, o.dryRun, plan.Plan, guardPlanDocument(plan)); !proceed {
		return err
	}
	if plan.Changes() && !o.yes {
		if err := a.confirm("install a guard for %s, from %s", d, spec.Image); err != nil {
			return err
		}
	}
	status, err := op.Install(ctx, plan, o.settle)
	if err != nil {
		return err
	}
	done()
	return a.print(guardStatusDocument(status, a.system.Now()))
}

// printManifests writes the objects for a repository that others apply from. They are
// YAML whatever -o says.
func (a *app) printManifests(ctx context.Context, b *backend, d *operation.Deployment, spec guard.Spec) error {
	text, err := b.Guard.GuardManifests(ctx, d, spec)
	if err != nil {
		return err
	}
	if _, err := a.system.Out.Write(text); err != nil {
		return operation.Errorf(operation.Failed, "writing the manifests: %w", err)
	}
	return nil
}

type guardRemoveOptions struct {
	settle time.Duration
	dryRun bool
	yes    bool
}

func (a *app) newGuardRemoveCommand() *cobra.Command {
	o := guardRemoveOptions{settle: guardSettle}
	cmd := &cobra.Command{
		Use:   "remove",
		Short: "Remove the guard and everything that belongs to it",
		Long: `Deletes what install has made and what the guard itself has left, apart from Events, and
waits until it is gone. The release goes on as it is; the intended primary stays noted.`,
		Example: `  redisctl failover guard remove -n redis-prod --dry-run
  redisctl failover guard remove -n redis-prod --yes`,
		Args: noArgs,
	}
	f := cmd.Flags()
	f.DurationVar(&o.settle, "settle", o.settle, "how long its pods may take to end")
	f.BoolVar(&o.dryRun, "dry-run", false, "print the plan and do nothing")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	cmd.RunE = runWith(a, &o, a.runGuardRemove)
	return cmd
}

func (a *app) runGuardRemove(ctx context.Context, o guardRemoveOptions, _ []string) error {
	reporter, done := a.narrator()
	defer done()
	b, d, op, err := a.openGuard(ctx, reporter)
	if err != nil {
		return err
	}
	defer b.Close()
	plan, err := op.PlanRemove(ctx, d)
	if err != nil {
		return err
	}
	if proceed, err := a.review(ctx, reporter, o.dryRun, plan.Plan, guardPlanDocument(plan)); !proceed {
		return err
	}
	if len(plan.Steps) > 0 && !o.yes {
		if err := a.confirm("remove the guard of %s", d); err != nil {
			return err
		}
	}
	removed, err := op.Remove(ctx, plan, o.settle)
	if err != nil {
		return err
	}
	done()
	return a.print(guardRemovedDocument(removed))
}

func (a *app) newGuardStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show whether a guard is installed, works, and what it has seen",
		Long: `Shows the guard's pods, which of them acts and since when, how long ago it last said so,
and the last change that it has observed. Exit code 10 when a guard is installed and
does not work, or needs a decision; 0 when it works, and when there is none.`,
		Example: "  redisctl failover guard status -n redis-prod",
		Args:    noArgs,
		RunE: a.run(func(ctx context.Context, _ []string) error {
			b, d, op, err := a.openGuard(ctx, operation.DiscardReporter{})
			if err != nil {
				return err
			}
			defer b.Close()
			status, err := op.Status(ctx, d)
			if err != nil {
				return err
			}
			if err := a.print(guardStatusDocument(status, a.system.Now())); err != nil {
				return err
			}
			if status.Installed && !status.Working() {
				return outcome(operation.Unhealthy, "the guard of %s does not work, or needs a decision", d)
			}
			return nil
		}),
	}
}
