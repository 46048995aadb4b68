package volume

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/operation/topology"
)

// Result is the proof of a restore. Its JSON form is part of redisctl's interface
// (docs/json-output.md).
type Result struct {
	Namespace string `json:"namespace"`
	Release   string `json:"release"`
	Name      string `json:"name"`
	Backup    string `json:"backup"`
	Method    string `json:"method"`
	Instance  string `json:"instance"`
	// Outcome is "restored", or "undone" when the release has its former data again.
	Outcome Outcome `json:"outcome"`
	// Files were placed, below the data folder.
	Files []string `json:"files"`
	// KeptIn is the folder on the volume that has the former files; SafetyBackup is
	// where the backup of the former data is. Both are empty when there is none.
	KeptIn       string `json:"keptIn,omitempty"`
	SafetyBackup string `json:"safetyBackup,omitempty"`
	// Comparison is nil when the servers were not compared with the backup.
	Comparison *restore.Comparison `json:"comparison,omitempty"`
	// Replicas are the instances that copied the data.
	Replicas []string  `json:"replicas"`
	Seconds  Durations `json:"seconds"`
}

// Outcome is what became of a restore.
type Outcome string

// The outcomes.
const (
	OutcomeRestored Outcome = "restored"
	OutcomeUndone   Outcome = "undone"
)

// Durations are in seconds.
type Durations struct {
	// Stage is copying to the volume, Down from the stop until the Services lead clients
	// to a server that takes writes, of which Load is loading the data and Compare comparing it; Sync is
	// until the replicas are in sync.
	Stage   float64 `json:"stage"`
	Down    float64 `json:"down"`
	Load    float64 `json:"load"`
	Compare float64 `json:"compare"`
	Sync    float64 `json:"sync"`
}

// restoring is a restore in progress.
type restoring struct {
	Restore
	deployment *operation.Deployment
	object     string
	options    Options
	source     Source
	layout     Layout
	claim      Claim
	record     Record
	result     Result
	// volume is open while the helper pod runs.
	volume Volume
	// stopped is when the servers were told to end.
	stopped time.Time
}

// Apply restores. An error before the files are moved leaves the release as it was; it
// says so. A server that cannot load the backup gets its former files back. In all
// other cases a record stays, and the error names the commands that go on or back.
func (r Restore) Apply(ctx context.Context, p *Plan) (Result, error) {
	if err := p.Refusal(); err != nil {
		return Result{}, err
	}
	d := p.deployment
	locked, release, err := r.Locker.Lock(ctx, d)
	if err != nil {
		return Result{}, err
	}
	defer release()
	if err := r.recheck(locked, p); err != nil {
		return Result{}, err
	}
	begun := r.Now().UTC()
	stamp := begun.Format(stampLayout)
	x := &restoring{
		Restore: r, deployment: d, object: p.Object, options: p.options, source: p.source, layout: p.layout, claim: p.claim,
		record: Record{
			Method: Method, Backup: p.Backup, Origin: p.source.Origin(), Begun: begun, By: r.By, Phase: PhaseStaging, Replicas: max(1, p.Replicas), Claim: p.Claim,
			Swap: Swap{
				Dir: p.layout.Dir, Staged: "redisctl-restore-" + stamp, Kept: keptPrefix + stamp, Names: p.layout.names(),
			},
			Services: p.services,
		},
		result: newResult(d, p.Backup),
	}
	if p.safety {
		r.Reporter.Step("backing up the present data of %s", p.primary.Name)
		if x.record.SafetyBackup, err = r.Keeper.Keep(locked, d, p.primary.Instance); err != nil {
			return Result{}, x.unchanged("backing up the present data", err)
		}
		x.result.SafetyBackup = x.record.SafetyBackup
	}
	return x.run(locked)
}

// keptPrefix begins the names of the folders that keep former files.
const keptPrefix = "redisctl-before-"

// stampLayout tells restores apart in names of folders.
const stampLayout = "20060102T150405Z"

func newResult(d *operation.Deployment, backup string) Result {
	return Result{
		Namespace: d.Namespace, Release: d.Release, Name: d.Name, Backup: backup, Method: Method, Instance: first(d),
		Outcome: OutcomeRestored, Files: []string{}, Replicas: []string{},
	}
}

