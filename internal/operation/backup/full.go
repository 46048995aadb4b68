package backup

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/snapshot"
)

// Full backs up everything as one set. The parts share their store, encoding, clock
// and reporter.
type Full struct {
	RDB       RDB
	AOF       AOF
	Config    Config
	Resources ResourcesBackup
}

// FullPlan is what `backup full` is going to do.
type FullPlan struct {
	operation.Plan
	// Source names the instance that the data is taken from.
	Source string `json:"source"`
	// AOF is set when the append-only file is included.
	AOF bool `json:"aof"`
	// Destination is the folder that the backup will be stored in.
	Destination string `json:"destination"`

	rdb     *Plan
	aof     *AOFPlan
	options SetOptions
}

// Plan observes d and chooses the source. It only reads. The RDB snapshot is always
// taken with MethodStream.
func (b Full) Plan(ctx context.Context, d *operation.Deployment, data Options, o SetOptions) (*FullPlan, error) {
	if d.Workload == nil {
		return nil, &operation.Error{
			Kind: operation.Usage, Object: d.String(), Phase: "backup full",
			Err:  errors.New("a plain address has no files that can be read, and no objects in Kubernetes"),
			Next: "use backup rdb and backup config",
		}
	}
	if err := checkSecrets(o, b.Config.Encoding); err != nil {
		return nil, err
	}
	data.Method = MethodStream
	rdb, err := b.RDB.Plan(ctx, d, data)
	if err != nil {
		return nil, err
	}
	p := &FullPlan{
		Plan:   operation.Plan{Operation: "backup full", Object: d.String(), Findings: rdb.Findings},
		Source: rdb.Source, Destination: rdb.Destination, rdb: rdb, options: o,
	}
	p.Steps = slices.Clone(rdb.Steps[:len(rdb.Steps)-1]) // all but publishing
	if rdb.source.Info.Persistence().AOFEnabled {
		p.aof, err = b.AOF.Plan(ctx, d, AOFOptions{
			Instance: rdb.Source, AllowStale: data.AllowStale, IgnoreSpace: data.IgnoreSpace, Timeout: data.Timeout, Stall: data.Stall,
		})
		if err != nil {
			return nil, err
		}
		p.AOF = true
		p.Steps = append(p.Steps, p.aof.Steps[:len(p.aof.Steps)-1]...)
		p.addFindings(p.aof.Findings)
	}
	p.Steps = append(p.Steps,
		operation.Step{Action: "read the configuration of all instances, redis.conf and the Helm values", Subject: p.Object},
		operation.Step{Action: "read the objects of the release", Subject: p.Object},
		operation.Step{Action: "verify all while storing, then publish files and manifest", Subject: p.Destination},
	)
	return p, nil
}

// addFindings adds those that are not there yet.
func (p *FullPlan) addFindings(findings []operation.Finding) {
	for _, f := range findings {
		same := func(other operation.Finding) bool { return other.Code == f.Code && other.Subject == f.Subject }
		if !slices.ContainsFunc(p.Findings, same) {
			p.Findings = append(p.Findings, f)
		}
	}
}

// Apply makes the backup. It exists when its manifest does, which is stored last; on
// failure nothing stands under a final name. As with AOF.Apply, an error can come
// together with a manifest.
func (b Full) Apply(ctx context.Context, p *FullPlan) (*snapshot.Manifest, error) {
	if err := p.Refusal(); err != nil {
		return nil, err
	}
	if p.aof != nil {
		locked, release, err := b.AOF.Locker.Lock(ctx, p.rdb.deployment)
		if err != nil {
			return nil, err
		}
		defer release()
		ctx = locked
	}
	if err := sameServer(ctx, b.RDB.Connector, p.rdb.deployment, p.rdb.source); err != nil {
		return nil, err
	}
	source := p.rdb.describe()
	set, err := snapshot.CreateSet(b.RDB.Store, p.rdb.dir, snapshot.KindFull, snapshot.CreateOptions{
		Version: b.RDB.Version, Source: source, Begun: b.RDB.Now(), Now: b.RDB.Now, Encoding: b.RDB.Encoding,
		Complete: func(m *snapshot.Manifest) error {
			m.Source = source
			return positionFromFile(m)
		},
		Progress: func(bytes int64) { b.RDB.Reporter.Progress(operation.Progress{Done: bytes, Unit: "bytes"}) },
	})
	if err != nil {
		return nil, failed(ctx, p.Object, "beginning the backup", err)
	}
	defer set.Abort()
	if source, err = b.addRDB(ctx, p, set); err != nil {
		return nil, err
	}
	restored, err := b.addRest(ctx, p, set)
	if err != nil {
		giveUp(set, b.RDB.Reporter, err)
		return nil, failed(ctx, p.Object, "making the backup", errors.Join(err, restored))
	}
	m, err := set.Commit(ctx)
	if err != nil {
		return nil, failed(ctx, p.Object, "storing the backup", errors.Join(err, restored))
	}
	sweep(ctx, b.RDB.Store, p.rdb.dir, b.RDB.Reporter)
	return m, restored
}

// addRDB adds the RDB snapshot to set.
func (b Full) addRDB(ctx context.Context, p *FullPlan, set *snapshot.Set) (snapshot.Source, error) {
	stream, source, err := b.RDB.openStream(ctx, p.rdb)
	if err != nil {
		return source, err
	}
	defer func() { _ = stream.Close() }() // Read has told whether all data is here
	if _, err := set.Add(ctx, snapshot.SetFile{Name: "rdb", Kind: snapshot.FileRDB}, stream); err != nil {
		return source, failed(ctx, p.Object, "receiving the snapshot", err)
	}
	return source, nil
}

// addRest adds everything else. restored is as for AOF.add.
func (b Full) addRest(ctx context.Context, p *FullPlan, set *snapshot.Set) (restored, err error) {
	if p.aof != nil {
		if restored, err = b.AOF.add(ctx, p.aof, set); err != nil {
			return restored, fmt.Errorf("the append-only file: %w", err)
		}
	}
	d := p.rdb.deployment
	t := topology.Observe(ctx, b.Config.Connector, d, p.options.Timeout)
	if _, err := b.Config.add(ctx, d, &t, p.options, set); err != nil {
		return restored, fmt.Errorf("the configuration: %w", err)
	}
	if err := b.Resources.add(ctx, d, p.options, set); err != nil {
		return restored, fmt.Errorf("the objects: %w", err)
	}
	return restored, nil
}

// Folder returns the folder of the store that the backup is in.
func (p *FullPlan) Folder() string { return p.rdb.dir }
