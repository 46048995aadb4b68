package prune_test

import (
	"bytes"
	"context"
	"errors"
	"path"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/prune"
	"github.com/redisctl/redisctl/internal/rdb/rdbtest"
	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/snapshot/retention"
	"github.com/redisctl/redisctl/internal/storage"
	"github.com/redisctl/redisctl/internal/storage/folder"
	"github.com/redisctl/redisctl/internal/storage/storagetest"
)

const (
	dir = "redis-prod/cache"
	day = 24 * time.Hour
)

var now = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

// world is a store with backups, and what goes wrong in it.
type world struct {
	storage.Store
	t      *testing.T
	remove func(name string) error
	list   error
}

func newWorld(t *testing.T) *world {
	return &world{Store: folder.New(filepath.Join(t.TempDir(), "backups")), t: t}
}

func (w *world) Remove(ctx context.Context, name string) error {
	if w.remove != nil {
		if err := w.remove(name); err != nil {
			return err
		}
	}
	return w.Store.Remove(ctx, name)
}

func (w *world) List(ctx context.Context, prefix string) ([]storage.Info, error) {
	objects, err := w.Store.List(ctx, prefix)
	return objects, errors.Join(err, w.list)
}

// backup makes a backup of the given age and returns its id.
func (w *world) backup(dir string, age time.Duration) string {
	at := now.Add(-age)
	file := rdbtest.File(rdbtest.Redis72, func(w *rdbtest.Writer) { w.SelectDB(0).String("k", "v") })
	m, err := snapshot.Create(w.t.Context(), w.Store, dir, bytes.NewReader(file), snapshot.CreateOptions{
		Version: "0.1.0", Source: snapshot.Source{Instance: "i", Role: "primary", Product: "redis", Version: "7.0.15", Method: "stream"},
		Now: func() time.Time { return at },
	})
	require.NoError(w.t, err)
	return m.ID
}

func (w *world) verify(id string) {
	e, err := snapshot.Find(w.t.Context(), w.Store, snapshot.Filter{}, id)
	require.NoError(w.t, err)
	require.NoError(w.t, snapshot.RecordVerification(w.t.Context(), w.Store, e, now, "0.1.0", false))
}

func (w *world) ids() []string {
	entries, err := snapshot.List(w.t.Context(), w.Store, snapshot.Filter{})
	require.NoError(w.t, err)
	ids := []string{}
	for _, e := range entries {
		ids = append(ids, e.ID)
	}
	return ids
}

func (w *world) op() prune.Prune {
	return prune.Prune{Store: w, Reporter: operation.DiscardReporter{}, Now: func() time.Time { return now }, Version: "0.1.0"}
}

func (w *world) plan(policy retention.Policy) *prune.Plan {
	plan, err := w.op().Plan(w.t.Context(), prune.Options{Policy: policy})
	require.NoError(w.t, err)
	return plan
}

func removed(r *prune.Result) []string {
	ids := []string{}
	for _, i := range r.Removed {
		ids = append(ids, i.ID)
	}
	return ids
}

func TestPrune(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.backup(dir, 0), w.backup(dir, day), w.backup(dir, 2*day)
	other := w.backup("redis-stage/cache", 300*day)
	w.verify(c)
	plan := w.plan(retention.Policy{Last: 1})
	assert.Equal(t, 1, plan.Remove)
	require.Len(t, plan.Groups, 2)
	assert.Equal(t, []string{"redis-prod/cache", "redis-stage/cache"}, []string{plan.Groups[0].Folder, plan.Groups[1].Folder})
	assert.Len(t, w.ids(), 4, "a plan removes nothing")

	r, err := w.op().Apply(t.Context(), plan)
	require.NoError(t, err)
	assert.Equal(t, []string{b}, removed(r))
	assert.Equal(t, 3, r.Kept)
	assert.Equal(t, plan.Size, r.Size)
	assert.Positive(t, r.Size)
	assert.Equal(t, []string{a, c, other}, w.ids(), "the newest, the verified one, and each release by itself")

	assert.Zero(t, w.plan(retention.Policy{Last: 1}).Remove, "a second time there is nothing left to do")
	_, err = w.op().Plan(t.Context(), prune.Options{})
	require.ErrorIs(t, err, retention.ErrKeepsNothing)
	assert.Equal(t, operation.Usage, operation.KindOf(err))
}

