package check

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/health"
	"github.com/redisctl/redisctl/internal/operation/restore"
)

// checkState judges the release as it is.
func (k *checking) checkState(ctx context.Context) {
	k.checkHealth()
	k.checkPersistence()
	k.checkReplicas()
	k.checkRecords(ctx)
	k.checkMemory(ctx)
	k.checkSpace(ctx)
	k.checkBudgets(ctx)
	k.checkBackup(ctx)
	k.checkConfig()
	if manager := k.d.Workload.Manager; manager != "" {
		k.add(operation.Finding{
			Code: "managed-by-controller", Severity: operation.Critical, Subject: k.d.Workload.Name,
			Message:  manager + " owns it and may undo an upgrade while it goes on",
			Hint:     "change the image where it is declared, or suspend the controller for the time of the upgrade",
			Override: "--allow-managed", Overridden: k.o.Overrides.Managed,
		})
	}
}

// checkHealth takes over what `health` finds, but for what an upgrade sees in another
// light.
func (k *checking) checkHealth() {
	for _, f := range health.Judge(k.t, k.Now(), k.o.Health).Findings {
		switch {
		case f.Code == "no-volume", f.Code == "no-persistence":
			continue // checkPersistence
		case f.Code == "unfinished-upgrade":
			continue // checkRecords
		case f.Code == "unfinished-failover": // its hint is the only way on
		case f.Code == "primary-not-first":
			f.Message = fmt.Sprintf("a failover has moved the primary and the Services here; Helm would move the Services back to %s-0: the upgrade hands the primary back first", k.d.Workload.Name)
			f.Hint = "redisctl failover failback does only that"
		case f.Severity == operation.Critical:
			f.Override, f.Overridden = "--allow-unhealthy", k.o.Overrides.Unhealthy
		}
		k.add(f)
	}
}

// checkPersistence tells what restarting the servers loses. A replica gets its data back
// from the primary, an only server from its disk.
func (k *checking) checkPersistence() {
	alone := k.alone()
	for i := range k.t.Members {
		m := &k.t.Members[i]
		volume := k.d.Workload.Volume.Kind != operation.VolumeNone
		kept := volume && (m.SavePoints || m.Info.Persistence().AOFEnabled)
		switch {
		case m.Err != nil || kept:
		case alone && volume: // an upgrade lets it save first
		case alone:
			k.add(operation.Finding{
				Code: "data-loss", Severity: operation.Critical, Subject: m.Name,
				Message:  fmt.Sprintf("it keeps nothing on disk and has no replica: replacing its pod loses its %d keys", m.Info.TotalKeys()),
				Hint:     "turn persistence on, add a replica, or upgrade with --strategy blue-green",
				Override: "--allow-data-loss", Overridden: k.o.Overrides.DataLoss,
			})
		default:
			k.add(operation.Finding{
				Code: "no-persistence", Severity: operation.Notice, Subject: m.Name,
				Message: "it keeps nothing on disk: once replaced, it copies all data from the primary",
			})
		}
	}
}

// alone reports whether the servers have no replicas.
func (k *checking) alone() bool { return !k.d.ReplicaMode() || k.d.Workload.Desired < 2 }

// checkReplicas tells when there is nobody to hand the primary over to.
func (k *checking) checkReplicas() {
	switch {
	case k.d.Workload.Desired == 0: // health tells
	case k.alone():
		k.add(operation.Finding{
			Code: "no-replica", Severity: operation.Warning, Subject: k.d.Name,
			Message: "no replica could take over: clients wait until the replaced pod has started and loaded its data",
			Hint:    "replication.replicas adds one in replica mode; --strategy blue-green upgrades beside it",
		})
	}
}

// checkRecords finds other operations that are at work, or were interrupted.
func (k *checking) checkRecords(ctx context.Context) {
	found, err := restore.UnfinishedRestore(ctx, k.Notes, k.d)
	if err != nil {
		k.unknown(k.d.Name, err)
	}
	found = append(found, restore.Locked(ctx, k.Locker, k.d)...)
	record, err := k.Notes.Note(ctx, k.d, operation.NoteUpgrade)
	if err != nil {
		k.unknown(k.d.Name, err)
	}
	if record != "" {
		found = append(found, operation.Finding{
			Code: "unfinished-upgrade", Severity: operation.Critical, Subject: k.d.Name,
			Message: "an upgrade was begun and is not finished", Hint: "redisctl upgrade resume or abort",
		})
	}
	k.report.Findings = append(k.report.Findings, found...)
}

// A server that forks for a full resynchronisation takes up to as much memory again as
// clients write meanwhile (https://redis.io/docs/latest/operate/oss_and_stack/management/admin/).
// What is left above its limit must be at least so much of its data: below the first it is
// likely to be killed, below the second it is if many keys are written.
const (
	headroomCritical = 0.1
	headroomWarning  = 0.3
)

