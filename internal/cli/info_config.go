package cli

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/backup"
	"github.com/redisctl/redisctl/internal/operation/inspect"
	"github.com/redisctl/redisctl/internal/operation/settings"
	"github.com/redisctl/redisctl/internal/render"
)

type infoConfigOptions struct{ diff bool }

func (a *app) newInfoConfigCommand() *cobra.Command {
	var o infoConfigOptions
	cmd := &cobra.Command{
		Use:   "config [PATTERN]",
		Short: "Show what every instance is configured with, and what differs",
		Long: `Shows CONFIG GET of every instance side by side; settings that differ between instances
stand out. PATTERN is that of CONFIG GET: max* or *buffer*. Secrets are never shown.

With --diff: the settings that do not run as they are written. The file that the pod was
started with is compared with what runs (CONFIG SET, REPLICAOF: a restart undoes it) and
with the chart's redis.conf (a restart brings it). 256mb and 268435456 are the same. What
no file mentions cannot be judged, because servers do not tell their defaults.

Exit code 3 when some instances do not answer, 9 when CONFIG is disabled.`,
		Example: `  redisctl info config 'maxmemory*' -n redis-prod
  redisctl info config --diff -n redis-prod
  redisctl info config -o jsonpath='{.differing}'`,
		Args:              optionalArg,
		ValidArgsFunction: a.completeSettings,
		RunE: runWith(a, &o, func(ctx context.Context, o infoConfigOptions, args []string) error {
			pattern := "*"
			if len(args) > 0 {
				pattern = strings.ToLower(args[0])
			}
			return a.inspectAll(ctx, func(ctx context.Context, b *backend, d *operation.Deployment) error {
				if o.diff {
					return a.runConfigDiff(ctx, b, d, pattern)
				}
				report := settings.Read(ctx, b.Connector, d, pattern, a.globals.timeout)
				if err := a.print(settingsDocument(report)); err != nil {
					return err
				}
				return inspect.Failure(report.Instances)
			})
		}),
	}
	cmd.Flags().BoolVar(&o.diff, "diff", false, "what differs between the chart, the pod's own file and what runs")
	return cmd
}

// optionalArg allows one argument at most.
func optionalArg(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return operation.Errorf(operation.Usage, "%s takes one argument at most, got %d", cmd.CommandPath(), len(args))
	}
	return nil
}

// completeSettings completes the name of a setting of the servers.
func (a *app) completeSettings(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.complete(func(ctx context.Context, b *backend) ([]string, error) {
		d, err := a.resolve(ctx, b)
		if err != nil {
			return nil, err
		}
		report := settings.Read(ctx, b.Connector, d, "*", completionTimeout)
		names := make(map[string]bool)
		for _, i := range report.Instances {
			for name := range i.Value {
				names[name] = true
			}
		}
		return slices.Sorted(maps.Keys(names)), nil
	})(cmd, args, toComplete)
}

func settingsDocument(r settings.Report) render.Document {
	doc := render.Document{Value: r}
	t := render.Table{Columns: []render.Column{{Title: "SETTING"}}, Empty: "No such setting."}
	union := make(map[string]bool)
	for _, i := range r.Instances {
		if i.Err != nil {
			doc.Blocks = append(doc.Blocks, noAnswer(i.Instance, i.Error))
			continue
		}
		t.Columns = append(t.Columns, render.Column{Title: i.Instance})
		for name := range i.Value {
			union[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(union)) {
		doc.Names = append(doc.Names, name)
		differs := slices.Contains(r.Differing, name)
		row := []render.Cell{{Text: name}}
		for _, i := range r.Instances {
			if i.Err != nil {
				continue
			}
			row = append(row, render.T(i.Value[name]))
		}
		if differs {
			row[0].Text = "≠ " + name
			for c := range row {
				row[c].Style = render.Warn
			}
		}
		t.Rows = append(t.Rows, row)
	}
	if len(t.Columns) > 1 {
		doc.Blocks = append(doc.Blocks, t)
	}
	return doc
}

func (a *app) runConfigDiff(ctx context.Context, b *backend, d *operation.Deployment, pattern string) error {
	report, err := settings.Compare(ctx, b.Connector, ownFiles{b.Files, a.globals.timeout}, d, pattern, a.globals.timeout)
	if err != nil {
		return err
	}
	if err := a.print(driftDocument(report)); err != nil {
		return err
	}
	return inspect.Failure(report.Instances)
}

// ownFiles implements settings.Files.
type ownFiles struct {
	files backup.Files
	stall time.Duration
}

// ReadText implements settings.Files.
func (f ownFiles) ReadText(ctx context.Context, d *operation.Deployment, i operation.Instance, path string, limit int64) (string, error) {
	file, err := f.files.ReadFile(ctx, d, i, path, backup.ReadOptions{Limit: limit, Stall: f.stall})
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }() // what was read is here
	text, err := io.ReadAll(file)
	return string(text), err
}

func driftDocument(r settings.DriftReport) render.Document {
	doc := render.Document{Value: r}
	t := render.Table{Columns: []render.Column{
		{Title: "INSTANCE"}, {Title: "SETTING"}, {Title: "CHART"}, {Title: "FILE"}, {Title: "RUNNING"}, {Title: "WHY"},
	}, Empty: "Everything runs as it is written."}
	given := func(v *string) render.Cell {
		if v == nil {
			return render.Cell{Text: "(not given)", Style: render.Dim}
		}
		return render.T(fmt.Sprintf("%q", *v))
	}
	why := map[string]string{
		settings.CauseSet:     "set since the start; a restart undoes it",
		settings.CauseRestart: "the chart has changed; a restart brings it",
		settings.CauseBoth:    "set since the start, and the chart has changed",
	}
	answered := false
	for _, i := range r.Instances {
		if i.Err != nil {
			doc.Blocks = append(doc.Blocks, noAnswer(i.Instance, i.Error))
			continue
		}
		answered = true
		if i.Value.Problem != "" {
			doc.Blocks = append(doc.Blocks, render.Text{
				Text: i.Instance + " is compared with the chart only: " + i.Value.Problem, Style: render.Warn,
			})
		}
		for _, drift := range i.Value.Drifts {
			doc.Names = append(doc.Names, i.Instance+" "+drift.Setting)
			t.Rows = append(t.Rows, []render.Cell{
				render.T(i.Instance), {Text: drift.Setting, Style: render.Strong}, given(drift.Chart), given(drift.File),
				render.T(fmt.Sprintf("%q", drift.Running)), {Text: why[drift.Cause], Style: render.Warn},
			})
		}
	}
	if answered {
		doc.Blocks = append(doc.Blocks, t)
	}
	return doc
}
