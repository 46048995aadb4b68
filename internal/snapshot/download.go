package snapshot

import (
	"context"
	"errors"

	"github.com/redisctl/redisctl/internal/snapshot/codec"
	"github.com/redisctl/redisctl/internal/storage"
)

// Download says that the contents of a file can be fetched again from any byte on, so
// that what has arrived is worth keeping when the rest does not.
type Download struct {
	// Origin says where the contents come from, see storage.Resumer.
	Origin string
	// Partial is what the contents begin with; nil to begin anew. It is used up.
	Partial storage.Unfinished
	// Kept is set by Create when it fails: how many bytes were kept.
	Kept int64
}

// Resumable returns store if downloads to it can be interrupted: not when they are
// compressed or encrypted, because nothing can be appended to such a file, and what is
// encrypted must not lie about in plain.
func Resumable(store storage.Store, encoding codec.Encoding) (storage.Resumer, bool) {
	r, ok := store.(storage.Resumer)
	return r, ok && len(encoding.Codecs()) == 0
}

// createObject starts the object of a file that is stored as it is.
func (d *Download) createObject(ctx context.Context, store storage.Store, name string, encoding codec.Encoding) (storage.Writer, error) {
	if d != nil {
		if d.Partial != nil {
			return d.Partial.Resume(ctx, name, d.Origin)
		}
		if r, ok := Resumable(store, encoding); ok {
			return r.CreateResumable(ctx, name, d.Origin)
		}
	}
	return store.Create(ctx, name, storage.CreateOptions{})
}

// worthKeeping is how many bytes must have arrived: fewer are fetched again in no time.
const worthKeeping = 1 << 20

// Suspend is Abort for a file that can be gone on with: it keeps what has arrived and
// returns its size in bytes. Other files, and those with less than 1 MiB, it aborts.
func (w *FileWriter) Suspend() int64 {
	r, ok := w.Writer.(storage.ResumableWriter)
	if !ok || w.contents.bytes < worthKeeping {
		w.Abort()
		return 0
	}
	kept := r.Suspend()
	w.Abort() // ends what is left
	return kept
}

// end ends a file whose contents could not be received.
func (w *FileWriter) end(err error) int64 {
	if errors.Is(err, ErrCorrupt) || errors.Is(err, ErrUnsupported) {
		w.Abort() // the next attempt would fail alike
		return 0
	}
	return w.Suspend()
}

// Suspend is Abort for a set that can be gone on with: files with a Download are kept.
// It returns how many bytes of them there are, also of one that Add has failed to add.
func (s *Set) Suspend() int64 {
	if s.published {
		return 0
	}
	kept := s.kept
	for _, w := range s.writers {
		kept += w.Suspend()
	}
	s.m.Files, s.writers, s.kept = nil, nil, 0
	return kept
}
