package backup_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/backup"
	"github.com/redisctl/redisctl/internal/operation/operationtest"
	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/rdb/rdbtest"
	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/storage"
	"github.com/redisctl/redisctl/internal/storage/folder"
)

// world is a release with a primary and a replica in sync, and what a backup of it
// needs. Each test changes one thing.
type world struct {
	backup.RDB
	deployment *operation.Deployment
	fleet      operationtest.Fleet
	root       string
	now        time.Time

	// data is what the source sends; after it Read fails with dataErr, if that is
	// set.
	data    []byte
	dataErr error
	// snapshotErr and saveErr fail the start.
	snapshotErr, saveErr error
	// free is the free space on the source's disk, or freeErr.
	free    int64
	freeErr error
	// storeFree is the free space of the store, -1 for unknown.
	storeFree int64

	// state and size are those of the file that the server has, whatever of it arrives.
	state operation.FileState
	size  int64

	said          []string
	streamed      *backup.StreamOptions
	locked        int
	lock          context.Context // what Lock returns instead of its own
	copied        string
	streamsClosed int
	saves         int
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		deployment: operationtest.Deployment(2),
		fleet: operationtest.Fleet{
			"cache-redis-0": operationtest.Primary("10.0.0.11"),
			"cache-redis-1": operationtest.Replica("10.0.0.10"),
		},
		root: t.TempDir(), now: time.Date(2026, 11, 23, 9, 5, 1, 0, time.UTC),
		data: rdbtest.File(rdbtest.Redis70, func(w *rdbtest.Writer) {
			w.SelectDB(0).ResizeDB(2, 0).String("a", "1").String("b", "2")
		}),
		free: 1 << 40, storeFree: -1,
	}
	w.RDB = backup.RDB{
		Connector: w.fleet, Streamer: w, Saver: w, Files: w, Locker: w, Reporter: w,
		Store: spacious{folder.New(w.root), &w.storeFree},
		Now: func() time.Time {
			w.now = w.now.Add(time.Second) // every look at the clock takes a second
			return w.now
		},
		Version: "1.2.3",
	}
	return w
}

// spacious is a store with the free space that a test wants.
type spacious struct {
	storage.Store
	free *int64
}

func (s spacious) Free(context.Context) (int64, bool) { return *s.free, *s.free >= 0 }
func (s spacious) Location(name string) string        { return "store/" + name }

func (w *world) Snapshot(_ context.Context, _ *operation.Deployment, i operation.Instance, o backup.StreamOptions) (backup.Stream, error) {
	w.streamed = &o
	o.State("preparing " + i.Name)
	w.now = w.now.Add(time.Minute) // the server forks
	if w.snapshotErr != nil {
		return nil, w.snapshotErr
	}
	return &content{w: w, Reader: w.reader()}, nil
}

