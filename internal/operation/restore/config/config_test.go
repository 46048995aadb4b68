package config_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/backup"
	"github.com/redisctl/redisctl/internal/operation/operationtest"
	"github.com/redisctl/redisctl/internal/operation/restore/config"
	"github.com/redisctl/redisctl/internal/redis"
)

// fleet is an operation.Connector to servers whose settings can be set.
type fleet struct {
	operationtest.Fleet
	// refuse names "instance setting" pairs that CONFIG SET fails for.
	refuse map[string]bool
}

func (f fleet) Connect(ctx context.Context, d *operation.Deployment, i operation.Instance) (operation.Server, error) {
	s, err := f.Fleet.Connect(ctx, d, i)
	return server{s, f, i.Name}, err
}

type server struct {
	operation.Server
	fleet fleet
	name  string
}

func (s server) Do(_ context.Context, args ...any) (any, error) {
	setting, value := fmt.Sprint(args[2]), fmt.Sprint(args[3])
	if s.fleet.refuse[s.name+" "+setting] {
		return nil, errors.New("ERR CONFIG SET failed - " + value + " is not for me")
	}
	s.fleet.Fleet[s.name].Config[setting] = value
	return "OK", nil
}

type noLock struct{}

func (noLock) Lock(ctx context.Context, _ *operation.Deployment) (context.Context, func(), error) {
	return ctx, func() {}, nil
}

// helm is what Helm has on record.
type helm struct {
	backup.Objects
	values map[string]any
	err    error
}

func (h helm) HelmRelease(context.Context, *operation.Deployment) (*backup.HelmRelease, error) {
	return &backup.HelmRelease{Values: h.values}, h.err
}

// scene is two servers, a chart and a backup.
type scene struct {
	fleet fleet
	d     *operation.Deployment
	doc   *backup.ConfigDocument
	helm  helm
}

func newScene(t *testing.T, chart string, was, now map[string]string) *scene {
	t.Helper()
	s := &scene{d: operationtest.Deployment(2), fleet: fleet{refuse: map[string]bool{}, Fleet: operationtest.Fleet{}}}
	var err error
	s.d.Config, err = redis.ParseConfig(chart)
	require.NoError(t, err)
	s.doc = &backup.ConfigDocument{TakenAt: time.Unix(0, 0)}
	for i, name := range []string{"cache-redis-0", "cache-redis-1"} {
		running := operationtest.Primary("10.0.0.11")
		if i == 1 {
			running = operationtest.Replica("10.0.0.10")
		}
		running.Config = map[string]string{}
		settings := map[string]string{}
		for k, v := range now {
			running.Config[k] = v
		}
		for k, v := range was {
			settings[k] = v
		}
		s.fleet.Fleet[name] = running
		role := "primary"
		if i == 1 {
			role = "replica"
		}
		s.doc.Instances = append(s.doc.Instances, backup.InstanceConfig{Instance: name, Role: role, Version: "redis 7.0.15", Settings: settings})
	}
	return s
}

func (s *scene) op() config.Restore {
	return config.Restore{Connector: s.fleet, Locker: noLock{}, Objects: s.helm, Reporter: operation.DiscardReporter{}}
}

func (s *scene) plan(t *testing.T, o config.Options) *config.Plan {
	t.Helper()
	o.Timeout, o.OtherRelease = time.Second, true
	p, err := s.op().Plan(t.Context(), s.d, "config-1", s.doc, nil, o)
	require.NoError(t, err)
	return p
}

func actions(p *config.Plan) map[string]config.Action {
	found := map[string]config.Action{}
	for _, s := range p.Settings {
		found[s.Name] = s.Action
	}
	return found
}

