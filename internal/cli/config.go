package cli

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/redisctl/redisctl/internal/config"
	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/redact"
	"github.com/redisctl/redisctl/internal/render"
)

func (a *app) newConfigCommand() *cobra.Command {
	return newGroup("config", "Show redisctl's own settings and where they come from", `Every setting is a flag. What is not typed comes from the environment
(REDISCTL_BACKUP_DIR for --backup-dir), from a profile of the configuration file, from
its top level, or is the flag's default; the first of these that has it wins. The
settings of Redis itself are shown by redisctl info config.`,
		a.newConfigViewCommand(), a.newConfigPathCommand(), a.newConfigCheckCommand())
}

// configView is what `config view` prints.
type configView struct {
	// File is the configuration file that is read when it exists.
	File   string `json:"file"`
	Exists bool   `json:"exists"`
	// Profile is the one in use; empty for none.
	Profile  string          `json:"profile,omitempty"`
	Profiles []string        `json:"profiles"`
	Settings []configSetting `json:"settings"`
}

// configSetting is one setting and where it comes from.
type configSetting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	// Source is flag, environment, profile, file or default. Place is the variable, the
	// file, or the profile and its file.
	Source config.Source `json:"source"`
	Place  string        `json:"place,omitempty"`
	// Command is set when the flag's default is not the same for all commands: it is the
	// one whose default this is.
	Command string `json:"command,omitempty"`
}

type configViewOptions struct{ all bool }

func (a *app) newConfigViewCommand() *cobra.Command {
	var o configViewOptions
	cmd := &cobra.Command{
		Use:   "view",
		Short: "Show every setting, its value and where it comes from",
		Long: `Shows the settings that every command has, and those of single commands that are set
somewhere; with --all also those that have their default. Passwords are never shown.

Exit code 2 when the configuration file is not valid: redisctl config check says all
that is wrong with it.`,
		Example: `  redisctl config view
  redisctl config view -o json
  redisctl config view --all`,
		Args: noArgs,
	}
	cmd.RunE = runWith(a, &o, func(_ context.Context, o configViewOptions, _ []string) error {
		return a.print(configViewDocument(a.configView(cmd, o.all)))
	})
	cmd.Flags().BoolVar(&o.all, "all", false, "also settings of single commands that have their default")
	return cmd
}

// configFile returns the file that is read, and whether it exists.
func (a *app) configFile() (name string, exists bool) {
	name = a.globals.configFile
	if name == "" {
		name, _ = a.system.LookupEnv(config.EnvName("config"))
	}
	if name == "" {
		name = config.DefaultFile(a.system.LookupEnv)
	}
	_, err := os.Stat(name)
	return name, err == nil
}

func (a *app) configView(cmd *cobra.Command, all bool) configView {
	view := configView{Profile: a.settings.Profile, Profiles: a.settings.Profiles()}
	view.File, view.Exists = a.configFile()
	own := cmd.InheritedFlags()
	own.VisitAll(func(f *pflag.Flag) {
		if config.Configurable(f.Name) {
			from := a.settings.OriginOf(f)
			view.Settings = append(view.Settings, configSetting{Name: f.Name, Value: withoutPasswords(f.Value.String()), Source: from.Source, Place: from.Place})
		}
	})
	if password, ok := a.system.LookupEnv(passwordVariable); ok && password != "" {
		view.Settings = append(view.Settings, configSetting{
			Name: "password", Value: redact.Placeholder, Source: config.SourceEnvironment, Place: passwordVariable,
		})
	}
	for _, f := range commandFlags(cmd.Root()) {
		if own.Lookup(f.name) != nil {
			continue
		}
		value, from := a.settings.Find(f.name)
		switch {
		case from != (config.Origin{}):
			view.Settings = append(view.Settings, configSetting{Name: f.name, Value: withoutPasswords(value), Source: from.Source, Place: from.Place})
		case all:
			for _, d := range f.defaults {
				view.Settings = append(view.Settings, configSetting{
					Name: f.name, Value: d.value, Source: config.SourceDefault, Command: d.command,
				})
			}
		}
	}
	return view
}

