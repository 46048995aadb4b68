package full_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/backup"
	"github.com/redisctl/redisctl/internal/operation/operationtest"
	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/operation/restore/config"
	"github.com/redisctl/redisctl/internal/operation/restore/full"
	"github.com/redisctl/redisctl/internal/operation/restore/volume"
	"github.com/redisctl/redisctl/internal/snapshot"
)

// release is what a backup holds, shortened to what matters here.
const release = `# The objects of release cache in namespace prod
---
apiVersion: v1
kind: ConfigMap
metadata: {name: cache-redis, namespace: prod, annotations: {meta.helm.sh/release-namespace: prod}}
data: {redis.conf: "maxmemory 1gb"}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data-cache-redis-0, namespace: prod}
spec: {storageClassName: fast, dataSource: {kind: VolumeSnapshot, name: old}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: cache-redis, namespace: prod}
subjects: [{kind: ServiceAccount, name: cache-redis, namespace: prod}, {kind: ServiceAccount, name: ci, namespace: build}]
---
apiVersion: v1
kind: Service
metadata: {name: cache-redis-headless, namespace: prod}
---
apiVersion: v1
kind: Service
metadata: {name: cache-redis, namespace: prod}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: cache-redis, namespace: prod, labels: {app.kubernetes.io/instance: cache}, annotations: {meta.helm.sh/release-name: cache}}
spec:
  template:
    spec:
      initContainers:
      - name: setup
        command: [sh, -ec, "echo replicaof cache-redis-0.cache-redis-headless.prod.svc.cluster.local 6379 >> /etc/redis.conf; echo prod"]
      containers:
      - name: redis
        env:
        - {name: REDIS_PASSWORD, valueFrom: {secretKeyRef: {name: cache-redis, key: redis-password}}}
        - {name: OTHER, valueFrom: {secretKeyRef: {name: other, key: k, optional: true}}}
      volumes:
      - {name: tls, secret: {secretName: cache-tls}}
  volumeClaimTemplates:
  - {metadata: {name: data}, spec: {storageClassName: fast}}
`

// cluster has what it is given, and remembers what is applied.
type cluster struct {
	phase   string
	present map[string]full.Presence
	secrets map[string]map[string][]byte
	classes []string
	applied []full.Object
	fail    string
	onApply func(full.Object)
}

func (c *cluster) NamespacePhase(context.Context, string) (string, error) { return c.phase, nil }

func (c *cluster) CreateNamespace(context.Context, string) error {
	c.phase = "Active"
	return nil
}

func (c *cluster) Compare(_ context.Context, o full.Object) (full.Presence, error) {
	return c.present[o.String()], nil
}

func (c *cluster) Apply(_ context.Context, o full.Object) error {
	if o.String() == c.fail {
		return errors.New("quota exceeded")
	}
	c.applied = append(c.applied, o)
	annotations, _ := o.Content["metadata"].(map[string]any)["annotations"].(map[string]any)
	from, _ := annotations[full.AnnotationFrom].(string)
	c.present[o.String()] = full.Presence{Exists: true, Equal: true, From: from}
	if c.onApply != nil {
		c.onApply(o)
	}
	return nil
}

func (c *cluster) StorageClasses(context.Context) ([]string, string, error) {
	return c.classes, "", nil
}

func (c *cluster) SecretData(_ context.Context, _, name string) (map[string][]byte, error) {
	return c.secrets[name], nil
}

// newCluster has everything that the release needs from outside.
func newCluster() *cluster {
	return &cluster{
		phase: "Active", present: map[string]full.Presence{}, classes: []string{"fast", "slow"},
		secrets: map[string]map[string][]byte{"cache-tls": {"tls.crt": nil}, "cache-redis": {"redis-password": []byte("s3cret")}},
	}
}

const id = "full-20261123T090501Z-k7mq"

