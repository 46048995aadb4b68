package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/aof"
	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/snapshot"
)

// HasAppendOnly reports whether a stored backup has an append-only file.
func HasAppendOnly(e *snapshot.Entry) bool {
	return e.Manifest != nil && slices.ContainsFunc(e.Manifest.Files, func(f snapshot.File) bool {
		return f.Kind == snapshot.FileAOF || f.Kind == snapshot.FileAOFManifest
	})
}

// manifestSuffix is that of the manifests that servers write (MANIFEST_NAME_SUFFIX in
// aof.c of Redis 7.0).
const manifestSuffix = ".manifest"

// AppendOnly returns the append-only file of a set, and what the names of its parts are
// in the store. Without a manifest of redisctl, Entry.DataName is a single file, or the
// manifest that a server wrote, with the parts beside it.
func (b Backup) AppendOnly(ctx context.Context) (log aof.Log, names []string, err error) {
	switch m := b.Entry.Manifest; {
	case m != nil:
		log, names, err = b.appendOnlyOfSet(ctx, m)
	case strings.HasSuffix(b.Entry.DataName, manifestSuffix):
		log, names, err = b.parts(ctx, b.Entry.DataName, func(name string) string {
			return path.Join(path.Dir(b.Entry.DataName), name)
		})
	default:
		names = []string{b.Entry.DataName}
		log.Parts = []aof.LogPart{{Name: path.Base(b.Entry.DataName)}}
	}
	for i, name := range names {
		log.Parts[i].Open = func(ctx context.Context) (io.ReadCloser, error) { return b.open(ctx, name) }
	}
	return log, names, err
}

// appendOnlyOfSet finds the parts in redisctl's manifest.
func (b Backup) appendOnlyOfSet(ctx context.Context, m *snapshot.Manifest) (log aof.Log, names []string, err error) {
	byPath := make(map[string]string)
	for _, f := range m.Files {
		name := path.Join(b.Entry.Dir, f.Name)
		byPath[f.Path] = name
		if f.Kind == snapshot.FileAOF {
			return aof.Log{Parts: []aof.LogPart{{Name: path.Base(f.Path)}}}, []string{name}, nil
		}
	}
	at := slices.IndexFunc(m.Files, func(f snapshot.File) bool { return f.Kind == snapshot.FileAOFManifest })
	if at < 0 {
		return aof.Log{}, nil, operation.Errorf(operation.Usage, "%s is a backup of kind %q: it has no append-only file", b.Name(), m.Kind)
	}
	manifest := m.Files[at]
	return b.parts(ctx, path.Join(b.Entry.Dir, manifest.Name), func(name string) string {
		return byPath[path.Join(path.Dir(manifest.Path), name)]
	})
}

// parts reads a server's manifest. locate tells the name in the store of a file that it
// lists, "" when there is none.
func (b Backup) parts(ctx context.Context, manifest string, locate func(string) string) (log aof.Log, names []string, err error) {
	file, err := b.open(ctx, manifest)
	if err != nil {
		return aof.Log{}, nil, err
	}
	text, err := io.ReadAll(io.LimitReader(file, aof.MaxManifestSize+1))
	if err = errors.Join(err, file.Close()); err != nil {
		return aof.Log{}, nil, b.failed("reading "+manifest, err)
	}
	m, err := aof.ParseManifest(string(text))
	if err != nil {
		return aof.Log{}, nil, b.failed("reading "+manifest, fmt.Errorf("%w: %w", snapshot.ErrCorrupt, err))
	}
	for _, e := range m.Live() {
		name := locate(e.Name)
		if name == "" {
			return aof.Log{}, nil, b.failed("reading "+manifest, fmt.Errorf("%w: it names %s, which the backup does not have", snapshot.ErrCorrupt, e.Name))
		}
		log.Parts = append(log.Parts, aof.LogPart{Name: e.Name, Seq: e.Seq, Part: e.Part})
		names = append(names, name)
	}
	return log, names, nil
}

// open reads a file of the store, decoded.
func (b Backup) open(ctx context.Context, name string) (io.ReadCloser, error) {
	contents, err := snapshot.Open(ctx, b.Store, name, snapshot.OpenOptions{Keys: b.Keys})
	if err != nil {
		return nil, b.failed("opening "+b.Store.Location(name), err)
	}
	return contents, nil
}

// Survey reads an append-only file of the backup and finds out what a cut keeps of it.
// Its error is an *operation.Error that says how it could be cut instead.
func (b Backup) Survey(ctx context.Context, log aof.Log, cut aof.Cut, now time.Time, report operation.Reporter) (aof.Survey, error) {
	s, err := log.Survey(ctx, cut, aof.SurveyOptions{Now: now, Progress: func(bytes int64) {
		report.Progress(operation.Progress{Done: bytes, Unit: "bytes"})
	}})
	if err == nil {
		return s, nil
	}
	e := &operation.Error{
		Kind: operation.KindOf(err), Object: b.Name(), Phase: "reading the append-only file", Err: err, Unchanged: "nothing was changed",
	}
	var refused *aof.CutError
	var damaged *aof.DamagedError
	switch {
	case errors.As(err, &refused):
		e.Kind, e.Phase, e.Next = operation.Refused, "cutting the append-only file", refused.Hint
	case errors.As(err, &damaged):
		e.Kind = operation.Corrupt
		if damaged.Sound > 0 {
			e.Next = fmt.Sprintf("--until-offset %s:%d restores what comes before the damage", damaged.File, damaged.Sound)
		}
	}
	return aof.Survey{}, e
}