// recheck makes sure that the plan still rests on facts.
func (r Restore) recheck(ctx context.Context, p *Plan) error {
	now, err := r.Resolver.Resolve(ctx, operation.Target{Namespace: p.deployment.Namespace, Release: p.deployment.Release})
	if err != nil {
		return err
	}
	switch {
	case now.Workload.UID != p.deployment.Workload.UID, now.Workload.Desired != p.Replicas:
		err = fmt.Errorf("somebody else has changed %s since the plan was made", p.deployment.Workload.Name)
	case now.Workload.Annotations[operation.NoteRestore] != "", now.Workload.Annotations[operation.NoteFailover] != "":
		err = errors.New("somebody else has begun a restore or a failover since the plan was made")
	default:
		return nil
	}
	return &operation.Error{
		Kind: operation.Refused, Object: p.Object, Phase: p.Operation, Err: err,
		Unchanged: "nothing was changed", Next: "run the command again",
	}
}

// enter records that a phase begins.
func (x *restoring) enter(ctx context.Context, phase Phase) error {
	x.record.Phase = phase
	return restore.SaveRecord(ctx, x.Notes, x.deployment, x.record)
}

func (x *restoring) run(ctx context.Context) (Result, error) {
	if err := x.enter(ctx, PhaseStaging); err != nil {
		// The answer may be what was lost, and not the request.
		return x.result, x.retreat(ctx, "recording the restore", err)
	}
	if !x.claim.Exclusive {
		if err := x.stage(ctx, x.node()); err != nil {
			return x.result, x.retreat(ctx, "copying the backup to the volume", err)
		}
	}
	if err := x.stop(ctx); err != nil {
		return x.result, x.retreat(ctx, "stopping the servers", err)
	}
	if x.claim.Exclusive {
		if err := x.stage(ctx, ""); err != nil {
			return x.result, x.retreat(ctx, "copying the backup to the volume", err)
		}
	}
	if err := x.swap(ctx); err != nil {
		return x.result, x.retreat(ctx, "moving the files", err)
	}
	return x.forward(ctx)
}

// node is where the server runs whose volume is written to: many kinds of volumes can
// be used on one node at a time.
func (x *restoring) node() string {
	if i := x.deployment.Instance(first(x.deployment)); i != nil && i.Pod != nil {
		return i.Pod.Node
	}
	return ""
}

// stage copies the files to the volume, beside those that are in use.
func (x *restoring) stage(ctx context.Context, node string) error {
	begun := x.Now()
	taken, isSnapshot := x.source.(*Snapshot)
	if isSnapshot {
		if err := x.makeClaim(ctx, taken); err != nil {
			return err
		}
		defer x.deleteClaim(ctx)
	}
	if err := x.open(ctx, node, x.record.Beside); err != nil {
		return err
	}
	version, err := x.volume.ServerVersion(ctx)
	if err != nil {
		return err
	}
	if isSnapshot {
		if err := taken.Look(ctx, x.volume, x.layout); err != nil {
			return err
		}
	}
	contents := x.source.Describe()
	if err := readable(x.object, version, &contents.Summary); err != nil {
		return err
	}
	files, err := x.source.Files(x.layout.forVersion(version))
	if err != nil {
		return err
	}
	free, err := x.volume.FreeSpace(ctx, x.layout.Dir)
	if err != nil {
		return err
	}
	for _, f := range space(x.record.Claim, free, contents.Size, x.options.Space) {
		if f.Blocks() {
			return operation.Errorf(operation.Refused, "%s: %s; override with %s", f.Subject, f.Message, f.Override)
		}
	}
	x.Reporter.Step("copying %s (%s) to the volume %s", x.source.Name(), operation.Bytes(contents.Size), x.record.Claim)
	staged := path.Join(x.layout.Dir, x.record.Swap.Staged)
	for _, f := range files {
		if err := x.upload(ctx, staged, f); err != nil {
			return err
		}
		x.result.Files = append(x.result.Files, f.Name)
	}
	x.result.Seconds.Stage = x.since(begun)
	return nil
}

// makeClaim makes a claim from a volume snapshot. It is recorded first.
func (x *restoring) makeClaim(ctx context.Context, s *Snapshot) error {
	x.record.Beside = x.deployment.Workload.Name + "-redisctl-restore"
	if err := x.enter(ctx, x.record.Phase); err != nil {
		return err
	}
	x.Reporter.Step("making the claim %s from the snapshot %s", x.record.Beside, s.Name())
	return x.Volumes.ClaimFromSnapshot(ctx, x.deployment, x.record.Beside, s.Taken.Name, x.record.Claim)
}

// deleteClaim removes the claim that makeClaim made; it goes away with the helper pod.
func (x *restoring) deleteClaim(ctx context.Context) {
	if x.record.Beside == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), x.options.Limits.Stop)
	defer cancel()
	if err := x.Volumes.DeleteClaim(ctx, x.deployment, x.record.Beside); err != nil {
		x.Reporter.Warn("the claim %s is left: %v", x.record.Beside, err)
	}
}

