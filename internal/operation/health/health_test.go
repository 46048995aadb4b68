package health_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/health"
	"github.com/redisctl/redisctl/internal/operation/operationtest"
)

const primaryHost = "cache-redis-0.cache-redis-headless.prod.svc.cluster.local"

// scene is a healthy release with two replicas.
func scene() (*operation.Deployment, operationtest.Fleet) {
	return operationtest.Deployment(3), operationtest.Fleet{
		"cache-redis-0": operationtest.Primary("10.0.0.11", "10.0.0.12"),
		"cache-redis-1": operationtest.Replica(primaryHost),
		"cache-redis-2": operationtest.Replica("10.0.0.10"),
	}
}

func check(t *testing.T, d *operation.Deployment, fleet operationtest.Fleet) health.Report {
	t.Helper()
	o := health.DefaultOptions()
	o.Timeout = 50 * time.Millisecond
	report, err := health.Check(context.Background(), fleet, d, time.Unix(1700000000, 0).Add(time.Hour), o)
	require.NoError(t, err)
	return report
}

func TestHealthyRelease(t *testing.T) {
	d, fleet := scene()
	report := check(t, d, fleet)
	assert.True(t, report.Healthy)
	assert.Empty(t, report.Findings)
	assert.NotNil(t, report.Findings, "JSON must show [] and not null")
	assert.Equal(t, "cache-redis-0", report.Primary)
	assert.Equal(t, "cache-redis-0", report.Instances[1].Follows, "by DNS name")
	assert.Equal(t, "cache-redis-0", report.Instances[2].Follows, "by IP address")
}

