package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redisctl/redisctl/internal/storage"
	"github.com/redisctl/redisctl/internal/storage/folder"
)

// Entry is what a catalog knows of one snapshot, or of a file that looks like
// (a part of) one.
type Entry struct {
	// Dir is the folder in the store, empty for its root.
	Dir string
	// ID is the snapshot's id, or the file's name without its suffix for a file
	// that redisctl did not name.
	ID string
	// Kind is what it holds, as its name says.
	Kind Kind
	// Created is when the backup began: from the manifest, else from the id, else
	// the time at which the file was stored.
	Created time.Time
	// Size in bytes of the data files as they are stored, 0 if they are missing.
	Size int64
	// DataName and ManifestName are the names of the RDB file and of the manifest in
	// the store, whether they exist or not. DataName is that of the manifest for a
	// set without an RDB file. ManifestName is empty for a file whose name no manifest
	// goes with.
	DataName, ManifestName string
	HasData, HasManifest   bool
	// Manifest is nil if there is none or it is not valid.
	Manifest *Manifest
	// Problem is why this is not an intact snapshot, as far as that shows without
	// reading the data: nil, an error matching ErrCorrupt or ErrUnsupported, or
	// that of reading the manifest.
	Problem error
	// Verified is the last successful verification on record, nil if there is none.
	Verified *VerificationRecord

	hasRecord bool             // there is a record of a verification
	removing  bool             // there is the note that it is being removed
	found     []string         // the data files that were found, relative to Dir
	sizes     map[string]int64 // of those in found
}

// newEntry returns an entry whose objects are not known to exist.
func newEntry(dir, id string) *Entry {
	e := &Entry{Dir: dir, ID: id, DataName: path.Join(dir, id+rdbSuffix), ManifestName: path.Join(dir, id+manifestSuffix)}
	e.Kind, e.Created, _ = ParseID(id)
	if e.Kind != "" && e.Kind != KindRDB {
		e.DataName = e.ManifestName // until the manifest tells of an RDB file
	}
	return e
}

// note adds one of the entry's objects.
func (e *Entry) note(object storage.Info) {
	switch {
	case object.Name == e.ManifestName:
		e.HasManifest = true
	case strings.HasSuffix(object.Name, verifiedSuffix):
		e.hasRecord = true
	case strings.HasSuffix(object.Name, removingSuffix):
		e.removing = true
	default:
		if e.sizes == nil {
			e.sizes = make(map[string]int64)
		}
		name := strings.TrimPrefix(object.Name, e.Dir+"/")
		e.found = append(e.found, name)
		e.sizes[name] = object.Size
		e.HasData = true
		e.Size += object.Size
		e.Kind = cmp.Or(e.Kind, KindRDB)
		if _, isRDB := cutData(name); isRDB && e.Kind == KindRDB {
			e.DataName = object.Name // compressed or not, unless the manifest tells
		}
	}
	if e.Created.IsZero() {
		e.Created = object.Modified.UTC()
	}
}

// Deployment returns the namespace and the release, or "" and the address folder,
// that the entry's folder stands for. Both are empty for a folder that is not
// part of the layout.
func (e *Entry) Deployment() (namespace, release string) {
	namespace, release, ok := strings.Cut(e.Dir, "/")
	if !ok || strings.Contains(release, "/") {
		return "", ""
	}
	if namespace == addressRoot && strings.Contains(release, "_") {
		return "", release
	}
	return namespace, release
}

// Filter selects snapshots. The zero value selects all.
type Filter struct {
	// Dir selects one folder and everything below it.
	Dir string
	// Namespace and Release select by folder, see Entry.Deployment.
	Namespace, Release string
	Kind               Kind
	// Since and Until select by Entry.Created, both included. They are compared
	// to the second.
	Since, Until time.Time
	// Instance selects by the manifest's Source.Instance, Method by its
	// Source.Method: what has no manifest is left out.
	Instance, Method string
	// Files selects what has a file of one of these kinds, as its manifest says; empty
	// selects all.
	Files []FileKind
	// States selects by Entry.State; empty selects all.
	States []State
}

// dir is the deepest folder that holds everything the filter selects.
func (f *Filter) dir() string {
	switch {
	case f.Dir != "" || f.Namespace == "":
		return f.Dir
	case f.Release == "":
		return f.Namespace
	default:
		return path.Join(f.Namespace, f.Release)
	}
}

func (f *Filter) admits(e *Entry) bool {
	namespace, release := e.Deployment()
	created := e.Created.Truncate(time.Second)
	return (f.Namespace == "" || f.Namespace == namespace) &&
		(f.Release == "" || f.Release == release) &&
		(f.Kind == "" || f.Kind == e.Kind) &&
		(f.Since.IsZero() || !created.Before(f.Since.Truncate(time.Second))) &&
		(f.Until.IsZero() || !created.After(f.Until.Truncate(time.Second)))
}