func source(t *testing.T) full.Source {
	t.Helper()
	objects, err := full.ParseObjects([]byte(release))
	require.NoError(t, err)
	from := snapshot.Source{Namespace: "prod", Release: "cache", Instance: "cache-redis-1"}
	return full.Source{
		Backup:   restore.Backup{Entry: snapshot.Entry{ID: id, Manifest: &snapshot.Manifest{Kind: snapshot.KindFull, ID: id, Source: from}}},
		Contents: restore.Contents{Source: &from}, Objects: objects,
		Config: &backup.ConfigDocument{Helm: &backup.HelmRelease{Chart: "redis-1.4.2", Values: map[string]any{
			"redis":   map[string]any{"password": backup.Placeholder, "config": "maxmemory 1gb"},
			"metrics": map[string]any{"apiToken": backup.Placeholder},
		}}},
	}
}

// world is a restore of which everything but the operation itself is played.
type world struct {
	cluster *cluster
	notes   notes
	fleet   operationtest.Fleet
	d       *operation.Deployment
	data    data
	now     time.Time
}

type notes map[string]string

func (n notes) Note(_ context.Context, _ *operation.Deployment, key string) (string, error) {
	return n[key], nil
}

func (n notes) SetNotes(_ context.Context, _ *operation.Deployment, texts map[string]string) error {
	maps.Copy(n, texts)
	return nil
}

type data struct {
	calls int
	err   error
}

func (d *data) Restore(context.Context, *operation.Deployment, operation.Locker, bool) (full.Loaded, error) {
	d.calls++
	return full.Loaded{Method: "volume", Comparison: &restore.Comparison{Equal: true}}, d.err
}

type resolver struct {
	operation.Resolver
	d *operation.Deployment
}

func (r resolver) Resolve(context.Context, operation.Target) (*operation.Deployment, error) {
	return r.d, nil
}

type noLock struct{}

func (noLock) Lock(ctx context.Context, _ *operation.Deployment) (context.Context, func(), error) {
	return ctx, func() {}, nil
}

func newWorld() *world {
	w := &world{cluster: newCluster(), notes: notes{}, d: operationtest.Deployment(2), now: time.Unix(1000, 0)}
	w.d.Services[1].Endpoints = []string{"cache-redis-0"}
	empty := map[string]string{"db0": ""}
	w.fleet = operationtest.Fleet{
		"cache-redis-0": operationtest.Primary("10.0.0.11").Set(empty), "cache-redis-1": operationtest.Replica("10.0.0.10").Set(empty),
	}
	return w
}

func (w *world) op() full.Restore {
	return full.Restore{
		Cluster: w.cluster, Resolver: resolver{d: w.d}, Connector: w.fleet, Locker: noLock{}, Notes: w.notes, Data: &w.data,
		Config:   config.Restore{Connector: w.fleet, Locker: noLock{}, Reporter: operation.DiscardReporter{}},
		Reporter: operation.DiscardReporter{}, Random: func() (string, error) { return "generated", nil }, By: "test",
		Now: func() time.Time {
			w.now = w.now.Add(time.Second)
			return w.now
		},
	}
}

func options(change func(*full.Options)) full.Options {
	o := full.Options{Namespace: "dr", RTO: time.Hour, Begun: time.Unix(1000, 0), Limits: volume.DefaultLimits()}
	if change != nil {
		change(&o)
	}
	return o
}

// codes are those of the findings that block.
func codes(p *full.Plan) []string {
	found := []string{}
	for _, f := range p.Blockers() {
		found = append(found, f.Subject+": "+f.Code)
	}
	return found
}

