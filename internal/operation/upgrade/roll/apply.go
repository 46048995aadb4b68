package roll

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/failover"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/operation/upgrade"
)

// rolling is an upgrade in progress.
type rolling struct {
	Roll
	// deployment names the release; what its pods are is resolved again and again.
	deployment *operation.Deployment
	object     string
	limits     Limits
	record     Record
	change     upgrade.Change
	// manifest is the workload's as it will be, if it has to be made anew.
	manifest []byte
	result   Result
	begun    time.Time
}

// Apply upgrades. An error before Helm makes a revision leaves the release as it was. A
// pod that does not come up with the new image ends in OutcomeUndone, and an error that
// has the server's own lines. In all other cases a record stays, and the error names the
// commands that go on or back.
func (r Roll) Apply(ctx context.Context, p *Plan) (Result, error) {
	if err := p.Refusal(); err != nil {
		return Result{}, err
	}
	x := r.newRolling(p)
	if p.Nothing() {
		return x.result, nil
	}
	locked, release, err := r.Locker.Lock(ctx, p.deployment)
	if err != nil {
		return Result{}, err
	}
	defer release()
	if err := x.recheck(locked, p); err != nil {
		return Result{}, err
	}
	if err := x.keep(locked, p); err != nil {
		return Result{}, x.unchanged("before the upgrade", err)
	}
	return x.finish(locked, x.begin(locked, p))
}

func (r Roll) newRolling(p *Plan) *rolling {
	d := p.deployment
	x := &rolling{
		Roll: r, deployment: d, object: p.Object, limits: p.options.Limits, change: p.options.Change, begun: r.Now(),
		record: Record{
			Operation: p.Operation, From: p.From, To: p.To, Begun: r.Now().UTC(), By: r.By, Phase: PhasePreparing, Strategy: p.Strategy,
			Former: p.Revision, Failback: p.options.Failback, AllowOlder: p.options.AllowOlder,
		},
	}
	if len(p.preview.Immutable) > 0 {
		x.manifest = p.preview.Workload
	}
	x.result = x.newResult()
	return x
}

func (x *rolling) newResult() Result {
	d, r := x.deployment, x.record
	return Result{
		Namespace: d.Namespace, Release: d.Release, Name: d.Name, Outcome: OutcomeUpgraded, Strategy: r.Strategy, From: r.From, To: r.To,
		FormerRevision: r.Former, Revision: r.Former, Backup: r.Backup, Pods: []Replaced{}, HandOvers: []HandOver{},
	}
}

// recheck makes sure that the plan still rests on facts.
func (x *rolling) recheck(ctx context.Context, p *Plan) error {
	now, err := x.resolve(ctx)
	if err != nil {
		return err
	}
	history, err := x.Releases.History(ctx, now)
	if err != nil {
		return err
	}
	newest := history[len(history)-1]
	switch {
	case now.Workload.UID != p.deployment.Workload.UID, now.Workload.Image != p.From, deployed(history) != p.Revision:
		err = fmt.Errorf("somebody else has changed %s since the plan was made", p.deployment.Workload.Name)
	case pending(newest):
		err = fmt.Errorf("revision %d of the Helm release is %s: another Helm is at work, or was killed", newest.Number, newest.Status)
	case now.Workload.Annotations[operation.NoteUpgrade] != "", now.Workload.Annotations[operation.NoteFailover] != "",
		now.Workload.Annotations[operation.NoteRestore] != "":
		err = errors.New("somebody else has begun an upgrade, a restore or a failover since the plan was made")
	default:
		return nil
	}
	return &operation.Error{
		Kind: operation.Refused, Object: p.Object, Phase: p.Operation, Err: err,
		Unchanged: "nothing was changed", Next: "run the command again",
	}
}

func pending(r upgrade.Revision) bool {
	return slices.Contains([]string{"pending-install", "pending-upgrade", "pending-rollback"}, r.Status)
}

