package cli

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/inspect"
	"github.com/redisctl/redisctl/internal/operation/maintenance"
	"github.com/redisctl/redisctl/internal/render"
)

type saveOptions struct {
	yes bool
}

// newSaveCommand makes save. Saving changes no data, and two saves wait for each other:
// none of these commands takes the release's lock.
func (a *app) newSaveCommand() *cobra.Command {
	var o saveOptions
	cmd := &cobra.Command{
		Use:   "save",
		Short: "Make a server save while its clients wait",
		Long: `Makes the primary, or --pod, write its RDB file with SAVE. No client is served until it is
written: it asks for consent, or takes --yes. redisctl maintenance bgsave does the same in
the background; SAVE is for a server that has not the memory to fork.

Exit code 0 means that the server answered OK, LASTSAVE has moved, and the last save is
ok. A save that already runs is an error, as is one that fails: the server's own words are
shown.`,
		Example: `  redisctl maintenance save -n redis-prod --pod cache-redis-1 --yes`,
		Args:    noArgs,
	}
	cmd.Flags().BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	cmd.RunE = runWith(a, &o, func(ctx context.Context, o saveOptions, _ []string) error {
		return a.onOne(ctx, func(ctx context.Context, c chosen) error {
			if !o.yes {
				if err := a.confirm("hold up all clients of %s until its data is written", c.i.Name); err != nil {
					return err
				}
			}
			return a.finishWrite(c, func() (maintenance.Written, error) { return c.m.Save(ctx, c.d, c.i) })
		})
	})
	return cmd
}

func (a *app) newBgsaveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "bgsave",
		Short: "Make a server save in the background, and wait for the end",
		Long: `Makes the primary, or --pod, write its RDB file in the background and waits until that is
complete. A save or AOF rewrite that already runs is waited for first: it shows an earlier
moment. It needs memory for the pages that are written to meanwhile, and room on the
volume; on a full disk a primary refuses all writes afterwards.

Exit code 0 means that the server has completed this save: LASTSAVE has moved, and the
status is ok. Ctrl-C ends the waiting; the server goes on saving.`,
		Example: `  redisctl maintenance bgsave -n redis-prod
  redisctl maintenance bgsave --pod cache-redis-1 -o json`,
		Args: noArgs,
		RunE: a.run(func(ctx context.Context, _ []string) error {
			return a.onOne(ctx, func(ctx context.Context, c chosen) error {
				return a.finishWrite(c, func() (maintenance.Written, error) {
					return c.m.Bgsave(ctx, c.d, c.i, func(ctx context.Context) (string, time.Duration, error) {
						saved, err := c.b.Saver.Save(ctx, c.d, c.i, c.reporter)
						return saved.Path, saved.Took, err
					})
				})
			})
		}),
	}
}

func (a *app) newAOFRewriteCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "aof-rewrite",
		Short: "Make a server rewrite its append-only file, and wait for the end",
		Long: `Makes the primary, or --pod, write its append-only file anew, as short as the present data
allows, and waits until that is complete. A save or rewrite that already runs is waited
for first. It is refused where the append-only file is off (exit code 5).

Exit code 0 means that the server has completed this rewrite with status ok. What the old
file knew of deleted data is gone then.`,
		Example: `  redisctl maintenance aof-rewrite -n redis-prod`,
		Args:    noArgs,
		RunE: a.run(func(ctx context.Context, _ []string) error {
			return a.onOne(ctx, func(ctx context.Context, c chosen) error {
				return a.finishWrite(c, func() (maintenance.Written, error) { return c.m.RewriteAOF(ctx, c.d, c.i) })
			})
		}),
	}
}

func (a *app) finishWrite(c chosen, write func() (maintenance.Written, error)) error {
	written, err := write()
	c.done()
	if err != nil {
		return err
	}
	return a.print(writtenDocument(written))
}

func writtenDocument(w maintenance.Written) render.Document {
	fields := render.Fields{
		{Label: "instance", Value: render.Cell{Text: w.Instance, Style: render.Strong}},
		{Label: w.Command, Value: render.Cell{Text: fmt.Sprintf("done in %s", seconds(w.Seconds)), Style: render.Good}},
	}
	if w.Path != "" {
		fields = append(fields, render.Field{Label: "file", Value: render.T(w.Path)})
	}
	if w.Command == "BGREWRITEAOF" {
		fields = append(fields, render.Field{Label: "size", Value: render.T(fmt.Sprintf(
			"%s before, %s now", operation.Bytes(w.Before.AOFBytes), operation.Bytes(w.After.AOFBytes),
		))})
	} else {
		fields = append(fields, render.Field{Label: "last save", Value: render.T(fmt.Sprintf(
			"%s, before: %s", w.After.LastSave.Format(time.RFC3339), w.Before.LastSave.Format(time.RFC3339),
		))})
	}
	return render.Document{Value: w, Names: []string{w.Instance}, Blocks: []render.Block{fields}}
}

