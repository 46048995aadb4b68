package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/aof"
	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/redis"
	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/snapshot/codec"
	"github.com/redisctl/redisctl/internal/storage"
)

// AOFOptions are the user's choices for a copy of the append-only file.
type AOFOptions struct {
	// Instance is the source that the user chose; empty to choose the best.
	Instance string
	// AllowStale accepts a replica without a link to its primary.
	AllowStale bool
	// IgnoreSpace accepts too little free space.
	IgnoreSpace bool
	// Timeout bounds each answer of a server, Stall the silence in a transfer.
	Timeout, Stall time.Duration
}

// AOF copies append-only files. All fields are required.
type AOF struct {
	Connector operation.Connector
	Files     Files
	Locker    operation.Locker
	Notes     operation.Notes
	Store     storage.Store
	Encoding  codec.Encoding
	Reporter  operation.Reporter
	Now       func() time.Time
	// Version of redisctl, for the manifest.
	Version string
}

// AOFPlan is what `backup aof` is going to do.
type AOFPlan struct {
	operation.Plan
	// Source names the chosen instance.
	Source string `json:"source"`
	// MultiPart is set for the form of 7.0 and later.
	MultiPart bool `json:"multiPart"`
	// Pause is the setting that keeps files from being removed while they are copied;
	// empty where CONFIG is not available: then a rewrite makes the copy begin again.
	Pause string `json:"pause,omitempty"`
	// Destination is the folder that the backup will be stored in.
	Destination string `json:"destination"`

	deployment *operation.Deployment
	source     topology.Member
	options    AOFOptions
	dir        string
	paths      aofPaths
	setting    pausedSetting
	to         string // what setting is set to meanwhile
}

// aofPaths is where a server keeps its append-only file.
type aofPaths struct {
	// dir is the server's working folder.
	dir string
	// sub is the folder of the parts below it; empty for a single file.
	sub string
	// name is that of the single file, and what the names of all parts begin with.
	name string
}

func (p aofPaths) manifest() string { return path.Join(p.sub, p.name+".manifest") }

// The settings that keep a server from removing or replacing files. The first is
// better, because rewrites go on: it only keeps their old files (7.0 and later).
const (
	settingAutoGC      = "aof-disable-auto-gc"
	settingAutoRewrite = "auto-aof-rewrite-percentage"
)

// Plan observes d and chooses the source. It only reads.
func (b AOF) Plan(ctx context.Context, d *operation.Deployment, o AOFOptions) (*AOFPlan, error) {
	if d.Workload == nil {
		return nil, &operation.Error{
			Kind: operation.Usage, Object: d.String(), Phase: "backup aof",
			Err:  errors.New("the files of a server at a plain address cannot be read"),
			Next: "use backup rdb, which needs no files, or backup aof with -n and -r",
		}
	}
	t := topology.Observe(ctx, b.Connector, d, o.Timeout)
	if err := t.Denied(); err != nil {
		return nil, err
	}
	source, findings, err := chooseSource(&t, Options{Instance: o.Instance, AllowStale: o.AllowStale, Method: MethodBgsave})
	if err != nil {
		return nil, err
	}
	dir, err := Folder(d, source.Name)
	if err != nil {
		return nil, &operation.Error{Kind: operation.Usage, Object: d.String(), Phase: "naming the backup's folder", Err: err}
	}
	p := &AOFPlan{
		Plan: operation.Plan{
			Operation: "backup aof", Object: d.String(),
			Findings: append([]operation.Finding{}, findings...), // JSON shows [], not null
		},
		Source: source.Name, Destination: b.Store.Location(dir),
		deployment: d, source: *source, options: o, dir: dir,
	}
	p.Findings = append(p.Findings, checkAOF(source)...)
	p.Findings = append(p.Findings, checkSpace(ctx, b.Store, source.Info.Int("aof_current_size"), o.IgnoreSpace)...)
	p.locate(ctx, b.Connector)
	p.Steps = p.steps()
	return p, nil
}

