// Package config fills in the flags that the user did not type: from REDISCTL_*
// environment variables, then from the configuration file. It is the only
// importer of viper.
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
	File   string
	values *viper.Viper
	lookup func(string) (string, bool)
}

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
	s := &Settings{values: viper.New(), lookup: lookup}
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

// Check rejects keys in the file that are no flag of any command: a misspelt key
// would otherwise be silently without effect. known lists the flags' names.
func (s *Settings) Check(known []string) error {
	var unknown []string
	for _, key := range s.values.AllKeys() {
		switch {
		case !Configurable(key):
			return fmt.Errorf("%s sets %s, which must be typed: --%s", s.File, key, key)
		case !slices.Contains(known, key):
			unknown = append(unknown, key)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	slices.Sort(unknown)
	return fmt.Errorf("unknown keys in %s: %s", s.File, strings.Join(unknown, ", "))
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
	case "yes", "dry-run", "help", "version", "config", "all", "promote", "manifests", "keep", "keep-pod", "no-backup", "full", "outer":
		return false
	default:
		return !strings.HasPrefix(flag, "allow-") && !strings.HasPrefix(flag, "ignore-")
	}
}

// Apply sets every flag that was not typed from the environment or the file. The
// error names the variable or the file that holds a value that the flag does not
// accept.
func (s *Settings) Apply(flags *pflag.FlagSet) error {
	var failed error
	flags.VisitAll(func(f *pflag.Flag) {
		if failed != nil || f.Changed || !Configurable(f.Name) {
			return
		}
		value, from := s.find(f.Name)
		if from == "" {
			return
		}
		if err := flags.Set(f.Name, value); err != nil {
			failed = fmt.Errorf("%s: %w", from, err)
		}
	})
	return failed
}

// find returns a flag's value and the variable or file that sets it; both are
// empty when nothing does.
func (s *Settings) find(flag string) (value, from string) {
	name := EnvName(flag)
	if v, ok := s.lookup(name); ok && v != "" {
		return v, name
	}
	if !s.values.IsSet(flag) {
		return "", ""
	}
	if list, ok := s.values.Get(flag).([]any); ok {
		words := make([]string, len(list))
		for i, v := range list {
			words[i] = fmt.Sprint(v)
		}
		return strings.Join(words, ","), s.File
	}
	return s.values.GetString(flag), s.File
}
