package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/config"
)

// environment is a LookupEnv.
type environment map[string]string

func (e environment) lookup(name string) (string, bool) {
	v, ok := e[name]
	return v, ok
}

// settings are the flags of a made-up command.
type settings struct {
	dir     string
	timeout time.Duration
	tls     bool
	address []string
	yes     bool
	stale   bool
}

func (s *settings) flags() *pflag.FlagSet {
	f := pflag.NewFlagSet("test", pflag.ContinueOnError)
	f.StringVar(&s.dir, "backup-dir", "default", "")
	f.DurationVar(&s.timeout, "timeout", time.Second, "")
	f.BoolVar(&s.tls, "tls", false, "")
	f.StringSliceVar(&s.address, "address", nil, "")
	f.BoolVar(&s.yes, "yes", false, "")
	f.BoolVar(&s.stale, "allow-stale", false, "")
	return f
}

// apply fills in the flags of a command line from a file's text and an environment.
func apply(t *testing.T, text string, env environment, line ...string) (settings, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yaml")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	loaded, err := config.Load(file, env.lookup)
	require.NoError(t, err)
	var s settings
	flags := s.flags()
	require.NoError(t, flags.Parse(line))
	return s, loaded.Apply(flags)
}

func TestPrecedence(t *testing.T) {
	const file = "backup-dir: file\ntimeout: 3s\ntls: true\naddress: [a:1, b:2]\n"
	env := environment{"REDISCTL_BACKUP_DIR": "env", "REDISCTL_ADDRESS": "c:3,d:4"}
	for name, c := range map[string]struct {
		file string
		env  environment
		line []string
		want settings
	}{
		"defaults":                         {want: settings{dir: "default", timeout: time.Second}},
		"file":                             {file: file, want: settings{dir: "file", timeout: 3 * time.Second, tls: true, address: []string{"a:1", "b:2"}}},
		"environment":                      {file: file, env: env, want: settings{dir: "env", timeout: 3 * time.Second, tls: true, address: []string{"c:3", "d:4"}}},
		"flags":                            {file: file, env: env, line: []string{"--backup-dir=flag", "--tls=false"}, want: settings{dir: "flag", timeout: 3 * time.Second, address: []string{"c:3", "d:4"}}},
		"the default typed":                {file: file, env: env, line: []string{"--backup-dir=default"}, want: settings{dir: "default", timeout: 3 * time.Second, tls: true, address: []string{"c:3", "d:4"}}},
		"an empty variable does not count": {file: file, env: environment{"REDISCTL_BACKUP_DIR": ""}, want: settings{dir: "file", timeout: 3 * time.Second, tls: true, address: []string{"a:1", "b:2"}}},
		"an override is never configured":  {file: "allow-stale: true", env: environment{"REDISCTL_ALLOW_STALE": "true"}, want: settings{dir: "default", timeout: time.Second}},
		"consent is never configured":      {file: "yes: true", env: environment{"REDISCTL_YES": "true"}, want: settings{dir: "default", timeout: time.Second}},
		"only the prefix counts":           {env: environment{"BACKUP_DIR": "x", "TIMEOUT": "9s"}, want: settings{dir: "default", timeout: time.Second}},
		"keys in any case":                 {file: "Backup-Dir: file", want: settings{dir: "file", timeout: time.Second}},
		"one address":                      {file: "address: a:1", want: settings{dir: "default", timeout: time.Second, address: []string{"a:1"}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := apply(t, c.file, c.env, c.line...)
			require.NoError(t, err)
			assert.Equal(t, c.want, got)
		})
	}
}

// TestBadValueNamesItsPlace: the user must learn which file or variable to correct.
func TestBadValueNamesItsPlace(t *testing.T) {
	_, err := apply(t, "timeout: soon", nil)
	assert.ErrorContains(t, err, "config.yaml: ")
	assert.ErrorContains(t, err, "--timeout")
	_, err = apply(t, "", environment{"REDISCTL_TLS": "perhaps"})
	assert.ErrorContains(t, err, "REDISCTL_TLS: ")
}

func TestCheck(t *testing.T) {
	known := []string{"backup-dir", "timeout"}
	for text, want := range map[string]string{
		"":                           "",
		"backup-dir: x\ntimeout: 1s": "",
		"backup_dir: x\ntiemout: 1s": "unknown keys in FILE: backup_dir, tiemout",
		"defaults:\n  timeout: 1s":   "unknown keys in FILE: defaults.timeout",
		"yes: true":                  "FILE sets yes, which must be typed: --yes",
	} {
		file := filepath.Join(t.TempDir(), "FILE")
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		s, err := config.Load(file, environment{}.lookup)
		require.NoError(t, err)
		err = s.Check(known)
		if want == "" {
			assert.NoError(t, err, text)
			continue
		}
		require.Error(t, err, text)
		assert.Equal(t, want, shortened(err.Error(), file), text)
	}
}

// shortened shortens the path of file in text.
func shortened(text, file string) string {
	return strings.ReplaceAll(text, file, filepath.Base(file))
}

func TestWhichFileIsRead(t *testing.T) {
	dir := t.TempDir()
	write := func(name string) string {
		file := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o700))
		require.NoError(t, os.WriteFile(file, []byte("timeout: 1s\n"), 0o600))
		return file
	}
	inHome := write("home/.config/redisctl/config.yaml")
	inXDG := write("xdg/redisctl/config.yaml")
	named := write("named.yaml")
	home, xdg := filepath.Join(dir, "home"), filepath.Join(dir, "xdg")
	for name, c := range map[string]struct {
		file string
		env  environment
		want string
	}{
		"named":                  {named, environment{"HOME": home}, named},
		"home":                   {"", environment{"HOME": home}, inHome},
		"XDG":                    {"", environment{"HOME": home, "XDG_CONFIG_HOME": xdg}, inXDG},
		"a relative XDG is none": {"", environment{"HOME": home, "XDG_CONFIG_HOME": "xdg"}, inHome},
		"no home":                {"", environment{}, ""},
		"no file in the home":    {"", environment{"HOME": dir}, ""},
	} {
		s, err := config.Load(c.file, c.env.lookup)
		require.NoError(t, err, name)
		assert.Equal(t, c.want, s.File, name)
	}
	_, err := config.Load(filepath.Join(dir, "nosuch.yaml"), environment{}.lookup)
	assert.ErrorContains(t, err, "nosuch.yaml", "a named file must exist")
	_, err = config.Load("", environment{"HOME": filepath.Join(write("file"), "..", "file")}.lookup)
	assert.Error(t, err, "a home that is a file")
}

func TestBrokenFile(t *testing.T) {
	for _, text := range []string{"a: [", "just text", "\t"} {
		file := filepath.Join(t.TempDir(), "config.yaml")
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		_, err := config.Load(file, environment{}.lookup)
		assert.ErrorContains(t, err, file, "%q", text)
	}
}

func TestEnvName(t *testing.T) {
	assert.Equal(t, "REDISCTL_TLS_SERVER_NAME", config.EnvName("tls-server-name"))
}

// TestConfigurable: what gives consent must be typed each time.
func TestConfigurable(t *testing.T) {
	for _, flag := range []string{"yes", "promote", "dry-run", "manifests", "allow-lag", "ignore-space"} {
		assert.False(t, config.Configurable(flag), flag)
	}
	assert.True(t, config.Configurable("promote-after"))
}
