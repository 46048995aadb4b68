package helm

import (
	"context"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/common"
	helmkube "helm.sh/helm/v4/pkg/kube"
	kubefake "helm.sh/helm/v4/pkg/kube/fake"
	rcommon "helm.sh/helm/v4/pkg/release/common"
	release "helm.sh/helm/v4/pkg/release/v1"
	"helm.sh/helm/v4/pkg/storage/driver"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/upgrade"
)

const testChart = "../../testdata/charts/redis"

// offline keeps records as a cluster does, and applies objects to nothing.
type offline struct {
	*Releases
	records *driver.Secrets
	// updateError is what applying fails with.
	updateError error
}

func newOffline() *offline {
	prepareSDK()
	o := &offline{records: driver.NewSecrets(fake.NewClientset().CoreV1().Secrets("shop"))}
	o.Releases = &Releases{connect: func(context.Context, string) (backend, error) {
		printing := kubefake.PrintingKubeClient{Out: io.Discard, LogOutput: io.Discard}
		var objects helmkube.Interface = &printing
		if o.updateError != nil {
			objects = &failingUpdate{printing, o.updateError}
		}
		return backend{objects: objects, records: o.records, capabilities: common.DefaultCapabilities}, nil
	}}
	return o
}

type failingUpdate struct {
	kubefake.PrintingKubeClient
	err error
}

func (f *failingUpdate) Update(_, _ helmkube.ResourceList, _ ...helmkube.ClientUpdateOption) (*helmkube.Result, error) {
	return &helmkube.Result{}, f.err
}

// install makes release "cache" of the chart, as a user would.
func (o *offline) install(t *testing.T, chartPath string, values map[string]any) *operation.Deployment {
	t.Helper()
	d := deployment("cache-redis")
	s, err := o.open(t.Context(), d)
	require.NoError(t, err)
	chart, err := load(chartPath)
	require.NoError(t, err)
	a := action.NewInstall(s.configuration)
	a.ReleaseName, a.Namespace, a.WaitStrategy = d.Release, d.Namespace, helmkube.HookOnlyStrategy
	_, err = a.Run(chart, values)
	require.NoError(t, err)
	return d
}

func deployment(workload string) *operation.Deployment {
	return &operation.Deployment{
		Namespace: "shop", Release: "cache",
		Workload: &operation.Workload{Kind: "StatefulSet", Name: workload, Container: "redis"},
	}
}

// newest returns the release's newest revision as it is stored.
func (o *offline) newest(t *testing.T, d *operation.Deployment) *release.Release {
	t.Helper()
	s, err := o.open(t.Context(), d)
	require.NoError(t, err)
	kept, err := s.revisions(t.Context())
	require.NoError(t, err)
	return kept[len(kept)-1]
}

