// Package cli is redisctl's command tree: one file per command, which turns flags
// into options, runs an operation and shows the result. It is the only place that
// wires adapters to operations.
package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/redisctl/redisctl/internal/config"
	"github.com/redisctl/redisctl/internal/kube"
	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/session"
	"github.com/redisctl/redisctl/internal/render"
	"github.com/redisctl/redisctl/internal/terminal"
)

// System is what redisctl needs of the machine it runs on. Tests give their own.
type System struct {
	// Program is how the user calls it: "redisctl", or "kubectl redis" where it is linked
	// as a plugin of kubectl.
	Program  string
	In       io.Reader
	Out, Err io.Writer
	// OutTerminal and ErrTerminal say whether a person is likely to watch.
	OutTerminal, ErrTerminal bool
	// OutWidth and ErrWidth are the terminals' widths in columns; 0 for none.
	OutWidth, ErrWidth int
	// OutSize returns the terminal's present size, which changes when its window does:
	// columns and lines; 0 for none.
	OutSize func() (width, height int)
	// Hold gives the terminal to a remote program (terminal.Hold), and TerminalSizes tells how
	// large it is. Nil unless stdin and stdout are a terminal.
	Hold          func(context.Context) (held context.Context, release func(), err error)
	TerminalSizes func(context.Context) <-chan session.Size
	// LookupEnv is os.LookupEnv, Environ os.Environ. Environ may be nil.
	LookupEnv func(string) (string, bool)
	Environ   func() []string
	// Now is time.Now.
	Now func() time.Time
	// ReadSecret asks for a secret without showing it. Nil without a terminal.
	ReadSecret func(prompt string) (string, error)
	// ReadLine asks a question. Nil without a terminal.
	ReadLine func(prompt string) (string, error)
}

// OS returns the System of this process.
func OS() System {
	s := System{
		Program: programName(os.Args[0]),
		In:      os.Stdin, Out: os.Stdout, Err: os.Stderr,
		OutTerminal: term.IsTerminal(int(os.Stdout.Fd())),
		ErrTerminal: term.IsTerminal(int(os.Stderr.Fd())),
		LookupEnv:   os.LookupEnv,
		Environ:     os.Environ,
		Now:         time.Now,
	}
	// 0, unlimited, where it cannot be told.
	s.OutSize = func() (width, height int) {
		width, height, _ = term.GetSize(int(os.Stdout.Fd()))
		return width, height
	}
	s.OutWidth, _ = s.OutSize()
	s.ErrWidth, _, _ = term.GetSize(int(os.Stderr.Fd()))
	if term.IsTerminal(int(os.Stdin.Fd())) && s.OutTerminal {
		s.Hold = func(ctx context.Context) (context.Context, func(), error) { return terminal.Hold(ctx, os.Stdin) }
		s.TerminalSizes = func(ctx context.Context) <-chan session.Size { return terminal.Sizes(ctx, os.Stdout) }
	}
	if term.IsTerminal(int(os.Stdin.Fd())) {
		s.ReadSecret = func(prompt string) (string, error) {
			if _, err := os.Stderr.WriteString(prompt); err != nil {
				return "", err
			}
			secret, err := term.ReadPassword(int(os.Stdin.Fd()))
			_, _ = os.Stderr.WriteString("\n") // the newline that was typed is not echoed
			return string(secret), err
		}
		s.ReadLine = func(prompt string) (string, error) {
			if _, err := os.Stderr.WriteString(prompt); err != nil {
				return "", err
			}
			return bufio.NewReader(os.Stdin).ReadString('\n')
		}
	}
	return s
}

// gcPercent keeps transfers within 64 MiB (docs/benchmarks.md).
const gcPercent = 50

// Main runs redisctl with the arguments behind the program's name and returns the
// exit code. The first Ctrl-C cancels the command's context; the second ends the
// process at once.
func Main(args []string) int {
	// Most of what lives is what Helm's packages prepare at the start, and never changes:
	// twice that much need not be reached before what a transfer leaves is collected.
	debug.SetGCPercent(gcPercent)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // from now on signals act as usual
	system := OS()
	system.ReadLine = until(ctx, system.ReadLine)
	return Run(ctx, system, args)
}

