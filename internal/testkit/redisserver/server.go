// Package redisserver starts real Redis and Valkey servers of several versions
// for tests, fills them with data and compares what they hold.
//
// The servers are Debian's own builds, prepared by `make servers` as root file
// systems below the cache folder ($REDISCTL_CACHE, by default the user's cache
// folder). Their binaries run without chroot through the root's own dynamic
// loader, so that tests need neither root nor containers.
package redisserver

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/require"
)

// The prepared versions, oldest first.
const (
	Redis60  = "redis-6.0"
	Redis70  = "redis-7.0"
	Redis80  = "redis-8.0"
	Valkey81 = "valkey-8.1"
)

// readyTimeout bounds the wait for a server's first PONG (unless Options say
// otherwise), and for its end.
const readyTimeout = 30 * time.Second

// Versions returns every prepared version for table tests. It skips the test
// under -short and fails it when a version is not prepared.
func Versions(t testing.TB) []string {
	t.Helper()
	versions := []string{Redis60, Redis70, Redis80, Valkey81}
	for _, v := range versions {
		binary(t, v)
	}
	return versions
}

// EachVersion runs a test against every prepared version, at the same time.
func EachVersion(t *testing.T, test func(t *testing.T, version string)) {
	t.Helper()
	for _, version := range Versions(t) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			test(t, version)
		})
	}
}

// Options says which server to start and how. The zero value is an empty Redis
// 7.0 without a password, without persistence, on a free port of 127.0.0.1.
type Options struct {
	// Version is one of the constants, Redis70 when empty.
	Version string
	// Password becomes requirepass, and masterauth of a replica.
	Password string
	// Config are further lines of redis.conf. They follow, and so override, the
	// test kit's own.
	Config []string
	// ReplicaOf makes the server follow another one. Start returns without
	// waiting for the link; see Server.WaitInSync.
	ReplicaOf *Server
	// TLS makes the port speak TLS only, with a certificate for 127.0.0.1 and
	// localhost; see Server.TLS.
	TLS bool
	// Dir is the server's working folder, for example one that holds a
	// dump.rdb. Empty means a new temporary one.
	Dir string
	// ReadyTimeout bounds the wait for the first PONG, 30 s when 0. Servers answer it
	// once they have loaded their data.
	ReadyTimeout time.Duration
}

// Server is a running server. It ends with the test.
type Server struct {
	Version  string
	Host     string // 127.0.0.1
	Port     int
	Addr     string // Host:Port
	Password string
	// Dir holds redis.conf, the log and the data files (dump.rdb).
	Dir string
	// TLS is nil unless Options.TLS was set.
	TLS *Certificates

	t       testing.TB
	options Options
	process *process
	client  *goredis.Client
}

// Start starts a server and waits until it answers PING. A failure ends the test
// and shows the server's log, as does any failure of the test itself.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	if o.Version == "" {
		o.Version = Redis70
	}
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	s := &Server{
		Version: o.Version, Host: "127.0.0.1", Password: o.Password, Dir: o.Dir,
		t: t, options: o,
	}
	if o.ReadyTimeout == 0 {
		s.options.ReadyTimeout = readyTimeout
	}
	if o.TLS {
		s.TLS = newCertificates(t, o.Dir)
	}
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			t.Logf("log of %s at %s:\n%s", s.Version, s.Addr, tail(s.Log(), 8<<10))
		}
	})

	// Another process may take the free port before the server does.
	const attempts = 5
	for range attempts {
		s.Port = freePort(t)
		s.Addr = net.JoinHostPort(s.Host, strconv.Itoa(s.Port))
		err := s.start()
		if err == nil {
			return s
		}
		if !strings.Contains(s.Log(), "Address already in use") {
			require.NoError(t, err)
		}
	}
	require.FailNow(t, "no free port", "the server's port was taken %d times", attempts)
	return nil
}

// Restart ends the server if it still runs (SIGKILL) and starts it again with
// the same folder, port and configuration.
func (s *Server) Restart() {
	s.t.Helper()
	s.Kill()
	require.NoError(s.t, s.start())
}

// PID is the server's process ID.
func (s *Server) PID() int { return s.process.pid }

// Signal sends a signal to the server, for example SIGSTOP to make it hang and
// SIGCONT to wake it.
func (s *Server) Signal(signal syscall.Signal) {
	s.t.Helper()
	require.NoError(s.t, syscall.Kill(s.process.pid, signal))
}

