package s3

import (
	"bytes"
	"cmp"
	"context"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/redisctl/redisctl/internal/storage"
)

// tokenHeader marks whose upload an object is.
const tokenHeader = "Redisctl-Upload"

const (
	crc32cHeader    = "X-Amz-Checksum-Crc32c"
	algorithmHeader = "X-Amz-Checksum-Algorithm"
)

// Limits of S3: at least 5 MiB for each part but the last, at most 10,000 parts.
// The first 4,000 parts (20 GiB) have equal sizes, which some servers demand;
// after that the size doubles with each 1,000 parts, which suffices for 600 GiB. Larger parts would
// need more memory from the first byte on.
const (
	firstPartSize  = 5 << 20
	equalParts     = 4000
	partsPerSize   = 1000
	maxParts       = 10_000
	concurrent     = 2 // parts under way while the next one is filled
	cleanupTimeout = 10 * time.Second
)

// partSize returns the bytes of part n, which counts from 1.
func partSize(n int) int {
	if n <= equalParts {
		return firstPartSize
	}
	return firstPartSize << (1 + (n-equalParts-1)/partsPerSize)
}

// Create implements storage.Store. It begins the upload, so that credentials, the
// bucket and permissions are known to be right before the data comes.
func (s *Store) Create(ctx context.Context, name string, opts storage.CreateOptions) (storage.Writer, error) {
	if err := s.begin(ctx, name); err != nil {
		return nil, s.fail("create", name, err)
	}
	w := &writer{store: s, name: name, token: strings.ToLower(rand.Text()), overwrite: opts.Overwrite}
	if err := w.initiate(ctx); err != nil {
		return nil, s.fail("create", name, err)
	}
	w.created = ctx
	w.ctx, w.cancel = context.WithCancel(ctx)
	w.slots = make(chan struct{}, concurrent)
	w.free = make(chan []byte, concurrent+1)
	// After the upload has begun, because only answers to other requests than HEAD
	// say what is wrong.
	if !opts.Overwrite {
		if err := w.vacant(ctx); err != nil {
			w.Abort() //nolint:contextcheck // it must also work when ctx has ended
			return nil, s.fail("create", name, err)
		}
	}
	return w, nil
}

type writer struct {
	store     *Store
	name      string
	uploadID  string
	token     string
	overwrite bool

	created context.Context // of Create
	ctx     context.Context // of the parts: ends with created, a failure, or the writer
	cancel  context.CancelFunc

	buffer []byte
	next   int // number of the last part that was begun
	size   int64
	ended  bool
	slots  chan struct{}
	free   chan []byte // buffers to use again
	wg     sync.WaitGroup

	mu    sync.Mutex
	parts []minio.CompletePart
	err   error // the first failure
}

func (w *writer) initiate(ctx context.Context) error {
	for {
		metadata := map[string]string{tokenHeader: w.token}
		plain := w.store.noChecksum.Load()
		if !plain {
			metadata[algorithmHeader] = minio.ChecksumCRC32C.String()
		}
		err := w.store.attempt(ctx, func() (err error) {
			w.uploadID, err = w.store.core.NewMultipartUpload(ctx, w.store.options.Bucket, w.store.key(w.name),
				minio.PutObjectOptions{UserMetadata: metadata})
			return err
		})
		if plain || !isCode(err, codeNotImplement, codeInvalidArg, codeInvalidReq) {
			return err
		}
		w.store.noChecksum.Store(true)
	}
}

// vacant fails with fs.ErrExist if there is an object of that name.
func (w *writer) vacant(ctx context.Context) error {
	_, err := w.store.stat(ctx, w.name)
	switch {
	case err == nil:
		return fs.ErrExist
	case isAbsent(err):
		return nil
	default:
		return err
	}
}

// failed returns the first failure.
func (w *writer) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// fail notes a failure and ends the transfers.
func (w *writer) fail(err error) error {
	w.mu.Lock()
	w.err = cmp.Or(w.err, err)
	err = w.err
	w.mu.Unlock()
	w.cancel()
	return err
}

