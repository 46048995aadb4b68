package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/redisctl/redisctl/internal/aof"
	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/snapshot/codec"
)

// runSet verifies a snapshot of several files.
func (v *verification) runSet(ctx context.Context) error {
	var total int64
	for _, f := range v.manifest.Files {
		total += f.Size
	}
	for _, f := range v.manifest.Files {
		if err := v.verifyFile(ctx, f, total); err != nil {
			return err
		}
	}
	return v.verdict()
}

// verifyFile fails only where the file cannot be judged.
func (v *verification) verifyFile(ctx context.Context, stated File, total int64) error {
	add := func(name CheckName, result Result, format string, args ...any) {
		v.report.add(name, result, stated.label()+": "+format, args...)
	}
	found := File{Name: stated.Name, Kind: stated.Kind, Path: stated.Path}
	contents, fault, err := v.readFile(ctx, &found, total)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		add(CheckSize, Failed, "the file is missing")
		return nil
	case err != nil:
		return err
	}
	v.report.Size += found.Size
	if found.Size != stated.Size {
		add(CheckSize, Failed, "%d bytes, the manifest says %d", found.Size, stated.Size)
	} else {
		add(CheckSize, OK, "%d bytes", found.Size)
	}
	if found.SHA256 != stated.SHA256 {
		add(CheckSHA256, Failed, "%s, the manifest says %s", found.SHA256, stated.SHA256)
	} else {
		add(CheckSHA256, OK, "%s", found.SHA256)
	}
	if v.opts.Outer {
		add(CheckStructure, Skipped, outerOnly)
		return nil
	}
	if fault == nil {
		fault = v.judgeContents(stated, contents)
	}
	switch {
	case errors.Is(fault, codec.ErrKey):
		add(CheckStructure, Skipped, "%v", fault)
		v.unjudged = fmt.Errorf("the contents of %s were not verified: %w", v.store.Location(path.Join(v.entry.Dir, stated.Name)), fault)
	case errors.Is(fault, ErrUnsupported):
		add(CheckStructure, Skipped, "%v", fault)
		v.unjudged = unsupported("%s cannot be verified: %w", v.store.Location(path.Join(v.entry.Dir, stated.Name)), fault)
	case fault != nil:
		add(CheckStructure, Failed, "%v", fault)
	default:
		if found.Encoding != nil || stated.Encoding != nil {
			compareEncoding(&stated, &found, add)
		}
		add(CheckStructure, OK, "%s", found.describe())
		v.compareFile(stated, found, add)
	}
	if found.RDB != nil {
		v.report.RDB = found.RDB
	}
	return nil
}

// compareEncoding compares how a file is encoded, and what is inside, with what the
// manifest states.
func compareEncoding(stated, found *File, add func(CheckName, Result, string, ...any)) {
	var is, want []string
	if found.Encoding != nil {
		is = found.Encoding.Codecs
	}
	if stated.Encoding != nil {
		want = stated.Encoding.Codecs
	}
	if codecsText(is) != codecsText(want) {
		add(CheckEncoding, Failed, "%s, the manifest says %s", codecsText(is), codecsText(want))
	} else {
		add(CheckEncoding, OK, "%s", codecsText(is))
	}
	text, wanted := contentsText(found.ContentSize(), found.ContentSHA256()), contentsText(stated.ContentSize(), stated.ContentSHA256())
	if text != wanted {
		add(CheckContents, Failed, "%s, the manifest says %s", text, wanted)
	} else {
		add(CheckContents, OK, "%s", text)
	}
}

// compareFile compares what a sound file holds with what the manifest states.
func (v *verification) compareFile(stated, found File, add func(CheckName, Result, string, ...any)) {
	var differences []string
	var keys *rdb.Summary
	switch {
	case found.RDB != nil && stated.RDB != nil:
		keys = found.RDB
		differences = compareContents(stated.RDB, found.RDB)
	case found.AOF != nil && stated.AOF != nil:
		if found.AOF.Commands != stated.AOF.Commands {
			differences = append(differences, fmt.Sprintf("commands: %d, the manifest says %d", found.AOF.Commands, stated.AOF.Commands))
		}
		if keys = found.AOF.Preamble; keys != nil && stated.AOF.Preamble != nil {
			differences = append(differences, compareContents(stated.AOF.Preamble, keys)...)
		}
	}
	switch {
	case len(differences) > 0:
		add(CheckKeys, Failed, "%s", strings.Join(differences, ", "))
	case keys != nil:
		add(CheckKeys, OK, "%d keys", keys.Keys)
	}
}

