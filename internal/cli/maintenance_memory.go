package cli

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/inspect"
	"github.com/redisctl/redisctl/internal/operation/maintenance"
	"github.com/redisctl/redisctl/internal/render"
)

func (a *app) newMemoryCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "memory",
		Short: "Show what takes the memory of every instance, and what its server advises",
		Long: `Shows what every server has allocated and for what (MEMORY STATS), against maxmemory and
the container's memory limit, and what MEMORY DOCTOR says of it. What a process takes
from the system (RSS) counts against the container's limit, also while a save copies
pages that are written to.

Exit code 3 when some instances do not answer.`,
		Example: `  redisctl maintenance memory -n redis-prod
  redisctl maintenance memory --pod cache-redis-0 -o json`,
		Args: noArgs,
		RunE: a.run(func(ctx context.Context, _ []string) error {
			return a.inspectAll(ctx, func(ctx context.Context, b *backend, d *operation.Deployment) error {
				var limit int64
				if b.Premises != nil && d.Workload != nil {
					var err error
					if limit, err = b.Premises.MemoryLimit(ctx, d); err != nil {
						return err
					}
				}
				answers := a.maintenance(b, operation.DiscardReporter{}).Memory(ctx, d, limit)
				if err := a.print(memoryDocument(d, answers)); err != nil {
					return err
				}
				return inspect.Failure(answers)
			})
		}),
	}
}

func memoryDocument(d *operation.Deployment, answers []inspect.Answer[maintenance.MemoryUse]) render.Document {
	doc := render.Document{Value: newAnswersResult(d, answers)}
	for _, a := range answers {
		doc.Names = append(doc.Names, a.Instance)
		if a.Err != nil {
			doc.Blocks = append(doc.Blocks, prose(a.Instance, "", a.Error))
			continue
		}
		doc.Blocks = append(doc.Blocks, render.Text{Text: a.Instance, Style: render.Strong}, memoryFields(a.Value))
		if len(a.Value.Parts) > 0 {
			doc.Blocks = append(doc.Blocks, memoryParts(a.Value))
		} else {
			doc.Blocks = append(doc.Blocks, notesList(render.Warn, "the server does not tell what it is used for: it has no MEMORY, which rename-command has disabled"))
		}
		if a.Value.Doctor != "" {
			doc.Blocks = append(doc.Blocks, notesList(render.Dim, "MEMORY DOCTOR: "+a.Value.Doctor))
		}
	}
	return doc
}

const memoryColumns = 20

func memoryFields(u maintenance.MemoryUse) render.Block {
	used := operation.Bytes(u.Used).String()
	policy := u.Policy
	style := render.Good
	if u.Max > 0 {
		used += fmt.Sprintf(" of %s (%d %%) %s", operation.Bytes(u.Max), u.Used*100/u.Max, render.Bar(u.Used, u.Max, memoryColumns))
		style = fullness(u.Used, u.Max)
		policy += " at the limit"
	} else {
		used += ", no limit (maxmemory 0)"
	}
	rss := operation.Bytes(u.RSS).String()
	rssStyle := render.Plain
	if u.Limit > 0 {
		rss += fmt.Sprintf(" of the container's %s (%d %%) %s", operation.Bytes(u.Limit), u.RSS*100/u.Limit, render.Bar(u.RSS, u.Limit, memoryColumns))
		rssStyle = fullness(u.RSS, u.Limit)
	}
	return render.Fields{
		{Label: "used", Value: render.Cell{Text: used, Style: style}},
		{Label: "resident", Value: render.Cell{Text: rss, Style: rssStyle}},
		{Label: "peak", Value: render.T(operation.Bytes(u.Peak).String())},
		{Label: "fragmentation", Value: render.T(fmt.Sprintf("%.2f", u.Fragmentation))},
		{Label: "policy", Value: render.T(policy)},
		{Label: "keys", Value: render.T(keysAndMean(u))},
	}
}

// keysAndMean counts the keys. The server's mean counts what clients and replicas take, too,
// which is nearly all of it where there are few keys.
func keysAndMean(u maintenance.MemoryUse) string {
	if u.BytesPerKey <= 0 {
		return strconv.FormatInt(u.Keys, 10)
	}
	return fmt.Sprintf("%d, %s each with all that is not the server itself", u.Keys, operation.Bytes(u.BytesPerKey))
}

// fullness judges what is used of a limit, as health does by default.
func fullness(used, limit int64) render.Style {
	const full, filling = 0.9, 0.75
	switch share := float64(used) / float64(limit); {
	case share >= full:
		return render.Bad
	case share >= filling:
		return render.Warn
	default:
		return render.Good
	}
}

func memoryParts(u maintenance.MemoryUse) render.Block {
	words := map[string]string{
		"dataset": "values", "keyTables": "tables of keys", "replicationBacklog": "replication backlog", "clients": "clients' buffers",
		"replicas": "replicas' buffers", "aofBuffer": "AOF buffer", "scripts": "scripts and functions", "startup": "the server itself", "other": "other",
	}
	t := render.Table{Columns: []render.Column{{Title: "USED FOR"}, {Title: "SIZE", Right: true}, {Title: "SHARE", Right: true}, {Title: ""}}}
	for _, p := range u.Parts {
		if p.Bytes == 0 {
			continue
		}
		t.Rows = append(t.Rows, []render.Cell{
			render.T(words[p.Name]), render.T(operation.Bytes(p.Bytes).String()), render.T(fmt.Sprintf("%d %%", p.Bytes*100/max(1, u.Used))),
			{Text: render.Bar(p.Bytes, u.Used, memoryColumns), Style: render.Good},
		})
	}
	return t
}
