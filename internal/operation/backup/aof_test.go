package backup_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/backup"
	"github.com/redisctl/redisctl/internal/redis"
	"github.com/redisctl/redisctl/internal/redisconn"
	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/storage/folder"
	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

// node stands for the cluster around one real server: its files, the lock, the notes.
type node struct {
	backup.AOF
	t          *testing.T
	server     *redisserver.Server
	deployment *operation.Deployment
	root       string // of the store

	mu    sync.Mutex
	notes map[string]string
	said  []string
	// opened is called with the name of each file before it is opened.
	opened func(name string)
	// read replaces what a file holds.
	read func(name string, data []byte) []byte
	// cut replaces what arrives of a file.
	cut func(name string, r io.Reader) io.Reader
	// reads says which files were read, and from which byte on.
	reads []string
}

// newNode starts a server that keeps an append-only file.
func newNode(t *testing.T, version string, config ...string) *node {
	t.Helper()
	config = append([]string{"appendonly yes"}, config...)
	n := &node{
		t: t, root: t.TempDir(), notes: make(map[string]string),
		server: redisserver.Start(t, redisserver.Options{Version: version, Config: config}),
	}
	parsed, err := redis.ParseConfig(strings.Join(config, "\n"))
	require.NoError(t, err)
	n.deployment = &operation.Deployment{
		Namespace: "prod", Release: "cache", Name: "cache-redis", Config: parsed,
		Workload:  &operation.Workload{Name: "cache-redis", Volume: operation.Volume{MountPath: n.server.Dir}},
		Instances: []operation.Instance{{Name: "cache-redis-0", Host: n.server.Host, Port: n.server.Port, Pod: &operation.Pod{UID: "4711", ContainerRunning: true}}},
	}
	n.AOF = backup.AOF{
		Connector: redisconn.Connector{
			Dial: redisconn.DialInstance,
			Credentials: func(context.Context, *operation.Deployment) (string, string, error) {
				return "", "", nil
			},
			DialTimeout: 5 * time.Second, Timeout: 5 * time.Second,
		},
		Files: n, Locker: n, Notes: n, Store: folder.New(n.root), Reporter: narrator{n}, Now: time.Now, Version: "1.2.3",
	}
	return n
}

