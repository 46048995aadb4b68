package session_test

import (
	"bytes"
	"context"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"os"

	"github.com/creack/pty"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/operationtest"
	"github.com/redisctl/redisctl/internal/operation/session"
)

// machine runs the commands of sessions on this machine, as a container would.
type machine struct {
	t *testing.T
	// bin is the only folder in which programs are found, besides the system's.
	bin  string
	argv []string
}

func (m *machine) Interact(ctx context.Context, _, _, _ string, command []string, s session.Streams) error {
	m.argv = command
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = []string{"PATH=" + m.bin + ":/usr/bin:/bin"}
	if !s.TTY {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = s.In, s.Out, s.Err
		return cmd.Run()
	}
	f, err := pty.Start(cmd)
	require.NoError(m.t, err)
	defer func() { _ = f.Close() }()
	go func() { _, _ = io.Copy(f, s.In) }()
	_, _ = io.Copy(s.Out, f) // ends with EIO when the program has
	return cmd.Wait()
}

// client installs a redis-cli that shows what it was given.
func client(t *testing.T) *machine {
	t.Helper()
	bin := t.TempDir()
	script := "#!/bin/sh\nprintf 'password=[%s]\\n' \"$REDISCLI_AUTH\"\nfor a in \"$@\"; do printf '<%s>' \"$a\"; done\necho\n[ -t 0 ] || cat\nexit 7\n"
	require.NoError(t, os.WriteFile(filepath.Join(bin, "redis-cli"), []byte(script), 0o700)) //nolint:gosec // a program
	return &machine{t: t, bin: bin}
}

const password = "p w'\"\\0$(id)`é%s"

func open(t *testing.T, m *machine, o session.Options, s session.Streams) (string, error) {
	t.Helper()
	var out bytes.Buffer
	s.Out, s.Err = &out, &out
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	d := operationtest.Deployment(1)
	d.Workload.Container = "redis"
	err := session.Open(ctx, m, d, d.Instances[0], o, s)
	assert.NotContains(t, strings.Join(m.argv, " "), "p w", "the password is in no argument list")
	return out.String(), err
}

// TestPasswordAndArguments reach redis-cli as they are, whatever is in them.
func TestPasswordAndArguments(t *testing.T) {
	args := []string{"SET", "a b", "x\ny'\"$HOME\\n", "", "end\n"}
	for _, tty := range []bool{false, true} {
		out, err := open(t, client(t), session.Options{Args: args, Password: password}, session.Streams{In: strings.NewReader(""), TTY: tty})
		out = strings.ReplaceAll(out, "\r\n", "\n")
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit)
		assert.Equal(t, 7, exit.ExitCode())
		assert.Equal(t, "password=["+password+"]\n<-h><127.0.0.1><-p><6379><SET><a b><x\ny'\"$HOME\\n><><end\n>\n", out, "tty %v", tty)
	}
}

func TestPipedCommands(t *testing.T) {
	out, _ := open(t, client(t), session.Options{}, session.Streams{In: strings.NewReader("PING\nGET k\n")})
	assert.Equal(t, "password=[]\n<-h><127.0.0.1><-p><6379>\nPING\nGET k\n", out)
}

func TestShell(t *testing.T) {
	out, err := open(t, client(t), session.Options{Shell: true, Password: password}, session.Streams{In: strings.NewReader("echo hi; exit 5\n")})
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	assert.Equal(t, 5, exit.ExitCode())
	assert.Equal(t, "hi\n", out)
}

// TestWhatAnImageLacks is said, with what to use instead.
func TestWhatAnImageLacks(t *testing.T) {
	// No redis-cli: the shell of this machine stands for that of the image.
	m := &machine{t: t, bin: t.TempDir()}
	if _, err := exec.LookPath("redis-cli"); err != nil {
		_, err := open(t, m, session.Options{}, session.Streams{In: strings.NewReader("")})
		assert.ErrorContains(t, err, "container redis has no redis-cli")
	}
	_, err := open(t, m, session.Options{Args: []string{"-a", "x"}}, session.Streams{})
	assert.Equal(t, operation.Usage, operation.KindOf(err))
	d := operationtest.Deployment(1)
	err = session.Open(t.Context(), noShell{}, d, d.Instances[0], session.Options{}, session.Streams{})
	assert.ErrorContains(t, err, "has no shell")
	d.Instances[0].Pod = nil
	err = session.Open(t.Context(), noShell{}, d, d.Instances[0], session.Options{}, session.Streams{})
	assert.ErrorContains(t, err, "is not a pod")
}

// noShell answers as containerd does.
type noShell struct{}

func (noShell) Interact(context.Context, string, string, string, []string, session.Streams) error {
	return operation.Errorf(operation.Failed, `unable to start container process: exec: "sh": executable file not found in $PATH`)
}
