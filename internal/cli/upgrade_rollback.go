package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/upgrade"
	"github.com/redisctl/redisctl/internal/render"
)

// upgradeHistory is the result of `upgrade rollback --list`.
type upgradeHistory struct {
	Namespace string             `json:"namespace"`
	Release   string             `json:"release"`
	Name      string             `json:"name"`
	Revisions []upgrade.Revision `json:"revisions"`
}

type upgradeRollbackOptions struct {
	rollOptions
	list bool
}

func (a *app) newUpgradeRollbackCommand() *cobra.Command {
	o := upgradeRollbackOptions{}
	cmd := &cobra.Command{
		Use:   "rollback [REVISION]",
		Short: "Go back to an earlier Helm revision, with the same care",
		Long: `Makes the chart and values of an earlier revision the next one, and replaces the pods as
redisctl upgrade apply does: one by one, with a hand-over of the primary. Without REVISION
it is the last one that was deployed before the newest. --list shows what there is. A pod
that the newest revision has left stuck does not keep it from going back.

A server cannot read what a newer one has written: where that is so the rollback is
refused. redisctl restore brings the backup back that was taken before the upgrade.`,
		Example: `  redisctl upgrade rollback --list -n redis-prod
  redisctl upgrade rollback -n redis-prod --dry-run
  redisctl upgrade rollback 3 -n redis-prod --yes`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeRevisions,
	}
	o.addFlags(cmd)
	cmd.Flags().BoolVarP(&o.list, "list", "l", false, "show the revisions and do nothing")
	cmd.RunE = runWith(a, &o, a.runUpgradeRollback)
	return cmd
}

func (a *app) runUpgradeRollback(ctx context.Context, o upgradeRollbackOptions, args []string) error {
	wanted := 0
	if len(args) == 1 {
		var err error
		if wanted, err = strconv.Atoi(args[0]); err != nil || wanted < 1 {
			return operation.Errorf(operation.Usage, "%q is no revision: --list shows them", args[0])
		}
	}
	b, d, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	if b.Upgrades == nil {
		return errNoRelease()
	}
	history, err := b.Upgrades.History(ctx, d)
	if err != nil {
		return err
	}
	if o.list {
		return a.print(historyDocument(upgradeHistory{Namespace: d.Namespace, Release: d.Release, Name: d.Name, Revisions: history}))
	}
	to, err := earlier(d, history, wanted)
	if err != nil {
		return err
	}
	o.roll.Operation = "upgrade rollback"
	o.roll.Change = upgrade.Change{Back: to.Number, Description: fmt.Sprintf("Rollback to %d", to.Number)}
	return a.runRoll(ctx, o.rollOptions)
}

func errNoRelease() error {
	return operation.Errorf(operation.Usage, "plain addresses have no Helm release to upgrade")
}

// earlier returns the revision with the given number, or with 0 the last one that was
// deployed before the newest: the deployed one if an attempt after it has failed, or else
// the one before it.
func earlier(d *operation.Deployment, history []upgrade.Revision, wanted int) (upgrade.Revision, error) {
	left := false
	for _, r := range slices.Backward(history) {
		switch {
		case wanted == r.Number, wanted == 0 && left && (r.Status == "superseded" || r.Status == "deployed"):
			return r, nil
		case r.Status == "deployed" || r.Status == "failed":
			left = true
		}
	}
	e := &operation.Error{
		Kind: operation.Usage, Object: d.String(), Phase: "choosing the revision",
		Err: fmt.Errorf("there is no revision %d", wanted), Unchanged: "nothing was changed", Next: "redisctl upgrade rollback --list",
	}
	if wanted == 0 {
		e.Err = fmt.Errorf("revision %d is the only one that was deployed", history[len(history)-1].Number)
	}
	return upgrade.Revision{}, e
}

func historyDocument(h upgradeHistory) render.Document {
	table := render.Table{Columns: []render.Column{
		{Title: "REVISION"}, {Title: "STATUS"}, {Title: "CHART"}, {Title: "IMAGE"}, {Title: "UPDATED"}, {Title: "DESCRIPTION", Wide: true},
	}}
	doc := render.Document{Value: h}
	for _, r := range h.Revisions {
		number := strconv.Itoa(r.Number)
		doc.Names = append(doc.Names, number)
		table.Rows = append(table.Rows, cells(number, r.Status, r.Chart, r.Image, r.Updated.UTC().Format("2006-01-02 15:04:05Z"), r.Description))
	}
	doc.Blocks = []render.Block{table}
	return doc
}