// KillChildren kills the processes that the server has forked to save or to
// rewrite its AOF, and waits until there were some.
func (s *Server) KillChildren() {
	s.t.Helper()
	s.WaitFor("a child process", func(context.Context) bool {
		children := s.children()
		for _, pid := range children {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have just ended
		}
		return len(children) > 0
	})
}

// children finds the server's child processes in /proc.
func (s *Server) children() []int {
	s.t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(s.t, err)
	var children []int
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		// "pid (name) state ppid ...": the name may hold anything.
		_, rest, _ := strings.Cut(string(text), ") ")
		fields := strings.Fields(rest)
		if len(fields) > 1 && fields[1] == strconv.Itoa(s.PID()) && fields[0] != "Z" {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			require.NoError(s.t, err)
			children = append(children, pid)
		}
	}
	return children
}

// Stop ends the server with SIGTERM and waits until it is gone.
func (s *Server) Stop() {
	s.t.Helper()
	s.Signal(syscall.SIGTERM)
	select {
	case <-s.process.done:
	case <-time.After(readyTimeout):
		require.FailNow(s.t, "the server does not stop", "%s at %s", s.Version, s.Addr)
	}
	s.Kill()
}

// Kill ends the server and its children at once. Killing an ended server does
// nothing.
func (s *Server) Kill() {
	if s.client != nil {
		_ = s.client.Close() // it may be closed already; there is nothing to lose
		s.client = nil
	}
	if s.process != nil {
		s.process.kill()
		s.process = nil
	}
}

// Client returns a go-redis client for the test's own use. It is closed with the
// server.
func (s *Server) Client() *goredis.Client {
	if s.client == nil {
		s.client = s.NewClient(0)
	}
	return s.client
}

// NewClient returns a client for one logical database. The caller closes it.
func (s *Server) NewClient(db int) *goredis.Client {
	o := &goredis.Options{
		Addr: s.Addr, Password: s.Password, DB: db, Protocol: 2, DisableIdentity: true,
		ReadTimeout: time.Minute, ContextTimeoutEnabled: true, PipelinePoolSize: -1, DialerRetries: 1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if s.TLS != nil {
		o.TLSConfig = s.TLS.Client.Clone()
	}
	return goredis.NewClient(o)
}

// Dial opens a bare TCP connection to the server.
func (s *Server) Dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", s.Addr)
}

// Log returns what the server has logged so far.
func (s *Server) Log() string {
	text, err := os.ReadFile(filepath.Join(s.Dir, "server.log"))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// WaitFor waits until condition reports true, which it asks every few
// milliseconds, and fails the test after a generous deadline.
func (s *Server) WaitFor(what string, condition func(ctx context.Context) bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), readyTimeout)
	defer cancel()
	require.Eventually(s.t, func() bool { return condition(ctx) }, readyTimeout, 5*time.Millisecond,
		"%s at %s: waiting for %s", s.Version, s.Addr, what)
}

// WaitInSync waits until the replica's link is up and it has applied everything
// that its primary had written.
func (s *Server) WaitInSync() {
	s.t.Helper()
	primary := s.options.ReplicaOf
	require.NotNil(s.t, primary, "WaitInSync needs a server started with ReplicaOf")
	s.WaitFor("the replica to be in sync", func(ctx context.Context) bool {
		theirs, err1 := primary.Client().Info(ctx, "replication").Result()
		mine, err2 := s.Client().Info(ctx, "replication").Result()
		return err1 == nil && err2 == nil && strings.Contains(mine, "master_link_status:up") &&
			infoField(mine, "slave_repl_offset") == infoField(theirs, "master_repl_offset")
	})
}

