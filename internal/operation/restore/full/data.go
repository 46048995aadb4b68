package full

import (
	"context"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/operation/restore/live"
	"github.com/redisctl/redisctl/internal/operation/restore/volume"
)

// Loader restores data through the volume, or into the running server where there is
// none.
type Loader struct {
	Volume        volume.Restore
	VolumeSource  volume.Source
	VolumeOptions volume.Options
	Live          live.Restore
	LiveBackup    restore.Backup
	LiveOptions   live.Options
	// AcceptDifferences goes on with an interrupted restore whose data differs.
	AcceptDifferences bool
}

var _ Data = Loader{}

// Restore implements Data.
func (l Loader) Restore(ctx context.Context, d *operation.Deployment, locker operation.Locker, replace bool) (Loaded, error) {
	l.Volume.Locker, l.Live.Locker = locker, locker
	l.VolumeOptions.Replace, l.LiveOptions.Replace = replace, replace
	// That it goes to another namespace was asked for, and nobody has used it yet.
	l.VolumeOptions.OtherRelease, l.LiveOptions.OtherRelease = true, true
	if d.Workload.Volume.Kind == operation.VolumeNone {
		return l.throughServer(ctx, d)
	}
	return l.throughVolume(ctx, d)
}

func (l Loader) throughVolume(ctx context.Context, d *operation.Deployment) (Loaded, error) {
	record, err := l.Volume.Unfinished(ctx, d)
	if err != nil {
		return Loaded{}, err
	}
	if record != nil {
		result, err := l.Volume.Resume(ctx, d, volume.ResumeOptions{
			Source: l.VolumeSource, AcceptDifferences: l.AcceptDifferences, Sample: l.VolumeOptions.Sample, Limits: l.VolumeOptions.Limits,
		})
		if err != nil || result.Outcome == volume.OutcomeRestored {
			return loadedBy(volume.Method, result.Comparison), err
		}
		// It was undone, and is begun anew.
		if d, err = l.Volume.Resolver.Resolve(ctx, operation.Target{Namespace: d.Namespace, Release: d.Release}); err != nil {
			return Loaded{}, err
		}
	}
	plan, err := l.Volume.Plan(ctx, d, l.VolumeSource, l.VolumeOptions)
	if err != nil {
		return Loaded{}, err
	}
	result, err := l.Volume.Apply(ctx, plan)
	return loadedBy(volume.Method, result.Comparison), err
}

func (l Loader) throughServer(ctx context.Context, d *operation.Deployment) (Loaded, error) {
	record, err := l.Live.Unfinished(ctx, d)
	if err != nil {
		return Loaded{}, err
	}
	if record != nil {
		result, err := l.Live.Resume(ctx, d, l.LiveBackup, l.LiveOptions)
		return loadedBy(live.Method, result.Comparison), err
	}
	plan, err := l.Live.Plan(ctx, d, l.LiveBackup, l.LiveOptions)
	if err != nil {
		return Loaded{}, err
	}
	result, err := l.Live.Apply(ctx, plan)
	return loadedBy(live.Method, result.Comparison), err
}

func loadedBy(method string, c *restore.Comparison) Loaded {
	return Loaded{Method: method, Comparison: c}
}