func (w *world) reader() io.Reader {
	if w.dataErr == nil {
		return bytes.NewReader(w.data)
	}
	return io.MultiReader(bytes.NewReader(w.data), failing{w.dataErr})
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// content is a backup.Stream and an operation.File.
type content struct {
	io.Reader
	w      *world
	offset int64
}

func (c *content) Close() error { c.w.streamsClosed++; return nil }
func (c *content) Size() int64  { return max(c.w.size, int64(len(c.w.data))) }

func (c *content) Offset() int64              { return c.offset }
func (c *content) State() operation.FileState { return c.w.state }

func (c *content) Origin() backup.Origin {
	return backup.Origin{ReplicationID: "f00d", Offset: 77, Form: "eof"}
}

func (w *world) Save(context.Context, *operation.Deployment, operation.Instance, operation.Reporter) (backup.Saved, error) {
	w.saves++
	return backup.Saved{Path: "/data/dump.rdb", Took: time.Second}, w.saveErr
}

func (w *world) ReadFile(
	_ context.Context, _ *operation.Deployment, _ operation.Instance, path string, o backup.ReadOptions,
) (operation.File, error) {
	w.copied = path
	c := &content{w: w, Reader: w.reader()}
	if n := o.Have.Bytes; n > 0 && n <= int64(len(w.data)) && fmt.Sprintf("%x", sha256.Sum256(w.data[:n])) == o.Have.SHA256 {
		c.offset = n
		if _, err := io.CopyN(io.Discard, c.Reader, n); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (w *world) FreeSpace(context.Context, *operation.Deployment, operation.Instance, string) (int64, error) {
	return w.free, w.freeErr
}

func (w *world) Lock(ctx context.Context, _ *operation.Deployment) (context.Context, func(), error) {
	w.locked++
	if w.lock != nil {
		ctx = w.lock
	}
	return ctx, func() { w.locked-- }, nil
}

func (w *world) Step(format string, args ...any) {
	w.said = append(w.said, fmt.Sprintf(format, args...))
}
func (w *world) Note(format string, args ...any) { w.Step("note: "+format, args...) }
func (w *world) Warn(format string, args ...any) { w.Step("warning: "+format, args...) }
func (w *world) Progress(operation.Progress)     {}

// files lists what is stored under a final name.
func (w *world) files(t *testing.T) []string {
	t.Helper()
	objects, err := folder.New(w.root).List(t.Context(), "")
	require.NoError(t, err)
	names := make([]string, len(objects))
	for i, o := range objects {
		names[i] = o.Name
	}
	return names
}

func options(change func(*backup.Options)) backup.Options {
	o := backup.Options{Method: backup.MethodStream, Timeout: time.Second, Stall: 15 * time.Second}
	if change != nil {
		change(&o)
	}
	return o
}

// TestPlanAsJSON: a plan is shown before anything is done, so it must say all.
func TestPlanAsJSON(t *testing.T) {
	for name, c := range map[string]struct {
		options backup.Options
		want    string
	}{
		"stream": {options(nil), `{
			"operation": "backup rdb", "object": "prod/cache",
			"source": "cache-redis-1", "method": "stream", "destination": "store/prod/cache",
			"steps": [
				{"action": "take a snapshot over the replication protocol", "subject": "cache-redis-1", "mutates": false},
				{"action": "verify structure and CRC64 while storing, then publish file and manifest", "subject": "store/prod/cache", "mutates": false}
			],
			"findings": []
		}`},
		"bgsave": {options(func(o *backup.Options) { o.Method = backup.MethodBgsave }), `{
			"operation": "backup rdb", "object": "prod/cache",
			"source": "cache-redis-1", "method": "bgsave", "destination": "store/prod/cache",
			"steps": [
				{"action": "take the release's lock", "subject": "prod/cache", "mutates": true},
				{"action": "BGSAVE and wait until it has succeeded", "subject": "cache-redis-1", "mutates": true},
				{"action": "copy the file, with its length and SHA-256 in-band", "subject": "cache-redis-1", "mutates": false},
				{"action": "verify structure and CRC64 while storing, then publish file and manifest", "subject": "store/prod/cache", "mutates": false}
			],
			"findings": []
		}`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			plan, err := w.Plan(t.Context(), w.deployment, c.options)
			require.NoError(t, err)
			text, err := json.Marshal(plan)
			require.NoError(t, err)
			assert.JSONEq(t, c.want, string(text))
			assert.Zero(t, w.locked)
			assert.Empty(t, w.files(t), "planning only reads")
		})
	}
}

// TestPlanFindings brings the world into one state at a time and expects exactly the
// finding that names it.
func TestPlanFindings(t *testing.T) {
	bgsave := func(o *backup.Options) { o.Method = backup.MethodBgsave }
	set := func(w *world, name, value string) { w.fleet["cache-redis-1"].Config[name] = value }
	for name, c := range map[string]struct {
		spoil   func(*world)
		options func(*backup.Options)
		want    string // code, severity, whether it blocks
		message string
	}{
		"nothing": {func(*world) {}, nil, "", ""},
		"the store is nearly full": {
			func(w *world) { w.storeFree = 1 << 10 }, nil,
			"low-space critical true", "1.0 KiB free, the snapshot may need up to 1.0 MiB",
		},
		"the store is nearly full, ignored": {
			func(w *world) { w.storeFree = 1 << 10 }, func(o *backup.Options) { o.IgnoreSpace = true },
			"low-space critical false", "1.0 KiB free, the snapshot may need up to 1.0 MiB",
		},
		"the server waits for more replicas": {
			func(w *world) { set(w, "repl-diskless-sync", "yes"); set(w, "repl-diskless-sync-delay", "5") }, nil,
			"diskless-delay notice false", "the server waits 5 s for more replicas before it starts (repl-diskless-sync-delay)",
		},
		"it does not wait": {
			func(w *world) { set(w, "repl-diskless-sync", "yes"); set(w, "repl-diskless-sync-delay", "0") }, nil, "", "",
		},
		"the server uses its disk": {
			func(w *world) { set(w, "repl-diskless-sync", "no"); set(w, "repl-diskless-sync-delay", "5") }, nil,
			"disk-based notice false", "",
		},
		"the user wants the disk": {
			func(w *world) { set(w, "repl-diskless-sync", "yes"); set(w, "repl-diskless-sync-delay", "5") },
			func(o *backup.Options) { o.DiskBased = true }, "disk-based notice false", "",
		},
		"CONFIG is disabled": {func(w *world) { w.fleet["cache-redis-1"].Config = nil }, nil, "", ""},
		"only the primary is left": {
			func(w *world) { w.fleet["cache-redis-1"].Err = operation.Errorf(operation.Failed, "refused") }, nil,
			"source-is-primary notice false", "",
		},
		"no room for BGSAVE": {
			func(w *world) { w.free = 1 << 10 }, bgsave,
			"no-space-for-save critical true", "/data has 1.0 KiB free, BGSAVE may need up to 1.0 MiB",
		},
		"no room for BGSAVE, ignored": {
			func(w *world) { w.free = 1 << 10 }, func(o *backup.Options) { bgsave(o); o.IgnoreSpace = true },
			"no-space-for-save critical false", "",
		},
		"the room is not known": {
			func(w *world) { w.freeErr = errors.New("no df in the image") }, bgsave,
			"no-space-for-save critical true", "the free space of /data is not known: no df in the image",
		},
		"the server's own folder counts": {
			func(w *world) { w.free = 1 << 10; set(w, "dir", "/elsewhere") }, bgsave,
			"no-space-for-save critical true", "/elsewhere has 1.0 KiB free, BGSAVE may need up to 1.0 MiB",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c.spoil(w)
			plan, err := w.Plan(t.Context(), w.deployment, options(c.options))
			require.NoError(t, err)
			if c.want == "" {
				assert.Empty(t, plan.Findings)
				return
			}
			require.Len(t, plan.Findings, 1, "%+v", plan.Findings)
			f := plan.Findings[0]
			assert.Equal(t, c.want, fmt.Sprint(f.Code, " ", f.Severity, " ", f.Blocks()))
			if c.message != "" {
				assert.Equal(t, c.message, f.Message)
			}
			if f.Severity == operation.Critical {
				assert.Equal(t, "--ignore-space", f.Override)
			}
		})
	}
}

func TestPlanFailures(t *testing.T) {
	bgsave := func(o *backup.Options) { o.Method = backup.MethodBgsave }
	for name, c := range map[string]struct {
		spoil   func(*world)
		options func(*backup.Options)
		kind    operation.Kind
		text    string
	}{
		"no permission at all": {
			func(w *world) {
				for _, s := range w.fleet {
					s.Err = operation.Errorf(operation.Denied, "NOAUTH")
				}
			}, nil, operation.Denied, "NOAUTH",
		},
		"may not look at the disk": {
			func(w *world) { w.freeErr = operation.Errorf(operation.Denied, "may not create pods/exec") }, bgsave,
			operation.Denied, "may not create pods/exec",
		},
		"no file to copy from a plain address": {
			func(w *world) {
				w.deployment.Workload, w.deployment.Namespace, w.deployment.Name = nil, "", "10.0.0.10:6379"
				w.deployment.Instances[1].Name = "10.0.0.11:6379"
				w.fleet["10.0.0.11:6379"] = w.fleet["cache-redis-1"]
			},
			bgsave, operation.Usage, "10.0.0.10:6379: backup rdb --method bgsave: the file that BGSAVE writes cannot be read from a plain address",
		},
		"a name that is a path": {
			func(w *world) { w.deployment.Release = ".." }, nil, operation.Usage,
			`prod/..: naming the backup's folder: ".." is not a valid name of a namespace or release`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c.spoil(w)
			_, err := w.Plan(t.Context(), w.deployment, options(c.options))
			assert.EqualError(t, err, c.text)
			assert.Equal(t, c.kind, operation.KindOf(err))
		})
	}
}

