package backup_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/backup"
	"github.com/redisctl/redisctl/internal/rdb/rdbtest"
	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/snapshot/codec"
	"github.com/redisctl/redisctl/internal/storage/folder"
	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

// errCut is what a connection that was cut amounts to.
var errCut = errors.New("the connection was cut")

// cutAfter yields n bytes of r and then fails.
func cutAfter(r io.Reader, n int64) io.Reader {
	return io.MultiReader(io.LimitReader(r, n), failing{errCut})
}

// leftovers lists what is stored under no final name.
func leftovers(t *testing.T, root string) []string {
	t.Helper()
	var found []string
	require.NoError(t, filepath.WalkDir(root, func(name string, _ os.DirEntry, err error) error {
		if strings.HasSuffix(name, folder.TempSuffix) {
			found = append(found, name)
		}
		return err
	}))
	return found
}

// big returns an RDB file of some MiB; those of different seeds have the same size.
func big(seed byte) []byte {
	random := rand.NewChaCha8([32]byte{seed})
	value := make([]byte, 100_000)
	return rdbtest.File(rdbtest.Redis70, func(w *rdbtest.Writer) {
		const keys = 40
		w.SelectDB(0).ResizeDB(keys, 0)
		for i := range keys {
			_, _ = random.Read(value) // never fails
			w.String(strings.Repeat("k", i+1), string(value))
		}
	})
}

// interrupted is a world in which the copy of what BGSAVE wrote ended in its middle.
func interrupted(t *testing.T, change func(*world)) (w *world, whole []byte) {
	t.Helper()
	whole = big(1)
	w = newWorld(t)
	w.Store = folder.New(w.root)
	for i := range w.deployment.Instances {
		w.deployment.Instances[i].Pod = &operation.Pod{UID: w.deployment.Instances[i].Name + "-uid", ContainerRunning: true}
	}
	w.state = operation.FileState{Inode: "77", Modified: "1700000000"}
	w.size = int64(len(whole))
	w.data, w.dataErr = whole[:len(whole)/2], errCut
	if change != nil {
		change(w)
	}
	_, err := w.save(t, false)
	require.ErrorIs(t, err, errCut)
	assert.Empty(t, w.files(t), "nothing has a final name")
	w.data, w.dataErr, w.said = whole, nil, nil
	return w, whole
}

func (w *world) save(t *testing.T, resume bool) (*snapshot.Manifest, error) {
	t.Helper()
	plan, err := w.Plan(t.Context(), w.deployment, options(func(o *backup.Options) {
		o.Method, o.Resume = backup.MethodBgsave, resume
	}))
	require.NoError(t, err)
	return w.Apply(t.Context(), plan)
}

func (w *world) stored(t *testing.T, m *snapshot.Manifest) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(w.root, "prod", "cache", m.Files[0].Name))
	require.NoError(t, err)
	return data
}

func TestInterruptedCopyGoesOn(t *testing.T) {
	w, whole := interrupted(t, nil)
	require.Len(t, leftovers(t, w.root), 2, "what arrived, and what it is of")
	plan, err := w.Plan(t.Context(), w.deployment, options(func(o *backup.Options) { o.Method = backup.MethodBgsave }))
	require.NoError(t, err)
	require.NotEmpty(t, plan.Findings)
	assert.Equal(t, "interrupted-copy", plan.Findings[len(plan.Findings)-1].Code)

	// Interrupted once more, closer to its end.
	w.data, w.dataErr = whole[:len(whole)*3/4], errCut
	_, err = w.save(t, true)
	require.ErrorIs(t, err, errCut)
	w.data, w.dataErr = whole, nil
	w.said = nil

	m, err := w.save(t, true)
	require.NoError(t, err)
	assert.Equal(t, 1, w.saves, "the data is that of the first save")
	assert.Contains(t, strings.Join(w.said, "\n"), "going on with the copy of /data/dump.rdb that was interrupted after 2.9 MiB of 3.8 MiB")
	assert.True(t, bytes.Equal(whole, w.stored(t, m)))
	assert.Equal(t, int64(40), m.RDB().RDB.Keys)
	assert.Empty(t, leftovers(t, w.root))
	assert.Less(t, m.CreatedAt, w.now.Add(-10*time.Second), "it is as old as the first save")
	entry, err := snapshot.Find(t.Context(), w.Store, snapshot.Filter{}, m.ID)
	require.NoError(t, err)
	_, err = snapshot.Verify(t.Context(), w.Store, entry, snapshot.VerifyOptions{})
	require.NoError(t, err)
}