// writeChart makes a chart whose StatefulSet runs the image that the template gives.
func writeChart(t *testing.T, values, image string) string {
	t.Helper()
	folder := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(folder, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	write("Chart.yaml", "{apiVersion: v2, name: redis, version: 0.1.0, appVersion: '7.0'}")
	write("values.yaml", values)
	write("templates/set.yaml", `apiVersion: apps/v1
kind: StatefulSet
metadata: {name: cache-redis}
spec:
  serviceName: cache-redis
  template:
    spec:
      containers:
      - {name: sidecar, image: other}
      - {name: redis, image: "`+image+`"}
`)
	return folder
}

func TestHistory(t *testing.T) {
	o := newOffline()
	d := deployment("cache-redis")
	_, err := o.History(t.Context(), d)
	require.ErrorIs(t, err, fs.ErrNotExist)
	assert.EqualError(t, err, "Helm release shop/cache: reading the Helm release: file does not exist: "+
		"no Secret with the labels owner=helm,name=cache has it")

	d = o.install(t, testChart, map[string]any{"mode": "replica"})
	c, err := o.WithImage(t.Context(), d, upgrade.Change{Description: "to 7.2"}, "redis:7.2.5")
	require.NoError(t, err)
	made, err := o.Upgrade(t.Context(), d, c)
	require.NoError(t, err)

	history, err := o.History(t.Context(), d)
	require.NoError(t, err)
	require.Len(t, history, 2)
	assert.Equal(t, made.Image, history[1].Image)
	for i := range history {
		assert.NotZero(t, history[i].Updated)
		history[i].Updated = made.Updated
	}
	assert.Equal(t, []upgrade.Revision{
		{
			Number: 1, Status: "superseded", Chart: "redis-1.0.0", AppVersion: "7.0.15", Updated: made.Updated,
			Description: "Install complete", Image: "docker.io/library/redis:7.0.15",
		},
		{
			Number: 2, Status: "deployed", Chart: "redis-1.0.0", AppVersion: "7.0.15", Updated: made.Updated,
			Description: "to 7.2", Image: "docker.io/library/redis:7.2.5",
		},
	}, history)
}

func TestWithImage(t *testing.T) {
	const digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	repository := "image: {repository: redis, tag: '7.0'}"
	registry := "image: {registry: docker.io, repository: bitnami/redis, tag: '7.0', digest: ''}"
	const bitnami = "{{ .Values.image.registry }}/{{ .Values.image.repository }}" +
		"{{ if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ .Values.image.tag }}{{ end }}"
	tests := map[string]struct {
		values, template, image string
		want                    map[string]any
	}{
		"the tag only": {
			repository, "{{ .Values.image.repository }}:{{ .Values.image.tag }}", "docker.io/library/redis:7.2",
			map[string]any{"image": map[string]any{"tag": "7.2"}},
		},
		"another repository": {
			repository, "{{ .Values.image.repository }}:{{ .Values.image.tag }}", "valkey/valkey:8.1",
			map[string]any{"image": map[string]any{"repository": "valkey/valkey", "tag": "8.1"}},
		},
		"as it is": {
			repository, "{{ .Values.image.repository }}:{{ .Values.image.tag }}", "redis:7.0", nil,
		},
		"a registry's port": {
			repository, "{{ .Values.image.repository }}:{{ .Values.image.tag }}", "localhost:5000/redis:7.2",
			map[string]any{"image": map[string]any{"repository": "localhost:5000/redis", "tag": "7.2"}},
		},
		"tag and digest": {
			repository, "{{ .Values.image.repository }}:{{ .Values.image.tag }}", "redis:7.2@" + digest,
			map[string]any{"image": map[string]any{"tag": "7.2@" + digest}},
		},
		"repository apart from the registry": {
			registry, bitnami, "bitnami/valkey:8.1",
			map[string]any{"image": map[string]any{"repository": "bitnami/valkey", "tag": "8.1"}},
		},
		"another registry": {
			registry, bitnami, "quay.io/bitnami/redis:7.2",
			map[string]any{"image": map[string]any{"registry": "quay.io", "repository": "bitnami/redis", "tag": "7.2"}},
		},
		"a digest": {
			registry, bitnami, "bitnami/redis@" + digest,
			map[string]any{"image": map[string]any{"digest": digest}},
		},
		"a digest that was": {
			"image: {registry: docker.io, repository: bitnami/redis, tag: '7.0', digest: '" + digest + "'}", bitnami, "bitnami/redis:7.2",
			map[string]any{"image": map[string]any{"digest": "", "tag": "7.2"}},
		},
		"one value": {
			"image: redis:7.0", "{{ .Values.image }}", "redis:7.2", map[string]any{"image": "redis:7.2"},
		},
		"below redis, not the operator's own": {
			"{image: {repository: operator, tag: '1'}, redis: {image: {repository: redis, tag: '7.0'}}}",
			"{{ .Values.redis.image.repository }}:{{ .Values.redis.image.tag }}", "redis:7.2",
			map[string]any{"redis": map[string]any{"image": map[string]any{"tag": "7.2"}}},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			o := newOffline()
			d := o.install(t, writeChart(t, test.values, test.template), nil)
			c, err := o.WithImage(t.Context(), d, upgrade.Change{}, test.image)
			require.NoError(t, err)
			assert.Equal(t, test.want, c.Values)
		})
	}

	t.Run("keeps what was asked for", func(t *testing.T) {
		o := newOffline()
		d := o.install(t, testChart, nil)
		asked := map[string]any{"image": map[string]any{"pullPolicy": "Never"}}
		c, err := o.WithImage(t.Context(), d, upgrade.Change{Values: asked}, "redis:7.2.5")
		require.NoError(t, err)
		assert.Equal(t, map[string]any{"image": map[string]any{"pullPolicy": "Never", "tag": "7.2.5"}}, c.Values)
		assert.Equal(t, map[string]any{"image": map[string]any{"pullPolicy": "Never"}}, asked)
	})
	t.Run("no value does", func(t *testing.T) {
		o := newOffline()
		d := o.install(t, writeChart(t, "{image: {tag: '7'}, server: {tag: '7.0'}}", "redis:{{ .Values.server.tag }}"), nil)
		_, err := o.WithImage(t.Context(), d, upgrade.Change{}, "redis:7.2")
		assert.Equal(t, operation.Refused, operation.KindOf(err))
		assert.EqualError(t, err, "Helm release shop/cache: choosing the image: container redis runs redis:7.0, and none of the "+
			"values that charts commonly have makes it run redis:7.2 (tried: image.tag)")
		c, err := o.WithImage(t.Context(), d, upgrade.Change{Values: map[string]any{"server": map[string]any{"tag": "7.2"}}}, "redis:7.2")
		require.NoError(t, err, "the user has named the value")
		assert.Equal(t, map[string]any{"server": map[string]any{"tag": "7.2"}}, c.Values)
	})
	t.Run("no image", func(t *testing.T) {
		o := newOffline()
		_, err := o.WithImage(t.Context(), deployment("cache-redis"), upgrade.Change{}, "redis 7")
		assert.Equal(t, operation.Usage, operation.KindOf(err))
	})
}

