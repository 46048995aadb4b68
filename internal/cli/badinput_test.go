package cli_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/testkit/redisserver"
	"github.com/redisctl/redisctl/internal/testkit/s3server"
)

// sufferer is somebody whose storage fails: a server to back up, and a store that holds
// an older backup, which nothing may touch.
type sufferer struct {
	t       *testing.T
	address string
	home    string
	env     []string
}

func newSufferer(t *testing.T) *sufferer {
	t.Helper()
	redisserver.Versions(t)
	server := redisserver.Start(t, redisserver.Options{Version: redisserver.Redis70})
	require.NoError(t, redisserver.Fill(t.Context(), server.Client(), 1, 3000))
	home, err := os.MkdirTemp("", "redisctl-bad-input") // not below t.TempDir, which is closed to nobody
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(home)) })
	require.NoError(t, os.Chmod(home, 0o755))
	return &sufferer{t: t, address: server.Addr, home: home, env: []string{
		"HOME=" + home, "PATH=" + os.Getenv("PATH"), "REDISCTL_ADDRESS=" + server.Addr,
	}}
}

// done is a program that has ended.
type done struct {
	t           *testing.T
	code        int
	stdout, err string
}

func (s *sufferer) run(change func(*exec.Cmd), args ...string) *done {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), args[0], args[1:]...)
	cmd.Dir, cmd.Env = s.home, s.env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if change != nil {
		change(cmd)
	}
	_ = cmd.Run() // the exit code tells
	return &done{s.t, cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

func (s *sufferer) redisctl(args ...string) *done {
	s.t.Helper()
	return s.run(nil, append([]string{"redisctl"}, args...)...)
}

func (d *done) exits(code int, says ...string) *done {
	d.t.Helper()
	require.Equal(d.t, code, d.code, "stdout:\n%s\nstderr:\n%s", d.stdout, d.err)
	for _, text := range says {
		assert.Contains(d.t, d.err, text)
	}
	return d
}

// onlyOlder asserts that the store holds the one older backup, sound, and nothing else:
// not even under a temporary name.
func (s *sufferer) onlyOlder(store, older string, more ...string) {
	s.t.Helper()
	list := s.redisctl("backup", "list", "--from", store, "-o", "name").exits(0)
	assert.Equal(s.t, older, strings.TrimSpace(list.stdout))
	s.redisctl("backup", "verify", older, "--from", store).exits(0)
	if strings.HasPrefix(store, "s3://") {
		return
	}
	var left []string
	require.NoError(s.t, filepath.WalkDir(filepath.Join(s.home, store), func(name string, entry os.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() && !strings.HasPrefix(entry.Name(), older+".") {
			left = append(left, entry.Name())
		}
		return err
	}))
	assert.ElementsMatch(s.t, more, left)
}

// take makes a backup and returns its id.
func (s *sufferer) take(store string) string {
	s.t.Helper()
	return strings.TrimSpace(s.redisctl("backup", "rdb", "--to", store, "-o", "name").exits(0).stdout)
}

const untouched = "no backup was stored; older ones are untouched"

// A folder that takes no more ends a backup with exit code 1, for whatever reason it
// takes no more.
func TestFolderThatIsFull(t *testing.T) {
	s := newSufferer(t)
	older := s.take("store")
	// 64 blocks of 512 or 1024 bytes, depending on the shell.
	limited := []string{"sh", "-c", `ulimit -f 64; exec "$@"`, "sh", "redisctl", "backup", "rdb", "--to", "store"}
	for name, more := range map[string][]string{"plain": nil, "zstd": {"--compress", "zstd:fastest"}} {
		s.run(nil, append(limited, more...)...).exits(1, "no space left in the backup storage", untouched)
		s.onlyOlder("store", older)
		t.Log(name)
	}
	// The other place has room.
	both := s.run(nil, append(limited, "--to", "store2", "--ignore-space")...)
	both.exits(1, "no space left in the backup storage", untouched)
	s.onlyOlder("store", older)

	// A disk that is full already is noticed before the server is asked for anything.
	full := `mount -t tmpfs -o size=1m tmpfs store2 && cp -r store/. store2/ && head -c 2m /dev/zero > store2/filler 2>/dev/null
"$@"; code=$?
find store2 -type f | sort; exit $code`
	require.NoError(t, os.MkdirAll(filepath.Join(s.home, "store2"), 0o700))
	inMount := func(args ...string) *done {
		return s.run(nil, append([]string{"unshare", "-rm", "sh", "-c", full, "sh", "redisctl", "backup", "rdb", "--to", "store2"}, args...)...)
	}
	for _, d := range []*done{inMount().exits(5, "low-space"), inMount("--ignore-space").exits(1, "no space left in the backup storage", untouched)} {
		assert.Contains(t, d.stdout, older+".manifest.json")
		assert.Equal(t, 1, strings.Count(d.stdout, ".manifest.json"), d.stdout)
		assert.NotContains(t, d.stdout, ".redisctl-partial")
	}
}

// A folder that may not be written to is noticed before the server is asked for
// anything, and one that may not be read hides nothing silently.
func TestFolderThatIsNotAllowed(t *testing.T) {
	s := newSufferer(t)
	older := s.take("store")
	program := filepath.Join(s.home, "redisctl")
	found, err := exec.LookPath("redisctl")
	require.NoError(t, err)
	data, err := os.ReadFile(found)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(program, data, 0o755))
	require.NoError(t, os.Chmod(filepath.Join(s.home, "store"), 0o555))
	t.Cleanup(func() { assert.NoError(t, os.Chmod(filepath.Join(s.home, "store"), 0o700)) })
	asNobody := func(args ...string) *done {
		return s.run(func(cmd *exec.Cmd) {
			if os.Getuid() == 0 { // may write everywhere
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534, NoSetGroups: false}}
			}
		}, append([]string{program}, args...)...)
	}
	asNobody("backup", "rdb", "--to", "store").exits(8, "permission denied", untouched)
	asNobody("backup", "rdb", "--to", "store").exits(8, "permission denied")
	if os.Getuid() == 0 { // the folder below is root's alone
		asNobody("backup", "list", "--from", "store").exits(8, "permission denied")
		asNobody("backup", "prune", "--from", "store", "--keep-last", "1", "--dry-run").exits(8, "permission denied")
	}
	require.NoError(t, os.Chmod(filepath.Join(s.home, "store"), 0o700))
	s.onlyOlder("store", older)
}