func TestApplyStream(t *testing.T) {
	w := newWorld(t)
	plan, err := w.Plan(t.Context(), w.deployment, options(func(o *backup.Options) { o.DiskBased = true }))
	require.NoError(t, err)
	m, err := w.Apply(t.Context(), plan)
	require.NoError(t, err)

	assert.Equal(t, snapshot.Source{
		Namespace: "prod", Release: "cache", Instance: "cache-redis-1", Address: "10.0.0.11:6379", Role: "replica",
		Product: "redis", Version: "7.0.15", RunID: "r", ReplicationID: "f00d", ReplicationOffset: 77,
		Method: "stream", Transfer: "eof",
	}, m.Source)
	assert.Equal(t, "1.2.3", m.CreatedBy)
	assert.Equal(t, int64(2), m.RDB().RDB.Keys)
	assert.GreaterOrEqual(t, m.Durations.Wait, 60.0, "the time until the first byte counts")
	assert.Equal(t, []string{"prod/cache/" + m.ID + ".manifest.json", "prod/cache/" + m.ID + ".rdb"}, w.files(t))
	stored, err := os.ReadFile(filepath.Join(w.root, filepath.FromSlash(plan.DataName(m))))
	require.NoError(t, err)
	assert.Equal(t, w.data, stored)

	assert.True(t, w.streamed.DiskBased)
	assert.Equal(t, 15*time.Second, w.streamed.Stall)
	assert.Equal(t, 1, w.streamsClosed)
	assert.Zero(t, w.locked)
	assert.Equal(t, []string{
		"taking a snapshot from cache-redis-1 (replica) over the replication protocol",
		"note: preparing cache-redis-1",
	}, w.said)
}

