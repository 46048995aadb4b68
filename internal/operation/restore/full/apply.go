package full

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/operation/restore/config"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/redis"
)

// Result is the report of a full restore. Its JSON form is part of redisctl's interface
// (docs/json-output.md).
type Result struct {
	Namespace string `json:"namespace"`
	Release   string `json:"release"`
	Name      string `json:"name"`
	Backup    string `json:"backup"`
	// Complete is set when the release serves what the backup holds.
	Complete bool `json:"complete"`
	// Objects and what became of them.
	Objects []Planned `json:"objects"`
	// Method is how the data was restored.
	Method string `json:"method,omitempty"`
	// Comparison is the proof; of an earlier run when that had restored the data.
	Comparison *restore.Comparison `json:"comparison,omitempty"`
	// Instances that serve, and the Services with the pods that they lead to.
	Instances []Instance `json:"instances"`
	Services  []Service  `json:"services"`
	// Settings of the backup that the servers do not run with: they had been changed by
	// CONFIG SET.
	Settings []config.Setting `json:"settings"`
	// Steps and how long they took in this run.
	Steps []Timed `json:"steps"`
	// Seconds of this run, and since the restore was begun by a run that was interrupted.
	Seconds    float64 `json:"seconds"`
	SinceBegun float64 `json:"sinceBegunSeconds"`
	// RTO is how long it may take, in seconds, WithinRTO whether it did not take longer.
	RTO       float64 `json:"rtoSeconds"`
	WithinRTO bool    `json:"withinRTO"`
	// ValuesFile has the Helm values; HelmCommand makes Helm know the release with them.
	ValuesFile  string `json:"valuesFile,omitempty"`
	HelmCommand string `json:"helmCommand,omitempty"`
}

// Instance is a server of the restored release.
type Instance struct {
	Name string `json:"name"`
	Role string `json:"role"`
}

// Service is a Service of the restored release.
type Service struct {
	Name      string   `json:"name"`
	Endpoints []string `json:"endpoints"`
}

// Timed is a step of a restore and how long it took.
type Timed struct {
	Step    string  `json:"step"`
	Seconds float64 `json:"seconds"`
}

// restoring is a full restore in progress.
type restoring struct {
	Restore
	plan    *Plan
	target  operation.Target
	record  *Record
	result  Result
	started time.Time
}

// Apply restores. When it fails, the same command goes on: what was done is in the result
// together with the error.
func (r Restore) Apply(ctx context.Context, p *Plan) (Result, error) {
	x := &restoring{
		Restore: r, plan: p, started: p.options.Begun, target: operation.Target{Namespace: p.Namespace, Release: p.Release},
		result: Result{
			Namespace: p.Namespace, Release: p.Release, Name: p.Name, Backup: p.Backup, Objects: []Planned{}, Instances: []Instance{},
			Services: []Service{}, Settings: []config.Setting{}, Steps: []Timed{}, RTO: p.RTO,
		},
	}
	if err := p.Refusal(); err != nil {
		return x.result, err
	}
	x.result.Steps = append(x.result.Steps, Timed{Step: "verifying the backup and planning", Seconds: x.since(x.started)})
	err := x.run(ctx)
	x.result.Seconds = x.since(x.started)
	x.result.SinceBegun = x.result.Seconds
	if x.record != nil {
		end := r.Now()
		if !x.record.Done.IsZero() {
			end = x.record.Done
		}
		x.result.SinceBegun = end.Sub(x.record.Begun).Seconds()
	}
	x.result.WithinRTO = x.result.SinceBegun <= p.RTO
	return x.result, err
}

func (x *restoring) since(begun time.Time) float64 { return x.Now().Sub(begun).Seconds() }

// step runs a part and notes how long it took.
func (x *restoring) step(name string, do func() error) error {
	begun := x.Now()
	x.Reporter.Step("%s", name)
	err := do()
	x.result.Steps = append(x.result.Steps, Timed{Step: name, Seconds: x.since(begun)})
	if err == nil {
		return nil
	}
	return &operation.Error{
		Kind: operation.KindOf(err), Object: x.plan.Object, Phase: name, Err: err, Unchanged: "what was done before stays", Next: nextAfter(err),
	}
}

// nextAfter says what to do, together with what the cause says.
func nextAfter(err error) string {
	const again = "run the same command again: it goes on from here"
	var e *operation.Error
	switch {
	case operation.KindOf(err) == operation.Corrupt:
		return "look at the differences; with --accept-differences the same command goes on"
	case errors.As(err, &e) && e.Next != "" && !strings.HasPrefix(e.Next, "redisctl restore"):
		return again + "; " + e.Next
	default:
		return again
	}
}

