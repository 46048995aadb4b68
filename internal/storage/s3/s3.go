// Package s3 stores objects in a bucket of Amazon S3, or of a server that speaks
// its protocol (MinIO, Ceph, SeaweedFS, Garage, versitygw, ...). It is the only
// importer of minio-go.
//
// Publication. Every object is a multipart upload: its length is not known when
// it begins, and S3 shows nothing of it until it is completed. Parts of 5 MiB are
// sent while the next one is filled, so that memory stays bounded (see partSize).
// Each part carries its SHA-256 in the signature, which a server must compare,
// and a CRC32C where the server keeps one (Content-MD5 where it does not).
//
// Names that are taken. Create looks whether the name is taken, Commit looks
// again and completes with "If-None-Match: *", which Amazon S3, MinIO, Ceph and
// others evaluate atomically. A server without conditional writes that says so
// (NotImplemented) gets the request without the condition, one that ignores the
// header does so silently: there, of two Writers that commit the same name within
// the same moment, both may succeed and the later one wins. Snapshots have random
// names, so that this takes two writers that mean to collide.
//
// Certainty. Each upload carries a random token as metadata. After the commit the
// object's size, ETag and token are read back; when the answer to the commit was
// lost, the token tells our object from anybody else's.
//
// Leftovers. A killed process leaves an unfinished upload, which costs money and
// is not listed as an object. Sweep aborts those below a prefix to which nothing
// has been added for the given age. A lifecycle rule of the bucket
// (AbortIncompleteMultipartUpload) is a good second line.
//
// Permissions needed: s3:GetObject, s3:PutObject, s3:ListBucket,
// s3:AbortMultipartUpload, s3:ListBucketMultipartUploads,
// s3:ListMultipartUploadParts, to remove backups s3:DeleteObject, and
// s3:GetBucketLocation unless the region is configured.
package s3

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/redisctl/redisctl/internal/storage"
)

// Store is a folder of a bucket. It implements storage.Store.
type Store struct {
	core    *minio.Core
	creds   *credentials.Credentials
	options Options

	// authenticated is set once credentials were found.
	authenticated atomic.Bool
	// noCondition and noChecksum are set when the server refused the header.
	noCondition, noChecksum atomic.Bool
}

var (
	_ storage.Store   = (*Store)(nil)
	_ storage.Checker = (*Store)(nil)
)

// New returns the store that o describes. It does not use the network. The error
// says which option is wrong.
func New(o Options) (*Store, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	endpoint, err := o.endpoint()
	if err != nil {
		return nil, err
	}
	transport, err := newTransport(o)
	if err != nil {
		return nil, err
	}
	creds := o.credentials()
	core, err := minio.NewCore(endpoint.Host, &minio.Options{
		Creds:        creds,
		Secure:       endpoint.Scheme == "https",
		Region:       o.Region,
		BucketLookup: o.Addressing.lookup(),
		Transport:    transport,
		MaxRetries:   1, // attempt does it, with a new body each time
	})
	if err != nil {
		return nil, fmt.Errorf("S3 endpoint %s: %w", endpoint.Redacted(), err)
	}
	if o.UserAgent != "" {
		name, version, _ := strings.Cut(o.UserAgent, "/")
		core.SetAppInfo(name, version)
	}
	return &Store{core: core, creds: creds, options: o}, nil
}

// Location implements storage.Store with the object's URL, s3://bucket/key.
func (s *Store) Location(name string) string {
	location := "s3://" + path.Join(s.options.Bucket, s.options.Prefix)
	if name == "" {
		return location
	}
	return location + "/" + name
}

func (s *Store) key(name string) string { return path.Join(s.options.Prefix, name) }

// folder returns what all keys below the folder prefix begin with.
func (s *Store) folder(prefix string) string {
	if dir := path.Join(s.options.Prefix, prefix); dir != "" {
		return dir + "/"
	}
	return ""
}