func TestApplyBgsave(t *testing.T) {
	w := newWorld(t)
	plan, err := w.Plan(t.Context(), w.deployment, options(func(o *backup.Options) { o.Method = backup.MethodBgsave }))
	require.NoError(t, err)
	m, err := w.Apply(t.Context(), plan)
	require.NoError(t, err)
	assert.Equal(t, "bgsave", m.Source.Method)
	assert.Equal(t, "file", m.Source.Transfer)
	assert.Empty(t, m.Source.ReplicationID, "a file does not say where in the history it is")
	assert.Equal(t, "/data/dump.rdb", w.copied)
	assert.Nil(t, w.streamed)
	assert.Zero(t, w.locked, "the lock must be released")
	assert.Len(t, w.files(t), 2)
}

// TestApplyFailures: whatever goes wrong, nothing stands under a final name, and the
// error says so.
func TestApplyFailures(t *testing.T) {
	bgsave := func(o *backup.Options) { o.Method = backup.MethodBgsave }
	lost, lose := context.WithCancelCause(context.Background())
	lose(operation.ErrLeaseLost)
	denied := &operation.Error{Kind: operation.Denied, Object: "pod prod/cache-redis-1", Phase: "asking for a snapshot", Err: errors.New("NOPERM"), Next: "allow +psync"}
	for name, c := range map[string]struct {
		spoil   func(*world)
		options func(*backup.Options)
		kind    operation.Kind
		is      error
		text    string
	}{
		"the server refuses": {
			func(w *world) { w.snapshotErr = denied }, nil, operation.Denied, nil,
			"pod prod/cache-redis-1: asking for a snapshot: NOPERM",
		},
		"the connection is cut": {
			func(w *world) { w.data, w.dataErr = w.data[:20], io.ErrUnexpectedEOF }, nil, operation.Failed, io.ErrUnexpectedEOF, "",
		},
		"the connection is cut behind the last byte": {
			func(w *world) { w.dataErr = io.ErrUnexpectedEOF }, nil, operation.Failed, io.ErrUnexpectedEOF, "",
		},
		"the data ends early without an error": {
			func(w *world) { w.data = w.data[:len(w.data)-1] }, nil, operation.Failed, rdb.ErrTruncated, "",
		},
		"a bit flipped": {
			func(w *world) { w.data[len(w.data)-12] ^= 1 }, nil, operation.Failed, rdb.ErrCorrupt, "",
		},
		"a stall": {
			func(w *world) { w.dataErr = operation.Errorf(operation.TimedOut, "no byte for 15s") }, nil, operation.TimedOut, nil, "",
		},
		"BGSAVE fails": {
			func(w *world) { w.saveErr = operation.Errorf(operation.Failed, "rdb_last_bgsave_status is err") }, bgsave, operation.Failed, nil,
			"rdb_last_bgsave_status is err",
		},
		"the copy is cut": {
			func(w *world) { w.data, w.dataErr = w.data[:20], io.ErrUnexpectedEOF }, bgsave, operation.Failed, io.ErrUnexpectedEOF, "",
		},
		"the lock is lost": {
			func(w *world) { w.lock = lost }, bgsave, operation.Interrupted, operation.ErrLeaseLost, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c.spoil(w)
			plan, err := w.Plan(t.Context(), w.deployment, options(c.options))
			require.NoError(t, err)
			_, err = w.Apply(t.Context(), plan)
			var e *operation.Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, c.kind, e.Kind, "%v", err)
			assert.Equal(t, "no backup was stored; older ones are untouched", e.Unchanged)
			if c.is != nil {
				assert.ErrorIs(t, err, c.is)
			}
			if c.text != "" {
				assert.EqualError(t, err, c.text)
			}
			assert.Empty(t, w.files(t))
			assert.Zero(t, w.locked, "the lock must be released")
		})
	}
	assert.Empty(t, denied.Unchanged, "the adapter's error must not be written to")
}

