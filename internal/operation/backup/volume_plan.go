package backup

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/redis"
)

// overrideAsIs is the flag that takes volumes without asking the servers.
const overrideAsIs = "--as-is"

// Plan observes d and chooses the volumes and the class. It only reads.
func (b VolumeBackup) Plan(ctx context.Context, d *operation.Deployment, o VolumeOptions) (*VolumePlan, error) {
	if d.Workload == nil {
		return nil, &operation.Error{
			Kind: operation.Usage, Object: d.String(), Phase: "backup volume",
			Err:  errors.New("a plain address has no volumes in Kubernetes"),
			Next: "name a release with -n and -r, or use backup rdb",
		}
	}
	p := &VolumePlan{
		Plan:       operation.Plan{Operation: "backup volume", Object: d.String(), Findings: []operation.Finding{}, Steps: []operation.Step{}},
		Snapshots:  []PlannedSnapshot{},
		deployment: d, options: o,
	}
	if d.Workload.Volume.Kind == operation.VolumeNone {
		p.add(operation.Finding{
			Code: "no-volume", Severity: operation.Critical, Subject: d.String(),
			Message: "it keeps its data in the containers, on no volume", Hint: "backup rdb needs none",
		})
		return p, nil
	}
	t := topology.Observe(ctx, b.Connector, d, o.Timeout)
	if err := t.Denied(); err != nil && !o.AsIs {
		return nil, err
	}
	sources, err := volumeSources(&t, o)
	if err != nil {
		return nil, err
	}
	classes, err := b.classes(ctx, p)
	if err != nil {
		return nil, err
	}
	for _, m := range sources {
		if err := b.planOne(ctx, p, m, classes, len(sources) > 1); err != nil {
			return nil, err
		}
	}
	p.steps()
	return p, nil
}

func (p *VolumePlan) add(f operation.Finding) { p.Findings = append(p.Findings, f) }

// volumeSources returns the instances whose volumes are taken: the primary's, unless the
// user chose.
func volumeSources(t *topology.Topology, o VolumeOptions) ([]*topology.Member, error) {
	if o.All {
		var all []*topology.Member
		for i := range t.Members {
			all = append(all, &t.Members[i])
		}
		return all, nil
	}
	if o.Instance != "" {
		m := t.Member(o.Instance)
		if m == nil {
			return nil, operation.Errorf(operation.Usage, "%s has no instance %q; it has %s", t.Deployment, o.Instance, t.Deployment.InstanceNames())
		}
		return []*topology.Member{m}, nil
	}
	if len(t.Members) == 1 {
		return []*topology.Member{&t.Members[0]}, nil
	}
	if t.Independent() {
		return nil, operation.Errorf(operation.Usage,
			"%s has several independent servers; choose one with --pod, or --all-claims: %s", t.Deployment, t.Deployment.InstanceNames())
	}
	m, err := t.Primary()
	if err != nil {
		return nil, &operation.Error{
			Kind: operation.Refused, Object: t.Deployment.String(), Phase: "choosing the volume", Err: err,
			Unchanged: "nothing was changed", Next: "choose a pod with --pod, or --all-claims; " + overrideAsIs + " takes volumes whose servers do not answer",
		}
	}
	return []*topology.Member{m}, nil
}

// classes returns the classes to choose from, and checks that snapshots can be made at
// all. Without the permission to list them, the one that the user named is taken as it is.
func (b VolumeBackup) classes(ctx context.Context, p *VolumePlan) ([]SnapshotClass, error) {
	classes, err := b.Volumes.SnapshotClasses(ctx)
	switch {
	case errors.Is(err, ErrNoSnapshots):
		p.add(operation.Finding{
			Code: "no-snapshot-api", Severity: operation.Critical, Subject: "the cluster", Message: err.Error(),
			Hint: "install the CRDs and the snapshot-controller of kubernetes-csi/external-snapshotter, or use backup rdb",
		})
		return nil, nil
	case operation.KindOf(err) == operation.Denied && p.options.Class != "":
		p.add(operation.Finding{
			Code: "class-not-checked", Severity: operation.Notice, Subject: "class " + p.options.Class,
			Message: fmt.Sprintf("whether it exists and fits is not known: %v", err),
		})
		classes = []SnapshotClass{{Name: p.options.Class}}
	case operation.KindOf(err) == operation.Denied:
		var e *operation.Error
		if errors.As(err, &e) {
			kept := *e
			kept.Next = "name the class with --snapshot-class, or " + e.Next
			err = &kept
		}
		return nil, err
	case err != nil:
		return nil, err
	}
	return classes, b.Volumes.MaySnapshot(ctx, p.deployment)
}

