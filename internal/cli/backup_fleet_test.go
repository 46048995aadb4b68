package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/backup"
	"github.com/redisctl/redisctl/internal/redisconn"
	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

// releases is a cluster of releases that are single servers.
type releases struct {
	deployments []operation.Deployment
	asked       operation.Target
}

func (r *releases) Resolve(context.Context, operation.Target) (*operation.Deployment, error) {
	return nil, errors.New("one release was looked for")
}

func (r *releases) List(_ context.Context, t operation.Target) ([]operation.Deployment, error) {
	r.asked = t
	return r.deployments, nil
}

func (r *releases) add(namespace, host string, port int) {
	name := "cache-redis-0"
	r.deployments = append(r.deployments, operation.Deployment{
		Namespace: namespace, Release: "cache", Name: "cache-redis",
		Instances: []operation.Instance{{Name: name, Host: host, Port: port}},
	})
}

func (r *releases) backend(*app) (*backend, error) {
	c := redisconn.Connector{
		Dial:        redisconn.DialInstance,
		Credentials: func(context.Context, *operation.Deployment) (string, string, error) { return "", "", nil },
		DialTimeout: 5 * time.Second, Timeout: 5 * time.Second,
	}
	return &backend{Resolver: r, Connector: c, Streamer: streamer{c}, Saver: saver{c}, Files: noCluster{}, Objects: noCluster{}}, nil
}

// run runs a command line with these releases and returns stdout and the exit code.
func (r *releases) run(t *testing.T, line ...string) (string, int) {
	t.Helper()
	var out, narration bytes.Buffer
	a := newApp(System{
		In: strings.NewReader(""), Out: &out, Err: &narration, Now: time.Now,
		LookupEnv: func(string) (string, bool) { return "", false },
	})
	a.backend = r.backend
	root := a.newRootCommand()
	root.SetArgs(line)
	err := root.ExecuteContext(t.Context())
	t.Logf("%s%v", narration.String(), err)
	return out.String(), exitCode(err)
}

// TestBackupOfAllNamespaces: a release that fails costs the others nothing.
func TestBackupOfAllNamespaces(t *testing.T) {
	redisserver.Versions(t)
	r := &releases{}
	var dead *redisserver.Server
	for _, namespace := range []string{"prod", "stage", "test"} {
		s := redisserver.Start(t, redisserver.Options{Config: []string{"repl-diskless-sync-delay 0"}})
		require.NoError(t, redisserver.Fill(t.Context(), s.Client(), 1, 50))
		r.add(namespace, s.Host, s.Port)
		dead = s
	}
	store := filepath.Join(t.TempDir(), "backups")
	line := []string{"backup", "rdb", "-A", "-o", "json", "--backup-dir", store}
	backups := func(line ...string) (fleet backupFleet[backup.Plan], code int) {
		t.Helper()
		out, code := r.run(t, line...)
		require.NoError(t, json.Unmarshal([]byte(out), &fleet), out)
		return fleet, code
	}

	fleet, code := backups(append(line, "--dry-run")...)
	assert.Equal(t, exitDone, code)
	assert.Equal(t, "cache-redis-0", fleet.Items[1].Plan.Source)
	assert.NoDirExists(t, store)

	fleet, code = backups(line...)
	assert.Equal(t, exitDone, code)
	assert.True(t, r.asked.AllNamespaces)
	assert.Equal(t, 3, fleet.Succeeded)
	for i, namespace := range []string{"prod", "stage", "test"} {
		item := fleet.Items[i]
		assert.Equal(t, namespace, item.Namespace)
		require.NotNil(t, item.Backup)
		assert.FileExists(t, item.Backup.File)
		assert.Contains(t, filepath.ToSlash(item.Backup.File), namespace+"/cache/")
		assert.Positive(t, item.Backup.RDB().RDB.Keys)
	}

	// Helm cannot be asked here: what could be read is stored, and that it is not all is said.
	fleet, code = backups("backup", "config", "--all-releases", "-o", "json", "--backup-dir", store)
	assert.Equal(t, exitPartial, code)
	for _, item := range fleet.Items {
		require.NotNil(t, item.Backup)
		assert.FileExists(t, item.Backup.File)
		assert.Contains(t, item.Error, "could not be read")
	}
	for _, what := range []string{"aof", "full"} {
		fleet, code = backups("backup", what, "-A", "-o", "json", "--backup-dir", store)
		assert.Equal(t, exitUsage, code, "%s: there are no files to read", what)
		assert.Equal(t, 3, fleet.Failed)
	}
	fleet, code = backups("backup", "resources", "-A", "-o", "json", "--backup-dir", store)
	assert.NotEqual(t, exitDone, code)
	assert.Equal(t, 3, fleet.Failed)

	dead.Kill()
	fleet, code = backups(append(line, "--parallel", "1")...)
	assert.Equal(t, exitPartial, code)
	assert.Equal(t, []int{2, 1}, []int{fleet.Succeeded, fleet.Failed})
	assert.FileExists(t, fleet.Items[0].Backup.File)
	assert.Nil(t, fleet.Items[2].Backup)
	assert.Contains(t, fleet.Items[2].Error, "refused")
	out, code := r.run(t, append(line, "-o", "table", "--all-releases")...)
	assert.Equal(t, exitPartial, code)
	assert.Regexp(t, `(?m)^stage +cache +stored +cache-redis-0 +rdb-`, out)
	assert.Regexp(t, `(?m)^test +cache +failed .*refused`, out)

	r.deployments = r.deployments[2:]
	_, code = backups(line...)
	assert.Equal(t, exitFailed, code, "all failed in the same way")
	r.deployments = nil
	for _, wrong := range [][]string{{}, {"--pod", "p"}, {"--parallel", "0"}} {
		_, code = r.run(t, append(line, wrong...)...)
		assert.Equal(t, exitUsage, code, "%v: nothing to back up is no success", wrong)
	}
	_, code = r.run(t, "backup", "rdb", "--all-releases", "--address", "127.0.0.1:1")
	assert.Equal(t, exitUsage, code)
}

func TestForEach(t *testing.T) {
	var running, most atomic.Int32
	var barrier sync.WaitGroup
	barrier.Add(3)
	started := forEach(t.Context(), 3, 3, func(int) { barrier.Done(); barrier.Wait() }) // ends only if all run at once
	assert.Equal(t, []bool{true, true, true}, started)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mu sync.Mutex
	done := map[int]bool{}
	started = forEach(ctx, 10, 2, func(i int) {
		if n := running.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer running.Add(-1)
		if i > 3 {
			<-ctx.Done()
		}
		mu.Lock()
		defer mu.Unlock()
		done[i] = true
		if i == 3 {
			cancel()
		}
	})
	assert.LessOrEqual(t, most.Load(), int32(2))
	for i, began := range started {
		assert.Equal(t, began, done[i], "%d", i)
	}
	assert.False(t, started[9], "none begins after the end of the context")
}

func TestCombined(t *testing.T) {
	denied := operation.Errorf(operation.Denied, "no")
	other := errors.New("other")
	assert.Equal(t, operation.Partial, combined(1, []error{denied}))
	assert.Equal(t, operation.Denied, combined(0, []error{denied, denied}))
	assert.Equal(t, operation.Failed, combined(0, []error{denied, other}))
}
