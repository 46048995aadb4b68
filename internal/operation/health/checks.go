package health

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/redis"
)

// checkInstances names every instance that does not answer as it should.
func checkInstances(t *topology.Topology) []operation.Finding {
	var found []operation.Finding
	for i := range t.Members {
		m := &t.Members[i]
		f := operation.Finding{Severity: operation.Critical, Subject: m.Name}
		switch state := status(m); state {
		case "down":
			f.Code, f.Message = "pod-down", m.Err.Error()
			f.Hint = "kubectl describe pod " + inNamespace(t, m.Name)
		case "hanging":
			f.Code, f.Message = "pod-hanging", m.Err.Error()
			f.Hint = "the connection works but Redis does not answer: a stopped process, a slow command or a starved node"
		case "unreachable":
			f.Code, f.Message = "unreachable", m.Err.Error()
			switch {
			case operation.KindOf(m.Err) == operation.Denied:
				f.Code, f.Hint = "access-denied", t.Deployment.AccessAdvice(m.Err)
			case operation.Answered(m.Err):
				f.Code = "busy"
				f.Hint = "it is alive, and serves nobody: a script that runs too long ends with SCRIPT KILL (redisctl shell)"
			}
		case "loading":
			p := m.Info.Persistence()
			f.Code, f.Severity = "loading", operation.Warning
			f.Message = fmt.Sprintf("loading its data set, %.0f %% done, about %s left", p.LoadedPercent, p.LoadETA)
		default:
			if m.PasswordUnused {
				f.Code = "password-unused"
				f.Message = "a password is configured, but the server lets everybody in"
				f.Hint = "an aclfile makes Redis ignore requirepass: give the default user a password there"
				break
			}
			if m.Pod == nil || m.Pod.Ready {
				continue
			}
			f.Code, f.Severity = "pod-not-ready", operation.Warning
			f.Message = "Redis answers but the pod is not Ready, so Services leave it out"
			f.Hint = "kubectl describe pod " + inNamespace(t, m.Name)
		}
		found = append(found, f)
	}
	return found
}

func inNamespace(t *topology.Topology, pod string) string {
	return fmt.Sprintf("%s -n %s", pod, t.Deployment.Namespace)
}

// checkTopology judges who is primary and who follows whom.
func checkTopology(t *topology.Topology) []operation.Finding {
	if t.Independent() {
		return nil
	}
	var found []operation.Finding
	primaries := t.Primaries()
	switch len(primaries) {
	case 0:
		if t.Denied() != nil {
			break // there may well be one
		}
		f := operation.Finding{
			Code: "no-primary", Severity: operation.Critical, Subject: t.Deployment.Name,
			Message: "no instance says that it is the primary; writes fail",
		}
		if intended := t.Deployment.Intended(); intended != "" {
			f.Hint = "the last failover made " + intended + " the primary"
		}
		found = append(found, f)
	case 1:
		if p := primaries[0]; t.Deployment.ReplicaMode() && p.Ordinal > 0 {
			found = append(found, notFirst(t.Deployment, p))
		}
	default:
		var said []string
		for _, p := range primaries {
			said = append(said, fmt.Sprintf("%s (%d replicas, %d keys, history %.8s at offset %d)",
				p.Name, len(p.Replication.Replicas), p.Info.TotalKeys(), p.Replication.ID, p.Replication.Offset))
		}
		found = append(found, operation.Finding{
			Code: "two-primaries", Severity: operation.Critical, Subject: t.Deployment.Name,
			Message: "several primaries take writes: " + strings.Join(said, ", "),
			Hint:    "redisctl replication heal shows what each side has that the other lacks, before one follows the other",
		})
	}
	found = append(found, loop(t)...)
	for i := range t.Members {
		if f, wrong := misdirected(t, &t.Members[i]); wrong {
			found = append(found, f)
		}
	}
	return found
}

// loop names a circle of instances that follow each other. The chart makes one when a
// promoted pod restarts: it follows ordinal 0 again, which follows it.
func loop(t *topology.Topology) []operation.Finding {
	names := t.Loop()
	if len(names) == 0 {
		return nil
	}
	return []operation.Finding{{
		Code: "primary-loop", Severity: operation.Critical, Subject: t.Deployment.Name,
		Message: strings.Join(names, " follows ") + " follows " + names[0] + ": none of them is a primary",
		Hint:    "redisctl replication heal makes the one with the most data the primary again",
	}}
}

