//go:build unix

package sandbox_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/operation/restore/drill"
	"github.com/redisctl/redisctl/internal/rdb/rdbtest"
	"github.com/redisctl/redisctl/internal/redisconn"
	"github.com/redisctl/redisctl/internal/sandbox"
	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/storage"
	"github.com/redisctl/redisctl/internal/storage/folder"
	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

// childVariable makes the test binary a process that keeps a server until it is killed.
const childVariable = "REDISCTL_TEST_SANDBOX"

func TestMain(m *testing.M) {
	if program := os.Getenv(childVariable); program != "" {
		os.Exit(child(program))
	}
	flag.Parse()
	goleak.VerifyTestMain(m)
}

func child(program string) int {
	ctx := context.Background()
	p, err := sandbox.At(program)
	if err != nil {
		panic(err)
	}
	s, err := p.Open(ctx, drill.Needs{Life: time.Hour})
	if err == nil && os.Getenv("REDISCTL_TEST_START") != "" {
		err = s.Start(ctx, []string{`save ""`})
	}
	if err != nil {
		panic(err)
	}
	fmt.Println("ready")
	select {}
}

// program returns a command that runs a version's server.
func program(t *testing.T, version string) sandbox.Program {
	t.Helper()
	p, err := sandbox.At(script(t, version))
	require.NoError(t, err)
	return p
}

func script(t *testing.T, version string) string {
	t.Helper()
	words := redisserver.Tool(t, version, strings.SplitN(version, "-", 2)[0]+"-server")
	path := filepath.Join(t.TempDir(), "server")
	text := "#!/bin/sh\nexec '" + strings.Join(words, "' '") + "' \"$@\"\n"
	require.NoError(t, os.WriteFile(path, []byte(text), 0o700))
	return path
}

// temporary makes a folder the one that servers' data is put into.
func temporary(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "t") // short: there are sockets in it
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	t.Setenv("TMPDIR", dir)
	return dir
}

// isEmpty does not count the folders of the test itself.
func isEmpty(t *testing.T, dir string) bool {
	t.Helper()
	entries, err := filepath.Glob(filepath.Join(dir, "redisctl-*"))
	require.NoError(t, err)
	return len(entries) == 0
}

func link(s drill.Server) drill.Link {
	return redisconn.Connector{Dial: func(ctx context.Context, _ *operation.Deployment, _ operation.Instance) (net.Conn, error) {
		return s.Dial(ctx)
	}}
}

func run(t *testing.T, file string, hosts ...drill.Host) (drill.Result, error) {
	t.Helper()
	store, entry, err := snapshot.FindFile(t.Context(), file)
	require.NoError(t, err)
	d := drill.Drill{Hosts: hosts, Link: link, Reporter: operation.DiscardReporter{}, Now: time.Now}
	return d.Run(t.Context(), restore.Backup{Store: store, Entry: entry}, drill.Options{Stall: 30 * time.Second, Life: time.Minute})
}

// TestDrill loads what a server of each version has saved into one of the same version.
func TestDrill(t *testing.T) {
	for _, version := range redisserver.Versions(t) {
		t.Run(version, func(t *testing.T) {
			dir := temporary(t)
			source := redisserver.Start(t, redisserver.Options{Version: version, Config: []string{"databases 20"}})
			require.NoError(t, redisserver.Fill(t.Context(), source.Client(), 3, 2000))
			require.NoError(t, source.NewClient(19).Set(t.Context(), "in the last database", "x", time.Hour).Err())
			require.NoError(t, source.Client().Save(t.Context()).Err())

			r, err := run(t, filepath.Join(source.Dir, "dump.rdb"), program(t, version))
			require.NoError(t, err)
			assert.True(t, r.Passed, "%+v", r)
			require.NotNil(t, r.Comparison)
			assert.True(t, r.Comparison.Equal)
			assert.Greater(t, r.Comparison.Keys, int64(2000))
			assert.Equal(t, r.Comparison.OfKeys, r.Comparison.Keys)
			assert.Zero(t, r.Comparison.NotComparable)
			assert.Contains(t, r.Server.Version.String(), strings.ReplaceAll(version, "-", " "))
			assert.Positive(t, r.UsedMemoryBytes)
			assert.Contains(t, r.DBs, drill.FoundDB{DB: 19, Keys: 1})
			assert.Positive(t, r.Seconds.Load)
			assert.GreaterOrEqual(t, r.Seconds.Total, r.Seconds.Load+r.Seconds.Compare)
			assert.True(t, isEmpty(t, dir), "its data is removed")
		})
	}
}

