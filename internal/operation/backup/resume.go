package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/snapshot/codec"
	"github.com/redisctl/redisctl/internal/storage"
)

// origin is what is kept beside an unfinished copy: which file of which server it is of.
// The digest of what has arrived is not in it. It is computed when the copy goes on, of
// what is there then: after a crash that may be something else.
type origin struct {
	// Redisctl is the version that began the copy.
	Redisctl  string `json:"redisctl"`
	Namespace string `json:"namespace"`
	Release   string `json:"release"`
	Instance  string `json:"instance"`
	PodUID    string `json:"podUid"`
	Path      string `json:"path"`
	// Inode, Modified (seconds since 1970) and Size are those of the server's file.
	Inode     string `json:"inode"`
	Modified  string `json:"modified"`
	SizeBytes int64  `json:"sizeBytes"`
	// Growing says that the server was appending to it, so that the last two of these
	// were bound to change.
	Growing bool `json:"growing"`
	// Method is "aof" or "bgsave".
	Method string `json:"method"`
	// Begun is when the backup began: the data is not older.
	Begun time.Time `json:"begun"`
}

// sameSource reports whether two origins are of the same path of the same pod.
func (o origin) sameSource(p origin) bool {
	return o.Namespace == p.Namespace && o.Release == p.Release && o.Instance == p.Instance &&
		o.PodUID == p.PodUID && o.Path == p.Path && o.Method == p.Method
}

// changed says in what the server's file is another one than the one that o is of; ""
// when all that is known of it is the same.
func (o origin) changed(f operation.File) string {
	now := f.State()
	switch {
	case o.Inode == "" || now.Inode == "":
		return "its identity cannot be told there (stat is missing)"
	case o.Inode != now.Inode:
		return "the server has replaced the file"
	case o.Growing:
		return "" // what is appended changes size and time; the digest is the proof
	case o.SizeBytes != f.Size():
		return fmt.Sprintf("the file has %d bytes now, it had %d", f.Size(), o.SizeBytes)
	case o.Modified != now.Modified:
		return "the file was written to since"
	}
	return ""
}

// partial is an unfinished copy.
type partial struct {
	storage.Unfinished
	origin origin
}

// copies reads files of one instance into one folder of a store, and goes on with
// copies that were interrupted.
type copies struct {
	files    Files
	reporter operation.Reporter
	d        *operation.Deployment
	source   topology.Member
	stall    time.Duration
	// about is what the origins of all files have in common.
	about origin
	// found are the unfinished copies that are there. Resumable is false where none can
	// be kept.
	found     []partial
	resumable bool
}

// takeOver finds what earlier copies have left in the folder dir. The caller closes c.
func (c *copies) takeOver(ctx context.Context, store storage.Store, encoding codec.Encoding, dir string) {
	c.about.Namespace, c.about.Release, c.about.Instance = c.d.Namespace, c.d.Release, c.source.Name
	if c.source.Pod != nil {
		c.about.PodUID = c.source.Pod.UID
	}
	resumer, ok := snapshot.Resumable(store, encoding)
	c.resumable = ok && c.about.PodUID != ""
	if c.resumable {
		c.found = unfinished(ctx, resumer, dir)
	}
}

// unfinished takes over all unfinished copies in a folder. Not to find them is no
// reason to fail: then the copy begins anew.
func unfinished(ctx context.Context, store storage.Resumer, dir string) []partial {
	all, err := store.Unfinished(ctx, dir)
	if err != nil {
		return nil
	}
	var found []partial
	for _, u := range all {
		p := partial{Unfinished: u}
		if json.Unmarshal([]byte(u.Origin()), &p.origin) != nil {
			u.Discard() // killed while it was written
			continue
		}
		found = append(found, p)
	}
	return found
}

// close leaves to others what was not used.
func (c *copies) close() {
	for _, p := range c.found {
		p.Release()
	}
}

// discard removes what is left of copies of the source's files and was not used: the
// server has other files by now.
func (c *copies) discard() {
	for _, p := range c.found {
		o := p.origin
		if o.Namespace == c.about.Namespace && o.Release == c.about.Release && o.Instance == c.about.Instance && o.Method == c.about.Method {
			p.Discard()
		}
	}
}

// take returns the longest unfinished copy of a file of the source, nil when there is
// none. What is left of others of the same file is removed.
func (c *copies) take(same func(origin) bool) *partial {
	var best *partial
	kept := c.found[:0]
	for _, p := range c.found {
		switch {
		case !same(p.origin):
			kept = append(kept, p)
		case best == nil:
			best = &p
		case p.Size() > best.Size():
			best.Discard()
			best = &p
		default:
			p.Discard()
		}
	}
	c.found = kept
	return best
}