// Everything that names the namespace is moved, and nothing else.
func TestPlanMovesTheRelease(t *testing.T) {
	w := newWorld()
	p, err := w.op().Plan(t.Context(), source(t), options(nil))
	require.NoError(t, err)
	assert.Empty(t, codes(p))
	assert.Equal(t, []full.Change{
		{"ConfigMap cache-redis", "metadata.annotations.meta.helm.sh/release-namespace", "prod", "dr"},
		{"PersistentVolumeClaim data-cache-redis-0", "dataSource", "VolumeSnapshot old", ""},
		{"RoleBinding cache-redis", "subjects[0].namespace", "prod", "dr"},
		{
			"StatefulSet cache-redis", "spec.template.spec.initContainers[0].command[2]",
			"cache-redis-0.cache-redis-headless.prod.svc.cluster.local", "cache-redis-0.cache-redis-headless.dr.svc.cluster.local",
		},
	}, p.Changes)
	at := slices.IndexFunc(p.Findings, func(f operation.Finding) bool { return f.Code == "names-old-namespace" })
	require.GreaterOrEqual(t, at, 0)
	assert.Contains(t, p.Findings[at].Message, "StatefulSet cache-redis, spec.template.spec.initContainers[0].command[2]", "echo prod may mean anything")

	assert.Contains(t, string(p.Values()), "password: s3cret")
	assert.NotContains(t, string(p.Values()), "apiToken")
	assert.Equal(t, "helm upgrade --install cache REDIS_CHART --version 1.4.2 --namespace dr --values v.yaml", p.HelmCommand("v.yaml"))
}

func TestPlanBlocks(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  func(*cluster)
		options func(*full.Options)
		want    []string
	}{
		{"no namespace", func(c *cluster) { c.phase = "" }, func(o *full.Options) { o.Password = "x" }, []string{"dr: no-namespace", "Secret cache-tls: secret-missing"}},
		{"it is deleted", func(c *cluster) { c.phase = "Terminating" }, nil, []string{"dr: namespace-terminating"}},
		{"no storage class", func(c *cluster) { c.classes = []string{"slow"} }, nil, []string{"StatefulSet cache-redis: no-storage-class"}},
		{"another storage class", func(c *cluster) { c.classes = []string{"slow"} }, func(o *full.Options) { o.StorageClass = "slow" }, []string{}},
		{"no password", func(c *cluster) { delete(c.secrets, "cache-redis") }, nil, []string{"Secret cache-redis: secret-missing"}},
		{"a given password", func(c *cluster) { delete(c.secrets, "cache-redis") }, func(o *full.Options) { o.Password = "x" }, []string{}},
		{"a generated one", func(c *cluster) { delete(c.secrets, "cache-redis") }, func(o *full.Options) { o.Generate = true }, []string{}},
		{"another password", nil, func(o *full.Options) { o.Password = "x" }, []string{"Secret cache-redis: secret-exists"}},
		{"no key", func(c *cluster) { c.secrets["cache-redis"] = map[string][]byte{"p": nil} }, nil, []string{"Secret cache-redis: secret-without-key"}},
		{
			"a file of Secrets", func(c *cluster) { c.secrets = nil }, func(o *full.Options) {
				o.Secrets, _ = full.ParseObjects([]byte("{apiVersion: v1, kind: Secret, metadata: {name: cache-redis}}\n---\n{apiVersion: v1, kind: Secret, metadata: {name: cache-tls}}"))
			}, []string{},
		},
		{
			"an equal object", func(c *cluster) { c.present["ConfigMap cache-redis"] = full.Presence{Exists: true, Equal: true} }, nil,
			[]string{"ConfigMap cache-redis: object-exists"},
		},
		{
			"an equal object is adopted", func(c *cluster) { c.present["ConfigMap cache-redis"] = full.Presence{Exists: true, Equal: true} },
			func(o *full.Options) { o.Adopt = true }, []string{},
		},
		{
			"another object is never adopted", func(c *cluster) {
				c.present["ConfigMap cache-redis"] = full.Presence{Exists: true, Difference: "data.x"}
			},
			func(o *full.Options) { o.Adopt = true }, []string{"ConfigMap cache-redis: object-exists"},
		},
		{
			"a volume with data", func(c *cluster) {
				c.present["PersistentVolumeClaim data-cache-redis-0"] = full.Presence{Exists: true, Equal: true}
			},
			func(o *full.Options) { o.Adopt = true }, []string{"PersistentVolumeClaim data-cache-redis-0: volume-exists"},
		},
		{
			"of another restore", func(c *cluster) { c.present["Service cache-redis"] = full.Presence{Exists: true, From: "full-1"} }, nil,
			[]string{"Service cache-redis: object-of-other-restore"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld()
			if c.change != nil {
				c.change(w.cluster)
			}
			p, err := w.op().Plan(t.Context(), source(t), options(c.options))
			require.NoError(t, err)
			assert.Equal(t, c.want, codes(p))
		})
	}
}