// TestDrillChoosesAServerThatReadsTheBackup: the first one that does.
func TestDrillChoosesAServerThatReadsTheBackup(t *testing.T) {
	dir := temporary(t)
	old, recent := program(t, redisserver.Redis60), program(t, redisserver.Redis80)
	file := filepath.Join(t.TempDir(), "dump.rdb")
	require.NoError(t, os.WriteFile(file, rdbtest.File(rdbtest.Redis72, func(w *rdbtest.Writer) { rdbtest.Realistic(w, 1, 1<<20) }), 0o600))
	r, err := run(t, file, old, recent)
	require.NoError(t, err)
	assert.True(t, r.Passed, "%+v", r)
	assert.Equal(t, recent.Name(), r.Server.Name)

	_, err = run(t, file, old)
	assert.Equal(t, operation.Unsupported, operation.KindOf(err), "%v", err)
	require.ErrorContains(t, err, "does not read RDB version 11")
	assert.True(t, isEmpty(t, dir))
}

// TestDrillOfAppendOnlyFiles: they are loaded, and what they leave is counted.
func TestDrillOfAppendOnlyFiles(t *testing.T) {
	for _, version := range redisserver.Versions(t) {
		t.Run(version, func(t *testing.T) {
			dir := temporary(t)
			source := redisserver.Start(t, redisserver.Options{Version: version, Config: []string{"appendonly yes", `appendfilename "my file.aof"`}})
			require.NoError(t, redisserver.Fill(t.Context(), source.Client(), 4, 500))
			require.NoError(t, source.Client().Del(t.Context(), "number:00000000").Err())
			source.Stop()
			store := folder.New(t.TempDir())
			entry := storeSet(t, store, version, source.Dir, "")

			d := drill.Drill{Hosts: []drill.Host{program(t, version)}, Link: link, Reporter: operation.DiscardReporter{}, Now: time.Now}
			r, err := d.Run(t.Context(), restore.Backup{Store: store, Entry: entry}, drill.Options{Stall: 30 * time.Second, Life: time.Minute})
			require.NoError(t, err)
			assert.True(t, r.Passed, "%+v", r)
			assert.Nil(t, r.Comparison)
			assert.Greater(t, r.Commands, int64(500))
			var keys int64
			for _, db := range r.DBs {
				keys += db.Keys
			}
			assert.EqualValues(t, 500, keys, "one was deleted, and Fill adds one")
			assert.True(t, isEmpty(t, dir))

			if version == redisserver.Redis60 {
				return // it does not count errors
			}
			entry = storeSet(t, store, version, source.Dir, "*3\r\n$5\r\nLPUSH\r\n$15\r\nnumber:00000011\r\n$1\r\nx\r\n")
			r, err = d.Run(t.Context(), restore.Backup{Store: store, Entry: entry}, drill.Options{Stall: 30 * time.Second, Life: time.Minute})
			require.NoError(t, err)
			assert.False(t, r.Passed)
			assert.Contains(t, r.Problem, "WRONGTYPE 1")
		})
	}
}

// storeSet stores a server's append-only files as a backup, with more commands behind the
// last one.
func storeSet(t *testing.T, store storage.Store, version, dir, more string) snapshot.Entry {
	t.Helper()
	product, number, _ := strings.Cut(version, "-")
	set, err := snapshot.CreateSet(store, "", snapshot.KindAOF, snapshot.CreateOptions{Version: "test", Source: snapshot.Source{
		Instance: "redis-0", Role: "primary", Product: product, Version: number, Method: "aof",
	}})
	require.NoError(t, err)
	for _, f := range appendOnlyFiles(t, dir) {
		data, err := os.ReadFile(filepath.Join(dir, f.Path))
		require.NoError(t, err)
		if f.Kind == snapshot.FileAOFIncremental || f.Kind == snapshot.FileAOF {
			data = append(data, more...)
		}
		_, err = set.Add(t.Context(), f, bytes.NewReader(data))
		require.NoError(t, err)
	}
	manifest, err := set.Commit(t.Context())
	require.NoError(t, err)
	entry, err := snapshot.Find(t.Context(), store, snapshot.Filter{}, manifest.ID)
	require.NoError(t, err)
	return entry
}

// appendOnlyFiles lists what a server has written.
func appendOnlyFiles(t *testing.T, dir string) []snapshot.SetFile {
	t.Helper()
	const single, folder = "my file.aof", "appendonlydir"
	if _, err := os.Stat(filepath.Join(dir, folder)); err != nil {
		return []snapshot.SetFile{{Name: single, Kind: snapshot.FileAOF, Path: single}}
	}
	entries, err := os.ReadDir(filepath.Join(dir, folder))
	require.NoError(t, err)
	var files []snapshot.SetFile
	for _, e := range entries {
		f := snapshot.SetFile{Name: e.Name(), Kind: snapshot.FileAOFIncremental, Path: folder + "/" + e.Name()}
		switch {
		case strings.HasSuffix(e.Name(), ".manifest"):
			f.Kind = snapshot.FileAOFManifest
		case strings.Contains(e.Name(), ".base."):
			f.Kind = snapshot.FileAOFBase
		}
		files = append(files, f)
	}
	return files
}

