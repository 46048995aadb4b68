package green

import (
	"context"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/upgrade"
)

// Releases keeps Helm releases, also second ones.
type Releases interface {
	upgrade.Releases
	// Install makes a release, name in namespace, from the chart and values of from's
	// deployed revision, changed by c. It does not wait for pods. A release that exists
	// although it failed is returned together with the error.
	Install(ctx context.Context, from *operation.Deployment, name, namespace string, c upgrade.Change) (upgrade.Revision, error)
	// Uninstall removes a release. It does nothing when there is none.
	Uninstall(ctx context.Context, namespace, name string) error
}

// Cluster works on the objects of two releases in one namespace.
type Cluster interface {
	// Routes returns how the Services of d's release that select the pod from would
	// select the pod to instead. Headless ones are left out, and those that select
	// several pods: their names are returned as others.
	Routes(ctx context.Context, d *operation.Deployment, from, to string) (routes []Route, others []string, err error)
	// Reroute makes a Service with exactly the selector from have the selector to. One
	// that has it already is left alone; any other is an error, and nothing is changed.
	Reroute(ctx context.Context, d *operation.Deployment, service string, from, to map[string]string) error
	// Claims names the claims of a Helm release.
	Claims(ctx context.Context, namespace, release string) ([]string, error)
	// DeleteClaim deletes a claim of d's namespace with its data. One that is not there
	// is no error.
	DeleteClaim(ctx context.Context, d *operation.Deployment, name string) error
	// LastLines returns what the server of an instance printed last.
	LastLines(ctx context.Context, d *operation.Deployment, i operation.Instance, lines int) ([]string, error)
}

// Route is a Service of the first release, and its selectors before and after a cutover.
type Route struct {
	Service string `json:"service"`
	// Port is where it takes Redis clients.
	Port  int               `json:"port"`
	Blue  map[string]string `json:"blue"`
	Green map[string]string `json:"green"`
}

// Copier copies all data of a server to one of another release.
type Copier interface {
	// Copy backs up the instance from of a, restores the backup into the instance to of b,
	// which is empty, and compares every key. Nothing of a is changed.
	Copy(ctx context.Context, a *operation.Deployment, from operation.Instance, b *operation.Deployment, to operation.Instance) (Copied, error)
}

// Copied is a copy of all data.
type Copied struct {
	// Backup is where the data was stored on its way.
	Backup string `json:"backup"`
	// Keys were restored, Compared are those of them that were compared, and equal.
	Keys     int64 `json:"keys"`
	Compared int64 `json:"compared"`
	// Seconds is how long it took altogether.
	Seconds float64 `json:"seconds"`
}
