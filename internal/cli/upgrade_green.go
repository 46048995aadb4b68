package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/access"
	"github.com/redisctl/redisctl/internal/operation/failover"
	"github.com/redisctl/redisctl/internal/operation/upgrade/green"
	"github.com/redisctl/redisctl/internal/operation/upgrade/roll"
	"github.com/redisctl/redisctl/internal/render"
)

// The values of upgrade apply's --strategy for a second release: one that replicates, and
// one that the data is copied to.
const (
	strategyGreen = "blue-green"
	strategyCopy  = "dump-restore"
)

// runGreen makes a second release.
func (a *app) runGreen(ctx context.Context, o upgradeApplyOptions) error {
	o.roll.Limits.Timeout = a.globals.timeout
	reporter, done := a.narrator()
	defer done()
	b, d, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	op, err := a.green(b, reporter, o.store)
	if err != nil {
		return err
	}
	o.check.Change, o.check.Trial, o.check.Health.Timeout = o.roll.Change, !o.noTrial && !o.dryRun, a.globals.timeout
	report, err := a.upgradeChecker(b, reporter, nil).Check(ctx, d, o.check)
	if err != nil {
		return err
	}
	plan, err := op.Plan(ctx, d, green.Options{
		Name: o.green, Change: report.Change, Copy: o.strategy == strategyCopy,
		MaxLag: failover.DefaultOptions().MaxLag, Limits: greenLimits(o.roll.Limits),
	})
	if err != nil {
		return err
	}
	plan.Findings = merged(plan.Findings, besides(report.Findings, o.strategy == strategyCopy))
	if proceed, err := a.reviewNext(ctx, reporter, o.dryRun, plan.Plan, planDocument(plan.Plan, plan), "redisctl upgrade check"+a.targetFlags(d), access.Beside); !proceed {
		return err
	}
	if !o.yes {
		if err := a.confirm("install %s with %s beside %s", plan.Green, plan.To, d); err != nil {
			return err
		}
	}
	result, err := op.Apply(ctx, plan)
	if err != nil {
		return err
	}
	done()
	return a.print(greenDocument(result))
}

func greenLimits(l roll.Limits) green.Limits {
	return green.Limits{Limits: l.Limits, Start: l.Start, Pull: l.Pull}
}

// besides leaves out what concerns only an upgrade of the release's own pods; with copied
// also what concerns servers that read each other's RDB.
func besides(findings []operation.Finding, copied bool) []operation.Finding {
	var kept []operation.Finding
	for _, f := range findings {
		switch f.Code {
		case "workload-immutable", "data-loss", "no-persistence", "no-replica", "no-backup", "unfinished-upgrade":
			continue
		case "data-unreadable", "way-back-needs-backup":
			if copied {
				continue
			}
		}
		kept = append(kept, f)
	}
	return kept
}

// green wires the operation. Copies of the data go through the store.
func (a *app) green(b *backend, reporter operation.Reporter, through storeOptions) (green.Green, error) {
	if b.Greens == nil {
		return green.Green{}, errNoRelease()
	}
	return green.Green{
		Resolver: b.Resolver, Connector: b.Connector, Locker: b.Locker, Notes: b.Notes, Releases: b.Greens, Cluster: b.Routes,
		Failover: a.failover(b, reporter), Copier: dataCopier{a, b, through, reporter}, Reporter: reporter, Now: a.system.Now, By: operator(),
	}, nil
}

type upgradeSwitchOptions struct {
	green  green.SwitchOptions
	store  storeOptions
	dryRun bool
	yes    bool
}

func (a *app) newUpgradeCutoverCommand() *cobra.Command {
	return a.newUpgradeSwitchCommand(false, &cobra.Command{
		Use:   "cutover",
		Short: "Send the clients to the second release, losing no acknowledged write",
		Long: `Switches to the release that redisctl upgrade apply --strategy blue-green has made: pauses
writes, waits until the second release has all of them, lets the first one's primary follow
the second one's, and moves the Services of the first release there. Writes wait for
milliseconds, as with redisctl failover promote.

The first release follows from then on, so that redisctl upgrade failback can return to it.`,
		Example: `  redisctl upgrade cutover -n redis-prod --dry-run
  redisctl upgrade cutover -n redis-prod --yes`,
	})
}

