// Package drill proves that a backup can be restored, without a release: it loads the
// backup into a throw-away server and compares what the server holds with it.
package drill

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/redis"
	"github.com/redisctl/redisctl/internal/snapshot"
)

// Drill restores backups into throw-away servers. All fields are required.
type Drill struct {
	// Hosts are tried in their order: the first with a server that reads the backup
	// gets it.
	Hosts []Host
	// Link reaches a server.
	Link     func(Server) Link
	Reporter operation.Reporter
	Now      func() time.Time
}

// Options are the user's choices.
type Options struct {
	// Sample is about how many keys are compared; 0 for all.
	Sample int64
	// Stall is how long the server may make no progress while it loads.
	Stall time.Duration
	// Life is how long the drill may take in all. It must be positive.
	Life time.Duration
}

// Result is what a drill has found. Its JSON form is part of redisctl's interface
// (docs/json-output.md).
type Result struct {
	Backup string        `json:"backup"`
	Kind   snapshot.Kind `json:"kind"`
	// CreatedAt is when the backup was made.
	CreatedAt time.Time `json:"createdAt"`
	// Source is where the data comes from; nil for a file without a manifest.
	Source *snapshot.Source `json:"source,omitempty"`
	// Server is what the backup was loaded into; nil when it did not come to that.
	Server *ServerInfo `json:"server,omitempty"`
	// SizeBytes is the size of the files that were loaded, UsedMemoryBytes what their
	// data takes in the server.
	SizeBytes       int64 `json:"sizeBytes"`
	UsedMemoryBytes int64 `json:"usedMemoryBytes"`
	// Commands were replayed from append-only files.
	Commands int64 `json:"commands"`
	// DBs is what the server holds.
	DBs []FoundDB `json:"dbs"`
	// Comparison is the proof. It is nil for append-only files, which cannot tell
	// beforehand what their commands leave: the server has carried all of them out.
	Comparison *restore.Comparison `json:"comparison,omitempty"`
	Seconds    Seconds             `json:"seconds"`
	// Passed is the verdict, Problem why it is negative.
	Passed  bool   `json:"passed"`
	Problem string `json:"problem,omitempty"`
}

// ServerInfo describes a throw-away server.
type ServerInfo struct {
	Name    string        `json:"name"`
	Version redis.Version `json:"version"`
}

// FoundDB is a database of the server.
type FoundDB struct {
	DB   int   `json:"db"`
	Keys int64 `json:"keys"`
}

// Seconds say how long the parts took.
type Seconds struct {
	// Verify is the reading of the whole backup, Open until there was room for a
	// server, Place until its files were there, Load until it had loaded them.
	Verify  float64 `json:"verify"`
	Open    float64 `json:"open"`
	Place   float64 `json:"place"`
	Load    float64 `json:"load"`
	Compare float64 `json:"compare"`
	// Total is all of it.
	Total float64 `json:"total"`
}

// Run runs a drill. A backup that cannot be restored is no error: Passed is the verdict.
// An error of kind Unsupported says that no server reads the backup.
//
// Nothing is left of the server when Run returns, and nothing of the backup is changed.
func (d Drill) Run(parent context.Context, b restore.Backup, o Options) (Result, error) {
	ctx, cancel := context.WithTimeoutCause(parent, o.Life,
		operation.Errorf(operation.TimedOut, "the drill has not ended after %s", o.Life))
	defer cancel()
	run := &drilling{
		Drill: d, backup: b, options: o, begun: d.Now(),
		result: Result{Backup: b.Name(), Kind: b.Entry.Kind, CreatedAt: b.Entry.Created, DBs: []FoundDB{}},
	}
	err := run.run(ctx)
	if cause := context.Cause(ctx); err != nil && cause != nil && parent.Err() == nil {
		err = &operation.Error{Kind: operation.TimedOut, Object: b.Name(), Phase: run.phase, Err: cause}
	}
	var refusal *refusalError
	if errors.As(err, &refusal) {
		run.result.Problem, err = refusal.Error(), nil
	}
	run.result.Seconds.Total = d.Now().Sub(run.begun).Seconds()
	return run.result, err
}

// refusalError says that the backup cannot be restored.
type refusalError struct{ error }

// drilling is a drill in progress.
type drilling struct {
	Drill
	backup  restore.Backup
	options Options
	begun   time.Time
	phase   string
	load    *load
	server  Server
	link    Link
	result  Result
}

func (r *drilling) run(ctx context.Context) (err error) {
	if err := r.verify(ctx); err != nil {
		return err
	}
	if err := r.open(ctx); err != nil {
		return err
	}
	defer func() {
		// Also after Ctrl-C: the data must not stay.
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeLimit)
		defer cancel()
		if closeErr := r.server.Close(closing); closeErr != nil {
			err = errors.Join(err, closeErr)
		}
	}()
	if err := r.place(ctx); err != nil {
		return err
	}
	info, err := r.start(ctx)
	if err != nil {
		return err
	}
	return r.prove(ctx, info)
}

