// Package health judges a deployment: it observes every instance in parallel and
// names everything that an operator should know, with what to do about it.
package health

import (
	"context"
	"slices"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/redis"
)

// Options are the thresholds of the checks. Start from DefaultOptions.
type Options struct {
	// Timeout bounds the answer of each instance.
	Timeout time.Duration
	// MaxLagBytes and MaxSilence bound how far behind a replica may be.
	MaxLagBytes int64
	MaxSilence  time.Duration
	// MaxMemory is the fraction of maxmemory above which memory is short (0 to 1).
	MaxMemory float64
	// MaxSaveAge is how old the last RDB may be on an instance that has unsaved
	// changes, saves by itself and keeps no AOF.
	MaxSaveAge time.Duration
}

// DefaultOptions returns the thresholds that `redisctl health` uses.
func DefaultOptions() Options {
	return Options{
		Timeout:     5 * time.Second,
		MaxLagBytes: 16 << 20,
		// An idle primary is heard only when it pings, every 10 s by default
		// (repl-ping-replica-period); repl-timeout is 60 s.
		MaxSilence: 30 * time.Second,
		MaxMemory:  0.9,
		MaxSaveAge: 24 * time.Hour,
	}
}

// Report is the outcome for one deployment. Its JSON form is part of redisctl's
// interface (docs/json-output.md).
type Report struct {
	Namespace string `json:"namespace,omitempty"`
	Release   string `json:"release,omitempty"`
	Name      string `json:"name"`
	Mode      string `json:"mode"` // "replica", "standalone" or "addresses"
	Healthy   bool   `json:"healthy"`
	// Primary names the one observed primary; empty when there is none, or more.
	Primary   string     `json:"primary,omitempty"`
	Instances []Instance `json:"instances"`
	// Findings is empty, not null, when all is well.
	Findings []operation.Finding `json:"findings"`
}

// Instance is one server: what the cluster knows of it, and its answer.
type Instance struct {
	Name     string `json:"name"`
	Status   string `json:"status"` // "ok", "loading", "down", "hanging" or "unreachable"
	Error    string `json:"error,omitempty"`
	Ready    *bool  `json:"ready,omitempty"` // the pod's Ready condition
	Node     string `json:"node,omitempty"`
	Image    string `json:"image,omitempty"`
	Restarts int    `json:"restarts"`
	// Answer is nil when the instance did not answer: a number of keys that nobody
	// knows must not read as 0. In JSON its fields stand beside the others.
	*Answer
}

// Answer is what one server said of itself. Sizes are bytes.
type Answer struct {
	Role       redis.Role `json:"role"`
	Version    string     `json:"version"`
	Uptime     int64      `json:"uptimeSeconds"`
	LatencyUS  int64      `json:"latencyMicroseconds"`
	Follows    string     `json:"follows,omitempty"`
	Link       string     `json:"link,omitempty"` // "up", "down" or "syncing"; replicas only
	LagBytes   *int64     `json:"lagBytes,omitempty"`
	LagSeconds *int64     `json:"lagSeconds,omitempty"`
	Offset     int64      `json:"offset"`
	MemoryUsed int64      `json:"memoryUsed"`
	MemoryMax  int64      `json:"memoryMax"` // 0: no limit
	Keys       int64      `json:"keys"`
	Clients    int64      `json:"clients"`
	OpsPerSec  int64      `json:"opsPerSecond"`
	Evicted    int64      `json:"evictedKeys"` // since the server's start
	SavePoints bool       `json:"savePoints"`
	LastSave   *time.Time `json:"lastSave,omitempty"`
	LastSaveOK bool       `json:"lastSaveOk"`
	Unsaved    int64      `json:"unsavedChanges"`
	AOF        bool       `json:"aof"`
}

// Check observes d and judges it. The error is not nil only when nothing could be observed
// for want of permissions in the cluster, or of a password.
func Check(ctx context.Context, connector operation.Connector, d *operation.Deployment, now time.Time, o Options) (Report, error) {
	t := topology.Observe(ctx, connector, d, o.Timeout)
	// That servers refuse the password that their release names is a finding.
	if err := t.Denied(); err != nil && !operation.Answered(err) {
		return Report{}, err
	}
	return Judge(&t, now, o), nil
}

// Denied reports whether every instance has refused the credentials.
func (r Report) Denied() bool {
	denied := 0
	for _, f := range r.Findings {
		if f.Code == "access-denied" {
			denied++
		}
	}
	return denied > 0 && denied == len(r.Instances)
}