// name is the inverse of key, and false for keys that are no name: markers of
// folders, and what other programs may have put there.
func (s *Store) name(key string) (string, bool) {
	name, ok := strings.CutPrefix(key, s.folder(""))
	return name, ok && storage.CheckName(name) == nil
}

// begin is called at the start of every operation.
func (s *Store) begin(ctx context.Context, name string) error {
	if err := errors.Join(ctx.Err(), storage.CheckName(name)); err != nil {
		return err
	}
	if key := s.key(name); len(key) > maxKey {
		return fmt.Errorf("%w: with the prefix it has %d bytes, S3 allows %d", storage.ErrInvalidName, len(key), maxKey)
	}
	return s.authenticate(ctx)
}

// maxKey is the longest key in bytes (Amazon S3 User Guide, "Naming objects").
const maxKey = 1024

// Stat implements storage.Store.
func (s *Store) Stat(ctx context.Context, name string) (storage.Info, error) {
	if err := s.begin(ctx, name); err != nil {
		return storage.Info{}, s.fail("stat", name, err)
	}
	object, err := s.stat(ctx, name)
	if err != nil {
		return storage.Info{}, s.fail("stat", name, err)
	}
	return storage.Info{Name: name, Size: object.Size, Modified: object.LastModified}, nil
}

func (s *Store) stat(ctx context.Context, name string) (object minio.ObjectInfo, err error) {
	err = s.attempt(ctx, func() error {
		object, err = s.core.StatObject(ctx, s.options.Bucket, s.key(name), minio.StatObjectOptions{})
		return err
	})
	return object, err
}

// Open implements storage.Store. An interrupted transfer is resumed where it
// stopped, as long as the object is the same.
func (s *Store) Open(ctx context.Context, name string) (io.ReadCloser, storage.Info, error) {
	if err := s.begin(ctx, name); err != nil {
		return nil, storage.Info{}, s.fail("open", name, err)
	}
	r := &reader{ctx: ctx, store: s, name: name}
	if err := r.open(); err != nil {
		return nil, storage.Info{}, s.fail("open", name, err)
	}
	return r, storage.Info{Name: name, Size: r.size, Modified: r.modified}, nil
}

// List implements storage.Store.
func (s *Store) List(ctx context.Context, prefix string) ([]storage.Info, error) {
	if err := s.beginFolder(ctx, prefix); err != nil {
		return nil, s.fail("list", prefix, err)
	}
	var objects []storage.Info
	after := ""
	err := s.attempt(ctx, func() error {
		all := minio.ListObjectsOptions{Prefix: s.folder(prefix), Recursive: true, StartAfter: after}
		for o := range s.core.ListObjectsIter(ctx, s.options.Bucket, all) {
			if o.Err != nil {
				return o.Err
			}
			after = o.Key
			if name, ok := s.name(o.Key); ok {
				objects = append(objects, storage.Info{Name: name, Size: o.Size, Modified: o.LastModified})
			}
		}
		return ctx.Err()
	})
	if err != nil {
		err = s.fail("list", prefix, err)
	}
	// Not every server lists in order (S3 directory buckets).
	slices.SortFunc(objects, func(a, b storage.Info) int { return cmp.Compare(a.Name, b.Name) })
	return objects, err
}

// listPage is the most that S3 returns in one answer.
const listPage = 1000

func (s *Store) beginFolder(ctx context.Context, prefix string) error {
	if err := errors.Join(ctx.Err(), storage.CheckPrefix(prefix)); err != nil {
		return err
	}
	return s.authenticate(ctx)
}

// Remove implements storage.Store. In a bucket with versions the old version
// remains, as the bucket's owner wanted.
func (s *Store) Remove(ctx context.Context, name string) error {
	if err := s.begin(ctx, name); err != nil {
		return s.fail("remove", name, err)
	}
	err := s.attempt(ctx, func() error {
		return s.core.RemoveObject(ctx, s.options.Bucket, s.key(name), minio.RemoveObjectOptions{})
	})
	if err != nil && !isAbsent(err) {
		return s.fail("remove", name, err)
	}
	return nil
}

