package volume

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore"
)

// Kept is a folder of former files.
type Kept struct {
	// Name in the data folder.
	Name string `json:"name"`
	// Made is when the restore began that made it.
	Made time.Time `json:"made"`
	// Size in bytes on the disk.
	Size int64 `json:"sizeBytes"`
}

// CleanupPlan is what `restore cleanup` is going to remove.
type CleanupPlan struct {
	operation.Plan
	// Instance has the volume, Claim names it.
	Instance string `json:"instance"`
	Claim    string `json:"claim"`
	Remove   []Kept `json:"remove"`
	Keep     []Kept `json:"keep"`

	deployment *operation.Deployment
	dir        string
}

// PlanCleanup lists the former files that restores have left on the volume. Those made
// before the time given are removed.
func (r Restore) PlanCleanup(ctx context.Context, d *operation.Deployment, before time.Time) (*CleanupPlan, error) {
	p := &CleanupPlan{
		Plan:   operation.Plan{Operation: "restore cleanup", Object: d.String(), Steps: []operation.Step{}, Findings: []operation.Finding{}},
		Remove: []Kept{}, Keep: []Kept{}, deployment: d,
	}
	if d.Workload == nil || d.Workload.Volume.Kind == operation.VolumeNone {
		return p, nil // what restores leave is on volumes
	}
	p.Instance, p.Claim = first(d), claimOf(d)
	layout, err := layoutOf(d.Config, d.Workload.Volume.MountPath)
	if err != nil {
		return nil, &operation.Error{Kind: operation.Failed, Object: d.String(), Phase: "finding the data folder", Err: err}
	}
	p.dir = layout.Dir
	unfinished, err := restore.UnfinishedRestore(ctx, r.Notes, d)
	if err != nil {
		return nil, err
	}
	p.Findings = append(p.Findings, unfinished...) // its former files may be needed
	i := d.Instance(p.Instance)
	if i == nil || i.Down() != nil {
		return nil, &operation.Error{
			Kind: operation.Failed, Object: "pod " + d.Namespace + "/" + p.Instance, Phase: "listing the former files",
			Err: operation.ErrDown, Next: "redisctl health",
		}
	}
	all, err := r.Volumes.Kept(ctx, d, *i, p.dir, keptPrefix)
	if err != nil {
		return nil, err
	}
	for _, k := range all {
		made, err := time.Parse(stampLayout, strings.TrimPrefix(k.Name, keptPrefix))
		if err != nil {
			continue // not ours
		}
		k.Made = made
		if made.Before(before) {
			p.Remove = append(p.Remove, k)
			p.Steps = append(p.Steps, operation.Step{Action: "remove " + k.Name, Subject: p.Claim, Mutates: true})
		} else {
			p.Keep = append(p.Keep, k)
		}
	}
	return p, nil
}

// Cleanup removes what the plan says, and makes sure that it is gone.
func (r Restore) Cleanup(ctx context.Context, p *CleanupPlan) error {
	if err := p.Refusal(); err != nil || len(p.Remove) == 0 {
		return err
	}
	locked, release, err := r.Locker.Lock(ctx, p.deployment)
	if err != nil {
		return err
	}
	defer release()
	i := p.deployment.Instance(p.Instance)
	for _, k := range p.Remove {
		r.Reporter.Step("removing %s", k.Name)
		if err := r.Volumes.RemoveKept(locked, p.deployment, *i, p.dir, k.Name); err != nil {
			return err
		}
	}
	left, err := r.Volumes.Kept(locked, p.deployment, *i, p.dir, keptPrefix)
	if err != nil {
		return err
	}
	for _, k := range left {
		for _, removed := range p.Remove {
			if k.Name == removed.Name {
				return operation.Errorf(operation.Failed, "%s is still on the volume %s", k.Name, p.Claim)
			}
		}
	}
	return nil
}

// SetAside moves the data files of an instance into a folder of its volume, where Cleanup
// finds them, so that its server starts without data the next time. It returns the
// folder, "" when the instance has no volume: then nothing outlives its pod.
func (r Restore) SetAside(ctx context.Context, d *operation.Deployment, i operation.Instance) (kept string, err error) {
	claim := i.Name
	switch v := d.Workload.Volume; v.Kind {
	case operation.VolumeNone:
		return "", nil
	case operation.VolumeExistingClaim:
		claim = v.Claim
	default:
		claim = v.Claim + "-" + claim
	}
	layout, err := layoutOf(d.Config, d.Workload.Volume.MountPath)
	if err != nil {
		return "", err
	}
	node := ""
	if i.Pod != nil {
		node = i.Pod.Node
	}
	volume, err := r.Volumes.OpenVolume(ctx, d, claim, node, "")
	if err != nil {
		return "", err
	}
	stamp := r.Now().UTC().Format(stampLayout)
	swap := Swap{Dir: layout.Dir, Staged: "redisctl-none-" + stamp, Kept: keptPrefix + stamp, Names: layout.names()}
	err = volume.Swap(ctx, swap)
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), DefaultLimits().Stop)
	defer cancel()
	return swap.Kept, errors.Join(err, volume.Close(closing))
}
