package cli

import (
	"context"
	"errors"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/backup"
	"github.com/redisctl/redisctl/internal/operation/failover"
	"github.com/redisctl/redisctl/internal/rdb/rdbdiff"
	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/storage"
)

// copies implements failover.Copies with snapshots over the replication protocol.
type copies struct {
	backup backup.RDB
	// open opens the store of one copy, in the place of that of backup; nil to use that.
	open    func() (storage.Store, error)
	stall   time.Duration
	timeout time.Duration
}

// Compare implements failover.Copies. Both data sets are streamed at the same time;
// neither is stored.
func (c copies) Compare(
	ctx context.Context, d *operation.Deployment, losing, kept operation.Instance,
) (failover.Difference, error) {
	ctx, cancel := context.WithCancel(ctx) // ends the other stream when one fails
	defer cancel()
	o := backup.StreamOptions{KeyByKey: true, Stall: c.stall}
	a, err := c.backup.Streamer.Snapshot(ctx, d, losing, o)
	if err != nil {
		return failover.Difference{}, err
	}
	defer func() { _ = a.Close() }() // Read has told whether all data is here
	b, err := c.backup.Streamer.Snapshot(ctx, d, kept, o)
	if err != nil {
		return failover.Difference{}, err
	}
	defer func() { _ = b.Close() }() // Read has told whether all data is here
	found, err := rdbdiff.Compare(ctx, a, b, rdbdiff.Options{Examples: 5, Now: c.backup.Now()})
	if err != nil {
		return failover.Difference{}, err
	}
	return missing(found), nil
}

// missing returns what the second data set lacks of the first.
func missing(d *rdbdiff.Difference) failover.Difference {
	m := failover.Difference{Sampled: !d.Complete, Examples: []string{}}
	if d.BContainsA() {
		return m
	}
	m.Only = d.Total.OnlyInA.Keys + d.Functions.OnlyInA
	m.Changed = d.Total.Changed.Keys + d.Total.Undecided.Keys + d.Total.ExpiryChanged.Keys
	for _, class := range [][]rdbdiff.Example{d.Examples.OnlyInA, d.Examples.Changed, d.Examples.Undecided, d.Examples.ExpiryChanged} {
		for _, e := range class {
			m.Examples = append(m.Examples, e.Key)
		}
	}
	return m
}

// Keep implements failover.Copies. A place that could not take the copy is told; at
// least one has it.
func (c copies) Keep(ctx context.Context, d *operation.Deployment, i operation.Instance) (string, error) {
	if c.open != nil {
		store, err := c.open()
		if err != nil {
			return "", err
		}
		c.backup.Store = store
	}
	_, location, err := c.keep(ctx, d, i)
	return location, err
}

// keep is Keep in the store of backup.
func (c copies) keep(ctx context.Context, d *operation.Deployment, i operation.Instance) (m *snapshot.Manifest, location string, err error) {
	plan, err := c.backup.Plan(ctx, d, backup.Options{
		Method: backup.MethodStream, Instance: i.Name, Purpose: snapshot.PurposeSafety, AllowStale: true, Timeout: c.timeout, Stall: c.stall,
	})
	if err != nil {
		return nil, "", err
	}
	m, err = c.backup.Apply(ctx, plan)
	if err != nil {
		return nil, "", err
	}
	for _, at := range storedAtAll(c.backup.Store, plan.DataName(m)) {
		if at.Problem != "" {
			c.backup.Reporter.Warn("the copy of %s is not in %s: %s", i.Name, at.Location, at.Problem)
		}
	}
	return m, c.backup.Store.Location(plan.DataName(m)), nil
}

// serviceClients implements failover.Cluster.
type serviceClients struct {
	failoverCluster
	connect func(ctx context.Context, d *operation.Deployment, s operation.Service, via operation.Instance) (operation.Server, error)
}

// failoverCluster is what internal/kube has of failover.Cluster.
type failoverCluster interface {
	DeletePod(ctx context.Context, d *operation.Deployment, i operation.Instance, grace time.Duration) error
	Budgets(ctx context.Context, d *operation.Deployment) ([]operation.Budget, error)
}

// ConnectService implements failover.Cluster.
func (c serviceClients) ConnectService(
	ctx context.Context, d *operation.Deployment, s operation.Service, via operation.Instance,
) (operation.Server, error) {
	if s.Port == 0 {
		return nil, errors.New("the Service has no port for Redis")
	}
	return c.connect(ctx, d, s, via)
}
