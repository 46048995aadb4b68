package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/minio/minio-go/v7"
)

// reader reads one version of an object. When the connection breaks it goes on
// with another one at the same byte.
type reader struct {
	ctx   context.Context
	store *Store
	name  string

	body     io.ReadCloser // nil when the next Read must connect again
	closed   bool
	etag     string
	size     int64
	modified time.Time
	offset   int64
	failures int // since the last byte
}

// open asks for the rest of the object.
func (r *reader) open() error {
	var o minio.GetObjectOptions
	if r.offset > 0 {
		if err := errors.Join(o.SetMatchETag(r.etag), o.SetRange(r.offset, 0)); err != nil {
			return err
		}
	}
	return r.store.attempt(r.ctx, func() error {
		body, info, _, err := r.store.core.GetObject(r.ctx, r.store.options.Bucket, r.store.key(r.name), o)
		if isCode(err, codePrecondition) {
			return errReplaced
		}
		if err != nil {
			return err
		}
		r.body = body
		if r.offset == 0 {
			r.etag, r.size, r.modified = info.ETag, info.Size, info.LastModified
		}
		return nil
	})
}

// errReplaced ends a transfer that cannot be resumed.
var errReplaced = errors.New("the object was replaced while it was read")

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	switch {
	case r.closed:
		return 0, r.store.fail("read", r.name, fs.ErrClosed)
	case r.ctx.Err() != nil:
		return 0, r.store.fail("read", r.name, r.ctx.Err())
	case r.offset == r.size:
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	}
	for {
		n, err := r.read(p)
		if n > 0 {
			r.failures = 0
			return n, nil // an error comes back with the next Read
		}
		if err == nil {
			continue
		}
		if err := r.recover(err); err != nil {
			return 0, r.store.fail("read", r.name, err)
		}
	}
}

func (r *reader) read(p []byte) (int, error) {
	if r.body == nil {
		if err := r.open(); err != nil {
			r.failures = r.store.options.Attempts // open has tried often enough
			return 0, err
		}
	}
	n, err := r.body.Read(p[:min(int64(len(p)), r.size-r.offset)])
	r.offset += int64(n)
	if errors.Is(err, io.EOF) && r.offset < r.size {
		err = fmt.Errorf("the server sent %d of %d bytes: %w", r.offset, r.size, io.ErrUnexpectedEOF)
	}
	return n, err
}

// recover prepares the next attempt, or returns why there is none.
func (r *reader) recover(err error) error {
	r.drop()
	r.failures++
	switch {
	case r.ctx.Err() != nil:
		return r.ctx.Err()
	case r.failures >= r.store.options.Attempts || r.etag == "":
		return err
	default:
		return r.store.pause(r.ctx, r.failures)
	}
}

func (r *reader) drop() {
	if r.body != nil {
		_ = r.body.Close() // what was needed of it has been read
		r.body = nil
	}
}

// Close implements io.Closer.
func (r *reader) Close() error {
	r.closed = true
	r.drop()
	return nil
}