// keep takes the backup, and records what the release is like.
func (x *rolling) keep(ctx context.Context, p *Plan) error {
	x.record.Backup = p.Backup
	if p.Backup == "" && !p.options.NoBackup {
		x.Reporter.Step("backing up %s", x.object)
		var err error
		if x.record.Backup, err = x.Backups.Full(ctx, p.deployment); err != nil {
			return err
		}
	}
	x.result.Backup = x.record.Backup
	observed := topology.Observe(ctx, x.Connector, p.deployment, x.limits.Timeout)
	baseline, err := upgrade.TakeBaseline(ctx, x.Connector, &observed, x.Now(), x.limits.Timeout)
	if err != nil {
		return err
	}
	baseline.Revision, baseline.Target = p.Revision, p.To
	return upgrade.SaveBaseline(ctx, x.Notes, p.deployment, baseline)
}

// begin does what precedes replacing pods. Its errors say whether anything was changed.
func (x *rolling) begin(ctx context.Context, p *Plan) error {
	if err := x.enter(ctx, PhasePreparing); err != nil {
		// The answer may be what was lost, and not the request.
		return x.retreat(ctx, "recording the upgrade", err)
	}
	if x.record.Strategy == Rolling {
		if err := x.handTo(ctx, x.first()); err != nil {
			return x.retreat(ctx, "making "+x.first()+" the primary", err)
		}
	}
	if err := x.hold(ctx); err != nil {
		return x.retreat(ctx, "holding the workload", err)
	}
	if err := x.enter(ctx, PhaseChanging); err != nil {
		return x.retreat(ctx, "recording the upgrade", err)
	}
	if err := x.makeRevision(ctx, x.change); err != nil {
		return x.goBack(ctx, "changing the release", err)
	}
	if !p.preview.Replaced {
		x.Reporter.Note("no pod needs to be replaced")
	}
	return x.forward(ctx)
}

// first is the pod that the chart makes the primary at every start.
func (x *rolling) first() string { return x.deployment.Workload.FirstPod() }

// hold keeps the workload's own controller from replacing pods. What it takes away is
// recorded before.
func (x *rolling) hold(ctx context.Context) error {
	x.Reporter.Step("holding %s: its pods are replaced one by one", x.deployment.Workload.Name)
	former, err := x.Cluster.Strategy(ctx, x.deployment)
	if err != nil {
		return err
	}
	x.record.Held = former
	if err := x.save(ctx); err != nil {
		return err
	}
	return x.Cluster.Hold(ctx, x.deployment)
}

// makeRevision lets Helm make the next revision, and records it.
func (x *rolling) makeRevision(ctx context.Context, c upgrade.Change) error {
	if x.manifest != nil {
		if err := x.recreate(ctx, x.manifest); err != nil {
			return err
		}
	}
	history, err := x.Releases.History(ctx, x.deployment)
	if err != nil {
		return err
	}
	x.record.Making = history[len(history)-1].Number + 1
	if err := x.save(ctx); err != nil {
		return err
	}
	x.Reporter.Step("changing the Helm release %s", x.deployment.Release)
	made, err := x.Releases.Upgrade(ctx, x.deployment, c)
	if made.Number > 0 {
		x.record.Revision, x.result.Revision = made.Number, made.Number
	}
	if err != nil {
		return err
	}
	x.Reporter.Note("revision %d", made.Number)
	return x.adopt(ctx, PhaseRolling)
}

// recreate makes the workload anew, around its pods.
func (x *rolling) recreate(ctx context.Context, manifest []byte) error {
	x.Reporter.Step("making %s anew, around its pods", x.deployment.Workload.Name)
	x.record.Recreated = true
	if err := x.save(ctx); err != nil {
		return err
	}
	notes, err := x.notes(ctx)
	if err != nil {
		return err
	}
	if err := x.Cluster.Recreate(ctx, x.deployment, manifest, notes); err != nil {
		return err
	}
	x.deployment, err = x.resolve(ctx)
	return err
}

// adopt records which revision of the workload the pods are to have from now on.
func (x *rolling) adopt(ctx context.Context, phase Phase) error {
	rollout, err := x.Cluster.Rollout(ctx, x.deployment)
	if err != nil {
		return err
	}
	x.record.Update = rollout.Revision
	return x.enter(ctx, phase)
}

// notes are the annotations that an upgrade and what it rests on keep at the workload.
func (x *rolling) notes(ctx context.Context) (map[string]string, error) {
	notes := map[string]string{}
	for _, key := range []string{operation.NoteUpgrade, operation.NoteUpgraded, operation.NotePrimary} {
		text, err := x.Notes.Note(ctx, x.deployment, key)
		if err != nil {
			return nil, err
		}
		notes[key] = text
	}
	return notes, nil
}

