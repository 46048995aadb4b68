package snapshot

import (
	"context"
	"io"
	"time"

	"github.com/redisctl/redisctl/internal/snapshot/codec"
	"github.com/redisctl/redisctl/internal/storage"
)

// FileWriter stores one file of a snapshot: what is written to it is digested,
// encoded, digested again and stored, in one pass. It ends with Finish and Commit,
// or with Abort.
type FileWriter struct {
	storage.Writer // for Commit and Abort

	encoding codec.Encoding
	encoder  *codec.Writer // nil when the contents are stored as they are
	sink     io.Writer     // where contents go
	stored   *countingDigest
	contents *countingDigest // the same as stored without an encoder
}

// CreateFile starts the object name in the store; the suffix that tells the
// encoding is up to the caller, see codec.Suffix. Its errors are those of
// storage.Store.Create.
func CreateFile(ctx context.Context, store storage.Store, name string, encoding codec.Encoding) (*FileWriter, error) {
	return createFile(ctx, store, name, encoding, nil)
}

func createFile(
	ctx context.Context, store storage.Store, name string, encoding codec.Encoding, d *Download,
) (*FileWriter, error) {
	out, err := d.createObject(ctx, store, name, encoding)
	if err != nil {
		return nil, err
	}
	w := &FileWriter{Writer: out, encoding: encoding, stored: &countingDigest{digester: newDigester()}}
	w.contents = w.stored
	w.sink = io.MultiWriter(out, w.stored)
	if len(encoding.Codecs()) == 0 {
		return w, nil
	}
	w.encoder, err = encoding.NewWriter(w.sink)
	if err != nil {
		w.Abort()
		return nil, err
	}
	w.contents = &countingDigest{digester: newDigester()}
	w.sink = io.MultiWriter(w.encoder, w.contents)
	return w, nil
}

// Write takes a piece of the contents.
func (w *FileWriter) Write(p []byte) (int, error) { return w.sink.Write(p) }

// Finish writes what the codecs hold back and describes the file: its sizes, its
// digests and its encoding. The caller fills in the rest, such as the name, and
// calls Commit.
func (w *FileWriter) Finish() (File, error) {
	if w.encoder == nil {
		return File{Size: w.stored.bytes, SHA256: w.stored.sum()}, nil
	}
	if err := w.encoder.Close(); err != nil {
		return File{}, err
	}
	w.encoder, w.sink = nil, nil // a set keeps many writers until it is committed
	return File{
		Size: w.stored.bytes, SHA256: w.stored.sum(),
		Encoding: &Encoding{
			Codecs: w.encoding.Codecs(), Level: w.encoding.Level, Recipients: w.encoding.Names(),
			ContentSize: w.contents.bytes, ContentSHA256: w.contents.sum(),
		},
	}, nil
}

// Abort discards what was written. It does nothing after Commit or a second time.
func (w *FileWriter) Abort() {
	if w.encoder != nil {
		w.encoder.Discard()
	}
	w.stored.close()
	w.contents.close()
	w.Writer.Abort()
}

// countingDigest counts what it digests.
type countingDigest struct {
	*digester
	bytes int64
}

func (d *countingDigest) Write(p []byte) (int, error) {
	n, err := d.digester.Write(p)
	d.bytes += int64(n)
	return n, err
}

// OpenOptions are the options of Open.
type OpenOptions struct {
	// Keys open encrypted files. Nil opens none.
	Keys *codec.Keys
	// Progress, if not nil, is called after each piece with the stored bytes read so
	// far and their number.
	Progress func(bytes, total int64)
}

// Contents is a stored file, decoded while it is read.
type Contents struct {
	*codec.Reader
	// Info describes what is stored.
	Info storage.Info
	file io.Closer
}

// Close ends the reading.
func (c *Contents) Close() error {
	c.Reader.Close()
	return c.file.Close()
}

// Open reads the contents of a stored file. How it is encoded is found out from
// what is stored; the file need not have a manifest. Errors about the data match
// ErrCorrupt, ErrUnsupported or codec.ErrKey; others are those of the store.
func Open(ctx context.Context, store storage.Store, name string, opts OpenOptions) (*Contents, error) {
	file, info, err := store.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	source := &meter{r: file, now: time.Now}
	if opts.Progress != nil {
		source.progress = func(bytes int64) { opts.Progress(bytes, info.Size) }
	}
	reader, err := codec.NewReader(source, opts.Keys)
	if err != nil {
		file.Close()
		return nil, judge(err)
	}
	return &Contents{Reader: reader, Info: info, file: file}, nil
}

// Read reads the decoded contents.
func (c *Contents) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	return n, judge(err)
}
