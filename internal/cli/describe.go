package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/describe"
	"github.com/redisctl/redisctl/internal/operation/health"
	"github.com/redisctl/redisctl/internal/render"
)

func (a *app) newDescribeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "describe",
		Short: "Describe a release: roles, restarts, limits, claims, Services, probes, events",
		Long: `Shows what matters for Redis first: who is primary, which pods were restarted and why
(OOMKilled), memory against the limits, the claims and their free space, whom the
Services lead to, disruption budgets, probes, and the latest events, warnings first.

What may not be read is named at the end, and the rest is shown. Exit code 0 also when
the release is unhealthy: redisctl health judges.`,
		Example: `  redisctl describe -n redis-prod
  redisctl describe -n redis-prod -o json`,
		Args: noArgs,
		RunE: a.run(func(ctx context.Context, _ []string) error {
			if err := a.needsCluster("redisctl health and redisctl info look at servers without a cluster"); err != nil {
				return err
			}
			b, d, err := a.open(ctx)
			if err != nil {
				return err
			}
			defer b.Close()
			now := a.system.Now()
			checks := health.DefaultOptions()
			checks.Timeout = a.globals.timeout
			r, err := describe.Describe(ctx, b.Connector, b.Describes, d, now, checks)
			if err != nil {
				return err
			}
			return a.print(describeDocument(r, now))
		}),
	}
}

// describedEvents is how many events people are shown; scripts get all.
const describedEvents = 12

func describeDocument(r describe.Report, now time.Time) render.Document {
	doc := healthDocument(r.Health, now)
	doc.Value = r
	doc.Blocks = append(doc.Blocks[:2:2], podTable(r, now))
	if r.Container != nil {
		doc.Blocks = append(doc.Blocks, containerFields(r))
	}
	services := render.Table{Columns: []render.Column{{Title: "SERVICE"}, {Title: "PORT", Right: true}, {Title: "LEADS TO"}}}
	for _, s := range r.Services {
		services.Rows = append(services.Rows, []render.Cell{{Text: s.Name, Style: render.Strong}, render.T(strconv.Itoa(s.Port)), render.T(strings.Join(s.Endpoints, ", "))})
	}
	claims := render.Table{Columns: []render.Column{{Title: "CLAIM"}, {Title: "PHASE"}, {Title: "SIZE", Right: true}, {Title: "FREE", Right: true}, {Title: "CLASS"}}}
	for _, c := range r.Claims {
		free := ""
		if c.Free != nil {
			free = operation.Bytes(*c.Free).String()
		}
		claims.Rows = append(claims.Rows, []render.Cell{{Text: c.Name, Style: render.Strong}, render.T(c.Phase), render.T(operation.Bytes(c.Capacity).String()), render.T(free), render.T(c.Class)})
	}
	budgets := render.Table{Columns: []render.Column{{Title: "BUDGET"}, {Title: "MAY BE EVICTED", Right: true}, {Title: "HEALTHY", Right: true}, {Title: "WANTED", Right: true}}}
	for _, b := range r.Budgets {
		budgets.Rows = append(budgets.Rows, []render.Cell{{Text: b.Name, Style: render.Strong}, render.T(strconv.Itoa(b.Allowed)), render.T(strconv.Itoa(b.Healthy)), render.T(strconv.Itoa(b.Wanted))})
	}
	doc.Blocks = append(doc.Blocks, services, claims, budgets, findingList(r.Health.Findings), eventTable(r.Events[:min(len(r.Events), describedEvents)], now))
	var gaps render.List
	for _, g := range r.Gaps {
		gaps = append(gaps, render.Entry{Mark: render.Cell{Text: "?", Style: render.Warn}, Line: []render.Cell{{Text: g.Part, Style: render.Strong}, render.T("could not be read: " + g.Reason)}})
	}
	doc.Blocks = append(doc.Blocks, gaps)
	return doc
}

func podTable(r describe.Report, now time.Time) render.Block {
	t := render.Table{Columns: []render.Column{{Title: "POD"}, {Title: "PHASE"}, {Title: "RESTARTS", Right: true}, {Title: "ENDED LAST"}, {Title: "AGE", Right: true}}}
	for _, p := range r.Pods {
		phase, exit, age := render.T(strings.TrimSpace(p.Phase+" "+p.Reason)), render.T(p.LastExit), ""
		if p.Reason != "" {
			phase.Style = render.Bad
		}
		if strings.Contains(p.LastExit, "OOMKilled") {
			exit.Style = render.Bad
		}
		if !p.Created.IsZero() {
			age = ageText(now.Sub(p.Created))
		}
		t.Rows = append(t.Rows, []render.Cell{{Text: p.Name, Style: render.Strong}, phase, render.T(strconv.Itoa(p.Restarts)), exit, render.T(age)})
	}
	return t
}

func containerFields(r describe.Report) render.Block {
	c := r.Container
	amount := func(bytes int64) string {
		if bytes == 0 {
			return "none"
		}
		return operation.Bytes(bytes).String()
	}
	cpu := func(milli int64) string {
		if milli == 0 {
			return "none"
		}
		return fmt.Sprintf("%.2g cores", float64(milli)/1000)
	}
	fields := render.Fields{
		{Label: "memory", Value: render.T("limit " + amount(c.MemoryLimit) + ", request " + amount(c.MemoryRequest))},
		{Label: "cpu", Value: render.T("limit " + cpu(c.CPULimit) + ", request " + cpu(c.CPURequest))},
		{Label: "grace", Value: render.T(fmt.Sprintf("%d s to end", c.Grace))},
	}
	for _, p := range c.Probes {
		fields = append(fields, render.Field{Label: p.Kind, Value: render.T(fmt.Sprintf("%s, every %d s, %d s each, fails after %d", p.How, p.Period, p.Timeout, p.Failures))})
	}
	if len(c.Sidecars) > 0 {
		fields = append(fields, render.Field{Label: "sidecars", Value: render.T(strings.Join(c.Sidecars, ", "))})
	}
	return fields
}
