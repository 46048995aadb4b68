package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore/volume"
	"github.com/redisctl/redisctl/internal/render"
)

type restoreCleanupOptions struct {
	olderThan string
	dryRun    bool
	yes       bool
}

func (a *app) newRestoreCleanupCommand() *cobra.Command {
	o := restoreCleanupOptions{}
	cmd := &cobra.Command{
		Use:   "cleanup",
		Short: "Remove the former files that restores have left on the volume",
		Long: `A restore through the volume leaves the files that it replaced in redisctl-before-<time>
beside the new ones. This removes them, and nothing else.`,
		Example: `  redisctl restore cleanup -n redis-prod --dry-run
  redisctl restore cleanup -n redis-prod --older-than 7d --yes`,
		Args: noArgs,
	}
	f := cmd.Flags()
	f.StringVar(&o.olderThan, "older-than", "0s", "only those of restores that began so long ago (36h, 7d, 1w2d)")
	f.BoolVar(&o.dryRun, "dry-run", false, "print what would be removed and do nothing")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	cmd.RunE = runWith(a, &o, a.runRestoreCleanup)
	return cmd
}

func (a *app) runRestoreCleanup(ctx context.Context, o restoreCleanupOptions, _ []string) error {
	age, err := parseSpan(o.olderThan)
	if err != nil {
		return operation.Errorf(operation.Usage, "--older-than: %w", err)
	}
	b, d, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	reporter, done := a.narrator()
	defer done()
	op := a.volumeRestore(b, nil, reporter)
	plan, err := op.PlanCleanup(ctx, d, a.system.Now().Add(-age))
	if err != nil {
		return err
	}
	if proceed, err := a.review(ctx, reporter, o.dryRun, plan.Plan, cleanupDocument(plan)); !proceed {
		return err
	}
	if !o.yes && len(plan.Remove) > 0 {
		if err := a.confirm("remove the former files of %d restores from the volume %s", len(plan.Remove), plan.Claim); err != nil {
			return err
		}
	}
	if err := op.Cleanup(ctx, plan); err != nil {
		return err
	}
	done()
	return a.print(cleanupDocument(plan))
}

func cleanupDocument(p *volume.CleanupPlan) render.Document {
	d := render.Document{Value: p}
	if len(p.Remove)+len(p.Keep) == 0 {
		d.Blocks = []render.Block{render.Text{Text: "no former files are on the volume", Style: render.Good}}
		return d
	}
	table := render.Table{Columns: []render.Column{{Title: "FILES"}, {Title: "SIZE", Right: true}, {Title: "WHAT"}}}
	add := func(kept []volume.Kept, what string) {
		for _, k := range kept {
			d.Names = append(d.Names, k.Name)
			table.Rows = append(table.Rows, []render.Cell{render.T(k.Name), render.T(operation.Bytes(k.Size).String()), render.T(what)})
		}
	}
	add(p.Remove, "remove")
	add(p.Keep, "keep")
	d.Blocks = []render.Block{table}
	return d
}