func (n *node) ReadFile(
	ctx context.Context, _ *operation.Deployment, _ operation.Instance, name string, o backup.ReadOptions,
) (operation.File, error) {
	if n.opened != nil {
		n.opened(path.Base(name))
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	if n.read != nil {
		data = n.read(path.Base(name), data)
	}
	if o.Limit > 0 {
		data = data[:min(o.Limit, int64(len(data)))]
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	f := &local{size: int64(len(data)), state: operation.FileState{
		Inode: strconv.FormatUint(info.Sys().(*syscall.Stat_t).Ino, 10), Modified: info.ModTime().String(),
	}}
	if have := o.Have.Bytes; have > 0 && have <= f.size && fmt.Sprintf("%x", sha256.Sum256(data[:have])) == o.Have.SHA256 {
		f.offset = have
	}
	f.Reader = bytes.NewReader(data[f.offset:])
	if n.cut != nil {
		f.Reader = n.cut(path.Base(name), f.Reader)
	}
	n.reads = append(n.reads, fmt.Sprintf("%s from %d", path.Base(name), f.offset))
	return f, nil
}

func (n *node) FreeSpace(context.Context, *operation.Deployment, operation.Instance, string) (int64, error) {
	return math.MaxInt64, nil
}

// local is a file of a server on this machine.
type local struct {
	io.Reader
	size, offset int64
	state        operation.FileState
}

func (f *local) Size() int64                { return f.size }
func (f *local) Offset() int64              { return f.offset }
func (f *local) State() operation.FileState { return f.state }
func (*local) Close() error                 { return nil }

func (n *node) Lock(ctx context.Context, _ *operation.Deployment) (context.Context, func(), error) {
	return ctx, func() {}, nil
}

func (n *node) Note(_ context.Context, _ *operation.Deployment, key string) (string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.notes[key], nil
}

func (n *node) SetNotes(ctx context.Context, _ *operation.Deployment, notes map[string]string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	maps.Copy(n.notes, notes)
	return ctx.Err()
}

// narrator keeps what an operation says.
type narrator struct{ n *node }

func (r narrator) Step(format string, args ...any) {
	r.n.said = append(r.n.said, fmt.Sprintf(format, args...))
}
func (r narrator) Note(format string, args ...any) { r.Step(format, args...) }
func (r narrator) Warn(format string, args ...any) { r.Step("warning: "+format, args...) }
func (narrator) Progress(operation.Progress)       {}

func (n *node) backup() (*snapshot.Manifest, error) { return n.backupWith(n.t.Context()) }

func (n *node) backupWith(ctx context.Context) (*snapshot.Manifest, error) {
	plan, err := n.Plan(ctx, n.deployment, backup.AOFOptions{Timeout: 5 * time.Second, Stall: 15 * time.Second})
	if err != nil {
		return nil, err
	}
	return n.Apply(ctx, plan)
}

// setting returns what CONFIG GET says.
func (n *node) setting(name string) string {
	values, err := n.server.Client().ConfigGet(n.t.Context(), name).Result()
	require.NoError(n.t, err)
	return values[name]
}

func (n *node) rewrite() {
	require.NoError(n.t, n.server.Client().BgRewriteAOF(n.t.Context()).Err())
	n.server.WaitFor("the rewrite", func(ctx context.Context) bool {
		info, err := n.server.Client().Info(ctx, "persistence").Result()
		return err == nil && strings.Contains(info, "aof_rewrite_in_progress:0") && strings.Contains(info, "aof_rewrite_scheduled:0")
	})
}

// load starts a server of the same version on the stored files.
func (n *node) load(m *snapshot.Manifest) *redisserver.Server {
	n.t.Helper()
	dir := n.t.TempDir()
	for _, f := range m.Files {
		data, err := os.ReadFile(filepath.Join(n.root, "prod", "cache", f.Name))
		require.NoError(n.t, err)
		target := filepath.Join(dir, filepath.FromSlash(f.Path))
		require.NoError(n.t, os.MkdirAll(filepath.Dir(target), 0o700))
		require.NoError(n.t, os.WriteFile(target, data, 0o600))
	}
	return redisserver.Start(n.t, redisserver.Options{
		Version: n.server.Version, Dir: dir, Config: []string{"appendonly yes", "aof-load-truncated no"},
	})
}

func (n *node) verify(m *snapshot.Manifest) {
	n.t.Helper()
	e, err := snapshot.Find(n.t.Context(), n.Store, snapshot.Filter{}, m.ID)
	require.NoError(n.t, err)
	require.NoError(n.t, e.Problem)
	_, err = snapshot.Verify(n.t.Context(), n.Store, e, snapshot.VerifyOptions{})
	require.NoError(n.t, err)
}

// nothing checks that a failed backup has left nothing, neither here nor there.
func (n *node) nothing() {
	n.t.Helper()
	entries, err := snapshot.List(n.t.Context(), n.Store, snapshot.Filter{})
	require.NoError(n.t, err)
	assert.Empty(n.t, entries)
	require.NoError(n.t, filepath.WalkDir(n.root, func(name string, d os.DirEntry, err error) error {
		assert.True(n.t, err != nil || d.IsDir(), "%s is left", name)
		return err
	}))
	assert.Empty(n.t, n.notes[operation.NoteSettings])
}

// An append-only file, copied while clients write and the server rewrites it, loads in
// a real server, which would not accept a truncated one.
func TestAOFLoadsInARealServer(t *testing.T) {
	for _, version := range redisserver.Versions(t) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, version)
			require.NoError(t, redisserver.Fill(t.Context(), n.server.Client(), 1, 500))
			n.rewrite()
			require.NoError(t, n.server.Client().MSet(t.Context(), "after", "the rewrite", "and", "so on").Err())
			percentage := n.setting("auto-aof-rewrite-percentage")
			w := redisserver.StartWriter(t, n.server.Client(), "during")
			once := sync.OnceFunc(n.rewrite)
			n.opened = func(name string) {
				if !strings.HasSuffix(name, ".manifest") {
					once() // its manifest has been read by now
				}
			}
			m, err := n.backup()
			require.NoError(t, err)
			acknowledged, err := w.Stop()
			require.NoError(t, err)
			assert.Equal(t, percentage, n.setting("auto-aof-rewrite-percentage"))
			if version != redisserver.Redis60 {
				assert.Equal(t, "no", n.setting("aof-disable-auto-gc"))
			}
			assert.Empty(t, n.notes[operation.NoteSettings])
			n.verify(m)

			loaded := n.load(m)
			require.NoError(t, redisserver.Compare(t.Context(), n.server.Client(), loaded.Client(), redisserver.WriterPrefix))
			written, err := loaded.Client().Keys(t.Context(), redisserver.WriterPrefix+"*").Result()
			require.NoError(t, err)
			assert.NotEmpty(t, written, "what was written before the copy began")
			assert.LessOrEqual(t, len(written), acknowledged+1)
			for i := range written {
				require.Contains(t, written, redisserver.WriterPrefix+"during:"+strconv.Itoa(i), "there is no gap")
			}
		})
	}
}

