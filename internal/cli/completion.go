package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/redisctl/redisctl/internal/kube"
	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/render"
)

// completionTimeout bounds how long the shell waits for an answer from the
// cluster. Completing nothing is better than a shell that hangs.
const completionTimeout = 2 * time.Second

func (a *app) newCompletionCommand() *cobra.Command {
	shells := map[string]func(*cobra.Command) error{
		"bash":       func(root *cobra.Command) error { return root.GenBashCompletionV2(a.system.Out, true) },
		"zsh":        func(root *cobra.Command) error { return root.GenZshCompletion(a.system.Out) },
		"fish":       func(root *cobra.Command) error { return root.GenFishCompletion(a.system.Out, true) },
		"powershell": func(root *cobra.Command) error { return root.GenPowerShellCompletionWithDesc(a.system.Out) },
	}
	cmd := &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Print the completion script of a shell",
		Long: `Prints the script that makes TAB complete commands, flags, and what the live cluster
knows: contexts, namespaces, releases, pods, backups, settings and the
commands of the servers.

  bash:        source <(redisctl completion bash)
  zsh:         redisctl completion zsh > "${fpath[1]}/_redisctl"
  fish:        redisctl completion fish > ~/.config/fish/completions/redisctl.fish
  powershell:  redisctl completion powershell | Out-String | Invoke-Expression`,
		Example:   "  source <(redisctl completion bash)",
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		Args:      oneArg,
	}
	cmd.RunE = a.run(func(_ context.Context, args []string) error {
		script, ok := shells[args[0]]
		if !ok {
			return operation.Errorf(operation.Usage, "no completion for %q: choose one of %s", args[0], strings.Join(cmd.ValidArgs, ", "))
		}
		return script(cmd.Root())
	})
	return cmd
}

// completer answers what could be typed at a place.
type completer = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

// complete makes a completer of a query. It has no way to show an error, so that a
// failing query completes nothing.
func (a *app) complete(query func(context.Context, *backend) ([]string, error)) completer {
	return func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		if err := a.configureCompletion(cmd); err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		a.globals.timeout = completionTimeout
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
		defer cancel()
		b, err := a.backend(a)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		defer b.Close()
		words, err := query(ctx, b)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return words, cobra.ShellCompDirectiveNoFileComp
	}
}

// configureCompletion is configure for a command line that is being completed. Cobra has
// parsed it twice (__complete looks for "--" first), so that what may be given several times
// is there twice: an address given twice is an error.
func (a *app) configureCompletion(cmd *cobra.Command) error {
	var err error
	cmd.Flags().Visit(func(f *pflag.Flag) {
		several, ok := f.Value.(pflag.SliceValue)
		if !ok {
			return
		}
		values := several.GetSlice()
		if half := len(values) / 2; slices.Equal(values[:half], values[half:]) {
			err = errors.Join(err, several.Replace(values[:half]))
		}
	})
	if err != nil {
		return err
	}
	return a.configure(cmd)
}

// completeGlobalFlags makes the flags of every command complete themselves.
func (a *app) completeGlobalFlags(root *cobra.Command) {
	mustComplete(root, "context", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		if err := a.configureCompletion(cmd); err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		names, err := kube.CompleteContexts(a.kubeOptions())
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	})
	mustComplete(root, "namespace", a.complete(func(ctx context.Context, b *backend) ([]string, error) {
		return b.Names.CompleteNamespaces(ctx)
	}))
	mustComplete(root, "release", a.complete(func(ctx context.Context, b *backend) ([]string, error) {
		return b.Names.CompleteReleases(ctx, operation.Target{Namespace: a.globals.target.Namespace})
	}))
	mustComplete(root, "pod", a.complete(a.podNames))
	mustComplete(root, "color", cobra.FixedCompletions(colorModes(), cobra.ShellCompDirectiveNoFileComp))
	mustComplete(root, "profile", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		a.globals.profile = "" // what is being typed is none yet
		if err := a.configureCompletion(cmd); err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return a.settings.Profiles(), cobra.ShellCompDirectiveNoFileComp
	})
	mustComplete(root, "output", cobra.FixedCompletions(render.Formats(), cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveNoSpace))
}

func (a *app) podNames(ctx context.Context, b *backend) ([]string, error) {
	return b.Names.CompletePods(ctx, operation.Target{Namespace: a.globals.target.Namespace, Release: a.globals.target.Release})
}

// mustComplete registers a flag's completer. It fails only for a flag that does
// not exist, which is a mistake in this package.
func mustComplete(cmd *cobra.Command, flag string, c completer) {
	if err := cmd.RegisterFlagCompletionFunc(flag, c); err != nil {
		panic(err)
	}
}

// completePods completes one pod as an argument.
func (a *app) completePods(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.complete(a.podNames)(cmd, args, toComplete)
}

// completeRevisions completes the number of a revision of the Helm release.
func (a *app) completeRevisions(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.complete(func(ctx context.Context, b *backend) ([]string, error) {
		d, err := a.resolve(ctx, b)
		if err != nil || b.Upgrades == nil {
			return nil, err
		}
		history, err := b.Upgrades.History(ctx, d)
		if err != nil {
			return nil, err
		}
		words := make([]string, len(history))
		for i, r := range history {
			words[i] = fmt.Sprintf("%d\t%s, %s, %s", r.Number, r.Chart, r.Status, r.Updated.Format(time.DateTime))
		}
		return words, nil
	})(cmd, args, toComplete)
}