func (x *restoring) upload(ctx context.Context, staged string, f File) error {
	if f.From != "" {
		return x.volume.CopyBeside(ctx, x.layout.Dir, f.From, staged, f.Name)
	}
	data, err := f.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = data.Close() }() // it was read to its end, or the first error counts
	progress := restore.NewProgressReader(data, x.Reporter, 0, f.Size)
	return x.volume.Upload(ctx, staged, f.Name, f.Size, progress, x.options.Limits.Stall)
}

func (x *restoring) open(ctx context.Context, node, beside string) error {
	if x.volume != nil {
		return nil
	}
	x.Reporter.Note("starting a helper pod that mounts the volume %s", x.record.Claim)
	var err error
	x.volume, err = x.Volumes.OpenVolume(ctx, x.deployment, x.record.Claim, node, beside)
	return err
}

// closeVolume removes the helper pod. One that stays ends by itself.
func (x *restoring) closeVolume(ctx context.Context) {
	if x.volume == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), x.options.Limits.Stop)
	defer cancel()
	if err := x.volume.Close(ctx); err != nil {
		x.Reporter.Warn("removing the helper pod: %v", err)
	}
	x.volume = nil
}

// stop ends all servers. Whatever they save then is saved before the files are moved.
func (x *restoring) stop(ctx context.Context) error {
	x.record.Stopped = true
	if err := x.enter(ctx, PhaseStopping); err != nil {
		return err
	}
	x.stopped = x.Now()
	return x.scaleDown(ctx)
}

func (x *restoring) scaleDown(ctx context.Context) error {
	now, err := x.desired(ctx)
	if err != nil {
		return err
	}
	x.Reporter.Step("stopping %s", x.deployment.Workload.Name)
	if err := x.Volumes.Scale(ctx, x.deployment, now, 0); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, x.options.Limits.Stop)
	defer cancel()
	return x.Volumes.AwaitStopped(limited, x.deployment, func(state string) { x.Reporter.Note("%s", state) })
}

// desired is how many pods the workload is to have now: one of those that a restore
// sets, or it is somebody else's choice.
func (x *restoring) desired(ctx context.Context) (int, error) {
	d, err := x.resolve(ctx)
	if err != nil {
		return 0, err
	}
	n := d.Workload.Desired
	if n != 0 && n != 1 && n != x.record.Replicas {
		return 0, fmt.Errorf("somebody else has scaled %s to %d pods meanwhile", d.Workload.Name, n)
	}
	return n, nil
}

func (x *restoring) resolve(ctx context.Context) (*operation.Deployment, error) {
	d := x.deployment
	return x.Resolver.Resolve(ctx, operation.Target{Namespace: d.Namespace, Release: d.Release, Pod: ""})
}

func (x *restoring) swap(ctx context.Context) error {
	x.record.Moved = true
	if err := x.enter(ctx, PhaseSwapping); err != nil {
		return err
	}
	if err := x.open(ctx, "", ""); err != nil {
		return err
	}
	x.Reporter.Step("moving the former files to %s, and the backup in their place", x.record.Swap.Kept)
	return x.volume.Swap(ctx, x.record.Swap)
}

// forward goes on once the files are in place. Each step can be run again.
func (x *restoring) forward(ctx context.Context) (Result, error) {
	x.closeVolume(ctx)
	x.result.KeptIn = path.Join(x.record.Swap.Dir, x.record.Swap.Kept)
	if err := x.enter(ctx, PhaseStarting); err != nil {
		return x.result, x.incomplete("recording the restore", err)
	}
	primary, err := x.start(ctx)
	var failed *startError
	switch {
	case errors.As(err, &failed):
		return x.result, x.rollBack(ctx, failed)
	case err != nil:
		return x.result, x.incomplete("starting "+first(x.deployment), err)
	}
	if err := x.prove(ctx, primary); err != nil {
		return x.result, err
	}
	if err := x.lead(ctx); err != nil {
		return x.result, x.incomplete("moving the Services", err)
	}
	if err := x.awaitReady(ctx); err != nil {
		return x.result, x.incomplete("waiting for the Services", err)
	}
	x.result.Seconds.Down = x.since(x.stopped)
	if err := x.replicate(ctx); err != nil {
		return x.result, x.incomplete("starting the replicas", err)
	}
	notes := map[string]string{operation.NoteRestore: "", operation.NotePrimary: ""}
	if err := x.Notes.SetNotes(ctx, x.deployment, notes); err != nil {
		return x.result, x.incomplete("removing the record", err)
	}
	return x.result, nil
}

