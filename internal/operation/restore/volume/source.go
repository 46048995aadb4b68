package volume

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore"
)

// Source is what is restored.
type Source interface {
	// Name is what messages call it.
	Name() string
	// Origin is where it can be found again.
	Origin() Origin
	// Describe returns what it holds.
	Describe() restore.Contents
	// Check returns what stands in the way of loading it in a server of the layout,
	// before anything is changed. server answers for those of the release; it is nil
	// when none answers. Layout.Version is zero then.
	Check(ctx context.Context, server operation.Server, l Layout) ([]operation.Finding, error)
	// Files returns the files that a server of the layout loads. An *operation.Error
	// of kind Refused says that such a server cannot load it.
	Files(l Layout) ([]File, error)
	// Prove compares what an instance has loaded with what was to be restored. sample is
	// about how many keys are compared; 0 for all.
	Prove(ctx context.Context, c restore.Comparer, d *operation.Deployment, i operation.Instance, sample int64) (restore.Comparison, error)
}

// Origin says where a Source can be found again. It is a part of a Record.
type Origin struct {
	// Command is the one that restores it.
	Command string `json:"command"`
	// From is the store that has it, empty for a file; Ref names it there.
	From string `json:"from,omitempty"`
	Ref  string `json:"ref"`
	// Cut is where an append-only file is cut: the name of a part, a colon, and the
	// bytes that are kept of it.
	Cut string `json:"cut,omitempty"`
}

// The commands of Origin.
const (
	CommandRDB    = "restore rdb"
	CommandAOF    = "restore aof"
	CommandVolume = "restore volume"
)

// File is a file to be placed.
type File struct {
	// Name below the data folder, with slashes.
	Name string
	// Size in bytes.
	Size int64
	Open func(ctx context.Context) (io.ReadCloser, error)
	// From names a file or folder of the claim beside, which is copied instead of what
	// Open yields.
	From string
}

// RDB is a Source: a snapshot.
type RDB struct {
	Backup   restore.Backup
	Contents restore.Contents
	// From and Ref are its Origin.
	From, Ref string
}

// Name implements Source.
func (r RDB) Name() string { return r.Backup.Name() }

// Origin implements Source.
func (r RDB) Origin() Origin { return Origin{Command: CommandRDB, From: r.From, Ref: r.Ref} }

// Describe implements Source.
func (r RDB) Describe() restore.Contents { return r.Contents }

// Check implements Source.
func (r RDB) Check(context.Context, operation.Server, Layout) ([]operation.Finding, error) {
	return nil, nil // what there is to check of a snapshot, a Plan does
}

// Files implements Source. A server with appendonly yes ignores its RDB file and loads
// its append-only file, which may begin with, or consist of, a snapshot.
func (r RDB) Files(l Layout) ([]File, error) {
	data := File{Name: l.RDB, Size: r.Contents.Size, Open: r.Backup.Open}
	switch {
	case !l.AOF:
		return []File{data}, nil
	case !l.Multipart:
		data.Name = l.AOFName
		return []File{data}, nil
	default:
		base := l.AOFName + ".1.base.rdb"
		data.Name = l.AOFDir + "/" + base
		// The format of the manifest: aofManifest in aof.c of 7.0.
		manifest := fmt.Appendf(nil, "file %s seq 1 type b\n", base)
		return []File{data, inMemory(l.AOFDir+"/"+l.AOFName+".manifest", manifest)}, nil
	}
}

// Prove implements Source.
func (r RDB) Prove(
	ctx context.Context, c restore.Comparer, d *operation.Deployment, i operation.Instance, sample int64,
) (restore.Comparison, error) {
	return c.Compare(ctx, r.Backup, d, i, restore.CompareOptions{Contents: r.Contents, Sample: sample, Counts: true})
}

func inMemory(name string, text []byte) File {
	return File{Name: name, Size: int64(len(text)), Open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(text)), nil
	}}
}
