// Package folder stores objects as files below one folder of the local machine.
//
// Publication. An object is written to a temporary file beside its final name,
// flushed to the disk, and then given its final name by an operation that fails
// if that name exists; last, the folder entry is flushed. A reader therefore
// sees a complete file or none, also after a power failure. The operation is an
// exclusive rename (renameat2 with RENAME_NOREPLACE on Linux, renameatx_np with
// RENAME_EXCL on macOS); where the file system or the system has none (NFS,
// Windows), it is a hard link followed by the removal of the temporary name. A
// file system that offers neither is refused.
//
// Leftovers. The temporary name ends in TempSuffix. A killed process leaves it
// behind; List never shows it, and Sweep removes it once it has not been written
// to for the given age. A file of CreateResumable has another one beside it, which
// tells its origin, and is locked (flock, LockFileEx) while it is written: what is not
// locked any more, Unfinished takes over.
//
// Access. Files are created with mode 0600 and folders with 0700, because a
// snapshot holds everything the server knows. Names are resolved by os.Root:
// neither ".." nor a symbolic link in the folder can lead outside it. The folder
// itself may be a symbolic link.
package folder

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/storage"
)

// TempSuffix ends the name of every file that is still being written:
// "<name>.<16 random characters>.redisctl-partial". No object may have such a name.
const TempSuffix = ".redisctl-partial"

const (
	fileMode   fs.FileMode = 0o600
	folderMode fs.FileMode = 0o700
)

// Store is a folder. It implements storage.Store.
type Store struct {
	path string
	// rename is renameExclusive and flush is syncHandle, or what a test puts in
	// their place.
	rename func(folder *os.File, oldName, newName string) error
	flush  func(folder *os.File) error
}

var (
	_ storage.Store   = (*Store)(nil)
	_ storage.Checker = (*Store)(nil)
)

// New returns the store in the folder at path. The folder need not exist: the
// first Create makes it, with its parents.
func New(path string) *Store {
	return &Store{path: filepath.Clean(path), rename: renameExclusive, flush: syncHandle}
}

// Location implements storage.Store with the path of the object's file.
func (s *Store) Location(name string) string {
	return filepath.Join(s.path, filepath.FromSlash(name))
}

// Create implements storage.Store.
func (s *Store) Create(ctx context.Context, name string, opts storage.CreateOptions) (storage.Writer, error) {
	w, err := s.create(ctx, name, opts)
	if err != nil {
		return nil, s.fail("create", name, err)
	}
	return w, nil
}

func (s *Store) create(ctx context.Context, name string, opts storage.CreateOptions) (_ *writer, err error) {
	if err := check(ctx, name); err != nil {
		return nil, err
	}
	if err := makeFolder(s.path); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(s.path)
	if err != nil {
		return nil, err
	}
	defer root.Close()

	parent, base := path.Split(name)
	if err := makeFolders(root, parent); err != nil {
		return nil, err
	}
	w := &writer{store: s, ctx: ctx, name: name, base: base, overwrite: opts.Overwrite}
	defer func() {
		if err != nil {
			w.Abort()
		}
	}()
	if err := w.enter(root, parent); err != nil {
		return nil, err
	}
	if err := w.vacant(); err != nil {
		return nil, err
	}
	temp := tempName(base)
	if w.file, err = w.folder.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode); err != nil {
		return nil, err
	}
	w.temp = temp
	return w, nil
}

// Open implements storage.Store. Symbolic links that stay inside the folder are
// followed.
func (s *Store) Open(ctx context.Context, name string) (io.ReadCloser, storage.Info, error) {
	var file *os.File
	info, err := s.inspect(ctx, name, func(root *os.Root) (fs.FileInfo, error) {
		// Opening a named pipe would wait for somebody to write to it.
		if info, err := root.Stat(name); err != nil || !info.Mode().IsRegular() {
			return info, err
		}
		var err error
		if file, err = root.Open(name); err != nil {
			return nil, err
		}
		return file.Stat()
	})
	if err != nil {
		if file != nil {
			file.Close() // opened for reading, and failing already
		}
		return nil, storage.Info{}, s.fail("open", name, err)
	}
	return &reader{File: file, ctx: ctx}, info, nil
}

// Stat implements storage.Store.
func (s *Store) Stat(ctx context.Context, name string) (storage.Info, error) {
	info, err := s.inspect(ctx, name, func(root *os.Root) (fs.FileInfo, error) {
		return root.Stat(name)
	})
	if err != nil {
		return storage.Info{}, s.fail("stat", name, err)
	}
	return info, nil
}

