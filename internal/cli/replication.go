package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/health"
	"github.com/redisctl/redisctl/internal/operation/replication"
	"github.com/redisctl/redisctl/internal/operation/topology"
)

func (a *app) newReplicationCommand() *cobra.Command {
	return newGroup("replication", "Show who follows whom, how closely, and where Services point",
		"Shows the replication topology as the servers themselves describe it. A pod's name\nor ordinal says nothing about its role.",
		a.newReplicationInfoCommand(),
		a.newReplicationPrimaryCommand(),
		a.newReplicationRoleCommand(),
		a.newReplicationLagCommand(),
		a.newReplicationResyncCommand(),
		a.newReplicationHealCommand(),
		a.newReplicationCheckCommand(),
	)
}

// observe resolves the target and asks every instance.
func (a *app) observe(ctx context.Context) (topology.Topology, error) {
	b, d, err := a.open(ctx)
	if err != nil {
		return topology.Topology{}, err
	}
	defer b.Close()
	t := topology.Observe(ctx, b.Connector, d, a.globals.timeout)
	err = t.Denied()
	return t, err
}

func (a *app) newReplicationInfoCommand() *cobra.Command {
	o := health.DefaultOptions()
	cmd := &cobra.Command{
		Use:   "info",
		Short: "Show the topology as a tree, with offsets, lag and Services",
		Long: `Shows the primary, its replicas below it, the offset and lag of each, and where each
Service sends its clients. Drift and split brain are named below the tree.`,
		Example: `  redisctl replication info -n redis-prod
  redisctl replication info -o jsonpath='{.primary}'`,
		Args: noArgs,
		RunE: runWith(a, &o, func(ctx context.Context, o health.Options, _ []string) error {
			t, err := a.observe(ctx)
			if err != nil {
				return err
			}
			return a.print(replicationDocument(replication.Describe(&t, o)))
		}),
	}
	addThresholdFlags(cmd, &o)
	return cmd
}

func (a *app) newReplicationPrimaryCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "primary",
		Short:   "Name the observed primary",
		Long:    "Prints the instance that says it is the primary. Exit code 10 when none does, or\nseveral do.",
		Example: "  redisctl replication primary -n redis-prod -o name",
		Args:    noArgs,
		RunE: a.run(func(ctx context.Context, _ []string) error {
			t, err := a.observe(ctx)
			if err != nil {
				return err
			}
			p, err := replication.Primary(&t)
			if err != nil {
				return err
			}
			return a.print(primaryDocument(replication.Describe(&t, health.DefaultOptions()), p.Name))
		}),
	}
}

func (a *app) newReplicationRoleCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "role [POD]",
		Short:             "Show the role of one instance, or of all",
		Long:              "Prints the role that an instance says it has: primary or replica, and what a replica\nfollows. Exit code 3 when some instances do not answer.",
		Example:           "  redisctl replication role cache-redis-1 -n redis-prod",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completePods,
		RunE: a.run(func(ctx context.Context, args []string) error {
			if len(args) == 1 {
				a.globals.target.Pod = args[0]
			}
			t, err := a.observe(ctx)
			if err != nil {
				return err
			}
			report := replication.Describe(&t, health.DefaultOptions())
			if pod := a.globals.target.Pod; pod != "" {
				m := t.Member(pod)
				if m.Err != nil {
					return m.Err
				}
				report.Instances = []replication.Instance{instanceOf(report, pod)}
			}
			if err := a.print(roleDocument(report)); err != nil {
				return err
			}
			return unanswered(report)
		}),
	}
}

// unanswered is an error of kind Partial when some instances did not answer.
func unanswered(r replication.Report) error {
	silent := 0
	for _, i := range r.Instances {
		if i.Error != "" {
			silent++
		}
	}
	if silent == 0 {
		return nil
	}
	return operation.Errorf(operation.Partial, "%d of %d instances did not answer", silent, len(r.Instances))
}

type lagOptions struct {
	health   health.Options
	watch    bool
	interval time.Duration
	// bound is how long to watch; 0 for until Ctrl-C.
	bound time.Duration
}

func (a *app) newReplicationLagCommand() *cobra.Command {
	o := lagOptions{health: health.DefaultOptions(), interval: time.Second}
	cmd := &cobra.Command{
		Use:   "lag",
		Short: "Show how far each replica is behind",
		Long: `Shows, for each replica, the bytes of the primary's history that it has not applied
and the seconds since it last heard from the primary. Exit code 10 when a replica
exceeds a limit or its link is down.

With --watch it goes on: on a terminal with a plot of the last samples that is redrawn in
place, elsewhere with one line for each sample, with -o json with one document a line.
Ctrl-C ends it with exit code 0, whatever it showed. An instance that hangs delays each
sample by --timeout.

With --for as well it is a check: exit code 10 as soon as a limit is exceeded, 0 when none
was until the time is over, 130 when it is interrupted.`,
		Example: `  redisctl replication lag -n redis-prod
  redisctl replication lag --max-bytes 0 --max-seconds 15s
  redisctl replication lag --watch
  redisctl replication lag --watch --for 5m --max-bytes 1000000 -o json`,
		Args: noArgs,
		RunE: runWith(a, &o, a.runReplicationLag),
	}
	addThresholdFlags(cmd, &o.health)
	cmd.Flags().BoolVarP(&o.watch, "watch", "w", false, "repeat until Ctrl-C")
	cmd.Flags().DurationVar(&o.interval, "interval", o.interval, "time between repetitions")
	cmd.Flags().DurationVar(&o.bound, "for", 0, "watch this long, and end with exit code 10 as soon as a limit is exceeded")
	return cmd
}

func (a *app) runReplicationLag(ctx context.Context, o lagOptions, _ []string) error {
	switch {
	case o.interval <= 0:
		return operation.Errorf(operation.Usage, "--interval %s: it must be positive", o.interval)
	case o.bound < 0:
		return operation.Errorf(operation.Usage, "--for %s: it must be positive", o.bound)
	case o.bound > 0 && !o.watch:
		return operation.Errorf(operation.Usage, "--for says how long to watch: add --watch")
	}
	o.health.Timeout = a.globals.timeout
	b, d, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	if o.watch {
		return a.watchLag(ctx, b, d, o)
	}
	t := topology.Observe(ctx, b.Connector, d, a.globals.timeout)
	if err := t.Denied(); err != nil {
		return err
	}
	report := replication.Describe(&t, o.health)
	if err := a.print(lagDocument(report)); err != nil {
		return err
	}
	if !health.Clean(report.Findings) {
		return outcome(operation.Unhealthy, "replication of %s exceeds the limits", d)
	}
	return nil
}

func (a *app) newReplicationCheckCommand() *cobra.Command {
	o := health.DefaultOptions()
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Decide whether replication is ready for an upgrade or a failover",
		Long: `Ready means: every instance answers, exactly one is the primary, every replica
follows it with its link up and within the limits, and the Services reach it. Exit
code 10 and the list of findings when not.`,
		Example: "  redisctl replication check -n redis-prod && echo ready",
		Args:    noArgs,
		RunE: runWith(a, &o, func(ctx context.Context, o health.Options, _ []string) error {
			t, err := a.observe(ctx)
			if err != nil {
				return err
			}
			report := replication.Describe(&t, o)
			ready := health.Clean(report.Findings)
			if err := a.print(checkDocument(report, ready)); err != nil {
				return err
			}
			if !ready {
				return outcome(operation.Unhealthy, "replication of %s is not ready", t.Deployment)
			}
			return nil
		}),
	}
	addThresholdFlags(cmd, &o)
	return cmd
}
