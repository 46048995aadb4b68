package volume

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/redis"
)

// Plan is what a restore through the volume is going to do.
type Plan struct {
	operation.Plan
	// Backup is what is restored.
	Backup string `json:"backup"`
	// Method is "volume".
	Method string `json:"method"`
	// Instance is the one whose volume takes the backup: the primary after the start.
	Instance string `json:"instance"`
	// Claim is its volume's.
	Claim string `json:"claim"`
	// Replicas is how many pods are stopped, and started again.
	Replicas int `json:"replicas"`

	deployment *operation.Deployment
	source     Source
	options    Options
	layout     Layout
	claim      Claim
	// primary is the observed one, nil when none answers.
	primary *topology.Member
	// services lead to another pod than Instance.
	services map[string]string
	// safety is set when the present data is backed up first.
	safety bool
}

// first is the pod that the chart makes the primary at every start.
func first(d *operation.Deployment) string { return d.Workload.FirstPod() }

// Plan observes d and lists every obstacle. It only reads.
func (r Restore) Plan(ctx context.Context, d *operation.Deployment, source Source, o Options) (*Plan, error) {
	p := &Plan{
		Plan:   operation.Plan{Operation: source.Origin().Command, Object: d.String(), Findings: []operation.Finding{}},
		Backup: source.Name(), Method: Method, deployment: d, source: source, options: o,
	}
	if d.Workload == nil || d.Workload.Volume.Kind == operation.VolumeNone {
		p.block(d.Name, "no-volume", "it has no volume: what a pod holds is gone when it ends", "redisctl restore rdb --method live restores into the running servers")
		return p, nil
	}
	p.Instance, p.Replicas, p.Claim = first(d), d.Workload.Desired, claimOf(d)
	if err := r.observe(ctx, p); err != nil {
		return nil, err
	}
	if err := r.checkVolume(ctx, p); err != nil {
		return nil, err
	}
	if err := r.checkSource(ctx, p); err != nil {
		return nil, err
	}
	if err := r.checkRecords(ctx, p); err != nil {
		return nil, err
	}
	p.Findings = append(p.Findings, o.Common(source.Name(), d, source.Describe())...)
	p.Findings = append(p.Findings, restore.Locked(ctx, r.Locker, d)...)
	p.planSteps()
	return p, nil
}

// block adds an obstacle that no flag overrides.
func (p *Plan) block(subject, code, message, hint string) {
	p.Findings = append(p.Findings, operation.Finding{
		Code: code, Severity: operation.Critical, Subject: subject, Message: message, Hint: hint,
	})
}

// claimOf names the claim of the first pod.
func claimOf(d *operation.Deployment) string {
	if v := d.Workload.Volume; v.Kind == operation.VolumeExistingClaim {
		return v.Claim
	}
	return d.Workload.Volume.Claim + "-" + first(d)
}

// observe finds the primary, and what is lost when its data is replaced.
func (r Restore) observe(ctx context.Context, p *Plan) error {
	d, o := p.deployment, p.options
	t := topology.Observe(ctx, r.Connector, d, o.Limits.Timeout)
	if err := t.Denied(); err != nil {
		return err
	}
	if !d.ReplicaMode() && p.Replicas > 1 {
		p.block(d.Name, "several-servers", fmt.Sprintf("its %d pods are servers of their own", p.Replicas),
			"--method live --pod POD restores into one of them")
	}
	p.primary, _ = t.Primary() // none may answer: a restore is for that as well
	if p.primary == nil {
		p.primary = answering(&t)
	}
	contents := p.source.Describe()
	if p.primary == nil {
		p.Findings = append(p.Findings, operation.Finding{
			Code: "target-unknown", Severity: operation.Critical, Subject: p.Instance,
			Message:  "no server answers: what they hold is not known, and cannot be backed up",
			Hint:     "the files on the volume are kept",
			Override: "--replace", Overridden: o.Replace,
		})
		return nil
	}
	keys := p.primary.Info.TotalKeys()
	p.Findings = append(p.Findings, restore.NotEmpty(p.primary.Name, keys, "--replace", o.Replace)...)
	p.Findings = append(p.Findings, o.FitsMemory(p.primary.Name, p.primary.Info, contents, true)...)
	p.safety = keys > 0 && !o.NoSafetyBackup
	p.services = map[string]string{}
	for _, s := range d.Services {
		if s.PodSelector != "" && s.PodSelector != p.Instance {
			p.services[s.Name] = s.PodSelector
		}
	}
	return readable(p.Object, p.primary.Version, &contents.Summary)
}

// answering returns the member that has applied the most of those that answer.
func answering(t *topology.Topology) *topology.Member {
	var best *topology.Member
	for i := range t.Members {
		m := &t.Members[i]
		if m.Err == nil && (best == nil || m.Replication.Offset > best.Replication.Offset) {
			best = m
		}
	}
	return best
}