func (a *app) newUpgradeFailbackCommand() *cobra.Command {
	return a.newUpgradeSwitchCommand(true, &cobra.Command{
		Use:   "failback",
		Short: "Send the clients back to the first release, losing no acknowledged write",
		Long: `Undoes redisctl upgrade cutover with the same care. It is refused (exit code 5) when the
first release does not have everything: an older server may not be able to load what a newer
one sends it. The message says how much would be lost.`,
		Example: `  redisctl upgrade failback -n redis-prod --dry-run
  redisctl upgrade failback -n redis-prod --yes`,
	})
}

func (a *app) newUpgradeSwitchCommand(back bool, cmd *cobra.Command) *cobra.Command {
	o := upgradeSwitchOptions{green: green.SwitchOptions{Options: failover.DefaultOptions(), Back: back}}
	cmd.Args = noArgs
	f := cmd.Flags()
	addLimits(f, &o.green.Limits)
	o.store.addTargetsAs(cmd, "backup-to")
	f.DurationVar(&o.green.CopyPause, "copy-pause", 0, "dump-restore: how long writes may wait (default three times what the last copy took)")
	f.Int64Var(&o.green.MaxLag, "max-bytes", o.green.MaxLag, "bytes that the other release may be behind at the start")
	f.BoolVar(&o.green.AllowLag, "allow-lag", false, "switch although it is further behind")
	f.BoolVar(&o.green.AllowUnreachable, "allow-unreachable", false, "go on although an instance does not answer")
	f.BoolVar(&o.green.AllowPriorityZero, "allow-priority-zero", false, "promote a server that is configured never to be promoted")
	f.BoolVar(&o.green.AllowNoPersistence, "allow-no-persistence", false, "promote a server that keeps nothing on disk")
	f.BoolVar(&o.dryRun, "dry-run", false, "print the plan and do nothing")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	cmd.RunE = runWith(a, &o, a.runUpgradeSwitch)
	return cmd
}

func (a *app) runUpgradeSwitch(ctx context.Context, o upgradeSwitchOptions, _ []string) error {
	o.green.Timeout = a.globals.timeout
	reporter, done := a.narrator()
	defer done()
	b, d, op, err := a.openGreen(ctx, reporter, o.store)
	if err != nil {
		return err
	}
	defer b.Close()
	plan, err := op.PlanSwitch(ctx, d, o.green)
	if err != nil {
		return err
	}
	if proceed, err := a.review(ctx, reporter, o.dryRun, plan.Plan, planDocument(plan.Plan, plan)); !proceed {
		return err
	}
	if !o.yes {
		if err := a.confirm("hand the primary of %s from %s over to %s", d, plan.From, plan.To); err != nil {
			return err
		}
	}
	result, err := op.Switch(ctx, d, o.green)
	if err != nil {
		return err
	}
	if !o.green.Back {
		reporter.Note("the Services still belong to the Helm release %s: do not uninstall it, nor upgrade it, before redisctl upgrade failback or finish", d.Release)
	}
	done()
	return a.print(promoteDocument(result))
}

// openGreen resolves the first release, also when the second one is named, and wires the
// operation.
func (a *app) openGreen(
	ctx context.Context, reporter operation.Reporter, through storeOptions,
) (*backend, *operation.Deployment, green.Green, error) {
	b, d, err := a.open(ctx)
	if err != nil {
		return nil, nil, green.Green{}, err
	}
	op, err := a.green(b, reporter, through)
	if err == nil && d.Workload.Annotations[operation.NoteBlue] != "" {
		d, err = b.Resolver.Resolve(ctx, operation.Target{Namespace: d.Namespace, Release: d.Workload.Annotations[operation.NoteBlue]})
	}
	if err != nil {
		b.Close()
	}
	return b, d, op, err
}

type upgradeFinishOptions struct {
	dryRun bool
	yes    bool
}

func (a *app) newUpgradeFinishCommand() *cobra.Command {
	o := upgradeFinishOptions{}
	cmd := &cobra.Command{
		Use:   "finish",
		Short: "Stay with the second release for good",
		Long: `Ends an upgrade by a second release after redisctl upgrade cutover: there is no way back any
more. The Services that clients use still belong to the first Helm release, and helm
uninstall of it would delete them. The output names them, and the two ways on.`,
		Example: "  redisctl upgrade finish -n redis-prod",
		Args:    noArgs,
	}
	f := cmd.Flags()
	f.BoolVar(&o.dryRun, "dry-run", false, "print the plan and do nothing")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	cmd.RunE = runWith(a, &o, a.runUpgradeFinish)
	return cmd
}