// maxSmallFile bounds the files that are read into memory, in bytes.
const maxSmallFile = 64 << 20

// readFile reads a file to its end and describes it in f: what is stored by size and
// SHA-256, what it holds by its kind. The contents of small files are returned. fault
// is what is wrong with the contents, or why they cannot be read.
func (v *verification) readFile(ctx context.Context, f *File, total int64) (contents []byte, fault, err error) {
	file, _, err := v.store.Open(ctx, path.Join(v.entry.Dir, f.Name))
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	stored := newDigester()
	defer stored.close()
	before := v.report.Size
	source := &meter{r: file, now: v.opts.Now, progress: func(bytes int64) {
		if v.opts.Progress != nil {
			v.opts.Progress(before+bytes, total)
		}
	}}
	contents, fault = v.decode(ctx, f, io.TeeReader(source, stored))
	// The rest is read whatever the contents are: the digest is of all that is stored.
	// A store that cannot be read fails here again.
	if _, err := io.CopyBuffer(stored, onlyReader{source}, make([]byte, digestBuffer)); err != nil {
		return nil, nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	f.Size, f.SHA256 = source.bytes, stored.sum()
	return contents, fault, nil
}

// decode reads the contents of a file and describes them in f.
func (v *verification) decode(ctx context.Context, f *File, stored io.Reader) (contents []byte, err error) {
	if v.opts.Outer {
		return nil, nil
	}
	reader, err := codec.NewReader(stored, v.opts.Keys)
	if err != nil {
		return nil, judge(err)
	}
	defer reader.Close()
	inside := &countingDigest{digester: newDigester()}
	defer inside.close()
	var decoded io.Reader = reader
	if len(reader.Codecs()) > 0 {
		decoded = io.TeeReader(reader, inside)
		defer func() {
			f.Encoding = &Encoding{Codecs: reader.Codecs(), ContentSize: inside.bytes, ContentSHA256: inside.sum()}
		}()
	}
	if small(f.Kind) {
		contents, err = io.ReadAll(io.LimitReader(decoded, maxSmallFile))
		return contents, judge(err)
	}
	if err := scanFile(ctx, decoded, f, v.manifest.CreatedAt, v.opts.visitor()); err != nil {
		return nil, err
	}
	if f.AOF != nil && f.AOF.Truncated() > 0 {
		return nil, corrupt("the last %d bytes are no complete command", f.AOF.Truncated())
	}
	return nil, nil
}

// small reports whether files of a kind are read into memory.
func small(kind FileKind) bool {
	return kind == FileAOFManifest || kind == FileConfig || kind == FileResources
}

// judgeContents returns what is wrong with a small file, matching ErrCorrupt.
func (v *verification) judgeContents(f File, contents []byte) error {
	switch f.Kind {
	case FileConfig:
		if !json.Valid(contents) {
			return corrupt("it is not JSON")
		}
	case FileResources:
		for n, document := range strings.Split("\n"+string(contents), "\n---\n") {
			var object struct {
				Kind string `json:"kind"`
			}
			if err := yaml.Unmarshal([]byte(document), &object); err != nil || n > 0 && object.Kind == "" {
				return corrupt("document %d is no object", n)
			}
		}
	case FileAOFManifest:
		m, err := aof.ParseManifest(string(contents))
		if err != nil {
			return corrupt("%w", err)
		}
		for _, e := range m.Live() {
			name := path.Join(path.Dir(f.Path), e.Name)
			if !slices.ContainsFunc(v.manifest.Files, func(f File) bool { return f.Path == name }) {
				return corrupt("it names %s, which the backup does not have", e.Name)
			}
		}
	}
	return nil
}

// label is what messages call a file of a set.
func (f *File) label() string {
	if f.Path != "" {
		return f.Path
	}
	return f.Name
}

// describe says what a sound file holds.
func (f *File) describe() string {
	switch {
	case f.RDB != nil:
		return fmt.Sprintf("RDB version %d, checksum %s", f.RDB.Version, f.RDB.Checksum)
	case f.AOF != nil && f.AOF.Preamble != nil:
		return fmt.Sprintf("RDB version %d, checksum %s, and %d commands", f.AOF.Preamble.Version, f.AOF.Preamble.Checksum, f.AOF.Commands)
	case f.AOF != nil:
		return fmt.Sprintf("%d commands", f.AOF.Commands)
	case f.Kind == FileConfig:
		return "JSON"
	case f.Kind == FileResources:
		return "YAML"
	default:
		return "complete"
	}
}
