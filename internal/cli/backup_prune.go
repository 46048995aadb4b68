package cli

import (
	"context"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/prune"
	"github.com/redisctl/redisctl/internal/render"
	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/snapshot/retention"
	"github.com/redisctl/redisctl/internal/storage"
)

type backupPruneOptions struct {
	store  storeOptions
	policy retention.Policy
	within string
	kind   string
	dryRun bool
	yes    bool
}

func (a *app) newBackupPruneCommand() *cobra.Command {
	o := backupPruneOptions{}
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove the backups that a retention policy does not keep",
		Long: `Applies a policy to the backups of each release (each folder) and kind, and removes what
no rule keeps. --keep-daily 7 keeps the newest backup of each of the last seven days that
have one; the other rules do the same for hours, ISO weeks, months and years. Calendars
are UTC. --keep-within counts from the newest backup.

Never removed: the newest intact backup, the newest one that backup verify has found to
be sound, what redisctl did not make, what a newer redisctl made, and what bears a time
in the future. Damaged and incomplete backups do not count for the rules; they are
removed with --damaged only, incomplete ones when they are older than a day.

A policy that keeps nothing is refused. Without -n and -r the backups of all releases are
pruned, each release by itself. An interrupted prune leaves nothing that looks like a
backup, and the next one finishes it. Exit code 3 when some could not be removed.
With several --from each store is pruned by itself: 3 when one of them fails.`,
		Example: `  redisctl backup prune -n redis-prod --keep-daily 7 --keep-weekly 4 --keep-monthly 12 --dry-run
  redisctl backup prune -n redis-prod -r cache --keep-last 3 --keep-within 2d --yes
  redisctl backup prune --keep-last 10 --damaged --yes -o json`,
		Args: noArgs,
	}
	o.store.addSource(cmd)
	f := cmd.Flags()
	f.IntVar(&o.policy.Last, "keep-last", 0, "keep the newest N")
	f.IntVar(&o.policy.Hourly, "keep-hourly", 0, "keep one for each of the last N hours that have any")
	f.IntVar(&o.policy.Daily, "keep-daily", 0, "keep one for each of the last N days that have any")
	f.IntVar(&o.policy.Weekly, "keep-weekly", 0, "keep one for each of the last N weeks that have any")
	f.IntVar(&o.policy.Monthly, "keep-monthly", 0, "keep one for each of the last N months that have any")
	f.IntVar(&o.policy.Yearly, "keep-yearly", 0, "keep one for each of the last N years that have any")
	f.StringVar(&o.within, "keep-within", "", "keep all that are at most so much older than the newest (36h, 7d, 1w2d)")
	f.BoolVar(&o.policy.Damaged, "damaged", false, "also remove damaged and incomplete ones")
	f.StringVar(&o.kind, "kind", "", "only backups of this kind, such as rdb")
	f.BoolVar(&o.dryRun, "dry-run", false, "print what would be removed, and why, and do nothing")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	mustComplete(cmd, "kind", cobra.FixedCompletions([]string{
		string(snapshot.KindRDB), string(snapshot.KindAOF), string(snapshot.KindConfig), string(snapshot.KindResources),
		string(snapshot.KindFull),
	}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = runWith(a, &o, a.runBackupPrune)
	return cmd
}

func (a *app) runBackupPrune(ctx context.Context, o backupPruneOptions, _ []string) error {
	filter, err := a.filter(ctx)
	if err != nil {
		return err
	}
	filter.Kind = snapshot.Kind(o.kind)
	if o.within != "" {
		if o.policy.Within, err = parseSpan(o.within); err != nil {
			return operation.Errorf(operation.Usage, "--keep-within: %w", err)
		}
	}
	stores, err := a.openStores(o.store)
	if err != nil {
		return err
	}
	reporter, done := a.narrator()
	defer done()
	options := prune.Options{Filter: filter, Policy: o.policy}
	if len(stores) > 1 {
		return a.pruneSeveral(ctx, o, stores, options, reporter, done)
	}
	op := a.pruner(stores[0], reporter)
	plan, err := op.Plan(ctx, options)
	if err != nil {
		return withNext(err, "redisctl backup prune --help")
	}
	if o.dryRun {
		return a.print(prunePlanDocument(plan, a.system.Now()))
	}
	if !o.yes && plan.Remove > 0 {
		if err := a.confirmName(pruned(plan), "%s", plan.Summary()); err != nil {
			return err
		}
	}
	result, err := op.Apply(ctx, plan)
	done()
	if result != nil {
		if printErr := a.print(pruneDocument(result)); printErr != nil {
			return printErr
		}
	}
	return err
}

func (a *app) pruner(store storage.Store, reporter operation.Reporter) prune.Prune {
	return prune.Prune{Store: store, Reporter: reporter, Now: a.system.Now, Version: ThisBuild().Version}
}

// prunedStores is the JSON form of `backup prune` with several stores.
type prunedStores struct {
	Stores []prunedStore `json:"stores"`
}

// prunedStore is one of them: the plan with --dry-run, else the result.
type prunedStore struct {
	Location string        `json:"location"`
	Error    string        `json:"error,omitempty"`
	Plan     *prune.Plan   `json:"plan,omitempty"`
	Result   *prune.Result `json:"result,omitempty"`

	op  prune.Prune
	err error
}

func (p *prunedStore) failed(err error) {
	if err != nil {
		p.err, p.Error = err, err.Error()
	}
}

// pruneSeveral prunes each store by itself: one that fails costs the others nothing.
func (a *app) pruneSeveral(
	ctx context.Context, o backupPruneOptions, stores []storage.Store, options prune.Options, reporter operation.Reporter, done func(),
) error {
	result := prunedStores{Stores: make([]prunedStore, len(stores))}
	remove, summaries := 0, []string{}
	for i, store := range stores {
		p := &result.Stores[i]
		p.Location, p.op = store.Location(""), a.pruner(store, reporter)
		plan, err := p.op.Plan(ctx, options)
		if err != nil && operation.KindOf(err) == operation.Usage {
			return withNext(err, "redisctl backup prune --help") // the policy is wrong for all
		}
		p.failed(err)
		if p.Plan = plan; plan != nil {
			remove += plan.Remove
			summaries = append(summaries, plan.Summary())
		}
	}
	if !o.dryRun && !o.yes && remove > 0 {
		if err := a.confirmName(&operation.Deployment{Name: "prune"}, "%s", strings.Join(summaries, ", ")); err != nil {
			return err
		}
	}
	for i := range result.Stores {
		p := &result.Stores[i]
		if p.Plan == nil || o.dryRun {
			continue
		}
		var err error
		p.Result, err = p.op.Apply(ctx, p.Plan)
		p.failed(err)
		p.Plan = nil
	}
	done()
	if err := a.print(result.document(a.system.Now())); err != nil {
		return err
	}
	return result.outcome()
}

func (r *prunedStores) outcome() error {
	var failures []error
	for _, p := range r.Stores {
		if p.err != nil {
			failures = append(failures, p.err)
		}
	}
	if len(failures) == 0 {
		return nil
	}
	return outcome(combined(len(r.Stores)-len(failures), failures), "%d of %d stores were not pruned", len(failures), len(r.Stores))
}

func (r *prunedStores) document(now time.Time) render.Document {
	doc := render.Document{Value: r, Names: []string{}}
	var problems []storeProblem
	for _, p := range r.Stores {
		var part render.Document
		switch {
		case p.Plan != nil:
			part = prunePlanDocument(p.Plan, now)
		case p.Result != nil:
			part = pruneDocument(p.Result)
		}
		if p.err != nil {
			problems = append(problems, storeProblem{Location: p.Location, Error: p.Error})
		}
		doc.Names = append(doc.Names, part.Names...)
		if len(part.Blocks) > 0 {
			doc.Blocks = append(doc.Blocks, render.Text{Text: p.Location, Style: render.Strong})
			doc.Blocks = append(doc.Blocks, part.Blocks...)
		}
	}
	if len(problems) > 0 {
		doc.Blocks = append(doc.Blocks, problemBlock(problems))
	}
	return doc
}

// pruned names what is typed as a consent: the release when it is one, else "prune".
func pruned(plan *prune.Plan) *operation.Deployment {
	folders := make(map[string]bool)
	for _, g := range plan.Groups {
		folders[g.Folder] = true
	}
	name := "prune"
	if len(folders) == 1 {
		name = path.Base(plan.Groups[0].Folder)
	}
	return &operation.Deployment{Name: name}
}

// prunePlanDocument shows each group as a table.
func prunePlanDocument(plan *prune.Plan, now time.Time) render.Document {
	doc := render.Document{Value: plan, Names: []string{}}
	for _, g := range plan.Groups {
		t := render.Table{Columns: []render.Column{
			{Title: "ID"}, {Title: "AGE", Right: true}, {Title: "SIZE", Right: true}, {Title: "STATE"},
			{Title: "VERIFIED", Right: true}, {Title: "DECISION"}, {Title: "BECAUSE"},
		}}
		for _, i := range g.Items {
			what := render.Cell{Text: "keep", Style: render.Good}
			if !i.Keep {
				what = render.Cell{Text: "remove", Style: render.Warn}
				doc.Names = append(doc.Names, i.ID)
			}
			verified := "never"
			if i.VerifiedAt != nil {
				verified = age(now.Sub(*i.VerifiedAt)) + " ago"
			}
			t.Rows = append(t.Rows, []render.Cell{
				{Text: i.ID, Style: render.Strong}, render.T(age(now.Sub(i.CreatedAt))), render.T(operation.Bytes(i.Size).String()),
				render.T(string(i.State)), render.T(verified), what, render.T(strings.Join(i.Reasons, ", ")),
			})
		}
		title := g.Folder
		if title == "" {
			title = plan.Location
		}
		doc.Blocks = append(doc.Blocks, render.Text{Text: fmt.Sprintf("%s (%s)", title, g.Kind), Style: render.Strong}, t)
	}
	doc.Blocks = append(doc.Blocks, render.Text{Text: "would " + plan.Summary() + " (dry run, nothing was done)", Style: render.Dim})
	return doc
}

func pruneDocument(r *prune.Result) render.Document {
	doc := render.Document{Value: r, Names: []string{}}
	t := render.Table{Columns: []render.Column{{Title: "REMOVED"}, {Title: "DEPLOYMENT"}}}
	for _, i := range r.Removed {
		t.Rows = append(t.Rows, []render.Cell{{Text: i.ID, Style: render.Strong}, render.T(i.Folder)})
		doc.Names = append(doc.Names, i.ID)
	}
	failed := render.List{}
	for _, i := range r.Failed {
		failed = append(failed, render.Entry{
			Mark: render.Cell{Text: "✗", Style: render.Bad}, Line: []render.Cell{{Text: i.ID, Style: render.Strong}, render.T(i.Folder)},
			Details: []string{i.Error},
		})
	}
	summary := fmt.Sprintf("%d removed (%s), %d kept in %s", len(r.Removed), operation.Bytes(r.Size), r.Kept, r.Location)
	doc.Blocks = []render.Block{t, failed, render.Text{Text: summary}}
	return doc
}
