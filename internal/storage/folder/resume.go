package folder

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/storage"
)

var _ storage.Resumer = (*Store)(nil)

// originMark is in the name of the file that says where the contents of a temporary
// file come from: "<name>.<16 random characters>.origin.redisctl-partial". It is a
// leftover like the file itself, for List and for Sweep.
const originMark = ".origin"

// maxOrigin bounds what is read of such a file, in bytes.
const maxOrigin = 64 << 10

// originName returns the name of the file that tells the origin of temp.
func originName(temp string) string {
	return strings.TrimSuffix(temp, TempSuffix) + originMark + TempSuffix
}

// CreateResumable implements storage.Resumer.
func (s *Store) CreateResumable(ctx context.Context, name, origin string) (storage.ResumableWriter, error) {
	w, err := s.create(ctx, name, storage.CreateOptions{})
	if err == nil {
		err = w.keepOrigin(origin)
	}
	if err != nil {
		if w != nil {
			w.Abort()
		}
		return nil, s.fail("create", name, err)
	}
	return w, nil
}

// keepOrigin marks the temporary file as one that can be gone on with, and as one that
// is being written: the lock ends with the process.
func (w *writer) keepOrigin(origin string) error {
	if err := lockHandle(w.file); err != nil {
		// Where files cannot be locked (some network file systems), the writer is one like
		// any other.
		return nil //nolint:nilerr // see above
	}
	w.origin = originName(w.temp)
	return w.folder.WriteFile(w.origin, []byte(origin), fileMode)
}

// Suspend implements storage.ResumableWriter.
func (w *writer) Suspend() int64 {
	ended := w.ctx.Err() // a Write that the end of its context kept from writing
	kept := w.size + w.skip
	if w.origin == "" || w.temp == "" || kept == 0 || w.failed != nil && (ended == nil || !errors.Is(w.failed, ended)) {
		w.Abort()
		return 0
	}
	w.temp, w.origin = "", ""
	w.Abort()
	return kept
}

// Unfinished implements storage.Resumer.
func (s *Store) Unfinished(ctx context.Context, dir string) ([]storage.Unfinished, error) {
	if err := errors.Join(ctx.Err(), storage.CheckPrefix(dir)); err != nil {
		return nil, s.fail("list", dir, err)
	}
	root, err := s.openFolder(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, s.fail("list", dir, err)
	}
	defer root.Close()
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, s.fail("list", dir, err)
	}
	var found []storage.Unfinished
	for _, entry := range entries {
		if _, ok := finalName(entry.Name()); !ok || isOrigin(entry.Name()) || !entry.Type().IsRegular() {
			continue
		}
		if u := s.takeOver(root, dir, entry.Name()); u != nil {
			found = append(found, u)
		}
	}
	return found, nil
}

// openFolder opens a folder of the store.
func (s *Store) openFolder(dir string) (*os.Root, error) {
	root, err := os.OpenRoot(s.path)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return root.OpenRoot(path.Clean(dir))
}

func isOrigin(temp string) bool { return strings.HasSuffix(temp, originMark+TempSuffix) }

// takeOver locks a temporary file; nil when it is not there any more, has no origin, or
// is somebody's.
func (s *Store) takeOver(root *os.Root, dir, temp string) storage.Unfinished {
	text, err := readOrigin(root, originName(temp))
	if err != nil {
		return nil
	}
	file, err := root.OpenFile(temp, os.O_RDWR, 0)
	if err != nil {
		return nil
	}
	u := &unfinished{store: s, dir: dir, temp: temp, origin: text, file: file}
	if err := u.lock(root); err != nil {
		file.Close() // nothing was written to it
		return nil
	}
	return u
}

func readOrigin(root *os.Root, name string) (string, error) {
	file, err := root.Open(name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxOrigin))
	return string(text), err
}

// unfinished is a temporary file that this process has locked. It implements
// storage.Unfinished.
type unfinished struct {
	store     *Store
	dir, temp string
	origin    string
	file      *os.File
	info      fs.FileInfo
	ended     bool
}

// lock fails when the file is somebody's, or was between its opening and its locking.
func (u *unfinished) lock(root *os.Root) error {
	if err := lockHandle(u.file); err != nil {
		return err
	}
	var err error
	if u.info, err = u.file.Stat(); err != nil {
		return err
	}
	named, err := root.Lstat(u.temp)
	if err != nil {
		return err
	}
	if !os.SameFile(u.info, named) {
		return fs.ErrNotExist
	}
	return nil
}

// ReadAt implements storage.Unfinished.
func (u *unfinished) ReadAt(p []byte, off int64) (int, error) {
	return u.file.ReadAt(p, off)
}

// Size implements storage.Unfinished.
func (u *unfinished) Size() int64 { return u.info.Size() }

// Modified implements storage.Unfinished.
func (u *unfinished) Modified() time.Time { return u.info.ModTime() }

// Origin implements storage.Unfinished.
func (u *unfinished) Origin() string { return u.origin }

// Resume implements storage.Unfinished.
func (u *unfinished) Resume(ctx context.Context, name, origin string) (storage.ResumableWriter, error) {
	w, err := u.resume(ctx, name, origin)
	if err != nil {
		return nil, u.store.fail("create", name, err)
	}
	u.ended = true // the file is w's now
	return w, nil
}

func (u *unfinished) resume(ctx context.Context, name, origin string) (_ *writer, err error) {
	if u.ended {
		return nil, fs.ErrClosed
	}
	if err := check(ctx, name); err != nil {
		return nil, err
	}
	if parent, _ := path.Split(name); path.Clean(parent) != path.Clean(u.dir) {
		return nil, errors.New("it is in another folder than what is left of it")
	}
	if _, err := u.file.Seek(0, io.SeekEnd); err != nil {
		return nil, err
	}
	w := &writer{
		store: u.store, ctx: ctx, name: name, base: path.Base(name),
		skip: u.Size(),
	}
	defer func() {
		if err != nil { // u keeps the file
			w.Abort()
		}
	}()
	root, err := os.OpenRoot(u.store.path)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if err := w.enter(root, u.dir); err != nil {
		return nil, err
	}
	if err := w.vacant(); err != nil {
		return nil, err
	}
	if err := w.folder.WriteFile(originName(u.temp), []byte(origin), fileMode); err != nil {
		return nil, err
	}
	w.file, w.temp, w.origin = u.file, u.temp, originName(u.temp)
	return w, nil
}

// Discard implements storage.Unfinished.
func (u *unfinished) Discard() {
	if u.ended {
		return
	}
	defer u.Release()
	root, err := u.store.openFolder(u.dir)
	if err != nil {
		return // it stays a leftover for Sweep
	}
	defer root.Close()
	root.Remove(u.temp)             //nolint:errcheck // see above
	root.Remove(originName(u.temp)) //nolint:errcheck // see above
}

// Release implements storage.Unfinished.
func (u *unfinished) Release() {
	if !u.ended {
		u.ended = true
		u.file.Close() // which unlocks it
	}
}