func TestPlanDecides(t *testing.T) {
	const set, values, skip = config.ActionSet, config.ActionValues, config.ActionSkip
	for _, c := range []struct {
		name, chart string
		was, now    map[string]string
		options     config.Options
		version     string
		want        map[string]config.Action
		file        string
	}{
		{
			name: "units of memory and letter case do not differ", chart: "maxmemory 256mb\nappendonly NO",
			was: map[string]string{"maxmemory": "268435456", "appendonly": "no"}, now: map[string]string{"maxmemory": "268435456", "appendonly": "no"},
			want: map[string]config.Action{},
		},
		{
			name: "the chart asks for it already", chart: "hz 20",
			was: map[string]string{"hz": "20"}, now: map[string]string{"hz": "10"}, want: map[string]config.Action{"hz": set},
		},
		{
			name: "it would be lost with a restart", chart: "hz 10",
			was: map[string]string{"hz": "20"}, now: map[string]string{"hz": "20"}, want: map[string]config.Action{"hz": values},
			file: "redis:\n  extraConfig: |\n    hz 20\n",
		},
		{
			name: "servers read it when they start",
			was:  map[string]string{"databases": "32"}, now: map[string]string{"databases": "16"}, want: map[string]config.Action{"databases": values},
			file: "redis:\n  extraConfig: |\n    databases 32\n",
		},
		{
			name: "save points replace those of the chart", chart: "save 900 1\nsave 300 10",
			was: map[string]string{"save": "60 1 30 2"}, now: map[string]string{"save": "900 1 300 10"}, want: map[string]config.Action{"save": set},
			file: "redis:\n  extraConfig: |\n    save \"\"\n    save 60 1\n    save 30 2\n",
		},
		{
			name: "an older name of the same setting",
			was:  map[string]string{"hash-max-ziplist-entries": "99"},
			now:  map[string]string{"hash-max-ziplist-entries": "128", "hash-max-listpack-entries": "128"},
			want: map[string]config.Action{"hash-max-listpack-entries": set},
			file: "redis:\n  extraConfig: |\n    hash-max-listpack-entries 99\n",
		},
		{
			name: "what is one server's own is not shown",
			was:  map[string]string{"port": "1", "dir": "/a", "cluster-enabled": "yes"}, now: map[string]string{"port": "2", "dir": "/b", "cluster-enabled": "no"},
			want: map[string]config.Action{},
		},
		{
			name: "unless it is asked for", options: config.Options{Only: []string{"port"}},
			was: map[string]string{"port": "1", "dir": "/a"}, now: map[string]string{"port": "2", "dir": "/b"}, want: map[string]config.Action{"port": skip},
		},
		{
			name: "passwords", was: map[string]string{"requirepass": "old", "masterauth": backup.Placeholder},
			now: map[string]string{"requirepass": "new", "masterauth": "new"}, want: map[string]config.Action{"requirepass": skip},
		},
		{
			name: "perhaps a default of that version", version: "redis 6.0.16",
			was: map[string]string{"hz": "20", "maxclients": "5"}, now: map[string]string{"hz": "10", "maxclients": "6"},
			options: config.Options{Only: []string{"h*", "maxclients"}}, want: map[string]config.Action{"hz": skip, "maxclients": set},
			file: "redis:\n  extraConfig: |\n    maxclients 5\n",
		},
		{
			name: "unknown to these servers", was: map[string]string{"latency-tracking": "no"}, now: map[string]string{"hz": "10"},
			want: map[string]config.Action{"latency-tracking": skip},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t, c.chart, c.was, c.now)
			if c.version != "" {
				for i := range s.doc.Instances {
					s.doc.Instances[i].Version = c.version
				}
			}
			p := s.plan(t, c.options)
			assert.Equal(t, c.want, actions(p))
			if c.file == "" {
				assert.Empty(t, p.Values())
			} else {
				assert.Contains(t, string(p.Values()), c.file)
			}
		})
	}
}

// The values repeat what redis.extraConfig holds, but for the settings that change.
func TestValuesKeepWhatIsThere(t *testing.T) {
	s := newScene(t, "hz 10", map[string]string{"hz": "20"}, map[string]string{"hz": "10"})
	s.helm.values = map[string]any{"redis": map[string]any{"extraConfig": "# mine\nHZ 10\nrename-command KEYS \"\"\n"}}
	assert.Contains(t, string(s.plan(t, config.Options{}).Values()), "extraConfig: |\n    # mine\n    rename-command KEYS \"\"\n    hz 20\n")

	s.helm.values = map[string]any{"redis": map[string]any{"existingConfigMap": "ours"}}
	p := s.plan(t, config.Options{})
	assert.Equal(t, config.FormRedisConf, p.Form)
	assert.Contains(t, string(p.Values()), "# the release uses the ConfigMap ours.\nhz 20\n")
}