func (p *AOFPlan) steps() []operation.Step {
	steps := []operation.Step{{Action: "take the release's lock", Subject: p.Object, Mutates: true}}
	if p.Pause != "" {
		steps = append(steps, operation.Step{
			Action: fmt.Sprintf("CONFIG SET %s %s while copying, then %s", p.Pause, p.to, p.setting.Value), Subject: p.Source, Mutates: true,
		})
	}
	what := "copy the append-only file"
	if p.MultiPart {
		what = "copy the manifest, the base and the incremental files"
	}
	return append(steps,
		operation.Step{Action: what + ", with length and SHA-256 in-band", Subject: p.Source},
		operation.Step{Action: "verify all commands while storing, then publish files and manifest", Subject: p.Destination},
	)
}

// checkAOF makes sure that there is an append-only file worth copying.
func checkAOF(source *topology.Member) []operation.Finding {
	state := source.Info.Persistence()
	if !state.AOFEnabled {
		return []operation.Finding{{
			Code: "aof-off", Severity: operation.Critical, Subject: source.Name,
			Message: "it keeps no append-only file (INFO persistence has aof_enabled:0, the setting appendonly is no)",
			Hint:    "redisctl info persistence shows it; backup rdb takes the data in any case",
		}}
	}
	var findings []operation.Finding
	if !state.AOFLastWriteOK {
		findings = append(findings, operation.Finding{
			Code: "aof-write-failed", Severity: operation.Warning, Subject: source.Name,
			Message: "its last write to the append-only file failed: what clients wrote since is not in it",
			Hint:    "look at the server's log and at its disk; backup rdb takes all data",
		})
	}
	if !state.AOFLastRewriteOK {
		findings = append(findings, operation.Finding{
			Code: "aof-rewrite-failed", Severity: operation.Notice, Subject: source.Name,
			Message: "its last rewrite of the append-only file failed, so that the file may be large",
		})
	}
	return findings
}

// locate finds out where the files are, and what can be done to keep them there.
func (p *AOFPlan) locate(ctx context.Context, connector operation.Connector) {
	ask := func(name string) string { return configOf(ctx, connector, p.deployment, p.source.Instance, name)[name] }
	chart := func(name, otherwise string) string {
		if value, ok := p.deployment.Config.Get(name); ok && value != "" {
			return value
		}
		return otherwise
	}
	or := func(value, otherwise string) string {
		if value != "" {
			return value
		}
		return otherwise
	}
	p.paths.dir = or(ask("dir"), chart("dir", p.deployment.Workload.Volume.MountPath))
	p.paths.name = or(ask("appendfilename"), chart("appendfilename", "appendonly.aof"))
	p.paths.sub = ask("appenddirname")
	// Without CONFIG, the version has to tell.
	if p.paths.sub == "" && p.source.Version.Compare(redis.Version{Product: p.source.Version.Product, Major: 7}) >= 0 {
		p.paths.sub = chart("appenddirname", "appendonlydir")
	}
	p.MultiPart = p.paths.sub != ""
	for _, s := range []struct{ name, to string }{{settingAutoGC, "yes"}, {settingAutoRewrite, "0"}} {
		if value := ask(s.name); value != "" {
			p.Pause, p.to = s.name, s.to
			p.setting = pausedSetting{Name: s.name, Value: value, RunID: p.source.Info.Get("run_id")}
			return
		}
	}
}

// Apply copies the files. On failure nothing stands under a final name, and the
// server's settings are as before; where a setting could not be put back, the error
// says so, also together with a manifest: then the backup itself is complete.
func (b AOF) Apply(ctx context.Context, p *AOFPlan) (*snapshot.Manifest, error) {
	if err := p.Refusal(); err != nil {
		return nil, err
	}
	ctx, release, err := b.Locker.Lock(ctx, p.deployment)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := sameServer(ctx, b.Connector, p.deployment, p.source); err != nil {
		return nil, err
	}
	set, err := snapshot.CreateSet(b.Store, p.dir, snapshot.KindAOF, snapshot.CreateOptions{
		Version: b.Version, Source: p.describe(), Begun: b.Now(), Now: b.Now, Encoding: b.Encoding,
		Progress: func(bytes int64) {
			b.Reporter.Progress(operation.Progress{Done: bytes, Total: p.source.Info.Int("aof_current_size"), Unit: "bytes"})
		},
	})
	if err != nil {
		return nil, p.failed(ctx, "beginning the backup", err)
	}
	defer set.Abort()
	restored, err := b.add(ctx, p, set)
	if err != nil {
		giveUp(set, b.Reporter, err)
		return nil, p.failed(ctx, "copying the append-only file", errors.Join(err, restored))
	}
	m, err := set.Commit(ctx)
	if err != nil {
		return nil, p.failed(ctx, "storing the backup", errors.Join(err, restored))
	}
	sweep(ctx, b.Store, p.dir, b.Reporter)
	return m, restored
}