// until makes a question end with ctx: whoever presses Ctrl-C has answered it. The read
// goes on until the process ends.
func until(ctx context.Context, ask func(string) (string, error)) func(string) (string, error) {
	if ask == nil {
		return nil
	}
	return func(prompt string) (line string, err error) {
		answered := make(chan struct{})
		go func() {
			defer close(answered)
			line, err = ask(prompt)
		}()
		select {
		case <-answered:
			return line, err
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
}

// Run runs one command and returns its exit code.
func Run(ctx context.Context, system System, args []string) int {
	return newApp(system).execute(ctx, args)
}

func (a *app) execute(ctx context.Context, args []string) int {
	root := a.newRootCommand() //nolint:contextcheck // completers get the command's context when they run
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !a.started {
		// cobra found the mistake before the command began: a flag, an argument or
		// a command that does not exist.
		err = &operation.Error{Kind: operation.Usage, Err: err, Next: cmd.CommandPath() + " --help"}
	}
	if err != nil && ctx.Err() != nil && operation.KindOf(err) != operation.Locked {
		err = interrupted(err)
	}
	if operation.KindOf(err) == operation.Denied && len(a.globals.target.Addresses) > 0 {
		err = withNext(err, "set "+passwordVariable+", or pass --ask-password; --username names an ACL user")
	}
	a.quiet()
	if err != nil {
		printError(a.spoken(a.system.Err), err)
	}
	return exitCode(err)
}

// interrupted keeps what err says about the state that was left behind.
func interrupted(err error) error {
	e := &operation.Error{Kind: operation.Interrupted, Err: errors.New("interrupted")}
	var cause *operation.Error
	if errors.As(err, &cause) {
		e.Object, e.Phase, e.Unchanged, e.Next = cause.Object, cause.Phase, cause.Unchanged, cause.Next
	}
	return e
}

// app is what the commands of one run share.
type app struct {
	system  System
	globals globals
	// started is set when a command's own work begins: errors before that are
	// mistakes in the command line.
	started bool
	// plans is set when the command has --dry-run.
	plans bool
	// command is the command that runs, without the program's name: "backup rdb".
	command string
	// scope is set once the release is known.
	scope accessScope
	// calls matches calls of redisctl in texts; nil when they are right as they are.
	calls *regexp.Regexp
	// backend overrides the adapters in tests.
	backend func(*app) (*backend, error)
	// invoke runs a command's body. Tests take its place to see the options that
	// flags, environment and configuration file have filled in.
	invoke func(options any, args []string, body func() error) error
	// shown sees every document that is printed. Tests look at them at other widths.
	shown func(render.Document)
	// settings are the configuration of the command that runs.
	settings *config.Settings
	// unmatched is why no profile of the configuration file could be chosen by the context.
	unmatched error
	// quiet ends the line that says what is being waited for; see waiting.
	quiet func()
}

func newApp(system System) *app {
	return &app{
		system:  system,
		backend: openBackend,
		invoke:  func(_ any, _ []string, body func() error) error { return body() },
		shown:   func(render.Document) {},
		quiet:   func() {},
	}
}

// globals are the flags that every command has.
type globals struct {
	configFile string
	profile    string
	kubeconfig string
	context    string
	target     operation.Target
	addresses  addressOptions
	output     string
	timeout    time.Duration
	color      string
	noColor    bool
	verbose    bool

	format render.Format
}

// addressOptions say how plain addresses are reached.
type addressOptions struct {
	username    string
	askPassword bool
	tls         bool
	tlsCA       string
	tlsCert     string
	tlsKey      string
	tlsName     string
	tlsInsecure bool
}

// action is the body of a command without options of its own.
type action func(ctx context.Context, args []string) error

// run wraps a command's body: it applies the configuration and notes that the
// command line was understood.
func (a *app) run(body action) func(*cobra.Command, []string) error {
	return runWith(a, new(noOptions), func(ctx context.Context, _ noOptions, args []string) error {
		return body(ctx, args)
	})
}

type noOptions struct{}

// runWith is run for a command with options, which its flags have been bound to.
func runWith[O any](
	a *app, options *O, body func(ctx context.Context, o O, args []string) error,
) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if err := a.configure(cmd); err != nil {
			return err
		}
		a.started, a.plans = true, cmd.Flags().Lookup("dry-run") != nil
		_, a.command, _ = strings.Cut(cmd.CommandPath(), " ")
		if a.unmatched != nil {
			look := render.Look{Color: a.color(a.system.ErrTerminal), Width: a.system.ErrWidth}
			render.NewNarrator(a.system.Err, look, false, a.system.Now).Warn(
				"no profile is used, because the context is not known (--profile names one): %v", a.unmatched)
		}
		return a.invoke(*options, args, func() error { return body(cmd.Context(), *options, args) })
	}
}

// configure fills in flags from the environment and the configuration file.
func (a *app) configure(cmd *cobra.Command) error {
	typed := targetTypedIn(cmd.Flags())
	file := a.globals.configFile
	if file == "" {
		file, _ = a.system.LookupEnv(config.EnvName("config"))
	}
	settings, err := config.Load(file, a.system.LookupEnv)
	if err != nil {
		return err
	}
	a.settings = settings
	if err := settings.Check(flagNames(cmd.Root())); err != nil {
		return err
	}
	if err := a.chooseProfile(settings, typed); err != nil {
		return err
	}
	if err := settings.Apply(cmd.Flags()); err != nil {
		return err
	}
	if err := a.globals.settleTarget(typed); err != nil {
		return err
	}
	if a.globals.timeout <= 0 {
		return fmt.Errorf("--timeout %s: it must be positive", a.globals.timeout)
	}
	if !slices.Contains(colorModes(), a.globals.color) {
		return fmt.Errorf("--color %q: choose one of %s", a.globals.color, strings.Join(colorModes(), ", "))
	}
	a.globals.format, err = render.ParseFormat(a.globals.output)
	return err
}

