package bundle_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/backup"
	"github.com/redisctl/redisctl/internal/operation/bundle"
	"github.com/redisctl/redisctl/internal/operation/events"
	"github.com/redisctl/redisctl/internal/operation/logs"
	"github.com/redisctl/redisctl/internal/operation/operationtest"
	"github.com/redisctl/redisctl/internal/redis"
)

// canary is in every secret of the scene, and in nothing else.
const canary = "canary-3f9a"

func secret(place string) string { return canary + "-" + place }

// world is a release that has secrets everywhere.
type world struct {
	operationtest.Fleet
	forbidden bool
}

func (w world) Connect(ctx context.Context, d *operation.Deployment, i operation.Instance) (operation.Server, error) {
	s, err := w.Fleet.Connect(ctx, d, i)
	return server{s}, err
}

type server struct{ operation.Server }

func (s server) Do(ctx context.Context, args ...any) (any, error) {
	switch args[0] {
	case "ACL":
		return []any{"user default on #" + secret("hash") + " ~* +@all", "user app on >" + secret("acl") + " ~" + secret("keys") + "* +get"}, nil
	case "SLOWLOG":
		return []any{[]any{int64(1), int64(1700000000), int64(20000), []any{"SET", secret("key"), secret("value")}, "10.0.0.9:4000", secret("client")}}, nil
	case "CLIENT":
		return "id=7 addr=10.0.0.9:4000 name=" + secret("client") + " age=1 idle=0 flags=N db=0 cmd=set lib-name=" + secret("lib") + "\n", nil
	default:
		return s.Server.Do(ctx, args...)
	}
}

func (w world) HelmRelease(context.Context, *operation.Deployment) (*backup.HelmRelease, error) {
	return &backup.HelmRelease{Name: "cache", Values: map[string]any{
		"redis":    map[string]any{"password": secret("values"), "extraConfig": "user bob on >" + secret("bob") + " ~*\nrename-command FLUSHALL " + secret("renamed")},
		"extraEnv": []any{map[string]any{"name": "PLAIN", "value": secret("env")}},
		"args":     []any{"--requirepass", secret("argument")}, "podAnnotations": map[string]any{"note": secret("annotation")},
	}}, nil
}

func (w world) Resources(context.Context, *operation.Deployment, bool) (backup.Resources, error) {
	if w.forbidden {
		return backup.Resources{Missing: []operation.Gap{{Part: "secrets", Reason: "forbidden"}}}, nil
	}
	return backup.Resources{Items: []backup.Resource{
		{Kind: "Secret", Name: "auth", YAML: []byte("kind: Secret\ndata:\n  token: " + base64.StdEncoding.EncodeToString([]byte(secret("secret")+"\n")) + "\n")},
		{Kind: "ConfigMap", Name: "conf", YAML: []byte("kind: ConfigMap\ndata:\n  redis.conf: |\n    masterauth " + secret("conf") + "\n    maxmemory 1gb\n")},
		{Kind: "StatefulSet", Name: "cache-redis", YAML: []byte("kind: StatefulSet\nmetadata:\n  annotations:\n    kubectl.kubernetes.io/last-applied-configuration: " +
			secret("applied") + "\nspec:\n  template:\n    spec:\n      containers:\n      - name: redis\n        env:\n        - name: X\n          value: " + secret("pod") +
			"\n        command: [sh, -c, \"redis-cli -a " + secret("command") + " ping\"]\n")},
	}}, nil
}

func (w world) Events(context.Context, *operation.Deployment) ([]events.Event, error) {
	return []events.Event{{Reason: "Unhealthy", Message: "probe said " + secret("secret")}}, nil
}

func (w world) WatchEvents(context.Context, *operation.Deployment, func(events.Event) error) error {
	return errors.New("nobody watches")
}

func (w world) StreamLog(_ context.Context, _ *operation.Deployment, _ logs.Request, line func(time.Time, string) error) error {
	for _, text := range []string{
		"wrong password: " + secret("password"), base64.StdEncoding.EncodeToString([]byte(secret("secret"))), "requirepass " + secret("log"), "hash " + secret("hash"),
	} {
		if err := line(time.Unix(1700000000, 0), text); err != nil {
			return err
		}
	}
	return nil
}

func scene(t *testing.T, forbidden bool) (bundle.Collector, *operation.Deployment) {
	t.Helper()
	d := operationtest.Deployment(2)
	var err error
	d.Config, err = redis.ParseConfig("requirepass " + secret("config"))
	require.NoError(t, err)
	w := world{operationtest.Fleet{"cache-redis-0": operationtest.Primary("10.0.0.11"), "cache-redis-1": operationtest.Replica("10.0.0.10")}, forbidden}
	for _, s := range w.Fleet {
		s.Config = map[string]string{"requirepass": secret("running"), "masterauth": secret("running"), "dir": "/data"}
	}
	return bundle.Collector{
		Connector: w, Objects: w, Events: w, Logs: w, Reporter: operation.DiscardReporter{}, Now: func() time.Time { return time.Unix(1700000000, 0) },
		Password: func(context.Context, *operation.Deployment) (string, error) { return secret("password"), nil },
		Build:    map[string]string{"version": "1"},
	}, d
}

