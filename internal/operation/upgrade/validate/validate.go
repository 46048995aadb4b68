// Package validate says whether a release is as it should be after an upgrade: what
// health and replication say, which versions and images run, and what differs from the
// state that was recorded before.
package validate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/health"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/operation/upgrade"
)

// Logs reads what servers print.
type Logs interface {
	// ReadLog hands every line that the server's container of an instance has printed
	// since its start to line, at most limit bytes, and reports whether that was all.
	ReadLog(ctx context.Context, d *operation.Deployment, i operation.Instance, limit int64, line func(string)) (complete bool, err error)
}

// Backups takes a backup that is verified while it is stored.
type Backups interface {
	// Backup takes it from the instance of that name, or where name is empty from the one
	// that suits best. It returns where the data is.
	Backup(ctx context.Context, d *operation.Deployment, name string) (location string, err error)
}

// Options are the user's choices.
type Options struct {
	// Health has the thresholds of the checks that health makes as well, and Timeout.
	Health health.Options
	// Quick leaves out what takes long: latency and the backup.
	Quick bool
}

// Validate checks a release. All fields but Logs and Backups are required.
type Validate struct {
	Connector operation.Connector
	Notes     operation.Notes
	// Logs is nil for plain addresses.
	Logs Logs
	// Backups is nil to take none.
	Backups  Backups
	Reporter operation.Reporter
	Now      func() time.Time
}

// State is the outcome of a check.
type State string

// The states. Failed means that there is a critical finding or a warning; Changed that
// something differs from what was recorded, and that this is no harm.
const (
	OK      State = "ok"
	Changed State = "changed"
	Failed  State = "failed"
	Skipped State = "skipped"
)

// Check is one thing that was looked at.
type Check struct {
	// Name is stable: "versions", "rollout", "replication", "health", "keys", "settings",
	// "log", "latency" or "backup".
	Name  string `json:"name"`
	State State  `json:"state"`
	// Message says what was found, with the numbers.
	Message string `json:"message"`
}

// Report is the outcome for one release. Its JSON form is part of redisctl's interface
// (docs/json-output.md).
type Report struct {
	Namespace string `json:"namespace,omitempty"`
	Release   string `json:"release,omitempty"`
	Name      string `json:"name"`
	// Valid is set when no finding is worse than a notice.
	Valid  bool    `json:"valid"`
	Checks []Check `json:"checks"`
	// Findings are empty, not null, when all is well; those of one check stand together.
	Findings []operation.Finding `json:"findings"`
	// Recorded is the state before the upgrade; nil when there is none.
	Recorded *upgrade.Baseline `json:"recorded,omitempty"`
	// Backups are where the fresh backups are.
	Backups []string `json:"backups,omitempty"`
}

// run is one validation.
type run struct {
	Validate
	o        Options
	topology *topology.Topology
	before   *upgrade.Baseline
	pairs    []pair
	report   Report
}

// Run checks d. The error is not nil only when nothing could be observed, or when ctx
// ends: what is wrong with the release is in the report.
func (v Validate) Run(ctx context.Context, d *operation.Deployment, o Options) (Report, error) {
	v.Reporter.Step("asking %s", d.InstanceNames())
	t := topology.Observe(ctx, v.Connector, d, o.Health.Timeout)
	if err := t.Denied(); err != nil {
		return Report{}, err
	}
	r := &run{Validate: v, o: o, topology: &t, report: Report{
		Namespace: d.Namespace, Release: d.Release, Name: d.Name, Checks: []Check{}, Findings: []operation.Finding{},
	}}
	if err := r.load(ctx); err != nil {
		return Report{}, err
	}
	r.ask(ctx)
	r.observed()
	r.logs(ctx)
	r.latency(ctx)
	r.backup(ctx)
	if ctx.Err() != nil { // what ended for that reason is no fault of the release
		return Report{}, context.Cause(ctx)
	}
	r.report.Valid = health.Clean(r.report.Findings)
	return r.report, nil
}

// load reads the state before the upgrade.
func (r *run) load(ctx context.Context) error {
	d := r.topology.Deployment
	before, err := upgrade.LoadBaseline(ctx, r.Notes, d)
	switch {
	case errors.Is(err, upgrade.ErrNoBaseline):
		f := operation.Finding{
			Code: "not-recorded", Severity: operation.Notice, Subject: d.Name,
			Message: err.Error() + ": keys, settings and latency have nothing to be compared with",
		}
		if d.Workload != nil {
			f.Hint = "redisctl upgrade apply records it"
		}
		r.report.Findings = append(r.report.Findings, f)
		return nil
	case err != nil:
		return err
	}
	r.before, r.report.Recorded = &before, &before
	return nil
}

// add records a check. It has failed when a finding is worse than a notice.
func (r *run) add(name string, state State, findings []operation.Finding, format string, args ...any) {
	if !health.Clean(findings) {
		state = Failed
	}
	r.report.Checks = append(r.report.Checks, Check{Name: name, State: state, Message: fmt.Sprintf(format, args...)})
	r.report.Findings = append(r.report.Findings, findings...)
}

// observed judges what the topology tells.
func (r *run) observed() {
	r.versions()
	r.rollout()
	of := health.Judge(r.topology, r.Now(), r.o.Health).Findings
	links := health.Replication(r.topology, r.o.Health)
	others := slices.DeleteFunc(of, func(f operation.Finding) bool {
		return f.Code == mixedVersions || slices.Contains(links, f)
	})
	r.add("replication", OK, links, "%s", r.roles())
	r.add("health", OK, others, "%s", counted(len(others), "finding"))
	r.keys()
	r.settings()
}

