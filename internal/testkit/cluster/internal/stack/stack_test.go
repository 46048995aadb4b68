package stack

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/build"
	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/paths"
	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/process"
)

func newCluster(t *testing.T) *Cluster {
	t.Helper()
	layout := paths.Layout{Cache: t.TempDir(), Run: t.TempDir()}
	c := New(layout, func(string, ...any) {})
	require.NoError(t, os.MkdirAll(layout.Config(), 0o755))
	return c
}

func (c *Cluster) allDaemons(crt certs) []process.Daemon {
	return []process.Daemon{
		c.containerd(), c.etcd(crt), c.apiserver(crt), c.controllerManager(crt), c.scheduler(crt),
		c.kubelet(), c.proxy(), c.dns(), c.provisioner(),
		c.csiDriver(), c.csiSnapshotter(), c.snapshotController(),
	}
}

// Every file a component is told to read must be one that is written.
func TestConfigurationIsComplete(t *testing.T) {
	c := newCluster(t)
	crt, err := c.certificates(time.Now())
	require.NoError(t, err)
	require.NoError(t, c.configure(crt))
	programs := map[string]bool{}
	for _, component := range build.Components() {
		for name := range component.Programs {
			programs[name] = true
		}
		for name := range component.Links {
			programs[name] = true
		}
	}
	daemons := c.allDaemons(crt)
	names := make([]string, 0, len(daemons))
	for _, d := range daemons {
		names = append(names, d.Name)
		assert.True(t, programs[d.Name], "%s is not built", d.Name)
		for _, input := range d.Inputs {
			assert.FileExists(t, input)
		}
		for _, arg := range d.Args {
			_, value, _ := strings.Cut(arg, "=")
			if strings.HasPrefix(value, c.layout.PKI()+"/") || strings.HasPrefix(value, c.layout.Config()) {
				assert.FileExists(t, value, d.Name)
			}
		}
	}
	assert.Equal(t, daemonNames(), names)
}

func TestConfigurationFilesAreWellFormed(t *testing.T) {
	c := newCluster(t)
	for name, place := range configFiles() {
		text, err := render(name, values{Layout: c.layout, Plan: c.plan, Node: nodeName, Cgroup: cgroup})
		require.NoError(t, err)
		assert.NotContains(t, string(text), "<no value>")
		var any any
		switch {
		case strings.HasSuffix(place, ".yaml"):
			assert.NoError(t, yaml.UnmarshalStrict(text, &any), name)
		case strings.HasSuffix(place, ".conflist"):
			assert.NoError(t, json.Unmarshal(text, &any), name)
		}
	}
}

func TestManifestsMatchTheirPaths(t *testing.T) {
	for _, m := range append(manifests(), snapshotManifests()...) {
		text, err := files.ReadFile("files/manifests/" + m.file)
		require.NoError(t, err)
		var object struct {
			APIVersion string
			Kind       string
			Metadata   struct{ Name string }
		}
		require.NoError(t, yaml.Unmarshal(text, &object))
		plural := strings.ToLower(object.Kind) + "s"
		if strings.HasSuffix(object.Kind, "s") {
			plural = strings.ToLower(object.Kind) + "es"
		}
		assert.Equal(t, "/apis/"+object.APIVersion+"/"+plural+"/"+object.Metadata.Name, m.path, m.file)
	}
}

// No private key may be readable by others, nor its content be in an argument.
func TestSecretsStayInFiles(t *testing.T) {
	c := newCluster(t)
	crt, err := c.certificates(time.Now())
	require.NoError(t, err)
	entries, err := os.ReadDir(c.layout.PKI())
	require.NoError(t, err)
	for _, e := range entries {
		info, err := e.Info()
		require.NoError(t, err)
		if strings.HasSuffix(e.Name(), ".key") {
			assert.Equal(t, os.FileMode(0o600), info.Mode().Perm(), e.Name())
		}
	}
	for _, d := range c.allDaemons(crt) {
		assert.NotContains(t, strings.Join(d.Args, " "), "PRIVATE KEY")
	}
}

func TestStalePods(t *testing.T) {
	since := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		status string
		stale  bool
	}{
		"ready since before": {
			`{"conditions":[{"type":"Ready","status":"True"}],"containerStatuses":[{"state":{"running":{"startedAt":"2026-01-01T11:59:59Z"}}}]}`, true,
		},
		"one of two containers from before": {
			`{"conditions":[{"type":"Ready","status":"True"}],"containerStatuses":[{"state":{"running":{"startedAt":"2026-01-01T12:00:01Z"}}},
			  {"state":{"running":{"startedAt":"2026-01-01T11:00:00Z"}}}]}`, true,
		},
		"restarted": {
			`{"conditions":[{"type":"Ready","status":"True"}],"containerStatuses":[{"state":{"running":{"startedAt":"2026-01-01T12:00:01Z"}}}]}`, false,
		},
		"not ready, for whatever reason": {
			`{"conditions":[{"type":"Ready","status":"False"}],"containerStatuses":[{"state":{"running":{"startedAt":"2026-01-01T11:00:00Z"}}}]}`, false,
		},
		"never started": {`{"conditions":[],"containerStatuses":[{"state":{"waiting":{"reason":"ErrImagePull"}}}]}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			var p pod
			require.NoError(t, json.Unmarshal([]byte(`{"status":`+test.status+`}`), &p))
			assert.Equal(t, test.stale, p.stale(since))
		})
	}
}

func TestClaimIsForOneCacheFolder(t *testing.T) {
	c := newCluster(t)
	require.NoError(t, c.claim())
	require.NoError(t, c.claim())
	other := New(paths.Layout{Cache: "/other", Run: c.layout.Run}, func(string, ...any) {})
	err := other.claim()
	require.ErrorIs(t, err, ErrOtherCluster)
	assert.ErrorContains(t, err, c.layout.Cache, "says how to stop it")
}

func TestStatusOfAClusterThatIsDown(t *testing.T) {
	c := newCluster(t)
	var out bytes.Buffer
	assert.ErrorIs(t, c.Status(t.Context(), &out), ErrNotHealthy)
	for _, name := range daemonNames() {
		assert.Contains(t, out.String(), name)
	}
	assert.Contains(t, out.String(), "not running")
}