// planOne adds the snapshot of one instance's volume, and what speaks against it.
func (b VolumeBackup) planOne(ctx context.Context, p *VolumePlan, m *topology.Member, classes []SnapshotClass, several bool) error {
	claim, err := b.Volumes.DataClaim(ctx, p.deployment, m.Instance)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(p.Snapshots, func(s PlannedSnapshot) bool { return s.Claim == claim.Name }) {
		return nil // several pods on one claim
	}
	s := PlannedSnapshot{Instance: m.Name, Claim: claim.Name, Persistence: PersistenceUnknown, source: *m}
	switch {
	case p.options.Name == "":
		s.Name = claim.Name + "-" + b.Now().UTC().Format("20060102t150405z")
	case several:
		s.Name = p.options.Name + "-" + m.Name
	default:
		s.Name = p.options.Name
	}
	if len(s.Name) > maxNameLength || !validName.MatchString(s.Name) {
		return operation.Errorf(operation.Usage, "--name %q: Kubernetes takes lower case letters, digits, '-' and '.', at most %d of them", s.Name, maxNameLength)
	}
	if classes != nil {
		if s.Name, err = b.freeName(ctx, p, s.Name); err != nil {
			return err
		}
	}
	p.checkClaim(claim)
	s.Class = p.chooseClass(claim, classes)
	if !p.options.AsIs {
		b.checkServer(ctx, p, &s)
	}
	p.Snapshots = append(p.Snapshots, s)
	return nil
}

// freeName returns a name that no snapshot has, before the server is made to save. A name
// that was asked for is not changed: that it is taken blocks the plan. One made of the time
// is numbered, so that two snapshots within a second are two.
func (b VolumeBackup) freeName(ctx context.Context, p *VolumePlan, name string) (string, error) {
	free := name
	for n := 2; ; n++ {
		taken, err := b.Volumes.HasSnapshot(ctx, p.deployment.Namespace, free)
		if !taken || err != nil {
			return free, err
		}
		if p.options.Name != "" || n > maxSameSecond {
			p.add(operation.Finding{
				Code: "name-taken", Severity: operation.Critical, Subject: fullName(p.deployment.Namespace, free),
				Message: "there is a snapshot of that name already", Hint: "choose another --name",
			})
			return free, nil
		}
		free = fmt.Sprintf("%s-%d", name, n)
	}
}

// maxSameSecond bounds how many snapshots of one claim within a second are numbered.
const maxSameSecond = 99

// validName is what the API server takes as a name (RFC 1123 subdomain).
var validName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

const maxNameLength = 253

func (p *VolumePlan) checkClaim(claim DataClaim) {
	subject := "claim " + claim.Name
	if claim.Phase != "Bound" {
		p.add(operation.Finding{
			Code: "claim-not-bound", Severity: operation.Critical, Subject: subject,
			Message: fmt.Sprintf("it has no volume: it is %s", claim.Phase),
		})
		return
	}
	if claim.Type != "" && claim.Type != "csi" {
		p.add(operation.Finding{
			Code: "not-csi", Severity: operation.Critical, Subject: subject,
			Message: fmt.Sprintf("its volume is of type %s: only those of CSI drivers have snapshots", claim.Type),
			Hint:    "backup rdb works with any volume",
		})
	}
}

// chooseClass returns the class for a claim: the one that was named, the only one for its
// driver, or the default among several. It is empty when none can be chosen, which is
// said.
func (p *VolumePlan) chooseClass(claim DataClaim, classes []SnapshotClass) string {
	if classes == nil || claim.Type != "" && claim.Type != "csi" {
		return "" // said already
	}
	finding := operation.Finding{Severity: operation.Critical, Subject: "claim " + claim.Name}
	if name := p.options.Class; name != "" {
		at := slices.IndexFunc(classes, func(c SnapshotClass) bool { return c.Name == name })
		switch {
		case at < 0:
			finding.Code, finding.Message = "no-such-class", fmt.Sprintf("there is no VolumeSnapshotClass %s; there are: %s", name, classNames(classes))
		case claim.Driver != "" && classes[at].Driver != "" && classes[at].Driver != claim.Driver:
			finding.Code = "wrong-class"
			finding.Message = fmt.Sprintf("VolumeSnapshotClass %s is for driver %s, the volume is of %s", name, classes[at].Driver, claim.Driver)
		default:
			return name
		}
		p.add(finding)
		return ""
	}
	fit, drivers := fitting(classes, claim.Driver)
	switch {
	case len(fit) == 1:
		return fit[0].Name
	case len(fit) == 0:
		finding.Code = "no-class"
		finding.Message = fmt.Sprintf("no VolumeSnapshotClass is for its driver %s; there are: %s", drivers, classNames(classes))
		finding.Hint = "create one for that driver; without any, the driver may have no snapshots"
	default:
		finding.Code = "several-classes"
		finding.Message = "several VolumeSnapshotClasses fit: " + classNames(fit)
		finding.Hint = "choose one with --snapshot-class"
	}
	p.add(finding)
	return ""
}

