package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/storage"
)

// removingSuffix names the note that a snapshot is being removed.
const removingSuffix = ".removing.json"

// removalBegun is the Problem of an entry in state Removing.
const removalBegun = "its removal has begun and did not finish; backup prune finishes it"

// removal is written before the first object of a snapshot is removed, and removed
// after the last one. In between nothing takes the rest for a snapshot, and whoever
// finds it knows what is left to do, although the manifest is gone.
type removal struct {
	APIVersion string    `json:"apiVersion"`
	ID         string    `json:"id"`
	At         time.Time `json:"at"`
	By         string    `json:"by"`
	// Files are the names of the data files, relative to the folder.
	Files []string `json:"files"`
}

// RemoveOptions are the options of Remove.
type RemoveOptions struct {
	// Version of redisctl and the time, for the note that a removal has begun.
	Version string
	Now     time.Time
}

// Remove removes a snapshot, or what is left of one, in an order that can be
// interrupted anywhere:
//
//  1. <id>.removing.json is stored, with the names of the data files. From here on
//     the snapshot is in state Removing and is neither listed as intact nor found
//     as the latest.
//  2. The manifest is removed: the snapshot does not exist any more.
//  3. The data files and the record of its verification are removed.
//  4. <id>.removing.json is removed.
//
// After a failure it can be called again, with an entry that List returns then.
// An entry that redisctl did not name is refused: such files are not ours.
func Remove(ctx context.Context, store storage.Store, entry Entry, o RemoveOptions) error {
	if _, _, ok := ParseID(entry.ID); !ok {
		return fmt.Errorf("%s was not made by redisctl: it is not removed", store.Location(entry.DataName))
	}
	note := path.Join(entry.Dir, entry.ID+removingSuffix)
	files := entry.dataFiles()
	if entry.removing {
		var begun removal
		err := getJSON(ctx, store, note, &begun)
		switch {
		case err == nil:
			files = union(files, begun.Files)
		// Gone: another process has finished it. Damaged: what is listed is removed.
		case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrCorrupt):
			return err
		}
	}
	files = slices.DeleteFunc(files, func(name string) bool { return !ownName(entry.ID, name) })
	begun := removal{APIVersion: APIVersion, ID: entry.ID, At: o.Now.UTC(), By: o.Version, Files: files}
	if err := putJSON(ctx, store, note, begun); err != nil {
		return fmt.Errorf("noting that %s is being removed: %w", entry.ID, err)
	}
	names := append([]string{entry.ID + manifestSuffix}, files...)
	for _, name := range append(names, entry.ID+verifiedSuffix, entry.ID+removingSuffix) {
		if err := store.Remove(ctx, path.Join(entry.Dir, name)); err != nil {
			return fmt.Errorf("removing %s: %w", store.Location(path.Join(entry.Dir, name)), err)
		}
	}
	return nil
}

// ownName reports whether a file can belong to the snapshot: what a note or a
// manifest says must not lead to another one's files.
func ownName(id, name string) bool {
	return storage.CheckName(name) == nil && (strings.HasPrefix(name, id+".") || strings.HasPrefix(name, id+"/"))
}

// dataFiles returns the names of the data files that the manifest states and those
// that were found, relative to Dir.
func (e *Entry) dataFiles() []string {
	files := slices.Clone(e.found)
	if e.Manifest != nil {
		for _, f := range e.Manifest.Files {
			files = append(files, f.Name)
		}
	}
	slices.Sort(files)
	return slices.Compact(files)
}

func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}