func (a *app) runUpgradeFinish(ctx context.Context, o upgradeFinishOptions, _ []string) error {
	reporter, done := a.narrator()
	defer done()
	b, d, op, err := a.openGreen(ctx, reporter, storeOptions{})
	if err != nil {
		return err
	}
	defer b.Close()
	plan, err := op.PlanFinish(ctx, d)
	if err != nil {
		return err
	}
	if proceed, err := a.review(ctx, reporter, o.dryRun, plan, planDocument(plan, plan)); !proceed {
		return err
	}
	if !o.yes {
		if err := a.confirm("give up the way back to %s", d); err != nil {
			return err
		}
	}
	result, err := op.Finish(ctx, d)
	if err != nil {
		return err
	}
	done()
	return a.print(greenDocument(result))
}

// onGreen does something about a second release that is recorded at d, and reports whether
// there is one.
func (a *app) onGreen(
	ctx context.Context, o upgradeResumeOptions, what string, reporter operation.Reporter, b *backend, d *operation.Deployment,
) (done bool, err error) {
	op, err := a.green(b, reporter, o.store)
	if err != nil {
		return true, err
	}
	if blue := d.Workload.Annotations[operation.NoteBlue]; blue != "" {
		if d, err = b.Resolver.Resolve(ctx, operation.Target{Namespace: d.Namespace, Release: blue}); err != nil {
			return true, err
		}
	}
	record, err := op.Record(ctx, d)
	if err != nil || record == nil {
		return err != nil, err
	}
	if o.forget {
		return true, operation.Errorf(operation.Usage, "--forget is for upgrades of a release's own pods; redisctl upgrade abort removes %s", record.Green)
	}
	if err := a.permitted(ctx, access.Second); err != nil {
		return true, err
	}
	if !o.yes {
		question := "go on with the second release %[1]s of %[2]s"
		if what == undoes {
			question = "remove the release %[1]s, its claims and their data; %[2]s is not changed"
		}
		if err := a.confirm(question, record.Green, d); err != nil {
			return true, err
		}
	}
	var result green.Result
	if what == undoes {
		result, err = op.Abort(ctx, d)
	} else {
		result, err = op.Resume(ctx, d, green.Options{MaxLag: failover.DefaultOptions().MaxLag, Limits: greenLimits(o.limits)})
	}
	if err != nil {
		return true, err
	}
	return true, a.print(greenDocument(result))
}

func greenDocument(r green.Result) render.Document {
	doc := render.Document{Value: r, Names: []string{r.Green}}
	ready := r.Green + " follows " + r.Primary
	if r.Copied != nil {
		ready = fmt.Sprintf("%s has the %d keys of %s, all compared; what is written from now on is copied at the cutover", r.Green, r.Copied.Keys, r.Primary)
	}
	text := map[green.Outcome]string{
		green.OutcomeReady:    ready + ": redisctl upgrade cutover sends the clients there, redisctl upgrade abort removes it",
		green.OutcomeServing:  r.Green + " serves",
		green.OutcomeRemoved:  r.Green + " was removed; " + r.Release + " serves",
		green.OutcomeFinished: r.Green + " stays for good",
	}[r.Outcome]
	fields := render.Fields{
		{Label: "release", Value: render.T(r.Namespace + "/" + r.Release)}, {Label: "second release", Value: render.T(r.Green)},
		{Label: "image", Value: render.T(r.From + " to " + r.To)},
	}
	if r.Copied != nil {
		fields = append(fields, render.Field{Label: "copied in", Value: render.T(fmt.Sprintf("%.1f s, by the backup %s", r.Copied.Seconds, r.Copied.Backup))})
	}
	if len(r.Services) > 0 {
		fields = append(fields, render.Field{Label: "services", Value: render.T(strings.Join(r.Services, ", "))})
	}
	if len(r.Claims) > 0 {
		fields = append(fields, render.Field{Label: "deleted claims", Value: render.T(strings.Join(r.Claims, ", "))})
	}
	fields = append(fields, render.Field{Label: "took", Value: render.T(fmt.Sprintf("%.1f s", r.Seconds))})
	doc.Blocks = []render.Block{render.Text{Text: text, Style: render.Good}, fields}
	if r.Outcome == green.OutcomeFinished {
		doc.Blocks = append(doc.Blocks, render.Text{Style: render.Warn, Text: fmt.Sprintf(
			"The Services %s belong to the Helm release %s: helm uninstall deletes them. Let the clients use\n"+
				"those of %s first; or keep %s installed with no pods: kubectl scale statefulset --replicas=0",
			strings.Join(r.Services, ", "), r.Release, r.Green, r.Release)})
	}
	return doc
}
