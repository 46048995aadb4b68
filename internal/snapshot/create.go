package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/aof"
	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/snapshot/codec"
	"github.com/redisctl/redisctl/internal/storage"
)

// CreateOptions are the options of Create.
type CreateOptions struct {
	// Version of redisctl, for the manifest.
	Version string
	// Purpose is why the snapshot is made; empty for a backup that was asked for.
	Purpose Purpose
	// Source is where the data comes from.
	Source Source
	// Encoding is what is done to the data before it is stored; nothing by default.
	Encoding codec.Encoding
	// Begun is when the backup began, before anything was asked of the source: the
	// data is not older. Zero means now.
	Begun time.Time
	// Complete, if not nil, is called once the data is complete and sound, before
	// anything is published. It may fill in the manifest's Source and
	// Durations.Wait with what is known only now, and its error discards the
	// snapshot: here a size and a digest that the source announced are compared.
	Complete func(*Manifest) error
	// Download is set if the file can be fetched again from any byte on. Of a Set, see
	// SetFile.
	Download *Download
	// Progress, if not nil, is called after each piece with the bytes received so far.
	Progress func(bytes int64)
	// Now is time.Now unless set.
	Now func() time.Time
}

// Create stores the RDB file that r yields as a new snapshot in the folder dir
// of the store (see ReleaseDir and AddressDir) and returns its manifest. In one
// pass the data is checked, digested, encoded and stored. With an encoding nothing
// but its result reaches the store, temporary files included.
//
// The snapshot is published only if r ended with io.EOF at the very end of a
// sound RDB file. A source that was cut must return another error
// (io.ErrUnexpectedEOF): where the format has no checksum, nothing else could
// tell. Read must return when ctx ends.
//
// If Create fails, there is nothing under a final name (what has arrived of a Download
// is kept for the next attempt, unless the data or the store is at fault): an error matching
// ErrCorrupt or ErrUnsupported is about the data, others are those of r, of the
// store, of Complete or of ctx.
func Create(ctx context.Context, store storage.Store, dir string, r io.Reader, opts CreateOptions) (*Manifest, error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Begun.IsZero() {
		opts.Begun = opts.Now()
	}
	m := &Manifest{
		Kind:      KindRDB,
		CreatedAt: opts.Begun.UTC(),
		CreatedBy: opts.Version,
		Purpose:   opts.Purpose,
		Source:    opts.Source,
	}
	m.CompletedAt = m.CreatedAt
	if err := m.validateText(); err != nil { // not only after the transfer
		return nil, err
	}
	w, err := openData(ctx, store, dir, m, opts)
	if err != nil {
		return nil, err
	}
	defer w.Abort()

	if err := receive(ctx, w, r, m, opts); err != nil {
		if kept := w.end(err); opts.Download != nil {
			opts.Download.Kept = kept
		}
		return nil, fmt.Errorf("storing %s: %w", store.Location(path.Join(dir, m.Files[0].Name)), err)
	}
	if opts.Complete != nil {
		if err := opts.Complete(m); err != nil {
			return nil, err
		}
		m.Durations.Wait = math.Round(m.Durations.Wait*1000) / 1000
	}
	if err := publish(ctx, store, dir, w, m, opts.Now); err != nil {
		return nil, err
	}
	return m, nil
}