// closeLimit is how long the removal of a server may take.
const closeLimit = time.Minute

// timed runs a phase and notes how long it took.
func (r *drilling) timed(seconds *float64, phase string, f func() error) error {
	r.phase = phase
	begun := r.Now()
	err := f()
	*seconds = r.Now().Sub(begun).Seconds()
	return err
}

func (r *drilling) verify(ctx context.Context) error {
	r.Reporter.Step("verifying the backup %s", r.backup.Name())
	return r.timed(&r.result.Seconds.Verify, "verifying", func() error {
		l, problem, err := r.prepare(ctx, r.backup)
		switch {
		case err != nil:
			return err
		case problem != nil:
			return &refusalError{problem}
		}
		r.load, r.result.Source = l, l.source
		for _, f := range l.files {
			r.result.SizeBytes += f.size
		}
		if l.hasModules() {
			return &operation.Error{
				Kind: operation.Unsupported, Object: r.backup.Name(), Phase: "choosing a server",
				Err: errors.New("it holds values of modules, which servers load only together with these modules"),
			}
		}
		return nil
	})
}

// open finds a server that reads the backup.
func (r *drilling) open(ctx context.Context) error {
	return r.timed(&r.result.Seconds.Open, "opening a server", func() error {
		var reasons []error
		for _, host := range r.Hosts {
			r.Reporter.Step("making room for a server: %s", host.Name())
			server, err := host.Open(ctx, r.load.needs(r.options.Life))
			if err != nil {
				if ctx.Err() != nil {
					return err
				}
				reasons = append(reasons, err)
				continue
			}
			reason := r.load.unreadable(server.Version())
			if reason == "" {
				r.server, r.link = server, r.Link(server)
				r.result.Server = &ServerInfo{Name: server.Name(), Version: server.Version()}
				return nil
			}
			r.Reporter.Note("%s: %s", host.Name(), reason)
			reasons = append(reasons, operation.Errorf(operation.Unsupported, "%s: %s", host.Name(), reason))
			if err := server.Close(ctx); err != nil {
				return err
			}
		}
		return r.noServer(reasons)
	})
}

// noServer is an error of kind Unsupported, unless there might have been a server: then
// of the kind of what prevented it.
func (r *drilling) noServer(reasons []error) error {
	e := &operation.Error{
		Kind: operation.Unsupported, Object: r.backup.Name(), Phase: "choosing a server", Err: errors.Join(reasons...),
		Next: "name a server with --server, or an image with --image",
	}
	if len(reasons) == 0 {
		e.Err = errors.New("there is no redis-server or valkey-server on this machine's PATH, and no cluster to start one in")
	}
	for _, reason := range reasons {
		if k := operation.KindOf(reason); k != operation.Unsupported {
			e.Kind = k
		}
	}
	return e
}

func (r *drilling) place(ctx context.Context) error {
	r.Reporter.Step("copying %s to %s", operation.Bytes(r.result.SizeBytes), r.server.Name())
	return r.timed(&r.result.Seconds.Place, "copying the data", func() error {
		var before int64
		for _, f := range r.load.files {
			contents, err := f.open(ctx)
			if err != nil {
				return err
			}
			source := restore.NewProgressReader(contents, r.Reporter, before, r.result.SizeBytes)
			err = r.server.Put(ctx, f.name, f.size, source)
			if closeErr := contents.Close(); err == nil {
				err = closeErr
			}
			if err != nil {
				return fmt.Errorf("copying %s: %w", f.name, err)
			}
			before += f.size
		}
		return nil
	})
}

func (r *drilling) prove(ctx context.Context, info redis.Info) error {
	r.result.UsedMemoryBytes = info.Memory().Used
	r.result.Commands = r.load.commands
	for _, db := range info.Keyspace() {
		r.result.DBs = append(r.result.DBs, FoundDB{DB: db.DB, Keys: db.Keys})
	}
	if r.load.contents == nil {
		r.result.Problem = refusedCommands(info)
		r.result.Passed = r.result.Problem == ""
		return nil
	}
	r.Reporter.Step("comparing the server with the backup")
	return r.timed(&r.result.Seconds.Compare, "comparing", func() error {
		d := r.server.Deployment()
		comparer := restore.Comparer{Connector: r.link, Values: r.link, Reporter: r.Reporter}
		found, err := comparer.Compare(ctx, r.backup, d, d.Instances[0], restore.CompareOptions{
			Contents: *r.load.contents, Sample: r.options.Sample, Counts: true, MaxValue: maxValue,
		})
		if err != nil {
			return err
		}
		r.result.Comparison, r.result.Passed = &found, found.Equal
		if !found.Equal {
			r.result.Problem = "the server does not hold what the backup holds"
		}
		return nil
	})
}

// maxValue is larger than in a server that has clients: this one has none to hold up.
const maxValue = 512 << 20
