package process

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func sleeper(t *testing.T, args ...string) Daemon {
	t.Helper()
	path, err := exec.LookPath("sleep")
	require.NoError(t, err)
	return Daemon{Name: "sleeper", Path: path, Args: args, Log: filepath.Join(t.TempDir(), "log")}
}

func newSupervisor(t *testing.T) Supervisor {
	t.Helper()
	s := Supervisor{Dir: filepath.Join(t.TempDir(), "processes")}
	t.Cleanup(func() {
		names, err := s.Names()
		require.NoError(t, err)
		for _, name := range names {
			require.NoError(t, s.Stop(t.Context(), name, time.Second))
		}
	})
	return s
}

func recorded(t *testing.T, s Supervisor, name string) Identity {
	t.Helper()
	r, err := s.read(name)
	require.NoError(t, err)
	return r.Identity
}

func TestStartIsIdempotent(t *testing.T) {
	s, d := newSupervisor(t), sleeper(t, "600")
	started, err := s.Start(t.Context(), d)
	require.NoError(t, err)
	assert.True(t, started)
	assert.True(t, s.Running("sleeper"))
	first := recorded(t, s, "sleeper")
	assert.True(t, s.Owns(first))

	started, err = s.Start(t.Context(), d)
	require.NoError(t, err)
	assert.False(t, started)
	assert.Equal(t, first, recorded(t, s, "sleeper"))
	require.NoError(t, s.Stop(t.Context(), "sleeper", time.Second))
	assert.False(t, first.Alive())
}

func TestStartReplacesWhatRunsDifferently(t *testing.T) {
	input := filepath.Join(t.TempDir(), "config")
	require.NoError(t, os.WriteFile(input, []byte("one"), 0o600))
	for name, change := range map[string]func(t *testing.T, d *Daemon){
		"other arguments": func(_ *testing.T, d *Daemon) { d.Args = []string{"601"} },
		"other environment": func(_ *testing.T, d *Daemon) {
			d.Env = []string{"X=1"}
		},
		"other configuration": func(t *testing.T, _ *Daemon) {
			require.NoError(t, os.WriteFile(input, []byte("two"), 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, d := newSupervisor(t), sleeper(t, "600")
			d.Inputs = []string{input}
			_, err := s.Start(t.Context(), d)
			require.NoError(t, err)
			first := recorded(t, s, "sleeper")
			change(t, &d)
			started, err := s.Start(t.Context(), d)
			require.NoError(t, err)
			assert.True(t, started)
			assert.False(t, first.Alive())
			assert.True(t, s.Running("sleeper"))
			require.NoError(t, s.Stop(t.Context(), "sleeper", time.Second))
		})
	}
}

func TestStartAfterTheProcessWasKilled(t *testing.T) {
	s, d := newSupervisor(t), sleeper(t, "600")
	_, err := s.Start(t.Context(), d)
	require.NoError(t, err)
	require.NoError(t, recorded(t, s, "sleeper").Terminate(t.Context(), 0))
	assert.False(t, s.Running("sleeper"))
	started, err := s.Start(t.Context(), d)
	require.NoError(t, err)
	assert.True(t, started)
	require.NoError(t, s.Stop(t.Context(), "sleeper", time.Second))
}

func TestStopKillsWhatIgnoresTheRequest(t *testing.T) {
	shell, err := exec.LookPath("sh")
	require.NoError(t, err)
	s := newSupervisor(t)
	log := filepath.Join(t.TempDir(), "log")
	_, err = s.Start(t.Context(), Daemon{
		Name: "stubborn", Path: shell, Log: log, Env: []string{"PATH=" + os.Getenv("PATH")},
		Args: []string{"-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"},
	})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		text, err := os.ReadFile(log)
		return err == nil && len(text) > 0
	}, 10*time.Second, 10*time.Millisecond)
	id := recorded(t, s, "stubborn")
	require.NoError(t, s.Stop(t.Context(), "stubborn", 50*time.Millisecond))
	assert.False(t, id.Alive())
	names, err := s.Names()
	require.NoError(t, err)
	assert.Empty(t, names)
}

func TestStopOfWhatNeverRan(t *testing.T) {
	assert.NoError(t, newSupervisor(t).Stop(t.Context(), "nothing", time.Second))
}

func TestRunningFrom(t *testing.T) {
	s, d := newSupervisor(t), sleeper(t, "600")
	dir := t.TempDir()
	program, err := os.ReadFile(d.Path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "multi"), program, 0o700))
	require.NoError(t, os.Symlink("multi", filepath.Join(dir, "sleep")))
	d.Path = filepath.Join(dir, "sleep")
	_, err = s.Start(t.Context(), d)
	require.NoError(t, err)
	// A program replaced while it runs is still the one that runs.
	require.NoError(t, os.Remove(filepath.Join(dir, "multi")))

	found, err := RunningFrom(dir, []string{"sleep"})
	require.NoError(t, err)
	require.Len(t, found, 1)
	assert.Equal(t, recorded(t, s, "sleeper"), found[0].Identity)
	found, err = RunningFrom(dir, []string{"kubectl"})
	require.NoError(t, err)
	assert.Empty(t, found)
	require.NoError(t, s.Stop(t.Context(), "sleeper", time.Second))
}
