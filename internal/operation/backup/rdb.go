// Package backup keeps the data of a deployment: it picks the instance to take a
// snapshot from, takes it, and has it verified on its way to the storage.
package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/snapshot/codec"
	"github.com/redisctl/redisctl/internal/storage"
)

// Method is how a snapshot is taken.
type Method string

// The methods of `backup rdb`.
const (
	// MethodStream takes the snapshot over the replication protocol, as a replica
	// would.
	MethodStream Method = "stream"
	// MethodBgsave runs BGSAVE and copies the file.
	MethodBgsave Method = "bgsave"
)

// Methods lists the methods, the default one first.
func Methods() []string { return []string{string(MethodStream), string(MethodBgsave)} }

// Options are the user's choices for one backup.
type Options struct {
	Method Method
	// Instance is the source that the user chose; empty to choose the best.
	Instance string
	// AllowStale accepts a replica without a link to its primary. Its data is then
	// read key by key, unless Method is MethodBgsave.
	AllowStale bool
	// Purpose is why the snapshot is made; empty for a backup that was asked for.
	Purpose snapshot.Purpose
	// IgnoreSpace accepts too little free space.
	IgnoreSpace bool
	// DiskBased makes MethodStream ask for a disk-based transfer.
	DiskBased bool
	// Resume makes MethodBgsave go on with a copy that was interrupted, where there is
	// one and the server still has the file, instead of saving anew.
	Resume bool
	// Timeout bounds each answer of a server, Stall the silence in a transfer.
	Timeout, Stall time.Duration
}

// RDB takes RDB snapshots. All fields but Encoding are required.
type RDB struct {
	Connector operation.Connector
	Streamer  Streamer
	Saver     Saver
	Files     Files
	Locker    operation.Locker
	Store     storage.Store
	Reporter  operation.Reporter
	Now       func() time.Time
	// Encoding is what is done to the data before it is stored; nothing by default.
	Encoding codec.Encoding
	// Version of redisctl, for the manifest.
	Version string
}

// Plan is what `backup rdb` is going to do.
type Plan struct {
	operation.Plan
	// Source names the chosen instance.
	Source string `json:"source"`
	// Method is how the snapshot will be taken.
	Method Method `json:"method"`
	// Destination is the folder that the snapshot will be stored in.
	Destination string `json:"destination"`

	deployment *operation.Deployment
	source     topology.Member
	options    Options
	dir        string
}

// Folder returns the folder of a store that holds the snapshots of an instance of
// d: one for each release, one for each plain address.
func Folder(d *operation.Deployment, instance string) (string, error) {
	if d.Namespace == "" {
		return snapshot.AddressDir(instance)
	}
	return snapshot.ReleaseDir(d.Namespace, d.Release)
}

// Plan observes d and chooses how to take the snapshot. It only reads.
func (b RDB) Plan(ctx context.Context, d *operation.Deployment, o Options) (*Plan, error) {
	t := topology.Observe(ctx, b.Connector, d, o.Timeout)
	if err := t.Denied(); err != nil {
		return nil, err
	}
	source, findings, err := chooseSource(&t, o)
	if err != nil {
		return nil, err
	}
	dir, err := Folder(d, source.Name)
	if err != nil {
		return nil, &operation.Error{Kind: operation.Usage, Object: d.String(), Phase: "naming the backup's folder", Err: err}
	}
	p := &Plan{
		Plan: operation.Plan{
			Operation: "backup rdb", Object: d.String(),
			Findings: append([]operation.Finding{}, findings...), // JSON shows [], not null
		},
		Source:      source.Name,
		Method:      o.Method,
		Destination: b.Store.Location(dir),
		deployment:  d, source: *source, options: o, dir: dir,
	}
	estimate := source.Info.Memory().Used // an RDB is hardly ever larger than the data in memory
	p.Findings = append(p.Findings, checkSpace(ctx, b.Store, estimate, o.IgnoreSpace)...)
	var steps []operation.Step
	switch o.Method {
	case MethodBgsave:
		found, err := b.checkSave(ctx, d, source, estimate, o)
		if err != nil {
			return nil, err
		}
		p.Findings = append(p.Findings, found...)
		p.Findings = append(p.Findings, b.findCopy(ctx, p)...)
		steps = []operation.Step{
			{Action: "take the release's lock", Subject: d.String(), Mutates: true},
			{Action: "BGSAVE and wait until it has succeeded", Subject: source.Name, Mutates: true},
			{Action: "copy the file, with its length and SHA-256 in-band", Subject: source.Name},
		}
	default:
		p.Findings = append(p.Findings, b.checkStream(ctx, d, source, o)...)
		steps = []operation.Step{{Action: "take a snapshot over the replication protocol", Subject: source.Name}}
	}
	p.Steps = append(p.Steps, steps...)
	p.Steps = append(p.Steps, operation.Step{
		Action: "verify structure and CRC64" + encodingText(b.Encoding) + " while storing, then publish file and manifest", Subject: p.Destination,
	})
	return p, nil
}

