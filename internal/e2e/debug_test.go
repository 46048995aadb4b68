package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestDebug looks at one release with each of the commands for that.
func TestDebug(t *testing.T) {
	e := setup(t)
	t.Parallel()
	const password = "debug-s3cret-word"
	r := e.install(t, e.namespace(t, "debug"), chart{files: []string{"replica.yaml", "metrics.yaml"}, password: password, config: quickSync})
	s := r.session(t)

	t.Run("shell", func(t *testing.T) {
		s := s.in(t)
		assert.Equal(t, "OK\na b\n", s.withInput("SET greeting \"a b\"\nGET greeting\n").run("shell").exits(0).stdout)
		s.run("shell", "--bash", "--pod", r.podName(1)).exits(0)
		shellInTerminal(t, s)
	})
	t.Run("logs", func(t *testing.T) {
		res := s.in(t).run("logs", "--grep", "Ready to accept").exits(0)
		for i := range 3 {
			res.shows(r.podName(i) + " |")
		}
		s.in(t).run("logs", "--container", "nope").exits(2).says(`no container "nope"`)
		followRestart(t, s.in(t), r)
	})
	t.Run("describe and events", func(t *testing.T) {
		s.in(t).run("describe").exits(0).shows("data-"+r.podName(0), "readiness", "LEADS TO", "primary "+r.podName(0))
		s.in(t).run("events").exits(0).shows("Pod/" + r.podName(0))
	})
	t.Run("top", func(t *testing.T) {
		type frame struct {
			Releases []struct {
				Primary   string
				Instances []struct{ Name, Role, Source string }
			}
		}
		f := decode[frame](s.in(t).run("top", "--once", "-o", "json").exits(0))
		require.Len(t, f.Releases, 1)
		assert.Equal(t, r.podName(0), f.Releases[0].Primary)
		assert.Len(t, f.Releases[0].Instances, 3)
		s.in(t).run("top").exits(2).says("redisctl top --once")
	})
	t.Run("a pod is added", func(t *testing.T) { watchScaling(t, s.in(t), r) })
	t.Run("port-forward elsewhere", func(t *testing.T) { forwardElsewhere(t, s.in(t), r, password) })
	t.Run("port-forward follows a failover", func(t *testing.T) { forwardFailover(t, s.in(t), r, password) })
}

// withInput returns the session with something on stdin.
func (s *session) withInput(text string) *session {
	clone := *s
	clone.input = text
	return &clone
}

// shellInTerminal types into a session, and changes the size of its window.
func shellInTerminal(t *testing.T, s *session) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), runLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.program, append([]string{"shell", "--bash"}, s.flags...)...)
	for name, value := range s.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	terminal, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 80})
	require.NoError(t, err)
	defer func() { _ = terminal.Close() }()
	seen := &synced{}
	go func() { _, _ = io.Copy(seen, terminal) }()
	types := func(line, want string) {
		t.Helper()
		_, err := terminal.WriteString(line)
		require.NoError(t, err)
		eventually(t, want, func(context.Context) error {
			if !strings.Contains(seen.String(), want) {
				return errors.New("not there yet: " + seen.String())
			}
			return nil
		})
	}
	types("stty size\n", "24 80")
	types("sleep 100; echo $((40+2))\n", "sleep 100")
	require.NoError(t, pty.Setsize(terminal, &pty.Winsize{Rows: 30, Cols: 100}))
	types("\x03", "^C")
	// The size travels in a stream of its own, and keys may be faster: ask until it is there.
	eventually(t, "the new size", func(context.Context) error {
		if strings.Contains(seen.String(), "30 100") {
			return nil
		}
		_, err := terminal.WriteString("stty size\n")
		return errors.Join(errors.New("not there yet: "+seen.String()), err)
	})
	_, err = terminal.WriteString("exit 7\n")
	require.NoError(t, err)
	var exit *exec.ExitError
	require.ErrorAs(t, cmd.Wait(), &exit, seen.String())
	assert.Equal(t, 7, exit.ExitCode())
}

// synced is a buffer for two goroutines.
type synced struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *synced) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *synced) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// followRestart deletes a pod while its log is followed.
func followRestart(t *testing.T, s *session, r *release) {
	t.Helper()
	out := &synced{}
	ctx, cancel := context.WithTimeout(t.Context(), runLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.program, append([]string{"logs", "-f", "--tail", "1", "--pod", r.podName(2)}, s.flags...)...)
	cmd.Stdout = out
	for name, value := range s.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	require.NoError(t, cmd.Start())
	eventually(t, "the first line", func(context.Context) error { return absent(out, "|") })
	require.NoError(t, r.env.CoreV1().Pods(r.namespace).Delete(t.Context(), r.podName(2), metav1.DeleteOptions{}))
	eventually(t, "the new pod's log", func(context.Context) error { return absent(out, "Redis is starting") })
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	require.NoError(t, cmd.Wait())
	r.awaitReady(t)
}