func (x *restoring) run(ctx context.Context) error {
	if x.plan.newNamespace {
		if err := x.step("creating the namespace", func() error { return x.Cluster.CreateNamespace(ctx, x.plan.Namespace) }); err != nil {
			return err
		}
	}
	locked, release, err := x.Locker.Lock(ctx, x.plan.stub())
	if err != nil {
		return err
	}
	defer release()
	return x.restoreAll(locked)
}

func (x *restoring) restoreAll(ctx context.Context) error {
	if err := x.step("applying the objects", func() error { return x.applyObjects(ctx) }); err != nil {
		return err
	}
	var d *operation.Deployment
	err := x.step("waiting for "+x.plan.Name+"-0", func() (err error) {
		d, err = x.awaitPrimary(ctx)
		return err
	})
	if err != nil {
		return err
	}
	if err := x.step("restoring the data", func() error { return x.restoreData(ctx, d) }); err != nil {
		return err
	}
	if err := x.step("waiting for replicas and Services", func() error { return x.awaitServing(ctx) }); err != nil {
		return err
	}
	if err := x.step("comparing the settings", func() error { return x.compareSettings(ctx) }); err != nil {
		return err
	}
	return x.finish(ctx, d)
}

// applyObjects makes the objects, those first that others need.
func (x *restoring) applyObjects(ctx context.Context) error {
	for i, o := range x.plan.objects {
		planned := x.plan.Objects[i]
		if planned.Action != ActionKeep {
			if err := x.apply(ctx, o); err != nil {
				return err
			}
		}
		x.result.Objects = append(x.result.Objects, planned)
	}
	return nil
}

// apply looks again first: the plan may be old.
func (x *restoring) apply(ctx context.Context, o Object) error {
	found, err := x.Cluster.Compare(ctx, o)
	if err != nil {
		return err
	}
	if found.Exists && found.From != x.plan.Backup && !found.Equal {
		return operation.Errorf(operation.Refused, "%s: somebody else has made it since the plan was made", o)
	}
	x.Reporter.Note("%s", o)
	o.annotate(AnnotationFrom, x.plan.Backup)
	if o.Kind == "StatefulSet" && o.Name == x.plan.Name && !found.Exists {
		record, err := json.Marshal(x.begin())
		if err != nil {
			return fmt.Errorf("encoding the record: %w", err)
		}
		o.annotate(NoteRecord, string(record))
	}
	return x.Cluster.Apply(ctx, o)
}

func (x *restoring) begin() *Record {
	return &Record{Backup: x.plan.Backup, Begun: x.started.UTC(), By: x.By}
}

// restoreData restores the data unless the record says that it is there.
func (x *restoring) restoreData(ctx context.Context, d *operation.Deployment) error {
	var err error
	if x.record, err = load(ctx, x.Notes, d); err != nil {
		return err
	}
	if x.record == nil {
		x.record = x.begin()
		if err := save(ctx, x.Notes, d, x.record); err != nil {
			return err
		}
	}
	if x.record.Backup != x.plan.Backup {
		return operation.Errorf(operation.Refused, "the release was restored from %s", x.record.Backup)
	}
	if x.record.Method == "" {
		if err := x.load(ctx, d); err != nil {
			return err
		}
		if err := save(ctx, x.Notes, d, x.record); err != nil {
			return err
		}
	} else {
		x.Reporter.Note("it was restored before")
	}
	x.result.Method, x.result.Comparison = x.record.Method, x.record.Comparison
	return nil
}

// load restores the data, unless it is there: an earlier run may have been killed just
// before it could note that.
func (x *restoring) load(ctx context.Context, d *operation.Deployment) error {
	unfinished, err := x.Notes.Note(ctx, d, operation.NoteRestore)
	if err != nil {
		return err
	}
	replace := x.plan.replace && x.plan.options.Replace
	if unfinished == "" {
		done, err := x.isThere(ctx, d)
		if err != nil || done {
			return err
		}
	}
	loaded, err := x.Data.Restore(ctx, d, held{}, replace)
	if loaded.Comparison != nil {
		x.result.Comparison = loaded.Comparison
	}
	if err != nil {
		return err
	}
	if loaded.Comparison == nil { // a run that was interrupted has compared
		if loaded.Comparison, err = x.compare(ctx, d); err != nil {
			return err
		}
	}
	x.record.Method, x.record.Comparison = loaded.Method, loaded.Comparison
	return nil
}