// encodingText is the part of a step that says how the data is encoded.
func encodingText(e codec.Encoding) string {
	text := ""
	if e.Level != "" {
		text += fmt.Sprintf(", compress (zstd, %s)", e.Level)
	}
	switch names := e.Names(); {
	case len(names) == 1 && names[0] == codec.Passphrase:
		text += ", encrypt (age, with a passphrase)"
	case len(names) == 1:
		text += ", encrypt (age, to 1 recipient)"
	case len(names) > 1:
		text += fmt.Sprintf(", encrypt (age, to %d recipients)", len(names))
	}
	return text
}

// checkStream finds out what the server will do for a snapshot over the
// replication protocol. It offers the diskless form unless told otherwise; the
// server uses it when repl-diskless-sync is on.
func (b RDB) checkStream(ctx context.Context, d *operation.Deployment, source *topology.Member, o Options) []operation.Finding {
	config := configOf(ctx, b.Connector, d, source.Instance, "repl-diskless-sync*")
	diskless, known := config["repl-diskless-sync"]
	if o.DiskBased || known && diskless == "no" {
		return []operation.Finding{{
			Code: "disk-based", Severity: operation.Notice, Subject: source.Name,
			Message: "the server writes the snapshot to its own disk first; were that disk to fill up, it would refuse writes",
			Hint:    "the diskless form needs repl-diskless-sync yes",
		}}
	}
	delay, err := strconv.Atoi(config["repl-diskless-sync-delay"])
	if err != nil || delay == 0 {
		return nil
	}
	return []operation.Finding{{
		Code: "diskless-delay", Severity: operation.Notice, Subject: source.Name,
		Message: fmt.Sprintf("the server waits %d s for more replicas before it starts (repl-diskless-sync-delay)", delay),
		Hint:    "--transfer disk avoids the wait where the server's disk has room",
	}}
}

// checkSave makes sure that BGSAVE finds room: on a full disk it fails, and the
// server then refuses all writes.
func (b RDB) checkSave(ctx context.Context, d *operation.Deployment, source *topology.Member, estimate int64, o Options) ([]operation.Finding, error) {
	if d.Workload == nil {
		return nil, &operation.Error{
			Kind: operation.Usage, Object: d.String(), Phase: "backup rdb --method bgsave",
			Err:  errors.New("the file that BGSAVE writes cannot be read from a plain address"),
			Next: "use --method stream",
		}
	}
	dir := configOf(ctx, b.Connector, d, source.Instance, "dir")["dir"]
	if dir == "" {
		dir = d.Workload.Volume.MountPath
	}
	f := operation.Finding{
		Code: "no-space-for-save", Severity: operation.Critical, Subject: source.Name,
		Override: "--ignore-space", Overridden: o.IgnoreSpace,
		Hint: "a failed BGSAVE makes the server refuse writes; --method stream needs no space there",
	}
	free, err := b.Files.FreeSpace(ctx, d, source.Instance, dir)
	switch {
	case operation.KindOf(err) == operation.Denied:
		return nil, err
	case err != nil:
		f.Message = fmt.Sprintf("the free space of %s is not known: %v", dir, err)
	case free < estimate:
		f.Message = fmt.Sprintf("%s has %s free, BGSAVE may need up to %s", dir, operation.Bytes(free), operation.Bytes(estimate))
	default:
		return nil, nil
	}
	return []operation.Finding{f}, nil
}