// What stands in the way is not replaced.
func TestFolderWithSomethingInTheWay(t *testing.T) {
	s := newSufferer(t)
	older := s.take("store")
	folder := filepath.Join(s.home, "store", "address", strings.ReplaceAll(s.address, ":", "_"))
	outside := filepath.Join(s.home, "outside")
	require.NoError(t, os.Mkdir(outside, 0o700))

	// The folder of the server leads out of the store.
	require.NoError(t, os.MkdirAll(filepath.Join(s.home, "store2", "address"), 0o700))
	require.NoError(t, os.Symlink(outside, filepath.Join(s.home, "store2", "address", filepath.Base(folder))))
	s.redisctl("backup", "rdb", "--to", "store2").exits(1, "escapes", untouched)
	s.redisctl("backup", "list", "--from", "store2").exits(1, "escapes")
	entries, err := os.ReadDir(outside)
	require.NoError(t, err)
	assert.Empty(t, entries)

	// A link of a backup's name is not followed out of the store.
	secret := filepath.Join(outside, "secret.rdb")
	data, err := os.ReadFile(filepath.Join(folder, older+".rdb"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(secret, data, 0o600))
	require.NoError(t, os.Remove(filepath.Join(folder, older+".rdb")))
	require.NoError(t, os.Symlink(secret, filepath.Join(folder, older+".rdb")))
	verified := s.redisctl("backup", "verify", older, "--from", "store")
	assert.NotEqual(t, 0, verified.code, verified.stdout)
	copied := s.redisctl("backup", "copy", older, "--from", "store", "--to", "store3")
	assert.NotEqual(t, 0, copied.code, copied.stdout)
	_, err = os.Stat(filepath.Join(s.home, "store3"))
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, os.Remove(filepath.Join(folder, older+".rdb")))
	require.NoError(t, os.WriteFile(filepath.Join(folder, older+".rdb"), data, 0o600))

	// A file where the store should be.
	require.NoError(t, os.WriteFile(filepath.Join(s.home, "file"), nil, 0o600))
	s.redisctl("backup", "rdb", "--to", "file").exits(1, "file", "directory", untouched)
	s.onlyOlder("store", older)
}

// s3Fault answers a request in the place of the server, or returns false.
type s3Fault func(w http.ResponseWriter, r *http.Request, forward http.Handler) bool

func answerS3(w http.ResponseWriter, status int, code string) bool {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Message>So it is.</Message></Error>", code)
	return true
}

func isS3Part(r *http.Request) bool {
	return r.Method == http.MethodPut && r.URL.Query().Has("partNumber")
}

func isS3Commit(r *http.Request) bool {
	return r.Method == http.MethodPost && r.URL.Query().Has("uploadId")
}