// withoutPasswords hides a password that somebody put into the URL of a store.
func withoutPasswords(value string) string {
	words := strings.Split(value, ",")
	for i, word := range words {
		if u, err := url.Parse(word); err == nil && u.User != nil {
			words[i] = u.Redacted()
		}
	}
	return strings.Join(words, ",")
}

// commandFlag is a flag of one or several commands.
type commandFlag struct {
	name     string
	defaults []flagDefault
}

// flagDefault is a default, with the first command that has it where others have another.
type flagDefault struct{ value, command string }

// commandFlags returns the configurable flags of all commands, sorted.
func commandFlags(root *cobra.Command) []commandFlag {
	byName := make(map[string]*commandFlag)
	eachFlag(root, func(cmd *cobra.Command, f *pflag.Flag) {
		if !config.Configurable(f.Name) {
			return
		}
		known := byName[f.Name]
		if known == nil {
			known = &commandFlag{name: f.Name}
			byName[f.Name] = known
		}
		if !slices.ContainsFunc(known.defaults, func(d flagDefault) bool { return d.value == f.DefValue }) {
			known.defaults = append(known.defaults, flagDefault{f.DefValue, cmd.CommandPath()})
		}
	})
	flags := make([]commandFlag, 0, len(byName))
	for _, f := range byName {
		if len(f.defaults) == 1 {
			f.defaults[0].command = ""
		}
		flags = append(flags, *f)
	}
	slices.SortFunc(flags, func(a, b commandFlag) int { return strings.Compare(a.name, b.name) })
	return flags
}

// eachFlag visits the flags of all commands, each where it is defined.
func eachFlag(cmd *cobra.Command, visit func(*cobra.Command, *pflag.Flag)) {
	cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) { visit(cmd, f) })
	cmd.PersistentFlags().VisitAll(func(f *pflag.Flag) { visit(cmd, f) })
	for _, c := range cmd.Commands() {
		eachFlag(c, visit)
	}
}

func configViewDocument(v configView) render.Document {
	doc := render.Document{Value: v}
	t := render.Table{Columns: []render.Column{{Title: "SETTING"}, {Title: "VALUE"}, {Title: "SOURCE"}, {Title: "PLACE"}}}
	for _, s := range v.Settings {
		doc.Names = append(doc.Names, s.Name)
		source := render.Cell{Text: string(s.Source)}
		if s.Source == config.SourceDefault {
			source.Style = render.Dim
		}
		t.Rows = append(t.Rows, []render.Cell{{Text: s.Name, Style: render.Strong}, render.T(s.Value), source, render.T(placeText(s))})
	}
	file := render.T(v.File)
	if !v.Exists {
		file = render.Cell{Text: v.File + " (does not exist)", Style: render.Dim}
	}
	fields := render.Fields{{Label: "file", Value: file}}
	if len(v.Profiles) > 0 {
		used := v.Profile
		if used == "" {
			used = "none"
		}
		fields = append(fields, render.Field{Label: "profile", Value: render.T(used + " of " + strings.Join(v.Profiles, ", "))})
	}
	doc.Blocks = []render.Block{fields, t}
	return doc
}

func placeText(s configSetting) string {
	if s.Command != "" {
		return "of " + s.Command
	}
	return s.Place
}

func (a *app) newConfigPathCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "path",
		Short:   "Show which configuration file is read",
		Long:    "Prints the path of the configuration file, also when it does not exist yet.",
		Example: "  redisctl config path\n  mkdir -p \"$(dirname \"$(redisctl config path)\")\"",
		Args:    noArgs,
		RunE: a.runUnconfigured(func() error {
			name, exists := a.configFile()
			if name == "" {
				return operation.Errorf(operation.Failed, "there is no home directory to look in: name a file with --config")
			}
			return a.print(render.Document{
				Value: configPath{File: name, Exists: exists}, Names: []string{name}, Blocks: []render.Block{render.Verbatim(name)},
			})
		}),
	}
}