// goesOn starts a command that goes on until it is interrupted, which stop does.
func (s *session) goesOn(t *testing.T, args ...string) (stdout, stderr *synced, stop func()) {
	t.Helper()
	stdout, stderr = &synced{}, &synced{}
	ctx, cancel := context.WithTimeout(t.Context(), runLimit)
	cmd := exec.CommandContext(ctx, s.program, append(args, s.flags...)...)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	for name, value := range s.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	require.NoError(t, cmd.Start())
	return stdout, stderr, func() {
		defer cancel()
		require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
		require.NoError(t, cmd.Wait(), stderr.String())
	}
}

// watchScaling adds a pod while logs and events are followed, and takes it away.
func watchScaling(t *testing.T, s *session, r *release) {
	t.Helper()
	lines, said, stopLogs := s.goesOn(t, "logs", "--follow", "--tail", "1")
	seen, _, stopEvents := s.goesOn(t, "events", "--watch")
	eventually(t, "the first line", func(context.Context) error { return absent(lines, "|") })
	scale := func(n int) {
		sets := r.env.AppsV1().StatefulSets(r.namespace)
		size, err := sets.GetScale(t.Context(), r.workload, metav1.GetOptions{})
		require.NoError(t, err)
		size.Spec.Replicas = int32(n)
		_, err = sets.UpdateScale(t.Context(), r.workload, size, metav1.UpdateOptions{})
		require.NoError(t, err)
	}
	scale(4)
	eventually(t, "the new pod's log", func(context.Context) error { return absent(lines, r.podName(3)+" |") })
	assert.Contains(t, said.String(), r.podName(3)+" is new")
	eventually(t, "the new pod's events", func(context.Context) error { return absent(seen, "Pod/"+r.podName(3)+" Started") })
	stopLogs()
	stopEvents()
	scale(3)
	eventually(t, "the fourth pod is gone", func(ctx context.Context) error {
		_, err := r.env.CoreV1().Pods(r.namespace).Get(ctx, r.podName(3), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.New("it is still there")
	})
}

// forwardElsewhere reaches a replica, a Service and the exporter.
func forwardElsewhere(t *testing.T, s *session, r *release, password string) {
	t.Helper()
	address := func(args ...string) (string, func()) {
		out, _, stop := s.goesOn(t, append([]string{"port-forward", "0"}, args...)...)
		eventually(t, "the address", func(context.Context) error { return absent(out, "\n") })
		return strings.TrimSpace(out.String()), stop
	}
	for to, role := range map[string]string{"replica": "role:slave", "service/" + r.workload: "role:master"} {
		at, stop := address("--to", to)
		client := goredis.NewClient(&goredis.Options{Addr: at, Password: password, MaxRetries: -1})
		info, err := client.Info(t.Context(), "replication").Result()
		require.NoError(t, err)
		assert.Contains(t, info, role, to)
		require.NoError(t, client.Close())
		stop()
	}
	at, stop := address("--port", "metrics")
	defer stop()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+at+"/metrics", http.NoBody)
	require.NoError(t, err)
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	assert.Contains(t, string(text), "redis_up 1")
}

func absent(out *synced, text string) error {
	if !strings.Contains(out.String(), text) {
		return errors.New("not there yet: " + out.String())
	}
	return nil
}

// forwardFailover writes through a forwarded port while the primary moves: the client only
// connects again, and is never told that a server is read-only.
func forwardFailover(t *testing.T, s *session, r *release, password string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), runLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.program, append([]string{"port-forward", "0"}, s.flags...)...)
	for name, value := range s.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	address, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	client := goredis.NewClient(&goredis.Options{Addr: strings.TrimSpace(address), Password: password, MaxRetries: -1})
	defer func() { _ = client.Close() }()
	require.NoError(t, client.Set(ctx, "before", 1, 0).Err())
	s.run("promote", r.podName(1), "--yes").exits(0)
	eventually(t, "a write to the new primary", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		if err := client.Set(ctx, "after", 1, 0).Err(); err != nil {
			return err
		}
		info, err := client.Info(ctx, "replication").Result()
		if err == nil && !strings.Contains(info, "role:master") {
			err = errors.New("this is a replica")
		}
		return err
	})
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	require.NoError(t, cmd.Wait())
}