// Apply takes the snapshot. On failure nothing stands under a final name.
func (b RDB) Apply(ctx context.Context, p *Plan) (*snapshot.Manifest, error) {
	if err := p.Refusal(); err != nil {
		return nil, err
	}
	if err := sameServer(ctx, b.Connector, p.deployment, p.source); err != nil {
		return nil, err
	}
	var m *snapshot.Manifest
	var err error
	if p.Method == MethodBgsave {
		m, err = b.applyBgsave(ctx, p)
	} else {
		m, err = b.applyStream(ctx, p)
	}
	if err != nil {
		return nil, err
	}
	sweep(ctx, b.Store, p.dir, b.Reporter)
	return m, nil
}

func (b RDB) applyStream(ctx context.Context, p *Plan) (*snapshot.Manifest, error) {
	begin := b.Now()
	stream, source, err := b.openStream(ctx, p)
	if err != nil {
		return nil, err
	}
	defer func() { _ = stream.Close() }() // Read has told whether all data is here
	return b.store(ctx, p, received{
		begun: begin, waited: b.Now().Sub(begin), source: source, data: stream, size: stream.Origin().Size,
	})
}

// openStream asks for the snapshot, and returns what is known of it then.
func (b RDB) openStream(ctx context.Context, p *Plan) (Stream, snapshot.Source, error) {
	b.Reporter.Step("taking a snapshot from %s (%s) over the replication protocol", p.Source, p.source.Replication.Role)
	stream, err := b.Streamer.Snapshot(ctx, p.deployment, p.source.Instance, StreamOptions{
		DiskBased: p.options.DiskBased,
		KeyByKey:  p.options.AllowStale,
		Stall:     p.options.Stall,
		State:     func(state string) { b.Reporter.Note("%s", state) },
	})
	if err != nil {
		return nil, snapshot.Source{}, p.failed(ctx, "waiting for the snapshot", err)
	}
	o := stream.Origin()
	source := p.describe()
	source.ReplicationID, source.ReplicationOffset, source.Transfer = o.ReplicationID, o.Offset, o.Form
	return stream, source, nil
}

func (b RDB) applyBgsave(ctx context.Context, p *Plan) (*snapshot.Manifest, error) {
	locked, release, err := b.Locker.Lock(ctx, p.deployment)
	if err != nil {
		return nil, err
	}
	defer release()
	r := received{begun: b.Now(), source: p.describe()}
	r.source.Transfer = "file"
	c := b.copies(p)
	c.about.Begun = r.begun.UTC()
	c.takeOver(locked, b.Store, b.Encoding, p.dir)
	defer c.close()
	file, err := b.resumeSaved(locked, p, c)
	if err != nil {
		return nil, p.failed(locked, "going on with an interrupted copy", err)
	}
	if file == nil {
		if file, err = b.openSaved(locked, p, c); err != nil {
			return nil, err
		}
		r.waited = b.Now().Sub(r.begun)
	} else {
		r.begun = file.partial.origin.Begun // the data is of that time
	}
	defer func() { _ = file.Close() }() // Read has told whether all data is here
	r.data, r.size, r.download = file, file.Size(), file.download
	m, err := b.store(locked, p, r)
	if err != nil && file.download != nil {
		tellKept(b.Reporter, file.download.Kept, "redisctl backup rdb --method bgsave --resume goes on with them")
	}
	return m, err
}

// openSaved saves and opens the file.
func (b RDB) openSaved(ctx context.Context, p *Plan, c *copies) (*incoming, error) {
	b.Reporter.Step("BGSAVE on %s (%s)", p.Source, p.source.Replication.Role)
	saved, err := b.Saver.Save(ctx, p.deployment, p.source.Instance, b.Reporter)
	if err != nil {
		return nil, p.failed(ctx, "BGSAVE", err)
	}
	c.discard() // the server has just replaced the file
	b.Reporter.Step("copying %s from %s", saved.Path, p.Source)
	file, err := c.open(ctx, path.Clean(saved.Path), 0, false)
	if err != nil {
		return nil, p.failed(ctx, "copying "+saved.Path, err)
	}
	return file, nil
}

