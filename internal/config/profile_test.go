package config_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/config"
)

const profiled = `timeout: 1s
backup-dir: file
profiles:
  Prod.EU:
    context: arn:aws:eks/prod.eu
    timeout: 2s
    address: [a:1, b:2]
  staging:
    context: staging
    timeout: 3s
  staging-too:
    context: staging
  empty:
`

func loadText(t *testing.T, text string, env environment) *config.Settings {
	t.Helper()
	file := filepath.Join(t.TempDir(), "FILE")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	s, err := config.Load(file, env.lookup)
	require.NoError(t, err)
	return s
}

// Flag, environment, profile, file, default: the first that says something.
func TestProfilePrecedence(t *testing.T) {
	s := loadText(t, profiled, environment{"REDISCTL_ADDRESS": "env:1"})
	require.NoError(t, s.UseProfile("PROD.eu"))
	var got settings
	flags := got.flags()
	require.NoError(t, flags.Parse([]string{"--tls"}))
	require.NoError(t, s.Apply(flags))
	assert.Equal(t, settings{dir: "file", timeout: 2 * time.Second, tls: true, address: []string{"env:1"}}, got)
	for flag, want := range map[string]config.Origin{
		"tls":        {Source: config.SourceFlag},
		"address":    {Source: config.SourceEnvironment, Place: "REDISCTL_ADDRESS"},
		"timeout":    {Source: config.SourceProfile, Place: "prod.eu in " + s.File},
		"backup-dir": {Source: config.SourceFile, Place: s.File},
		"yes":        {Source: config.SourceDefault},
	} {
		assert.Equal(t, want, s.OriginOf(flags.Lookup(flag)), flag)
	}
}

func TestMatchProfile(t *testing.T) {
	s := loadText(t, profiled, nil)
	assert.True(t, s.NeedsContext())
	assert.Equal(t, []string{"empty", "prod.eu", "staging", "staging-too"}, s.Profiles())
	require.NoError(t, s.MatchProfile("minikube"))
	assert.Empty(t, s.Profile)
	require.NoError(t, s.MatchProfile("arn:aws:eks/prod.eu"))
	assert.Equal(t, "prod.eu", s.Profile)
	assert.ErrorContains(t, s.MatchProfile("staging"), "the profiles staging, staging-too in ")

	assert.ErrorContains(t, s.UseProfile("nosuch"), "it has empty, prod.eu, staging, staging-too")
	assert.ErrorContains(t, loadText(t, "timeout: 1s", nil).UseProfile("x"), "has no profiles")
	none, err := config.Load("", environment{}.lookup)
	require.NoError(t, err)
	assert.ErrorContains(t, none.UseProfile("x"), "there is no configuration file")
}

// A misspelt key in a profile is an error also while the profile is not used.
func TestCheckProfiles(t *testing.T) {
	known := []string{"backup-dir", "timeout", "context", "address", "profile"}
	assert.NoError(t, loadText(t, profiled, nil).Check(known))
	for text, want := range map[string]string{
		"profiles:\n  a:\n    tiemout: 1s":             "unknown keys in FILE: profiles.a.tiemout",
		"profiles:\n  a.b:\n    yes: true":             "FILE sets profiles.a.b.yes, which must be typed: --yes",
		"profiles:\n  a:\n    allow-lag: true":         "FILE sets profiles.a.allow-lag, which must be typed: --allow-lag",
		"profiles:\n  a:\n    profile: b":              "FILE: profiles.a.profile: a profile cannot choose a profile",
		"profiles:\n  a: 5":                            "FILE: the profile a must be a map of settings",
		"profiles: [a]":                                "FILE: profiles must map names to settings",
		"profiles:\n  a:\n    deep:\n      timeout: 1": "unknown keys in FILE: profiles.a.deep.timeout",
	} {
		s := loadText(t, text, nil)
		err := s.Check(known)
		require.Error(t, err, text)
		assert.Equal(t, want, shortened(err.Error(), s.File), text)
	}
}

func TestBadValueInAProfileNamesIt(t *testing.T) {
	s := loadText(t, "profiles:\n  a:\n    timeout: soon\n", nil)
	require.NoError(t, s.UseProfile("a"))
	var got settings
	assert.ErrorContains(t, s.Apply(got.flags()), "profile a in "+s.File+": ")
}