// add copies the files into set. restored is the failure to put the server's setting
// back.
func (b AOF) add(ctx context.Context, p *AOFPlan, set *snapshot.Set) (restored, err error) {
	s := settings{connector: b.Connector, notes: b.Notes, reporter: b.Reporter, now: b.Now, d: p.deployment}
	if err := s.repair(ctx); err != nil {
		return nil, err
	}
	held := false
	if p.Pause != "" && p.setting.Value != p.to {
		restore, err := s.change(ctx, p.source.Instance, p.setting, p.to)
		switch {
		case errors.Is(err, errNotPaused):
			b.Reporter.Warn("%s stays as it is, so that a rewrite makes the copy begin again: %v", p.Pause, err)
		case err != nil:
			return nil, err
		default:
			held = true
			defer func() { restored = restore() }()
		}
	}
	if err := b.awaitRewrite(ctx, p); err != nil {
		return nil, err
	}
	c := &copies{
		files: b.Files, reporter: b.Reporter, d: p.deployment, source: p.source, stall: p.options.Stall,
		about: origin{Redisctl: b.Version, Method: "aof", Begun: b.Now().UTC()},
	}
	c.takeOver(ctx, b.Store, b.Encoding, p.dir)
	defer c.close()
	if err := b.copy(ctx, p, c, set, held && p.Pause == settingAutoGC); err != nil {
		return nil, err
	}
	c.discard()
	return nil, nil
}

// rewritePoll is how often the server is asked whether a rewrite has ended.
const rewritePoll = 250 * time.Millisecond

