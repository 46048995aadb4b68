//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/build"
	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/filelock"
	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/paths"
	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/platform"
	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/progress"
	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/servers"
	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/stack"
)

// driver is what the subcommands share.
type driver struct {
	layout paths.Layout
	report progress.Func
}

func newRootCommand(report progress.Func) *cobra.Command {
	d := &driver{report: report}
	root := &cobra.Command{
		Use:           "cluster",
		Short:         "A real one-node Kubernetes on this machine, for tests and the demo",
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if err := platform.Check(); err != nil {
				return err
			}
			var err error
			d.layout, err = paths.New()
			return err
		},
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(
		d.serversCommand(), d.buildCommand(), d.upCommand(), d.downCommand(),
		d.statusCommand(), d.envCommand(), d.logsCommand(), d.imageCommand(),
	)
	return root
}

func (d *driver) serversCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "servers",
		Short: "Prepare the root file systems that hold real Redis and Valkey servers",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return d.servers(cmd.Context()) },
	}
}

func (d *driver) servers(ctx context.Context) error {
	unlock, err := d.lock("servers")
	if err != nil {
		return err
	}
	defer unlock()
	if servers.Ready(d.layout.Servers()) {
		return nil
	}
	if err := platform.Install(ctx, platform.BootstrapPackages(), d.report); err != nil {
		return err
	}
	return servers.Prepare(ctx, d.layout.Servers(), d.report)
}

func (d *driver) buildCommand() *cobra.Command {
	var withHelm3 bool
	cmd := &cobra.Command{
		Use:   "build",
		Short: "Compile the cluster's programs",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var extra []string
			if withHelm3 {
				extra = append(extra, "helm3")
			}
			return d.build(cmd.Context(), extra...)
		},
	}
	cmd.Flags().BoolVar(&withHelm3, "with-helm3", false, "also compile Helm 3, as helm3")
	return cmd
}

func (d *driver) build(ctx context.Context, extra ...string) error {
	unlock, err := d.lock("build")
	if err != nil {
		return err
	}
	defer unlock()
	source, err := paths.Source()
	if err != nil {
		return err
	}
	builder := build.Builder{Layout: d.layout, Source: source, Report: d.report}
	todo, err := builder.Missing(extra...)
	if err != nil || len(todo) == 0 {
		return err
	}
	if err := platform.Install(ctx, platform.BuildPackages(), d.report); err != nil {
		return err
	}
	return builder.Build(ctx, extra...)
}

func (d *driver) upCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "up",
		Short: "Start the cluster, or repair what is missing of it, and wait until it is usable",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if err := platform.Install(ctx, platform.RuntimePackages(), d.report); err != nil {
				return err
			}
			if err := d.servers(ctx); err != nil {
				return err
			}
			if err := d.build(ctx); err != nil {
				return err
			}
			if err := stack.New(d.layout, d.report).Up(ctx); err != nil {
				return err
			}
			d.report("the cluster is up; to use it:")
			return d.printEnv(cmd.OutOrStdout())
		},
	}
}

func (d *driver) downCommand() *cobra.Command {
	var purge bool
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Stop the cluster and remove everything it made of the machine",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := stack.New(d.layout, d.report).Down(cmd.Context(), purge); err != nil {
				return err
			}
			d.report("the cluster is down, nothing of it is left")
			return nil
		},
	}
	cmd.Flags().BoolVar(&purge, "purge-data", false, "also remove the API server's data and the volumes")
	return cmd
}

func (d *driver) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the cluster's components; exit code 0 when it is usable, 1 when not",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return stack.New(d.layout, d.report).Status(cmd.Context(), cmd.OutOrStdout())
		},
	}
}

func (d *driver) envCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "env",
		Short: "Print the shell commands that point kubectl and helm at the cluster",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return d.printEnv(cmd.OutOrStdout()) },
	}
}

func (d *driver) printEnv(w io.Writer) error {
	_, err := fmt.Fprintf(w, "export KUBECONFIG=%s\nexport PATH=%s:\"$PATH\"\n",
		shellQuote(d.layout.Kubeconfig()), shellQuote(d.layout.Bin()))
	return err
}

// shellQuote returns text as one word of a POSIX shell.
func shellQuote(text string) string {
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

func (d *driver) logsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "logs COMPONENT",
		Short: "Print a component's log since its last start",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			log, err := os.Open(d.layout.Log(filepath.Base(args[0])))
			if err != nil {
				return err
			}
			defer log.Close() // only read from
			_, err = io.Copy(cmd.OutOrStdout(), log)
			return err
		},
	}
}

func (d *driver) imageCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "image PROGRAM NAME:TAG",
		Short: "Pack a static program as an image, and import it into the running cluster",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			program, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			return stack.New(d.layout, d.report).ImportProgram(cmd.Context(), program, args[1])
		},
	}
}

func (d *driver) lock(name string) (unlock func(), err error) {
	return filelock.Lock(filepath.Join(d.layout.Cache, name+".lock"), func() {
		d.report("waiting for another run of this program (%s)", name)
	})
}