// Write implements io.Writer.
func (w *writer) Write(p []byte) (int, error) {
	written := 0
	err := w.failed()
	switch {
	case w.ended:
		err = fs.ErrClosed
	case err == nil && w.created.Err() != nil:
		err = w.fail(w.created.Err())
	}
	for err == nil && written < len(p) {
		var n int
		n, err = w.fill(p[written:])
		written += n
	}
	if err != nil {
		return written, w.store.fail("write", w.name, err)
	}
	return written, nil
}

// fill adds to the buffer and sends it when it is full.
func (w *writer) fill(p []byte) (int, error) {
	size := partSize(w.next + 1)
	if w.buffer == nil {
		select {
		case w.buffer = <-w.free:
		default:
		}
		if cap(w.buffer) < size {
			w.buffer = make([]byte, 0, size)
		}
	}
	n := min(len(p), size-len(w.buffer))
	w.buffer = append(w.buffer, p[:n]...)
	w.size += int64(n)
	if len(w.buffer) < size {
		return n, nil
	}
	return n, w.send()
}

// send uploads the buffer in the background. It waits while enough is under way.
func (w *writer) send() error {
	if w.next == maxParts {
		return w.fail(fmt.Errorf("it is larger than %d parts can hold", maxParts))
	}
	select {
	case w.slots <- struct{}{}:
	case <-w.ctx.Done():
		return w.fail(w.ctx.Err())
	}
	w.next++
	number, data := w.next, w.buffer
	w.buffer = nil
	w.wg.Go(func() {
		defer func() { <-w.slots }()
		part, err := w.upload(number, data)
		if err != nil {
			_ = w.fail(err) // the next Write or Commit returns it
			return
		}
		w.mu.Lock()
		w.parts = append(w.parts, part)
		w.mu.Unlock()
		select {
		case w.free <- data[:0]:
		default:
		}
	})
	return w.failed()
}

func (w *writer) upload(number int, data []byte) (minio.CompletePart, error) {
	s := w.store
	sha := sha256.Sum256(data)
	options := minio.PutObjectPartOptions{Sha256Hex: hex.EncodeToString(sha[:]), DisableContentSha256: true}
	done := minio.CompletePart{PartNumber: number}
	if s.noChecksum.Load() {
		sum := md5.Sum(data)
		options.Md5Base64 = base64.StdEncoding.EncodeToString(sum[:])
	} else {
		sum := binary.BigEndian.AppendUint32(nil, crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)))
		done.ChecksumCRC32C = base64.StdEncoding.EncodeToString(sum)
		options.CustomHeader = http.Header{crc32cHeader: {done.ChecksumCRC32C}}
	}
	err := s.attempt(w.ctx, func() error {
		part, err := s.core.PutObjectPart(w.ctx, s.options.Bucket, s.key(w.name), w.uploadID, number,
			bytes.NewReader(data), int64(len(data)), options)
		if err != nil {
			return err
		}
		if part.ChecksumCRC32C != "" && part.ChecksumCRC32C != done.ChecksumCRC32C {
			return fmt.Errorf("part %d arrived with checksum %s instead of %s", number, part.ChecksumCRC32C, done.ChecksumCRC32C)
		}
		done.ETag = part.ETag
		return nil
	})
	return done, err
}

// Commit implements storage.Writer.
func (w *writer) Commit(ctx context.Context) error {
	if w.ended {
		return w.store.fail("commit", w.name, fs.ErrClosed)
	}
	if err := w.commit(ctx); err != nil {
		w.Abort() //nolint:contextcheck // it must also work when ctx has ended
		return w.store.fail("commit", w.name, err)
	}
	w.ended = true
	w.cancel()
	return nil
}