func TestPreview(t *testing.T) {
	bumped := t.TempDir()
	require.NoError(t, os.CopyFS(bumped, os.DirFS(testChart)))
	require.NoError(t, os.WriteFile(filepath.Join(bumped, "Chart.yaml"),
		[]byte("{apiVersion: v2, name: redis, version: 1.1.0, appVersion: 7.2.5}"), 0o600))
	hooked := writeChart(t, "", "redis:7.0")
	require.NoError(t, os.WriteFile(filepath.Join(hooked, "templates", "hooks.yaml"), []byte(`
{apiVersion: v1, kind: ConfigMap, metadata: {name: before, annotations: {helm.sh/hook: pre-upgrade}}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: test, annotations: {helm.sh/hook: test}}}
`), 0o600))

	set := upgrade.ObjectChange{Kind: "StatefulSet", Name: "cache-redis", Action: "changed"}
	tests := map[string]struct {
		change    upgrade.Change
		image     string
		replaced  bool
		objects   []upgrade.ObjectChange
		immutable []string
		hooks     []string
	}{
		"nothing": {image: "docker.io/library/redis:7.0.15", objects: []upgrade.ObjectChange{}},
		"image": {
			change: upgrade.Change{Values: map[string]any{"image": map[string]any{"tag": "7.2.5"}}},
			image:  "docker.io/library/redis:7.2.5", replaced: true, objects: []upgrade.ObjectChange{set},
		},
		"replicas": {
			change: upgrade.Change{Values: map[string]any{"replication": map[string]any{"replicas": 1}}},
			image:  "docker.io/library/redis:7.0.15", objects: []upgrade.ObjectChange{set},
		},
		"mode": {
			change: upgrade.Change{Values: map[string]any{"mode": "standalone"}},
			image:  "docker.io/library/redis:7.0.15", replaced: true, immutable: []string{"spec.serviceName"},
			objects: []upgrade.ObjectChange{
				{Kind: "Service", Name: "cache-redis", Action: "changed"},
				{Kind: "Service", Name: "cache-redis-headless", Action: "removed"},
				{Kind: "Service", Name: "cache-redis-master", Action: "removed"}, set,
			},
		},
		"other chart": {
			change: upgrade.Change{Chart: hooked}, image: "redis:7.0", replaced: true, hooks: []string{"before"},
			immutable: []string{"spec.selector", "spec.serviceName", "spec.volumeClaimTemplates"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			o := newOffline()
			d := o.install(t, testChart, map[string]any{"mode": "replica"})
			p, err := o.Preview(t.Context(), d, test.change)
			require.NoError(t, err)
			assert.Equal(t, test.image, p.Image)
			assert.Equal(t, test.replaced, p.Replaced)
			assert.Equal(t, test.immutable, p.Immutable)
			assert.Equal(t, test.hooks, p.Hooks)
			if test.objects != nil {
				assert.Equal(t, test.objects, p.Objects)
			}
			history, err := o.History(t.Context(), d)
			require.NoError(t, err)
			assert.Len(t, history, 1, "nothing was changed")
		})
	}

	t.Run("chart version", func(t *testing.T) {
		o := newOffline()
		d := o.install(t, testChart, map[string]any{"mode": "replica"})
		p, err := o.Preview(t.Context(), d, upgrade.Change{Chart: bumped})
		require.NoError(t, err)
		assert.Equal(t, "redis-1.1.0", p.Chart)
		assert.Equal(t, []string{"spec.volumeClaimTemplates"}, p.Immutable)
	})
	t.Run("configuration and workload", func(t *testing.T) {
		o := newOffline()
		d := o.install(t, testChart, nil)
		p, err := o.Preview(t.Context(), d, upgrade.Change{
			Values: map[string]any{"redis": map[string]any{"config": "appendonly yes", "extraConfig": "maxmemory 1gb"}},
		})
		require.NoError(t, err)
		assert.Equal(t, "appendonly yes\nmaxmemory 1gb\n", p.Config)
		assert.Contains(t, string(p.Workload), `"meta.helm.sh/release-name":"cache","meta.helm.sh/release-namespace":"shop"`)
		assert.Contains(t, string(p.Workload), `"app.kubernetes.io/managed-by":"Helm"`)
		p, err = o.Preview(t.Context(), d, upgrade.Change{Values: map[string]any{"redis": map[string]any{"existingConfigMap": "mine"}}})
		require.NoError(t, err)
		assert.Empty(t, p.Config)
	})
	t.Run("way back", func(t *testing.T) {
		o := newOffline()
		d := o.install(t, testChart, nil)
		_, err := o.Upgrade(t.Context(), d, upgrade.Change{Values: map[string]any{"image": map[string]any{"tag": "7.2.5"}}})
		require.NoError(t, err)
		p, err := o.Preview(t.Context(), d, upgrade.Change{Back: 1})
		require.NoError(t, err)
		assert.Equal(t, "docker.io/library/redis:7.0.15", p.Image)
		assert.True(t, p.Replaced)
		_, err = o.Preview(t.Context(), d, upgrade.Change{Back: 7})
		assert.EqualError(t, err, "Helm release shop/cache: rendering the chart: there is no revision 7; there are [1 2]")
	})
	t.Run("no chart", func(t *testing.T) {
		o := newOffline()
		d := o.install(t, testChart, nil)
		_, err := o.Preview(t.Context(), d, upgrade.Change{Chart: "/nowhere"})
		assert.Equal(t, operation.Usage, operation.KindOf(err))
	})
}