// TestFindings brings the release into one bad state at a time and expects
// exactly the finding that names it.
func TestFindings(t *testing.T) {
	type fleet = operationtest.Fleet
	set := func(name string, fields map[string]string) func(*operation.Deployment, fleet) {
		return func(_ *operation.Deployment, f fleet) { f[name].Set(fields) }
	}
	cases := []struct {
		code, subject string
		severity      operation.Severity
		spoil         func(*operation.Deployment, fleet)
	}{
		{"pod-down", "cache-redis-2", operation.Critical, func(d *operation.Deployment, _ fleet) {
			d.Instances[2].Pod = &operation.Pod{Phase: "Pending", Reason: "ImagePullBackOff"}
		}},
		{"pod-hanging", "cache-redis-2", operation.Critical, func(_ *operation.Deployment, f fleet) { f["cache-redis-2"].Hang = true }},
		{"unreachable", "cache-redis-2", operation.Critical, func(_ *operation.Deployment, f fleet) {
			f["cache-redis-2"].Err = operation.Errorf(operation.Failed, "connection refused")
		}},
		{"access-denied", "cache-redis-2", operation.Critical, func(_ *operation.Deployment, f fleet) {
			f["cache-redis-2"].Err = operation.Errorf(operation.Denied, "WRONGPASS")
		}},
		{"password-unused", "cache-redis-1", operation.Critical, func(_ *operation.Deployment, f fleet) {
			f["cache-redis-1"].PasswordUnused = true
		}},
		{"pod-not-ready", "cache-redis-1", operation.Warning, func(d *operation.Deployment, _ fleet) { d.Instances[1].Pod.Ready = false }},
		{"loading", "cache-redis-1", operation.Warning, set("cache-redis-1", map[string]string{"loading": "1", "loading_loaded_perc": "12.5"})},
		{"not-checked", "services", operation.Warning, func(d *operation.Deployment, _ fleet) {
			d.Services, d.Gaps = nil, []operation.Gap{{Part: "services", Reason: "not allowed to list services"}}
		}},
		{"not-checked", "config", operation.Notice, func(d *operation.Deployment, _ fleet) {
			d.Gaps = []operation.Gap{{Part: "config", Reason: "not allowed to get configmaps"}}
		}},
		{"service-elsewhere", "cache-redis", operation.Critical, func(d *operation.Deployment, _ fleet) { d.Services[0].PodSelector = "cache-redis-1" }},
		{"service-empty", "cache-redis", operation.Critical, func(d *operation.Deployment, _ fleet) { d.Services[0].Endpoints = nil }},
		{"foreign-primary", "cache-redis-1", operation.Critical, set("cache-redis-1", map[string]string{"master_host": "10.9.9.9"})},
		{"chained-replica", "cache-redis-2", operation.Warning, set("cache-redis-2", map[string]string{"master_host": "10.0.0.11"})},
		{"link-down", "cache-redis-1", operation.Critical, set("cache-redis-1", map[string]string{"master_link_status": "down"})},
		{"syncing", "cache-redis-1", operation.Warning, set("cache-redis-1", map[string]string{"master_link_status": "down", "master_sync_in_progress": "1"})},
		{"lag", "cache-redis-1", operation.Warning, set("cache-redis-1", map[string]string{"master_last_io_seconds_ago": "31"})},
		{"history-differs", "cache-redis-1", operation.Critical, set("cache-redis-1", map[string]string{"master_replid": "bb"})},
		{"no-volume", "cache-redis", operation.Warning, func(d *operation.Deployment, _ fleet) { d.Workload.Volume.Kind = operation.VolumeNone }},
		{"no-persistence", "cache-redis-0", operation.Warning, func(_ *operation.Deployment, f fleet) { f["cache-redis-0"].Config["save"] = "" }},
		{"save-failed", "cache-redis-0", operation.Critical, set("cache-redis-0", map[string]string{"rdb_last_bgsave_status": "err"})},
		{"aof-write-failed", "cache-redis-0", operation.Critical, set("cache-redis-0", map[string]string{"aof_enabled": "1", "aof_last_write_status": "err"})},
		{"aof-rewrite-failed", "cache-redis-0", operation.Warning, set("cache-redis-0", map[string]string{"aof_enabled": "1", "aof_last_bgrewrite_status": "err"})},
		{"save-old", "cache-redis-0", operation.Warning, set("cache-redis-0", map[string]string{"rdb_changes_since_last_save": "7", "rdb_last_save_time": "1699000000"})},
		{"memory-near-limit", "cache-redis-0", operation.Warning, set("cache-redis-0", map[string]string{"maxmemory": "1100000"})},
		{"evictions", "cache-redis-0", operation.Notice, set("cache-redis-0", map[string]string{"evicted_keys": "3"})},
		{"mixed-versions", "cache-redis", operation.Warning, set("cache-redis-2", map[string]string{"redis_version": "7.2.4"})},
	}
	for _, c := range cases {
		t.Run(c.code, func(t *testing.T) {
			d, f := scene()
			c.spoil(d, f)
			report := check(t, d, f)
			require.Len(t, report.Findings, 1, "%+v", report.Findings)
			got := report.Findings[0]
			assert.Equal(t, c.code, got.Code)
			assert.Equal(t, c.subject, got.Subject)
			assert.Equal(t, c.severity, got.Severity)
			assert.NotEmpty(t, got.Message)
			assert.Equal(t, c.severity == operation.Notice, report.Healthy)
		})
	}
}

func TestLagInBytes(t *testing.T) {
	d, fleet := scene()
	fleet["cache-redis-0"].Set(map[string]string{"master_repl_offset": strconv.Itoa(1000 + 17<<20)})
	report := check(t, d, fleet)
	require.Len(t, report.Findings, 2)
	assert.Equal(t, "lag", report.Findings[0].Code)
	assert.Equal(t, int64(17<<20), *report.Instances[1].LagBytes)
}

func TestEvictionThatGoesOnIsAWarning(t *testing.T) {
	d, fleet := scene()
	fleet["cache-redis-0"].Set(map[string]string{"evicted_keys": "3", "maxmemory": "1100000"})
	for _, f := range check(t, d, fleet).Findings {
		assert.Equal(t, operation.Warning, f.Severity, f.Code)
	}
}