// checkMemory judges whether the primary can give all its data to a replica.
func (k *checking) checkMemory(ctx context.Context) {
	if !k.facts.Answered || k.alone() {
		return
	}
	name, memory := k.facts.Instance.Name, k.facts.Info.Memory()
	limit, err := k.Cluster.MemoryLimit(ctx, k.d)
	switch {
	case err != nil:
		k.unknown(name, fmt.Errorf("its memory limit: %w", err))
		return
	case limit == 0:
		k.add(operation.Finding{
			Code: "not-checked", Severity: operation.Notice, Subject: name,
			Message: "its container has no memory limit, and what its node has left is not known: a full resynchronisation forks the server",
		})
		return
	}
	taken := max(memory.RSS, memory.Used)
	headroom := limit - taken
	f := operation.Finding{
		Code: "memory-short", Severity: operation.Warning, Subject: name,
		Message: fmt.Sprintf("%s of its container's %s are left above the %s that it takes: a full resynchronisation forks it, which takes up to as much again under writes",
			operation.Bytes(max(0, headroom)), operation.Bytes(limit), operation.Bytes(taken)),
		Hint: "raise the container's memory limit",
	}
	switch share := float64(headroom) / float64(max(1, memory.Used)); {
	case share < headroomCritical:
		f.Severity, f.Override, f.Overridden = operation.Critical, "--ignore-memory", k.o.Overrides.Memory
	case share >= headroomWarning:
		return
	}
	k.add(f)
}

// checkSpace looks at the file systems that the data is on.
func (k *checking) checkSpace(ctx context.Context) {
	if k.d.Workload.Volume.Kind == operation.VolumeNone {
		return
	}
	for i := range k.t.Members {
		m := &k.t.Members[i]
		if m.Err != nil {
			continue
		}
		size, free, err := k.Cluster.Space(ctx, k.d, m.Instance, k.d.Workload.Volume.MountPath)
		if err != nil {
			k.unknown(m.Name, fmt.Errorf("the space of its volume: %w", err))
			continue
		}
		k.report.Volumes = append(k.report.Volumes, Volume{Instance: m.Name, SizeBytes: size, FreeBytes: free})
		// A save writes the whole file anew before it replaces the old one.
		if used := m.Info.Memory().Used; free < used {
			k.add(operation.Finding{
				Code: "space-short", Severity: operation.Warning, Subject: m.Name,
				Message: fmt.Sprintf("its volume has %s of %s free; saving its data takes up to %s beside what is there",
					operation.Bytes(free), operation.Bytes(size), operation.Bytes(used)),
				Hint: "enlarge the claim, or remove what redisctl restore cleanup finds",
			})
		}
	}
}

// checkBudgets tells of disruption budgets. Pods are replaced by deletion, which they do
// not hold up.
func (k *checking) checkBudgets(ctx context.Context) {
	budgets, err := k.Cluster.Budgets(ctx, k.d)
	if err != nil {
		k.unknown("poddisruptionbudgets", err)
	}
	for _, b := range budgets {
		if b.Allowed > 0 {
			continue
		}
		k.add(operation.Finding{
			Code: "no-disruption-allowed", Severity: operation.Notice, Subject: b.Name,
			Message: fmt.Sprintf("the PodDisruptionBudget allows no eviction now: %d pods are healthy, %d must be", b.Healthy, b.Wanted),
			Hint:    "the upgrade replaces one pod at a time all the same, each only when the others are in sync",
		})
	}
}

// checkBackup looks for a way back.
func (k *checking) checkBackup(ctx context.Context) {
	if k.Backups == nil {
		return
	}
	last, err := k.Backups.LastVerified(ctx, k.d)
	if err != nil {
		k.unknown("backups", err)
		return
	}
	k.report.Backup = last
	f := operation.Finding{
		Code: "no-backup", Severity: operation.Warning, Subject: k.d.Name,
		Message: "there is no verified backup of it where was looked",
		Hint:    fmt.Sprintf("redisctl backup full -n %s -r %s, then redisctl backup verify latest; upgrade apply makes one", k.d.Namespace, k.d.Release),
	}
	if last != nil {
		age := k.Now().Sub(last.CreatedAt)
		if age <= k.o.MaxBackupAge {
			return
		}
		f.Code, f.Subject = "backup-old", last.ID
		f.Message = fmt.Sprintf("the last verified backup is %s old (limit %s)", age.Round(time.Minute), k.o.MaxBackupAge)
	}
	k.add(f)
}

// checkConfig tells what of redis.conf makes an upgrade special.
func (k *checking) checkConfig() {
	renamed := k.d.Config.Renames()
	if len(renamed) == 0 {
		return
	}
	said := make([]string, 0, len(renamed))
	for _, command := range slices.Sorted(maps.Keys(renamed)) {
		if to := renamed[command]; to == "" {
			said = append(said, command+" is disabled")
		} else {
			said = append(said, command+" has another name") // which is meant to be a secret
		}
	}
	k.add(operation.Finding{
		Code: "renamed-commands", Severity: operation.Notice, Subject: k.d.Name,
		Message: "redis.conf changes commands: " + strings.Join(said, ", "),
		Hint:    "redisctl reads the names from redis.conf; keep them in the new values",
	})
}