func TestUpgrade(t *testing.T) {
	t.Run("values", func(t *testing.T) {
		o := newOffline()
		d := o.install(t, testChart, map[string]any{"mode": "replica", "podAnnotations": map[string]any{"team": "shop"}})
		_, err := o.Upgrade(t.Context(), d, upgrade.Change{Values: map[string]any{"podAnnotations": map[string]any{"tier": "cache"}}})
		require.NoError(t, err)
		assert.Equal(t, map[string]any{
			"mode": "replica", "podAnnotations": map[string]any{"team": "shop", "tier": "cache"},
		}, o.newest(t, d).Config)

		_, err = o.Upgrade(t.Context(), d, upgrade.Change{Values: map[string]any{"mode": "standalone"}, ResetValues: true})
		require.NoError(t, err)
		assert.Equal(t, map[string]any{"mode": "standalone"}, o.newest(t, d).Config)

		// The values of the first one, changed.
		_, err = o.Upgrade(t.Context(), d, upgrade.Change{Back: 1, Values: map[string]any{"mode": "standalone"}})
		require.NoError(t, err)
		assert.Equal(t, map[string]any{
			"mode": "standalone", "podAnnotations": map[string]any{"team": "shop"},
		}, o.newest(t, d).Config)
	})
	t.Run("way back", func(t *testing.T) {
		o := newOffline()
		d := o.install(t, testChart, nil)
		_, err := o.Upgrade(t.Context(), d, upgrade.Change{Values: map[string]any{"image": map[string]any{"tag": "7.2.5"}}})
		require.NoError(t, err)
		back, err := o.Upgrade(t.Context(), d, upgrade.Change{Back: 1})
		require.NoError(t, err)
		assert.Equal(t, 3, back.Number)
		assert.Equal(t, "deployed", back.Status)
		assert.Equal(t, "Rollback to 1", back.Description)
		assert.Equal(t, "docker.io/library/redis:7.0.15", back.Image)
		assert.Equal(t, 1, o.newest(t, d).Info.RollbackRevision)
	})
	t.Run("failure", func(t *testing.T) {
		o := newOffline()
		d := o.install(t, testChart, map[string]any{"redis": map[string]any{"password": "hunter22"}})
		o.updateError = assert.AnError
		for _, c := range []upgrade.Change{{}, {Back: 1}} {
			made, err := o.Upgrade(t.Context(), d, c)
			require.ErrorIs(t, err, assert.AnError)
			assert.Equal(t, "failed", made.Status)
			assert.NotZero(t, made.Number)
			assert.Equal(t, rcommon.StatusFailed, o.newest(t, d).Info.Status)
		}
		o.updateError = nil
		made, err := o.Upgrade(t.Context(), d, upgrade.Change{})
		require.NoError(t, err)
		assert.Equal(t, 4, made.Number)
	})
	t.Run("somebody else", func(t *testing.T) {
		o := newOffline()
		d := o.install(t, testChart, nil)
		require.NoError(t, o.Settle(t.Context(), d))
		assert.Equal(t, rcommon.StatusDeployed, o.newest(t, d).Info.Status, "nothing is pending")

		pending := *o.newest(t, d)
		pending.Version = 2
		pending.Info = &release.Info{Status: rcommon.StatusPendingUpgrade, LastDeployed: pending.Info.LastDeployed}
		require.NoError(t, o.records.Create("sh.helm.release.v1.cache.v2", &pending))

		_, err := o.Upgrade(t.Context(), d, upgrade.Change{})
		assert.Equal(t, operation.Locked, operation.KindOf(err))
		assert.ErrorContains(t, err, "another Helm operation is in progress: revision 2 is pending-upgrade since ")
		_, err = o.Preview(t.Context(), d, upgrade.Change{})
		assert.Equal(t, operation.Locked, operation.KindOf(err))

		require.NoError(t, o.Settle(t.Context(), d))
		assert.Equal(t, rcommon.StatusFailed, o.newest(t, d).Info.Status)
		made, err := o.Upgrade(t.Context(), d, upgrade.Change{})
		require.NoError(t, err)
		assert.Equal(t, 3, made.Number)
	})
}

