package helm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/common"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	helmkube "helm.sh/helm/v4/pkg/kube"
	helmrelease "helm.sh/helm/v4/pkg/release"
	rcommon "helm.sh/helm/v4/pkg/release/common"
	release "helm.sh/helm/v4/pkg/release/v1"
	"helm.sh/helm/v4/pkg/storage"
	"helm.sh/helm/v4/pkg/storage/driver"
	"k8s.io/client-go/rest"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/upgrade"
)

const (
	// defaultTimeout bounds one request where New is given no other bound.
	defaultTimeout = 10 * time.Second
	// maxHistory is how many revisions are kept: the default of `helm upgrade`.
	maxHistory = 10
	// hookTimeout bounds each of the chart's hooks: the default of `helm upgrade`.
	hookTimeout = 5 * time.Minute
	// fieldManager is what `helm` calls itself. Applied under another name, every field
	// that `helm` has applied and that changes would be a conflict with it.
	fieldManager = "helm"
)

// prepareSDK sets the globals of the SDK and of the logging that it uses. They are not
// safe to change while in use, so they are set once, before the first use.
//
//nolint:gochecknoglobals // it guards globals of others
var prepareSDK = sync.OnceFunc(func() {
	helmkube.ManagedFieldsManager = fieldManager
	// The log package's default logger then writes to this one, too.
	slog.SetDefault(slog.New(slog.DiscardHandler))
})

// Releases are the Helm releases of one cluster. It implements upgrade.Releases, and is
// safe for concurrent use.
type Releases struct {
	connect func(ctx context.Context, namespace string) (backend, error)
}

// backend is where a release is kept.
type backend struct {
	objects helmkube.Interface
	records driver.Driver
	// getter is nil without a cluster: templates then cannot look objects up.
	getter       action.RESTClientGetter
	capabilities *common.Capabilities // nil: those of the cluster
}

// New returns the releases of the cluster that config leads to. timeout bounds each
// request to the API server, within the caller's context; 0 means 10 seconds. It does
// not use the network.
//
// It silences the default loggers of log and log/slog for the whole process, because
// Helm's SDK writes to them. klog, which client-go writes to, is kube.Open's.
func New(config *rest.Config, timeout time.Duration) *Releases {
	prepareSDK()
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	return &Releases{connect: func(ctx context.Context, namespace string) (backend, error) {
		return connect(ctx, config, namespace, timeout)
	}}
}

// session is what one call does with one release.
type session struct {
	configuration *action.Configuration
	records       *recorder
	namespace     string
	name          string
	// deployment is nil for releases that serve none yet.
	deployment *operation.Deployment
}

// open begins a call about the release of d.
func (r *Releases) open(ctx context.Context, d *operation.Deployment) (*session, error) {
	s, err := r.openNamed(ctx, d.Namespace, d.Release)
	if err != nil {
		return nil, err
	}
	s.deployment = d
	if client, ok := s.configuration.KubeClient.(*helmkube.Client); ok {
		s.configuration.KubeClient = &keeper{Client: client, workload: d.Workload.Name}
	}
	return s, nil
}

func (r *Releases) openNamed(ctx context.Context, namespace, name string) (*session, error) {
	s := &session{namespace: namespace, name: name}
	b, err := r.connect(ctx, namespace)
	if err != nil {
		return nil, s.failure(ctx, "preparing Helm", err)
	}
	s.records = &recorder{Driver: b.records}
	store := storage.Init(s.records)
	store.SetLogger(slog.DiscardHandler)
	s.configuration = action.NewConfiguration(action.ConfigurationSetLogger(slog.DiscardHandler))
	s.configuration.Releases = store
	s.configuration.KubeClient = b.objects
	s.configuration.RESTClientGetter = b.getter
	s.configuration.Capabilities = b.capabilities
	s.configuration.HookOutputFunc = func(_, _, _ string) io.Writer { return io.Discard }
	return s, nil
}

// recorder remembers the revision that was made.
type recorder struct {
	driver.Driver
	made *release.Release
}

// Create implements driver.Creator.
func (r *recorder) Create(key string, revision helmrelease.Releaser) error {
	if err := r.Driver.Create(key, revision); err != nil {
		return err
	}
	r.made, _ = revision.(*release.Release)
	return nil
}

