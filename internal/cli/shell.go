package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/session"
	"github.com/redisctl/redisctl/internal/operation/topology"
)

type shellOptions struct{ bash bool }

func (a *app) newShellCommand() *cobra.Command {
	var o shellOptions
	cmd := &cobra.Command{
		Use:   "shell [-- ARGS...]",
		Short: "Open redis-cli, or a shell, in a pod",
		Long: `Runs redis-cli (or valkey-cli) of the image in the container of the observed primary, or
of --pod. In a terminal the session is interactive: keys go to the other side, also
Ctrl-C, and the window's size follows. Elsewhere stdin is handed on: redisctl shell <
commands.txt. Behind -- stand arguments for redis-cli.

The password is handed over within the stream, never in an argument list, where the
cluster's audit log and other users would see it; so are the arguments of redis-cli.
--bash opens bash, or sh where there is none, without the password; its arguments are
recorded in the audit log.

The exit code is that of the program. It is 1 when the image has no redis-cli or no
shell, 2 for --address: there is no container to run anything in.`,
		Example: `  redisctl shell -n redis-prod
  redisctl shell -n redis-prod --pod cache-redis-1 -- --latency
  redisctl shell -n redis-prod -- GET greeting
  redisctl shell -n redis-prod < commands.txt
  redisctl shell -n redis-prod --bash`,
		RunE:              runWith(a, &o, a.runShell),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().BoolVar(&o.bash, "bash", false, "a shell in the container instead of redis-cli")
	return cmd
}

func (a *app) runShell(ctx context.Context, o shellOptions, args []string) error {
	if err := a.needsCluster("redis-cli -h HOST -p PORT, with the password in REDISCLI_AUTH"); err != nil {
		return err
	}
	b, d, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	instance, role, err := a.sessionInstance(ctx, b, d)
	if err != nil {
		return err
	}
	options := session.Options{Shell: o.bash, Args: args}
	if !o.bash {
		if options.Password, err = b.Password(ctx, d); err != nil {
			return err
		}
	}
	streams := session.Streams{In: a.system.In, Out: a.system.Out, Err: a.system.Err}
	if a.system.Hold != nil {
		report, done := a.narrator()
		report.Step("%s%s of %s", instance.Name, role, d)
		done()
		held, release, err := a.system.Hold(ctx)
		if err != nil {
			return operation.Errorf(operation.Failed, "%w", err)
		}
		defer release()
		ctx = held
		sizes, stop := context.WithCancel(ctx)
		defer stop()
		streams.TTY, streams.Sizes = true, a.system.TerminalSizes(sizes)
	}
	err = session.Open(ctx, b.Containers, d, *instance, options, streams)
	var exit interface{ ExitCode() int }
	if errors.As(err, &exit) && exit.ExitCode() != 0 {
		var e *operation.Error
		if !errors.As(err, &e) {
			return remoteExit{exit.ExitCode()}
		}
	}
	return err
}

// sessionInstance returns the instance of --pod, or else the observed primary, and its role
// for people where it is known.
func (a *app) sessionInstance(ctx context.Context, b *backend, d *operation.Deployment) (*operation.Instance, string, error) {
	if pod := a.globals.target.Pod; pod != "" {
		return d.Instance(pod), "", nil
	}
	t := topology.Observe(ctx, b.Connector, d, a.globals.timeout)
	if len(t.Members) == 1 {
		return &d.Instances[0], "", nil
	}
	if err := t.Denied(); err != nil {
		return nil, "", err
	}
	primary, err := t.Primary()
	if err != nil {
		return nil, "", &operation.Error{
			Kind: operation.Failed, Object: d.String(), Phase: "looking for the primary", Err: err,
			Next: fmt.Sprintf("name a pod with --pod: %s", d.InstanceNames()),
		}
	}
	return d.Instance(primary.Name), " (primary)", nil
}
