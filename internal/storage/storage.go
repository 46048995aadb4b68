// Package storage says where snapshots live. A Store holds immutable objects
// under slash-separated names; the packages below implement it (folder, s3;
// tee writes to several at once) and storagetest is the suite that each of them
// passes.
//
// The interface promises only what a folder and an S3 bucket can both keep:
//
//   - an object appears under its name completely or not at all;
//   - an existing object is not replaced unless the caller asks for it;
//   - what an interrupted Writer leaves behind is never listed or opened, and
//     Sweep removes it.
package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"
	"unicode"
)

// Store holds objects by name. Its methods are safe for concurrent use, by
// several goroutines and by several processes on the same data.
//
// Names follow CheckName; every method returns an error matching
// ErrInvalidName for one that does not. Other errors match fs.ErrNotExist,
// fs.ErrExist, fs.ErrPermission and ErrNoSpace where these apply, and name the
// object's Location.
type Store interface {
	// Create starts a new object. Nothing is visible under name before
	// Writer.Commit returns nil. Unless opts.Overwrite is set it fails with
	// fs.ErrExist when the name is already taken, so that the caller learns it
	// before the transfer and not after it. The context governs every Write.
	Create(ctx context.Context, name string, opts CreateOptions) (Writer, error)
	// Open reads an object from its beginning. The caller closes the reader.
	Open(ctx context.Context, name string) (io.ReadCloser, Info, error)
	// Stat describes an object without reading it.
	Stat(ctx context.Context, name string) (Info, error)
	// List returns every object below the folder prefix, at any depth, sorted by
	// name. The empty prefix lists everything. A folder that does not exist holds
	// nothing, which is not an error. Where some part could not be read, List
	// returns the objects it did find together with the error.
	List(ctx context.Context, prefix string) ([]Info, error)
	// Remove deletes an object. It is not an error if there is none.
	Remove(ctx context.Context, name string) error
	// Sweep deletes what Writers that were neither committed nor aborted (the
	// process was killed) left below the folder prefix and have not written to
	// for olderThan. It returns the names that the Writers were creating.
	//
	// A Writer that is alive must not be swept: olderThan has to exceed the
	// longest pause between two Writes plus the clock difference between this
	// machine and the storage. SweepAge is a safe choice.
	Sweep(ctx context.Context, prefix string, olderThan time.Duration) ([]string, error)
	// Free returns the number of bytes that can still be stored, and false where
	// this is not known (object storage) or not limited.
	Free(ctx context.Context) (bytes int64, ok bool)
	// Location is what messages call an object: its path or URL. The empty name
	// gives the location of the store itself.
	Location(name string) string
}

// Checker is a Store that can tell beforehand whether it takes objects.
type Checker interface {
	// Check fails when objects below the folder prefix cannot be created, as far as
	// this can be told without creating one. It leaves nothing behind.
	Check(ctx context.Context, prefix string) error
}

// Writer receives the contents of one new object. It is used by one goroutine
// at a time, and ends with Commit or Abort.
type Writer interface {
	// Write appends to the object. After an error the Writer cannot be committed.
	io.Writer
	// Commit makes the object durable and publishes it under its name. If it
	// fails, the object does not exist (with CreateOptions.Overwrite, it may be
	// the old or the new one) and the Writer is already aborted. An error
	// matching fs.ErrExist says that the name was taken in the meantime. A second
	// Commit, or one after Abort, fails with fs.ErrClosed.
	Commit(ctx context.Context) error
	// Abort discards what was written. It does nothing after Commit or a second
	// time, so that it can be deferred.
	Abort()
}

// CreateOptions are the options of Store.Create.
type CreateOptions struct {
	// Overwrite replaces an existing object of the same name, atomically.
	Overwrite bool
}

// Info describes a stored object.
type Info struct {
	// Name inside the store.
	Name string
	// Size in bytes.
	Size int64
	// Modified is when the object was stored, by the storage's clock.
	Modified time.Time
}

// SweepAge is the recommended age for Store.Sweep. A transfer is given up after
// seconds without a byte, so a day covers any clock difference as well.
const SweepAge = 24 * time.Hour

var (
	// ErrNoSpace matches a Write, Commit or Create that failed because the
	// storage is full: the disk, the user's quota or the file size limit.
	ErrNoSpace = errors.New("no space left in the backup storage")
	// ErrDenied matches the failure of every operation that the storage does not
	// allow these credentials, or any, to do. It matches fs.ErrPermission as well.
	ErrDenied = fmt.Errorf("the backup storage refuses access (%w)", fs.ErrPermission)
	// ErrInvalidName matches the refusal of an object name or a prefix.
	ErrInvalidName = errors.New("invalid object name")
)

// maxNameLen is the longest S3 key, in bytes. File systems allow more in total
// (but only 255 per element, which they check themselves).
const maxNameLen = 1024

// CheckName returns an error matching ErrInvalidName unless name can be an
// object's name in every backend: a relative, slash-separated UTF-8 path of at
// most 1024 bytes, in its shortest form (no "..", ".", empty element, leading or
// trailing slash) and without backslashes, which are separators on Windows, and
// control characters, which would reach the operator's terminal.
func CheckName(name string) error {
	switch {
	case !fs.ValidPath(name) || name == ".":
		return fmt.Errorf("%w %q: not a plain relative path", ErrInvalidName, name)
	case len(name) > maxNameLen:
		return fmt.Errorf("%w: %d bytes, the limit is %d", ErrInvalidName, len(name), maxNameLen)
	case strings.ContainsRune(name, '\\') || strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("%w %q: it has a backslash or a control character", ErrInvalidName, name)
	}
	return nil
}

// CheckPrefix is CheckName for the prefix of List and Sweep, which may also be
// empty.
func CheckPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	return CheckName(prefix)
}
