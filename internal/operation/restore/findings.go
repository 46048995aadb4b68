package restore

import (
	"context"
	"fmt"
	"strconv"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/redis"
	"github.com/redisctl/redisctl/internal/snapshot"
)

// Overrides are the flags that let a restore go on in spite of a finding. All ways
// of restoring name them alike.
type Overrides struct {
	// Unverified accepts a backup that fails verification, OtherRelease one of
	// another release.
	Unverified, OtherRelease bool
	// Memory accepts data that may be larger than maxmemory, Space a volume that
	// may be too small.
	Memory, Space bool
	// Managed accepts that a controller may undo the change.
	Managed bool
}

// Unverified blocks the restore of a backup that failed verification.
func (o Overrides) unverified(name string, problem error) []operation.Finding {
	if problem == nil {
		return nil
	}
	return []operation.Finding{{
		Code: "backup-not-verified", Severity: operation.Critical, Subject: name, Message: problem.Error(),
		Hint: "redisctl backup list shows others", Override: "--allow-unverified", Overridden: o.Unverified,
	}}
}

// otherRelease blocks the restore of another release's data. Where the data of a
// file without a manifest comes from is not known, which is a notice.
func (o Overrides) otherRelease(name string, d *operation.Deployment, source *snapshot.Source) []operation.Finding {
	switch {
	case source == nil:
		return []operation.Finding{{
			Code: "origin-unknown", Severity: operation.Notice, Subject: name,
			Message: "it has no manifest: which release it is of is not known",
		}}
	case d.Namespace == "" || source.Namespace == d.Namespace && source.Release == d.Release:
		return nil
	}
	of := source.Namespace + "/" + source.Release
	if source.Namespace == "" {
		of = source.Instance
	}
	return []operation.Finding{{
		Code: "other-release", Severity: operation.Critical, Subject: name,
		Message:  fmt.Sprintf("it is a backup of %s, not of %s", of, d),
		Override: "--allow-other-release", Overridden: o.OtherRelease,
	}}
}

// managed blocks a change of objects that a controller puts back.
func (o Overrides) managed(d *operation.Deployment) []operation.Finding {
	if d.Workload == nil || d.Workload.Manager == "" {
		return nil
	}
	return []operation.Finding{{
		Code: "managed-by-controller", Severity: operation.Critical, Subject: d.Workload.Name,
		Message:  fmt.Sprintf("%s owns it and may undo what a restore does in between", d.Workload.Manager),
		Hint:     "suspend it for the time of the restore",
		Override: "--allow-managed", Overridden: o.Managed,
	}}
}

// memory blocks data that does not fit below maxmemory: the server would evict keys,
// or refuse them. maxmemory and used are in bytes; used is what stays in the server.
func (o Overrides) memory(subject string, maxmemory, used int64, s *rdb.Summary) []operation.Finding {
	needed, known := memoryNeeded(s)
	if maxmemory == 0 || !known || needed+used <= maxmemory {
		return nil
	}
	return []operation.Finding{{
		Code: "larger-than-maxmemory", Severity: operation.Critical, Subject: subject,
		Message: fmt.Sprintf("the data took %s where it was backed up, maxmemory is %s%s",
			operation.Bytes(needed), operation.Bytes(maxmemory), besides(used)),
		Hint:     "the server would evict keys or refuse them: raise redis.maxmemory first",
		Override: "--ignore-memory", Overridden: o.Memory,
	}}
}

func besides(used int64) string {
	if used == 0 {
		return ""
	}
	return fmt.Sprintf(", of which %s are used", operation.Bytes(used))
}

// memoryNeeded is what the data took in the server that wrote it (the aux field
// used-mem), in bytes.
func memoryNeeded(s *rdb.Summary) (int64, bool) {
	n, err := strconv.ParseInt(s.Aux["used-mem"], 10, 64)
	return n, err == nil
}

// Common returns the findings that do not depend on how the backup of that name is
// restored.
func (o Overrides) Common(name string, d *operation.Deployment, c Contents) []operation.Finding {
	found := []operation.Finding{}
	found = append(found, o.unverified(name, c.Problem)...)
	found = append(found, o.otherRelease(name, d, c.Source)...)
	return append(found, o.managed(d)...)
}

// FitsMemory returns the finding that the backup is larger than a server's maxmemory.
// replaced is set when the data that is there is given up.
func (o Overrides) FitsMemory(subject string, info redis.Info, c Contents, replaced bool) []operation.Finding {
	m := info.Memory()
	used := m.Used
	if replaced {
		used = 0
	}
	return o.memory(subject, m.Max, used, &c.Summary)
}

// NotEmpty blocks the restore into a server that holds keys already.
func NotEmpty(subject string, keys int64, override string, overridden bool) []operation.Finding {
	if keys == 0 {
		return nil
	}
	return []operation.Finding{{
		Code: "target-not-empty", Severity: operation.Critical, Subject: subject,
		Message:  fmt.Sprintf("it holds %d keys", keys),
		Override: override, Overridden: overridden,
	}}
}

// Locked blocks a restore while another operator has the deployment's lock. Nothing
// overrides it: the lock of a process that has ended expires by itself.
func Locked(ctx context.Context, locker operation.Locker, d *operation.Deployment) []operation.Finding {
	reader, ok := locker.(operation.LockReader)
	if !ok {
		return nil
	}
	holder, err := reader.LockHolder(ctx, d)
	if err != nil || holder == "" {
		return nil // whoever may not read the lock learns of it when taking it
	}
	return []operation.Finding{{
		Code: "locked", Severity: operation.Critical, Subject: d.String(),
		Message: holder + " is changing it", Hint: "wait until that is done; a lock whose process was killed expires after 30 s",
	}}
}
