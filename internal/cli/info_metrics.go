package cli

import (
	"context"
	"regexp"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/inspect"
	"github.com/redisctl/redisctl/internal/operation/metrics"
	"github.com/redisctl/redisctl/internal/render"
)

type infoMetricsOptions struct {
	port int
	grep string
}

func (a *app) newInfoMetricsCommand() *cobra.Command {
	o := infoMetricsOptions{port: metrics.Port}
	cmd := &cobra.Command{
		Use:   "metrics",
		Short: "Show what the metrics sidecar of every pod tells Prometheus",
		Long: `Reads the page of the exporter beside each server, through a stream into the pod: no
local port is opened. The table format is the exporter's own text; -o json has the values
with their labels.

Exit code 1 when no pod has an exporter (metrics.enabled in the chart's values), 3 when
some do not answer.`,
		Example: `  redisctl info metrics -n redis-prod --pod cache-redis-0
  redisctl info metrics --grep '^redis_memory' -o json`,
		Args: noArgs,
		RunE: runWith(a, &o, a.runInfoMetrics),
	}
	cmd.Flags().IntVar(&o.port, "port", o.port, "port of the exporter in the pod")
	cmd.Flags().StringVar(&o.grep, "grep", "", "only metrics whose name matches this regular expression")
	return cmd
}

func (a *app) runInfoMetrics(ctx context.Context, o infoMetricsOptions, _ []string) error {
	if o.port < 1 || o.port > 65535 {
		return operation.Errorf(operation.Usage, "--port %d: it must be from 1 to 65535", o.port)
	}
	options := metrics.Options{Port: o.port, Timeout: a.globals.timeout}
	if o.grep != "" {
		var err error
		if options.Grep, err = regexp.Compile(o.grep); err != nil {
			return operation.Errorf(operation.Usage, "--grep %q: %w", o.grep, err)
		}
	}
	if err := a.needsCluster("ask the exporter itself: curl http://HOST:9121/metrics"); err != nil {
		return err
	}
	return a.inspectAll(ctx, func(ctx context.Context, b *backend, d *operation.Deployment) error {
		answers := metrics.Read(ctx, b.Ports, d, options)
		if err := a.print(metricsDocument(d, answers)); err != nil {
			return err
		}
		return inspect.Failure(answers)
	})
}

func metricsDocument(d *operation.Deployment, answers []inspect.Answer[metrics.Page]) render.Document {
	doc := render.Document{Value: newAnswersResult(d, answers)}
	for _, a := range answers {
		switch {
		case a.Err != nil:
			doc.Blocks = append(doc.Blocks, noAnswer(a.Instance, a.Error))
			continue
		case len(answers) > 1:
			doc.Blocks = append(doc.Blocks, render.Verbatim("# "+a.Instance+"\n"+a.Value.Text))
		default:
			doc.Blocks = append(doc.Blocks, render.Verbatim(a.Value.Text))
		}
		for _, f := range a.Value.Families {
			doc.Names = append(doc.Names, a.Instance+" "+f.Name)
		}
	}
	return doc
}
