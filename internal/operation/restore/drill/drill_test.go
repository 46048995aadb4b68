package drill_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/operationtest"
	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/operation/restore/drill"
	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/rdb/rdbtest"
	"github.com/redisctl/redisctl/internal/redis"
	"github.com/redisctl/redisctl/internal/snapshot"
)

// host has room for one fake server.
type host struct {
	version redis.Version
	openErr error
	// endErr is what the server says once it was started.
	endErr error
	info   *operationtest.Server
	needs  drill.Needs
	files  map[string]string
	config []string
	open   bool
	// onStart is called when the server starts.
	onStart func()
}

func newHost(version string) *host {
	v, _ := redis.ParseVersion("redis", version)
	return &host{version: v, info: operationtest.Primary(), files: make(map[string]string)}
}

func (h *host) Name() string { return "redis-server " + h.version.Number() }

func (h *host) Open(_ context.Context, n drill.Needs) (drill.Server, error) {
	h.needs, h.open = n, h.openErr == nil
	return h, h.openErr
}

func (h *host) Version() redis.Version { return h.version }

func (h *host) Put(_ context.Context, name string, size int64, data io.Reader) error {
	text, err := io.ReadAll(data)
	if int64(len(text)) != size {
		err = fmt.Errorf("%d bytes, not %d", len(text), size)
	}
	h.files[name] = string(text)
	return err
}

func (h *host) Start(_ context.Context, config []string) error {
	h.config = config
	if h.onStart != nil {
		h.onStart()
	}
	return nil
}

func (h *host) Ended(context.Context) error            { return h.endErr }
func (h *host) Dial(context.Context) (net.Conn, error) { return nil, errors.New("not used") }
func (h *host) Password() string                       { return "" }

func (h *host) Deployment() *operation.Deployment {
	return &operation.Deployment{Name: "fake", Instances: []operation.Instance{{Name: "fake"}}}
}

func (h *host) Close(ctx context.Context) error {
	h.open = false
	return ctx.Err()
}

// Connect implements operation.Connector.
func (h *host) Connect(ctx context.Context, d *operation.Deployment, i operation.Instance) (operation.Server, error) {
	return operationtest.Fleet{"fake": h.info}.Connect(ctx, d, i)
}

func (h *host) OpenValues(context.Context, *operation.Deployment, operation.Instance) (restore.ValueReader, error) {
	return nil, errors.New("the comparison was reached")
}

func backup(t *testing.T, data []byte) restore.Backup {
	t.Helper()
	name := filepath.Join(t.TempDir(), "dump.rdb")
	require.NoError(t, os.WriteFile(name, data, 0o600))
	store, entry, err := snapshot.FindFile(t.Context(), name)
	require.NoError(t, err)
	return restore.Backup{Store: store, Entry: entry}
}

func small(header string) []byte {
	return rdbtest.File(header, func(w *rdbtest.Writer) {
		w.Aux("used-mem", "123456").SelectDB(0).String("a", "1").SelectDB(40).String("b", "2")
	})
}

func run(ctx context.Context, b restore.Backup, hosts ...*host) (drill.Result, error) {
	d := drill.Drill{
		Link:     func(s drill.Server) drill.Link { return s.(*host) },
		Reporter: operation.DiscardReporter{}, Now: time.Now,
	}
	for _, h := range hosts {
		d.Hosts = append(d.Hosts, h)
	}
	return d.Run(ctx, b, drill.Options{Stall: 300 * time.Millisecond, Life: 20 * time.Second})
}

func TestServerIsPreparedForTheBackup(t *testing.T) {
	h := newHost("7.0.15")
	_, err := run(t.Context(), backup(t, small(rdbtest.Redis70)), h)
	require.ErrorContains(t, err, "unexpected reply", "the fake server has no clock: the comparison has begun")
	assert.Equal(t, drill.Needs{Files: int64(len(small(rdbtest.Redis70))), Memory: 123456, Life: 20 * time.Second}, h.needs)
	assert.Equal(t, map[string]string{"dump.rdb": string(small(rdbtest.Redis70))}, h.files)
	assert.Contains(t, h.config, "databases 41")
	assert.Contains(t, h.config, "appendonly no")
	assert.Contains(t, h.config, `save ""`)
	assert.False(t, h.open)
}

