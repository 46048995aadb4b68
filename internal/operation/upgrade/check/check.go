// Package check looks at a release before it is upgraded: whether the release is fit for
// it, what Helm would change, what is known to break on the way, and what a throw-away
// server of the new image makes of the release's own configuration.
//
// Nothing of the release is changed or restarted.
package check

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/health"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/operation/upgrade"
	"github.com/redisctl/redisctl/internal/redis"
)

// Checker checks releases. Fields that may be nil leave out what they are for.
type Checker struct {
	// Releases may be nil: what Helm would change is then not checked.
	Releases  upgrade.Releases
	Connector operation.Connector
	Notes     operation.Notes
	// Locker may be nil, for whoever holds the lock.
	Locker  operation.Locker
	Cluster Cluster
	// Trials starts throw-away servers. It may be nil.
	Trials Trials
	// Backups may be nil, for whoever makes one anyway.
	Backups  Backups
	Reporter operation.Reporter
	Now      func() time.Time
}

// Cluster is what is asked of the cluster.
type Cluster interface {
	// Budgets returns the PodDisruptionBudgets of the deployment's pods.
	Budgets(ctx context.Context, d *operation.Deployment) ([]operation.Budget, error)
	// MemoryLimit returns what the server's container may take, in bytes; 0 for no limit.
	MemoryLimit(ctx context.Context, d *operation.Deployment) (int64, error)
	// Space returns the size of the file system that holds path, and what is free of it, in
	// bytes.
	Space(ctx context.Context, d *operation.Deployment, i operation.Instance, path string) (size, free int64, err error)
}

// Backups knows what is stored of a deployment.
type Backups interface {
	// LastVerified returns the newest backup of d's data that was verified, nil when there
	// is none.
	LastVerified(ctx context.Context, d *operation.Deployment) (*Backup, error)
}

// Options are the user's choices. Start from DefaultOptions.
type Options struct {
	Overrides Overrides
	// To is the version to upgrade to, Image the whole image instead. At most one is set;
	// with neither, the image is that of Change, or only the release is checked.
	To, Image string
	// Change is what is to become of the release besides the image.
	Change upgrade.Change
	// Trial starts a throw-away server of the target's image.
	Trial bool
	// TrialTime is how long a trial may take in all. It must be positive.
	TrialTime time.Duration
	// Health are the limits of what counts as healthy.
	Health health.Options
	// MaxBackupAge is how old the last verified backup may be.
	MaxBackupAge time.Duration
}

// DefaultOptions returns the options of `upgrade check`.
func DefaultOptions() Options {
	return Options{Trial: true, TrialTime: 5 * time.Minute, Health: health.DefaultOptions(), MaxBackupAge: 24 * time.Hour}
}

// Check observes d and reports what stands in the way of an upgrade. That something does
// is no error: Report.Findings tell. An error of kind Usage says that the target cannot be
// made of what the user named.
func (c Checker) Check(ctx context.Context, d *operation.Deployment, o Options) (Report, error) {
	if d.Workload == nil {
		return Report{}, operation.Errorf(operation.Usage, "%s is no release: redisctl upgrades Helm releases", d.Name)
	}
	target, err := targetImage(d.Workload.Image, o)
	if err != nil {
		return Report{}, err
	}
	c.Reporter.Step("looking at %s", d)
	t := topology.Observe(ctx, c.Connector, d, o.Health.Timeout)
	if err := t.Denied(); err != nil {
		return Report{}, err
	}
	k := &checking{Checker: c, d: d, o: o, t: &t, report: newReport(&t, target)}
	k.observe(ctx)
	for _, part := range []func(context.Context){k.checkState, k.checkHelm, k.checkTrial, k.checkPath} {
		part(ctx)
		if ctx.Err() != nil {
			return Report{}, context.Cause(ctx)
		}
	}
	k.report.finish()
	return k.report, nil
}

// checking is a check in progress.
type checking struct {
	Checker
	d *operation.Deployment
	o Options
	t *topology.Topology
	// facts are those of the server that holds the data; its Answered is false when none
	// has answered.
	facts  facts
	report Report
	// preview is nil when Helm could not be asked.
	preview *upgrade.Preview
}

// facts are what the known changes on the way are held against.
type facts struct {
	Answered bool
	Instance operation.Instance
	Version  redis.Version
	Info     redis.Info
	// Config is redis.conf as it is going to be, Settings what CONFIG GET * tells; nil when CONFIG is disabled.
	Config   redis.Config
	Settings map[string]string
	// Commands that clients have sent since the start, by their lower-case names.
	Commands map[string]int64
}

// observe asks the server that holds the data for what topology does not.
func (k *checking) observe(ctx context.Context) {
	k.facts.Config = k.d.Config
	m := dataHolder(k.t)
	if m == nil {
		return
	}
	k.facts.Answered, k.facts.Instance, k.facts.Version, k.facts.Info = true, m.Instance, m.Version, m.Info
	k.report.From.Version = &m.Version
	server, err := k.Connector.Connect(ctx, k.d, m.Instance)
	if err != nil {
		k.unknown(m.Name, err)
		return
	}
	defer func() { _ = server.Close() }() // it was only asked
	asking, cancel := context.WithTimeout(ctx, k.o.Health.Timeout)
	defer cancel()
	if k.facts.Settings, err = server.ConfigGet(asking, "*"); err != nil {
		k.unknown(m.Name, err)
	}
	stats, err := server.Info(asking, "commandstats")
	if err != nil {
		k.unknown(m.Name, err)
		return
	}
	k.facts.Commands = commandCalls(stats)
}

// dataHolder returns the primary, or, where there is not exactly one, the member of the
// newest version: whatever holds the data later must read what that one writes.
func dataHolder(t *topology.Topology) *topology.Member {
	if primary, err := t.Primary(); err == nil {
		return primary
	}
	var newest *topology.Member
	for i := range t.Members {
		m := &t.Members[i]
		if m.Err == nil && (newest == nil || m.Version.Compare(newest.Version) > 0) {
			newest = m
		}
	}
	return newest
}

// add adds a finding.
func (k *checking) add(f operation.Finding) { k.report.Findings = append(k.report.Findings, f) }

// unknown adds that something could not be looked at, so that silence about it does not
// pass for approval.
func (k *checking) unknown(subject string, err error) {
	k.add(operation.Finding{
		Code: "not-checked", Severity: operation.Notice, Subject: subject, Message: "could not be looked at: " + err.Error(),
	})
}

// usable drops an *operation.Error's object where the finding's subject names it.
func usable(err error) error {
	var e *operation.Error
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

// finish orders the findings, the worst first, and judges.
func (r *Report) finish() {
	order := []operation.Severity{operation.Critical, operation.Warning, operation.Notice}
	slices.SortStableFunc(r.Findings, func(a, b operation.Finding) int {
		return cmp.Compare(slices.Index(order, a.Severity), slices.Index(order, b.Severity))
	})
	r.Ready = health.Clean(r.Findings)
}
