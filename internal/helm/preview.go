package helm

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"helm.sh/helm/v4/pkg/action"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	helmkube "helm.sh/helm/v4/pkg/kube"
	release "helm.sh/helm/v4/pkg/release/v1"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/upgrade"
)

// Preview implements upgrade.Releases. It compares with the manifest of the deployed
// revision, not with the cluster, and so does not find that others own a field: no dry
// run of Helm's does.
func (r *Releases) Preview(ctx context.Context, d *operation.Deployment, c upgrade.Change) (upgrade.Preview, error) {
	s, err := r.open(ctx, d)
	if err != nil {
		return upgrade.Preview{}, err
	}
	revisions, err := s.revisions(ctx)
	if err != nil {
		return upgrade.Preview{}, err
	}
	next, err := s.render(ctx, revisions, c)
	if err != nil {
		return upgrade.Preview{}, err
	}
	const phase = "reading manifests"
	before, err := parse(applied(revisions).Manifest, s.namespace)
	if err != nil {
		return upgrade.Preview{}, s.failure(ctx, phase, err)
	}
	after, err := parse(next.Manifest, s.namespace)
	if err != nil {
		return upgrade.Preview{}, s.failure(ctx, phase, err)
	}
	return s.compare(before, after, next, rollsBack(c))
}

func (s *session) compare(before, after objects, next *release.Release, back bool) (upgrade.Preview, error) {
	d := s.deployment
	was, is := before.workload(d), after.workload(d)
	workload, err := owned(is, s.name, s.namespace)
	if err != nil {
		return upgrade.Preview{}, err
	}
	return upgrade.Preview{
		Chart: chartName(next.Chart), Image: after.image(d),
		Replaced:  templateDiffers(was, is),
		Objects:   changes(before, after),
		Immutable: immutable(was, is),
		Workload:  workload, Config: after.config(d), Hooks: hooks(next, back),
	}, nil
}

// rollsBack reports whether c is what `helm rollback` does: the revision as it was, not
// only its chart and values.
func rollsBack(c upgrade.Change) bool {
	return c.Back > 0 && c.Chart == "" && len(c.Values) == 0 && !c.ResetValues
}

// hooks names the chart's hooks that will run.
func hooks(r *release.Release, back bool) []string {
	before, after := release.HookPreUpgrade, release.HookPostUpgrade
	if back {
		before, after = release.HookPreRollback, release.HookPostRollback
	}
	var names []string
	for _, h := range r.Hooks {
		if slices.Contains(h.Events, before) || slices.Contains(h.Events, after) {
			names = append(names, h.Name)
		}
	}
	return names
}

// render returns the release as it would be after c.
func (s *session) render(ctx context.Context, revisions []*release.Release, c upgrade.Change) (*release.Release, error) {
	const phase = "rendering the chart"
	if rollsBack(c) {
		former, err := origin(revisions, c.Back)
		return former, s.failure(ctx, phase, err)
	}
	if err := s.notPending(revisions); err != nil {
		return nil, err
	}
	source, values, err := s.source(ctx, c)
	if err != nil {
		return nil, err
	}
	dry := s.upgradeAction(ctx, c)
	// Client would be enough for what is rendered, but templates cannot look objects up
	// then.
	dry.DryRunStrategy = action.DryRunServer
	rendered, err := dry.RunWithContext(ctx, s.name, source, values)
	if err != nil {
		return nil, s.failure(ctx, phase, conceal(err, values))
	}
	next, ok := rendered.(*release.Release)
	if !ok {
		return nil, s.failure(ctx, phase, fmt.Errorf("the SDK returned a %T", rendered))
	}
	return next, nil
}

// upgradeAction is an upgrade as `helm upgrade` would do it, without waiting for pods.
func (s *session) upgradeAction(ctx context.Context, c upgrade.Change) *action.Upgrade {
	a := action.NewUpgrade(s.configuration)
	a.Namespace = s.namespace
	a.MaxHistory = maxHistory
	a.Description = description(c)
	a.ResetValues = true // source has merged them
	a.WaitStrategy = helmkube.HookOnlyStrategy
	a.WaitOptions = []helmkube.WaitOption{helmkube.WithWaitContext(ctx)}
	a.Timeout = hookTimeout
	return a
}

// source returns the chart and the values of c. The SDK changes the chart that it
// renders, so it is read anew each time.
func (s *session) source(ctx context.Context, c upgrade.Change) (*chart.Chart, map[string]any, error) {
	revisions, err := s.revisions(ctx)
	if err != nil {
		return nil, nil, err
	}
	from, err := origin(revisions, c.Back)
	if err != nil {
		return nil, nil, s.failure(ctx, "", err)
	}
	values := from.Config
	if c.ResetValues {
		values = nil
	}
	values = merge(c.Values, values)
	if c.Chart == "" {
		return from.Chart, values, nil
	}
	loaded, err := load(c.Chart)
	return loaded, values, err
}

// load reads a chart from a folder or an archive.
func load(path string) (*chart.Chart, error) {
	failure := &operation.Error{Kind: operation.Usage, Object: "chart " + path}
	loaded, err := loader.Load(path)
	if err != nil {
		failure.Err = reason(err)
		return nil, failure
	}
	if loaded.Metadata.Type == "library" {
		failure.Err = errors.New("it is a library for other charts, and installs nothing")
		return nil, failure
	}
	present := map[string]bool{}
	for _, d := range loaded.Dependencies() {
		present[d.Name()] = true
	}
	for _, d := range loaded.Metadata.Dependencies {
		if !present[d.Name] {
			failure.Err = fmt.Errorf("its dependency %s is not in its folder charts", d.Name)
			failure.Next = "helm dependency build " + path
			return nil, failure
		}
	}
	return loaded, nil
}
