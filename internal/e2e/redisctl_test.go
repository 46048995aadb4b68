package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// runLimit ends a redisctl that does not end by itself. No command of these tests
// may take that long.
const runLimit = 90 * time.Second

// session runs redisctl as a user would: in a folder, with an environment that
// names one cluster and nothing else of this machine.
type session struct {
	t       *testing.T
	program string
	// dir is the working folder, below which backups are stored by default.
	dir string
	env map[string]string
	// flags follow the arguments of every command.
	flags []string
	// secrets must not be in any output.
	secrets []string
	// input is what the commands read from stdin.
	input string
}

// session returns a session on the cluster, in an empty folder.
func (e *environment) session(t *testing.T, flags ...string) *session {
	t.Helper()
	return &session{
		t: t, program: e.redisctl, dir: t.TempDir(), flags: flags,
		env: map[string]string{
			"PATH": os.Getenv("PATH"), "HOME": t.TempDir(), "KUBECONFIG": e.kubeconfig,
		},
	}
}

// in returns the session for a subtest. The folder stays.
func (s *session) in(t *testing.T) *session {
	clone := *s
	clone.t = t
	return &clone
}

// with returns the session with an environment variable set.
func (s *session) with(name, value string) *session {
	clone := *s
	clone.env = map[string]string{name: value}
	for n, v := range s.env {
		if n != name {
			clone.env[n] = v
		}
	}
	return &clone
}

// command is a redisctl that was started.
type command struct {
	t              *testing.T
	cmd            *exec.Cmd
	begin          time.Time
	stdout, stderr bytes.Buffer // complete once done is closed
	secrets        []string
	done           chan struct{}
	err            error // of Wait, complete once done is closed
	took           time.Duration
}

// start starts redisctl.
func (s *session) start(args ...string) *command {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), runLimit)
	c := &command{t: s.t, begin: time.Now(), done: make(chan struct{}), secrets: s.secrets}
	c.cmd = exec.CommandContext(ctx, s.program, append(args, s.flags...)...)
	c.cmd.Dir, c.cmd.Stdout, c.cmd.Stderr = s.dir, &c.stdout, &c.stderr
	if s.input != "" {
		c.cmd.Stdin = strings.NewReader(s.input)
	}
	for name, value := range s.env {
		c.cmd.Env = append(c.cmd.Env, name+"="+value)
	}
	require.NoError(s.t, c.cmd.Start())
	go func() {
		defer close(c.done)
		c.err = c.cmd.Wait()
		c.took = time.Since(c.begin)
	}()
	s.t.Cleanup(func() {
		cancel() // kills what a failed test has left running
		<-c.done
	})
	return c
}

// running fails when the command has ended.
func (c *command) running() error {
	select {
	case <-c.done:
		return fmt.Errorf("redisctl has ended: %w\n%s%s", c.err, &c.stdout, &c.stderr)
	default:
		return nil
	}
}

// while waits for something that happens while the command runs.
func (c *command) while(what string, condition func(ctx context.Context) error) {
	c.t.Helper()
	ended := false
	eventually(c.t, what, func(ctx context.Context) error {
		if ended = c.running() != nil; ended {
			return nil
		}
		return condition(ctx)
	})
	require.False(c.t, ended, "redisctl ended before %s: %v\n%s%s", what, c.err, &c.stdout, &c.stderr)
}

func (c *command) signal(signal os.Signal) {
	c.t.Helper()
	require.NoError(c.t, c.running())
	require.NoError(c.t, c.cmd.Process.Signal(signal))
}

// wait returns what the command left behind.
func (c *command) wait() *result {
	c.t.Helper()
	<-c.done
	r := &result{
		t: c.t, args: c.cmd.Args[1:], stdout: c.stdout.String(), stderr: c.stderr.String(),
		code: c.cmd.ProcessState.ExitCode(), took: c.took,
	}
	var exit *exec.ExitError
	if c.err != nil && !errors.As(c.err, &exit) {
		require.NoError(c.t, c.err, "running redisctl %s", r.args)
	}
	require.Less(c.t, r.took, runLimit, "%s was killed because it did not end", r)
	for _, secret := range c.secrets {
		for form, text := range formsOf(secret) {
			assert.NotContains(c.t, r.stdout+r.stderr, text, "redisctl %s prints the password (%s)", r.args, form)
		}
	}
	return r
}

// run runs redisctl to its end.
func (s *session) run(args ...string) *result {
	s.t.Helper()
	return s.start(args...).wait()
}

// complete returns what the shell offers behind the words. The session's flags are
// not added: they would be completed.
func (s *session) complete(words ...string) []string {
	s.t.Helper()
	bare := *s
	bare.flags = nil
	// Completion may take two seconds; ten times as long is what hanging looks like.
	lines := bare.run(append([]string{"__complete"}, words...)...).exits(0).within(20 * time.Second).lines()
	for i, line := range lines {
		lines[i], _, _ = strings.Cut(line, "\t") // the description
	}
	last := len(lines) - 1
	require.Regexp(s.t, `^:\d+$`, lines[last], "cobra's directive to the shell")
	return lines[:last]
}

// result is what a user sees of a command.
type result struct {
	t              *testing.T
	args           []string
	stdout, stderr string
	// code is the exit code, -1 when a signal ended it.
	code int
	took time.Duration
}

// String shows everything, for messages.
func (r *result) String() string {
	return fmt.Sprintf("redisctl %s: exit code %d after %s\n--- stdout\n%s\n--- stderr\n%s",
		strings.Join(r.args, " "), r.code, r.took.Round(time.Millisecond), r.stdout, r.stderr)
}

// exits requires an exit code.
func (r *result) exits(code int) *result {
	r.t.Helper()
	require.Equal(r.t, code, r.code, "exit code of %s", r)
	return r
}

// shows asserts that stdout holds each of the texts.
func (r *result) shows(texts ...string) *result {
	r.t.Helper()
	for _, text := range texts {
		assert.Contains(r.t, r.stdout, text, "stdout of %s", r)
	}
	return r
}

// says asserts that stderr holds each of the texts.
func (r *result) says(texts ...string) *result {
	r.t.Helper()
	for _, text := range texts {
		assert.Contains(r.t, r.stderr, text, "stderr of %s", r)
	}
	return r
}

// quiet asserts that nothing but the result was printed.
func (r *result) quiet() *result {
	r.t.Helper()
	assert.Empty(r.t, r.stderr, "stderr of %s", r)
	return r
}

// within asserts that the command did not take longer. The limits that this is
// for, time-outs, are doubled by the callers: the machine may be busy.
func (r *result) within(limit time.Duration) *result {
	r.t.Helper()
	assert.Less(r.t, r.took, limit, "%s", r)
	return r
}

// lines returns stdout's lines.
func (r *result) lines() []string {
	return strings.Split(strings.TrimSuffix(r.stdout, "\n"), "\n")
}

// decode reads stdout as JSON.
func decode[T any](r *result) T {
	r.t.Helper()
	var value T
	require.NoError(r.t, json.Unmarshal([]byte(r.stdout), &value), "%s", r)
	return value
}
