// Package roll upgrades a release pod by pod.
//
// The workload is held first: whatever Helm makes of its template, pods are replaced only
// when this package deletes them. Then Helm makes the next revision, so that `helm list`
// tells the truth, and the pods are replaced: replicas first, the highest ordinal first,
// each in sync again before the next; then the primary hands over to one of them, as in a
// planned failover, and is replaced as well. What was held is given back at the end.
//
// A pod that does not come up, or never in sync, ends it: Helm goes back to the former
// revision and that pod with it, while the primary has not been touched. What is to be done
// next always follows from what is observed, so that an upgrade that was interrupted goes
// on from anywhere.
package roll

import (
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/failover"
	"github.com/redisctl/redisctl/internal/operation/upgrade"
)

// Roll replaces the pods of a release. All fields are required.
type Roll struct {
	Resolver  operation.Resolver
	Connector operation.Connector
	Locker    operation.Locker
	Notes     operation.Notes
	Releases  upgrade.Releases
	Cluster   Cluster
	// Failover hands the primary over. Its own lock must be operation.Held, and it must
	// leave the old primary behind (Leave).
	Failover failover.Failover
	Backups  Backups
	Saver    Saver
	Aside    Aside
	Reporter operation.Reporter
	Now      func() time.Time
	// By names the operator in the record.
	By string
}

// Limits are how long the parts may take.
type Limits struct {
	failover.Limits
	// Start is how long a new pod may make no progress: it is scheduled, its image is
	// pulled, its server loads or copies the data.
	Start time.Duration
	// Pull is how long an image may fail to be pulled: registries have bad moments.
	Pull time.Duration
}

// DefaultLimits suit the chart's settings.
func DefaultLimits() Limits {
	return Limits{Limits: failover.DefaultLimits(), Start: 5 * time.Minute, Pull: 30 * time.Second}
}

// Strategy is how the pods are replaced.
type Strategy string

// The strategies.
const (
	// Rolling hands the primary over before its pod is replaced.
	Rolling Strategy = "rolling"
	// InPlace restarts servers that have no replica: nobody serves meanwhile.
	InPlace Strategy = "in-place"
)

// Options are the user's choices.
type Options struct {
	// Operation is "upgrade apply" or "upgrade rollback".
	Operation string
	Change    upgrade.Change
	// Strategy is empty to choose by the number of replicas.
	Strategy Strategy
	// Failback makes the first pod the primary again at the end.
	Failback bool
	// BackupAge is how old a verified full backup may be to be taken for the one before
	// the upgrade. NoBackup leaves it out.
	BackupAge time.Duration
	NoBackup  bool
	// Recreate makes the workload anew when fields of it change that cannot be changed.
	Recreate bool
	// AllowOlder lets servers of an older version take over.
	AllowOlder bool
	// AllowDowntime lets the only server of its data restart.
	AllowDowntime bool
	Limits        Limits
}

// Outcome is what became of an upgrade.
type Outcome string

// The outcomes.
const (
	OutcomeUpgraded Outcome = "upgraded"
	// OutcomeUndone: every pod is of the former revision again.
	OutcomeUndone Outcome = "undone"
	// OutcomeForgotten: somebody else has taken over, and everything was left as it is.
	OutcomeForgotten Outcome = "forgotten"
)

// Result is the proof of an upgrade. Its JSON form is part of redisctl's interface
// (docs/json-output.md).
type Result struct {
	Namespace string   `json:"namespace"`
	Release   string   `json:"release"`
	Name      string   `json:"name"`
	Outcome   Outcome  `json:"outcome"`
	Strategy  Strategy `json:"strategy"`
	// From and To are images.
	From string `json:"from"`
	To   string `json:"to"`
	// FormerRevision and Revision are Helm's: before, and deployed now.
	FormerRevision int `json:"formerRevision"`
	Revision       int `json:"revision"`
	// Backup that was made or found before; empty when it was left out.
	Backup string `json:"backup,omitempty"`
	// Pods that were replaced by this run, in that order.
	Pods []Replaced `json:"pods"`
	// HandOvers of the primary by this run.
	HandOvers []HandOver `json:"handOvers"`
	// WriteGapMS is the sum of the times in ms in which no server took writes, for the
	// rolling strategy.
	WriteGapMS float64 `json:"writeGapMilliseconds"`
	// Primary is who it is now; empty for independent servers.
	Primary string  `json:"primary,omitempty"`
	Seconds float64 `json:"seconds"`
}

// Replaced is a pod that was replaced.
type Replaced struct {
	Name string `json:"name"`
	// Version that its server says.
	Version string `json:"version"`
	// DownSeconds is from the deletion until its server answered and had loaded its data,
	// SyncSeconds from then until it was in sync and Ready.
	DownSeconds float64 `json:"downSeconds"`
	SyncSeconds float64 `json:"syncSeconds"`
}

// HandOver is a switch of the primary.
type HandOver struct {
	From string `json:"from"`
	To   string `json:"to"`
	// WriteGapMS is how long no server took writes, in ms.
	WriteGapMS float64 `json:"writeGapMilliseconds"`
}