// admitsContents is the part of the filter that needs what complete has read.
func (f *Filter) admitsContents(e *Entry) bool {
	if f.Instance != "" && (e.Manifest == nil || e.Manifest.Source.Instance != f.Instance) ||
		f.Method != "" && (e.Manifest == nil || e.Manifest.Source.Method != f.Method) {
		return false
	}
	if len(f.Files) > 0 && (e.Manifest == nil || !slices.ContainsFunc(e.Manifest.Files, func(file File) bool {
		return slices.Contains(f.Files, file.Kind)
	})) {
		return false
	}
	return len(f.States) == 0 || slices.Contains(f.States, e.State())
}

// manifestReaders is how many manifests List reads at a time. Object storage
// takes tens of milliseconds for each.
const manifestReaders = 8

// List returns the snapshots that the filter selects, newest first. Files that
// are not (complete or readable) snapshots are entries with a Problem; files
// with other names are ignored. Where part of the store could not be listed, the
// entries found come together with the error.
func List(ctx context.Context, store storage.Store, filter Filter) ([]Entry, error) {
	objects, listErr := store.List(ctx, filter.dir())
	var found []*Entry
	byName := make(map[string]*Entry)
	for _, object := range objects {
		stem, ok := stemOf(object.Name)
		if !ok {
			continue
		}
		e := byName[stem]
		if e == nil {
			dir, id := path.Split(stem)
			e = newEntry(strings.TrimSuffix(dir, "/"), id)
			byName[stem] = e
			found = append(found, e)
		}
		e.note(object)
	}
	found = slices.DeleteFunc(found, func(e *Entry) bool {
		// A record without what it is about says nothing.
		return !e.HasManifest && !e.HasData && !e.removing || !filter.admits(e)
	})

	var wg sync.WaitGroup
	slots := make(chan struct{}, manifestReaders)
	for _, e := range found {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			e.complete(ctx, store)
		})
	}
	wg.Wait()

	entries := make([]Entry, 0, len(found))
	for _, e := range found {
		if filter.admitsContents(e) {
			entries = append(entries, *e)
		}
	}
	slices.SortFunc(entries, newestFirst)
	if listErr == nil {
		listErr = ctx.Err()
	}
	return entries, listErr
}

// stemOf returns an object's name without the suffix that says which part of a
// snapshot it is, or false for a name that is none.
func stemOf(name string) (string, bool) {
	dir, base := path.Split(name)
	id, _, _ := strings.Cut(base, ".")
	if kind, _, ok := ParseID(id); ok && kind != KindRDB {
		return dir + id, true // any file of a set
	}
	for _, suffix := range []string{manifestSuffix, verifiedSuffix, removingSuffix} {
		if stem, ok := strings.CutSuffix(name, suffix); ok {
			return stem, true
		}
	}
	return cutData(name)
}

func newestFirst(a, b Entry) int {
	return cmp.Or(b.Created.Compare(a.Created), strings.Compare(b.ID, a.ID), strings.Compare(a.Dir, b.Dir))
}

// complete reads the manifest and compares it with what is there.
func (e *Entry) complete(ctx context.Context, store storage.Store) {
	_, _, named := ParseID(e.ID)
	switch {
	case !e.HasManifest && e.removing:
		e.Problem = corrupt(removalBegun)
	case !e.HasManifest && named:
		e.Problem = corrupt("it has no manifest: the backup did not finish, or the manifest was lost")
	case !e.HasManifest:
		e.Problem = corrupt("it was not made by redisctl: it has no manifest")
	default:
		e.Manifest, e.Problem = readManifest(ctx, store, e)
	}
	m := e.Manifest
	if m == nil {
		return
	}
	e.Created = m.CreatedAt
	e.Verified = readVerified(ctx, store, e)
	if data := m.RDB(); data != nil {
		e.DataName = path.Join(e.Dir, data.Name)
	}
	switch {
	case e.removing:
		e.Problem = corrupt(removalBegun)
	case e.Problem == nil:
		e.Problem = e.compareFiles(store)
	}
}

// compareFiles looks for what the manifest lists.
func (e *Entry) compareFiles(store storage.Store) error {
	for _, f := range e.Manifest.Files {
		size, ok := e.sizes[f.Name]
		switch location := store.Location(path.Join(e.Dir, f.Name)); {
		case !ok:
			return corrupt("%s is missing", location)
		case size != f.Size:
			return corrupt("%s has %d bytes, its manifest says %d", location, size, f.Size)
		}
	}
	return nil
}

// readManifest returns the manifest under the entry's name. A manifest that
// belongs to another name is returned together with the error.
func readManifest(ctx context.Context, store storage.Store, e *Entry) (*Manifest, error) {
	r, _, err := store.Open(ctx, e.ManifestName)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	m, err := Decode(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", store.Location(e.ManifestName), err)
	}
	if m.ID != e.ID {
		return m, corrupt("%s is the manifest of %s", store.Location(e.ManifestName), m.ID)
	}
	return m, nil
}

// Latest is the reference to the newest snapshot without a Problem that is not a safety
// copy (PurposeSafety).
const Latest = "latest"