// notFirst says what the chart's init container does to a primary other than ordinal 0
// .
func notFirst(d *operation.Deployment, p *topology.Member) operation.Finding {
	first := strings.TrimSuffix(p.Name, strconv.Itoa(p.Ordinal)) + "0"
	f := operation.Finding{
		Code: "primary-not-first", Severity: operation.Notice, Subject: p.Name,
		Message: fmt.Sprintf("the primary is ordinal %d; the chart makes %s a primary and every other restarted pod follow it", p.Ordinal, first),
		Hint: fmt.Sprintf("a restart of %s or %s undoes the promotion, unless redisctl failover guard runs; redisctl failover failback returns to %s",
			p.Name, first, first),
	}
	if d.Intended() == p.Name {
		f.Message = fmt.Sprintf("the primary is ordinal %d, as intended; but the chart makes %s a primary and every other restarted pod follow it", p.Ordinal, first)
	}
	return f
}

// checkIntent compares what was observed with what failovers have noted: which instance
// is meant to be the primary, and whether one is unfinished.
func checkIntent(t *topology.Topology) []operation.Finding {
	d := t.Deployment
	if d.Workload == nil {
		return nil
	}
	var found []operation.Finding
	if record := d.Workload.Annotations[operation.NoteFailover]; record != "" {
		found = append(found, unfinished(d, record))
	}
	intended, primaries := d.Intended(), t.Primaries()
	if intended == "" || len(primaries) != 1 || primaries[0].Name == intended {
		return found // two primaries, and none, have findings of their own
	}
	f := operation.Finding{
		Code: "primary-not-intended", Severity: operation.Critical, Subject: primaries[0].Name,
		Message: fmt.Sprintf("is the primary, but the last failover made %s the primary", intended),
		Hint:    "redisctl replication heal restores it, after showing what each side has that the other lacks",
	}
	if d.Instance(intended) == nil {
		f.Severity = operation.Warning
		f.Message += ", which does not exist any more"
		f.Hint = "redisctl replication heal notes the new primary"
	}
	return append(found, f)
}

// unfinished reports a failover that was interrupted, or is going on.
func unfinished(d *operation.Deployment, record string) operation.Finding {
	f := operation.Finding{
		Code: "unfinished-failover", Severity: operation.Critical, Subject: d.Name,
		Message: "a failover was begun and is not finished",
		Hint:    "redisctl failover resume finishes it, unless somebody is at it",
	}
	var r struct {
		From, To, By string
		Begun        time.Time
	}
	if err := json.Unmarshal([]byte(record), &r); err == nil && r.To != "" {
		f.Message = fmt.Sprintf("a failover from %s to %s was begun by %s at %s and is not finished", r.From, r.To, r.By, r.Begun.Format(time.RFC3339))
	}
	return f
}

// settingsPatience is how long a backup may keep a setting changed before that counts as
// left over: until then most likely it is running.
const settingsPatience = time.Hour

// checkSettings names the settings that a backup has changed for as long as it copies
// the append-only file. After kill -9 they stay changed, and old files are not removed.
func checkSettings(t *topology.Topology, now time.Time) []operation.Finding {
	d := t.Deployment
	if d.Workload == nil || d.Workload.Annotations[operation.NoteSettings] == "" {
		return nil
	}
	var changed map[string]struct {
		Name, Value, RunID string
		Begun              time.Time
	}
	if json.Unmarshal([]byte(d.Workload.Annotations[operation.NoteSettings]), &changed) != nil {
		return []operation.Finding{{
			Code: "setting-changed", Severity: operation.Warning, Subject: d.Name,
			Message: "the annotation " + operation.NoteSettings + ", in which a backup notes what it changes, cannot be read",
			Hint:    "compare aof-disable-auto-gc and auto-aof-rewrite-percentage with redis.conf, then remove the annotation",
		}}
	}
	var found []operation.Finding
	for _, name := range slices.Sorted(maps.Keys(changed)) {
		setting := changed[name]
		if m := t.Member(name); m == nil || m.Err == nil && m.Info.Get("run_id") != setting.RunID {
			continue // a restart has undone it
		}
		f := operation.Finding{
			Code: "setting-changed", Severity: operation.Notice, Subject: name,
			Message: fmt.Sprintf("%s was changed at %s by a backup that is running, or was killed", setting.Name, setting.Begun.Format(time.RFC3339)),
			Hint:    fmt.Sprintf("the next redisctl backup aof -n %s -r %s sets it back to %s", d.Namespace, d.Release, setting.Value),
		}
		if now.Sub(setting.Begun) > settingsPatience {
			f.Severity = operation.Warning
			f.Message += "; until it is set back the append-only file keeps growing"
		}
		found = append(found, f)
	}
	return found
}

