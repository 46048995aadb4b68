package helm

import (
	"context"
	"errors"
	"fmt"

	"helm.sh/helm/v4/pkg/action"
	helmkube "helm.sh/helm/v4/pkg/kube"
	release "helm.sh/helm/v4/pkg/release/v1"
	"helm.sh/helm/v4/pkg/storage/driver"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/upgrade"
)

// Upgrade implements upgrade.Releases. A Change that is nothing but a way back is a
// rollback, which applies that revision's manifest without rendering it again, as
// `helm rollback` does. The chart's hooks run, and are waited for.
//
// Objects are applied as the release's own were, on the server or by a three-way merge.
// An update strategy OnDelete of the workload stays. Fields of others are not taken: the
// error names object and field, and what comes after that object is applied all the same.
//
// When ctx ends in between, the revision is recorded as failed before Upgrade returns.
func (r *Releases) Upgrade(ctx context.Context, d *operation.Deployment, c upgrade.Change) (upgrade.Revision, error) {
	s, err := r.open(ctx, d)
	if err != nil {
		return upgrade.Revision{}, err
	}
	revisions, err := s.revisions(ctx)
	if err != nil {
		return upgrade.Revision{}, err
	}
	if err := s.notPending(revisions); err != nil {
		return upgrade.Revision{}, err
	}
	if rollsBack(c) {
		if _, err := origin(revisions, c.Back); err != nil {
			return upgrade.Revision{}, s.failure(ctx, "rolling back", err)
		}
		return s.finish(ctx, "rolling back", nil, s.rollback(ctx, c))
	}
	source, values, err := s.source(ctx, c)
	if err != nil {
		return upgrade.Revision{}, err
	}
	// The SDK's own way of giving up leaves a goroutine behind that goes on applying.
	// Without it, the first request to the API server after the end of ctx fails.
	_, err = s.upgradeAction(ctx, c).RunWithContext(context.WithoutCancel(ctx), s.name, source, values)
	return s.finish(ctx, "upgrading", values, err)
}

func (s *session) rollback(ctx context.Context, c upgrade.Change) error {
	a := action.NewRollback(s.configuration)
	a.Version = c.Back
	a.MaxHistory = maxHistory
	a.Description = description(c)
	a.WaitStrategy = helmkube.HookOnlyStrategy
	a.WaitOptions = []helmkube.WaitOption{helmkube.WithWaitContext(ctx)}
	a.Timeout = hookTimeout
	return a.Run(s.name)
}

// description is cut to what a rollback accepts; the SDK's own when there is none.
func description(c upgrade.Change) string {
	text := []rune(c.Description)
	if len(text) > action.MaxDescriptionLength {
		return string(text[:action.MaxDescriptionLength-1]) + "…"
	}
	return c.Description
}

// finish returns the revision that was made. The SDK leaves some that failed pending:
// those whose hooks failed in a rollback.
func (s *session) finish(ctx context.Context, phase string, values map[string]any, err error) (upgrade.Revision, error) {
	made := s.records.made
	if made == nil {
		err = s.failure(ctx, phase, conceal(err, values))
		var failure *operation.Error
		if errors.As(err, &failure) {
			failure.Unchanged = "nothing was changed"
		}
		return upgrade.Revision{}, err
	}
	if err != nil {
		err = conceal(err, values)
		if made.Info.Status.IsPending() {
			err = errors.Join(err, s.fail(context.WithoutCancel(ctx), made, err.Error()))
		}
		err = s.failure(ctx, phase, err)
		return s.revision(made), err
	}
	return s.revision(made), nil
}

// Install makes a second release, name in namespace, which must exist, from the chart and
// values of from's deployed revision, changed by c as Upgrade would. Values that name
// objects, such as fullnameOverride or persistence.existingClaim, are taken over, too:
// set them anew in c.Values. It does not wait for pods. A release that exists although it
// failed is returned together with the error.
func (r *Releases) Install(
	ctx context.Context, from *operation.Deployment, name, namespace string, c upgrade.Change,
) (upgrade.Revision, error) {
	origin, err := r.open(ctx, from)
	if err != nil {
		return upgrade.Revision{}, err
	}
	revisions, err := origin.revisions(ctx)
	if err != nil {
		return upgrade.Revision{}, err
	}
	source, values, err := origin.source(ctx, c)
	if err != nil {
		return upgrade.Revision{}, err
	}
	s, err := r.openNamed(ctx, namespace, name)
	if err != nil {
		return upgrade.Revision{}, err
	}
	a := action.NewInstall(s.configuration)
	a.ReleaseName, a.Namespace = name, namespace
	a.Description = description(c)
	a.SkipCRDs = true // from needs the same, so they are there
	// As from's objects were applied, so that whoever keeps from can keep this one.
	a.ServerSideApply = deployed(revisions).ApplyMethod == string(release.ApplyMethodServerSideApply)
	a.WaitStrategy = helmkube.HookOnlyStrategy
	a.WaitOptions = []helmkube.WaitOption{helmkube.WithWaitContext(ctx)}
	a.Timeout = hookTimeout
	_, err = a.RunWithContext(context.WithoutCancel(ctx), source, values)
	return s.finish(ctx, "installing", values, err)
}

// Uninstall removes a release with its history. It does nothing when there is no such
// release. Claims that a StatefulSet has made stay, as always. It does not wait for pods
// to end.
func (r *Releases) Uninstall(ctx context.Context, namespace, name string) error {
	s, err := r.openNamed(ctx, namespace, name)
	if err != nil {
		return err
	}
	a := action.NewUninstall(s.configuration)
	a.WaitStrategy = helmkube.HookOnlyStrategy
	a.WaitOptions = []helmkube.WaitOption{helmkube.WithWaitContext(ctx)}
	a.Timeout = hookTimeout
	_, err = a.Run(name)
	if errors.Is(err, driver.ErrReleaseNotFound) {
		return nil
	}
	return s.failure(ctx, "uninstalling", err)
}

// notPending reports a revision that somebody is making, or was when they died.
func (s *session) notPending(revisions []*release.Release) error {
	newest := revisions[len(revisions)-1]
	if !newest.Info.Status.IsPending() {
		return nil
	}
	return &operation.Error{
		Kind: operation.Locked, Object: s.object(),
		Err: fmt.Errorf("another Helm operation is in progress: revision %d is %s since %s",
			newest.Version, newest.Info.Status, newest.Info.LastDeployed.Format("2006-01-02 15:04:05 MST")),
		Unchanged: "nothing was changed",
		Next:      "wait for it; if it was interrupted: helm rollback " + s.name + " --namespace " + s.namespace,
	}
}
