// Package upgrade has what the ways of upgrading a release share: the Helm release
// behind a deployment, a change of it, and what is recorded of an upgrade.
//
// The ways themselves are the packages below: check looks before anything is changed,
// roll replaces the pods of a release one by one, green brings a second release up
// beside it.
package upgrade

import (
	"context"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
)

// Releases keeps Helm releases. Its errors are *operation.Error; one matching
// fs.ErrNotExist says that the deployment is no Helm release.
type Releases interface {
	// History returns the revisions that are kept, oldest first, at least one.
	History(ctx context.Context, d *operation.Deployment) ([]Revision, error)
	// WithImage returns c with the values that make the server's container of d run
	// image, as rendering has shown. The error is of kind Refused when no value of the
	// chart does: the user then has to name it.
	WithImage(ctx context.Context, d *operation.Deployment, c Change, image string) (Change, error)
	// Preview renders the release as it would be after c, and compares. It changes
	// nothing. The chart's hooks do not run.
	Preview(ctx context.Context, d *operation.Deployment, c Change) (Preview, error)
	// Upgrade makes c the next revision, and does not wait for pods. A revision that
	// exists although it failed is returned together with the error.
	Upgrade(ctx context.Context, d *operation.Deployment, c Change) (Revision, error)
	// Settle marks a revision that another process was making when it died
	// (pending-upgrade, pending-rollback) as failed, so that the release can be changed
	// again. It does nothing when no revision is pending.
	Settle(ctx context.Context, d *operation.Deployment) error
}

// Change is what is to become of a release. The zero value renders the release as it is.
type Change struct {
	// Back is the revision whose chart and values are taken; 0 for those of the revision
	// that is deployed.
	Back int
	// Chart is the path of a chart to take instead.
	Chart string
	// Values are merged over the release's own, which stay, unless ResetValues is set.
	Values      map[string]any
	ResetValues bool
	// Description is shown by `helm history`.
	Description string
}

// Revision is an entry of a release's history.
type Revision struct {
	// Number counts from 1.
	Number int `json:"revision"`
	// Status is Helm's word: "deployed", "superseded", "failed", "pending-upgrade", ...
	Status string `json:"status"`
	// Chart is name and version: "redis-1.4.2".
	Chart       string    `json:"chart"`
	AppVersion  string    `json:"appVersion,omitempty"`
	Updated     time.Time `json:"updated"`
	Description string    `json:"description,omitempty"`
	// Image that the server's container runs in this revision. Empty when the workload is
	// not part of it.
	Image string `json:"image,omitempty"`
}

// Preview is a release as it would be.
type Preview struct {
	Chart string `json:"chart"`
	// Image of the server's container.
	Image string `json:"image"`
	// Replaced is set when the pod template differs from that of the deployed revision:
	// every pod has to be replaced.
	Replaced bool `json:"podsReplaced"`
	// Objects are those that are added, changed or removed.
	Objects []ObjectChange `json:"objects"`
	// Immutable are the fields of the workload that differ and that Kubernetes never
	// changes: "spec.volumeClaimTemplates", "spec.serviceName". The workload must then be
	// made anew, around its pods.
	Immutable []string `json:"immutable,omitempty"`
	// Workload is the workload's manifest, as JSON.
	Workload []byte `json:"-"`
	// Config is the redis.conf of the release's ConfigMap; empty when the release has
	// none of its own.
	Config string `json:"-"`
	// Hooks are the names of the chart's hooks that run with an upgrade.
	Hooks []string `json:"hooks,omitempty"`
}

// ObjectChange is an object of the release that differs.
type ObjectChange struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Action is "added", "changed" or "removed".
	Action string `json:"action"`
}