func (w *writer) commit(ctx context.Context) error {
	if err := cmp.Or(w.failed(), w.created.Err(), ctx.Err()); err != nil {
		return err
	}
	// The context of Commit governs what is still to be sent.
	defer context.AfterFunc(ctx, func() { _ = w.fail(ctx.Err()) })()
	if len(w.buffer) > 0 || w.next == 0 {
		if err := w.send(); err != nil {
			return err
		}
	}
	w.wg.Wait()
	if err := cmp.Or(w.failed(), ctx.Err()); err != nil {
		return err
	}
	slices.SortFunc(w.parts, func(a, b minio.CompletePart) int { return cmp.Compare(a.PartNumber, b.PartNumber) })
	if !w.overwrite {
		if err := w.vacant(ctx); err != nil {
			return err
		}
	}
	etag, err := w.complete(ctx)
	if err != nil {
		return err
	}
	return w.confirm(ctx, etag)
}

// complete publishes the object and returns its ETag, empty if the answer was
// lost.
func (w *writer) complete(ctx context.Context) (string, error) {
	s := w.store
	for n := 1; ; n++ {
		var options minio.PutObjectOptions
		if !w.overwrite && !s.noCondition.Load() {
			options.SetMatchETagExcept("*")
		}
		info, err := s.core.CompleteMultipartUpload(ctx, s.options.Bucket, s.key(w.name), w.uploadID, w.parts, options)
		if err == nil {
			return info.ETag, nil
		}
		if isCode(err, codeNotImplement) && !w.overwrite && !s.noCondition.Swap(true) {
			continue
		}
		// Whatever the answer is, an earlier request (of ours, or one that the
		// network repeated) may have done it.
		switch w.published(ctx) {
		case publishedOurs:
			return "", nil
		case publishedUnknown:
			err = fmt.Errorf("%w; whether the object was stored is not known", s.explain(err))
		case publishedOther:
			if !w.overwrite {
				return "", fs.ErrExist
			}
		}
		if n >= s.options.Attempts || !s.passing(ctx, err) {
			return "", err
		}
		if err := s.pause(ctx, n); err != nil {
			return "", err
		}
	}
}

// publication is what stands under the final name.
type publication int

const (
	publishedUnknown publication = iota
	publishedNone
	publishedOurs
	publishedOther
)

// published looks what stands under the name, also when ctx has ended: the caller
// must learn what it has done.
func (w *writer) published(ctx context.Context) publication {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	object, err := w.store.stat(ctx, w.name)
	switch {
	case err == nil && w.owns(object):
		return publishedOurs
	case err == nil:
		return publishedOther
	case isAbsent(err):
		return publishedNone
	default:
		return publishedUnknown
	}
}

func (w *writer) owns(object minio.ObjectInfo) bool {
	for name, value := range object.UserMetadata {
		if strings.EqualFold(name, tokenHeader) {
			return value == w.token
		}
	}
	return false
}

// confirm reads back what the server says of the object.
func (w *writer) confirm(ctx context.Context, etag string) error {
	// Even when ctx ends now the object is public, and must be right or go.
	look, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	object, err := w.store.stat(look, w.name)
	switch {
	case err != nil:
		err = fmt.Errorf("looking at what was stored: %w", w.store.explain(err))
	case !w.owns(object):
		return fmt.Errorf("another writer replaced it at the same moment: %w", fs.ErrExist)
	case object.Size != w.size:
		err = fmt.Errorf("the server stored %d bytes of %d", object.Size, w.size)
	case etag != "" && object.ETag != etag:
		err = fmt.Errorf("the server stored an object with ETag %s instead of %s", object.ETag, etag)
	default:
		return nil
	}
	if w.overwrite {
		return err
	}
	return errors.Join(err, w.store.Remove(look, w.name))
}

// Abort implements storage.Writer. What cannot be aborted now is left to Sweep.
func (w *writer) Abort() {
	if w.ended {
		return
	}
	w.ended = true
	if w.cancel != nil {
		w.cancel()
	}
	w.wg.Wait()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.created), cleanupTimeout)
	defer cancel()
	_ = w.store.abort(ctx, w.store.key(w.name), w.uploadID)
}
