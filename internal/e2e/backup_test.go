package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

// manifest is what a script reads of `backup rdb -o json`, of `backup show -o json`
// and of the manifest itself.
type manifest struct {
	File        string
	ID          string
	APIVersion  string
	CreatedAt   time.Time
	CompletedAt time.Time
	Source      struct {
		Namespace, Release, Instance, Role, Product, Version, RunID string
		ReplicationID                                               string
		ReplicationOffset                                           int64
		Method, Transfer                                            string
	}
	Files []struct {
		Name      string
		SizeBytes int64
		SHA256    string
		RDB       struct {
			DBs []struct {
				DB   int
				Keys int64
			}
			Keys     int64
			Checksum string
			Aux      map[string]string
		}
	}
	Durations struct{ WaitSeconds, TransferSeconds float64 }
}

// path returns where the data is.
func (m manifest) path(s *session) string { return filepath.Join(s.dir, m.File) }

// backup takes a backup and checks what must hold for each.
func backup(s *session, args ...string) manifest {
	t := s.t
	t.Helper()
	m := decode[manifest](s.run(append([]string{"backup", "rdb", "-o", "json"}, args...)...).exits(0).quiet())
	require.Len(t, m.Files, 1)
	assert.Equal(t, "ok", m.Files[0].RDB.Checksum)
	// Both clocks are this machine's; the server's counts whole seconds.
	from := time.Unix(number(t, m.Files[0].RDB.Aux["ctime"]), 0)
	assert.False(t, from.Before(m.CreatedAt.Truncate(time.Second)), "data from %s is older than the backup: %s", from, m.CreatedAt)
	assert.False(t, from.After(m.CompletedAt), "data from %s is newer than the backup: %s", from, m.CompletedAt)
	info, err := os.Stat(m.path(s))
	require.NoError(t, err)
	assert.Equal(t, m.Files[0].SizeBytes, info.Size())
	manifestPath := strings.TrimSuffix(m.path(s), ".rdb") + ".manifest.json"
	for _, path := range []string{m.path(s), manifestPath} {
		info, err := os.Stat(path)
		require.NoError(t, err)
		assert.Equal(t, fs.FileMode(0o600), info.Mode(), "%s holds all data: only its owner may read it", path)
	}
	text, err := os.ReadFile(manifestPath)
	require.NoError(t, err)
	var written manifest
	require.NoError(t, json.Unmarshal(text, &written))
	written.File = m.File // only the command's result says where
	assert.Equal(t, m, written, "the manifest says what the command said")
	for _, name := range files(t, s.dir) {
		assert.Regexp(t, `\.(rdb|(manifest|verified)\.json)$`, name, "no temporary file is left")
	}
	s.run("backup", "verify", m.ID).exits(0)
	return m
}

// load starts a real server of the same version on the file.
func load(t *testing.T, version, path string) *redisserver.Server {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "dump.rdb"), data, 0o600))
	return redisserver.Start(t, redisserver.Options{Version: version, Dir: dir})
}

// A backup, taken while clients write, loads in a real server of the same version and
// holds the same data.
func TestBackupLoadsInARealServer(t *testing.T) {
	for _, version := range []struct{ image, server string }{
		{"redis:6.0.16", redisserver.Redis60},
		{"redis:7.0.15", redisserver.Redis70},
		{"redis:8.0.2", redisserver.Redis80},
		{"valkey:8.1.1", redisserver.Valkey81},
	} {
		t.Run(version.server, func(t *testing.T) {
			t.Parallel()
			e := setup(t)
			r := e.install(t, e.namespace(t, "backup"), chart{
				files: []string{"replica-password.yaml"}, image: version.image, replicas: 1, password: randomPassword(),
				config: quickSync,
			})
			client := r.redis(t, 0)
			require.NoError(t, redisserver.Fill(t.Context(), client, 1, 2000))
			require.NoError(t, client.Do(t.Context(), "WAIT", 1, 30_000).Err())

			streamed := "eof"
			if version.server == redisserver.Redis60 {
				streamed = "length" // repl-diskless-sync is off by default
			}
			for _, method := range []struct {
				name, transfer string
				args           []string
			}{
				{"stream", streamed, nil},
				{"disk", "length", []string{"--transfer", "disk"}},
				{"bgsave", "file", []string{"--method", "bgsave"}},
			} {
				t.Run(method.name, func(t *testing.T) {
					s := r.session(t)
					m := backup(s, method.args...)
					assert.Equal(t, method.transfer, m.Source.Transfer)
					assert.Equal(t, "replica", m.Source.Role)
					assert.Equal(t, r.info(t, 1)["run_id"], m.Source.RunID)
					checkContents(t, r, load(t, version.server, m.path(s)), m)
				})
				t.Run(method.name+" while clients write", func(t *testing.T) {
					testBackupUnderWrites(t, r, version.server, method.args)
				})
			}
		})
	}
}

