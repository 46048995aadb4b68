package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/redisctl/redisctl/internal/helm"
	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/access"
	"github.com/redisctl/redisctl/internal/operation/health"
	"github.com/redisctl/redisctl/internal/operation/upgrade"
	"github.com/redisctl/redisctl/internal/operation/upgrade/check"
	"github.com/redisctl/redisctl/internal/operation/upgrade/roll"
	"github.com/redisctl/redisctl/internal/operation/upgrade/validate"
	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/storage"
)

// valueOptions say what of a release changes besides its image.
type valueOptions struct {
	chart     string
	files     []string
	set       []string
	setString []string
	setFile   []string
	reset     bool
}

func (o *valueOptions) addFlags(f *pflag.FlagSet) {
	f.StringVar(&o.chart, "chart", "", "folder or archive of a chart to take instead of the release's own")
	f.StringSliceVarP(&o.files, "values", "f", nil, "YAML file with values, as of helm (repeatable)")
	f.StringArrayVar(&o.set, "set", nil, "value of the chart, as of helm: a.b=c (repeatable)")
	f.StringArrayVar(&o.setString, "set-string", nil, "the same, always a string")
	f.StringArrayVar(&o.setFile, "set-file", nil, "the same, from a file: a.b=path")
	f.BoolVar(&o.reset, "reset-values", false, "begin with the chart's own values, not with those of the release")
}

func (o valueOptions) change() (upgrade.Change, error) {
	values, err := helm.ParseValues(o.files, o.set, o.setString, o.setFile)
	if err != nil {
		return upgrade.Change{}, operation.Errorf(operation.Usage, "%w", err)
	}
	return upgrade.Change{Chart: o.chart, Values: values, ResetValues: o.reset}, nil
}

// rollOptions are shared by the commands that replace the pods of a release.
type rollOptions struct {
	roll     roll.Options
	check    check.Options
	noTrial  bool
	store    storeOptions
	encoding encodingOptions
	dryRun   bool
	yes      bool
}

func (o *rollOptions) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	o.store.addTargetsAs(cmd, "backup-to")
	o.encoding.addFlags(cmd)
	f.BoolVar(&o.roll.Failback, "failback", false, "make the first pod the primary again at the end")
	f.DurationVar(&o.roll.BackupAge, "max-backup-age", time.Hour, "rely on a full backup with a backup verify on record that is no older")
	f.BoolVar(&o.roll.NoBackup, "no-backup", false, "take no backup before")
	f.BoolVar(&o.roll.AllowDowntime, "allow-downtime", false, "restart a server that has no replica")
	addRollLimits(f, &o.roll.Limits)
	o.check = check.DefaultOptions()
	addUpgradeOverrides(f, &o.check.Overrides)
	f.BoolVar(&o.noTrial, "no-trial", false, "do not start a throw-away server of the new image before")
	f.BoolVar(&o.dryRun, "dry-run", false, "print the plan and do nothing")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
}

func addUpgradeOverrides(f *pflag.FlagSet, o *check.Overrides) {
	f.BoolVar(&o.Downgrade, "allow-downgrade", false, "go on although the target may not read the data")
	f.BoolVar(&o.DataLoss, "allow-data-loss", false, "go on although a server without a replica keeps nothing on disk")
	f.BoolVar(&o.Managed, "allow-managed", false, "go on although a controller may undo the change")
	f.BoolVar(&o.Recreate, "recreate-workload", false, "make the workload anew, around its pods, where it cannot be changed")
	f.BoolVar(&o.Trial, "allow-failed-trial", false, "go on although a throw-away server of the new image fails")
	f.BoolVar(&o.Unhealthy, "allow-unhealthy", false, "go on although the release is not healthy")
	f.BoolVar(&o.Pending, "allow-pending", false, "go on although Helm's last revision is not finished")
	f.BoolVar(&o.Memory, "ignore-memory", false, "go on although memory may not suffice for a resynchronisation")
}

func addRollLimits(f *pflag.FlagSet, l *roll.Limits) {
	*l = roll.DefaultLimits()
	addLimits(f, &l.Limits)
	f.DurationVar(&l.Start, "start-timeout", l.Start, "how long a new pod may make no progress")
	f.DurationVar(&l.Pull, "pull-timeout", l.Pull, "how long an image may fail to be pulled")
}

type upgradeApplyOptions struct {
	rollOptions
	target   targetImage
	values   valueOptions
	strategy string
	green    string
}

