package storage

import (
	"context"
	"io"
	"time"
)

// Resumer is a Store that can keep what was written to an unfinished object, for
// another Writer to go on with, also after the process was killed. Folders do. Object
// storage does not: the parts of an upload cannot be read back, and nobody could prove
// that they are what the source has.
type Resumer interface {
	Store
	// CreateResumable is Create for contents that can be fetched again from any byte on.
	// origin is a short text that says where they come from; it is kept beside them.
	CreateResumable(ctx context.Context, name, origin string) (ResumableWriter, error)
	// Unfinished takes over what Writers of CreateResumable that were suspended, or
	// whose process was killed, have left of objects in the folder (not in the folders
	// below it). It leaves out what a Writer that is alive is writing, and what somebody
	// else has taken over: nobody else gets what it returns until that is released.
	Unfinished(ctx context.Context, folder string) ([]Unfinished, error)
}

// ResumableWriter is a Writer that can be interrupted.
type ResumableWriter interface {
	Writer
	// Suspend ends the Writer like Abort, but keeps what was written and returns its
	// size in bytes. After a failed Write, and when nothing was written, it keeps nothing.
	Suspend() int64
}

// Unfinished is what is left of an object. Whether it is sound nobody knows: a crash
// of the machine may have left anything. It ends with Resume, Discard or Release; after
// the first of them the others do nothing, so that Release can be deferred.
type Unfinished interface {
	// ReaderAt reads what is there, also while a Writer of Resume goes on with it.
	io.ReaderAt
	// Size of it in bytes.
	Size() int64
	// Modified is when something was last written to it.
	Modified() time.Time
	// Origin is the text that was given when it was created.
	Origin() string
	// Resume returns a Writer that goes on with it, as the object name in the same
	// folder. The first Size bytes that are written are those that are here: the caller
	// must have made sure of it.
	Resume(ctx context.Context, name, origin string) (ResumableWriter, error)
	// Discard removes it.
	Discard()
	// Release leaves it for somebody else.
	Release()
}
