package health

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/topology"
)

// checkServed names a release that has no pods, and a restore that was interrupted,
// which may be why: neither may go unnoticed.
func checkServed(t *topology.Topology) []operation.Finding {
	d := t.Deployment
	if d.Workload == nil {
		return nil
	}
	var found []operation.Finding
	if record := d.Workload.Annotations[operation.NoteRestore]; record != "" {
		found = append(found, unfinishedRestore(d, record))
	}
	if d.Workload.Desired == 0 {
		found = append(found, operation.Finding{
			Code: "scaled-to-zero", Severity: operation.Critical, Subject: d.Workload.Name,
			Message: "it is scaled to 0: no server runs",
			Hint:    fmt.Sprintf("kubectl scale -n %s %s %s --replicas=1, unless somebody is at work", d.Namespace, d.Workload.Kind, d.Workload.Name),
		})
		if len(found) > 1 {
			found[1].Hint = "redisctl restore resume or abort starts the pods"
		}
	}
	return found
}

// unfinishedRestore reports a restore that was interrupted, or is going on.
func unfinishedRestore(d *operation.Deployment, record string) operation.Finding {
	f := operation.Finding{
		Code: "unfinished-restore", Severity: operation.Critical, Subject: d.Name,
		Message: "a restore was begun and is not finished",
		Hint:    "redisctl restore status tells how far it has come; resume goes on, abort goes back, unless somebody is at it",
	}
	var r struct {
		Backup, By string
		Begun      time.Time
	}
	if err := json.Unmarshal([]byte(record), &r); err == nil && r.Backup != "" {
		f.Message = fmt.Sprintf("the restore of %s was begun by %s at %s and is not finished", r.Backup, r.By, r.Begun.Format(time.RFC3339))
	}
	return f
}