// Sweep implements storage.Store: it aborts uploads by the time of their newest
// part, or of their beginning where they have none.
func (s *Store) Sweep(ctx context.Context, prefix string, olderThan time.Duration) ([]string, error) {
	if err := s.beginFolder(ctx, prefix); err != nil {
		return nil, s.fail("list the uploads of", prefix, err)
	}
	limit := time.Now().Add(-olderThan)
	var swept []string
	var problems []error
	uploads, err := s.uploads(ctx, s.folder(prefix))
	if err != nil {
		problems = append(problems, s.fail("list the uploads of", prefix, err))
	}
	for _, u := range uploads {
		name, ok := s.name(u.Key)
		if !ok || u.Initiated.After(limit) {
			continue
		}
		touched, err := s.lastPart(ctx, u)
		if err == nil && !touched.After(limit) {
			err = s.abort(ctx, u.Key, u.UploadID)
			swept = append(swept, name)
		}
		if err != nil && !isCode(err, codeNoSuchUpload) { // it has ended by itself
			problems = append(problems, s.fail("abort the upload of", name, err))
		}
	}
	return swept, errors.Join(problems...)
}

func (s *Store) uploads(ctx context.Context, prefix string) ([]minio.ObjectMultipartInfo, error) {
	var all []minio.ObjectMultipartInfo
	for key, id := "", ""; ; {
		var page minio.ListMultipartUploadsResult
		err := s.attempt(ctx, func() (err error) {
			page, err = s.core.ListMultipartUploads(ctx, s.options.Bucket, prefix, key, id, "", listPage)
			return err
		})
		if err != nil {
			return all, err
		}
		all = append(all, page.Uploads...)
		if key, id = page.NextKeyMarker, page.NextUploadIDMarker; !page.IsTruncated || key == "" {
			return all, nil
		}
	}
}

// lastPart returns when something was last added to an upload; the zero time if
// nothing was.
func (s *Store) lastPart(ctx context.Context, u minio.ObjectMultipartInfo) (last time.Time, err error) {
	for marker := 0; ; {
		var page minio.ListObjectPartsResult
		err := s.attempt(ctx, func() (err error) {
			page, err = s.core.ListObjectParts(ctx, s.options.Bucket, u.Key, u.UploadID, marker, listPage)
			return err
		})
		if err != nil {
			return last, err
		}
		for _, part := range page.ObjectParts {
			if part.LastModified.After(last) {
				last = part.LastModified
			}
		}
		if !page.IsTruncated || page.NextPartNumberMarker <= marker {
			return last, nil
		}
		marker = page.NextPartNumberMarker
	}
}

func (s *Store) abort(ctx context.Context, key, uploadID string) error {
	return s.attempt(ctx, func() error {
		return s.core.AbortMultipartUpload(ctx, s.options.Bucket, key, uploadID)
	})
}

// Check implements storage.Checker: it begins an upload, which is the only way to know
// whether that is allowed, and aborts it.
func (s *Store) Check(ctx context.Context, prefix string) error {
	w, err := s.Create(ctx, path.Join(prefix, "redisctl-check-"+strings.ToLower(rand.Text())), storage.CreateOptions{})
	var failed *fs.PathError
	if errors.As(err, &failed) { // nobody asked for that name
		return &fs.PathError{Op: "write to", Path: s.Location(prefix), Err: failed.Err}
	}
	if err != nil {
		return err
	}
	w.Abort() // it must also work when ctx has ended
	return nil
}

// Free implements storage.Store: object storage does not tell.
func (s *Store) Free(context.Context) (int64, bool) { return 0, false }

// fail names the object and explains err.
func (s *Store) fail(op, name string, err error) error {
	var done *fs.PathError
	if errors.Is(err, storage.ErrInvalidName) || errors.As(err, &done) {
		return err
	}
	return &fs.PathError{Op: op, Path: s.Location(name), Err: s.explain(err)}
}