func TestWhatIsNoBackup(t *testing.T) {
	w := newWorld(t)
	intact := w.backup(dir, 0)
	lost := map[string]string{} // state by id
	for _, age := range []time.Duration{time.Hour, 2 * day} {
		id := w.backup(dir, age)
		require.NoError(t, w.Store.Remove(t.Context(), path.Join(dir, id+".manifest.json")))
		lost[id] = "incomplete " + age.String()
	}
	damaged := w.backup(dir, 3*day)
	storagetest.Put(t, w.Store, path.Join(dir, damaged+".rdb"), []byte("short"), storage.CreateOptions{Overwrite: true})
	newer := w.backup(dir, 4*day)
	storagetest.Put(t, w.Store, path.Join(dir, newer+".manifest.json"), []byte(`{"apiVersion":"redisctl/v9"}`), storage.CreateOptions{Overwrite: true})
	storagetest.Put(t, w.Store, dir+"/dump.rdb", []byte("REDIS"), storage.CreateOptions{})
	begun := w.backup(dir, 5*day)
	storagetest.Put(t, w.Store, path.Join(dir, begun+".removing.json"), []byte(`{}`), storage.CreateOptions{})

	r, err := w.op().Apply(t.Context(), w.plan(retention.Policy{Last: 1}))
	require.NoError(t, err)
	assert.Equal(t, []string{begun}, removed(r), "an interrupted removal is always finished, and nothing else is touched")

	r, err = w.op().Apply(t.Context(), w.plan(retention.Policy{Last: 1, Damaged: true}))
	require.NoError(t, err)
	left := w.ids()
	assert.Len(t, left, 4)
	assert.Subset(t, left, []string{intact, newer, "dump"})
	for id, state := range lost {
		assert.Equal(t, state == "incomplete 1h0m0s", len(r.Removed) == 2 && slices.Contains(left, id), "what may still be running is kept: %s", state)
	}
}

// Between plan and consent the world goes on.
func TestThePlanIsCheckedAgain(t *testing.T) {
	for name, change := range map[string]func(w *world, newest, old string){
		"what protected it is gone": func(w *world, newest, _ string) {
			require.NoError(w.t, w.Store.Remove(w.t.Context(), path.Join(dir, newest+".rdb")))
		},
		"it was verified": func(w *world, _, old string) { w.verify(old) },
		"it is another one": func(w *world, _, old string) {
			id := w.backup("elsewhere/x", 0)
			storagetest.Put(w.t, w.Store, path.Join(dir, old+".manifest.json"),
				storagetest.Get(w.t, w.Store, "elsewhere/x/"+id+".manifest.json"), storage.CreateOptions{Overwrite: true})
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			newest, old := w.backup(dir, 0), w.backup(dir, day)
			plan := w.plan(retention.Policy{Last: 1})
			change(w, newest, old)
			_, err := w.op().Apply(t.Context(), plan)
			assert.Equal(t, operation.Refused, operation.KindOf(err), "%v", err)
			assert.Contains(t, w.ids(), old)
		})
	}
	w := newWorld(t)
	w.backup(dir, time.Hour)
	old := w.backup(dir, day)
	plan := w.plan(retention.Policy{Last: 1})
	w.backup(dir, 0)
	r, err := w.op().Apply(t.Context(), plan)
	require.NoError(t, err)
	assert.Equal(t, []string{old}, removed(r), "a new backup is no reason to refuse, nor to remove more than was shown")
}

func TestFailures(t *testing.T) {
	gone := errors.New("the network is gone")
	w := newWorld(t)
	w.backup(dir, 0)
	a, b := w.backup(dir, day), w.backup(dir, 2*day)
	w.list = gone
	_, err := w.op().Plan(t.Context(), prune.Options{Policy: retention.Policy{Last: 1}})
	require.ErrorIs(t, err, gone, "what is not seen might be what has to be kept")
	w.list = nil

	plan := w.plan(retention.Policy{Last: 1})
	w.remove = func(name string) error {
		if name == path.Join(dir, a+".rdb") {
			return gone
		}
		return nil
	}
	r, err := w.op().Apply(t.Context(), plan)
	assert.Equal(t, operation.Partial, operation.KindOf(err))
	require.ErrorIs(t, err, gone)
	assert.Equal(t, []string{b}, removed(r), "the others are removed all the same")
	require.Len(t, r.Failed, 1)
	assert.Contains(t, r.Failed[0].Error, "the network is gone")

	w.remove = nil
	r, err = w.op().Apply(t.Context(), w.plan(retention.Policy{Last: 99}))
	require.NoError(t, err)
	assert.Equal(t, []string{a}, removed(r), "the next one finishes it, whatever its policy")
	assert.Len(t, storagetest.Names(t, w.Store), 2)

	w.backup(dir, day)
	w.remove = func(string) error { return gone }
	_, err = w.op().Apply(t.Context(), w.plan(retention.Policy{Last: 1}))
	assert.Equal(t, operation.Failed, operation.KindOf(err), "nothing was removed")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = w.op().Apply(ctx, plan)
	assert.Equal(t, operation.Interrupted, operation.KindOf(err))
}
