package roll

import (
	"context"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
)

// Cluster works on the workload and its pods.
type Cluster interface {
	// Strategy returns how the workload replaces its pods, for Release; "" when it does
	// so only when they are deleted.
	Strategy(ctx context.Context, d *operation.Deployment) (string, error)
	// Hold keeps the workload from replacing pods by itself (update strategy OnDelete).
	Hold(ctx context.Context, d *operation.Deployment) error
	// Release gives the workload a strategy back that it had before Hold. One that
	// somebody else has set meanwhile stays.
	Release(ctx context.Context, d *operation.Deployment, former string) error
	// Rollout returns which revision the pods are to have, as soon as the workload's
	// controller has seen the last change.
	Rollout(ctx context.Context, d *operation.Deployment) (Rollout, error)
	// Recreate replaces the workload object by the given manifest, leaves its pods and
	// claims alone, holds the new one and gives it the notes.
	Recreate(ctx context.Context, d *operation.Deployment, manifest []byte, notes map[string]string) error
	// Recover makes the workload of a release that Recreate was interrupted over, and
	// reports whether there was one.
	Recover(ctx context.Context, t operation.Target) (bool, error)
	// DeletePod ends the pod of an instance, giving its process the grace time; a
	// negative one is the pod's own. A pod that has been replaced since it was observed
	// is left alone.
	DeletePod(ctx context.Context, d *operation.Deployment, i operation.Instance, grace time.Duration) error
	// LastLines returns what the server of an instance printed last.
	LastLines(ctx context.Context, d *operation.Deployment, i operation.Instance, lines int) ([]string, error)
}

// Rollout is how far a workload's pods follow its template.
type Rollout struct {
	// Held is set while pods are replaced only when they are deleted.
	Held bool
	// Revision is the name of the template's revision, Pods those of the pods that exist.
	Revision string
	Pods     map[string]string
}

// stale reports whether a pod is of another revision, or does not exist.
func (r Rollout) stale(pod string) bool { return r.Pods[pod] != r.Revision }

// Aside moves the data files of an instance out of its server's way. They are kept on its
// volume, in the folder whose name it returns.
type Aside interface {
	SetAside(ctx context.Context, d *operation.Deployment, i operation.Instance) (kept string, err error)
}

// Backups keeps the data before it is at stake.
type Backups interface {
	// Recent names the newest full backup of d that was verified and is no older than
	// age, "" when there is none.
	Recent(ctx context.Context, d *operation.Deployment, age time.Duration) (string, error)
	// Full makes a full backup, verified, and names it.
	Full(ctx context.Context, d *operation.Deployment) (string, error)
}

// Saver saves an instance's data to its volume.
type Saver interface {
	// Save runs BGSAVE and returns how long it took.
	Save(ctx context.Context, d *operation.Deployment, i operation.Instance) (time.Duration, error)
}