// TestObjectStorageThatFails plays each failure of object storage to a whole backup.
func TestObjectStorageThatFails(t *testing.T) {
	s := newSufferer(t)
	server := s3server.Start(t, s3server.Options{})
	server.Bucket("backups")
	target, err := url.Parse(server.URL)
	require.NoError(t, err)
	credentials := []string{
		"AWS_ACCESS_KEY_ID=" + s3server.AccessKey, "AWS_SECRET_ACCESS_KEY=" + s3server.SecretKey,
		"AWS_REGION=us-east-1", "AWS_EC2_METADATA_DISABLED=true",
	}
	plain := s.env
	direct := append(append([]string{}, plain...), append(credentials, "REDISCTL_S3_ENDPOINT="+server.URL)...)
	s.env = direct
	older := s.take("s3://backups/a")

	t.Run("failures", func(t *testing.T) { testS3Failures(t, s, target, plain, credentials, older) })

	// The answer to the completion is lost, but the object is there: that is a success.
	lost := faulty(t, target, func(w http.ResponseWriter, r *http.Request, forward http.Handler) bool {
		if !isS3Commit(r) {
			return false
		}
		forward.ServeHTTP(httptest.NewRecorder(), r)
		return hangUp(w)
	})
	s.env = append(append(append([]string{}, plain...), credentials...), "REDISCTL_S3_ENDPOINT="+lost)
	newer := s.take("s3://backups/a")
	s.env = direct
	s.redisctl("backup", "verify", newer, "--from", "s3://backups/a").exits(0)
	s.redisctl("backup", "verify", older, "--from", "s3://backups/a").exits(0)
}

func testS3Failures(t *testing.T, s *sufferer, target *url.URL, plain, credentials []string, older string) {
	direct := s.env
	for name, c := range map[string]struct {
		fault s3Fault
		env   []string
		code  int
		says  string
		to    string
	}{
		"wrong credentials": {env: []string{"AWS_SECRET_ACCESS_KEY=hunter2"}, code: 8, says: "refuses access"},
		"no bucket":         {to: "s3://nosuch/a", code: 1, says: "the bucket does not exist"},
		"clock skew": {code: 8, says: "clocks", fault: func(w http.ResponseWriter, _ *http.Request, _ http.Handler) bool {
			return answerS3(w, http.StatusForbidden, "RequestTimeTooSkewed")
		}},
		"500 for parts": {code: 1, says: "HTTP status 500", fault: func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
			return isS3Part(r) && answerS3(w, http.StatusInternalServerError, "InternalError")
		}},
		"503 for all": {code: 1, says: "HTTP status 503", fault: func(w http.ResponseWriter, _ *http.Request, _ http.Handler) bool {
			return answerS3(w, http.StatusServiceUnavailable, "SlowDown")
		}},
		"503 for the commit": {code: 1, says: "HTTP status 503", fault: func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
			return isS3Commit(r) && answerS3(w, http.StatusServiceUnavailable, "SlowDown")
		}},
		"full": {code: 1, says: "no space left in the backup storage", fault: func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
			return isS3Part(r) && answerS3(w, http.StatusInsufficientStorage, "XMinioStorageFull")
		}},
		"the name is taken": {code: 1, says: "file already exists", fault: func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
			return isS3Commit(r) && answerS3(w, http.StatusPreconditionFailed, "PreconditionFailed")
		}},
		"the commit does not arrive": {code: 1, says: "closed the connection", fault: func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
			return isS3Commit(r) && hangUp(w)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most of the time it waits to try again
			s := *s
			s.t = t
			s.env = append(append(append([]string{}, plain...), credentials...), "REDISCTL_S3_ENDPOINT="+faulty(t, target, c.fault))
			s.env = append(s.env, c.env...)
			to := c.to
			if to == "" {
				to = "s3://backups/a"
			}
			failed := s.redisctl("backup", "rdb", "--to", to).exits(c.code, c.says, untouched)
			assert.NotContains(t, failed.err, "hunter2")
			assert.NotContains(t, failed.err, s3server.SecretKey)
			// The other place gets everything.
			both := s.redisctl("backup", "rdb", "--to", to, "--to", t.Name(), "-o", "json").exits(3)
			assert.Contains(t, both.stdout, c.says)
			s.redisctl("backup", "verify", "--all", "--from", t.Name()).exits(0)
			s.env = direct
			s.onlyOlder("s3://backups/a", older)
		})
	}
}

// faulty returns the URL of an S3 server that fails as told.
func faulty(t *testing.T, target *url.URL, fault s3Fault) string {
	t.Helper()
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // it is signed
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if fault == nil || !fault(w, r, forward) {
			forward.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(proxy.Close)
	return proxy.URL
}

// hangUp breaks the connection without an answer.
func hangUp(w http.ResponseWriter) bool {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		_ = conn.Close()
	}
	return true
}
