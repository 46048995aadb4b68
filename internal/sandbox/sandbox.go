// Package sandbox starts throw-away Redis servers on this machine. It implements the
// ports of package drill.
//
// A server and its data end with redisctl, even when that is killed: a shell holds the
// reading end of a pipe whose other end redisctl has, and ends the server and removes
// the folder when the pipe does.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore/drill"
	"github.com/redisctl/redisctl/internal/redis"
)

// Program is a redis-server or valkey-server on this machine. It implements drill.Host.
type Program struct{ path string }

// Find returns the servers on the PATH, and none where there is no shell to end them.
func Find() []Program {
	if _, err := exec.LookPath("sh"); err != nil {
		return nil
	}
	var found []Program
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); err == nil {
			found = append(found, Program{path})
		}
	}
	return found
}

// At returns the server whose program is at path, or of that name on the PATH.
func At(path string) (Program, error) {
	found, err := exec.LookPath(path)
	if err == nil {
		_, err = exec.LookPath("sh")
	}
	if err != nil {
		return Program{}, operation.Errorf(operation.Usage, "no server can be started: %w", err)
	}
	return Program{found}, nil
}

// Name implements drill.Host.
func (p Program) Name() string { return p.path }

// versionLimit is how long a program may take to tell its version.
const versionLimit = 10 * time.Second

// Version asks the program for its version.
func (p Program) Version(ctx context.Context) (redis.Version, error) {
	ctx, cancel := context.WithTimeout(ctx, versionLimit)
	defer cancel()
	text, err := exec.CommandContext(ctx, p.path, "--version").Output()
	if err != nil {
		return redis.Version{}, p.failed("asking for its version", err)
	}
	v, err := redis.ParseProgramVersion(string(text))
	if err != nil {
		return redis.Version{}, p.failed("asking for its version", err)
	}
	return v, nil
}

func (p Program) failed(phase string, err error) error {
	return &operation.Error{Kind: operation.KindOf(err), Object: p.path, Phase: phase, Err: err}
}

// watchScript waits until it may start the server ($2 and what follows), and until either
// the server or stdin has ended; then nothing of them is left. $1 is the folder. The shell
// itself must not write to stderr, which ends with redisctl: "Killed" would be its end.
const watchScript = `dir=$1
shift
exec 3<&0 4>&2 2>/dev/null
code=0
if read -r line <&3; then
	"$@" </dev/null 2>&4 3<&- 4>&- &
	server=$!
	{ read -r line <&3; kill -KILL "$server" 2>/dev/null; } &
	watch=$!
	wait "$server"
	code=$?
	kill "$watch" 2>/dev/null
fi
rm -rf "$dir"
exit "$code"`

// Open implements drill.Host.
func (p Program) Open(ctx context.Context, n drill.Needs) (drill.Server, error) {
	version, err := p.Version(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "redisctl-drill-") // readable for its owner only
	if err != nil {
		return nil, p.failed("making a folder", err)
	}
	s := &server{program: p, version: version, dir: dir, ended: make(chan struct{})}
	if err := s.watch(ctx); err != nil {
		return nil, errors.Join(p.failed("starting", err), os.RemoveAll(dir))
	}
	s.life = time.AfterFunc(n.Life, func() { _ = s.pipe.Close() }) // closed twice at worst
	return s, nil
}

// server implements drill.Server.
type server struct {
	program Program
	version redis.Version
	dir     string
	pipe    io.WriteCloser
	life    *time.Timer
	output  tail

	ended chan struct{}
	end   error // once ended is closed
}

// closeLimit is how long the shell may take to end the server.
const closeLimit = 10 * time.Second

// watch starts the shell.
func (s *server) watch(ctx context.Context) error {
	cmd := exec.CommandContext(context.WithoutCancel(ctx), "sh", "-c", watchScript, "sh", s.dir, s.program.path, s.file("redis.conf"))
	cmd.Stdout, cmd.Stderr = &s.output, &s.output
	// The terminal's Ctrl-C is for redisctl, which ends the server then.
	detach(cmd)
	var err error
	if s.pipe, err = cmd.StdinPipe(); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() {
		defer close(s.ended)
		s.end = cmd.Wait()
	}()
	return nil
}

func (s *server) file(name string) string { return filepath.Join(s.dir, filepath.FromSlash(name)) }

// socket has a short name: the path of a socket can have some 100 bytes (sun_path).
func (s *server) socket() string { return s.file("s") }

// Name implements drill.Server.
func (s *server) Name() string { return s.program.path }

// Version implements drill.Server.
func (s *server) Version() redis.Version { return s.version }

// Password implements drill.Server: nobody else can reach the socket.
func (s *server) Password() string { return "" }

// Put implements drill.Server.
func (s *server) Put(_ context.Context, name string, size int64, data io.Reader) (err error) {
	if !filepath.IsLocal(filepath.FromSlash(name)) {
		return fmt.Errorf("%q is not below the data folder", name)
	}
	path := s.file(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
	}()
	n, err := io.Copy(f, data)
	if err == nil && n != size {
		err = operation.Errorf(operation.Corrupt, "%d bytes, not %d", n, size)
	}
	return err
}

// Start implements drill.Server.
func (s *server) Start(ctx context.Context, config []string) error {
	lines := append([]string{
		"port 0", "unixsocket " + quote(s.socket()), "unixsocketperm 700", "dir " + quote(s.dir), "daemonize no", `logfile ""`,
	}, config...)
	if err := s.Put(ctx, "redis.conf", textSize(lines), strings.NewReader(text(lines))); err != nil {
		return s.program.failed("starting", err)
	}
	if _, err := io.WriteString(s.pipe, "start\n"); err != nil {
		return s.program.failed("starting", err)
	}
	return nil
}

func text(lines []string) string    { return strings.Join(lines, "\n") + "\n" }
func textSize(lines []string) int64 { return int64(len(text(lines))) }
func quote(value string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value) + `"`
}

// Ended implements drill.Server.
func (s *server) Ended(context.Context) error {
	select {
	case <-s.ended:
	default:
		return nil
	}
	end := &drill.EndError{Reason: "exit code 0", Log: s.output.lines()}
	var exit *exec.ExitError
	if errors.As(s.end, &exit) {
		end.Code, end.Reason = exit.ExitCode(), fmt.Sprintf("exit code %d", exit.ExitCode())
	} else if s.end != nil {
		end.Reason = s.end.Error()
	}
	return end
}

// Dial implements drill.Server.
func (s *server) Dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "unix", s.socket())
}

// Deployment implements drill.Server.
func (s *server) Deployment() *operation.Deployment {
	return &operation.Deployment{Name: s.Name(), Instances: []operation.Instance{{Name: s.Name(), Host: "localhost"}}}
}

// Close implements drill.Server.
func (s *server) Close(ctx context.Context) error {
	s.life.Stop()
	_ = s.pipe.Close() // closed already when the server's life is over
	ctx, cancel := context.WithTimeout(ctx, closeLimit)
	defer cancel()
	select {
	case <-s.ended:
	case <-ctx.Done():
		return s.program.failed("ending", fmt.Errorf("it does not end: %w", context.Cause(ctx)))
	}
	if err := os.RemoveAll(s.dir); err != nil { // if the shell was killed
		return s.program.failed("removing its data", err)
	}
	return nil
}
