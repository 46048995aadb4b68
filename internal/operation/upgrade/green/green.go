// Package green upgrades by a second release beside the first: blue is the release that
// serves, green the one of the new version.
//
// Green is installed from blue's own chart and values, and its first server follows blue's
// primary, so that it has blue's data and gets every write. Nothing of blue changes until
// the cutover, which is a planned switch like failover promote between the servers of both
// releases: writes are paused, green has all of them, blue's primary follows green's, and
// blue's Services select green's pod. Blue then has every write too, as long as it can
// replicate from the newer server, and the way back is the same switch the other way round.
//
// Where green cannot replicate from blue, because it is older or another product, its data
// is copied instead (Options.Copy): once when it is made, and again at the cutover, while
// writes wait.
//
// The Services stay objects of blue's Helm release. Finish says what that means.
package green

import (
	"errors"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/failover"
	"github.com/redisctl/redisctl/internal/operation/upgrade"
)

// Green brings a second release up and switches between the two. All fields are required.
type Green struct {
	Resolver  operation.Resolver
	Connector operation.Connector
	Locker    operation.Locker
	Notes     operation.Notes
	Releases  Releases
	Cluster   Cluster
	// Failover hands over. Its lock, its notes and its way of moving Services are
	// replaced.
	Failover failover.Failover
	// Copier is needed for second releases that do not replicate.
	Copier   Copier
	Reporter operation.Reporter
	Now      func() time.Time
	// By names the operator in records.
	By string
}

// Limits are how long the parts may take.
type Limits struct {
	failover.Limits
	// Start is how long green may make no progress: its pods are scheduled, images are
	// pulled, servers start and copy the data.
	Start time.Duration
	// Pull is how long an image may fail to be pulled.
	Pull time.Duration
}

// Options are the user's choices for a second release.
type Options struct {
	// Name of the second release; empty for the first one's with "-green".
	Name string
	// Change chooses the image, and what else is different.
	Change upgrade.Change
	// Copy has the data copied instead of replicated (dump-restore).
	Copy bool
	// MaxLag is how many bytes green may be behind when it counts as in sync.
	MaxLag int64
	Limits Limits
}

// Outcome is what became of a second release.
type Outcome string

// The outcomes.
const (
	// OutcomeReady: green follows blue, and a cutover can be made.
	OutcomeReady Outcome = "ready"
	// OutcomeServing: green serves.
	OutcomeServing Outcome = "serving"
	// OutcomeRemoved: green and its data are gone.
	OutcomeRemoved Outcome = "removed"
	// OutcomeFinished: green stays for good.
	OutcomeFinished Outcome = "finished"
)

// Result is what was done to a second release. Its JSON form is part of redisctl's
// interface (docs/json-output.md).
type Result struct {
	Namespace string `json:"namespace"`
	// Release is the first one, Green the second.
	Release string  `json:"release"`
	Green   string  `json:"green"`
	Outcome Outcome `json:"outcome"`
	// From and To are images.
	From string `json:"from"`
	To   string `json:"to"`
	// Primary is the server that clients of the first release's Services write to.
	Primary string `json:"primary,omitempty"`
	// Copied is the last copy of the data; nil when the second release replicates.
	Copied *Copied `json:"copied,omitempty"`
	// Services are those of the first release that lead to the second.
	Services []string `json:"services"`
	// Claims were deleted with the second release.
	Claims  []string `json:"claims"`
	Seconds float64  `json:"seconds"`
}

func (g Green) newResult(d *operation.Deployment, r *Record, outcome Outcome) Result {
	return Result{
		Namespace: d.Namespace, Release: d.Release, Green: r.Green, Outcome: outcome, From: r.From, To: r.To,
		Services: []string{}, Claims: []string{},
	}
}

// refused returns an error of kind Refused.
func refused(object, phase, next, format string, args ...any) *operation.Error {
	return &operation.Error{
		Kind: operation.Refused, Object: object, Phase: phase, Err: operation.Errorf(operation.Refused, format, args...),
		Unchanged: "nothing was changed", Next: next,
	}
}

var errNone = errors.New("there is no second release")
