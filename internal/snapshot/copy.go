package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"github.com/redisctl/redisctl/internal/storage"
)

// CopyOptions are the options of Copy.
type CopyOptions struct {
	// Progress, if not nil, is called after each piece with the bytes copied so far
	// and those of all files.
	Progress func(bytes, total int64)
}

// CopyDir returns the folder that a copy of the entry is stored in: its own, and
// for a snapshot that was found as a file (see FindFile) the one that its
// deployment has in every store.
func CopyDir(entry Entry) (string, error) {
	if entry.Dir != "" || entry.Manifest == nil {
		return entry.Dir, nil
	}
	source := entry.Manifest.Source
	if source.Namespace == "" {
		return AddressDir(source.Instance)
	}
	return ReleaseDir(source.Namespace, source.Release)
}

// Holds reports whether the store has an intact copy of the entry already, as far
// as that shows without reading the data. The error matches fs.ErrExist if it
// has a different or a damaged snapshot of the same id.
func Holds(ctx context.Context, store storage.Store, entry Entry) (bool, error) {
	if entry.Manifest == nil {
		return false, corrupt("%s has no manifest", entry.ID)
	}
	dir, err := CopyDir(entry)
	if err != nil {
		return false, err
	}
	there := newEntry(dir, entry.ID)
	m, err := readManifest(ctx, store, there)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrUnsupported):
		return false, err
	case err != nil:
		return false, fmt.Errorf("it has something else of that name: %w: %w", fs.ErrExist, err)
	case m.Digest != entry.Manifest.Digest:
		return false, fmt.Errorf("%s is another snapshot of the same id: %w", store.Location(there.ManifestName), fs.ErrExist)
	}
	for _, f := range m.Files {
		name := path.Join(dir, f.Name)
		info, err := store.Stat(ctx, name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return false, fmt.Errorf("the copy there is damaged: %s is missing: %w", store.Location(name), fs.ErrExist)
		case err != nil:
			return false, err
		case info.Size != f.Size:
			return false, fmt.Errorf("the copy there is damaged: %s has %d bytes instead of %d: %w", store.Location(name), info.Size, f.Size, fs.ErrExist)
		}
	}
	return true, nil
}

// TargetError says that Copy failed because of the store that it writes to, and
// not because of the snapshot.
type TargetError struct{ Err error }

func (e *TargetError) Error() string { return e.Err.Error() }

// Unwrap returns the store's error.
func (e *TargetError) Unwrap() error { return e.Err }

// target marks an error of the store that is written to.
func target(err error) error {
	if err == nil {
		return nil
	}
	return &TargetError{err}
}

// Copy stores the snapshot in another store, which must not hold it (see Holds),
// and returns how many bytes its files have. The files are copied as they are
// stored, compared on the way with what the manifest states, and published
// before the manifest, whose bytes stay the same. Files without a manifest that
// an interrupted copy has left are replaced.
//
// If Copy fails, nothing remains under a final name. The error matches ErrCorrupt
// if the source is not what its manifest states, and is a *TargetError if it is that
// of the store that is written to.
func Copy(ctx context.Context, from storage.Store, entry Entry, to storage.Store, opts CopyOptions) (int64, error) {
	text, m, err := manifestText(ctx, from, entry)
	if err != nil {
		return 0, err
	}
	entry.Manifest = m
	dir, err := CopyDir(entry)
	if err != nil {
		return 0, err
	}
	c := &copying{from: from, to: to, progress: opts.Progress}
	for _, f := range m.Files {
		c.total += f.Size
	}
	for _, f := range m.Files {
		if err == nil {
			err = c.file(ctx, f, path.Join(entry.Dir, f.Name), path.Join(dir, f.Name))
		}
	}
	if err == nil {
		err = target(storeBytes(ctx, to, path.Join(dir, m.ID+manifestSuffix), text, storage.CreateOptions{}))
	}
	if err != nil {
		c.undo(ctx)
		return 0, err
	}
	return c.bytes, nil
}

// manifestText reads a manifest as it is stored.
func manifestText(ctx context.Context, store storage.Store, entry Entry) ([]byte, *Manifest, error) {
	if entry.Problem != nil {
		return nil, nil, entry.Problem
	}
	r, _, err := store.Open(ctx, entry.ManifestName)
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	text, err := io.ReadAll(io.LimitReader(r, MaxManifestSize+1))
	if err != nil {
		return nil, nil, err
	}
	m, err := Decode(bytes.NewReader(text))
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", store.Location(entry.ManifestName), err)
	}
	if m.ID != entry.ID {
		return nil, nil, corrupt("%s is the manifest of %s", store.Location(entry.ManifestName), m.ID)
	}
	return text, m, nil
}

type copying struct {
	from, to storage.Store
	progress func(bytes, total int64)

	bytes, total int64
	stored       []string
}

func (c *copying) file(ctx context.Context, f File, from, to string) error {
	r, _, err := c.from.Open(ctx, from)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := c.to.Create(ctx, to, storage.CreateOptions{Overwrite: true})
	if err != nil {
		return target(err)
	}
	defer w.Abort()
	digest := newDigester()
	defer digest.close()
	begun := c.bytes
	n, err := io.CopyBuffer(io.MultiWriter(targetWriter{w}, digest, (*copyMeter)(c)), struct{ io.Reader }{r}, make([]byte, digestBuffer))
	c.bytes = begun + n
	if err != nil {
		return err
	}
	switch sum := digest.sum(); {
	case n != f.Size:
		return corrupt("%s has %d bytes, its manifest says %d", c.from.Location(from), n, f.Size)
	case sum != f.SHA256:
		return corrupt("%s has SHA-256 %s, its manifest says %s", c.from.Location(from), sum, f.SHA256)
	}
	if err := w.Commit(ctx); err != nil {
		return target(err)
	}
	c.stored = append(c.stored, to)
	return nil
}

type targetWriter struct{ io.Writer }

// Write implements io.Writer.
func (w targetWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	return n, target(err)
}

// copyMeter counts what has been written.
type copyMeter copying

// Write implements io.Writer.
func (m *copyMeter) Write(p []byte) (int, error) {
	m.bytes += int64(len(p))
	if m.progress != nil {
		m.progress(m.bytes, m.total)
	}
	return len(p), nil
}

// undo removes what was published, also and above all when ctx has ended. What
// cannot be removed is no snapshot without its manifest, and the next copy
// replaces it.
func (c *copying) undo(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	for _, name := range c.stored {
		_ = c.to.Remove(ctx, name)
	}
}