// incoming is a file that is being read.
type incoming struct {
	operation.File
	// Reader yields the whole file: what is here already, and the rest.
	io.Reader
	// download tells the store; nil where nothing can be kept.
	download *snapshot.Download
	partial  *partial
}

// Close ends the transfer.
func (f *incoming) Close() error {
	if f.partial != nil {
		f.partial.Release()
	}
	return f.File.Close()
}

// Read implements io.Reader for the whole file.
func (f *incoming) Read(p []byte) (int, error) { return f.Reader.Read(p) }

// open opens a file. growing says that the server appends to it; limit is the most
// that is read, 0 for all.
func (c *copies) open(ctx context.Context, path string, limit int64, growing bool) (*incoming, error) {
	about := c.about
	about.Path, about.Growing = path, growing
	if p := c.take(about.sameSource); p != nil {
		f, why, err := c.resume(ctx, p, limit)
		if f != nil || err != nil {
			return f, err
		}
		p.Discard()
		c.reporter.Warn("the copy of %s that was interrupted after %s is not continued: %s", path, operation.Bytes(p.Size()), why)
	}
	file, err := c.read(ctx, path, limit, Prefix{})
	if err != nil {
		return nil, err
	}
	f := &incoming{File: file, Reader: file}
	if c.resumable {
		f.download = &snapshot.Download{Origin: about.of(file)}
	}
	return f, nil
}

func (c *copies) read(ctx context.Context, path string, limit int64, have Prefix) (operation.File, error) {
	return c.files.ReadFile(ctx, c.d, c.source.Instance, path, ReadOptions{Limit: limit, Have: have, Stall: c.stall})
}

// of returns o for a file that was opened, as it is kept.
func (o origin) of(f operation.File) string {
	state := f.State()
	o.Inode, o.Modified, o.SizeBytes = state.Inode, state.Modified, f.Size()
	text, err := json.Marshal(o)
	if err != nil {
		return "" // strings and numbers can always be encoded
	}
	return string(text)
}

// resume goes on with p where that is proven to be the beginning of the server's file.
// why says what speaks against it.
func (c *copies) resume(ctx context.Context, p *partial, limit int64) (f *incoming, why string, err error) {
	digest, err := digestOf(ctx, p)
	switch {
	case ctx.Err() != nil:
		return nil, "", context.Cause(ctx)
	case err != nil:
		return nil, err.Error(), nil //nolint:nilerr // the error is the answer
	}
	file, err := c.read(ctx, p.origin.Path, limit, Prefix{Bytes: p.Size(), SHA256: digest})
	if err != nil {
		p.Release() // the file may be there the next time
		return nil, "", err
	}
	why = p.origin.changed(file)
	if why == "" && file.Offset() == 0 {
		why = "the server's file begins with something else"
	}
	if why != "" {
		_ = file.Close() // nothing more is wanted of it
		return nil, why, nil
	}
	c.reporter.Note("going on with the copy of %s that was interrupted after %s of %s: inode and SHA-256 are the same on both sides",
		p.origin.Path, operation.Bytes(p.Size()), operation.Bytes(file.Size()))
	about := p.origin
	about.Redisctl = c.about.Redisctl
	return &incoming{
		File: file, Reader: io.MultiReader(io.NewSectionReader(p, 0, p.Size()), file), partial: p,
		download: &snapshot.Download{Origin: about.of(file), Partial: p},
	}, "", nil
}

// digestOf computes the SHA-256 of what is here.
func digestOf(ctx context.Context, p *partial) (string, error) {
	const piece = 1 << 20
	hash, buffer := sha256.New(), make([]byte, piece)
	for r := io.NewSectionReader(p, 0, p.Size()); ; {
		n, err := r.Read(buffer)
		hash.Write(buffer[:n])
		switch {
		case errors.Is(err, io.EOF):
			return hex.EncodeToString(hash.Sum(nil)), nil
		case err != nil:
			return "", err
		case ctx.Err() != nil:
			return "", ctx.Err()
		}
	}
}

// giveUp ends a set that could not be completed. What has arrived of files that can be
// gone on with is kept, unless the next attempt would fail alike.
func giveUp(set *snapshot.Set, reporter operation.Reporter, err error) {
	if errors.Is(err, errRewritten) || errors.Is(err, snapshot.ErrCorrupt) || errors.Is(err, snapshot.ErrUnsupported) ||
		operation.KindOf(err) == operation.Corrupt {
		set.Abort()
		return
	}
	tellKept(reporter, set.Suspend(), "the next redisctl backup aof goes on with them")
}

// tellKept says what a copy that has failed leaves for the next one.
func tellKept(reporter operation.Reporter, kept int64, how string) {
	if kept > 0 {
		reporter.Note("%s that have arrived are kept for a day: %s", operation.Bytes(kept), how)
	}
}