// TestSplitBrain: ordinal 0 came back as a primary of its own after ordinal 1 was
// promoted (chart-contract, hazard 2).
func TestSplitBrain(t *testing.T) {
	d, fleet := scene()
	fleet["cache-redis-1"] = operationtest.Primary("10.0.0.12")
	fleet["cache-redis-2"].Set(map[string]string{"master_host": "10.0.0.11"})
	report := check(t, d, fleet)
	assert.Empty(t, report.Primary)
	require.Len(t, report.Findings, 1)
	f := report.Findings[0]
	assert.Equal(t, "two-primaries", f.Code)
	assert.Contains(t, f.Message, "cache-redis-0")
	assert.Contains(t, f.Message, "cache-redis-1")
}

func TestPromotedReplicaIsNamed(t *testing.T) {
	d, fleet := scene()
	fleet["cache-redis-0"] = operationtest.Replica("10.0.0.11")
	fleet["cache-redis-1"] = operationtest.Primary("10.0.0.10", "10.0.0.12")
	fleet["cache-redis-2"].Set(map[string]string{"master_host": "10.0.0.11"})
	codes := map[string]operation.Severity{}
	for _, f := range check(t, d, fleet).Findings {
		codes[f.Code] = f.Severity
	}
	assert.Equal(t, map[string]operation.Severity{
		"service-elsewhere": operation.Critical,
		"primary-not-first": operation.Notice,
	}, codes)
}

// TestIntent: what failovers have noted against what is observed.
func TestIntent(t *testing.T) {
	// promoted is a release whose primary is ordinal 1, with Services that follow.
	promoted := func() (*operation.Deployment, operationtest.Fleet) {
		d, fleet := scene()
		fleet["cache-redis-0"] = operationtest.Replica("10.0.0.11")
		fleet["cache-redis-1"] = operationtest.Primary("10.0.0.10", "10.0.0.12")
		fleet["cache-redis-2"].Set(map[string]string{"master_host": "10.0.0.11"})
		d.Services[0].PodSelector = "cache-redis-1"
		return d, fleet
	}
	note := func(d *operation.Deployment, primary string) {
		d.Workload.Annotations = map[string]string{operation.NotePrimary: primary}
	}

	d, fleet := scene()
	note(d, "cache-redis-0")
	assert.Empty(t, check(t, d, fleet).Findings, "as intended")

	d, fleet = promoted()
	note(d, "cache-redis-1")
	report := check(t, d, fleet)
	require.Len(t, report.Findings, 1)
	assert.Equal(t, operation.Finding{
		Code: "primary-not-first", Severity: operation.Notice, Subject: "cache-redis-1",
		Message: "the primary is ordinal 1, as intended; but the chart makes cache-redis-0 a primary and every other restarted pod follow it",
		Hint:    "a restart of cache-redis-1 or cache-redis-0 undoes the promotion, unless redisctl failover guard runs; redisctl failover failback returns to cache-redis-0",
	}, report.Findings[0])
	assert.True(t, report.Healthy, "an intended state is healthy")

	for name, c := range map[string]struct {
		intended string
		severity operation.Severity
		message  string
	}{
		"another instance": {"cache-redis-2", operation.Critical, "is the primary, but the last failover made cache-redis-2 the primary"},
		"a removed one":    {"cache-redis-3", operation.Warning, "is the primary, but the last failover made cache-redis-3 the primary, which does not exist any more"},
	} {
		d, fleet = scene()
		note(d, c.intended)
		report = check(t, d, fleet)
		require.Len(t, report.Findings, 1, name)
		f := report.Findings[0]
		assert.Equal(t, []any{"primary-not-intended", "cache-redis-0", c.severity, c.message}, []any{f.Code, f.Subject, f.Severity, f.Message}, name)
		assert.Contains(t, f.Hint, "redisctl replication heal")
	}

	for record, says := range map[string]string{
		`{"from":"cache-redis-0","to":"cache-redis-1","begun":"2026-01-02T03:04:05Z","by":"anna"}`: "a failover from cache-redis-0 to cache-redis-1 was begun by anna at 2026-01-02T03:04:05Z and is not finished",
		"not JSON": "a failover was begun and is not finished",
	} {
		d, fleet = scene()
		d.Workload.Annotations = map[string]string{operation.NoteFailover: record}
		report = check(t, d, fleet)
		require.Len(t, report.Findings, 1)
		assert.Equal(t, "unfinished-failover", report.Findings[0].Code)
		assert.Equal(t, says, report.Findings[0].Message)
		assert.Contains(t, report.Findings[0].Hint, "redisctl failover resume")
	}
}