// TestServerRefuses: a server that cannot load its data has ended, and says why.
func TestServerRefuses(t *testing.T) {
	dir := temporary(t)
	s, err := program(t, redisserver.Redis70).Open(t.Context(), drill.Needs{Life: time.Minute})
	require.NoError(t, err)
	data := "REDIS0010 and nothing that a server could read"
	require.NoError(t, s.Put(t.Context(), "dump.rdb", int64(len(data)), strings.NewReader(data)))
	require.ErrorContains(t, s.Put(t.Context(), "short", 100, strings.NewReader(data)), fmt.Sprintf("%d bytes, not 100", len(data)))
	require.ErrorContains(t, s.Put(t.Context(), "../outside", 1, strings.NewReader("x")), "not below")
	require.NoError(t, s.Ended(t.Context()))
	require.NoError(t, s.Start(t.Context(), nil))
	var end *drill.EndError
	require.Eventually(t, func() bool { return errors.As(s.Ended(t.Context()), &end) }, 20*time.Second, 10*time.Millisecond)
	assert.Equal(t, 1, end.Code)
	assert.Contains(t, end.Error(), "RDB")
	require.NoError(t, s.Close(t.Context()))
	require.NoError(t, s.Close(t.Context()), "closing twice")
	assert.True(t, isEmpty(t, dir))
}

// TestLife: a server ends when its time is over.
func TestLife(t *testing.T) {
	dir := temporary(t)
	s, err := program(t, redisserver.Redis70).Open(t.Context(), drill.Needs{Life: 300 * time.Millisecond})
	require.NoError(t, err)
	require.NoError(t, s.Start(t.Context(), nil))
	require.Eventually(t, func() bool { return s.Ended(t.Context()) != nil }, 20*time.Second, 10*time.Millisecond)
	require.Eventually(t, func() bool { return isEmpty(t, dir) }, 20*time.Second, 10*time.Millisecond)
	require.NoError(t, s.Close(t.Context()))
}

// TestNothingIsLeftAfterAKill: a process that is killed takes its server and the data
// with it, before the server was started and after.
func TestNothingIsLeftAfterAKill(t *testing.T) {
	path := script(t, redisserver.Redis70)
	for _, started := range []string{"", "yes"} {
		t.Run("started "+started, func(t *testing.T) {
			dir := temporary(t)
			self, err := os.Executable()
			require.NoError(t, err)
			cmd := exec.Command(self)
			cmd.Env = append(os.Environ(), childVariable+"="+path, "REDISCTL_TEST_START="+started)
			cmd.Stderr = os.Stderr
			out, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			line, err := bufio.NewReader(out).ReadString('\n')
			require.NoError(t, err)
			require.Equal(t, "ready\n", line)
			folders, err := filepath.Glob(filepath.Join(dir, "redisctl-drill-*"))
			require.NoError(t, err)
			require.Len(t, folders, 1)
			info, err := os.Stat(folders[0])
			require.NoError(t, err)
			assert.Equal(t, fs.FileMode(0o700), info.Mode().Perm())
			socket := filepath.Join(folders[0], "s")
			if started != "" {
				require.Eventually(t, func() bool { return answers(socket) }, 20*time.Second, 10*time.Millisecond)
			}
			pids := processesWith(t, folders[0])
			assert.NotEmpty(t, pids)

			require.NoError(t, cmd.Process.Kill())
			require.Error(t, cmd.Wait(), "killed")
			require.Eventually(t, func() bool { return isEmpty(t, dir) }, 20*time.Second, 10*time.Millisecond)
			require.Eventually(t, func() bool { return len(processesWith(t, folders[0])) == 0 }, 20*time.Second, 10*time.Millisecond)
		})
	}
}

func answers(socket string) bool {
	conn, err := net.Dial("unix", socket)
	if err == nil {
		_ = conn.Close()
	}
	return err == nil
}

// processesWith returns the processes with a text in their command line or working
// directory.
func processesWith(t *testing.T, text string) []string {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*")
	require.NoError(t, err)
	var found []string
	for _, p := range all {
		line, _ := os.ReadFile(filepath.Join(p, "cmdline")) // it may have ended meanwhile
		cwd, _ := os.Readlink(filepath.Join(p, "cwd"))
		if strings.Contains(string(line), text) || strings.Contains(cwd, text) {
			found = append(found, p)
		}
	}
	return found
}

func TestAt(t *testing.T) {
	_, err := sandbox.At("no-such-server")
	assert.Equal(t, operation.Usage, operation.KindOf(err))
	p, err := sandbox.At("true")
	require.NoError(t, err)
	_, err = p.Open(t.Context(), drill.Needs{Life: time.Minute})
	require.ErrorContains(t, err, "no Redis server")
}
