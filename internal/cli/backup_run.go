package cli

import (
	"cmp"
	"context"
	"path"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/backup"
	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/snapshot/codec"
	"github.com/redisctl/redisctl/internal/storage"
)

// backupRun is what every command that backs up one release begins with: the release,
// where to store the backup, and how.
type backupRun struct {
	app      *app
	backend  *backend
	d        *operation.Deployment
	store    storage.Store
	encoding codec.Encoding
	reporter operation.Reporter
	// done ends the narration, before the result is printed. It may be called twice.
	done func()
}

// openBackup resolves the target and opens the stores. The caller closes the run.
func (a *app) openBackup(ctx context.Context, to storeOptions, how encodingOptions, dryRun bool) (*backupRun, error) {
	encoding, err := a.encoding(how, dryRun)
	if err != nil {
		return nil, err
	}
	b, d, err := a.open(ctx)
	if err != nil {
		return nil, err
	}
	r := &backupRun{app: a, backend: b, d: d, encoding: encoding}
	r.reporter, r.done = a.narrator()
	if r.store, err = a.openWritable(ctx, to, d); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// Close ends the narration and all connections.
func (r *backupRun) Close() {
	r.done()
	r.backend.Close()
}

func (r *backupRun) rdb() backup.RDB {
	op := r.app.rdbBackup(r.backend, r.store, r.reporter)
	op.Encoding = r.encoding
	return op
}

func (r *backupRun) aof() backup.AOF {
	b := r.backend
	return backup.AOF{
		Connector: b.Connector, Files: b.Files, Locker: b.Locker, Notes: b.Notes, Store: r.store, Encoding: r.encoding,
		Reporter: r.reporter, Now: r.app.system.Now, Version: ThisBuild().Version,
	}
}

func (r *backupRun) config() backup.Config {
	return backup.Config{
		Connector: r.backend.Connector, Objects: r.backend.Objects, Store: r.store, Encoding: r.encoding,
		Reporter: r.reporter, Now: r.app.system.Now, Version: ThisBuild().Version,
	}
}

func (r *backupRun) resources() backup.ResourcesBackup {
	return backup.ResourcesBackup{
		Objects: r.backend.Objects, Store: r.store, Encoding: r.encoding,
		Reporter: r.reporter, Now: r.app.system.Now, Version: ThisBuild().Version,
	}
}

// stored tells where the set with the manifest m is, in a folder of each store.
func (r *backupRun) stored(folder string, m *snapshot.Manifest) []storedAt {
	return storedAtAll(r.store, inFolder(folder)(m))
}

// inFolder names the object that stands for a set in a folder of a store.
func inFolder(folder string) func(*snapshot.Manifest) string {
	return func(m *snapshot.Manifest) string { return path.Join(folder, m.ObjectName()) }
}

// backupJob is the plan of a backup of one release, and how it is carried out.
type backupJob[P any] struct {
	plan *P
	of   operation.Plan
	// source names the instance that the data is taken from.
	source string
	// next is the command that helps when it fails.
	next  string
	apply func() (*snapshot.Manifest, error)
	// object names what is stored.
	object func(*snapshot.Manifest) string
}

// run carries the plan out, or with dryRun returns it. An error may come together with
// a manifest.
func (j backupJob[P]) run(ctx context.Context, r *backupRun, dryRun bool) (made[P], error) {
	m := made[P]{source: j.source}
	if dryRun {
		m.plan = j.plan
	}
	next := j.next + r.app.targetFlags(r.d)
	err := j.of.Refusal()
	if err == nil {
		err = r.app.permitted(ctx)
	}
	if err != nil && !dryRun {
		err = withNext(err, next)
	}
	if err != nil || dryRun {
		return m, err
	}
	tellFindings(r.reporter, j.of.Findings)
	if m.manifest, err = j.apply(); m.manifest == nil {
		return m, withNext(err, next)
	}
	m.stored = storedAtAll(r.store, j.object(m.manifest))
	return m, err
}

// finish prints a set that was stored. failed is what went wrong; it may come
// together with a manifest. An error comes also when the set is not in all places.
func (r *backupRun) finish(stored []storedAt, m *snapshot.Manifest, failed error) error {
	if m == nil {
		return failed
	}
	r.done()
	a := r.app
	if err := a.print(setDocument(stored, m)); err != nil {
		return err
	}
	return cmp.Or(failed, partial(stored))
}

// rdbBackup wires the operation that takes RDB snapshots.
func (a *app) rdbBackup(b *backend, store storage.Store, reporter operation.Reporter) backup.RDB {
	return backup.RDB{
		Connector: b.Connector, Streamer: b.Streamer, Saver: b.Saver, Files: b.Files, Locker: b.Locker,
		Store: store, Reporter: reporter, Now: a.system.Now, Version: ThisBuild().Version,
	}
}