// TestSettingsLeftBehind: a backup that was killed could not set back what it changed.
func TestSettingsLeftBehind(t *testing.T) {
	now := time.Unix(1700000000, 0).Add(time.Hour).UTC() // as in check
	note := func(runID string, begun time.Time) string {
		return fmt.Sprintf(`{"cache-redis-1":{"name":"aof-disable-auto-gc","value":"no","runId":%q,"begun":%q}}`, runID, begun.Format(time.RFC3339))
	}
	for name, c := range map[string]struct {
		note     string
		severity operation.Severity
		hint     string
	}{
		"maybe running":  {note("r", now.Add(-time.Minute)), operation.Notice, "the next redisctl backup aof -n prod -r cache sets it back to no"},
		"killed":         {note("r", now.Add(-2*time.Hour)), operation.Warning, "the next redisctl backup aof -n prod -r cache sets it back to no"},
		"restarted":      {note("another process", now.Add(-2*time.Hour)), "", ""},
		"not ours":       {"what is this", operation.Warning, "remove the annotation"},
		"nothing is set": {"", "", ""},
	} {
		d, fleet := scene()
		d.Workload.Annotations = map[string]string{operation.NoteSettings: c.note}
		report := check(t, d, fleet)
		if c.severity == "" {
			assert.Empty(t, report.Findings, name)
			continue
		}
		require.Len(t, report.Findings, 1, name)
		assert.Equal(t, []any{"setting-changed", c.severity}, []any{report.Findings[0].Code, report.Findings[0].Severity}, name)
		assert.Contains(t, report.Findings[0].Hint, c.hint, name)
	}
}

// TestLoop: the promoted pod restarted, and the chart made it follow ordinal 0, which
// follows it.
func TestLoop(t *testing.T) {
	d, fleet := scene()
	down := map[string]string{"master_link_status": "down"}
	fleet["cache-redis-0"] = operationtest.Replica("10.0.0.11").Set(down)
	fleet["cache-redis-1"].Set(down)
	fleet["cache-redis-2"].Set(map[string]string{"master_host": "10.0.0.11", "master_link_status": "down"})
	d.Workload.Annotations = map[string]string{operation.NotePrimary: "cache-redis-1"}
	messages := map[string]string{}
	for _, f := range check(t, d, fleet).Findings {
		messages[f.Code] = f.Message
	}
	assert.Contains(t, messages, "no-primary")
	assert.Equal(t, "cache-redis-0 follows cache-redis-1 follows cache-redis-0: none of them is a primary", messages["primary-loop"])
	assert.NotContains(t, messages, "primary-not-intended", "nobody is")
}

// TestNoAnswerIsNotZero: numbers that nobody knows are left out.
func TestNoAnswerIsNotZero(t *testing.T) {
	d, fleet := scene()
	fleet["cache-redis-2"].Hang = true
	report := check(t, d, fleet)
	text, err := json.Marshal(report.Instances[2])
	require.NoError(t, err)
	var fields map[string]any
	require.NoError(t, json.Unmarshal(text, &fields))
	assert.ElementsMatch(t, []string{"name", "status", "error", "ready", "restarts"}, slices.Collect(maps.Keys(fields)))

	text, err = json.Marshal(report.Instances[1])
	require.NoError(t, err)
	assert.Contains(t, string(text), `"memoryMax":0`, "a 0 that is known is shown")
}

func TestStandalonePodsAreIndependent(t *testing.T) {
	d := operationtest.Deployment(2)
	d.Workload.ServiceName, d.Services = d.Name, nil
	fleet := operationtest.Fleet{
		"cache-redis-0": operationtest.Primary(),
		"cache-redis-1": operationtest.Primary().Set(map[string]string{"master_replid": "cc"}),
	}
	report := check(t, d, fleet)
	assert.True(t, report.Healthy, "%+v", report.Findings)
	assert.Empty(t, report.Primary, "each is its own primary")
}