func seconds(s float64) string {
	return (time.Duration(s*1000) * time.Millisecond).String()
}

func (a *app) newLastSaveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "lastsave",
		Short: "Show when every instance has saved last, and whether that worked",
		Long: `Shows when each server has completed its last RDB file, also the one that it was started
from, how many changes are not in it, and how the append-only file fares. Exit code 10
when a save, a rewrite or a write of the append-only file has failed, 3 when some instances
do not answer.`,
		Example: `  redisctl maintenance lastsave -n redis-prod
  redisctl maintenance lastsave -o jsonpath='{.instances[0].value.lastSave}'`,
		Args: noArgs,
		RunE: a.run(func(ctx context.Context, _ []string) error {
			return a.inspectAll(ctx, func(ctx context.Context, b *backend, d *operation.Deployment) error {
				answers := a.maintenance(b, operation.DiscardReporter{}).LastSaves(ctx, d)
				if err := a.print(lastSaveDocument(d, answers, a.system.Now())); err != nil {
					return err
				}
				if err := inspect.Failure(answers); err != nil {
					return err
				}
				for _, answer := range answers {
					if v := answer.Value; !v.LastSaveOK || v.AOF && (!v.AOFRewriteOK || !v.AOFWriteOK) {
						return outcome(operation.Unhealthy, "%s could not save", answer.Instance)
					}
				}
				return nil
			})
		}),
	}
}

func lastSaveDocument(d *operation.Deployment, answers []inspect.Answer[maintenance.SavedState], now time.Time) render.Document {
	doc := render.Document{Value: newAnswersResult(d, answers)}
	t := render.Table{Columns: []render.Column{
		{Title: "NAME"}, {Title: "ROLE"}, {Title: "LAST SAVE"}, {Title: "AGE", Right: true}, {Title: "STATUS"}, {Title: "CHANGES SINCE", Right: true}, {Title: "AOF"},
	}}
	var remarks []string
	for _, a := range answers {
		doc.Names = append(doc.Names, a.Instance)
		name := render.Cell{Text: a.Instance, Style: render.Strong}
		if a.Err != nil {
			t.Rows = append(t.Rows, []render.Cell{name, {Text: "no answer", Style: render.Bad}, {}, {}, {}, {}, {}})
			remarks = append(remarks, a.Instance+": "+a.Error)
			continue
		}
		v := a.Value
		at, age := render.T("never"), render.Cell{}
		if !v.LastSave.IsZero() {
			at, age = render.T(v.LastSave.Format(time.RFC3339)), render.T(ttlText(max(0, now.Sub(v.LastSave))))
		}
		t.Rows = append(t.Rows, []render.Cell{
			name, render.T(string(v.Role)), at, age, saveStatus(v), render.T(strconv.FormatInt(v.ChangesSinceSave, 10)), aofStatus(v),
		})
	}
	doc.Blocks = []render.Block{t, notesList(render.Bad, remarks...)}
	return doc
}

func saveStatus(v maintenance.SavedState) render.Cell {
	switch {
	case v.Saving:
		return render.Cell{Text: "saving", Style: render.Warn}
	case !v.LastSaveOK:
		return render.Cell{Text: "failed", Style: render.Bad}
	default:
		return render.Cell{Text: "ok", Style: render.Good}
	}
}

func aofStatus(v maintenance.SavedState) render.Cell {
	switch {
	case !v.AOF:
		return render.Cell{Text: "off", Style: render.Dim}
	case !v.AOFWriteOK:
		return render.Cell{Text: "write failed", Style: render.Bad}
	case !v.AOFRewriteOK:
		return render.Cell{Text: "rewrite failed", Style: render.Bad}
	case v.AOFRewriting:
		return render.Cell{Text: "rewriting", Style: render.Warn}
	default:
		return render.Cell{Text: "ok, " + operation.Bytes(v.AOFBytes).String(), Style: render.Good}
	}
}