// chooseProfile uses the profile that is named, or else the one that is for the context of
// the kubeconfig. Servers that are named by address have no context.
func (a *app) chooseProfile(settings *config.Settings, typed typedTarget) error {
	configured := func(flag, typed string) string {
		if typed != "" {
			return typed
		}
		value, _ := settings.Find(flag)
		return value
	}
	if name := configured("profile", a.globals.profile); name != "" {
		return settings.UseProfile(name)
	}
	addresses, _ := settings.Find("address")
	if !settings.NeedsContext() || typed.addresses || addresses != "" && !typed.release {
		return nil
	}
	o := a.kubeOptions()
	o.Kubeconfig, o.Context = configured("kubeconfig", o.Kubeconfig), configured("context", o.Context)
	current, err := kube.CurrentContext(o)
	if err != nil {
		a.unmatched = err
		return nil //nolint:nilerr // the command may not need the cluster
	}
	return settings.MatchProfile(current)
}

// typedTarget says how the command line itself, without the configuration, names the
// target: as a release or as plain addresses.
type typedTarget struct{ release, addresses bool }

func targetTypedIn(flags *pflag.FlagSet) typedTarget {
	return typedTarget{
		release:   flags.Changed("namespace") || flags.Changed("release") || flags.Changed("all-namespaces"),
		addresses: flags.Changed("address"),
	}
}

// settleTarget lets what was typed win over what is configured: a namespace in the
// configuration file must not stand in the way of --address, nor the other way round.
func (g *globals) settleTarget(typed typedTarget) error {
	t := &g.target
	switch {
	case typed.addresses && !typed.release:
		t.Namespace, t.Release = "", ""
	case typed.release && !typed.addresses:
		t.Addresses = nil
	case len(t.Addresses) > 0 && (typed.release || t.Namespace != "" || t.Release != ""):
		return errors.New("--address names servers without Kubernetes; it cannot be combined with --namespace, --release or --all-namespaces")
	}
	return nil
}

// print writes a command's result to stdout.
func (a *app) print(d render.Document) error { return a.printAs(d, false) }

// printSeries writes one of many results of a command to stdout.
func (a *app) printSeries(d render.Document) error { return a.printAs(d, true) }

func (a *app) printAs(d render.Document, series bool) error {
	a.quiet()
	a.shown(d)
	look := render.Look{Color: a.color(a.system.OutTerminal), Width: a.system.OutWidth}
	err := render.Printer{Out: a.resultWriter(), Format: a.globals.format, Look: look, Series: series}.Print(d)
	if err != nil {
		return operation.Errorf(operation.Failed, "writing the result: %w", err)
	}
	return nil
}

// narrator returns where an operation's narration goes: stderr for people,
// nowhere when a script reads the result.
func (a *app) narrator() (operation.Reporter, func()) {
	if !a.globals.format.ForPeople() && !a.globals.verbose {
		return operation.DiscardReporter{}, func() {}
	}
	a.quiet()
	look := render.Look{Color: a.color(a.system.ErrTerminal), Width: a.system.ErrWidth}
	n := render.NewNarrator(a.spoken(a.system.Err), look, a.system.ErrTerminal, a.system.Now)
	return n, n.Close
}

// waiting says on a terminal, once it takes a second, what a command waits for, until
// the returned function is called or something is printed.
func (a *app) waiting(what string) (done func()) {
	a.quiet()
	dumb, _ := a.system.LookupEnv("TERM")
	if !a.system.ErrTerminal || dumb == "dumb" || !a.globals.format.ForPeople() {
		return func() {}
	}
	look := render.Look{Color: a.color(true), Width: a.system.ErrWidth}
	a.quiet = render.Waiting(a.system.Err, look, what)
	return a.quiet
}

// The values of --color.
const (
	colorAuto   = "auto"
	colorAlways = "always"
	colorNever  = "never"
)

func colorModes() []string { return []string{colorAuto, colorAlways, colorNever} }

// color follows https://no-color.org: NO_COLOR, when not empty, switches colours off,
// unless redisctl's own setting says otherwise.
func (a *app) color(terminal bool) bool {
	switch {
	case a.globals.noColor || a.globals.color == colorNever:
		return false
	case a.globals.color == colorAlways:
		return true
	}
	if noColor, _ := a.system.LookupEnv("NO_COLOR"); noColor != "" {
		return false
	}
	dumb, _ := a.system.LookupEnv("TERM")
	return terminal && dumb != "dumb"
}
