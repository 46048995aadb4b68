package folder

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"

	"github.com/redisctl/redisctl/internal/storage"
)

// writer is a file that has no final name yet. It implements storage.Writer.
type writer struct {
	store     *Store
	ctx       context.Context // governs the writes, as storage.Store.Create says
	name      string
	base      string
	overwrite bool

	folder *os.Root // the one that holds temp and base
	handle *os.File // the same, for flushing and renaming
	file   *os.File
	temp   string // empty when there is no temporary file (any more)
	failed error  // the first failed Write
	// origin is the name of the file that tells the origin; empty for a Writer that
	// cannot be suspended.
	origin string
	skip   int64 // how many of the bytes to come are in the file already
	size   int64 // of the file as far as it is written
	begun  int64 // how much of it the system was asked to bring to the disk
}

// writeBack is after how many bytes the system is asked to begin with what it would
// otherwise leave for Commit: 200 MB take that a tenth of a second, in which nothing else
// is done.
const writeBack = 8 << 20

// enter holds the folder open: whatever happens to its path from here on, the temporary
// file and the final name are in the same folder.
func (w *writer) enter(root *os.Root, parent string) (err error) {
	if w.folder, err = root.OpenRoot(path.Clean(parent)); err != nil {
		return err
	}
	w.handle, err = w.folder.Open(".")
	return err
}

// vacant fails when the final name is taken.
func (w *writer) vacant() error {
	switch info, err := w.folder.Lstat(w.base); {
	case err == nil && info.IsDir():
		return errIsFolder
	case err == nil && !w.overwrite:
		return fs.ErrExist
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return nil
}

// Write implements storage.Writer.
func (w *writer) Write(p []byte) (int, error) {
	if w.failed != nil {
		return 0, w.failed
	}
	err := w.ctx.Err()
	here := int(min(w.skip, int64(len(p))))
	n := here
	if err == nil && here < len(p) {
		var written int
		written, err = w.file.Write(p[here:])
		n += written
	}
	w.skip -= int64(here)
	w.size += int64(n)
	if err != nil {
		w.failed = w.store.fail("write", w.name, err)
		return n, w.failed
	}
	if w.size-w.begun >= writeBack {
		beginWriteBack(w.file, w.begun, w.size-w.begun)
		w.begun = w.size
	}
	return n, nil
}

// Commit implements storage.Writer.
func (w *writer) Commit(ctx context.Context) error {
	defer w.Abort()
	if w.failed != nil {
		return w.failed
	}
	if err := w.commit(ctx); err != nil {
		return w.store.fail("commit", w.name, err)
	}
	return nil
}

func (w *writer) commit(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if w.skip > 0 {
		return errors.New("it was not written as far as it is there")
	}
	if err := w.file.Sync(); err != nil {
		return err
	}
	// Some file systems report a failed write (NFS: a full disk) only here.
	if err := w.file.Close(); err != nil {
		return err
	}
	if err := w.publish(); err != nil {
		return err
	}
	if err := w.store.flush(w.handle); err != nil {
		// The name might not survive a power failure: then it must not be there
		// now either. (A replaced object is gone already; keep its successor.)
		if !w.overwrite {
			err = errors.Join(err, w.folder.Remove(w.base))
		}
		return err
	}
	return nil
}

// publish gives the temporary file its final name.
func (w *writer) publish() error {
	if w.overwrite {
		if err := w.folder.Rename(w.temp, w.base); err != nil {
			return err
		}
		w.temp = ""
		return nil
	}
	switch err := w.store.rename(w.handle, w.temp, w.base); {
	case err == nil:
		w.temp = ""
		return nil
	case !errors.Is(err, errors.ErrUnsupported):
		return err
	}
	// Abort removes the temporary name; until then the file has two.
	return w.folder.Link(w.temp, w.base)
}

// Abort implements storage.Writer.
func (w *writer) Abort() {
	if w.file != nil {
		w.file.Close() // committed, or of no interest any more
	}
	if w.temp != "" {
		// If this fails, the file stays a leftover for Sweep.
		w.folder.Remove(w.temp) //nolint:errcheck // see above
		w.temp = ""
	}
	if w.origin != "" {
		w.folder.Remove(w.origin) //nolint:errcheck // as above
		w.origin = ""
	}
	if w.handle != nil {
		w.handle.Close()
	}
	if w.folder != nil {
		w.folder.Close()
	}
	if w.failed == nil {
		w.failed = fs.ErrClosed
	}
}

var _ storage.Writer = (*writer)(nil)