func (a *app) newUpgradeApplyCommand() *cobra.Command {
	o := upgradeApplyOptions{}
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Upgrade a serving release, losing no acknowledged write",
		Long: `Takes a full backup, lets Helm make the release's next revision, and replaces the pods
one by one: replicas first, each in sync before the next; then the primary hands over to
one of them as in redisctl failover promote, and is replaced as well. helm list tells the
truth afterwards.

A pod that does not come up with the new image, or never in sync, ends it: Helm goes
back, that pod with it, and the primary was not touched (exit code 1). An upgrade that was
interrupted goes on, or back, with redisctl upgrade resume and abort.

What speaks against the upgrade is what redisctl upgrade check finds; each blocker names
the flag that overrides it. A server without replicas restarts in place.

--strategy blue-green changes nothing of the release: it installs a second one beside it,
which follows. redisctl upgrade cutover sends the clients there, and failback returns.
--strategy dump-restore does the same for versions that cannot replicate from the present
one: the data is backed up, restored into the second release and compared, once now and
again at the cutover, while writes wait.`,
		Example: `  redisctl upgrade apply --to 8.0.2 -n redis-prod --dry-run
  redisctl upgrade apply --to 8.0.2 -n redis-prod --yes --failback
  redisctl upgrade apply --image docker.io/valkey/valkey:8.1.1 -n redis-prod
  redisctl upgrade apply --set redis.maxmemory=1gb -n redis-prod
  redisctl upgrade apply --to 8.0.2 --strategy blue-green -n redis-prod`,
		Args: noArgs,
	}
	o.addFlags(cmd)
	f := cmd.Flags()
	o.target.addFlags(f)
	f.StringVar(&o.strategy, "strategy", "auto", "how: auto, rolling, in-place, blue-green or dump-restore")
	mustComplete(cmd, "strategy", cobra.FixedCompletions([]string{"auto", "rolling", "in-place", "blue-green", "dump-restore"}, cobra.ShellCompDirectiveNoFileComp))
	f.StringVar(&o.green, "green", "", "name of the second release (default: the release's with -green)")
	o.values.addFlags(f)
	cmd.RunE = runWith(a, &o, a.runUpgradeApply)
	return cmd
}

func (a *app) runUpgradeApply(ctx context.Context, o upgradeApplyOptions, _ []string) error {
	change, err := o.values.change()
	if err != nil {
		return err
	}
	switch o.strategy {
	case "auto", strategyGreen, strategyCopy:
	case string(roll.Rolling), string(roll.InPlace):
		o.roll.Strategy = roll.Strategy(o.strategy)
	default:
		return operation.Errorf(operation.Usage, "--strategy %s: it is auto, rolling, in-place, blue-green or dump-restore", o.strategy)
	}
	if o.target.to != "" && o.target.image != "" {
		return operation.Errorf(operation.Usage, "choose --to or --image")
	}
	o.roll.Operation, o.roll.Change = "upgrade apply", change
	o.check.To, o.check.Image = o.target.to, o.target.image
	if o.strategy == strategyGreen || o.strategy == strategyCopy {
		return a.runGreen(ctx, o)
	}
	return a.runRoll(ctx, o.rollOptions)
}

// runRoll checks, plans and carries out an upgrade or a rollback.
func (a *app) runRoll(ctx context.Context, o rollOptions) error {
	o.roll.Limits.Timeout = a.globals.timeout
	run, err := a.openBackup(ctx, o.store, o.encoding, o.dryRun || o.roll.NoBackup)
	if err != nil {
		return err
	}
	defer run.Close()
	op, err := a.roll(run.backend, run.reporter, keptBackups{run, a, o.store})
	if err != nil {
		return err
	}
	checker := a.upgradeChecker(run.backend, run.reporter, nil) // the backup is taken
	o.check.Change, o.check.Trial, o.check.Health.Timeout = o.roll.Change, !o.noTrial && !o.dryRun, a.globals.timeout
	report, err := checker.Check(ctx, run.d, o.check)
	if err != nil {
		return err
	}
	o.roll.Change, o.roll.Recreate, o.roll.AllowOlder = report.Change, o.check.Overrides.Recreate, o.check.Overrides.Downgrade
	plan, err := op.Plan(ctx, run.d, o.roll)
	if err != nil {
		return err
	}
	plan.Findings = merged(plan.Findings, report.Findings)
	if proceed, err := a.reviewNext(ctx, run.reporter, o.dryRun, plan.Plan, planDocument(plan.Plan, plan), "redisctl upgrade check"+a.targetFlags(run.d), access.InPods); !proceed {
		return err
	}
	if !o.yes && !plan.Nothing() {
		if err := a.confirm("upgrade %s from %s to %s", run.d, plan.From, plan.To); err != nil {
			return err
		}
	}
	result, failed := op.Apply(ctx, plan)
	if failed == nil && !plan.Nothing() {
		failed = a.validateRoll(ctx, run.backend, run.d, run.reporter, result)
	}
	run.done()
	return a.finishRoll(result, failed)
}