// readable makes sure that a server of version v loads the backup.
func readable(object string, v redis.Version, s *rdb.Summary) error {
	if s.Version == 0 { // not known: not a snapshot, or a damaged one
		return nil
	}
	if restore.Readable(v, s) {
		return nil
	}
	return &operation.Error{
		Kind: operation.Unsupported, Object: object, Phase: "comparing versions",
		Err:       fmt.Errorf("the backup is of RDB version %d (%s), %s reads up to %d and would not start", s.Version, s.Origin, v, v.RDBVersion()),
		Unchanged: "nothing was changed",
		Next:      "restore it into a server of a newer version; --method live can restore what this one understands",
	}
}

// checkVolume finds out where the data goes, and whether there is room.
func (r Restore) checkVolume(ctx context.Context, p *Plan) error {
	d, o := p.deployment, p.options
	for _, gap := range d.Gaps {
		if gap.Part == "config" {
			p.block(d.Name, "config-unknown", "its redis.conf cannot be read, which says where its data is: "+gap.Reason, "get permission to read the ConfigMap")
		}
	}
	var err error
	if p.layout, err = layoutOf(d.Config, d.Workload.Volume.MountPath); err != nil {
		p.block(d.Name, "unusual-layout", err.Error(), "--method live does not touch files")
	}
	if p.claim, err = r.Volumes.Claim(ctx, d, p.Claim); err != nil {
		return err
	}
	if !p.claim.Bound {
		p.block(p.Claim, "claim-not-bound", "the claim is "+p.claim.Phase, "kubectl describe pvc "+p.Claim+" -n "+d.Namespace)
	}
	needed := p.source.Describe().Size
	i := d.Instance(p.Instance)
	if i == nil || i.Pod == nil || !i.Pod.ContainerRunning {
		return nil // it is looked at again from the helper pod
	}
	free, err := r.Volumes.FreeSpace(ctx, d, *i, p.layout.Dir)
	switch {
	case operation.KindOf(err) == operation.Denied:
		return err
	case err != nil:
		r.Reporter.Note("the free space of %s is not known yet: %v", p.Claim, err)
	default:
		p.Findings = append(p.Findings, space(p.Claim, free, needed, o.Space)...)
	}
	return nil
}

// checkSource asks the source whether a server like these loads it.
func (r Restore) checkSource(ctx context.Context, p *Plan) error {
	layout := p.layout
	var server operation.Server
	if p.primary != nil {
		var err error
		if server, err = r.Connector.Connect(ctx, p.deployment, p.primary.Instance); err != nil {
			return err
		}
		defer func() { _ = server.Close() }() // it was only asked
		layout = layout.forVersion(p.primary.Version)
	}
	findings, err := p.source.Check(ctx, server, layout)
	p.Findings = append(p.Findings, findings...)
	return err
}

// space blocks a volume that has no room for the backup beside what is there, which is
// kept until the restore is known to be good.
func space(claim string, free, needed int64, ignore bool) []operation.Finding {
	if free >= needed {
		return nil
	}
	return []operation.Finding{{
		Code: "no-space", Severity: operation.Critical, Subject: claim,
		Message:  fmt.Sprintf("the volume has %s free, the backup needs %s beside what is there", operation.Bytes(free), operation.Bytes(needed)),
		Hint:     "enlarge the claim, or remove what redisctl restore cleanup finds",
		Override: "--ignore-space", Overridden: ignore,
	}}
}

// checkRecords blocks what would interfere with another unfinished operation.
func (r Restore) checkRecords(ctx context.Context, p *Plan) error {
	for _, check := range []func(context.Context, operation.Notes, *operation.Deployment) ([]operation.Finding, error){
		restore.UnfinishedRestore, restore.UnfinishedFailover,
	} {
		found, err := check(ctx, r.Notes, p.deployment)
		if err != nil {
			return err
		}
		p.Findings = append(p.Findings, found...)
	}
	return nil
}

func (p *Plan) planSteps() {
	add := func(mutates bool, subject, format string, args ...any) {
		p.Steps = append(p.Steps, operation.Step{Action: fmt.Sprintf(format, args...), Subject: subject, Mutates: mutates})
	}
	d := p.deployment
	if p.safety {
		add(false, p.primary.Name, "back up the present data")
	}
	add(true, p.Object, "take the release's lock, and note in the workload's annotation what is begun")
	stage := func() {
		add(true, p.Claim, "copy the backup to the volume from a helper pod, beside the present files")
	}
	if !p.claim.Exclusive {
		stage()
	}
	add(true, d.Workload.Name, "stop all %d pods (scale to 0); clients cannot connect from here on", p.Replicas)
	if p.claim.Exclusive {
		stage()
	}
	kept := p.layout.names()
	add(true, p.Claim, "move %s to a folder of their own, and the backup in their place", strings.Join(kept, ", "))
	add(true, p.Instance, "start it alone, and wait until it has loaded the data")
	proof := "compare keys, values and expiry times with the backup"
	if log, ok := p.source.(AOF); ok && !log.comparable() {
		proof = "make sure that it has loaded every byte and given up no key"
	}
	add(false, p.Instance, "%s; clients' writes wait meanwhile", proof)
	for _, service := range slices.Sorted(maps.Keys(p.services)) {
		add(true, service, "lead its clients from %s to %s", p.services[service], p.Instance)
	}
	if p.Replicas > 1 {
		add(true, d.Workload.Name, "start the other %d pods, and wait until they have copied the data", p.Replicas-1)
	}
}