// checkContents compares a server that has loaded a backup with the servers of the
// release and with the manifest.
func checkContents(t *testing.T, r *release, loaded *redisserver.Server, m manifest, except ...string) {
	t.Helper()
	ctx := t.Context()
	history := func(i int) string { return r.info(t, i)["master_replid"] }
	source := slices.IndexFunc(r.pods(t), func(pod corev1.Pod) bool { return pod.Name == m.Source.Instance })
	for i := range r.pods(t) {
		switch {
		case i == source:
			require.NoError(t, redisserver.Compare(ctx, r.redis(t, i), loaded.Client(), except...), "compared with the source")
		case history(i) == history(source): // it may be a server of its own
			// Each server notes by itself when it has seen a stream's consumers.
			require.NoError(t, redisserver.Compare(ctx, r.redis(t, i), loaded.Client(), append(except, "stream:")...),
				"compared with %s", r.podName(i))
		}
	}
	var total int64
	for _, db := range m.Files[0].RDB.DBs {
		client := loaded.NewClient(db.DB)
		size, err := client.DBSize(t.Context()).Result()
		require.NoError(t, err)
		require.NoError(t, client.Close())
		assert.Equal(t, size, db.Keys, "DBSIZE of database %d", db.DB)
		total += size
	}
	assert.Equal(t, total, m.Files[0].RDB.Keys)
	assert.Positive(t, total)
}

// Keys that nobody touched are all there, and of what the writers wrote, each from
// its first to its last write, there is everything up to one moment.
func testBackupUnderWrites(t *testing.T, r *release, version string, args []string) {
	client := r.redis(t, 0)
	before := number(t, r.info(t, 0)["master_repl_offset"])
	names := []string{"a-" + t.Name(), "b-" + t.Name()}
	writers := make([]*redisserver.Writer, len(names))
	for i, name := range names {
		writers[i] = redisserver.StartWriter(t, r.redis(t, 0), name)
	}
	s := r.session(t)
	m := backup(s, args...)
	acknowledged := make([]int, len(names))
	for i, w := range writers {
		var err error
		acknowledged[i], err = w.Stop()
		require.NoError(t, err, "the backup must not disturb clients")
	}
	after := number(t, r.info(t, 0)["master_repl_offset"])
	if m.Source.ReplicationID != "" {
		assert.Equal(t, r.info(t, 0)["master_replid"], m.Source.ReplicationID)
		assert.GreaterOrEqual(t, m.Source.ReplicationOffset, before)
		assert.LessOrEqual(t, m.Source.ReplicationOffset, after)
	}

	loaded := load(t, version, m.path(s))
	require.NoError(t, client.Do(t.Context(), "WAIT", 1, 30_000).Err())
	checkContents(t, r, loaded, m, redisserver.WriterPrefix)
	for i, name := range names {
		saved := ledger(t, loaded.Client(), redisserver.WriterPrefix+name+":")
		// The last write may have been applied without its writer hearing of it.
		assert.LessOrEqual(t, len(saved), acknowledged[i]+1)
		for n := range len(saved) {
			if !assert.True(t, saved[n], "write %d of %s is missing, later ones are there", n, name) {
				break
			}
		}
	}
	// The next comparison need not read them all.
	written := client.Scan(t.Context(), 0, redisserver.WriterPrefix+"*", 1000).Iterator()
	for written.Next(t.Context()) {
		require.NoError(t, client.Unlink(t.Context(), written.Val()).Err())
	}
	require.NoError(t, written.Err())
	require.NoError(t, client.Do(t.Context(), "WAIT", 1, 30_000).Err())
}

// ledger returns which writes of a writer a server holds.
func ledger(t *testing.T, client *goredis.Client, prefix string) map[int]bool {
	t.Helper()
	held := make(map[int]bool)
	keys := client.Scan(t.Context(), 0, prefix+"*", 1000).Iterator()
	for keys.Next(t.Context()) {
		n, err := strconv.Atoi(strings.TrimPrefix(keys.Val(), prefix))
		require.NoError(t, err)
		held[n] = true
	}
	require.NoError(t, keys.Err())
	return held
}

// Only one BGSAVE at a time: it is the release's lock that says so.
func testLock(t *testing.T, r *release) {
	client := openKube(t, r.env)
	_, giveBack, err := client.Acquire(t.Context(), r.namespace, r.workload, "alice@laptop/42", time.Minute)
	require.NoError(t, err)
	s := r.session(t)
	s.run("backup", "rdb", "--method", "bgsave").exits(6).says("held by alice@laptop/42", "kubectl delete lease")
	assert.Empty(t, files(t, s.dir))
	s.run("backup", "rdb", "--transfer", "disk").exits(0) // changes nothing, so needs no lock
	require.NoError(t, giveBack())

	// Two operators at once: a save that takes seconds makes sure that they meet.
	replica := r.redis(t, 1)
	r.slowSaves(t, 200*time.Millisecond, 1)
	defer r.slowSaves(t, 0, 1)
	first := s.start("backup", "rdb", "--method", "bgsave", "--pod", r.podName(1), "-o", "json")
	first.while("the first save", func(ctx context.Context) error { return saving(ctx, replica) })
	s.run("backup", "rdb", "--method", "bgsave", "--pod", r.podName(1)).exits(6).says(fmt.Sprintf("/%d since", first.cmd.Process.Pid))
	first.wait().exits(0).quiet()
}

// slowSaves makes servers wait that long at each key that they save.
func (r *release) slowSaves(t *testing.T, perKey time.Duration, ordinals ...int) {
	t.Helper()
	r.configure(t, "rdb-key-save-delay", strconv.FormatInt(perKey.Microseconds(), 10), ordinals...)
}

// saving is nil while a server saves.
func saving(ctx context.Context, client *goredis.Client) error {
	fields, err := info(ctx, client)
	if err == nil && fields["rdb_bgsave_in_progress"] != "1" {
		err = errors.New("no save is running")
	}
	return err
}
