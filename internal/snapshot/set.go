package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"strings"
	"time"
	"unicode"

	"github.com/redisctl/redisctl/internal/aof"
	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/snapshot/codec"
	"github.com/redisctl/redisctl/internal/storage"
)

// Set is a snapshot of several files that is being stored. Nothing of it stands
// under a final name before Commit. It is used by one goroutine at a time, and ends
// with Commit or Abort.
type Set struct {
	store   storage.Store
	dir     string
	opts    CreateOptions
	m       *Manifest
	writers []*FileWriter // of m.Files
	bytes   int64
	kept    int64 // of a file that Add has failed to add

	published bool
}

// SetFile describes a file to be added to a Set.
type SetFile struct {
	// Name tells the file from the others of the set: "appendonly.aof.1.base.rdb".
	Name string
	Kind FileKind
	// Path is where the server has it, see File.Path.
	Path string
	// Download is set if the file can be fetched again from any byte on.
	Download *Download
}

// CreateSet begins a snapshot of the given kind in the folder dir of the store. Of
// the options, Complete is called by Commit before anything is published.
func CreateSet(store storage.Store, dir string, kind Kind, opts CreateOptions) (*Set, error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Begun.IsZero() {
		opts.Begun = opts.Now()
	}
	m := &Manifest{
		Kind: kind, ID: NewID(kind, opts.Begun), CreatedAt: opts.Begun.UTC(), CreatedBy: opts.Version, Source: opts.Source,
	}
	if err := m.validateText(); err != nil { // not only after the transfer
		return nil, err
	}
	return &Set{store: store, dir: dir, opts: opts, m: m}, nil
}

// Add stores what r yields and checks it on the way: RDB and append-only files by
// their format. A file that ends in the middle of a command is accepted; whether it
// may, the caller decides by File.AOF.
//
// The error matches ErrCorrupt or ErrUnsupported if the data is at fault, else it is
// that of r, of the store or of ctx. Then nothing was added; what has arrived of a
// Download is kept unless the data or the store is at fault.
func (s *Set) Add(ctx context.Context, spec SetFile, r io.Reader) (*File, error) {
	suffix, _ := codec.Suffix(s.opts.Encoding.Codecs()) // an Encoding has no others
	found := File{Name: s.m.ID + "." + safeName(spec.Name) + suffix, Kind: spec.Kind, Path: spec.Path}
	name := path.Join(s.dir, found.Name)
	w, err := createFile(ctx, s.store, name, s.opts.Encoding, spec.Download)
	if err != nil {
		return nil, err
	}
	begun := s.opts.Now()
	source := &meter{r: r, now: s.opts.Now, progress: func(bytes int64) {
		if s.opts.Progress != nil {
			s.opts.Progress(s.bytes + bytes)
		}
	}}
	err = scanFile(ctx, io.TeeReader(source, w), &found, s.m.CreatedAt, rdb.Visitor{})
	f := File{}
	if err == nil {
		f, err = w.Finish()
	}
	if err != nil {
		s.kept += w.end(err)
		return nil, fmt.Errorf("storing %s: %w", s.store.Location(name), err)
	}
	if source.bytes > 0 {
		s.m.Durations.Wait += seconds(source.first.Sub(begun))
		s.m.Durations.Transfer += seconds(s.opts.Now().Sub(source.first))
	}
	f.Name, f.Kind, f.Path, f.RDB, f.AOF = found.Name, found.Kind, found.Path, found.RDB, found.AOF
	s.bytes += source.bytes
	s.m.Files, s.writers = append(s.m.Files, f), append(s.writers, w)
	return &s.m.Files[len(s.m.Files)-1], nil
}

// safeName replaces what no file may have in its name: a server's files may be called
// anything. File.Path keeps what they are called.
func safeName(name string) string {
	return strings.Map(func(r rune) rune {
		if r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r)) || strings.ContainsRune("._-", r) {
			return r
		}
		return '_'
	}, name)
}

// scanFile reads r to its end and describes in f what it holds. Expired keys are
// counted as of the given moment. The visitor is told what an RDB file holds.
func scanFile(ctx context.Context, r io.Reader, f *File, now time.Time, visitor rdb.Visitor) error {
	switch f.Kind {
	case FileRDB, "":
		summary, err := rdb.Scan(ctx, r, visitor, rdb.Options{Now: now})
		summary.Aux = printable(summary.Aux)
		f.RDB = &summary
		return judge(err)
	case FileAOF, FileAOFBase, FileAOFIncremental:
		summary, err := aof.Scan(ctx, r, now)
		if summary.Preamble != nil {
			summary.Preamble.Aux = printable(summary.Preamble.Aux)
		}
		f.AOF = &summary
		return judge(err)
	default:
		_, err := io.CopyBuffer(io.Discard, onlyReader{r}, make([]byte, digestBuffer))
		return err
	}
}

// onlyReader hides what else a reader can do, so that io.CopyBuffer uses its buffer.
type onlyReader struct{ io.Reader }

// Drop takes back the files that were added last, down to n of them.
func (s *Set) Drop(n int) {
	for i := n; i < len(s.writers); i++ {
		s.writers[i].Abort()
		s.bytes -= s.m.Files[i].ContentSize()
	}
	s.m.Files, s.writers = s.m.Files[:n], s.writers[:n]
}

// Len returns how many files were added.
func (s *Set) Len() int { return len(s.m.Files) }

// Abort discards everything. It does nothing after Commit, so that it can be
// deferred.
func (s *Set) Abort() {
	if !s.published {
		s.Drop(0)
	}
}

// Commit publishes the files, and the manifest as the last. If it fails, there is
// nothing under a final name.
func (s *Set) Commit(ctx context.Context) (*Manifest, error) {
	m := s.m
	m.CompletedAt = s.opts.Now().UTC()
	m.Verification = Verification{At: m.CompletedAt, By: s.opts.Version, Result: VerifiedInTransit}
	if s.opts.Complete != nil {
		if err := s.opts.Complete(m); err != nil {
			return nil, err
		}
	}
	// A mistake in the manifest must not be found out after the data is public.
	if _, err := m.Encode(); err != nil {
		return nil, err
	}
	begun := s.opts.Now()
	for i, w := range s.writers {
		if err := w.Commit(ctx); err != nil {
			return nil, s.unpublish(ctx, i, err)
		}
	}
	for _, d := range []*float64{&m.Durations.Wait, &m.Durations.Transfer} {
		*d = math.Round(*d*1000) / 1000
	}
	m.Durations.Store = seconds(s.opts.Now().Sub(begun))
	if err := storeManifest(ctx, s.store, s.dir, m); err != nil {
		return nil, s.unpublish(ctx, len(s.writers), err)
	}
	s.published = true
	return m, nil
}

// unpublish removes the first n files after a failure.
func (s *Set) unpublish(ctx context.Context, n int, err error) error {
	// Also, and above all, when ctx has ended.
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	for _, f := range s.m.Files[:n] {
		err = errors.Join(err, s.store.Remove(cleanup, path.Join(s.dir, f.Name)))
	}
	return err
}

// ObjectName returns the name of the manifest itself, in the snapshot's folder.
func (m *Manifest) ObjectName() string { return m.ID + manifestSuffix }

// Size is that of all files as they are stored, in bytes.
func (m *Manifest) Size() int64 {
	var total int64
	for _, f := range m.Files {
		total += f.Size
	}
	return total
}
