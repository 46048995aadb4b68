package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/access"
	"github.com/redisctl/redisctl/internal/operation/upgrade/green"
	"github.com/redisctl/redisctl/internal/operation/upgrade/roll"
	"github.com/redisctl/redisctl/internal/render"
)

// upgradeStatus is the result of `upgrade status`.
type upgradeStatus struct {
	Namespace string `json:"namespace"`
	Release   string `json:"release"`
	Name      string `json:"name"`
	// Unfinished is the record of an upgrade that was interrupted; null when there is none.
	Unfinished *roll.Record `json:"unfinished"`
	// Green is what is known of a second release; null when there is none.
	Green *green.Status `json:"green"`
	// Pods say which of them are of the new revision; empty when none is unfinished.
	Pods []upgradedPod `json:"pods"`
}

// upgradedPod is a pod of a release that is being upgraded.
type upgradedPod struct {
	Name    string `json:"name"`
	Image   string `json:"image"`
	Updated bool   `json:"updated"`
	Ready   bool   `json:"ready"`
}

func (a *app) newUpgradeStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show an upgrade that was interrupted",
		Long: `Shows the record of an upgrade that was interrupted, how far it has come, and what goes on
or back; also a second release, and how far it is behind. Exit code 10 when there is one.`,
		Example: "  redisctl upgrade status -n redis-prod",
		Args:    noArgs,
		RunE: a.run(func(ctx context.Context, _ []string) error {
			b, d, op, err := a.openRoll(ctx, operation.DiscardReporter{})
			if err != nil {
				return err
			}
			defer b.Close()
			status := upgradeStatus{Namespace: d.Namespace, Release: d.Release, Name: d.Name, Pods: []upgradedPod{}}
			if status.Unfinished, err = op.Unfinished(ctx, d); err != nil {
				return err
			}
			if status.Unfinished == nil {
				return a.greenStatus(ctx, b, d, status)
			}
			rollout, err := b.Rollouts.Rollout(ctx, d)
			if err != nil {
				return err
			}
			for _, i := range d.Instances {
				pod := upgradedPod{Name: i.Name, Updated: rollout.Pods[i.Name] == rollout.Revision}
				if i.Pod != nil {
					pod.Image, pod.Ready = i.Pod.Image, i.Pod.Ready
				}
				status.Pods = append(status.Pods, pod)
			}
			if err := a.print(upgradeStatusDocument(status)); err != nil {
				return err
			}
			return outcome(operation.Unhealthy, "an upgrade is unfinished")
		}),
	}
}

// openRoll resolves the target and wires the operation, for what needs no backup.
func (a *app) openRoll(ctx context.Context, reporter operation.Reporter) (*backend, *operation.Deployment, roll.Roll, error) {
	if err := a.recoverWorkload(ctx, reporter); err != nil {
		return nil, nil, roll.Roll{}, err
	}
	b, d, err := a.open(ctx)
	if err != nil {
		return nil, nil, roll.Roll{}, err
	}
	op, err := a.roll(b, reporter, nil)
	if err != nil {
		b.Close()
	}
	return b, d, op, err
}

// recoverWorkload makes the workload that was being made anew when redisctl was killed:
// without it there is no release to be found.
func (a *app) recoverWorkload(ctx context.Context, reporter operation.Reporter) error {
	b, err := openBackend(a)
	if err != nil {
		return err
	}
	defer b.Close()
	if b.Rollouts == nil {
		return errNoRelease()
	}
	made, err := b.Rollouts.Recover(ctx, a.globals.target)
	if made {
		reporter.Step("the workload was gone and has been made anew, around its pods")
	}
	if operation.KindOf(err) == operation.Denied {
		return nil // whoever may not read Secrets has made none
	}
	return err
}

type upgradeResumeOptions struct {
	limits roll.Limits
	store  storeOptions
	forget bool
	yes    bool
}