// Judge makes the report of what was observed.
func Judge(t *topology.Topology, now time.Time, o Options) Report {
	d := t.Deployment
	r := Report{
		Namespace: d.Namespace,
		Release:   d.Release,
		Name:      d.Name,
		Mode:      Mode(d),
		Findings:  []operation.Finding{},
		Instances: make([]Instance, len(t.Members)),
	}
	if p, err := t.Primary(); err == nil && !t.Independent() {
		r.Primary = p.Name
	}
	for i := range t.Members {
		r.Instances[i] = describe(&t.Members[i])
	}
	r.Findings = append(Replication(t, o),
		slices.Concat(checkPersistence(t, o, now), checkMemory(t, o), checkVersions(t), checkSettings(t, now))...)
	sortFindings(r.Findings)
	r.Healthy = Clean(r.Findings)
	return r
}

// Replication judges only what concerns replication: whether every instance
// answers, who is primary, who follows whom and how closely, and whether the
// Services reach the primary. The result is never nil.
func Replication(t *topology.Topology, o Options) []operation.Finding {
	found := append([]operation.Finding{}, slices.Concat(checkServed(t), checkUpgrade(t), checkSecond(t), checkInstances(t), checkGaps(t))...)
	if t.Deployment.ServedBy() == "" {
		found = append(found, slices.Concat(checkTopology(t), checkIntent(t), checkServices(t), checkReplicas(t, o))...)
	}
	sortFindings(found)
	return found
}

// Clean reports whether no finding is worse than a notice.
func Clean(findings []operation.Finding) bool {
	return !slices.ContainsFunc(findings, func(f operation.Finding) bool {
		return f.Severity != operation.Notice
	})
}

// sortFindings puts the worst first and keeps the order within a severity.
func sortFindings(findings []operation.Finding) {
	order := []operation.Severity{operation.Critical, operation.Warning, operation.Notice}
	slices.SortStableFunc(findings, func(a, b operation.Finding) int {
		return slices.Index(order, a.Severity) - slices.Index(order, b.Severity)
	})
}

// Mode names how the deployment is set up: "replica" or "standalone" as the chart
// calls it, or "addresses".
func Mode(d *operation.Deployment) string {
	switch {
	case d.Workload == nil:
		return "addresses"
	case d.ReplicaMode():
		return "replica"
	default:
		return "standalone"
	}
}

func describe(m *topology.Member) Instance {
	i := Instance{Name: m.Name, Status: status(m)}
	if m.Pod != nil {
		i.Ready = &m.Pod.Ready
		i.Node, i.Image, i.Restarts = m.Pod.Node, m.Pod.Image, m.Pod.Restarts
	}
	if m.Err != nil {
		i.Error = m.Err.Error()
		return i
	}
	i.Answer = answer(m)
	return i
}

func answer(m *topology.Member) *Answer {
	memory, persistence := m.Info.Memory(), m.Info.Persistence()
	a := &Answer{
		Role:       m.Replication.Role,
		Version:    m.Version.String(),
		Uptime:     int64(m.Info.Uptime() / time.Second),
		LatencyUS:  m.Latency.Microseconds(),
		Offset:     m.Replication.Offset,
		MemoryUsed: memory.Used,
		MemoryMax:  memory.Max,
		Keys:       m.Info.TotalKeys(),
		Clients:    m.Info.Int("connected_clients"),
		OpsPerSec:  m.Info.Int("instantaneous_ops_per_sec"),
		Evicted:    m.Info.Int("evicted_keys"),
		SavePoints: m.SavePoints,
		LastSaveOK: persistence.LastSaveOK,
		Unsaved:    persistence.ChangesSinceSave,
		AOF:        persistence.AOFEnabled,
	}
	if !persistence.LastSave.IsZero() {
		a.LastSave = &persistence.LastSave
	}
	if m.Replication.Upstream != nil {
		a.Follows = m.Upstream()
		a.Link = m.Link()
		if m.Silence >= 0 {
			silence := int64(m.Silence / time.Second)
			a.LagSeconds = &silence
		}
		if m.Behind >= 0 {
			a.LagBytes = &m.Behind
		}
	}
	return a
}

func status(m *topology.Member) string {
	switch {
	case m.IsDown():
		return "down"
	case operation.KindOf(m.Err) == operation.TimedOut && m.Err != nil:
		return "hanging"
	case m.Err != nil:
		return "unreachable"
	case m.Info.Persistence().Loading:
		return "loading"
	default:
		return "ok"
	}
}
