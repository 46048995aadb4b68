package validate_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/health"
	"github.com/redisctl/redisctl/internal/operation/operationtest"
	"github.com/redisctl/redisctl/internal/operation/upgrade"
	"github.com/redisctl/redisctl/internal/operation/upgrade/validate"
	"github.com/redisctl/redisctl/internal/redis"
)

// scene is a release after an upgrade that went well.
type scene struct {
	d        *operation.Deployment
	fleet    operationtest.Fleet
	baseline *upgrade.Baseline
	logs     logs
	backups  backups
	ping     time.Duration
	// burst is how many PINGs take longer at first.
	burst int64
	quick bool
}

func newScene() *scene {
	s := &scene{
		d: operationtest.Deployment(3),
		fleet: operationtest.Fleet{
			"cache-redis-0": operationtest.Primary("10.0.0.11", "10.0.0.12"),
			"cache-redis-1": operationtest.Replica("10.0.0.10"),
			"cache-redis-2": operationtest.Replica("10.0.0.10"),
		},
		logs: logs{}, backups: backups{location: "/backups/one.rdb"}, ping: time.Millisecond,
	}
	w := s.d.Workload
	w.UpdateStrategy, w.UpdateRevision, w.Image, w.Updated = "RollingUpdate", "r2", "redis:7.0", 3
	old := redis.Version{Product: "redis", Major: 6, Patch: 16}
	s.baseline = &upgrade.Baseline{
		Time: time.Unix(1_700_000_000, 0).UTC(), Image: "redis:6.0", Target: "redis:7.0", Chart: "redis-1.0.0", Revision: 1, Primary: "cache-redis-2",
	}
	for i := range s.d.Instances {
		pod := s.d.Instances[i].Pod
		pod.Revision, pod.Image = "r2", "redis:7.0"
		s.baseline.Instances = append(s.baseline.Instances, upgrade.BaselineInstance{Name: s.d.Instances[i].Name, Version: &old})
	}
	s.baseline.Instances[2].Data = &upgrade.BaselineData{
		Keys: []redis.DBKeys{{DB: 0, Keys: 10}}, Save: "900 1", Latency: upgrade.Latency{P50: 500, P99: 1000, Max: 2000},
	}
	return s
}

func (s *scene) before() *upgrade.BaselineData { return s.baseline.Instances[2].Data }

func (s *scene) run(t *testing.T) validate.Report {
	t.Helper()
	n := notes{}
	if s.baseline != nil {
		require.NoError(t, upgrade.SaveBaseline(t.Context(), n, s.d, *s.baseline))
	}
	v := validate.Validate{
		Connector: pinged{s.fleet, s.ping, &s.burst}, Notes: n, Logs: s.logs, Backups: &s.backups, Reporter: operation.DiscardReporter{},
		Now: func() time.Time { return time.Unix(1_700_000_600, 0) },
	}
	report, err := v.Run(t.Context(), s.d, validate.Options{Health: health.DefaultOptions(), Quick: s.quick})
	require.NoError(t, err)
	return report
}

// pinged answers PING after a time that it only tells.
type pinged struct {
	operationtest.Fleet
	took  time.Duration
	burst *int64
}

func (p pinged) Connect(ctx context.Context, d *operation.Deployment, i operation.Instance) (operation.Server, error) {
	s, err := p.Fleet.Connect(ctx, d, i)
	return pingedServer{s, p}, err
}

type pingedServer struct {
	operation.Server
	pinged
}

func (p pingedServer) Ping(ctx context.Context) (time.Duration, error) {
	_, err := p.Server.Ping(ctx)
	if atomic.AddInt64(p.burst, -1) >= 0 {
		return time.Second, err
	}
	return p.took, err
}

type notes map[string]string

func (n notes) Note(_ context.Context, _ *operation.Deployment, key string) (string, error) {
	return n[key], nil
}

func (n notes) SetNotes(_ context.Context, _ *operation.Deployment, texts map[string]string) error {
	maps.Copy(n, texts)
	return nil
}

// logs are the texts by instance; "!" is one that cannot be read.
type logs map[string]string

func (l logs) ReadLog(_ context.Context, _ *operation.Deployment, i operation.Instance, limit int64, line func(string)) (bool, error) {
	if l[i.Name] == "!" {
		return false, errors.New("may not get pods/log")
	}
	for text := range strings.Lines(l[i.Name]) {
		line(text)
	}
	return int64(len(l[i.Name])) <= limit, nil
}

type backups struct {
	location string
	err      error
	taken    []string
}