func (a *app) newUpgradeResumeCommand() *cobra.Command {
	o := upgradeResumeOptions{}
	cmd := &cobra.Command{
		Use:   "resume",
		Short: "Go on with an upgrade that was interrupted",
		Long: `Goes on where an upgrade was interrupted: a hand-over that has begun is finished, Helm's
revision is completed, the pods that are left are replaced. When Helm had not made a
revision yet, the upgrade is undone instead, and can be begun anew.

A second release follows again, and a cutover or failback that has begun is completed or
undone.`,
		Example: "  redisctl upgrade resume -n redis-prod",
		Args:    noArgs,
	}
	o.addFlags(cmd)
	o.store.addTargetsAs(cmd, "backup-to")
	cmd.RunE = runWith(a, &o, func(ctx context.Context, o upgradeResumeOptions, _ []string) error {
		return a.onUnfinishedUpgrade(ctx, o, "go on with", roll.Roll.Resume)
	})
	return cmd
}

func (a *app) newUpgradeAbortCommand() *cobra.Command {
	o := upgradeResumeOptions{}
	cmd := &cobra.Command{
		Use:   "abort",
		Short: "Undo an upgrade that was interrupted",
		Long: `Brings the former Helm revision back, and every pod that was replaced. It is refused once
a server of the new version is the primary: go on with redisctl upgrade resume then, and
back with redisctl upgrade rollback. A second release that --strategy blue-green has made is
uninstalled, and its claims are deleted, unless it serves.

--forget leaves everything as it is instead, for an upgrade that somebody else has
overtaken: the workload replaces its pods by itself again, as its template says.`,
		Example: `  redisctl upgrade abort -n redis-prod
  redisctl upgrade abort -n redis-prod --forget`,
		Args: noArgs,
	}
	o.addFlags(cmd)
	cmd.Flags().BoolVar(&o.forget, "forget", false, "undo nothing, only let go")
	cmd.RunE = runWith(a, &o, func(ctx context.Context, o upgradeResumeOptions, _ []string) error {
		if o.forget {
			return a.onUnfinishedUpgrade(ctx, o, "let go of", roll.Roll.Forget)
		}
		return a.onUnfinishedUpgrade(ctx, o, undoes, roll.Roll.Abort)
	})
	return cmd
}

func (o *upgradeResumeOptions) addFlags(cmd *cobra.Command) {
	addRollLimits(cmd.Flags(), &o.limits)
	cmd.Flags().BoolVarP(&o.yes, "yes", "y", false, "do not ask")
}

// onUnfinishedUpgrade finds the record of an unfinished upgrade, asks for consent, and
// does something about it.
func (a *app) onUnfinishedUpgrade(
	ctx context.Context, o upgradeResumeOptions, what string,
	do func(roll.Roll, context.Context, *operation.Deployment, roll.Limits) (roll.Result, error),
) error {
	o.limits.Timeout = a.globals.timeout
	reporter, done := a.narrator()
	defer done()
	b, d, op, err := a.openRoll(ctx, reporter)
	if err != nil {
		return err
	}
	defer b.Close()
	record, err := op.Unfinished(ctx, d)
	if err != nil {
		return err
	}
	if record == nil {
		if found, err := a.onGreen(ctx, o, what, reporter, b, d); found {
			return err
		}
		return &operation.Error{
			Kind: operation.Refused, Object: d.String(), Phase: "reading the record",
			Err: errNoUpgrade, Unchanged: "nothing was changed",
		}
	}
	if err := a.permitted(ctx, access.Begun); err != nil {
		return err
	}
	if !o.yes {
		if err := a.confirm("%s the upgrade of %s to %s, begun by %s", what, d, record.To, record.By); err != nil {
			return err
		}
	}
	result, failed := do(op, ctx, d, o.limits)
	if failed == nil {
		failed = a.validateRoll(ctx, b, d, reporter, result)
	}
	done()
	return a.finishRoll(result, failed)
}

// undoes is what abort asks consent for.
const undoes = "undo"

var errNoUpgrade = errors.New("no upgrade is unfinished")