// A setting that one server refuses is put back on the other, and the rest goes on.
func TestApplyIsAllOrNothingForEachSetting(t *testing.T) {
	s := newScene(t, "", map[string]string{"hz": "20", "maxclients": "7"}, map[string]string{"hz": "10", "maxclients": "9"})
	s.fleet.refuse["cache-redis-1 hz"] = true
	p := s.plan(t, config.Options{})
	result, err := s.op().Apply(t.Context(), p)
	require.Equal(t, operation.Partial, operation.KindOf(err))
	assert.Equal(t, 1, result.Unset)
	require.Len(t, result.Settings, 2)
	assert.Contains(t, result.Settings[0].Problem, "cache-redis-1: ERR CONFIG SET failed")
	assert.Empty(t, result.Settings[0].Left)
	assert.Empty(t, result.Settings[0].Instances)
	for _, name := range []string{"cache-redis-0", "cache-redis-1"} {
		assert.Equal(t, map[string]string{"hz": "10", "maxclients": "7"}, s.fleet.Fleet[name].Config, name)
	}

	s.fleet.refuse = map[string]bool{"cache-redis-1 hz": true, "cache-redis-0 hz": false}
	s.fleet.Fleet["cache-redis-0"].Config["hz"] = "11"
	result, err = s.op().Apply(t.Context(), p)
	require.Error(t, err)
	assert.Contains(t, result.Settings[0].Problem, "somebody else has changed it since the plan was made")
}

// What cannot be undone is named.
func TestApplyNamesWhatIsLeft(t *testing.T) {
	s := newScene(t, "", map[string]string{"hz": "20"}, map[string]string{"hz": "10"})
	s.fleet.refuse["cache-redis-1 hz"] = true
	p := s.plan(t, config.Options{})
	once := &onceOnly{fleet: s.fleet}
	op := s.op()
	op.Connector = once
	result, err := op.Apply(t.Context(), p)
	require.Error(t, err)
	assert.Equal(t, []string{"cache-redis-0"}, result.Settings[0].Left)
	assert.Equal(t, []string{"cache-redis-0"}, result.Settings[0].Instances)
}

// onceOnly lets each server be changed once.
type onceOnly struct{ fleet }

func (o *onceOnly) Connect(ctx context.Context, d *operation.Deployment, i operation.Instance) (operation.Server, error) {
	s, err := o.fleet.Connect(ctx, d, i)
	return &changedOnce{Server: s}, err
}

type changedOnce struct {
	operation.Server
	changed bool
}

func (c *changedOnce) Do(ctx context.Context, args ...any) (any, error) {
	if c.changed {
		return nil, errors.New("connection reset")
	}
	c.changed = true
	return c.Server.Do(ctx, args...)
}

func TestPlanBlocks(t *testing.T) {
	s := newScene(t, "", map[string]string{"maxmemory": "1000"}, map[string]string{"maxmemory": "0"})
	p := s.plan(t, config.Options{})
	require.Len(t, p.Blockers(), 2, "both servers use more")
	assert.Equal(t, "larger-than-maxmemory", p.Blockers()[0].Code)
	_, err := s.op().Apply(t.Context(), p)
	assert.Equal(t, operation.Refused, operation.KindOf(err))

	delete(s.fleet.Fleet, "cache-redis-1")
	s.doc.Instances[0].Settings["maxmemory"] = "0"
	p = s.plan(t, config.Options{})
	require.Len(t, p.Blockers(), 1)
	assert.Equal(t, "instance-unreachable", p.Blockers()[0].Code)
}

// Without CONFIG nothing can be set, and what redis.conf named then is in the file.
func TestConfigDisabled(t *testing.T) {
	s := newScene(t, "hz 10\nrename-command CONFIG \"\"", map[string]string{"hz": "20", "timeout": "0"}, nil)
	s.doc.RedisConf = []string{"hz 20"}
	for _, running := range s.fleet.Fleet {
		running.Config = nil
	}
	p := s.plan(t, config.Options{})
	assert.Equal(t, config.ActionValues, actions(p)["hz"])
	result, err := s.op().Apply(t.Context(), p)
	assert.Equal(t, operation.Partial, operation.KindOf(err))
	assert.Equal(t, 1, result.Unset)
	assert.Contains(t, string(p.Values()), "hz 20")
}