// forward replaces the pods. An error that the new revision is to blame for undoes it.
func (x *rolling) forward(ctx context.Context) error {
	err := x.roll(ctx)
	var bad *badPodError
	if errors.As(err, &bad) && !x.committed(ctx, bad.pod) {
		return x.goBack(ctx, "replacing "+bad.pod, err)
	}
	if err != nil {
		return x.incomplete("replacing the pods", err)
	}
	if x.record.Failback && x.record.Strategy == Rolling {
		if err := x.handTo(ctx, x.first()); err != nil {
			return x.incomplete("making "+x.first()+" the primary again", err)
		}
	}
	if err := x.allFollow(ctx); err != nil {
		return x.incomplete("waiting until everybody is in sync", err)
	}
	if err := x.letGo(ctx); err != nil {
		return x.incomplete("giving the update strategy back", err)
	}
	return nil
}

// letGo ends the upgrade: the workload is its controller's again.
func (x *rolling) letGo(ctx context.Context) error {
	x.record.Undone = x.result.Outcome == OutcomeUndone
	if err := x.enter(ctx, PhaseReleasing); err != nil {
		return err
	}
	if x.record.Undone {
		if err := x.aimBack(ctx); err != nil {
			return err
		}
	}
	if err := x.Cluster.Release(ctx, x.deployment, x.record.Held); err != nil {
		return err
	}
	return x.forget(ctx)
}

// goBack undoes the upgrade because of cause, while the primary has not been replaced.
func (x *rolling) goBack(ctx context.Context, phase string, cause error) error {
	if ctx.Err() != nil || errors.Is(cause, errOvertaken) {
		return x.incomplete(phase, cause)
	}
	x.Reporter.Warn("%s: %v", phase, cause)
	if err := x.undo(ctx); err != nil {
		e := x.incomplete("undoing the upgrade", errors.Join(cause, err))
		e.Next = "redisctl upgrade abort again"
		return e
	}
	e := &operation.Error{
		Kind: operation.Failed, Object: x.object, Phase: phase, Err: cause,
		Unchanged: fmt.Sprintf("it runs %s again in every pod, as Helm's revision %d", x.record.From, x.result.Revision),
	}
	if x.record.Strategy == Rolling {
		e.Unchanged += "; the primary was not touched"
	}
	return e
}

// undo brings the former revision back, and the pods that were replaced.
func (x *rolling) undo(ctx context.Context) error {
	x.Reporter.Step("going back to revision %d", x.record.Former)
	if err := x.enter(ctx, PhaseUndoing); err != nil {
		return err
	}
	if err := x.Cluster.Hold(ctx, x.deployment); err != nil { // it may be released already
		return err
	}
	if err := x.Releases.Settle(ctx, x.deployment); err != nil {
		return err
	}
	if x.record.Recreated {
		former, err := x.Releases.Preview(ctx, x.deployment, upgrade.Change{Back: x.record.Former})
		if err != nil {
			return err
		}
		if err := x.recreate(ctx, former.Workload); err != nil {
			return err
		}
	}
	history, err := x.Releases.History(ctx, x.deployment)
	if err != nil {
		return err
	}
	newest := history[len(history)-1]
	if newest.Number > x.record.Former {
		if newest, err = x.Releases.Upgrade(ctx, x.deployment, upgrade.Change{Back: x.record.Former}); err != nil {
			return err
		}
	}
	x.record.Revision, x.result.Revision = newest.Number, newest.Number
	if err := x.adopt(ctx, PhaseUndoing); err != nil {
		return err
	}
	if err := x.roll(ctx); err != nil {
		return err
	}
	if err := x.hasItsKeys(ctx); err != nil {
		return err
	}
	x.result.Outcome = OutcomeUndone
	return x.letGo(ctx)
}

// aimBack corrects what is recorded as the image that the release is to have: what an undone
// upgrade was to is no measure for what comes after.
func (x *rolling) aimBack(ctx context.Context) error {
	baseline, err := upgrade.LoadBaseline(ctx, x.Notes, x.deployment)
	switch {
	case errors.Is(err, upgrade.ErrNoBaseline):
		return nil
	case err != nil:
		return err
	case baseline.Target == x.record.From:
		return nil
	}
	baseline.Target = x.record.From
	return upgrade.SaveBaseline(ctx, x.Notes, x.deployment, baseline)
}