func TestInstall(t *testing.T) {
	o := newOffline()
	d := o.install(t, testChart, map[string]any{"mode": "replica"})
	green, err := o.Install(t.Context(), d, "green", "shop", upgrade.Change{
		Values: map[string]any{"image": map[string]any{"tag": "7.2.5"}}, Description: "green of cache",
	})
	require.NoError(t, err)
	assert.Equal(t, 1, green.Number)
	assert.Equal(t, "green of cache", green.Description)
	second := deployment("green-redis")
	second.Release = "green"
	assert.Equal(t, map[string]any{"mode": "replica", "image": map[string]any{"tag": "7.2.5"}}, o.newest(t, second).Config)

	_, err = o.Install(t.Context(), d, "green", "shop", upgrade.Change{})
	assert.Equal(t, operation.Refused, operation.KindOf(err), "the name is taken: %v", err)

	require.NoError(t, o.Uninstall(t.Context(), "shop", "green"))
	_, err = o.History(t.Context(), second)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, o.Uninstall(t.Context(), "shop", "green"), "again")
}

// What the SDK has to say it returns: it must not write into the program's output.
func TestSilence(t *testing.T) {
	if os.Getenv("REDISCTL_TEST_SILENCE") == "" {
		command := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSilence$")
		command.Env = append(os.Environ(), "REDISCTL_TEST_SILENCE=yes")
		var stderr strings.Builder
		command.Stderr = &stderr
		out, err := command.Output()
		require.NoError(t, err, "%s%s", out, stderr.String())
		assert.Equal(t, "PASS\n", string(out))
		assert.Empty(t, stderr.String())
		return
	}
	o := newOffline()
	d := o.install(t, testChart, nil)
	// Helm warns of a map where the chart has a value.
	_, err := o.Upgrade(t.Context(), d, upgrade.Change{Values: map[string]any{"replicaCount": map[string]any{"a": "b"}}})
	require.NoError(t, err)
}