// Without CONFIG, a rewrite that removes files makes the copy begin again.
func TestAOFWithoutConfig(t *testing.T) {
	for _, version := range redisserver.Versions(t) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, version, `rename-command CONFIG ""`)
			require.NoError(t, redisserver.Fill(t.Context(), n.server.Client(), 1, 300))
			n.rewrite()
			once := sync.OnceFunc(n.rewrite)
			n.opened = func(name string) {
				if !strings.HasSuffix(name, ".manifest") {
					once()
				}
			}
			m, err := n.backup()
			require.NoError(t, err)
			if version != redisserver.Redis60 { // there, the open file stays what it was
				assert.Contains(t, strings.Join(n.said, "\n"), "beginning again")
			}
			n.verify(m)
			require.NoError(t, redisserver.Compare(t.Context(), n.server.Client(), n.load(m).Client()))
		})
	}
}

// Constant rewriting ends in an error, not in an endless loop.
func TestAOFWithoutConfigGivesUp(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a real server")
	}
	n := newNode(t, redisserver.Redis70, `rename-command CONFIG ""`)
	n.opened = func(name string) {
		if strings.HasSuffix(name, ".rdb") {
			n.rewrite()
		}
	}
	_, err := n.backup()
	require.ErrorContains(t, err, "the server rewrote its append-only file during the copy")
	n.nothing()
}

func TestAOFInterrupted(t *testing.T) {
	for _, version := range redisserver.Versions(t) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, version)
			setting, during := "aof-disable-auto-gc", ""
			if version == redisserver.Redis60 {
				setting = "auto-aof-rewrite-percentage"
			}
			before := n.setting(setting)
			ctx, cancel := context.WithCancel(t.Context())
			n.opened = func(string) {
				during = n.setting(setting)
				assert.Contains(t, n.notes[operation.NoteSettings], setting, "what is changed is on record")
				cancel()
			}
			_, err := n.backupWith(ctx)
			assert.Equal(t, operation.Interrupted, operation.KindOf(err))
			assert.NotEqual(t, before, during)
			assert.Equal(t, before, n.setting(setting))
			n.nothing()
		})
	}
}

