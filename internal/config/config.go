// Package config fills in the flags that the user did not type: from REDISCTL_*
// environment variables, then from a profile of the configuration file, then from its
// top level. It is the only importer of viper.
//
// Every setting is a flag first. A flag --stall-timeout can be set as
// REDISCTL_STALL_TIMEOUT and, in the file, as stall-timeout; so there is one name to
// learn and one place that documents it (--help).
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// EnvPrefix starts the name of every environment variable that redisctl reads.
const EnvPrefix = "REDISCTL_"

// Settings are the values from the environment and the configuration file.
type Settings struct {
	// File is the configuration file that was read; empty when there is none.
	File string
	// Profile is the profile in use; empty for none. UseProfile and MatchProfile set it.
	Profile string
	values  *viper.Viper
	lookup  func(string) (string, bool)
	// applied says where the values of flags came from.
	applied map[string]Origin
}

// keySeparator keeps names with dots whole: profiles may be named like contexts.
const keySeparator = "\x00"

// DefaultFile returns the configuration file that is read when none is named:
// $XDG_CONFIG_HOME/redisctl/config.yaml, or ~/.config/redisctl/config.yaml. It is
// empty when there is no home directory.
func DefaultFile(lookup func(string) (string, bool)) string {
	if dir, ok := lookup("XDG_CONFIG_HOME"); ok && filepath.IsAbs(dir) {
		return filepath.Join(dir, "redisctl", "config.yaml")
	}
	if home, ok := lookup("HOME"); ok && home != "" {
		return filepath.Join(home, ".config", "redisctl", "config.yaml")
	}
	return ""
}

// Load reads the configuration file. A named file must exist; with file empty the
// default one is read when it exists. lookup is os.LookupEnv.
func Load(file string, lookup func(string) (string, bool)) (*Settings, error) {
	s := &Settings{
		values: viper.NewWithOptions(viper.KeyDelimiter(keySeparator)), lookup: lookup, applied: make(map[string]Origin),
	}
	named := file != ""
	if !named {
		file = DefaultFile(lookup)
	}
	if file == "" {
		return s, nil
	}
	s.values.SetConfigFile(file)
	s.values.SetConfigType("yaml")
	err := s.values.ReadInConfig()
	switch {
	case err == nil:
		s.File = file
		return s, nil
	case !named && errors.Is(err, fs.ErrNotExist):
		return s, nil
	default:
		return nil, fmt.Errorf("reading the configuration file %s: %w", file, err)
	}
}

// Check rejects keys in the file, and in its profiles, that are no flag of any command: a
// misspelt key would otherwise be silently without effect. known lists the flags' names.
func (s *Settings) Check(known []string) error {
	if s.values.IsSet(profilesKey) && s.profiles() == nil {
		return fmt.Errorf("%s: %s must map names to settings", s.File, profilesKey)
	}
	var unknown []string
	for _, key := range s.values.AllKeys() {
		if strings.HasPrefix(key, profilesKey+keySeparator) && s.values.Get(key) == nil {
			continue // a profile, or a setting of one, that is left empty
		}
		name, shown, err := s.flagOf(key)
		switch {
		case err != nil:
			return err
		case !Configurable(name):
			return fmt.Errorf("%s sets %s, which must be typed: --%s", s.File, shown, name)
		case !slices.Contains(known, name):
			unknown = append(unknown, shown)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	slices.Sort(unknown)
	return fmt.Errorf("unknown keys in %s: %s", s.File, strings.Join(unknown, ", "))
}

// flagOf returns the flag that a key of the file sets, and the key as it is written.
func (s *Settings) flagOf(key string) (flag, shown string, err error) {
	parts := strings.Split(key, keySeparator)
	shown = strings.Join(parts, ".")
	switch {
	case parts[0] != profilesKey:
		return shown, shown, nil // what is nested is no flag
	case len(parts) == 2:
		return "", shown, fmt.Errorf("%s: the profile %s must be a map of settings", s.File, parts[1])
	case strings.Join(parts[2:], ".") == "profile":
		return "", shown, fmt.Errorf("%s: %s: a profile cannot choose a profile", s.File, shown)
	default:
		return strings.Join(parts[2:], "."), shown, nil
	}
}

// EnvName returns the environment variable that sets a flag.
func EnvName(flag string) string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Configurable reports whether a flag may be set from the environment or the
// file. Consent must be typed (--yes, --promote, --keep, --no-backup, and what overrides a blocker:
// --allow-..., --ignore-...), and some flags mean something only on the command line.
func Configurable(flag string) bool {
	switch flag {
	case "yes", "dry-run", "help", "version", "config", "all", "promote", "manifests", "keep", "keep-pod", "no-backup", "full", "outer",
		"reset", "show-values", "all-pods":
		return false
	default:
		return !strings.HasPrefix(flag, "allow-") && !strings.HasPrefix(flag, "ignore-")
	}
}

// Apply sets every flag that was not typed from the environment, the profile in use or
// the file. The error names the variable or the file that holds a value that the flag
// does not accept.
func (s *Settings) Apply(flags *pflag.FlagSet) error {
	var failed error
	flags.VisitAll(func(f *pflag.Flag) {
		if failed != nil || f.Changed || !Configurable(f.Name) {
			return
		}
		value, from := s.Find(f.Name)
		if from == (Origin{}) {
			return
		}
		if err := flags.Set(f.Name, value); err != nil {
			failed = fmt.Errorf("%s: %w", from, err)
			return
		}
		s.applied[f.Name] = from
	})
	return failed
}

// CheckValues returns what is wrong with the values of flags, which it changes.
func (s *Settings) CheckValues(flags *pflag.FlagSet) []error {
	var wrong []error
	flags.VisitAll(func(f *pflag.Flag) {
		if !Configurable(f.Name) {
			return
		}
		value, from := s.Find(f.Name)
		if from == (Origin{}) {
			return
		}
		if err := flags.Set(f.Name, value); err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", from, err))
		}
	})
	return wrong
}

// Find returns what the environment, the profile in use or the file say of a flag, and
// which of them does; the zero Origin when none does.
func (s *Settings) Find(flag string) (value string, from Origin) {
	name := EnvName(flag)
	if v, ok := s.lookup(name); ok && v != "" {
		return v, Origin{Source: SourceEnvironment, Place: name}
	}
	if v, ok := s.profile()[flag]; ok {
		return text(v), Origin{Source: SourceProfile, Place: s.Profile + " in " + s.File}
	}
	if !s.values.IsSet(flag) {
		return "", Origin{}
	}
	return text(s.values.Get(flag)), Origin{Source: SourceFile, Place: s.File}
}

// text writes a value of the file as a flag takes it.
func text(value any) string {
	if list, ok := value.([]any); ok {
		words := make([]string, len(list))
		for i, v := range list {
			words[i] = fmt.Sprint(v)
		}
		return strings.Join(words, ",")
	}
	if value == nil {
		return ""
	}
	return fmt.Sprint(value)
}