func TestNoPermissionAtAllIsAnErrorAndNotAReport(t *testing.T) {
	d, fleet := scene()
	for _, s := range fleet {
		s.Err = operation.Errorf(operation.Denied, "may not create pods/portforward")
	}
	_, err := health.Check(context.Background(), fleet, d, time.Now(), health.DefaultOptions())
	assert.Equal(t, operation.Denied, operation.KindOf(err))
}

// TestUpgrade: an upgrade that was interrupted, and the workload that it holds.
func TestUpgrade(t *testing.T) {
	const record = `{"to":"redis:8.0","by":"ops@bastion","begun":"2026-11-23T19:00:00Z","phase":"rolling"}`
	for name, c := range map[string]struct {
		note, strategy string
		codes          []string
		message        string
	}{
		"begun": {record, "RollingUpdate", []string{"unfinished-upgrade"},
			"the upgrade to redis:8.0 was begun by ops@bastion at 2026-11-23T19:00:00Z and is not finished (phase: rolling)"},
		"held":              {record, health.OnDelete, []string{"unfinished-upgrade", "update-held"}, "to redis:8.0"},
		"not ours":          {"what is this", "RollingUpdate", []string{"unfinished-upgrade"}, "an upgrade was begun and is not finished"},
		"the user's choice": {"", health.OnDelete, []string{}, ""},
	} {
		d, fleet := scene()
		d.Workload.Annotations = map[string]string{operation.NoteUpgrade: c.note}
		d.Workload.UpdateStrategy = c.strategy
		codes := []string{}
		report := check(t, d, fleet)
		for _, f := range report.Findings {
			codes = append(codes, f.Code)
		}
		assert.Equal(t, c.codes, codes, name)
		if len(c.codes) > 0 {
			assert.Contains(t, report.Findings[0].Message, c.message, name)
		}
	}
}

// TestServedElsewhere: once a second release serves the clients, what its servers and
// Services do is as it is meant to be, and the second release is named.
func TestServedElsewhere(t *testing.T) {
	for name, c := range map[string]struct {
		notes    map[string]string
		severity operation.Severity
		code     string
	}{
		"before the cutover": {map[string]string{operation.NoteGreen: "{}"}, operation.Notice, "second-release"},
		"after it":           {map[string]string{operation.NoteGreen: "{}", operation.NoteServedBy: "cache-green"}, operation.Warning, "served-elsewhere"},
		"for good":           {map[string]string{operation.NoteServedBy: "cache-green"}, operation.Notice, "served-elsewhere"},
	} {
		d, fleet := scene()
		d.Workload.Annotations = c.notes
		if d.ServedBy() != "" {
			fleet["cache-redis-0"] = operationtest.Replica("10.9.9.9") // of a release that this one does not know
		}
		report := check(t, d, fleet)
		require.Len(t, report.Findings, 1, name)
		assert.Equal(t, c.code, report.Findings[0].Code, name)
		assert.Equal(t, c.severity, report.Findings[0].Severity, name)
		if d.ServedBy() != "" {
			assert.Contains(t, report.Findings[0].Message, "cache-green", name)
		}
	}
}

// refused is an error reply.
type refused string

func (r refused) Error() string { return string(r) }
func (r refused) Code() string  { return strings.Fields(string(r))[0] }

// TestRefusedPing: a server whose saves fail refuses PING; it is the primary all the same.
// One that refuses everything is alive.
func TestRefusedPing(t *testing.T) {
	d, fleet := scene()
	fleet["cache-redis-0"].PingErr = refused("MISCONF Redis is configured to save RDB snapshots")
	report := check(t, d, fleet)
	assert.Equal(t, "cache-redis-0", report.Primary)
	assert.Empty(t, report.Findings)

	d, fleet = scene()
	fleet["cache-redis-0"].Err = refused("BUSY Redis is busy running a script")
	var codes []string
	for _, f := range check(t, d, fleet).Findings {
		codes = append(codes, f.Code)
	}
	assert.Contains(t, codes, "busy")
}
