package backup_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/backup"
	"github.com/redisctl/redisctl/internal/operation/operationtest"
	"github.com/redisctl/redisctl/internal/redis"
)

// disks is a cluster whose volumes have snapshots. Each test changes one thing.
type disks struct {
	backup.VolumeBackup
	d     *operation.Deployment
	fleet operationtest.Fleet

	claim               backup.DataClaim
	claimErr            error
	classes             []backup.SnapshotClass
	classesErr, denied  error
	createErr, awaitErr error
	creating            func() // called while a snapshot is created
	deleteErr, saveErr  error
	free                int64
	freeErr             error
	// states are what a snapshot goes through.
	states []backup.VolumeSnapshot

	taken            string // a name that somebody else's snapshot has
	created, deleted []string
	saved            []string
	said             []string
	events           []string
	holds            map[string]*backup.VolumeContents
}

func newDisks() *disks {
	taken := time.Date(2026, 11, 23, 9, 6, 0, 0, time.UTC)
	s := &disks{
		d: operationtest.Deployment(2),
		fleet: operationtest.Fleet{
			"cache-redis-0": operationtest.Primary("10.0.0.11"),
			"cache-redis-1": operationtest.Replica("10.0.0.10"),
		},
		claim:   backup.DataClaim{Phase: "Bound", StorageClass: "fast", Driver: "disk.example", Type: "csi"},
		classes: []backup.SnapshotClass{{Name: "snap", Driver: "disk.example"}, {Name: "other", Driver: "file.example"}},
		free:    1 << 40,
		states: []backup.VolumeSnapshot{
			{}, {Taken: &taken}, {Taken: &taken, Ready: true}, {Taken: &taken, Ready: true, Content: "content", RestoreSize: 1 << 30},
		},
		holds: map[string]*backup.VolumeContents{},
	}
	s.VolumeBackup = backup.VolumeBackup{
		Connector: s.fleet, Saver: s, Files: s, Volumes: s, Locker: s, Reporter: s, Now: time.Now, Version: "1.2.3",
	}
	return s
}

func (s *disks) DataClaim(_ context.Context, d *operation.Deployment, i operation.Instance) (backup.DataClaim, error) {
	c := s.claim
	c.Name = "data-" + i.Name
	if d.Workload.Volume.Kind == operation.VolumeExistingClaim {
		c.Name = d.Workload.Volume.Claim
	}
	return c, s.claimErr
}

func (s *disks) SnapshotClasses(context.Context) ([]backup.SnapshotClass, error) {
	return s.classes, s.classesErr
}

func (s *disks) MaySnapshot(context.Context, *operation.Deployment) error { return s.denied }

func (s *disks) HasSnapshot(_ context.Context, _, name string) (bool, error) {
	return name == s.taken, nil
}

func (s *disks) CreateSnapshot(ctx context.Context, v backup.VolumeSnapshot) error {
	if s.creating != nil {
		s.creating()
	}
	if ctx.Err() != nil {
		s.created = append(s.created, v.Name) // the request had arrived
		return context.Cause(ctx)
	}
	if s.createErr != nil {
		return s.createErr
	}
	s.created = append(s.created, v.Name)
	s.events = append(s.events, "create "+v.Claim+" "+v.Class)
	s.holds[v.Name] = v.Holds
	return nil
}

func (s *disks) AwaitSnapshot(
	ctx context.Context, namespace, name string, done func(backup.VolumeSnapshot) (bool, error),
) (backup.VolumeSnapshot, error) {
	var last backup.VolumeSnapshot
	for _, state := range s.states {
		state.Namespace, state.Name, state.Holds = namespace, name, s.holds[name]
		last = state
		if ended, err := done(state); ended || err != nil {
			return last, err
		}
	}
	if s.awaitErr != nil {
		return last, s.awaitErr
	}
	<-ctx.Done()
	return last, operation.Errorf(operation.TimedOut, "waiting for it: %w", context.Cause(ctx))
}

func (s *disks) DeleteSnapshot(_ context.Context, _, name string) error {
	s.deleted = append(s.deleted, name)
	return s.deleteErr
}

func (s *disks) ListSnapshots(context.Context, string, string) ([]backup.VolumeSnapshot, error) {
	return nil, nil
}

func (s *disks) Lock(ctx context.Context, _ *operation.Deployment) (context.Context, func(), error) {
	s.events = append(s.events, "lock")
	return ctx, func() { s.events = append(s.events, "unlock") }, nil
}

