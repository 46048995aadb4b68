package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/inspect"
	"github.com/redisctl/redisctl/internal/redis"
	"github.com/redisctl/redisctl/internal/render"
)

func (a *app) newInfoCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "info [SECTION...]",
		Short: "Show INFO of every instance, side by side",
		Long: `Asks every instance for INFO and shows the answers side by side; values that differ
between instances stand out. With -o json, numbers are numbers and composite values
(db0:keys=1,expires=0) are objects. Exit code 3 when some instances do not answer.

The sections stats, memory and clients are commands of their own, which say more; with
further sections behind them (info memory stats) they show just the sections.`,
		Example: `  redisctl info server -n redis-prod
  redisctl info server replication --pod cache-redis-0
  redisctl info -o jsonpath='{.instances[0].value.server.redis_version}'`,
		// For completion only: the server decides what it accepts.
		ValidArgs: infoSections(),
		RunE:      a.run(a.runInfo),
	}
	cmd.AddCommand(
		a.newInfoStatsCommand(), a.newInfoMemoryCommand(), a.newInfoClientsCommand(), a.newInfoConfigCommand(), a.newInfoMetricsCommand(),
	)
	return cmd
}

func infoSections() []string {
	return []string{
		"server", "clients", "memory", "persistence", "stats", "replication", "cpu",
		"modules", "commandstats", "errorstats", "latencystats", "cluster", "keyspace", "all", "everything",
	}
}

// runInfo shows sections.
func (a *app) runInfo(ctx context.Context, sections []string) error {
	return a.inspectAll(ctx, func(ctx context.Context, b *backend, d *operation.Deployment) error {
		answers := inspect.Info(ctx, b.Connector, d, a.globals.timeout, sections...)
		if err := a.print(infoDocument(d, answers)); err != nil {
			return err
		}
		return inspect.Failure(answers)
	})
}

// infoDocument puts the instances' fields side by side, a table for each section.
func infoDocument(d *operation.Deployment, answers []inspect.Answer[redis.Info]) render.Document {
	doc := render.Document{Value: newAnswersResult(d, answers)}
	var sections []redis.Section // the union, in the order of first appearance
	for _, a := range answers {
		doc.Names = append(doc.Names, a.Instance)
		if a.Err != nil {
			doc.Blocks = append(doc.Blocks, noAnswer(a.Instance, a.Error))
		}
		sections = mergeSections(sections, a.Value.Sections())
	}
	for _, s := range sections {
		t := render.Table{Columns: []render.Column{{Title: strings.ToUpper(s.Name)}}}
		for _, a := range answers {
			if a.Err == nil {
				t.Columns = append(t.Columns, render.Column{Title: a.Instance})
			}
		}
		for _, f := range s.Fields {
			row := []render.Cell{render.T(f.Name)}
			differs := false
			for _, a := range answers {
				if a.Err != nil {
					continue
				}
				value := a.Value.Get(f.Name)
				row = append(row, render.T(value))
				differs = differs || value != row[1].Text
			}
			if differs {
				for i := 1; i < len(row); i++ {
					row[i].Style = render.Strong
				}
			}
			t.Rows = append(t.Rows, row)
		}
		doc.Blocks = append(doc.Blocks, t)
	}
	return doc
}

// noAnswer says why an instance is missing from what follows.
func noAnswer(instance, why string) render.Block {
	return render.Text{Text: instance + ": " + why, Style: render.Bad}
}

// mergeSections adds what other has and union lacks: sections, and fields of a
// section.
func mergeSections(union, other []redis.Section) []redis.Section {
	for _, section := range other {
		at := -1
		for i := range union {
			if union[i].Name == section.Name {
				at = i
			}
		}
		if at < 0 {
			union = append(union, redis.Section{Name: section.Name})
			at = len(union) - 1
		}
		known := make(map[string]bool)
		for _, f := range union[at].Fields {
			known[f.Name] = true
		}
		for _, f := range section.Fields {
			if !known[f.Name] {
				union[at].Fields = append(union[at].Fields, f)
			}
		}
	}
	return union
}