// hasItsKeys makes sure that a server without replicas has the data again that it had
// before: 7.0 renames the append-only file of 6.0 before it has loaded it, and 6.0 then
// starts with nothing.
func (x *rolling) hasItsKeys(ctx context.Context) error {
	if x.record.Strategy != InPlace {
		return nil
	}
	before, err := upgrade.LoadBaseline(ctx, x.Notes, x.deployment)
	if err != nil {
		return err
	}
	d, err := x.resolve(ctx)
	if err != nil {
		return err
	}
	observed := topology.Observe(ctx, x.Connector, d, x.limits.Timeout)
	for _, was := range before.Instances {
		m := observed.Member(was.Name)
		if m == nil || was.Data == nil {
			continue
		}
		if m.Err != nil {
			return m.Err
		}
		if least, now := permanent(was.Data.Keys), m.Info.TotalKeys(); now < least-m.Info.Int("evicted_keys") {
			return fmt.Errorf("%s had at least %d keys that do not expire, and has %d now: redisctl restore brings back %s",
				m.Name, least, now, cmp.Or(x.record.Backup, "the last backup"))
		}
	}
	return nil
}

// retreat undoes what was done before Helm was asked.
func (x *rolling) retreat(ctx context.Context, phase string, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), x.limits.Settle)
	defer cancel()
	x.result.Outcome = OutcomeUndone
	if err := x.letGo(ctx); err != nil {
		return x.incomplete(phase, errors.Join(cause, err))
	}
	return x.unchanged(phase, cause)
}

func (x *rolling) unchanged(phase string, err error) *operation.Error {
	return &operation.Error{
		Kind: operation.KindOf(err), Object: x.object, Phase: phase, Err: err,
		Unchanged: "no pod was replaced, and the Helm release is as it was",
	}
}

// incomplete says that the upgrade is not finished.
func (x *rolling) incomplete(phase string, err error) *operation.Error {
	return &operation.Error{
		Kind: operation.KindOf(err), Object: x.object, Phase: phase, Err: err,
		Unchanged: "the primary serves; pods that are left are as they were",
		Next:      "redisctl upgrade status; then redisctl upgrade resume, or abort",
	}
}

// finish completes the result.
func (x *rolling) finish(ctx context.Context, err error) (Result, error) {
	for _, h := range x.result.HandOvers {
		x.result.WriteGapMS += h.WriteGapMS
	}
	x.result.Seconds = x.Now().Sub(x.begun).Seconds()
	if err != nil {
		return x.result, err
	}
	d, err := x.resolve(ctx)
	if err != nil {
		return x.result, x.incomplete("verifying", err)
	}
	observed := topology.Observe(ctx, x.Connector, d, x.limits.Timeout)
	if primary, err := observed.Primary(); err == nil && x.record.Strategy == Rolling {
		x.result.Primary = primary.Name
	}
	return x.result, nil
}

func (x *rolling) resolve(ctx context.Context) (*operation.Deployment, error) {
	return x.Resolver.Resolve(ctx, operation.Target{Namespace: x.deployment.Namespace, Release: x.deployment.Release})
}

// handTo makes a pod the primary, if it is not yet.
func (x *rolling) handTo(ctx context.Context, to string) error {
	d, err := x.resolve(ctx)
	if err != nil {
		return err
	}
	o := failover.DefaultOptions()
	o.Limits, o.To, o.AllowOlder = x.limits.Limits, to, x.record.AllowOlder || x.record.Phase == PhaseUndoing
	plan, err := x.Failover.Plan(ctx, d, o)
	if err != nil {
		return err
	}
	if plan.Nothing() {
		return nil
	}
	x.Reporter.Step("handing the primary over from %s to %s", plan.From, plan.To)
	switched, err := x.Failover.Apply(ctx, plan)
	if switched.Changed {
		x.result.HandOvers = append(x.result.HandOvers, HandOver{From: switched.From, To: switched.To, WriteGapMS: switched.WriteGapMS})
		x.Reporter.Note("no server took writes for %.0f ms", switched.WriteGapMS)
	}
	return err
}