// What a killed backup has left changed, the next one puts back, as it was recorded.
func TestAOFRepairsAfterAKill(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a real server")
	}
	n := newNode(t, redisserver.Redis70)
	note := ""
	n.opened = func(string) { note = n.notes[operation.NoteSettings] }
	_, err := n.backup()
	require.NoError(t, err)
	require.NotEmpty(t, note)

	n.notes[operation.NoteSettings] = note
	require.NoError(t, n.server.Client().ConfigSet(t.Context(), "aof-disable-auto-gc", "yes").Err())
	_, err = n.backup()
	require.NoError(t, err)
	assert.Equal(t, "no", n.setting("aof-disable-auto-gc"))
	assert.Empty(t, n.notes[operation.NoteSettings])

	// A restart has undone it already; and the user may have set it since.
	n.server.Restart()
	n.notes[operation.NoteSettings] = note
	require.NoError(t, n.server.Client().ConfigSet(t.Context(), "aof-disable-auto-gc", "yes").Err())
	_, err = n.backup()
	require.NoError(t, err)
	assert.Equal(t, "yes", n.setting("aof-disable-auto-gc"))
	assert.Empty(t, n.notes[operation.NoteSettings])
}

// A command that is still being written when the copy is made is left out.
func TestAOFCutsAnUnfinishedCommand(t *testing.T) {
	for _, version := range redisserver.Versions(t) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, version)
			require.NoError(t, redisserver.Fill(t.Context(), n.server.Client(), 1, 100))
			tail := "*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n*3\r\n$3\r\nSE"
			n.read = func(name string, data []byte) []byte {
				if strings.HasSuffix(name, ".aof") {
					data = append(data, tail...)
				}
				return data
			}
			m, err := n.backup()
			require.NoError(t, err)
			var cut int64
			for _, f := range m.Files {
				cut += f.CutBytes
			}
			assert.Equal(t, int64(len(tail)), cut)
			assert.Contains(t, strings.Join(n.said, "\n"), "are left out")
			n.verify(m)
			// Replayed commands note anew when consumers were seen.
			require.NoError(t, redisserver.Compare(t.Context(), n.server.Client(), n.load(m).Client(), "stream:"))
		})
	}
}

func TestAOFRefusesDamage(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a real server")
	}
	for name, damage := range map[string]struct {
		suffix string
		change func([]byte) []byte
	}{
		"a command":    {".incr.aof", func(data []byte) []byte { return append([]byte("*2\r\nxx"), data...) }},
		"the base":     {".base.rdb", func(data []byte) []byte { data[len(data)-1] ^= 1; return data }},
		"a cut base":   {".base.rdb", func(data []byte) []byte { return data[:len(data)-1] }},
		"the manifest": {".manifest", func([]byte) []byte { return []byte("file ../x seq 1 type b\n") }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, redisserver.Redis70)
			require.NoError(t, redisserver.Fill(t.Context(), n.server.Client(), 1, 100))
			n.read = func(name string, data []byte) []byte {
				if strings.HasSuffix(name, damage.suffix) {
					data = damage.change(data)
				}
				return data
			}
			_, err := n.backup()
			require.Error(t, err)
			if operation.KindOf(err) != operation.Corrupt {
				require.ErrorIs(t, err, snapshot.ErrCorrupt)
			}
			assert.Equal(t, "no", n.setting("aof-disable-auto-gc"))
			n.nothing()
		})
	}
}

func TestAOFOff(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a real server")
	}
	n := newNode(t, redisserver.Redis70, "appendonly no")
	_, err := n.backup()
	assert.Equal(t, operation.Refused, operation.KindOf(err))
	require.ErrorContains(t, err, "aof_enabled:0")
	require.ErrorContains(t, err, "redisctl info persistence")
	n.nothing()
}

func TestAOFOfAPlainAddress(t *testing.T) {
	d := &operation.Deployment{Name: "10.0.0.1:6379", Instances: []operation.Instance{{Name: "10.0.0.1:6379"}}}
	_, err := backup.AOF{}.Plan(t.Context(), d, backup.AOFOptions{})
	assert.Equal(t, operation.Usage, operation.KindOf(err))
	require.ErrorContains(t, err, "cannot be read")
}