// inspect describes the regular file that get finds below the store's folder.
func (s *Store) inspect(ctx context.Context, name string, get func(*os.Root) (fs.FileInfo, error)) (storage.Info, error) {
	if err := check(ctx, name); err != nil {
		return storage.Info{}, err
	}
	root, err := os.OpenRoot(s.path)
	if err != nil {
		return storage.Info{}, err
	}
	defer root.Close()
	info, err := get(root)
	switch {
	case err != nil:
		return storage.Info{}, err
	case info.IsDir():
		return storage.Info{}, errIsFolder
	case !info.Mode().IsRegular():
		return storage.Info{}, errNotRegular
	}
	return describe(name, info), nil
}

// List implements storage.Store. Symbolic links and special files are not
// objects.
func (s *Store) List(ctx context.Context, prefix string) ([]storage.Info, error) {
	var objects []storage.Info
	err := s.walk(ctx, prefix, func(_ *os.Root, name string, entry fs.DirEntry) error {
		if strings.HasSuffix(name, TempSuffix) {
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		objects = append(objects, describe(name, info))
		return nil
	})
	// A walk orders the elements, not the names: "a/x" before "a-b/x".
	slices.SortFunc(objects, func(a, b storage.Info) int { return strings.Compare(a.Name, b.Name) })
	return objects, err
}

// Remove implements storage.Store. A symbolic link is removed, not its target.
func (s *Store) Remove(ctx context.Context, name string) error {
	if err := s.remove(ctx, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s.fail("remove", name, err)
	}
	return nil
}

func (s *Store) remove(ctx context.Context, name string) error {
	if err := check(ctx, name); err != nil {
		return err
	}
	root, err := os.OpenRoot(s.path)
	if err != nil {
		return err
	}
	defer root.Close()
	info, err := root.Lstat(name)
	if err != nil {
		return err
	}
	if info.IsDir() { // Root.Remove would remove an empty one
		return errIsFolder
	}
	if err := root.Remove(name); err != nil {
		return err
	}
	return syncFolder(root, path.Dir(name))
}

// Sweep implements storage.Store by the modification time of temporary files.
func (s *Store) Sweep(ctx context.Context, prefix string, olderThan time.Duration) ([]string, error) {
	var swept []string
	limit := time.Now().Add(-olderThan)
	err := s.walk(ctx, prefix, func(root *os.Root, name string, entry fs.DirEntry) error {
		final, ok := finalName(name)
		if !ok {
			return nil
		}
		info, err := entry.Info()
		if err != nil || info.ModTime().After(limit) {
			return err
		}
		if err := root.Remove(name); err != nil {
			return err
		}
		if !isOrigin(name) {
			swept = append(swept, final)
		}
		return nil
	})
	return swept, err
}

// walk calls visit for every regular file below the folder prefix. It goes on
// after an error and returns all of them, so that one unreadable folder does not
// hide the others. What vanishes during the walk is not an error.
func (s *Store) walk(ctx context.Context, prefix string, visit func(root *os.Root, name string, entry fs.DirEntry) error) error {
	if err := errors.Join(ctx.Err(), storage.CheckPrefix(prefix)); err != nil {
		return s.fail("list", prefix, err)
	}
	root, err := os.OpenRoot(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return s.fail("list", "", err)
	}
	defer root.Close()

	start := "."
	if prefix != "" {
		start = prefix
		if info, err := root.Stat(start); err == nil && !info.IsDir() {
			return nil // an object, which has nothing below it
		}
	}
	var problems []error
	note := func(name string, err error) {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			problems = append(problems, s.fail("list", name, err))
		}
	}
	err = fs.WalkDir(root.FS(), start, func(name string, entry fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			note(name, err)
			return nil
		}
		if entry.Type().IsRegular() {
			note(name, visit(root, name, entry))
		}
		return nil
	})
	note(start, err)
	return errors.Join(problems...)
}

// Check implements storage.Checker: it asks whether the folder of the prefix, or what
// there is of its parents, may be written to.
func (s *Store) Check(ctx context.Context, prefix string) error {
	if err := errors.Join(ctx.Err(), storage.CheckPrefix(prefix)); err != nil {
		return s.fail("write to", prefix, err)
	}
	dir, err := filepath.Abs(s.Location(prefix))
	for err == nil {
		var info fs.FileInfo
		info, err = os.Stat(dir)
		switch {
		case err == nil && !info.IsDir():
			err = errNotFolder
		case err == nil:
			if err = writable(dir); err == nil {
				return nil
			}
		case errors.Is(err, fs.ErrNotExist) && filepath.Dir(dir) != dir:
			dir, err = filepath.Dir(dir), nil
		}
	}
	return s.fail("write to", prefix, err)
}