// Find returns the snapshot that ref names among those that the filter selects:
// an id, the beginning of exactly one id, Latest, or a name in the store (with or
// without its suffix) such as "redis-prod/redis/rdb-20261123T090501Z-k7mq.rdb".
// Snapshots with a Problem are found by all but Latest.
//
// The error is a *NotFoundError or an *AmbiguousError if it is not one of the
// store.
func Find(ctx context.Context, store storage.Store, filter Filter, ref string) (Entry, error) {
	entries, err := List(ctx, store, filter)
	missing := &NotFoundError{Ref: ref, Location: store.Location(filter.dir())}
	if ref == Latest {
		if err != nil { // what could not be listed might be newer
			return Entry{}, err
		}
		for _, e := range entries {
			switch {
			case e.Problem != nil:
				missing.Problems++
			case e.Manifest != nil && e.Manifest.Purpose == PurposeSafety:
				missing.Safety++
			default:
				return e, nil
			}
		}
		return Entry{}, missing
	}

	stem, _ := cutData(strings.TrimSuffix(ref, manifestSuffix))
	dir, id := path.Split(stem)
	dir = strings.TrimSuffix(dir, "/")
	matching := func(matches func(id string) bool) (matching []Entry) {
		for _, e := range entries {
			if id != "" && (dir == "" || e.Dir == dir) && matches(e.ID) {
				matching = append(matching, e)
			}
		}
		return matching
	}
	candidates := matching(func(other string) bool { return other == id })
	if len(candidates) == 1 {
		return candidates[0], nil
	}
	if err != nil { // what could not be listed might fit as well
		return Entry{}, err
	}
	if len(candidates) == 0 {
		candidates = matching(func(other string) bool { return strings.HasPrefix(other, id) })
	}
	switch len(candidates) {
	case 0:
		return Entry{}, missing
	case 1:
		return candidates[0], nil
	}
	ambiguous := &AmbiguousError{Ref: ref}
	for _, e := range candidates {
		ambiguous.Candidates = append(ambiguous.Candidates, path.Join(e.Dir, e.ID))
	}
	return Entry{}, ambiguous
}

// NotFoundError says that no snapshot has the name asked for. It matches
// fs.ErrNotExist.
type NotFoundError struct {
	// Ref is what was asked for, Location where.
	Ref, Location string
	// Problems and Safety count the snapshots that Latest passed over.
	Problems, Safety int
}

func (e *NotFoundError) Error() string {
	switch {
	case e.Safety > 0:
		return fmt.Sprintf("no snapshot in %s that was asked for, only %d safety copies (name one by its id) and %d with problems",
			e.Location, e.Safety, e.Problems)
	case e.Problems > 0:
		return fmt.Sprintf("no intact snapshot in %s, and %d with problems", e.Location, e.Problems)
	}
	return fmt.Sprintf("no snapshot %q in %s", e.Ref, e.Location)
}

// Unwrap returns fs.ErrNotExist.
func (e *NotFoundError) Unwrap() error { return fs.ErrNotExist }

// AmbiguousError says that a reference fits several snapshots.
type AmbiguousError struct {
	Ref string
	// Candidates are names that Find accepts, newest first.
	Candidates []string
}

func (e *AmbiguousError) Error() string {
	const most = 10
	shown := e.Candidates[:min(most, len(e.Candidates))]
	more := ""
	if n := len(e.Candidates) - len(shown); n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf("%q fits %d snapshots: %s%s", e.Ref, len(e.Candidates), strings.Join(shown, ", "), more)
}

// FindFile returns the snapshot that a path of the local file system belongs to,
// and the store that it is in. The path is that of the RDB file or of its
// manifest; symbolic links are followed. An RDB file that redisctl did not make
// has a Problem, but can be verified as well.
func FindFile(ctx context.Context, name string) (storage.Store, Entry, error) {
	resolved, err := filepath.EvalSymlinks(name)
	if err != nil {
		return nil, Entry{}, err
	}
	store := folder.New(filepath.Dir(resolved))
	base := filepath.Base(resolved)
	stem, known := stemOf(base)
	e := newEntry("", stem)
	names := []string{base}
	if known {
		if _, isData := cutData(base); !isData {
			names = append(names, e.DataName) // and not dump.rdb beside dump.rdb.zst
		}
		names = append(names, e.ManifestName, stem+verifiedSuffix, stem+removingSuffix)
		// Its problems come up when complete reads it.
		if m, _ := readManifest(ctx, store, e); m != nil {
			for _, f := range m.Files {
				names = append(names, f.Name)
			}
		}
	} else { // "dump", or "dump.rdb.1"
		e.ID, e.DataName, e.ManifestName = base, base, ""
		names = []string{base}
	}
	slices.Sort(names)
	for _, object := range slices.Compact(names) {
		info, err := store.Stat(ctx, object)
		switch {
		case err == nil:
			e.note(info)
		case object == base || !errors.Is(err, fs.ErrNotExist):
			return nil, Entry{}, err
		}
	}
	e.complete(ctx, store)
	return store, *e, nil
}