func (b *backups) Backup(_ context.Context, _ *operation.Deployment, name string) (string, error) {
	b.taken = append(b.taken, name)
	return b.location, b.err
}

func states(r validate.Report) map[string]validate.State {
	found := map[string]validate.State{}
	for _, c := range r.Checks {
		found[c.Name] = c.State
	}
	return found
}

func message(t *testing.T, r validate.Report, check string) string {
	t.Helper()
	i := slices.IndexFunc(r.Checks, func(c validate.Check) bool { return c.Name == check })
	require.GreaterOrEqual(t, i, 0, "no check %s", check)
	return r.Checks[i].Message
}

func TestGood(t *testing.T) {
	s := newScene()
	r := s.run(t)
	assert.True(t, r.Valid)
	assert.Empty(t, r.Findings)
	assert.Equal(t, map[string]validate.State{
		"versions": validate.Changed, "rollout": validate.OK, "replication": validate.OK, "health": validate.OK, "keys": validate.OK,
		"settings": validate.OK, "log": validate.OK, "latency": validate.OK, "backup": validate.OK,
	}, states(r))
	assert.Equal(t, "redis 7.0.15, before redis 6.0.16", message(t, r, "versions"))
	assert.Equal(t, "cache-redis-0 is the primary, 2 of 2 replicas in sync; before it was cache-redis-2", message(t, r, "replication"))
	assert.Equal(t, "10 keys, before 10", message(t, r, "keys"))
	assert.Equal(t, "p50 1ms, p99 1ms, max 1ms, before p50 500µs, p99 1ms, max 2ms", message(t, r, "latency"))
	assert.Equal(t, []string{"/backups/one.rdb"}, r.Backups)
}

func TestQuickLeavesOutWhatTakesLong(t *testing.T) {
	s := newScene()
	s.quick, s.ping = true, time.Hour
	r := s.run(t)
	assert.True(t, r.Valid)
	assert.Equal(t, []validate.State{validate.Skipped, validate.Skipped}, []validate.State{states(r)["latency"], states(r)["backup"]})
	assert.Empty(t, s.backups.taken)
}

func TestWithoutARecordTheRestIsChecked(t *testing.T) {
	s := newScene()
	s.baseline = nil
	r := s.run(t)
	assert.True(t, r.Valid)
	require.Len(t, r.Findings, 1)
	assert.Equal(t, []any{"not-recorded", operation.Notice}, []any{r.Findings[0].Code, r.Findings[0].Severity})
	assert.Equal(t, "10 keys", message(t, r, "keys"))
	assert.Equal(t, validate.Skipped, states(r)["settings"])
	assert.Nil(t, r.Recorded)

	s.fleet["cache-redis-1"].Set(map[string]string{"master_link_status": "down", "master_link_down_since_seconds": "60"})
	assert.False(t, s.run(t).Valid)
}