func (s *disks) Save(_ context.Context, _ *operation.Deployment, i operation.Instance, _ operation.Reporter) (backup.Saved, error) {
	s.saved = append(s.saved, i.Name)
	s.events = append(s.events, "save "+i.Name)
	return backup.Saved{Path: "/data/dump.rdb"}, s.saveErr
}

func (s *disks) ReadFile(context.Context, *operation.Deployment, operation.Instance, string, backup.ReadOptions) (operation.File, error) {
	return nil, errors.New("no file is read")
}

func (s *disks) FreeSpace(context.Context, *operation.Deployment, operation.Instance, string) (int64, error) {
	return s.free, s.freeErr
}

func (s *disks) Step(format string, args ...any) {
	s.said = append(s.said, fmt.Sprintf(format, args...))
}
func (s *disks) Note(format string, args ...any) {
	s.said = append(s.said, fmt.Sprintf(format, args...))
}
func (s *disks) Warn(format string, args ...any) {
	s.said = append(s.said, fmt.Sprintf(format, args...))
}
func (s *disks) Progress(operation.Progress) {}

func (s *disks) run(t *testing.T, o backup.VolumeOptions) ([]backup.VolumeSnapshot, error) {
	t.Helper()
	if o.Ready == 0 {
		o.Ready = time.Minute
	}
	o.Timeout = time.Second
	plan, err := s.Plan(t.Context(), s.d, o)
	require.NoError(t, err)
	return s.Apply(t.Context(), plan)
}

// The primary's data is saved and its volume taken under the lock, which is not held
// while the storage copies.
func TestVolumeOfThePrimary(t *testing.T) {
	s := newDisks()
	made, err := s.run(t, backup.VolumeOptions{Name: "nightly"})
	require.NoError(t, err)
	assert.Equal(t, []string{"lock", "save cache-redis-0", "create data-cache-redis-0 snap", "unlock"}, s.events)
	require.Len(t, made, 1)
	assert.Equal(t, "nightly", made[0].Name)
	assert.Equal(t, "content", made[0].Content)
	holds := made[0].Holds
	assert.Equal(t, backup.PersistenceRDB, holds.Persistence)
	assert.Equal(t, "cache-redis-0", holds.Instance)
	assert.Equal(t, "primary", holds.Role)
	assert.EqualValues(t, 1000, holds.ReplicationOffset)
	assert.Equal(t, []redis.DBKeys{{DB: 0, Keys: 10}}, holds.Keys)
	text, err := holds.Encode()
	require.NoError(t, err)
	assert.Equal(t, holds, backup.ParseVolumeContents(text))
	assert.Nil(t, backup.ParseVolumeContents("{"))
	assert.Empty(t, s.deleted)
}

func TestVolumesOfAll(t *testing.T) {
	s := newDisks()
	made, err := s.run(t, backup.VolumeOptions{All: true, Name: "n"})
	require.NoError(t, err)
	assert.Len(t, made, 2)
	assert.Equal(t, []string{"n-cache-redis-0", "n-cache-redis-1"}, s.created)

	s = newDisks()
	s.d.Workload.Volume = operation.Volume{Kind: operation.VolumeExistingClaim, Claim: "mine"}
	_, err = s.run(t, backup.VolumeOptions{All: true, Name: "n"})
	require.NoError(t, err)
	assert.Len(t, s.created, 1, "several pods share the claim")
}