// misdirected reports a replica that does not follow the primary.
func misdirected(t *topology.Topology, m *topology.Member) (operation.Finding, bool) {
	up := m.Replication.Upstream
	if up == nil {
		return operation.Finding{}, false
	}
	f := operation.Finding{Severity: operation.Critical, Subject: m.Name}
	if m.Follows == "" {
		f.Code = "foreign-primary"
		f.Message = fmt.Sprintf("follows %s, which is no instance of this deployment", up.Address())
		if t.Deployment.Workload == nil {
			// Plain addresses: the user need not have listed the primary.
			f.Code, f.Severity = "unlisted-primary", operation.Notice
			f.Message = fmt.Sprintf("follows %s, which was not listed", up.Address())
		}
		return f, true
	}
	primary, err := t.Primary()
	if err != nil || m.Follows == primary.Name {
		return f, false
	}
	f.Code = "wrong-primary"
	f.Message = fmt.Sprintf("follows %s, but the primary is %s", m.Follows, primary.Name)
	f.Hint = "redisctl replication resync " + m.Name
	if source := t.Member(m.Follows); source != nil && source.Replication.Role == redis.RoleReplica && source.Err == nil {
		f.Code, f.Severity = "chained-replica", operation.Warning
		f.Message = fmt.Sprintf("follows %s, itself a replica, instead of the primary %s", m.Follows, primary.Name)
	}
	return f, true
}

// checkGaps names what could not be looked at, so that silence about it does not pass
// for health. Without the Services nothing can be said of where clients are sent,
// which both health and readiness are judged by.
func checkGaps(t *topology.Topology) []operation.Finding {
	var found []operation.Finding
	for _, g := range t.Deployment.Gaps {
		f := operation.Finding{
			Code: "not-checked", Severity: operation.Warning, Subject: g.Part, Message: "could not be read: " + g.Reason,
		}
		if g.Part == "config" { // what the servers say counts
			f.Severity = operation.Notice
		}
		found = append(found, f)
	}
	return found
}

// checkServices finds Services whose traffic does not reach the primary.
func checkServices(t *topology.Topology) []operation.Finding {
	primary, err := t.Primary()
	var found []operation.Finding
	for _, s := range t.Deployment.Services {
		switch {
		case s.Headless:
		case s.PodSelector != "" && err == nil && s.PodSelector != primary.Name:
			found = append(found, operation.Finding{
				Code: "service-elsewhere", Severity: operation.Critical, Subject: s.Name,
				Message: fmt.Sprintf("sends clients to %s, but the primary is %s", s.PodSelector, primary.Name),
				Hint:    "clients get READONLY errors, or write where it is lost; redisctl replication heal moves it",
			})
		case len(s.Endpoints) == 0 && s.EndpointsKnown:
			found = append(found, operation.Finding{
				Code: "service-empty", Severity: operation.Critical, Subject: s.Name,
				Message: "has no ready endpoint; clients cannot connect",
			})
		}
	}
	return found
}

// checkReplicas judges links and lag.
func checkReplicas(t *topology.Topology, o Options) []operation.Finding {
	var found []operation.Finding
	for i := range t.Members {
		m := &t.Members[i]
		up := m.Replication.Upstream
		if up == nil {
			continue
		}
		f := operation.Finding{Severity: operation.Warning, Subject: m.Name}
		switch {
		case up.SyncInProgress:
			f.Code = "syncing"
			f.Message = fmt.Sprintf("full resynchronisation from %s in progress", m.Upstream())
			if up.SyncLeft > 0 {
				f.Message += fmt.Sprintf(", %s left", operation.Bytes(up.SyncLeft))
			}
		case !up.LinkUp:
			f.Code, f.Severity = "link-down", operation.Critical
			f.Message = fmt.Sprintf("the link to %s is down since %s; the replica's data grows old", m.Upstream(), up.LinkDownFor)
			if up.LinkDownFor < 0 {
				f.Message = fmt.Sprintf("the link to %s has not been up since the replica's start", m.Upstream())
			}
			f.Hint = "look for the reason in the replica's log (network policy, password, primary gone)"
		case m.Behind > o.MaxLagBytes:
			f.Code = "lag"
			f.Message = fmt.Sprintf("%s behind its primary (limit %s)", operation.Bytes(m.Behind), operation.Bytes(o.MaxLagBytes))
		case m.Silence > o.MaxSilence:
			f.Code = "lag"
			f.Message = fmt.Sprintf("nothing heard or acknowledged for %s (limit %s)", m.Silence, o.MaxSilence)
		case m.Replication.ID != "" && m.Follows != "" && m.Behind < 0 && t.Member(m.Follows).Err == nil:
			f.Code, f.Severity = "history-differs", operation.Critical
			f.Message = fmt.Sprintf("has another replication history (%.8s) than %s", m.Replication.ID, m.Follows)
		default:
			continue
		}
		found = append(found, f)
	}
	return found
}