// TestFaults breaks one thing at a time.
func TestFaults(t *testing.T) {
	for name, c := range map[string]struct {
		spoil    func(*scene)
		code     string
		severity operation.Severity
		check    string
		message  string
	}{
		"mixed versions": {
			func(s *scene) { s.fleet["cache-redis-1"].Set(map[string]string{"redis_version": "7.0.16"}) },
			"mixed-versions", operation.Warning, "versions", "redis 7.0.15 and redis 7.0.16",
		},
		"a pod of another image": {
			func(s *scene) { s.d.Instances[2].Pod.Image = "redis:6.0" },
			"image-differs", operation.Warning, "versions", "runs redis:6.0, but the workload asks for redis:7.0",
		},
		"undone since": {
			func(s *scene) { s.baseline.Target = "redis:8.0" },
			"other-image", operation.Warning, "versions", "asks for redis:7.0, but the last upgrade was to redis:8.0",
		},
		"a pod of the former revision": {
			func(s *scene) { s.d.Instances[2].Pod.Revision = "r1" },
			"former-revision", operation.Warning, "rollout", "was made from r1, but the workload is at r2",
		},
		"a crash": {
			func(s *scene) {
				s.d.Instances[1].Pod.Restarts, s.d.Instances[1].Pod.LastExit = 2, "OOMKilled, exit code 137"
				s.fleet["cache-redis-1"].Set(map[string]string{"uptime_in_seconds": "30"})
			},
			"restarted", operation.Warning, "rollout", "its server was restarted 2 times, the last time after OOMKilled, exit code 137; it is up since 30s",
		},
		"a crash long ago": {
			func(s *scene) {
				s.d.Instances[1].Pod.Restarts = 1
				s.fleet["cache-redis-1"].Set(map[string]string{"uptime_in_seconds": "7200"})
			},
			"restarted", operation.Notice, "rollout", "restarted 1 time",
		},
		"fewer instances": {
			func(s *scene) {
				s.baseline.Instances = append(s.baseline.Instances, upgrade.BaselineInstance{Name: "cache-redis-3"})
			},
			"instances-changed", operation.Warning, "rollout", "has 3 instances, before 4",
		},
		"unfinished": {
			func(s *scene) {
				s.d.Workload.Annotations = map[string]string{operation.NoteUpgrade: `{"to":"redis:7.0","by":"ops","phase":"rolling"}`}
			},
			"unfinished-upgrade", operation.Critical, "replication", "the upgrade to redis:7.0 was begun by ops",
		},
		"a Service that leads elsewhere": {
			func(s *scene) { s.d.Services[0].PodSelector = "cache-redis-2" },
			"service-elsewhere", operation.Critical, "replication", "sends clients to cache-redis-2, but the primary is cache-redis-0",
		},
		"no persistence": {
			func(s *scene) { s.fleet["cache-redis-1"].Config = map[string]string{"save": ""} },
			"no-persistence", operation.Warning, "health", "neither save points nor AOF",
		},
		"keys gone": {
			func(s *scene) { delete(s.fleet["cache-redis-0"].Info, "db0") },
			"keys-missing", operation.Critical, "keys", "database 0 has 0 keys, before 10: 10 fewer, of which at most 0 can have expired and 0 were evicted since",
		},
		"more keys gone than can be": {
			func(s *scene) {
				s.before().Keys = []redis.DBKeys{{DB: 0, Keys: 20, Expires: 4}}
				s.before().Evicted = 100
				s.fleet["cache-redis-0"].Set(map[string]string{"evicted_keys": "5"}) // of a new process
			},
			"keys-missing", operation.Warning, "keys", "database 0 has 10 keys, before 20: 10 fewer, of which at most 4 can have expired and 5 were evicted since",
		},
		"a setting that was lost": {
			func(s *scene) { s.before().AOF = true },
			"persistence-changed", operation.Warning, "settings", "keeps its data by save points (900 1), before by save points (900 1) and append-only file",
		},
		"a setting that was won": {
			func(s *scene) { s.before().Save = "" },
			"persistence-changed", operation.Notice, "settings", "before by nothing",
		},
		"errors in a log": {
			func(s *scene) {
				s.logs["cache-redis-2"] = strings.Repeat("1:M 23 Nov 2026 19:13:44.094 # Background saving error\n", 3)
			},
			"log-errors", operation.Warning, "log", `3 lines of its log tell of trouble: "Background saving error" (3 times)`,
		},
		"many errors in a log": {
			func(s *scene) {
				s.logs["cache-redis-2"] = "# a failed\n# b failed\n# c failed\n# d failed\n# e failed\n"
			},
			"log-errors", operation.Warning, "log", `5 lines of its log tell of trouble: "# a failed"; "# b failed"; "# c failed"; and 2 others`,
		},
		"a log that cannot be read": {
			func(s *scene) { s.logs["cache-redis-2"] = "!" },
			"log-not-read", operation.Warning, "log", "may not get pods/log",
		},
		"a log elsewhere": {
			func(s *scene) { s.fleet["cache-redis-1"].Config["logfile"] = "/data/redis.log" },
			"log-not-read", operation.Notice, "log", "the server logs to /data/redis.log, which is not looked at",
		},
		"a slow server": {
			func(s *scene) { s.ping = 20 * time.Millisecond },
			"latency-higher", operation.Warning, "latency", "200 PINGs took p50 20ms, p99 20ms, max 20ms, before p50 500µs, p99 1ms",
		},
		"no backup": {
			func(s *scene) { s.backups = backups{err: errors.New("the folder is full")} },
			"backup-failed", operation.Critical, "backup", "the folder is full",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene()
			c.spoil(s)
			r := s.run(t)
			i := slices.IndexFunc(r.Findings, func(f operation.Finding) bool { return f.Code == c.code })
			require.GreaterOrEqual(t, i, 0, "%s is not among %+v", c.code, r.Findings)
			assert.Equal(t, c.severity, r.Findings[i].Severity)
			assert.Contains(t, r.Findings[i].Message, c.message)
			assert.Equal(t, c.severity == operation.Notice, r.Valid)
			for check, state := range states(r) {
				assert.Equal(t, check == c.check && c.severity != operation.Notice, state == validate.Failed, check)
			}
		})
	}
}