// configPath is what `config path` prints.
type configPath struct {
	File   string `json:"file"`
	Exists bool   `json:"exists"`
}

// runUnconfigured wraps the body of a command that must work when the configuration is
// not valid.
func (a *app) runUnconfigured(body func() error) func(*cobra.Command, []string) error {
	return func(_ *cobra.Command, args []string) error {
		var err error
		if a.globals.format, err = render.ParseFormat(a.globals.output); err != nil {
			return err
		}
		a.started = true
		return a.invoke(noOptions{}, args, body)
	}
}

func (a *app) newConfigCheckCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Say all that is wrong with the configuration",
		Long: `Looks at the file, all its profiles and the environment: keys and variables that no
command knows, values that a flag does not accept, consent that may only be typed. It
needs no cluster. Exit code 10 when something is wrong.`,
		Example: "  redisctl config check\n  redisctl config check --config new.yaml -o json",
		Args:    noArgs,
	}
	cmd.RunE = a.runUnconfigured(func() error {
		result := a.checkConfig(cmd.Root())
		if err := a.print(result.document()); err != nil {
			return err
		}
		if len(result.Problems) > 0 {
			return outcome(operation.Unhealthy, "the configuration is not valid")
		}
		return nil
	})
	return cmd
}

// configChecked is what `config check` prints.
type configChecked struct {
	File     string   `json:"file"`
	Exists   bool     `json:"exists"`
	Profiles []string `json:"profiles"`
	// Problems are what is wrong, one a line.
	Problems []string `json:"problems"`
}

func (r configChecked) document() render.Document {
	doc := render.Document{Value: r, Names: r.Problems}
	if len(r.Problems) == 0 {
		doc.Blocks = []render.Block{render.Text{Text: "Nothing is wrong with the configuration.", Style: render.Good}}
		return doc
	}
	var list render.List
	for _, p := range r.Problems {
		list = append(list, render.Entry{Mark: render.Cell{Text: "✗", Style: render.Bad}, Line: []render.Cell{render.T(p)}})
	}
	doc.Blocks = []render.Block{list}
	return doc
}

func (a *app) checkConfig(root *cobra.Command) configChecked {
	var r configChecked
	r.File, r.Exists = a.configFile()
	add := func(err error) {
		if err != nil && !slices.Contains(r.Problems, err.Error()) {
			r.Problems = append(r.Problems, err.Error())
		}
	}
	named := r.File
	if !r.Exists && r.File == config.DefaultFile(a.system.LookupEnv) {
		named = "" // the default file need not exist
	}
	settings, err := config.Load(named, a.system.LookupEnv)
	if err != nil {
		add(err)
		return r
	}
	known := flagNames(root)
	r.Profiles = settings.Profiles()
	add(settings.Check(known))
	for _, profile := range append([]string{""}, r.Profiles...) {
		settings.Profile = profile
		// The commands of another tree: setting a flag changes it.
		eachCommandFlags(newApp(a.system).newRootCommand(), func(flags *pflag.FlagSet) {
			for _, err := range settings.CheckValues(flags) {
				add(err)
			}
		})
	}
	for _, name := range a.unknownVariables(known) {
		add(fmt.Errorf("%s sets no flag of any command", name))
	}
	return r
}

// eachCommandFlags visits the flags of every command.
func eachCommandFlags(cmd *cobra.Command, visit func(*pflag.FlagSet)) {
	visit(cmd.PersistentFlags())
	visit(cmd.LocalNonPersistentFlags())
	for _, c := range cmd.Commands() {
		eachCommandFlags(c, visit)
	}
}

// unknownVariables returns the REDISCTL_ variables that nothing reads, sorted.
func (a *app) unknownVariables(known []string) []string {
	if a.system.Environ == nil {
		return nil
	}
	read := []string{passwordVariable, config.EnvName("config"), config.EnvName("cache")}
	for _, flag := range known {
		read = append(read, config.EnvName(flag))
	}
	var unknown []string
	for _, variable := range a.system.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		if strings.HasPrefix(name, config.EnvPrefix) && !slices.Contains(read, name) {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	return unknown
}