func infoField(info, name string) string {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func (s *Server) start() error {
	config := filepath.Join(s.Dir, "redis.conf")
	// Through a file, because argv shows the password to every user.
	if err := os.WriteFile(config, []byte(s.config()), 0o600); err != nil {
		return err
	}
	command := append(binary(s.t, s.Version), config)
	process, err := startProcess(command, s.Dir)
	if err != nil {
		return err
	}
	s.process = process
	if err := s.waitReady(); err != nil {
		process.kill()
		return fmt.Errorf("%s at %s: %w\n%s", s.Version, s.Addr, err, process.output.String())
	}
	return nil
}

func (s *Server) waitReady() error {
	ctx, cancel := context.WithTimeout(s.t.Context(), s.options.ReadyTimeout)
	defer cancel()
	for {
		// An error means "not yet": refused, LOADING, MASTERDOWN.
		err := s.Client().Ping(ctx).Err()
		if err == nil {
			return nil
		}
		select {
		case <-s.process.done:
			return errors.New("the server ended while it started")
		case <-ctx.Done():
			return fmt.Errorf("the server does not answer PING: %w", err)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func (s *Server) config() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("bind 127.0.0.1")
	line("dir %s", s.Dir)
	line("logfile server.log")
	line(`save ""`)
	line("loglevel verbose")
	// Tests start many snapshots one after the other.
	line("repl-diskless-sync-delay 0")
	if s.Version != Redis60 {
		line("enable-debug-command local")
	}
	if s.TLS != nil {
		line("port 0\ntls-port %d", s.Port)
		line("tls-cert-file %s\ntls-key-file %s\ntls-ca-cert-file %s", s.TLS.certFile, s.TLS.keyFile, s.TLS.CAFile)
		line("tls-replication yes")
	} else {
		line("port %d", s.Port)
	}
	if s.Password != "" {
		line("requirepass %q", s.Password)
	}
	if p := s.options.ReplicaOf; p != nil {
		line("replicaof %s %d", p.Host, p.Port)
		if p.Password != "" {
			line("masterauth %q", p.Password)
		}
	}
	for _, l := range s.options.Config {
		line("%s", l)
	}
	return b.String()
}

// binary returns the command that runs a version's server.
func binary(t testing.TB, version string) []string {
	t.Helper()
	return Tool(t, version, strings.SplitN(version, "-", 2)[0]+"-server")
}

// Tool returns the command that runs a program of a version, for example
// "redis-check-rdb"; arguments are appended to it. It skips the test under -short
// and fails it when the version is not prepared.
func Tool(t testing.TB, version, name string) []string {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a real " + version + ": run without -short")
	}
	cache, err := cacheDir()
	require.NoError(t, err)
	root := filepath.Join(cache, "servers", version)
	// The root's own /lib64 entry is an absolute link that leads out of the root.
	loaders, err := filepath.Glob(filepath.Join(root, "lib", "*-linux-*", "ld-linux-*.so.*"))
	require.NoError(t, err)
	program := filepath.Join(root, "usr", "bin", name)
	if _, err := os.Stat(program); err != nil || len(loaders) == 0 {
		require.FailNow(t, version+" is not prepared: run `make servers`", "looked for %s (%v)", name, err)
	}
	libraries := filepath.Dir(loaders[0])
	return []string{
		loaders[0], "--library-path",
		libraries + ":" + filepath.Join(root, "usr", "lib", filepath.Base(libraries)), program,
	}
}

func cacheDir() (string, error) {
	if dir := os.Getenv("REDISCTL_CACHE"); dir != "" {
		return dir, nil
	}
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "redisctl"), err
}

func freePort(t testing.TB) int {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, listener.Close()) }()
	address, ok := listener.Addr().(*net.TCPAddr)
	require.True(t, ok)
	return address.Port
}

func tail(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return "…" + text[len(text)-limit:]
}

// process is a running server process and its forked children.
type process struct {
	pid    int
	output bytes.Buffer  // complete once done is closed
	done   chan struct{} // closed when the process has ended
}

func startProcess(command []string, dir string) (*process, error) {
	p := &process{done: make(chan struct{})}
	cmd := exec.Command(command[0], command[1:]...) //nolint:noctx // it lives as long as the test, see kill
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &p.output, &p.output
	cmd.SysProcAttr = processAttributes()
	// A child that outlives its server must not keep Wait from returning.
	cmd.WaitDelay = time.Second
	started := make(chan error)
	go func() {
		// The kernel sends the parent-death signal when the thread that started
		// the process ends, so that thread must live until the process is gone
		// (golang/go#27505).
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		_ = cmd.Wait() // tests end servers in every way; how does not matter
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	p.pid = cmd.Process.Pid
	return p, nil
}

// kill ends the process group, that is, the server and the children that it
// forked to save, and waits for the server.
func (p *process) kill() {
	select {
	case <-p.done:
		return // its process ID may belong to somebody else by now
	default:
	}
	_ = syscall.Kill(-p.pid, syscall.SIGKILL) // ESRCH: it has just ended
	<-p.done
}

// Certificates are the files and the client configuration of a TLS server.
type Certificates struct {
	// CAFile is the authority that signed the server's and the client's
	// certificate. CertFile and KeyFile are for clients.
	CAFile, CertFile, KeyFile string
	// Client trusts the server and presents the client's certificate.
	Client *tls.Config

	certFile, keyFile string // the server's own
}