// roles tells who serves.
func (r *run) roles() string {
	t := r.topology
	if t.Independent() {
		return counted(len(t.Members), "independent server")
	}
	primary, err := t.Primary()
	if err != nil {
		return err.Error()
	}
	synced := 0
	for i := range t.Members {
		if m := &t.Members[i]; m.Follows == primary.Name && m.Link() == "up" {
			synced++
		}
	}
	text := fmt.Sprintf("%s is the primary, %d of %s in sync", primary.Name, synced, counted(len(t.Members)-1, "replica"))
	if r.before != nil && r.before.Primary != "" && r.before.Primary != primary.Name {
		text += "; before it was " + r.before.Primary
	}
	return text
}

// mixedVersions is the code of health's finding, which the check of versions shows.
const mixedVersions = "mixed-versions"

// versions judges which servers run: all the same, from the image that was asked for.
func (r *run) versions() {
	var seen []string
	for i := range r.topology.Members {
		if m := &r.topology.Members[i]; m.Err == nil && !slices.Contains(seen, m.Version.String()) {
			seen = append(seen, m.Version.String())
		}
	}
	var findings []operation.Finding
	for _, f := range health.Judge(r.topology, r.Now(), r.o.Health).Findings {
		if f.Code == mixedVersions {
			findings = append(findings, f)
		}
	}
	d := r.topology.Deployment
	if r.before != nil && r.before.Target != "" && d.Workload != nil && d.Workload.Image != r.before.Target {
		findings = append(findings, operation.Finding{
			Code: "other-image", Severity: operation.Warning, Subject: d.Workload.Name,
			Message: fmt.Sprintf("asks for %s, but the last upgrade was to %s", d.Workload.Image, r.before.Target),
			Hint:    "somebody has changed it since, or the upgrade was undone: redisctl upgrade status",
		})
	}
	for _, i := range d.Instances {
		if d.Workload == nil || i.Pod == nil || i.Pod.Image == "" || i.Pod.Image == d.Workload.Image {
			continue
		}
		findings = append(findings, operation.Finding{
			Code: "image-differs", Severity: operation.Warning, Subject: i.Name,
			Message: fmt.Sprintf("runs %s, but the workload asks for %s", i.Pod.Image, d.Workload.Image),
		})
	}
	state, text := OK, strings.Join(seen, ", ")
	if was := r.versionsBefore(); was != "" && was != text {
		state, text = Changed, fmt.Sprintf("%s, before %s", text, was)
	}
	r.add("versions", state, findings, "%s", text)
}

// versionsBefore lists the recorded versions.
func (r *run) versionsBefore() string {
	if r.before == nil {
		return ""
	}
	var seen []string
	for _, i := range r.before.Instances {
		if i.Version != nil && !slices.Contains(seen, i.Version.String()) {
			seen = append(seen, i.Version.String())
		}
	}
	return strings.Join(seen, ", ")
}

// freshFor is how long after its start a server that was restarted counts as one that
// does not run steadily.
const freshFor = time.Hour

// rollout judges whether every pod is what the workload asks for, and stays up.
func (r *run) rollout() {
	d := r.topology.Deployment
	if d.Workload == nil {
		r.add("rollout", Skipped, nil, "plain addresses have no pods")
		return
	}
	var findings []operation.Finding
	newest := 0
	for i := range r.topology.Members {
		m := &r.topology.Members[i]
		if m.Pod == nil {
			continue
		}
		if m.Pod.Revision == d.Workload.UpdateRevision {
			newest++
		} else if m.Pod.Revision != "" {
			findings = append(findings, operation.Finding{
				Code: "former-revision", Severity: operation.Warning, Subject: m.Name,
				Message: fmt.Sprintf("was made from %s, but the workload is at %s", m.Pod.Revision, d.Workload.UpdateRevision),
				Hint:    "the upgrade is not finished: redisctl upgrade status",
			})
		}
		findings = append(findings, restarted(m)...)
	}
	state, text := OK, fmt.Sprintf("%d of %s of the newest revision", newest, counted(len(d.Instances), "pod"))
	if d.Workload.UpdateStrategy == health.OnDelete {
		text += "; they are replaced only when somebody deletes them (OnDelete)"
	}
	if r.before != nil && r.before.Chart != d.Chart {
		state, text = Changed, text+fmt.Sprintf("; chart %s, before %s", d.Chart, r.before.Chart)
	}
	if r.before != nil && len(r.before.Instances) != len(d.Instances) {
		state = Changed
		f := operation.Finding{
			Code: "instances-changed", Severity: operation.Notice, Subject: d.Name,
			Message: fmt.Sprintf("has %s, before %d", counted(len(d.Instances), "instance"), len(r.before.Instances)),
		}
		if len(d.Instances) < len(r.before.Instances) {
			f.Severity = operation.Warning
		}
		findings = append(findings, f)
	}
	r.add("rollout", state, findings, "%s", text)
}

// restarted finds a container that has ended since its pod was made.
func restarted(m *topology.Member) []operation.Finding {
	if m.Pod.Restarts == 0 {
		return nil
	}
	f := operation.Finding{
		Code: "restarted", Severity: operation.Warning, Subject: m.Name,
		Message: fmt.Sprintf("its server was restarted %s", counted(m.Pod.Restarts, "time")),
	}
	if m.Pod.LastExit != "" {
		f.Message += ", the last time after " + m.Pod.LastExit
	}
	if m.Err == nil {
		f.Message += fmt.Sprintf("; it is up since %s", m.Info.Uptime())
		if m.Info.Uptime() > freshFor {
			f.Severity = operation.Notice
		}
	}
	return []operation.Finding{f}
}

// counted writes a number with its noun: "1 key", "2 keys".
func counted[N int | int64](n N, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}