// copies returns what reads the file that BGSAVE writes.
func (b RDB) copies(p *Plan) *copies {
	return &copies{
		files: b.Files, reporter: b.Reporter, d: p.deployment, source: p.source, stall: p.options.Stall,
		about: origin{Redisctl: b.Version, Method: string(MethodBgsave)},
	}
}

// saved reports whether o is of a file that BGSAVE has written on the source.
func (c *copies) saved(o origin) bool {
	want := c.about
	want.Path = o.Path
	return o.sameSource(want)
}

// findCopy looks for an interrupted copy, which --resume would go on with.
func (b RDB) findCopy(ctx context.Context, p *Plan) []operation.Finding {
	c := b.copies(p)
	c.takeOver(ctx, b.Store, b.Encoding, p.dir)
	defer c.close()
	for _, found := range c.found {
		if o := found.origin; c.saved(o) && !p.options.Resume {
			return []operation.Finding{{
				Code: "interrupted-copy", Severity: operation.Notice, Subject: p.Source,
				Message: fmt.Sprintf("a copy of what was saved at %s was interrupted after %s of %s; a new save takes its place",
					o.Begun.Format(time.RFC3339), operation.Bytes(found.Size()), operation.Bytes(o.SizeBytes)),
				Hint: "--resume goes on with it: the data is then as of that time",
			}}
		}
	}
	return nil
}

// resumeSaved opens the file of an earlier save of which a copy was interrupted; nil
// when there is none, or it was not asked for.
func (b RDB) resumeSaved(ctx context.Context, p *Plan, c *copies) (*incoming, error) {
	if !p.options.Resume {
		return nil, nil
	}
	old := c.take(c.saved)
	if old == nil {
		b.Reporter.Note("there is no interrupted copy to go on with: saving anew")
		return nil, nil
	}
	file, why, err := c.resume(ctx, old, 0)
	if file == nil && err == nil {
		old.Discard()
		b.Reporter.Warn("the copy of %s that was interrupted is not continued: %s; saving anew", old.origin.Path, why)
	}
	return file, err
}

// received is what a source sends.
type received struct {
	begun  time.Time
	waited time.Duration // until the data came
	source snapshot.Source
	data   io.Reader
	// size in bytes; 0 when it is not known.
	size     int64
	download *snapshot.Download
}

// store verifies and stores what a source sends.
func (b RDB) store(ctx context.Context, p *Plan, r received) (*snapshot.Manifest, error) {
	m, err := snapshot.Create(ctx, b.Store, p.dir, r.data, snapshot.CreateOptions{
		Purpose:  p.options.Purpose,
		Version:  b.Version,
		Source:   r.source,
		Encoding: b.Encoding,
		Begun:    r.begun,
		Now:      b.Now,
		Download: r.download,
		Complete: func(m *snapshot.Manifest) error {
			m.Durations.Wait += r.waited.Seconds()
			return positionFromFile(m)
		},
		Progress: func(bytes int64) {
			b.Reporter.Progress(operation.Progress{Done: bytes, Total: r.size, Unit: "bytes"})
		},
	})
	if err != nil {
		return nil, p.failed(ctx, "receiving the snapshot", err)
	}
	return m, nil
}

// positionFromFile fills in the position in the replication stream from what the
// server wrote into the file, where the transfer did not tell it: BGSAVE, and a
// renamed PSYNC. A server without replicas writes none.
func positionFromFile(m *snapshot.Manifest) error {
	aux := m.RDB().RDB.Aux
	if m.Source.ReplicationID != "" || aux["repl-id"] == "" {
		return nil
	}
	offset, err := strconv.ParseInt(aux["repl-offset"], 10, 64)
	if err != nil {
		return fmt.Errorf("the snapshot's field repl-offset: %w", err)
	}
	m.Source.ReplicationID, m.Source.ReplicationOffset = aux["repl-id"], offset
	return nil
}

// describe says what the plan knows of the source.
func (p *Plan) describe() snapshot.Source {
	return describe(p.deployment, &p.source, string(p.Method), "")
}

func (p *Plan) failed(ctx context.Context, phase string, err error) error {
	return failed(ctx, p.Object, phase, err)
}

// DataName returns the name in the store of the file that Apply stored.
func (p *Plan) DataName(m *snapshot.Manifest) string { return path.Join(p.dir, m.RDB().Name) }
