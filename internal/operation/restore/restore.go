// Package restore holds what all ways of restoring share: the stored backup that is
// restored (Backup), what must be true before anything is changed (the functions that
// return findings), and the proof afterwards (Comparison).
//
// The ways themselves are the packages below this one.
package restore

import (
	"context"
	"errors"
	"io"
	"path"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/snapshot/codec"
	"github.com/redisctl/redisctl/internal/storage"
)

// Backup is a stored RDB snapshot, alone or as a part of a set, or an RDB file that
// something else has made.
type Backup struct {
	Store storage.Store
	Entry snapshot.Entry
	// Keys open encrypted data. Nil opens none.
	Keys *codec.Keys
	// Visitor, if not nil, is told what the file holds while Verify reads it, see
	// snapshot.VerifyOptions.
	Visitor func() rdb.Visitor
	// Prefix is how many bytes of the file are the RDB, when something follows it as in
	// an append-only file; 0 for all.
	Prefix int64
}

// Contents is what a backup holds.
type Contents struct {
	// Summary counts the keys. Expired ones are those that were when it was read.
	Summary rdb.Summary
	// Source is where the data comes from; nil for a file without a manifest.
	Source *snapshot.Source
	// Size in bytes of the RDB file, decoded.
	Size int64
	// Problem is why the backup failed verification; nil when it has passed.
	Problem error
}

// Name is what messages call the backup.
func (b Backup) Name() string { return b.Entry.ID }

// dataName is the name of the RDB file in the store.
func (b Backup) dataName() (string, error) {
	m := b.Entry.Manifest
	if m == nil {
		return b.Entry.DataName, nil
	}
	// The RDB of an append-only file is only what its commands begin with.
	if m.RDB() == nil || m.Kind != snapshot.KindRDB && m.Kind != snapshot.KindFull {
		return "", operation.Errorf(operation.Usage, "%s is a backup of kind %q: it has no RDB file", b.Name(), m.Kind)
	}
	return path.Join(b.Entry.Dir, m.RDB().Name), nil
}

// Open reads the RDB file, decoded. Each caller closes what it gets.
func (b Backup) Open(ctx context.Context) (io.ReadCloser, error) {
	name, err := b.dataName()
	if err != nil {
		return nil, err
	}
	contents, err := snapshot.Open(ctx, b.Store, name, snapshot.OpenOptions{Keys: b.Keys})
	if err != nil {
		return nil, b.failed("opening the backup", err)
	}
	if b.Prefix > 0 {
		return prefix{io.LimitReader(contents, b.Prefix), contents}, nil
	}
	return contents, nil
}

// prefix is the beginning of a file.
type prefix struct {
	io.Reader
	io.Closer
}

// Verify reads the whole backup and compares it with its manifest and its format. A
// backup that fails is no error: Contents.Problem says so, and what could be told of
// it is filled in.
func (b Backup) Verify(ctx context.Context, now time.Time, report operation.Reporter) (Contents, error) {
	if _, err := b.dataName(); err != nil {
		return Contents{}, err
	}
	found, err := snapshot.Verify(ctx, b.Store, b.Entry, snapshot.VerifyOptions{
		Keys:    b.Keys,
		Visitor: b.Visitor,
		Now:     func() time.Time { return now },
		Progress: func(done, total int64) {
			report.Progress(operation.Progress{Done: done, Total: total, Unit: "bytes"})
		},
	})
	if err != nil && !errors.Is(err, snapshot.ErrCorrupt) {
		return Contents{}, b.failed("verifying the backup", err)
	}
	c := Contents{Problem: err}
	if m := b.Entry.Manifest; m != nil {
		c.Source, c.Size = &m.Source, m.RDB().ContentSize()
		c.Summary = *m.RDB().RDB
	}
	if found.RDB != nil {
		c.Summary, c.Size = *found.RDB, found.RDB.Size
	}
	return c, nil
}

func (b Backup) failed(phase string, err error) error {
	e := &operation.Error{Kind: operation.KindOf(err), Object: b.Name(), Phase: phase, Err: err, Unchanged: "nothing was changed"}
	switch {
	case errors.Is(err, codec.ErrKey):
		e.Next = "give what opens it with --identity or --passphrase-file"
	case errors.Is(err, snapshot.ErrUnsupported), errors.Is(err, codec.ErrUnsupported):
		e.Kind = operation.Unsupported
	case errors.Is(err, snapshot.ErrCorrupt):
		e.Kind = operation.Corrupt
	}
	return e
}