// merged adds what is not there yet.
func merged(findings, more []operation.Finding) []operation.Finding {
	known := make(map[[2]string]bool)
	for _, f := range findings {
		known[[2]string{f.Code, f.Subject}] = true
	}
	for _, f := range more {
		if !known[[2]string{f.Code, f.Subject}] {
			findings = append(findings, f)
		}
	}
	return findings
}

// validateRoll compares an upgraded release with what was recorded before, as
// `upgrade validate --quick` does.
func (a *app) validateRoll(ctx context.Context, b *backend, d *operation.Deployment, reporter operation.Reporter, result roll.Result) error {
	if result.Outcome != roll.OutcomeUpgraded {
		return nil
	}
	reporter.Step("validating")
	now, err := b.Resolver.Resolve(ctx, operation.Target{Namespace: d.Namespace, Release: d.Release})
	if err != nil {
		return err
	}
	o := validate.Options{Health: health.DefaultOptions(), Quick: true}
	o.Health.Timeout = a.globals.timeout
	report, err := validate.Validate{
		Connector: b.Connector, Notes: b.Notes, Logs: b.Logs, Reporter: operation.DiscardReporter{}, Now: a.system.Now,
	}.Run(ctx, now, o)
	if err != nil {
		return err
	}
	tellFindings(reporter, report.Findings)
	for _, f := range report.Findings {
		if f.Severity == operation.Critical {
			return &operation.Error{
				Kind: operation.Unhealthy, Object: d.String(), Phase: "validating the upgrade",
				Err:       fmt.Errorf("%s: %s", f.Subject, f.Message),
				Unchanged: "every pod is of the new revision", Next: "redisctl upgrade validate" + a.targetFlags(d),
			}
		}
	}
	return nil
}

// finishRoll prints what became of an upgrade. failed is its error.
func (a *app) finishRoll(result roll.Result, failed error) error {
	if failed != nil && len(result.Pods) == 0 && result.Outcome != roll.OutcomeUndone {
		return failed
	}
	return errors.Join(a.print(rollDocument(result)), failed)
}

// roll wires the operation.
func (a *app) roll(b *backend, reporter operation.Reporter, backups roll.Backups) (roll.Roll, error) {
	if b.Upgrades == nil {
		return roll.Roll{}, errNoRelease()
	}
	var none storage.Store // nothing is backed up by what stands below
	switcher := a.failover(b, reporter)
	switcher.Locker = operation.Held{}
	switcher.Leave = func(from, _, instance string) bool { return instance == from } // it is replaced next
	return roll.Roll{
		Resolver: b.Resolver, Connector: b.Connector, Locker: b.Locker, Notes: b.Notes, Releases: b.Upgrades, Cluster: b.Rollouts,
		Failover: switcher, Backups: backups, Saver: savings{b, reporter}, Aside: a.volumeRestore(b, none, reporter),
		Reporter: reporter, Now: a.system.Now, By: operator(),
	}, nil
}

// keptBackups implements roll.Backups.
type keptBackups struct {
	run   *backupRun
	app   *app
	store storeOptions
}

// Recent implements roll.Backups.
func (k keptBackups) Recent(ctx context.Context, d *operation.Deployment, age time.Duration) (string, error) {
	stores, err := k.app.openStores(k.store)
	if err != nil {
		return "", err
	}
	for _, store := range stores {
		entries, err := snapshot.List(ctx, store, snapshot.Filter{
			Namespace: d.Namespace, Release: d.Release, Kind: snapshot.KindFull, States: []snapshot.State{snapshot.Intact},
			Since: k.app.system.Now().Add(-age),
		})
		if err != nil {
			return "", operation.Errorf(operation.KindOf(err), "looking for backups: %w", err)
		}
		for _, entry := range entries {
			if entry.Verified != nil {
				return store.Location(entry.ManifestName), nil
			}
		}
	}
	return "", nil
}

// Full implements roll.Backups.
func (k keptBackups) Full(ctx context.Context, d *operation.Deployment) (string, error) {
	o := backupFullOptions{}
	o.backup.Stall, o.backup.Timeout, o.set.Timeout = defaultStall, k.app.globals.timeout, k.app.globals.timeout
	run, held := *k.run, *k.run.backend
	held.Locker = operation.Held{}
	run.backend = &held
	m, err := o.one(ctx, &run)
	if err != nil {
		return "", err
	}
	return m.stored[0].File, nil
}

// savings implements roll.Saver.
type savings struct {
	backend  *backend
	reporter operation.Reporter
}

// Save implements roll.Saver.
func (s savings) Save(ctx context.Context, d *operation.Deployment, i operation.Instance) (time.Duration, error) {
	saved, err := s.backend.Saver.Save(ctx, d, i, s.reporter)
	return saved.Took, err
}