// fitting returns the classes for a driver; only its default ones where there are any. All
// fit a driver that is not known.
func fitting(classes []SnapshotClass, driver string) (fit []SnapshotClass, known string) {
	known = "(not known)"
	if driver != "" {
		known = driver
	}
	var defaults []SnapshotClass
	for _, c := range classes {
		if driver != "" && c.Driver != driver {
			continue
		}
		fit = append(fit, c)
		if c.Default {
			defaults = append(defaults, c)
		}
	}
	if len(defaults) > 0 {
		fit = defaults
	}
	return fit, known
}

// checkServer finds out which files hold the instance's data, and what keeps them from
// being made worth having.
func (b VolumeBackup) checkServer(ctx context.Context, p *VolumePlan, s *PlannedSnapshot) {
	m := &s.source
	blocker := operation.Finding{Severity: operation.Critical, Subject: m.Name, Override: overrideAsIs}
	if m.Err != nil {
		blocker.Code, blocker.Message = "not-asked", fmt.Sprintf("the server cannot be made to write its data: %v", m.Err)
		p.add(blocker)
		return
	}
	persistence := m.Info.Persistence()
	if persistence.Loading {
		blocker.Code, blocker.Message = "loading", "the server is loading its data"
		p.add(blocker)
		return
	}
	if m.Replication.Role == redis.RoleReplica && m.Link() != "up" {
		p.add(operation.Finding{
			Code: "source-is-stale", Severity: operation.Critical, Subject: m.Name,
			Message:  fmt.Sprintf("its link to %s is %s: the data is as old as the link's last byte", m.Upstream(), m.Link()),
			Override: "--allow-stale", Overridden: p.options.AllowStale,
		})
	}
	if !persistence.AOFEnabled {
		s.Persistence = PersistenceRDB
		p.Findings = append(p.Findings, b.checkSpace(ctx, p, m)...)
		return
	}
	s.Persistence = PersistenceAOF
	s.sync = configOf(ctx, b.Connector, p.deployment, m.Instance, "appendfsync")["appendfsync"]
	if !persistence.AOFLastWriteOK {
		blocker.Code, blocker.Message = "aof-write-failed", "its last write to the append-only file failed"
		p.add(blocker)
	}
	if s.sync == "no" {
		p.add(operation.Finding{
			Code: "sync-left-to-system", Severity: operation.Warning, Subject: m.Name,
			Message: "appendfsync is no: when the last writes reach the disk is up to its node, so the snapshot may lack some",
		})
	}
}

// checkSpace makes sure that BGSAVE finds room: on a full disk it fails, and the server
// then refuses all writes.
func (b VolumeBackup) checkSpace(ctx context.Context, p *VolumePlan, m *topology.Member) []operation.Finding {
	dir := configOf(ctx, b.Connector, p.deployment, m.Instance, "dir")["dir"]
	if dir == "" {
		dir = p.deployment.Workload.Volume.MountPath
	}
	f := operation.Finding{
		Code: "no-space-for-save", Severity: operation.Critical, Subject: m.Name,
		Override: "--ignore-space", Overridden: p.options.IgnoreSpace,
	}
	estimate := m.Info.Memory().Used // an RDB is hardly ever larger than the data in memory
	free, err := b.Files.FreeSpace(ctx, p.deployment, m.Instance, dir)
	switch {
	case operation.KindOf(err) == operation.Denied:
		// Executing in pods is not needed for anything else here.
		f.Severity, f.Override, f.Overridden = operation.Notice, "", false
		f.Message = fmt.Sprintf("the free space of %s is not known: %v", dir, err)
	case err != nil:
		f.Message = fmt.Sprintf("the free space of %s is not known: %v", dir, err)
	case free < estimate:
		f.Message = fmt.Sprintf("%s has %s free, BGSAVE may need up to %s", dir, operation.Bytes(free), operation.Bytes(estimate))
	default:
		return nil
	}
	return []operation.Finding{f}
}

func (p *VolumePlan) steps() {
	p.Steps = append(p.Steps, operation.Step{Action: "take the release's lock", Subject: p.Object, Mutates: true})
	for _, s := range p.Snapshots {
		switch s.Persistence {
		case PersistenceRDB:
			p.Steps = append(p.Steps, operation.Step{Action: "BGSAVE and wait until it has succeeded", Subject: s.Instance, Mutates: true})
		case PersistenceAOF:
			p.Steps = append(p.Steps, operation.Step{Action: "wait until the append-only file is on the disk", Subject: s.Instance})
		case PersistenceUnknown: // nothing is asked of the server
		}
		p.Steps = append(p.Steps, operation.Step{
			Action:  fmt.Sprintf("create VolumeSnapshot %s (class %s) and wait until it is taken", s.Name, s.Class),
			Subject: "claim " + s.Claim, Mutates: true,
		})
	}
	p.Steps = append(p.Steps, operation.Step{Action: "give the lock back, wait until all can be used, and check them"})
}
