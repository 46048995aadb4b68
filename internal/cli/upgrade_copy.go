package cli

import (
	"context"
	"fmt"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/operation/restore/live"
	"github.com/redisctl/redisctl/internal/operation/upgrade/green"
	"github.com/redisctl/redisctl/internal/snapshot"
)

// dataCopier implements green.Copier with a backup and a live restore.
type dataCopier struct {
	app      *app
	backend  *backend
	store    storeOptions
	reporter operation.Reporter
}

// Copy implements green.Copier. The locks of both releases are the caller's.
func (c dataCopier) Copy(
	ctx context.Context, a *operation.Deployment, from operation.Instance, b *operation.Deployment, to operation.Instance,
) (green.Copied, error) {
	held := *c.backend
	held.Locker = operation.Held{}
	stores, err := c.app.openStores(c.store)
	if err != nil {
		return green.Copied{}, err
	}
	store, err := c.app.openTargets(c.store)
	if err != nil {
		return green.Copied{}, err
	}
	keeper := copies{backup: c.app.rdbBackup(&held, store, c.reporter), stall: defaultStall, timeout: c.app.globals.timeout}
	m, location, err := keeper.keep(ctx, a, from)
	if err != nil {
		return green.Copied{}, fmt.Errorf("backing %s up: %w", from.Name, err)
	}
	entry, err := snapshot.Find(ctx, stores[0], snapshot.Filter{Namespace: a.Namespace, Release: a.Release}, m.ID)
	if err != nil {
		return green.Copied{}, fmt.Errorf("finding the backup again: %w", err)
	}
	result, err := c.restore(ctx, &held, b, to, restore.Backup{Store: stores[0], Entry: entry})
	if err != nil {
		return green.Copied{}, fmt.Errorf("restoring into %s: %w", to.Name, err)
	}
	copied := green.Copied{Backup: location, Keys: result.Restored}
	if result.Comparison != nil {
		copied.Compared = result.Comparison.Keys
	}
	return copied, nil
}

func (c dataCopier) restore(
	ctx context.Context, b *backend, d *operation.Deployment, to operation.Instance, backup restore.Backup,
) (live.Result, error) {
	op := c.app.liveRestore(b, backup.Store, c.reporter)
	o := live.DefaultOptions()
	o.OtherRelease, o.NoSafetyBackup, o.Instance, o.Sample, o.Timeout = true, true, to.Name, 0, c.app.globals.timeout
	plan, err := op.Plan(ctx, d, backup, o)
	if err != nil {
		return live.Result{}, err
	}
	if err := plan.Refusal(); err != nil {
		return live.Result{}, err
	}
	result, err := op.Apply(ctx, plan)
	if err == nil {
		err = result.Verdict()
	}
	return result, err
}