func upgradeStatusDocument(s upgradeStatus) render.Document {
	doc := render.Document{Value: s, Names: []string{s.Name}}
	if s.Green != nil {
		return greenStatusDocument(s)
	}
	r := s.Unfinished
	if r == nil {
		doc.Blocks = []render.Block{render.Text{Text: "no upgrade is unfinished", Style: render.Good}}
		return doc
	}
	fields := render.Fields{
		{Label: "upgrade", Value: render.T(r.From + " to " + r.To)}, {Label: "begun", Value: render.T(r.Begun.Format(time.RFC3339) + " by " + r.By)},
		{Label: "phase", Value: render.T(string(r.Phase))}, {Label: "revision", Value: render.T(fmt.Sprintf("%d, before %d", r.Revision, r.Former))},
	}
	if r.Backup != "" {
		fields = append(fields, render.Field{Label: "backup", Value: render.T(r.Backup)})
	}
	table := render.Table{Columns: []render.Column{{Title: "POD"}, {Title: "IMAGE"}, {Title: "STATE"}}}
	for _, p := range s.Pods {
		state := "to be replaced"
		if p.Updated {
			state = "replaced"
		}
		if !p.Ready {
			state += ", not Ready"
		}
		table.Rows = append(table.Rows, cells(p.Name, p.Image, state))
	}
	doc.Blocks = []render.Block{
		fields, table,
		render.Text{Text: "redisctl upgrade resume goes on, redisctl upgrade abort goes back"},
	}
	return doc
}

func rollDocument(r roll.Result) render.Document {
	doc := render.Document{Value: r, Names: []string{r.Name}}
	switch {
	case r.Outcome == roll.OutcomeUndone:
		doc.Blocks = append(doc.Blocks, render.Text{Text: "undone: it runs " + r.From + " again", Style: render.Warn})
	case r.Outcome == roll.OutcomeForgotten:
		doc.Blocks = append(doc.Blocks, render.Text{Text: "let go: nothing was undone", Style: render.Warn})
	case r.Revision == r.FormerRevision:
		doc.Blocks = append(doc.Blocks, render.Text{Text: "nothing to do: the release is like that already", Style: render.Good})
		return doc
	}
	fields := render.Fields{
		{Label: "release", Value: render.T(r.Namespace + "/" + r.Release)}, {Label: "image", Value: render.T(r.From + " to " + r.To)},
		{Label: "revision", Value: render.T(fmt.Sprintf("%d, before %d", r.Revision, r.FormerRevision))}, {Label: "strategy", Value: render.T(string(r.Strategy))},
	}
	if r.Backup != "" {
		fields = append(fields, render.Field{Label: "backup", Value: render.T(r.Backup)})
	}
	for _, h := range r.HandOvers {
		fields = append(fields, render.Field{Label: "hand-over", Value: render.T(fmt.Sprintf("%s to %s, no writes for %.0f ms", h.From, h.To, h.WriteGapMS))})
	}
	if r.Primary != "" {
		fields = append(fields, render.Field{Label: "primary", Value: render.T(r.Primary)})
	}
	fields = append(fields, render.Field{Label: "took", Value: render.T(fmt.Sprintf("%.1f s", r.Seconds))})
	table := render.Table{Columns: []render.Column{{Title: "POD"}, {Title: "VERSION"}, {Title: "DOWN"}, {Title: "IN SYNC AFTER"}}}
	for _, p := range r.Pods {
		table.Rows = append(table.Rows, cells(p.Name, p.Version, fmt.Sprintf("%.1f s", p.DownSeconds), fmt.Sprintf("%.1f s", p.SyncSeconds)))
	}
	doc.Blocks = append(doc.Blocks, fields)
	if len(table.Rows) > 0 {
		doc.Blocks = append(doc.Blocks, table)
	}
	return doc
}

func cells(texts ...string) []render.Cell {
	row := make([]render.Cell, len(texts))
	for i, text := range texts {
		row[i] = render.T(text)
	}
	return row
}