// Free implements storage.Store for an unprivileged user of the file system
// that holds the folder, or would hold it.
func (s *Store) Free(ctx context.Context) (int64, bool) {
	dir, err := filepath.Abs(s.path)
	if err != nil || ctx.Err() != nil {
		return 0, false
	}
	for {
		bytes, err := freeBytes(dir)
		if err == nil {
			return bytes, true
		}
		parent := filepath.Dir(dir)
		if !errors.Is(err, fs.ErrNotExist) || parent == dir {
			return 0, false
		}
		dir = parent
	}
}

// fail names the object's whole path, which errors of os.Root do not, and marks
// errors about space. The kinds of storage.Store keep matching.
func (s *Store) fail(op, name string, err error) error {
	var pathErr *fs.PathError
	var linkErr *os.LinkError
	switch {
	case errors.Is(err, storage.ErrInvalidName):
		return err
	case errors.As(err, &pathErr):
		err = pathErr.Err
	case errors.As(err, &linkErr):
		err = linkErr.Err
	}
	switch {
	case isNoSpace(err):
		err = fmt.Errorf("%w (%w)", storage.ErrNoSpace, err)
	case errors.Is(err, fs.ErrPermission):
		err = storage.ErrDenied
	}
	return &fs.PathError{Op: op, Path: s.Location(name), Err: err}
}

var (
	// A folder or a pipe of that name is not an object of that name.
	errIsFolder   = fmt.Errorf("it is a folder, %w", fs.ErrNotExist)
	errNotRegular = fmt.Errorf("it is not a regular file, %w", fs.ErrNotExist)
	errNotFolder  = errors.New("it is not a folder")
)

func check(ctx context.Context, name string) error {
	if err := errors.Join(ctx.Err(), storage.CheckName(name)); err != nil {
		return err
	}
	if strings.HasSuffix(name, TempSuffix) {
		return fmt.Errorf("%w %q: %s marks unfinished files", storage.ErrInvalidName, name, TempSuffix)
	}
	return nil
}

func describe(name string, info fs.FileInfo) storage.Info {
	return storage.Info{Name: name, Size: info.Size(), Modified: info.ModTime()}
}

// tempID is the number of random base32 digits in a temporary name. These 80
// bits never collide, and if they did, O_EXCL would say so.
const tempID = 16

var tempPattern = regexp.MustCompile(
	`^((?:.*/)?[^/]+)\.[a-z2-7]{16}(?:` + regexp.QuoteMeta(originMark) + `)?` + regexp.QuoteMeta(TempSuffix) + `$`)

// tempName returns a new temporary name for base that is at most 255 bytes long, also
// with originMark.
func tempName(base string) string {
	suffix := "." + strings.ToLower(rand.Text()[:tempID]) + TempSuffix
	if limit := 255 - len(suffix) - len(originMark); len(base) > limit {
		base = strings.ToValidUTF8(base[:limit], "")
	}
	return base + suffix
}

// finalName is the inverse of tempName and originName, and false for any other name.
func finalName(temp string) (string, bool) {
	parts := tempPattern.FindStringSubmatch(temp)
	if parts == nil {
		return "", false
	}
	return parts[1], true
}

// makeFolder is os.MkdirAll for the store's folder, durable.
func makeFolder(dir string) error {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		return errNotFolder
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(dir)
	if err := makeFolder(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, folderMode); err != nil {
		if errors.Is(err, fs.ErrExist) { // by another process, or a dangling link
			_, err = os.Stat(dir)
		}
		return err
	}
	handle, err := os.Open(parent)
	if err != nil {
		return err
	}
	defer handle.Close()
	return syncHandle(handle)
}

// makeFolders makes the folder name and its parents below root, durably.
func makeFolders(root *os.Root, name string) error {
	parent := "."
	for element := range strings.SplitSeq(strings.TrimSuffix(name, "/"), "/") {
		if element == "" { // an object at the top
			return nil
		}
		current := path.Join(parent, element)
		err := root.Mkdir(current, folderMode)
		if err == nil {
			err = syncFolder(root, parent)
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		parent = current
	}
	return nil
}

func syncFolder(root *os.Root, name string) error {
	handle, err := root.Open(name)
	if err != nil {
		return err
	}
	defer handle.Close()
	return syncHandle(handle)
}

// reader makes a long read end when its context does.
type reader struct {
	*os.File
	ctx context.Context
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.File.Read(p)
}