// With an append-only file nothing is saved: what was written must have been synced.
func TestVolumeWithAOF(t *testing.T) {
	with := func(fields map[string]string, config map[string]string) *disks {
		s := newDisks()
		s.fleet["cache-redis-0"].Set(map[string]string{"aof_enabled": "1", "aof_pending_bio_fsync": "0"}).Set(fields).Config = config
		return s
	}
	synctest.Test(t, func(t *testing.T) {
		s := with(nil, map[string]string{"appendfsync": "everysec"})
		begin := time.Now()
		made, err := s.run(t, backup.VolumeOptions{})
		require.NoError(t, err)
		assert.Empty(t, s.saved)
		assert.Equal(t, backup.PersistenceAOF, made[0].Holds.Persistence)
		assert.GreaterOrEqual(t, time.Since(begin), 2*time.Second, "a sync begins once in a second")
	})
	synctest.Test(t, func(t *testing.T) {
		s := with(nil, map[string]string{"appendfsync": "always"})
		begin := time.Now()
		_, err := s.run(t, backup.VolumeOptions{})
		require.NoError(t, err)
		assert.Less(t, time.Since(begin), time.Second)
	})
	for field, value := range map[string]string{
		"aof_pending_bio_fsync": "1", "aof_rewrite_in_progress": "1", "aof_rewrite_scheduled": "1", "rdb_bgsave_in_progress": "1",
	} {
		synctest.Test(t, func(t *testing.T) {
			s := with(map[string]string{field: value}, map[string]string{"appendfsync": "everysec"})
			ended := time.AfterFunc(time.Minute, func() { s.fleet["cache-redis-0"].Set(map[string]string{field: "0"}) })
			defer ended.Stop()
			begin := time.Now()
			_, err := s.run(t, backup.VolumeOptions{})
			require.NoError(t, err)
			assert.GreaterOrEqual(t, time.Since(begin), time.Minute, field)
		})
	}
	synctest.Test(t, func(t *testing.T) {
		s := with(nil, map[string]string{"appendfsync": "everysec"})
		time.AfterFunc(time.Second, func() { s.fleet["cache-redis-0"].Set(map[string]string{"aof_last_write_status": "err"}) })
		_, err := s.run(t, backup.VolumeOptions{})
		require.ErrorContains(t, err, "aof_last_write_status:err")
		assert.Empty(t, s.created)
		var e *operation.Error
		require.ErrorAs(t, err, &e)
		assert.Contains(t, e.Next, "--as-is")
	})
	s := with(nil, map[string]string{"appendfsync": "no"})
	_, err := s.run(t, backup.VolumeOptions{})
	require.NoError(t, err)
	plan, err := s.Plan(t.Context(), s.d, backup.VolumeOptions{Timeout: time.Second})
	require.NoError(t, err)
	assert.Equal(t, "sync-left-to-system", plan.Findings[0].Code)
}

// What stands in the way is found before anything is done.
func TestVolumeFindings(t *testing.T) {
	for name, test := range map[string]struct {
		change   func(*disks)
		options  backup.VolumeOptions
		code     string
		override backup.VolumeOptions
		says     string
	}{
		"no volume": {change: func(s *disks) { s.d.Workload.Volume.Kind = operation.VolumeNone }, code: "no-volume"},
		"no API": {
			change: func(s *disks) { s.classes, s.classesErr = nil, backup.ErrNoSnapshots }, code: "no-snapshot-api",
			says: "snapshot.storage.k8s.io/v1 is missing",
		},
		"not bound":   {change: func(s *disks) { s.claim.Phase = "Pending" }, code: "claim-not-bound", says: "Pending"},
		"not CSI":     {change: func(s *disks) { s.claim.Type = "hostPath" }, code: "not-csi", says: "hostPath"},
		"no class":    {change: func(s *disks) { s.claim.Driver = "new.example" }, code: "no-class", says: "snap (driver disk.example), other (driver file.example)"},
		"wrong class": {options: backup.VolumeOptions{Class: "other"}, code: "wrong-class", says: "file.example"},
		"no such":     {options: backup.VolumeOptions{Class: "gold"}, code: "no-such-class", says: "snap (driver"},
		"several": {
			change: func(s *disks) {
				s.classes = append(s.classes, backup.SnapshotClass{Name: "slow", Driver: "disk.example"})
			},
			code: "several-classes", says: "snap (driver disk.example), slow (driver disk.example)", override: backup.VolumeOptions{Class: "slow"},
		},
		"driver not known": {
			change: func(s *disks) { s.claim.Driver, s.claim.Type = "", "" },
			code:   "several-classes", override: backup.VolumeOptions{Class: "snap"},
		},
		"no answer": {
			change: func(s *disks) { delete(s.fleet, "cache-redis-0") }, options: backup.VolumeOptions{Instance: "cache-redis-0"},
			code: "not-asked", override: backup.VolumeOptions{Instance: "cache-redis-0", AsIs: true},
		},
		"loading": {
			change: func(s *disks) { s.fleet["cache-redis-0"].Set(map[string]string{"loading": "1"}) },
			code:   "loading", override: backup.VolumeOptions{AsIs: true},
		},
		"AOF failed": {
			change: func(s *disks) {
				s.fleet["cache-redis-0"].Set(map[string]string{"aof_enabled": "1", "aof_last_write_status": "err"})
			},
			code: "aof-write-failed", override: backup.VolumeOptions{AsIs: true},
		},
		"no room": {
			change: func(s *disks) { s.free = 1 }, code: "no-space-for-save", override: backup.VolumeOptions{IgnoreSpace: true},
		},
		"stale": {
			change:  func(s *disks) { s.fleet["cache-redis-1"].Set(map[string]string{"master_link_status": "down"}) },
			options: backup.VolumeOptions{Instance: "cache-redis-1"}, code: "source-is-stale",
			override: backup.VolumeOptions{Instance: "cache-redis-1", AllowStale: true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newDisks()
			if test.change != nil {
				test.change(s)
			}
			_, err := s.run(t, test.options)
			require.ErrorContains(t, err, test.code)
			assert.Equal(t, operation.Refused, operation.KindOf(err))
			assert.ErrorContains(t, err, test.says)
			assert.Empty(t, s.events)
			if test.override != (backup.VolumeOptions{}) {
				_, err := s.run(t, test.override)
				require.NoError(t, err)
				assert.Len(t, s.created, 1)
			}
		})
	}
}

