package cli

import (
	"context"
	"fmt"
	"sync"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/health"
	"github.com/redisctl/redisctl/internal/operation/inspect"
)

type healthOptions struct {
	checks        health.Options
	allNamespaces bool
}

func (a *app) newHealthCommand() *cobra.Command {
	o := healthOptions{checks: health.DefaultOptions()}
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Check every instance, the replication and the Services",
		Long: `Asks every instance of a release at once and names everything that is not as it
should be: a pod that is down or hangs, two primaries, a replica of the wrong primary,
a Service that points elsewhere than the primary, a link that is down, lag, missing
persistence, a failed save, evictions, memory near its limit, mixed versions.

Exit code 10 when there is a critical finding or a warning, 0 otherwise (notices do
not count); 8 when every server refuses the credentials.`,
		Example: `  redisctl health -n redis-prod
  redisctl health -n redis-prod -r cache -o wide
  redisctl health -A
  redisctl health -n redis-prod -o jsonpath='{.findings[*].code}'`,
		Args: noArgs,
		RunE: runWith(a, &o, a.runHealth),
	}
	cmd.Flags().BoolVarP(&o.allNamespaces, "all-namespaces", "A", false, "check the releases of all namespaces")
	addThresholdFlags(cmd, &o.checks)
	cmd.Flags().Float64Var(&o.checks.MaxMemory, "max-memory", o.checks.MaxMemory, "fraction of maxmemory above which memory is short (0 to 1)")
	cmd.Flags().DurationVar(&o.checks.MaxSaveAge, "max-save-age", o.checks.MaxSaveAge, "age of the last RDB that is too old when there are unsaved changes")
	cmd.AddCommand(a.newHealthPingCommand(), a.newHealthVersionCommand())
	return cmd
}

// addThresholdFlags adds the limits that decide when a replica lags.
func addThresholdFlags(cmd *cobra.Command, o *health.Options) {
	cmd.Flags().Int64Var(&o.MaxLagBytes, "max-bytes", o.MaxLagBytes, "bytes that a replica may be behind")
	cmd.Flags().DurationVar(&o.MaxSilence, "max-seconds", o.MaxSilence, "how long a replica may hear nothing from its primary; idle ones ping every 10 s")
}

func (a *app) runHealth(ctx context.Context, o healthOptions, _ []string) error {
	o.checks.Timeout = a.globals.timeout
	b, err := a.backend(a)
	if err != nil {
		return err
	}
	defer b.Close()
	if o.allNamespaces {
		return a.runHealthAll(ctx, b, o)
	}
	d, err := a.resolve(ctx, b)
	if err != nil {
		return err
	}
	now := a.system.Now()
	report, err := health.Check(ctx, b.Connector, d, now, o.checks)
	if err != nil {
		return err
	}
	if err := a.print(healthDocument(report, now)); err != nil {
		return err
	}
	switch {
	case report.Denied():
		return outcome(operation.Denied, "%s refuses the password", d)
	case !report.Healthy:
		return outcome(operation.Unhealthy, "%s is unhealthy", d)
	default:
		return nil
	}
}

// fleetParallelism bounds how many releases are asked at once.
const fleetParallelism = 8

func (a *app) runHealthAll(ctx context.Context, b *backend, o healthOptions) error {
	target := a.globals.target
	target.AllNamespaces = true
	done := a.waiting("looking for releases")
	deployments, err := b.Resolver.List(ctx, target)
	done()
	if err != nil {
		return err
	}
	defer a.waiting(fmt.Sprintf("waiting for the answers of %d releases", len(deployments)))()
	fleet := healthFleet{Items: make([]fleetItem, len(deployments))}
	slots := make(chan struct{}, fleetParallelism)
	var wg sync.WaitGroup
	for i := range deployments {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			d := &deployments[i]
			item := fleetItem{Report: health.Report{Namespace: d.Namespace, Release: d.Release, Name: d.Name}}
			report, err := health.Check(ctx, b.Connector, d, a.system.Now(), o.checks)
			if err != nil {
				item.Error = err.Error()
			} else {
				item.Report = report
			}
			fleet.Items[i] = item
		})
	}
	wg.Wait()
	if err := a.print(fleet.document()); err != nil {
		return err
	}
	for _, item := range fleet.Items {
		if !item.Healthy {
			return outcome(operation.Unhealthy, "at least one release is unhealthy")
		}
	}
	return nil
}

func (a *app) newHealthPingCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "ping",
		Short:   "Measure the round trip to every instance",
		Long:    "Sends PING to every instance over a connection that is already open and prints\nthe round trip. Exit code 3 when some instances do not answer.",
		Example: "  redisctl health ping -n redis-prod",
		Args:    noArgs,
		RunE: a.run(func(ctx context.Context, _ []string) error {
			return a.inspectAll(ctx, func(ctx context.Context, b *backend, d *operation.Deployment) error {
				answers := inspect.Ping(ctx, b.Connector, d, a.globals.timeout)
				if err := a.print(pingDocument(d, answers)); err != nil {
					return err
				}
				return inspect.Failure(answers)
			})
		}),
	}
}

func (a *app) newHealthVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Show the server's and the image's version of every instance",
		Long:    "Asks every instance for its version and compares it with the image that the pod\nruns and that the workload asks for. Exit code 3 when some instances do not answer.",
		Example: "  redisctl health version -n redis-prod",
		Args:    noArgs,
		RunE: a.run(func(ctx context.Context, _ []string) error {
			return a.inspectAll(ctx, func(ctx context.Context, b *backend, d *operation.Deployment) error {
				answers := inspect.Info(ctx, b.Connector, d, a.globals.timeout, "server")
				if err := a.print(versionsDocument(d, answers)); err != nil {
					return err
				}
				return inspect.Failure(answers)
			})
		}),
	}
}