// TestWhichServer: the first that reads the backup.
func TestWhichServer(t *testing.T) {
	b := backup(t, small(rdbtest.Redis72))
	older, broken, fits := newHost("7.0.15"), newHost("8.0.0"), newHost("7.2.0")
	broken.openErr = errors.New("no room")
	r, err := run(t.Context(), b, older, broken, fits)
	require.Error(t, err)
	assert.Equal(t, "redis-server 7.2.0", r.Server.Name)
	assert.False(t, older.open)
	assert.Empty(t, older.files)

	_, err = run(t.Context(), b, older)
	assert.Equal(t, operation.Unsupported, operation.KindOf(err))
	require.ErrorContains(t, err, "redis 7.0.15 does not read RDB version 11 (redis)")
	_, err = run(t.Context(), b)
	assert.Equal(t, operation.Unsupported, operation.KindOf(err))
	_, err = run(t.Context(), b, older, broken)
	assert.Equal(t, operation.Failed, operation.KindOf(err), "there might be a server that reads it")
}

func TestModulesAreNotTried(t *testing.T) {
	h := newHost("8.0.0")
	_, err := run(t.Context(), backup(t, rdbtest.File(rdbtest.Redis72, func(w *rdbtest.Writer) {
		w.SelectDB(0).Value(7, "key", []byte{0x81, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	})), h)
	assert.Equal(t, operation.Unsupported, operation.KindOf(err), "%v", err)
	assert.False(t, h.open)
}

// TestVerdicts tells what is the backup's fault from what is not.
func TestVerdicts(t *testing.T) {
	damaged := small(rdbtest.Redis70)
	damaged[len(damaged)-1]++
	for name, c := range map[string]struct {
		data    []byte
		change  func(h *host)
		problem string
		kind    operation.Kind
		err     string
	}{
		"a damaged backup": {damaged, func(*host) {}, "crc64", 0, ""},
		"a server that gives up": {small(rdbtest.Redis70), func(h *host) {
			h.endErr = &drill.EndError{Code: 1, Reason: "exit code 1", Log: []string{"Bad file format"}}
			h.info.Err = errors.New("connection refused")
		}, "Bad file format", 0, ""},
		"a server that is ended": {small(rdbtest.Redis70), func(h *host) {
			h.endErr = &drill.EndError{Code: 137, Reason: "OOMKilled, exit code 137"}
			h.info.Err = errors.New("connection refused")
		}, "", operation.Failed, "OOMKilled"},
		"a server that stands still": {small(rdbtest.Redis70), func(h *host) {
			h.info.Set(map[string]string{"loading": "1", "loading_loaded_bytes": "5"})
		}, "", operation.TimedOut, "no progress for 300ms"},
		"a server that does not answer": {small(rdbtest.Redis70), func(h *host) {
			h.info.Err = errors.New("connection refused")
		}, "", operation.TimedOut, "connection refused"},
		"wrong credentials": {small(rdbtest.Redis70), func(h *host) {
			h.info.Err = operation.Errorf(operation.Denied, "WRONGPASS")
		}, "", operation.Denied, "WRONGPASS"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost("7.0.15")
			c.change(h)
			r, err := run(t.Context(), backup(t, c.data), h)
			assert.False(t, r.Passed)
			assert.False(t, h.open, "nothing is left")
			if c.err != "" {
				require.ErrorContains(t, err, c.err)
				assert.Equal(t, c.kind, operation.KindOf(err))
				return
			}
			require.NoError(t, err)
			assert.Contains(t, r.Problem, c.problem)
			assert.Positive(t, r.Seconds.Total)
		})
	}
}

// TestInterrupted: also then the server is removed, in time that is left for that.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	h := newHost("7.0.15")
	h.info.Set(map[string]string{"loading": "1"})
	h.onStart = cancel
	_, err := run(ctx, backup(t, small(rdbtest.Redis70)), h)
	assert.Equal(t, operation.Interrupted, operation.KindOf(err), "%v", err)
	assert.False(t, h.open)
}

func TestReadable(t *testing.T) {
	for name, want := range map[string]bool{
		"redis 6.0.16 REDIS 9":   true,
		"redis 6.0.16 REDIS 10":  false,
		"redis 7.0.15 REDIS 10":  true,
		"redis 8.0.2 REDIS 12":   true,
		"redis 8.0.2 VALKEY 80":  false,
		"valkey 8.1.1 REDIS 11":  true,
		"valkey 8.1.1 REDIS 12":  false,
		"valkey 9.0.0 VALKEY 80": true,
		"valkey 9.0.0 REDIS 11":  true,
		"valkey 9.0.0 REDIS 12":  false,
		"valkey 8.1.1 VALKEY 80": false,
	} {
		var product, number, magic string
		var s rdb.Summary
		_, err := fmt.Sscan(name, &product, &number, &magic, &s.Version)
		require.NoError(t, err)
		v, err := redis.ParseVersion(product, number)
		require.NoError(t, err)
		s.Origin = rdb.Origin(strings.ToLower(magic))
		assert.Equal(t, want, restore.Readable(v, &s), name)
	}
}