func TestVolumeChoosesTheDefaultClass(t *testing.T) {
	s := newDisks()
	s.classes = append(s.classes, backup.SnapshotClass{Name: "usual", Driver: "disk.example", Default: true})
	_, err := s.run(t, backup.VolumeOptions{})
	require.NoError(t, err)
	assert.Contains(t, s.events, "create data-cache-redis-0 usual")
}

func TestVolumePlanErrors(t *testing.T) {
	denied := &operation.Error{Kind: operation.Denied, Err: errors.New("not allowed to list volumesnapshotclasses"), Next: "ask for it"}
	for name, test := range map[string]struct {
		change  func(*disks)
		options backup.VolumeOptions
		kind    operation.Kind
		says    string
	}{
		"plain address": {change: func(s *disks) { s.d.Workload = nil }, kind: operation.Usage, says: "no volumes"},
		"no such pod":   {options: backup.VolumeOptions{Instance: "x"}, kind: operation.Usage, says: "cache-redis-0, cache-redis-1"},
		"a bad name":    {options: backup.VolumeOptions{Name: "Has Blanks"}, kind: operation.Usage, says: "--name"},
		"no permission": {change: func(s *disks) { s.denied = denied }, kind: operation.Denied, says: "not allowed"},
		"no classes":    {change: func(s *disks) { s.classesErr = denied }, kind: operation.Denied, says: "volumesnapshotclasses"},
		"no claim":      {change: func(s *disks) { s.claimErr = operation.Errorf(operation.Failed, "claim absent") }, kind: operation.Failed, says: "claim absent"},
		"two primaries": {change: func(s *disks) { s.fleet["cache-redis-1"] = operationtest.Primary() }, kind: operation.Refused, says: "primaries"},
		"none is alive": {change: func(s *disks) { clear(s.fleet) }, kind: operation.Refused, says: "no answer from"},
		"independent": {
			change: func(s *disks) {
				s.d.Workload.ServiceName = s.d.Workload.Name
				s.fleet["cache-redis-0"], s.fleet["cache-redis-1"] = operationtest.Primary(), operationtest.Primary().Set(map[string]string{"master_replid": "b"})
			},
			kind: operation.Usage, says: "--all-claims",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newDisks()
			if test.change != nil {
				test.change(s)
			}
			test.options.Timeout = time.Second
			_, err := s.Plan(t.Context(), s.d, test.options)
			require.ErrorContains(t, err, test.says)
			assert.Equal(t, test.kind, operation.KindOf(err))
		})
	}
	s := newDisks()
	s.classesErr = denied
	_, err := s.run(t, backup.VolumeOptions{Class: "snap"})
	require.NoError(t, err, "the class was named")
	s.freeErr = denied
	_, err = s.run(t, backup.VolumeOptions{Class: "snap"})
	require.NoError(t, err, "executing in pods is not needed")
}

// A name that is taken is noticed before the server is made to save.
func TestVolumeNameTaken(t *testing.T) {
	s := newDisks()
	s.taken = "nightly"
	plan, err := s.Plan(t.Context(), s.d, backup.VolumeOptions{Name: "nightly", Timeout: time.Second})
	require.NoError(t, err)
	assert.ErrorContains(t, plan.Refusal(), "name-taken")
	plan, err = s.Plan(t.Context(), s.d, backup.VolumeOptions{Name: "weekly", Timeout: time.Second})
	require.NoError(t, err)
	assert.NoError(t, plan.Refusal())
	// A second one within a second has a name of its own.
	plan, err = s.Plan(t.Context(), s.d, backup.VolumeOptions{Timeout: time.Second})
	require.NoError(t, err)
	s.taken = plan.Snapshots[0].Name
	plan, err = s.Plan(t.Context(), s.d, backup.VolumeOptions{Timeout: time.Second})
	require.NoError(t, err)
	assert.NoError(t, plan.Refusal())
	assert.Equal(t, s.taken+"-2", plan.Snapshots[0].Name)
}