// checkPersistence finds data that a restart would lose.
func checkPersistence(t *topology.Topology, o Options, now time.Time) []operation.Finding {
	var found []operation.Finding
	if w := t.Deployment.Workload; w != nil && w.Volume.Kind == operation.VolumeNone {
		found = append(found, operation.Finding{
			Code: "no-volume", Severity: operation.Warning, Subject: w.Name,
			Message: "no volume: data does not survive a restart of the pod",
			Hint:    "if the primary restarts empty, its replicas copy the emptiness",
		})
	}
	for i := range t.Members {
		m := &t.Members[i]
		if m.Err != nil {
			continue
		}
		p := m.Info.Persistence()
		add := func(code string, severity operation.Severity, message string) {
			found = append(found, operation.Finding{Code: code, Severity: severity, Subject: m.Name, Message: message})
		}
		if !m.SavePoints && !p.AOFEnabled {
			add("no-persistence", operation.Warning, "neither save points nor AOF: a restart loses everything")
		}
		if !p.LastSaveOK {
			add("save-failed", operation.Critical, "the last background save failed; by default Redis refuses writes now")
		}
		if p.AOFEnabled && !p.AOFLastWriteOK {
			add("aof-write-failed", operation.Critical, "the last write to the AOF failed; Redis refuses writes now")
		}
		if p.AOFEnabled && !p.AOFLastRewriteOK {
			add("aof-rewrite-failed", operation.Warning, "the last AOF rewrite failed; the file keeps growing")
		}
		age := now.Sub(p.LastSave).Round(time.Minute)
		if m.SavePoints && !p.AOFEnabled && p.ChangesSinceSave > 0 && !p.LastSave.IsZero() && age > o.MaxSaveAge {
			add("save-old", operation.Warning, fmt.Sprintf("%d changes since the last save %s ago", p.ChangesSinceSave, age))
		}
	}
	return found
}

// checkMemory finds memory near its limit and keys evicted for it.
func checkMemory(t *topology.Topology, o Options) []operation.Finding {
	var found []operation.Finding
	for i := range t.Members {
		m := &t.Members[i]
		if m.Err != nil {
			continue
		}
		memory := m.Info.Memory()
		full := memory.UsedFraction()
		near := full >= o.MaxMemory
		if near {
			found = append(found, operation.Finding{
				Code: "memory-near-limit", Severity: operation.Warning, Subject: m.Name,
				Message: fmt.Sprintf("%.0f %% of maxmemory used (%s of %s, policy %s)",
					full*100, operation.Bytes(memory.Used), operation.Bytes(memory.Max), memory.Policy),
			})
		}
		if evicted := m.Info.Int("evicted_keys"); evicted > 0 {
			// The counter only ever grows. Eviction goes on only while memory is
			// near the limit; otherwise it is history.
			severity := operation.Notice
			if near {
				severity = operation.Warning
			}
			found = append(found, operation.Finding{
				Code: "evictions", Severity: severity, Subject: m.Name,
				Message: fmt.Sprintf("%d keys evicted since the server's start %s ago", evicted, m.Info.Uptime()),
			})
		}
	}
	return found
}

// checkVersions finds servers of different versions in one deployment.
func checkVersions(t *topology.Topology) []operation.Finding {
	var versions []redis.Version
	for _, m := range t.Members {
		if m.Err == nil && !slices.Contains(versions, m.Version) {
			versions = append(versions, m.Version)
		}
	}
	if len(versions) < 2 || t.Independent() && t.Deployment.Workload == nil {
		return nil
	}
	slices.SortFunc(versions, redis.Version.Compare)
	said := make([]string, len(versions))
	for i, v := range versions {
		said[i] = v.String()
	}
	return []operation.Finding{{
		Code: "mixed-versions", Severity: operation.Warning, Subject: t.Deployment.Name,
		Message: "instances run " + strings.Join(said, " and "),
		Hint:    "a replica may be newer than its primary, not older",
	}}
}