// TestApplyRefuses: with a blocker, nothing is even asked for.
func TestApplyRefuses(t *testing.T) {
	w := newWorld(t)
	w.storeFree = 1 << 10
	plan, err := w.Plan(t.Context(), w.deployment, options(nil))
	require.NoError(t, err)
	_, err = w.Apply(t.Context(), plan)
	assert.EqualError(t, err, "prod/cache: backup rdb: store/: 1.0 KiB free, the snapshot may need up to 1.0 MiB [low-space]; override with --ignore-space")
	assert.Equal(t, operation.Refused, operation.KindOf(err))
	assert.Nil(t, w.streamed)
}

// TestApplyRechecksThePlan: between plan and apply a person reads and thinks.
func TestApplyRechecksThePlan(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*operationtest.Server)
		kind  operation.Kind
		text  string
	}{
		"restarted": {
			func(s *operationtest.Server) { s.Set(map[string]string{"run_id": "another"}) }, operation.Refused,
			"prod/cache: re-checking the plan: cache-redis-1 restarted since the plan was made",
		},
		"gone": {
			func(s *operationtest.Server) { s.Err = operation.Errorf(operation.Failed, "connection refused") }, operation.Failed,
			"connection refused",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			plan, err := w.Plan(t.Context(), w.deployment, options(nil))
			require.NoError(t, err)
			c.spoil(w.fleet["cache-redis-1"])
			_, err = w.Apply(t.Context(), plan)
			assert.EqualError(t, err, c.text)
			assert.Equal(t, c.kind, operation.KindOf(err))
			assert.Nil(t, w.streamed)
			assert.Empty(t, w.files(t))
		})
	}
}

// TestApplySweepsWhatWasKilled: a backup that was killed leaves a temporary file, which
// the next one removes once it is surely dead.
func TestApplySweepsWhatWasKilled(t *testing.T) {
	w := newWorld(t)
	abandoned, err := folder.New(w.root).Create(t.Context(), "prod/cache/rdb-20261101T000000Z-aaaa.rdb", storage.CreateOptions{})
	require.NoError(t, err)
	defer abandoned.Abort()
	var temporary string
	require.NoError(t, filepath.WalkDir(w.root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			temporary = path
		}
		return err
	}))
	long := time.Now().Add(-2 * storage.SweepAge)
	require.NoError(t, os.Chtimes(temporary, long, long))

	plan, err := w.Plan(t.Context(), w.deployment, options(nil))
	require.NoError(t, err)
	_, err = w.Apply(t.Context(), plan)
	require.NoError(t, err)
	assert.NoFileExists(t, temporary)
	assert.Contains(t, w.said, "note: removed what an interrupted backup left of store/prod/cache/rdb-20261101T000000Z-aaaa.rdb")
}