// awaitRewrite waits until no rewrite runs. A server that has just begun to keep an
// append-only file, or that has got new data from its primary, has none of its
// current data until the rewrite is done, and does not tell this from any other
// rewrite.
func (b AOF) awaitRewrite(ctx context.Context, p *AOFPlan) error {
	server, err := b.Connector.Connect(ctx, p.deployment, p.source.Instance)
	if err != nil {
		return err
	}
	defer func() { _ = server.Close() }() // the answers are here; closing can only fail to say goodbye
	tick := time.NewTicker(rewritePoll)
	defer tick.Stop()
	for said := false; ; said = true {
		info, err := server.Info(ctx, "persistence")
		if err != nil {
			return err
		}
		if !info.Bool("aof_rewrite_in_progress") && !info.Bool("aof_rewrite_scheduled") {
			return nil
		}
		if !said {
			b.Reporter.Step("waiting for the rewrite of the append-only file on %s", p.Source)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// copyAttempts is how often a copy begins again because of rewrites.
const copyAttempts = 4

// errRewritten says that a rewrite has removed or replaced files during the copy.
var errRewritten = errors.New("the server rewrote its append-only file during the copy")

// copy copies the files into set. kept says that the server keeps them for as long.
func (b AOF) copy(ctx context.Context, p *AOFPlan, c *copies, set *snapshot.Set, kept bool) error {
	before := set.Len()
	for attempt := 1; ; attempt++ {
		b.Reporter.Step("copying the append-only file of %s (%s)", p.Source, p.source.Replication.Role)
		var err error
		if p.MultiPart {
			err = b.copyParts(ctx, p, c, set, kept)
		} else {
			err = b.copyGrowing(ctx, p, c, set, snapshot.SetFile{Name: p.paths.name, Kind: snapshot.FileAOF, Path: p.paths.name})
		}
		if !errors.Is(err, errRewritten) || attempt == copyAttempts {
			return err
		}
		b.Reporter.Warn("%v; beginning again", err)
		set.Drop(before)
	}
}

// copyParts copies the parts of a multi-part file, and its manifest as the last.
func (b AOF) copyParts(ctx context.Context, p *AOFPlan, c *copies, set *snapshot.Set, kept bool) error {
	text, err := b.readManifest(ctx, p, c)
	if err != nil {
		return err
	}
	m, err := aof.ParseManifest(text)
	if err != nil {
		return operation.Errorf(operation.Corrupt, "%s: %w", p.paths.manifest(), err)
	}
	live := m.Live()
	for i, e := range live {
		spec := snapshot.SetFile{Name: e.Name, Kind: snapshot.FileAOFBase, Path: path.Join(p.paths.sub, e.Name)}
		if e.Part == aof.Incremental {
			spec.Kind = snapshot.FileAOFIncremental
		}
		if i == len(live)-1 {
			err = b.copyGrowing(ctx, p, c, set, spec)
		} else {
			err = b.copyWhole(ctx, p, c, set, spec)
		}
		if errors.Is(err, fs.ErrNotExist) && !kept {
			return fmt.Errorf("%w: %w", errRewritten, err)
		}
		if err != nil {
			return err
		}
	}
	if !kept {
		again, err := b.readManifest(ctx, p, c)
		if err != nil {
			return err
		}
		if again != text {
			return fmt.Errorf("%w: its manifest has changed", errRewritten)
		}
	}
	spec := snapshot.SetFile{Name: path.Base(p.paths.manifest()), Kind: snapshot.FileAOFManifest, Path: p.paths.manifest()}
	_, err = set.Add(ctx, spec, strings.NewReader(m.Text()))
	return err
}

func (b AOF) readManifest(ctx context.Context, p *AOFPlan, c *copies) (string, error) {
	file, err := c.read(ctx, p.path(p.paths.manifest()), aof.MaxManifestSize+1, Prefix{})
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }() // Read has told whether all is here
	text, err := io.ReadAll(file)
	return string(text), err
}

// path returns where the server has the file name.
func (p *AOFPlan) path(name string) string { return path.Join(p.paths.dir, name) }

// copyWhole copies a file that the server has finished.
func (b AOF) copyWhole(ctx context.Context, p *AOFPlan, c *copies, set *snapshot.Set, spec snapshot.SetFile) error {
	stored, err := b.copyFile(ctx, p, c, set, spec, growth{})
	if err == nil && stored.AOF.Truncated() > 0 {
		err = operation.Errorf(operation.Corrupt, "%s ends within a command, %d bytes before its end: a server would not load it",
			spec.Path, stored.AOF.Truncated())
	}
	return err
}

// copyGrowing copies the file that the server appends to, up to the last complete
// command of what there is when the copy begins.
func (b AOF) copyGrowing(ctx context.Context, p *AOFPlan, c *copies, set *snapshot.Set, spec snapshot.SetFile) error {
	before := set.Len()
	limit, cut := int64(0), int64(0)
	for range copyAttempts {
		stored, err := b.copyFile(ctx, p, c, set, spec, growth{growing: true, limit: limit})
		if err != nil {
			return err
		}
		if stored.AOF.Truncated() == 0 {
			stored.CutBytes = cut
			return nil
		}
		// What was stored cannot be taken back, only left out: copy it once more. That
		// is rare, because a server appends whole commands.
		limit, cut = stored.AOF.Complete, stored.AOF.Truncated()
		b.Reporter.Warn("%s ends with %d bytes of a command or transaction that is not complete; they are left out", spec.Path, cut)
		set.Drop(before)
	}
	return fmt.Errorf("%w: %s has other contents each time it is read", errRewritten, spec.Path)
}

// growth says whether a file is being appended to, and how much of it is wanted: 0 for
// all that there is.
type growth struct {
	growing bool
	limit   int64
}

func (b AOF) copyFile(
	ctx context.Context, p *AOFPlan, c *copies, set *snapshot.Set, spec snapshot.SetFile, g growth,
) (*snapshot.File, error) {
	file, err := c.open(ctx, p.path(spec.Path), g.limit, g.growing)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // Read has told whether all data is here
	spec.Download = file.download
	return set.Add(ctx, spec, file)
}

// describe says what the plan knows of the source.
func (p *AOFPlan) describe() snapshot.Source {
	return describe(p.deployment, &p.source, "aof", "file")
}

func (p *AOFPlan) failed(ctx context.Context, phase string, err error) error {
	return failed(ctx, p.Object, phase, err)
}

// Folder returns the folder of the store that the backup is in.
func (p *AOFPlan) Folder() string { return p.dir }