func TestApply(t *testing.T) {
	w := newWorld()
	delete(w.cluster.secrets, "cache-redis")
	w.cluster.phase = ""
	w.cluster.secrets["cache-tls"] = nil
	o := options(func(o *full.Options) {
		o.Generate, o.CreateNamespace = true, true
		o.Secrets, _ = full.ParseObjects([]byte("{apiVersion: v1, kind: Secret, metadata: {name: cache-tls}}"))
	})
	p, err := w.op().Plan(t.Context(), source(t), o)
	require.NoError(t, err)
	require.Empty(t, codes(p))
	result, err := w.op().Apply(t.Context(), p)
	require.NoError(t, err)
	assert.True(t, result.Complete)
	assert.True(t, result.WithinRTO)
	assert.Equal(t, "volume", result.Method)
	assert.Equal(t, []full.Instance{{"cache-redis-0", "primary"}, {"cache-redis-1", "replica"}}, result.Instances)
	var kinds []string
	for _, applied := range w.cluster.applied {
		kinds = append(kinds, applied.Kind)
		assert.Equal(t, "dr", applied.Namespace)
	}
	assert.Equal(t, []string{"Secret", "Secret", "ConfigMap", "PersistentVolumeClaim", "RoleBinding", "Service", "Service", "StatefulSet"}, kinds)
	assert.Contains(t, w.notes[full.NoteRecord], `"done"`)

	// Again: nothing is applied, and the data is not restored a second time.
	w.cluster.secrets["cache-redis"] = map[string][]byte{"redis-password": []byte("generated")}
	w.cluster.secrets["cache-tls"] = map[string][]byte{}
	again, err := w.op().Plan(t.Context(), source(t), options(nil))
	require.NoError(t, err)
	require.Empty(t, codes(again))
	assert.True(t, again.Resumes)
	before := len(w.cluster.applied)
	result, err = w.op().Apply(t.Context(), again)
	require.NoError(t, err)
	assert.True(t, result.Complete)
	assert.Len(t, w.cluster.applied, before)
	assert.Equal(t, 1, w.data.calls)
	assert.NotNil(t, result.Comparison, "the proof of the first run")
}

// What fails says where, and the next run goes on from there.
func TestApplyGoesOn(t *testing.T) {
	w := newWorld()
	w.cluster.fail = "Service cache-redis"
	plan := func() *full.Plan {
		p, err := w.op().Plan(t.Context(), source(t), options(nil))
		require.NoError(t, err)
		require.Empty(t, codes(p))
		return p
	}
	result, err := w.op().Apply(t.Context(), plan())
	require.ErrorContains(t, err, "applying the objects: quota exceeded")
	assert.False(t, result.Complete)
	applied := len(w.cluster.applied)
	assert.Positive(t, applied)

	w.cluster.fail, w.data.err = "", errors.New("the volume is gone")
	result, err = w.op().Apply(t.Context(), plan())
	require.ErrorContains(t, err, "restoring the data: the volume is gone")
	assert.NotNil(t, result.Comparison, "a comparison that failed is shown")
	assert.Len(t, w.cluster.applied, 6, "each object was applied once")

	w.data.err = nil
	result, err = w.op().Apply(t.Context(), plan())
	require.NoError(t, err)
	assert.True(t, result.Complete)
	assert.Len(t, w.cluster.applied, 6)
}