// A copy goes on only when everything that is known of the file is the same. Otherwise
// it begins anew, says why, and leaves nothing of the old one.
func TestInterruptedCopyOfAnotherFileBeginsAnew(t *testing.T) {
	for why, c := range map[string]struct {
		before func(*world)
		after  func(t *testing.T, w *world)
	}{
		"the server has replaced the file":        {after: func(_ *testing.T, w *world) { w.state.Inode = "78" }},
		"the file was written to since":           {after: func(_ *testing.T, w *world) { w.state.Modified = "1700000001" }},
		"bytes now, it had":                       {after: func(_ *testing.T, w *world) { w.size++ }},
		"the server's file begins with something": {after: func(_ *testing.T, w *world) { w.data = big(2) }},
		"its identity cannot be told": {
			before: func(w *world) { w.state = operation.FileState{} },
		},
		"there is no interrupted copy to go on with": {
			after: func(_ *testing.T, w *world) {
				for i := range w.deployment.Instances {
					w.deployment.Instances[i].Pod = &operation.Pod{UID: "another", ContainerRunning: true}
				}
			},
		},
		"what is here was damaged, so that the server's file begins with something": {
			after: func(t *testing.T, w *world) {
				for _, name := range leftovers(t, w.root) {
					if !strings.Contains(name, ".origin.") {
						file, err := os.OpenFile(name, os.O_RDWR, 0)
						require.NoError(t, err)
						_, err = file.WriteAt([]byte("damage"), 1000)
						require.NoError(t, errors.Join(err, file.Close()))
					}
				}
			},
		},
	} {
		t.Run(why, func(t *testing.T) {
			w, _ := interrupted(t, c.before)
			if c.after != nil {
				c.after(t, w)
			}
			m, err := w.save(t, true)
			require.NoError(t, err)
			assert.Equal(t, 2, w.saves, "it was saved anew")
			said := strings.Join(w.said, "\n")
			if _, expected, ok := strings.Cut(why, "so that "); ok {
				assert.Contains(t, said, expected)
			} else {
				assert.Contains(t, said, why)
			}
			assert.True(t, bytes.Equal(w.data, w.stored(t, m)))
			assert.Empty(t, leftovers(t, w.root))
		})
	}
}

// Without --resume a save is anew, and what was left is removed.
func TestInterruptedCopyIsNotResumedUnasked(t *testing.T) {
	w, whole := interrupted(t, nil)
	m, err := w.save(t, false)
	require.NoError(t, err)
	assert.Equal(t, 2, w.saves)
	assert.True(t, bytes.Equal(whole, w.stored(t, m)))
	assert.Empty(t, leftovers(t, w.root))
}

// What is compressed is not kept: nothing could be appended to it.
func TestCompressedCopyIsNotKept(t *testing.T) {
	w, _ := interrupted(t, func(w *world) { w.Encoding = codec.Encoding{Level: codec.Default} })
	assert.Empty(t, leftovers(t, w.root))
	assert.NotContains(t, strings.Join(w.said, "\n"), "are kept")
}

// The parts of an append-only file that have arrived are not copied again, whether the
// copy ended in a part that the server has finished or in the one that still grows.
func TestInterruptedAOFGoesOn(t *testing.T) {
	for _, version := range redisserver.Versions(t) {
		for _, during := range []string{"base", "incr"} {
			if version == redisserver.Redis60 && during == "base" {
				continue // it has one file
			}
			t.Run(version+" "+during, func(t *testing.T) {
				t.Parallel()
				testInterruptedAOF(t, version, during)
			})
		}
	}
}

func testInterruptedAOF(t *testing.T, version, during string) {
	n := newNode(t, version)
	write := func(prefix string) {
		value := make([]byte, 1<<20)
		_, _ = rand.NewChaCha8([32]byte{2}).Read(value) // never fails
		for i := range 4 {
			require.NoError(t, n.server.Client().Set(t.Context(), prefix+string(rune('a'+i)), value, 0).Err())
		}
	}
	write("old:")
	if version != redisserver.Redis60 {
		n.rewrite()
	}
	write("new:")
	const arrived = 3 << 20
	n.cut = func(name string, r io.Reader) io.Reader {
		if strings.Contains(name, during) || version == redisserver.Redis60 {
			return cutAfter(r, arrived)
		}
		return r
	}
	_, err := n.backup()
	require.ErrorIs(t, err, errCut)
	assert.Contains(t, strings.Join(n.said, "\n"), "are kept for a day: the next redisctl backup aof goes on with them")
	entries, err := snapshot.List(t.Context(), n.Store, snapshot.Filter{})
	require.NoError(t, err)
	assert.Empty(t, entries)

	write("later:") // the last part has grown meanwhile
	n.cut, n.reads = nil, nil
	m, err := n.backup()
	require.NoError(t, err)
	continued := 0
	for _, read := range n.reads {
		if !strings.HasSuffix(read, " from 0") {
			continued++
		}
	}
	want := 1
	if during == "incr" && version != redisserver.Redis60 {
		want = 2 // the base is here already, and has nothing more to come
	}
	assert.Equal(t, want, continued, "%s", n.reads)
	assert.Empty(t, leftovers(t, n.root))
	n.verify(m)
	require.NoError(t, redisserver.Compare(t.Context(), n.server.Client(), n.load(m).Client()))
}

// A rewrite puts other files in the place of those that a copy was interrupted in.
func TestInterruptedAOFAfterARewriteBeginsAnew(t *testing.T) {
	for _, version := range redisserver.Versions(t) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, version)
			value := make([]byte, 3<<20)
			_, _ = rand.NewChaCha8([32]byte{3}).Read(value) // never fails
			require.NoError(t, n.server.Client().Set(t.Context(), "a", value, 0).Err())
			n.cut = func(_ string, r io.Reader) io.Reader { return cutAfter(r, 2<<20) }
			_, err := n.backup()
			require.ErrorIs(t, err, errCut)
			n.rewrite()
			n.cut = nil
			m, err := n.backup()
			require.NoError(t, err)
			n.verify(m)
			require.NoError(t, redisserver.Compare(t.Context(), n.server.Client(), n.load(m).Client()))
		})
	}
}