// TestNoFault: what an upgrade may bring about.
func TestNoFault(t *testing.T) {
	for name, change := range map[string]func(*scene){
		"keys expired": func(s *scene) { s.before().Keys = []redis.DBKeys{{DB: 0, Keys: 15, Expires: 5}} },
		"keys evicted": func(s *scene) { s.before().Keys = []redis.DBKeys{{DB: 0, Keys: 15}}; evict(s, "7") },
		"keys written": func(s *scene) { s.before().Keys = nil },
		"links were cut": func(s *scene) {
			s.logs["cache-redis-1"] = "1:S 23 Nov 2026 19:13:28.391 # Connection with master lost.\n"
		},
		"slower, yet fast":      func(s *scene) { s.before().Latency.P99 = 1; s.ping = 4 * time.Millisecond },
		"slow, as it was":       func(s *scene) { s.before().Latency.P99 = 30_000; s.ping = 100 * time.Millisecond },
		"slow for a moment":     func(s *scene) { s.burst = 150 },
		"another primary":       func(s *scene) { s.baseline.Primary = "cache-redis-2" },
		"the chart has changed": func(s *scene) { s.baseline.Chart = "redis-0.9.0" },
	} {
		s := newScene()
		change(s)
		assert.True(t, s.run(t).Valid, name)
	}
}

// evict sets the counter of evictions; the record has 2.
func evict(s *scene, n string) {
	s.before().Evicted = 2
	s.fleet["cache-redis-0"].Set(map[string]string{"evicted_keys": n})
}

// TestIndependent: several standalone servers, each with data of its own.
func TestIndependent(t *testing.T) {
	s := newScene()
	s.d = operationtest.Deployment(2)
	s.d.Workload.ServiceName, s.d.Services, s.d.Workload.Image = s.d.Name, nil, "redis:7.0"
	s.fleet = operationtest.Fleet{
		"cache-redis-0": operationtest.Primary(),
		"cache-redis-1": operationtest.Primary().Set(map[string]string{"master_replid": "cc", "db0": "keys=3,expires=0"}),
	}
	s.baseline.Primary = ""
	s.baseline.Instances = s.baseline.Instances[:2]
	for i := range s.baseline.Instances {
		s.baseline.Instances[i].Data = &upgrade.BaselineData{Keys: []redis.DBKeys{{Keys: 10}}, Save: "900 1", Latency: upgrade.Latency{P99: 1000}}
	}
	r := s.run(t)
	assert.Equal(t, "cache-redis-0: 10 keys, before 10; cache-redis-1: 3 keys, before 10", message(t, r, "keys"))
	require.Len(t, r.Findings, 1, "%+v", r.Findings)
	assert.Equal(t, []string{"keys-missing", "cache-redis-1"}, []string{r.Findings[0].Code, r.Findings[0].Subject})
	assert.Equal(t, []string{"cache-redis-0", "cache-redis-1"}, s.backups.taken)
	assert.Len(t, r.Backups, 2)
}

func TestADownPodIsNamedOnce(t *testing.T) {
	s := newScene()
	s.d.Instances[1].Pod.ContainerRunning, s.d.Instances[1].Pod.Reason = false, "CrashLoopBackOff"
	r := s.run(t)
	require.Len(t, r.Findings, 1, "%+v", r.Findings)
	assert.Equal(t, "pod-down", r.Findings[0].Code)
	assert.False(t, r.Valid)
}

func TestInterrupted(t *testing.T) {
	s := newScene()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := validate.Validate{
		Connector: s.fleet, Notes: notes{}, Reporter: operation.DiscardReporter{}, Now: time.Now,
	}.Run(ctx, s.d, validate.Options{Health: health.DefaultOptions()})
	assert.Equal(t, operation.Interrupted, operation.KindOf(err))
}

func TestARecordThatCannotBeRead(t *testing.T) {
	s := newScene()
	_, err := validate.Validate{
		Connector: s.fleet, Notes: notes{operation.NoteUpgraded: "what is this"}, Reporter: operation.DiscardReporter{}, Now: time.Now,
	}.Run(t.Context(), s.d, validate.Options{Health: health.DefaultOptions()})
	assert.ErrorContains(t, err, operation.NoteUpgraded)
}

func TestReportHasNoNull(t *testing.T) {
	text, err := json.Marshal(newScene().run(t))
	require.NoError(t, err)
	assert.NotContains(t, string(text), "null")
}