// unpack returns the files of an archive, and fails when the canary is in a name.
func unpack(t *testing.T, archive []byte) map[string]string {
	t.Helper()
	compressed, err := gzip.NewReader(bytes.NewReader(archive))
	require.NoError(t, err)
	files := make(map[string]string)
	for reader := tar.NewReader(compressed); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		require.NoError(t, err)
		content, err := io.ReadAll(reader)
		require.NoError(t, err)
		files[strings.TrimPrefix(header.Name, "redisctl-support/")] = string(content)
	}
}

func TestNoSecretGetsIn(t *testing.T) {
	c, d := scene(t, false)
	m, err := c.Collect(t.Context(), d, bundle.DefaultOptions())
	require.NoError(t, err)
	assert.NoError(t, m.Partial(), "%v", m.Missing)
	var archive bytes.Buffer
	require.NoError(t, m.Write(&archive))
	assert.NotContains(t, archive.String(), canary)
	files := unpack(t, archive.Bytes())
	encoded := base64.StdEncoding.EncodeToString([]byte(secret("secret")))
	for name, content := range files {
		assert.NotContains(t, name, canary)
		assert.NotContains(t, content, canary, name)
		assert.NotContains(t, content, encoded, name)
	}
	// What helps is there.
	assert.Contains(t, files["objects.yaml"], "maxmemory 1gb")
	assert.Contains(t, files["instances/cache-redis-0/slowlog.json"], `"command": "SET"`)
	assert.Contains(t, files["instances/cache-redis-1/config.json"], `"dir": "/data"`)
	assert.Contains(t, files["README.txt"], "objects.yaml")
	for _, f := range m.Files {
		assert.Equal(t, f.Bytes, len(files[f.Name]), f.Name)
	}
}

// Without knowing the secrets, nothing that may hold them goes in.
func TestUnknownSecretsKeepFreeTextOut(t *testing.T) {
	c, d := scene(t, true)
	m, err := c.Collect(t.Context(), d, bundle.DefaultOptions())
	require.NoError(t, err)
	assert.Equal(t, operation.Partial, operation.KindOf(m.Partial()))
	for _, f := range m.Files {
		assert.NotContains(t, f.Name, "logs/")
		assert.NotEqual(t, "events.json", f.Name)
	}
	var reasons strings.Builder
	for _, missing := range m.Missing {
		reasons.WriteString(missing.Part + ": " + missing.Reason + "\n")
	}
	assert.Contains(t, reasons.String(), "log cache-redis-0: the secrets are not known")
}

// One instance that is gone does not keep the rest out.
func TestPartial(t *testing.T) {
	c, d := scene(t, false)
	d.Instances[1].Pod.ContainerRunning, d.Instances[1].Pod.Reason = false, "CrashLoopBackOff"
	m, err := c.Collect(t.Context(), d, bundle.DefaultOptions())
	require.NoError(t, err)
	assert.Equal(t, []bundle.Missing{{Part: "instance cache-redis-1", Reason: "pod cache-redis-1: not running: CrashLoopBackOff"}}, m.Missing)
}

func TestPlanNamesWhatIsCollected(t *testing.T) {
	c, d := scene(t, false)
	m, err := c.Collect(t.Context(), d, bundle.DefaultOptions())
	require.NoError(t, err)
	var planned, collected []string
	for _, f := range c.Plan(d).Files {
		planned = append(planned, f.Name)
	}
	for _, f := range m.Files {
		collected = append(collected, f.Name)
	}
	assert.ElementsMatch(t, planned, collected)
}

func TestFilesAreBounded(t *testing.T) {
	c, d := scene(t, false)
	o := bundle.DefaultOptions()
	o.FileLimit = 50
	m, err := c.Collect(t.Context(), d, o)
	require.NoError(t, err)
	for _, f := range m.Files {
		assert.LessOrEqual(t, f.Bytes, 50, f.Name)
	}
}

func TestSaveNeverReplaces(t *testing.T) {
	c, d := scene(t, false)
	m, err := c.Collect(t.Context(), d, bundle.DefaultOptions())
	require.NoError(t, err)
	name := filepath.Join(t.TempDir(), "b.tar.gz")
	size, err := m.Save(name)
	require.NoError(t, err)
	info, err := os.Stat(name)
	require.NoError(t, err)
	assert.Equal(t, size, info.Size())
	assert.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	_, err = m.Save(name)
	require.ErrorIs(t, err, fs.ErrExist)
	left, err := os.ReadDir(filepath.Dir(name))
	require.NoError(t, err)
	assert.Len(t, left, 1, "no half file stays")
}