// A snapshot that was not taken is removed, one that was stays.
func TestVolumeFailures(t *testing.T) {
	kindAndNext := func(err error) (operation.Kind, string, string) {
		var e *operation.Error
		require.ErrorAs(t, err, &e)
		return e.Kind, e.Unchanged, e.Next
	}
	t.Run("the save fails", func(t *testing.T) {
		s := newDisks()
		s.saveErr = operation.Errorf(operation.Failed, "no space left")
		_, err := s.run(t, backup.VolumeOptions{})
		kind, unchanged, next := kindAndNext(err)
		assert.Equal(t, operation.Failed, kind)
		assert.Contains(t, unchanged, "no backup was stored")
		assert.Contains(t, next, "--as-is")
		assert.Empty(t, s.created)
		assert.Contains(t, s.events, "unlock")
	})
	t.Run("the storage fails for good", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newDisks()
			s.states = []backup.VolumeSnapshot{{}, {Problem: "the pool is full"}}
			begin := time.Now()
			_, err := s.run(t, backup.VolumeOptions{Name: "n"})
			require.ErrorContains(t, err, "the pool is full")
			kind, unchanged, _ := kindAndNext(err)
			assert.Equal(t, operation.Failed, kind)
			assert.Contains(t, unchanged, "removed again")
			assert.Equal(t, []string{"n"}, s.deleted)
			assert.Less(t, time.Since(begin), time.Minute, "not only at the time limit")
		})
	})
	t.Run("the storage fails once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newDisks()
			s.states = append([]backup.VolumeSnapshot{{Problem: "try again"}}, s.states...)
			_, err := s.run(t, backup.VolumeOptions{})
			require.NoError(t, err)
			assert.Contains(t, fmt.Sprint(s.said), "try again")
		})
	})
	t.Run("not taken in time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newDisks()
			s.states = s.states[:1]
			_, err := s.run(t, backup.VolumeOptions{Name: "n"})
			kind, _, _ := kindAndNext(err)
			assert.Equal(t, operation.TimedOut, kind)
			assert.Equal(t, []string{"n"}, s.deleted)
		})
	})
	t.Run("taken, not ready in time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newDisks()
			s.states = s.states[:2]
			_, err := s.run(t, backup.VolumeOptions{Name: "n"})
			kind, unchanged, next := kindAndNext(err)
			assert.Equal(t, operation.TimedOut, kind)
			assert.Contains(t, unchanged, "stays")
			assert.Contains(t, next, "kubectl -n prod delete volumesnapshot n")
			assert.Empty(t, s.deleted)
		})
	})
	t.Run("Ctrl-C before it is taken", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newDisks()
			s.states = s.states[:1]
			s.deleteErr = errors.New("gone away")
			ctx, cancel := context.WithCancel(t.Context())
			plan, err := s.Plan(ctx, s.d, backup.VolumeOptions{All: true, Name: "n", Ready: time.Hour, Timeout: time.Second})
			require.NoError(t, err)
			time.AfterFunc(time.Second, cancel)
			_, err = s.Apply(ctx, plan)
			kind, unchanged, next := kindAndNext(err)
			assert.Equal(t, operation.Interrupted, kind)
			assert.Contains(t, unchanged, "could not be removed: gone away")
			assert.Contains(t, next, "kubectl -n prod delete volumesnapshot n-cache-redis-0")
			assert.Equal(t, []string{"n-cache-redis-0"}, s.created, "the second is not begun")
		})
	})
	t.Run("Ctrl-C while it is created", func(t *testing.T) {
		s := newDisks()
		s.states = s.states[:1]
		ctx, cancel := context.WithCancel(t.Context())
		s.creating = cancel
		plan, err := s.Plan(ctx, s.d, backup.VolumeOptions{Name: "n", Ready: time.Hour, Timeout: time.Second})
		require.NoError(t, err)
		_, err = s.Apply(ctx, plan)
		kind, _, _ := kindAndNext(err)
		assert.Equal(t, operation.Interrupted, kind)
		assert.Equal(t, []string{"n"}, s.created)
		assert.Equal(t, []string{"n"}, s.deleted, "nothing is left")
	})
	t.Run("one of two", func(t *testing.T) {
		s := newDisks()
		s.d.Instances[1].Name = "cache-redis-1"
		s.fleet["cache-redis-1"].Set(map[string]string{"aof_enabled": "1"}).Config = map[string]string{"appendfsync": "always"}
		s.saveErr = operation.Errorf(operation.Failed, "no space left")
		made, err := s.run(t, backup.VolumeOptions{All: true, Name: "n"})
		assert.Equal(t, operation.Partial, operation.KindOf(err))
		require.Len(t, made, 1)
		assert.Equal(t, "n-cache-redis-1", made[0].Name)
	})
}
