// Package s3server runs a real S3 server for tests: versitygw with a folder of the
// test as its storage. It supports multipart uploads, checksums and conditional
// writes.
//
// The program is built by `make s3-server` into $REDISCTL_CACHE/bin, from the
// module in the folder versitygw, so that nothing of it reaches redisctl's own
// dependencies. A test that finds none fails.
package s3server

import (
	"bytes"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Version of versitygw that the Makefile builds.
const Version = "v1.8.0"

// AccessKey and SecretKey are the credentials that the server accepts.
const (
	AccessKey = "redisctl-test"
	SecretKey = "a-secret-that-must-not-be-printed"
)

// Server is a running server. It ends with the test.
type Server struct {
	// URL is "http://127.0.0.1:port".
	URL string
	// Address is host:port.
	Address string

	t    testing.TB
	root string
}

// Options change how a server is started.
type Options struct {
	// Domain makes the server accept https://bucket.domain/key as well.
	Domain string
}

// Start starts a server without buckets and waits until it answers.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	program := program(t)
	s := &Server{t: t, root: t.TempDir()}
	// Somebody else may take the port between the question and the start.
	const attempts = 3
	for n := 1; ; n++ {
		if s.start(program, o) {
			return s
		}
		require.Less(t, n, attempts, "versitygw does not start")
	}
}

func (s *Server) start(program string, o Options) bool {
	s.t.Helper()
	port := freePort(s.t)
	s.Address = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	s.URL = "http://" + s.Address
	args := []string{"--port", s.Address, "--health", "/health", "--quiet"}
	if o.Domain != "" {
		args = append(args, "--virtual-domain", net.JoinHostPort(o.Domain, strconv.Itoa(port)))
	}
	args = append(args, "posix", s.root)
	cmd := exec.Command(program, args...) //nolint:noctx // it lives until the clean-up, longer than t.Context
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+AccessKey, "ROOT_SECRET_KEY="+SecretKey)
	cmd.SysProcAttr = processAttributes()
	var output safeBuffer
	cmd.Stdout, cmd.Stderr = &output, &output
	started, exited := make(chan error), make(chan struct{})
	go func() {
		// The kernel sends the parent-death signal when the thread that started
		// the process ends (golang/go#27505).
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(exited)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // killed, or it says why in its output
		}
	}()
	require.NoError(s.t, <-started)
	stop := func() {
		_ = cmd.Process.Kill() // it may have ended by itself
		<-exited
	}
	deadline := time.After(20 * time.Second)
	for {
		select {
		case <-exited:
			s.t.Logf("versitygw: %s", output.String())
			return false
		case <-deadline:
			stop()
			require.FailNow(s.t, "versitygw does not answer", output.String())
		case <-time.After(20 * time.Millisecond):
		}
		if s.healthy() {
			s.t.Cleanup(stop)
			return true
		}
	}
}

func (s *Server) healthy() bool {
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.URL+"/health", http.NoBody)
	require.NoError(s.t, err)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	_ = response.Body.Close() // only the status counts
	return response.StatusCode == http.StatusOK
}

// Bucket makes an empty bucket.
func (s *Server) Bucket(name string) {
	s.t.Helper()
	require.NoError(s.t, os.Mkdir(filepath.Join(s.root, name), 0o750))
}

// Environment returns a function like os.LookupEnv that knows the server's
// credentials and nothing else.
func Environment() func(string) (string, bool) {
	return func(name string) (string, bool) {
		value, ok := map[string]string{
			"AWS_ACCESS_KEY_ID": AccessKey, "AWS_SECRET_ACCESS_KEY": SecretKey, "AWS_REGION": "us-east-1",
			"AWS_EC2_METADATA_DISABLED": "true",
		}[name]
		return value, ok
	}
}

func program(t testing.TB) string {
	t.Helper()
	cache := os.Getenv("REDISCTL_CACHE")
	if cache == "" {
		dir, err := os.UserCacheDir()
		require.NoError(t, err)
		cache = filepath.Join(dir, "redisctl")
	}
	path := filepath.Join(cache, "bin", "versitygw-"+Version)
	if _, err := os.Stat(path); err != nil {
		require.FailNow(t, "the S3 server for tests is not built: run `make s3-server`", "%v", err)
	}
	return path
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

// safeBuffer collects what a running process says.
type safeBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
