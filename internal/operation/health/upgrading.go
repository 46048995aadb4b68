package health

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/topology"
)

// OnDelete is the update strategy of a workload that leaves its pods as they are until
// somebody deletes them.
const OnDelete = "OnDelete"

// checkUpgrade names an upgrade that was interrupted, or is going on, and a workload that
// it holds: until it is finished, what helm upgrade changes reaches no pod.
func checkUpgrade(t *topology.Topology) []operation.Finding {
	d := t.Deployment
	if d.Workload == nil || d.Workload.Annotations[operation.NoteUpgrade] == "" {
		return nil
	}
	found := []operation.Finding{unfinishedUpgrade(d, d.Workload.Annotations[operation.NoteUpgrade])}
	if d.Workload.UpdateStrategy == OnDelete {
		found = append(found, operation.Finding{
			Code: "update-held", Severity: operation.Warning, Subject: d.Workload.Name,
			Message: "the upgrade holds it (update strategy OnDelete): changes of its template reach no pod by themselves",
			Hint:    "redisctl upgrade resume or abort gives the update strategy back",
		})
	}
	return found
}

// unfinishedUpgrade reports an upgrade by its record.
func unfinishedUpgrade(d *operation.Deployment, record string) operation.Finding {
	f := operation.Finding{
		Code: "unfinished-upgrade", Severity: operation.Critical, Subject: d.Name,
		Message: "an upgrade was begun and is not finished",
		Hint:    "redisctl upgrade status tells how far it has come; resume goes on, abort goes back, unless somebody is at it",
	}
	var r struct {
		To, By, Phase string
		Begun         time.Time
	}
	if err := json.Unmarshal([]byte(record), &r); err == nil && r.To != "" {
		f.Message = fmt.Sprintf("the upgrade to %s was begun by %s at %s and is not finished (phase: %s)", r.To, r.By, r.Begun.Format(time.RFC3339), r.Phase)
	}
	return f
}

// checkSecond names a second release that an upgrade has made. Once that one serves the
// clients, who follows whom here and where the Services lead is as it is meant to be.
func checkSecond(t *topology.Topology) []operation.Finding {
	d := t.Deployment
	if by := d.ServedBy(); by != "" {
		f := operation.Finding{
			Code: "served-elsewhere", Severity: operation.Warning, Subject: d.Name,
			Message: fmt.Sprintf("its Services lead to the release %s, which serves its clients since the cutover of an upgrade", by),
			Hint:    fmt.Sprintf("redisctl health -n %s -r %s; redisctl upgrade failback returns, redisctl upgrade finish makes it final", d.Namespace, by),
		}
		if d.Workload.Annotations[operation.NoteGreen] == "" { // it is final
			f.Severity = operation.Notice
			f.Hint = fmt.Sprintf("redisctl health -n %s -r %s", d.Namespace, by)
		}
		return []operation.Finding{f}
	}
	if d.Workload == nil || d.Workload.Annotations[operation.NoteGreen] == "" {
		return nil
	}
	return []operation.Finding{{
		Code: "second-release", Severity: operation.Notice, Subject: d.Name,
		Message: "an upgrade has made a second release beside it, or is making one",
		Hint:    "redisctl upgrade status; redisctl upgrade cutover sends the clients there, redisctl upgrade abort removes it",
	}}
}