// isThere reports whether a release that is not empty holds the backup's data.
func (x *restoring) isThere(ctx context.Context, d *operation.Deployment) (bool, error) {
	found, err := x.compare(ctx, d)
	if err != nil || found == nil {
		return false, err
	}
	x.Reporter.Note("the data is there already")
	x.record.Method, x.record.Comparison = "none", found
	return true, nil
}

// compare returns the proof that the primary holds the backup's data. It is nil when there
// is none: the server is empty, or clients have written since, which the user may accept.
func (x *restoring) compare(ctx context.Context, d *operation.Deployment) (*restore.Comparison, error) {
	t := topology.Observe(ctx, x.Connector, d, x.plan.options.Limits.Timeout)
	primary, err := t.Primary()
	if err != nil || primary.Info.TotalKeys() == 0 {
		return nil, nil //nolint:nilerr // the next step tells what is wrong
	}
	source := x.plan.source
	found, err := x.Comparer.Compare(ctx, source.Backup, d, primary.Instance, restore.CompareOptions{
		Contents: source.Contents, Sample: x.plan.options.Sample, Counts: true,
	})
	if err != nil || !found.Equal && !x.plan.options.AcceptDifferences {
		return nil, err
	}
	return &found, nil
}

// held is the lock that is held already.
type held struct{}

// Lock implements operation.Locker.
func (held) Lock(ctx context.Context, _ *operation.Deployment) (context.Context, func(), error) {
	return ctx, func() {}, nil
}

// compareSettings finds what had been changed by CONFIG SET.
func (x *restoring) compareSettings(ctx context.Context) error {
	d, err := x.Resolver.Resolve(ctx, x.target)
	if err != nil {
		return err
	}
	plan, err := x.Config.Plan(ctx, d, x.plan.Backup, x.plan.source.Config, x.plan.source.Contents.Source, config.Options{
		Timeout: x.plan.options.Limits.Timeout, Overrides: restore.Overrides{OtherRelease: true},
	})
	if operation.KindOf(err) == operation.Usage || operation.KindOf(err) == operation.Denied {
		x.Reporter.Warn("%v", err)
		return nil
	}
	if err != nil {
		return err
	}
	for _, s := range plan.Settings {
		if s.Action != config.ActionSkip {
			x.result.Settings = append(x.result.Settings, s)
		}
	}
	return nil
}

func (x *restoring) finish(ctx context.Context, d *operation.Deployment) error {
	if x.record.Done.IsZero() {
		x.record.Done = x.Now().UTC()
		if err := save(ctx, x.Notes, d, x.record); err != nil {
			return err
		}
	}
	if c := x.record.Comparison; c != nil && !c.Equal {
		return operation.Errorf(operation.Corrupt, "the release does not hold what the backup holds")
	}
	x.result.Complete = true
	return nil
}

// instancesOf lists the servers that answer.
func instancesOf(t *topology.Topology) []Instance {
	found := []Instance{}
	for i := range t.Members {
		found = append(found, Instance{Name: t.Members[i].Name, Role: string(t.Members[i].Replication.Role)})
	}
	return found
}

// unserved returns what does not serve yet.
func unserved(t *topology.Topology) []string {
	var waiting []string
	d := t.Deployment
	primaries := t.Primaries()
	for i := range t.Members {
		m := &t.Members[i]
		switch {
		case m.Err != nil:
			waiting = append(waiting, m.Name+" ("+firstLine(m.Err.Error())+")")
		case m.Info.Persistence().Loading:
			waiting = append(waiting, m.Name+" (loading)")
		case d.ReplicaMode() && m.Replication.Role == redis.RoleReplica && m.Link() != "up":
			waiting = append(waiting, m.Name+" (not in sync)")
		}
	}
	if len(waiting) == 0 && d.ReplicaMode() && len(primaries) != 1 {
		waiting = append(waiting, fmt.Sprintf("one primary (there are %d)", len(primaries)))
	}
	for _, s := range d.Services {
		if s.EndpointsKnown && len(s.Endpoints) == 0 {
			waiting = append(waiting, "Service "+s.Name)
		}
	}
	return waiting
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// servicesOf lists the Services and where they lead.
func servicesOf(d *operation.Deployment) []Service {
	found := []Service{}
	for _, s := range d.Services {
		found = append(found, Service{Name: s.Name, Endpoints: slices.Concat([]string{}, s.Endpoints)})
	}
	return found
}
