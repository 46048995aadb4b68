package restore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"path"
	"slices"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/snapshot"
)

// maxSetFile bounds the small files of a set, in bytes: they are read into memory.
const maxSetFile = 64 << 20

// ReadFile reads a small file of a set: its configuration or its objects. What is not as
// the manifest says is an *operation.Error of kind Corrupt; a set without such a file one
// of kind Usage.
func (b Backup) ReadFile(ctx context.Context, kind snapshot.FileKind) ([]byte, error) {
	m := b.Entry.Manifest
	if m == nil {
		if b.Entry.Problem != nil {
			return nil, b.failed("reading the manifest", b.Entry.Problem)
		}
		return nil, operation.Errorf(operation.Usage, "%s has no manifest: it is no backup of several files", b.Name())
	}
	at := slices.IndexFunc(m.Files, func(f snapshot.File) bool { return f.Kind == kind })
	if at < 0 {
		return nil, operation.Errorf(operation.Usage, "%s is a backup of kind %q: it has no %s", b.Name(), m.Kind, kind)
	}
	f := &m.Files[at]
	contents, err := snapshot.Open(ctx, b.Store, path.Join(b.Entry.Dir, f.Name), snapshot.OpenOptions{Keys: b.Keys})
	if err != nil {
		return nil, b.failed("opening "+f.Name, err)
	}
	text, err := io.ReadAll(io.LimitReader(contents, maxSetFile+1))
	if closeErr := contents.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, b.failed("reading "+f.Name, err)
	}
	sum := sha256.Sum256(text)
	if found := hex.EncodeToString(sum[:]); found != f.ContentSHA256() {
		return nil, b.failed("reading "+f.Name, fmt.Errorf("%w: its SHA-256 is %s, its manifest says %s", snapshot.ErrCorrupt, found, f.ContentSHA256()))
	}
	return text, nil
}