// openData chooses the snapshot's id and starts its data file.
func openData(ctx context.Context, store storage.Store, dir string, m *Manifest, opts CreateOptions) (*FileWriter, error) {
	suffix, _ := codec.Suffix(opts.Encoding.Codecs()) // an Encoding has no others
	// With a million suffixes per second a second attempt is already unlikely.
	const attempts = 5
	var err error
	for range attempts {
		m.ID = NewID(m.Kind, m.CreatedAt)
		m.Files = []File{{Name: m.ID + rdbSuffix + suffix}}
		var w *FileWriter
		w, err = createFile(ctx, store, path.Join(dir, m.Files[0].Name), opts.Encoding, opts.Download)
		if err == nil {
			return w, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	return nil, err
}

// receive copies r to w and describes the file in m. The scan drives the copy:
// each piece it asks for is digested and stored before it is checked.
func receive(ctx context.Context, w *FileWriter, r io.Reader, m *Manifest, opts CreateOptions) error {
	source := &meter{r: r, now: opts.Now, progress: opts.Progress}
	begun := opts.Now()
	summary, err := rdb.Scan(ctx, io.TeeReader(source, w), rdb.Visitor{}, rdb.Options{Now: m.CreatedAt})
	if err != nil {
		return judge(err)
	}
	ended := opts.Now()
	m.CompletedAt = ended.UTC()
	m.Durations.Wait = seconds(source.first.Sub(begun))
	m.Durations.Transfer = seconds(ended.Sub(source.first))
	m.Verification = Verification{At: m.CompletedAt, By: opts.Version, Result: VerifiedInTransit}
	summary.Aux = printable(summary.Aux)
	file, err := w.Finish()
	if err != nil {
		return err
	}
	file.Name, file.RDB = m.Files[0].Name, &summary
	m.Files[0] = file
	return nil
}

// seconds rounds to what is worth reading, and hides clocks that were set back.
func seconds(d time.Duration) float64 {
	return max(0, d.Round(time.Millisecond)).Seconds()
}

// judge marks errors of packages rdb, aof and codec with the families of this package.
func judge(err error) error {
	switch {
	case errors.Is(err, rdb.ErrCorrupt), errors.Is(err, codec.ErrCorrupt), errors.Is(err, aof.ErrCorrupt):
		return &kindError{ErrCorrupt, err}
	case errors.Is(err, rdb.ErrUnsupported), errors.Is(err, codec.ErrUnsupported):
		return &kindError{ErrUnsupported, err}
	default:
		return err
	}
}

// printable makes informational fields fit for JSON: there, names that differ
// only in bytes that are not UTF-8 would become the same name.
func printable(aux map[string]string) map[string]string {
	clean := make(map[string]string, len(aux))
	for name, value := range aux {
		if n := strings.ToValidUTF8(name, "?"); n == name {
			clean[n] = strings.ToValidUTF8(value, "?")
		}
	}
	return clean
}

// publish makes the data visible, then the manifest. If the manifest cannot be
// stored, the data goes again.
func publish(ctx context.Context, store storage.Store, dir string, w storage.Writer, m *Manifest, now func() time.Time) error {
	dataName := path.Join(dir, m.Files[0].Name)
	begun := now()
	// A mistake in the manifest must not be found out after the data is public.
	if _, err := m.Encode(); err != nil {
		return err
	}
	if err := w.Commit(ctx); err != nil {
		return err
	}
	m.Durations.Store = seconds(now().Sub(begun))
	err := storeManifest(ctx, store, dir, m)
	if err != nil {
		// Also, and above all, when ctx has ended.
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
		defer cancel()
		err = errors.Join(err, store.Remove(cleanup, dataName))
	}
	return err
}

// cleanupTimeout bounds what is done after the context has ended.
const cleanupTimeout = 10 * time.Second

func storeManifest(ctx context.Context, store storage.Store, dir string, m *Manifest) error {
	data, err := m.Encode()
	if err != nil {
		return err
	}
	return storeBytes(ctx, store, path.Join(dir, m.ID+manifestSuffix), data, storage.CreateOptions{})
}

// storeBytes stores a small object. It exists completely or not at all.
func storeBytes(ctx context.Context, store storage.Store, name string, data []byte, o storage.CreateOptions) error {
	w, err := store.Create(ctx, name, o)
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write(data); err != nil {
		return err
	}
	return w.Commit(ctx)
}

// meter notes what passes through a reader.
type meter struct {
	r        io.Reader
	now      func() time.Time
	progress func(int64)
	bytes    int64
	first    time.Time // when the first byte came
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	if n > 0 {
		if m.bytes == 0 {
			m.first = m.now()
		}
		m.bytes += int64(n)
		if m.progress != nil {
			m.progress(m.bytes)
		}
	}
	return n, err
}
