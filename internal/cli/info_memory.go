package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/inspect"
	"github.com/redisctl/redisctl/internal/redis"
	"github.com/redisctl/redisctl/internal/render"
)

// memoryResult is what `info memory` prints: the section, and what is worth saying of it.
type memoryResult struct {
	answersResult[redis.Info]
	Findings []operation.Finding `json:"findings"`
}

func (a *app) newInfoMemoryCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "memory [SECTION...]",
		Short: "Show the memory of every instance, and what is worth knowing of it",
		Long: `Shows how full each instance is, INFO's section memory side by side, and what stands
out: a limit that is missing or nearly reached, fragmentation, memory that is swapped
out. What is found does not change the exit code; health judges. Exit code 3 when some
instances do not answer.`,
		Example: `  redisctl info memory -n redis-prod
  redisctl info memory -o jsonpath='{.instances[*].value.memory.used_memory}'`,
		ValidArgs: infoSections(),
		RunE: a.run(func(ctx context.Context, more []string) error {
			if len(more) > 0 {
				return a.runInfo(ctx, append([]string{"memory"}, more...))
			}
			return a.inspectAll(ctx, func(ctx context.Context, b *backend, d *operation.Deployment) error {
				answers := inspect.Info(ctx, b.Connector, d, a.globals.timeout, "memory")
				if err := a.print(infoMemoryDocument(d, answers)); err != nil {
					return err
				}
				return inspect.Failure(answers)
			})
		}),
	}
}

func infoMemoryDocument(d *operation.Deployment, answers []inspect.Answer[redis.Info]) render.Document {
	doc := infoDocument(d, answers)
	findings := inspect.MemoryFindings(answers)
	doc.Value = memoryResult{answersResult: newAnswersResult(d, answers), Findings: findings}
	t := render.Table{Columns: []render.Column{
		{Title: "INSTANCE"}, {Title: "USED", Right: true}, {Title: "LIMIT", Right: true}, {Title: "FULL", Right: true}, {Title: ""},
		{Title: "PEAK", Right: true}, {Title: "RESIDENT", Right: true}, {Title: "FRAGMENTED", Right: true}, {Title: "POLICY"},
	}}
	for _, a := range answers {
		if a.Err != nil {
			continue
		}
		m := a.Value.Memory()
		limit, full, bar := "none", "", render.Cell{}
		if m.Max > 0 {
			limit, full = operation.Bytes(m.Max).String(), percent(int64(m.UsedFraction()*1000), 1000)
			bar = render.Cell{Text: render.Bar(int64(m.UsedFraction()*1000), 1000, barColumns), Style: render.Good}
		}
		t.Rows = append(t.Rows, []render.Cell{
			{Text: a.Instance, Style: render.Strong}, render.T(operation.Bytes(m.Used).String()), render.T(limit), render.T(full), bar,
			render.T(operation.Bytes(m.Peak).String()), render.T(operation.Bytes(m.RSS).String()),
			render.T(fmt.Sprintf("%.2f", m.Fragmentation)), render.T(m.Policy),
		})
	}
	if len(t.Rows) > 0 {
		doc.Blocks = append([]render.Block{t, findingList(findings)}, doc.Blocks...)
	}
	return doc
}
