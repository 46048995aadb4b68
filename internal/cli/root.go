package cli

import (
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/redisctl/redisctl/internal/config"
	"github.com/redisctl/redisctl/internal/render"
)

// NewRootCommand returns the command tree for generating documentation.
func NewRootCommand(system System) *cobra.Command { return newApp(system).newRootCommand() }

func (a *app) newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "redisctl",
		Short: "Operate Redis on Kubernetes, and prove what was done",
		Long: `redisctl operates Redis releases on Kubernetes, and plain Redis servers.

Exit code 0 means that the result was observed, not that a command was sent.
Results go to stdout, narration to stderr; -o json is a stable interface.

Every flag can be set in the environment (--backup-dir as REDISCTL_BACKUP_DIR) and
in the configuration file (backup-dir: ...), except consent such as --yes.`,
		Example: `  redisctl health -n redis-prod
  redisctl replication info -n redis-prod -r cache
  redisctl backup rdb -n redis-prod
  redisctl health --address 127.0.0.1:6379`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		Args:              cobra.ArbitraryArgs, // helpOrUnknown judges them
		RunE:              helpOrUnknown,
	}
	root.SetOut(a.system.Out)
	root.SetErr(a.system.Err)
	root.SetIn(a.system.In)
	root.SetFlagErrorFunc(suggestFlags)
	root.SetHelpFunc(a.help(root.HelpFunc()))
	a.addGlobalFlags(root.PersistentFlags())
	a.completeGlobalFlags(root)
	root.AddGroup(
		&cobra.Group{ID: "observe", Title: "Observe:"},
		&cobra.Group{ID: "data", Title: "Keep data:"},
		&cobra.Group{ID: "switch", Title: "Hand over:"},
		&cobra.Group{ID: "maintain", Title: "Maintain:"},
		&cobra.Group{ID: "tool", Title: "redisctl itself:"},
	)
	root.SetHelpCommand(inGroup("tool", newHelpCommand()))
	root.AddCommand(
		inGroup("observe", a.newHealthCommand()),
		inGroup("observe", a.newInfoCommand()),
		inGroup("observe", a.newReplicationCommand()),
		inGroup("data", a.newBackupCommand()),
		inGroup("data", a.newRestoreCommand()),
		inGroup("switch", a.newFailoverCommand()),
		inGroup("switch", a.newPromoteCommand()),
		inGroup("switch", a.newUpgradeCommand()),
		inGroup("maintain", a.newMaintenanceCommand()),
		inGroup("maintain", a.newKeysCommand()),
		inGroup("observe", a.newSupportBundleCommand()),
		inGroup("tool", a.newConfigCommand()),
		inGroup("tool", a.newCompletionCommand()),
		inGroup("tool", a.newRBACCommand()),
		inGroup("tool", a.newVersionCommand()),
	)
	for _, cmd := range a.terminalCommands() {
		root.AddCommand(inGroup("observe", cmd))
	}
	rename(root, a.system.Program)
	if name := a.system.Program; name != "" && name != program {
		a.calls = callsOf(root)
	}
	return root
}

func inGroup(id string, cmd *cobra.Command) *cobra.Command {
	cmd.GroupID = id
	return cmd
}

func (a *app) addGlobalFlags(f *pflag.FlagSet) {
	g := &a.globals
	f.StringVar(&g.configFile, "config", "", "configuration file (default ~/.config/redisctl/config.yaml)")
	f.StringVar(&g.profile, "profile", "", "profile of the configuration file (default the one for the context)")
	f.StringVar(&g.kubeconfig, "kubeconfig", "", "kubeconfig file (default as kubectl: KUBECONFIG, ~/.kube/config)")
	f.StringVar(&g.context, "context", "", "context of the kubeconfig")
	f.StringVarP(&g.target.Namespace, "namespace", "n", "", "namespace (default the context's)")
	f.StringVarP(&g.target.Release, "release", "r", "", "Helm release (default the only Redis release in the namespace)")
	f.StringVar(&g.target.Pod, "pod", "", "one pod of the release")
	f.StringSliceVar(&g.target.Addresses, "address", nil, "host:port of a Redis server, without Kubernetes (repeatable, or comma-separated)")
	f.StringVar(&g.addresses.username, "username", "", "ACL user for --address; the password is read from REDISCTL_PASSWORD")
	f.BoolVar(&g.addresses.askPassword, "ask-password", false, "ask for the password for --address in the terminal")
	f.BoolVar(&g.addresses.tls, "tls", false, "use TLS for --address")
	f.StringVar(&g.addresses.tlsCA, "tls-ca", "", "file with the certificate authorities to trust (PEM)")
	f.StringVar(&g.addresses.tlsCert, "tls-cert", "", "file with the client's certificate (PEM)")
	f.StringVar(&g.addresses.tlsKey, "tls-key", "", "file with the client's key (PEM)")
	f.StringVar(&g.addresses.tlsName, "tls-server-name", "", "name to expect in the server's certificate")
	f.BoolVar(&g.addresses.tlsInsecure, "tls-insecure", false, "do not verify the server's certificate")
	f.StringVarP(&g.output, "output", "o", "table", "output format: "+strings.Join(render.Formats(), ", "))
	f.DurationVar(&g.timeout, "timeout", 5*time.Second, "how long one server, or the Kubernetes API, may take to answer")
	f.StringVar(&g.color, "color", colorAuto, "when to use colours: "+strings.Join(colorModes(), ", "))
	f.BoolVar(&g.noColor, "no-color", false, "the same as --color never (also: NO_COLOR)")
	f.BoolVarP(&g.verbose, "verbose", "v", false, "narrate on stderr also when the output is for scripts")
}