// revisions returns the revisions that are kept, oldest first, at least one.
func (s *session) revisions(ctx context.Context) ([]*release.Release, error) {
	const phase = "reading the Helm release"
	kept, err := s.configuration.Releases.History(s.name)
	if err != nil {
		return nil, s.failure(ctx, phase, err)
	}
	revisions := make([]*release.Release, 0, len(kept))
	for _, r := range kept {
		if r, ok := r.(*release.Release); ok && r.Info != nil && r.Chart != nil {
			revisions = append(revisions, r)
		}
	}
	if len(revisions) == 0 {
		return nil, s.failure(ctx, phase, errors.New("none of its records can be read"))
	}
	slices.SortFunc(revisions, func(a, b *release.Release) int { return cmp.Compare(a.Version, b.Version) })
	return revisions, nil
}

// deployed returns the revision that is in effect: the newest one that is deployed, or
// the newest one when none is.
func deployed(revisions []*release.Release) *release.Release {
	for _, r := range slices.Backward(revisions) {
		if r.Info.Status == rcommon.StatusDeployed {
			return r
		}
	}
	return revisions[len(revisions)-1]
}

// applied returns the revision that the cluster's objects are of: a failed one may have
// changed them all before it failed, as when Helm waited in vain for a pod.
func applied(revisions []*release.Release) *release.Release {
	if newest := revisions[len(revisions)-1]; newest.Info.Status == rcommon.StatusFailed {
		return newest
	}
	return deployed(revisions)
}

// origin returns the revision whose chart and values c takes.
func origin(revisions []*release.Release, back int) (*release.Release, error) {
	if back == 0 {
		return deployed(revisions), nil
	}
	numbers := make([]int, 0, len(revisions))
	for _, r := range revisions {
		if r.Version == back {
			return r, nil
		}
		numbers = append(numbers, r.Version)
	}
	return nil, fmt.Errorf("there is no revision %d; there are %v", back, numbers)
}

// History implements upgrade.Releases.
func (r *Releases) History(ctx context.Context, d *operation.Deployment) ([]upgrade.Revision, error) {
	s, err := r.open(ctx, d)
	if err != nil {
		return nil, err
	}
	kept, err := s.revisions(ctx)
	if err != nil {
		return nil, err
	}
	history := make([]upgrade.Revision, len(kept))
	for i, k := range kept {
		history[i] = s.revision(k)
	}
	return history, nil
}

// revision describes r.
func (s *session) revision(r *release.Release) upgrade.Revision {
	described := upgrade.Revision{
		Number: r.Version, Status: r.Info.Status.String(), Updated: r.Info.LastDeployed, Description: r.Info.Description,
		Chart: chartName(r.Chart), AppVersion: r.Chart.AppVersion(),
	}
	// What does not parse was never applied: such a revision runs nothing.
	if objects, err := parse(r.Manifest, s.namespace); err == nil && s.deployment != nil {
		described.Image = objects.image(s.deployment)
	}
	return described
}

func chartName(c *chart.Chart) string {
	if c.Metadata == nil {
		return ""
	}
	return c.Metadata.Name + "-" + c.Metadata.Version
}

// Settle implements upgrade.Releases. It cannot see whether the process that makes the
// pending revision still lives: the caller's lock has to.
func (r *Releases) Settle(ctx context.Context, d *operation.Deployment) error {
	s, err := r.open(ctx, d)
	if err != nil {
		return err
	}
	revisions, err := s.revisions(ctx)
	if err != nil {
		return err
	}
	newest := revisions[len(revisions)-1]
	if !newest.Info.Status.IsPending() {
		return nil
	}
	return s.fail(ctx, newest, "interrupted, and marked as failed by redisctl")
}

// fail records that revision r has failed, as the SDK does when it can.
func (s *session) fail(ctx context.Context, r *release.Release, why string) error {
	r.SetStatus(rcommon.StatusFailed, why)
	return s.failure(ctx, fmt.Sprintf("marking revision %d as failed", r.Version), s.configuration.Releases.Update(r))
}