// start runs the first pod alone until it has loaded its data.
func (x *restoring) start(ctx context.Context) (*operation.Instance, error) {
	begun := x.Now()
	now, err := x.desired(ctx)
	if err != nil {
		return nil, err
	}
	x.Reporter.Step("starting %s", first(x.deployment))
	if now == 0 {
		if err := x.Volumes.Scale(ctx, x.deployment, 0, 1); err != nil {
			return nil, err
		}
	}
	primary, err := x.awaitLoaded(ctx)
	x.result.Seconds.Load = x.since(begun)
	return primary, err
}

// prove makes sure that the server holds what the backup holds, unless that was done:
// clients have written since.
func (x *restoring) prove(ctx context.Context, primary *operation.Instance) error {
	if x.record.Compared {
		return nil
	}
	if err := x.enter(ctx, PhaseComparing); err != nil {
		return x.incomplete("recording the restore", err)
	}
	begun := x.Now()
	x.Reporter.Step("comparing %s with the backup", primary.Name)
	letGo, err := x.Holder.HoldWrites(ctx, x.deployment, *primary, x.options.Limits.Hold)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		x.Reporter.Note("writes cannot be held back here; what clients write meanwhile counts as a difference")
	case err != nil:
		return x.incomplete("holding back writes", err)
	default:
		defer func() {
			if err := letGo(context.WithoutCancel(ctx)); err != nil {
				x.Reporter.Warn("%v; the pause ends by itself within %s", err, x.options.Limits.Hold)
			}
		}()
	}
	found, err := x.source.Prove(ctx, x.Comparer, x.deployment, *primary, x.options.Sample)
	if err != nil {
		return x.incomplete("comparing with the backup", err)
	}
	x.result.Comparison, x.result.Seconds.Compare = &found, x.since(begun)
	if !found.Equal {
		e := x.incomplete("comparing with the backup", fmt.Errorf("%s does not hold what the backup holds", primary.Name))
		e.Kind = operation.Corrupt
		e.Next = "redisctl restore abort brings the former data back; redisctl restore resume --accept-differences goes on"
		return e
	}
	x.record.Compared = true // noted before writes go on
	if err := x.enter(ctx, PhaseReplicas); err != nil {
		return x.incomplete("recording the restore", err)
	}
	return nil
}

// lead sends the clients of the Services to the first pod, after a failover that is
// no more.
func (x *restoring) lead(ctx context.Context) error {
	for service, from := range x.record.Services {
		if err := x.Traffic.Pin(ctx, x.deployment, service, from, first(x.deployment)); err != nil {
			return err
		}
	}
	return nil
}

// replicate starts the other pods, and returns when they have all data.
func (x *restoring) replicate(ctx context.Context) error {
	if x.record.Replicas <= 1 {
		return nil
	}
	begun := x.Now()
	now, err := x.desired(ctx)
	if err != nil {
		return err
	}
	x.Reporter.Step("starting %d more", x.record.Replicas-1)
	if now != x.record.Replicas {
		if err := x.Volumes.Scale(ctx, x.deployment, now, x.record.Replicas); err != nil {
			return err
		}
	}
	if err := x.awaitReplicas(ctx); err != nil {
		return err
	}
	x.result.Seconds.Sync = x.since(begun)
	return nil
}

// awaitReplicas returns when all pods run and follow the first one with all its data.
func (x *restoring) awaitReplicas(ctx context.Context) error {
	watch := x.newWatch()
	for {
		d, err := x.resolve(ctx)
		if err != nil {
			return err
		}
		t := topology.Observe(ctx, x.Connector, d, x.options.Limits.Timeout)
		waiting := x.unsynced(&t)
		if len(waiting) == 0 {
			for _, i := range d.Instances[1:] {
				x.result.Replicas = append(x.result.Replicas, i.Name)
			}
			return nil
		}
		if err := watch.moved(ctx, "waiting for "+strings.Join(waiting, ", ")); err != nil {
			return err
		}
	}
}

// unsynced lists the replicas that do not have all data yet, or get no clients, and why.
func (x *restoring) unsynced(t *topology.Topology) []string {
	var waiting []string
	for i := range t.Members {
		m := &t.Members[i]
		switch {
		case m.Name == first(x.deployment):
			continue
		case m.Err != nil:
			waiting = append(waiting, m.Name+" (starting)")
		case m.Link() != "up":
			waiting = append(waiting, fmt.Sprintf("%s (link %s)", m.Name, m.Link()))
		case m.Follows != first(x.deployment):
			waiting = append(waiting, fmt.Sprintf("%s (follows %s)", m.Name, m.Upstream()))
		case !m.Pod.Ready:
			waiting = append(waiting, m.Name+" (in sync, not Ready)")
		}
	}
	return waiting
}

func (x *restoring) since(begun time.Time) float64 {
	if begun.IsZero() {
		return 0
	}
	return x.Now().Sub(begun).Round(time.Millisecond).Seconds()
}