// newGroup returns a command that only holds others. Without a subcommand it
// prints its help; an unknown one is a usage error, which cobra by itself would
// answer with help and exit code 0.
func newGroup(use, short, long string, subcommands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Long: long, RunE: helpOrUnknown}
	cmd.AddCommand(subcommands...)
	return cmd
}

// newHelpCommand replaces cobra's, which answers an unknown command with exit code 0.
func newHelpCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND...]",
		Short:   "Show the help of a command",
		Long:    "Shows what --help shows, for any command.",
		Example: "  redisctl help backup rdb",
		RunE: func(cmd *cobra.Command, args []string) error {
			found, rest, err := cmd.Root().Find(args)
			if err != nil {
				return err
			}
			return helpOrUnknown(found, rest)
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			found, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var names []string
			for _, c := range found.Commands() {
				if c.IsAvailableCommand() {
					names = append(names, c.Name()+"\t"+c.Short)
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
}

// help fits what cobra shows into the terminal.
func (a *app) help(show func(*cobra.Command, []string)) func(*cobra.Command, []string) {
	return func(cmd *cobra.Command, args []string) {
		out := cmd.OutOrStdout()
		var text strings.Builder
		cmd.SetOut(&text)
		show(cmd, args)
		cmd.SetOut(out)
		_, _ = fmt.Fprint(out, render.Help(text.String(), a.system.OutWidth)) // as cobra, which has no error to return
	}
}

func helpOrUnknown(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	cmd.SuggestionsMinimumDistance = 2 // edits, cobra's own default
	message := fmt.Sprintf("unknown command %q for %q", args[0], cmd.CommandPath())
	if similar := cmd.SuggestionsFor(args[0]); len(similar) > 0 {
		message += "; did you mean " + strings.Join(similar, " or ") + "?"
	}
	return errors.New(message)
}

// suggestFlags adds to the error of an unknown flag the flags that are spelt like it.
func suggestFlags(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) || len(unknown.GetSpecifiedName()) < 2 {
		return err
	}
	// cobra knows how to find commands that are spelt alike: let it take flags for them.
	names := &cobra.Command{SuggestionsMinimumDistance: min(2, max(1, len(unknown.GetSpecifiedName())/3))}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		names.AddCommand(&cobra.Command{Use: f.Name, Hidden: f.Hidden, Run: func(*cobra.Command, []string) {}})
	})
	similar := names.SuggestionsFor(unknown.GetSpecifiedName())
	if len(similar) == 0 {
		return err
	}
	return fmt.Errorf("%w; did you mean --%s?", err, strings.Join(similar, " or --"))
}

// flagNames lists every flag of the tree that may be configured.
func flagNames(root *cobra.Command) []string {
	var names []string
	add := func(f *pflag.Flag) {
		if config.Configurable(f.Name) && !slices.Contains(names, f.Name) {
			names = append(names, f.Name)
		}
	}
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		cmd.LocalFlags().VisitAll(add)
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	walk(root)
	return names
}

// Build identifies this executable.
type Build struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Date    string `json:"date,omitempty"`
	Go      string `json:"go"`
}

// Version, Commit and Date are stamped by the linker when a release is built
// (.goreleaser.yaml, Makefile).
var (
	Version string
	Commit  string
	Date    string
)

// ThisBuild returns what is known of this executable.
func ThisBuild() Build {
	b := Build{Version: Version, Commit: Commit, Date: Date}
	if info, ok := debug.ReadBuildInfo(); ok {
		b.Go = info.GoVersion
		if b.Version == "" {
			b.Version = info.Main.Version
		}
	}
	if b.Version == "" || b.Version == "(devel)" {
		b.Version = "dev"
	}
	return b
}
