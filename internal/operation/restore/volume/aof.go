package volume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/aof"
	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/rdb/rdbdiff"
	"github.com/redisctl/redisctl/internal/redis"
	"github.com/redisctl/redisctl/internal/snapshot"
)

// AOF is a Source: an append-only file, or its beginning.
type AOF struct {
	// Backup names it, and opens the first of its parts.
	Backup restore.Backup
	// Cut is where it is cut, Survey what is left of it then.
	Cut    aof.Cut
	Survey aof.Survey
	// Source is where the data comes from; nil for files without a manifest. Problem is
	// why the backup failed verification; nil when it has passed.
	Source  *snapshot.Source
	Problem error
	// From and Ref are part of its Origin.
	From, Ref string
}

// OpenAOF reads the append-only file of a backup and finds out what a cut keeps of it.
// From and Ref are left to the caller. What is wrong with a set as a whole is told by
// Problem; a file that is damaged before the cut is an error.
func OpenAOF(ctx context.Context, b restore.Backup, cut aof.Cut, now time.Time, report operation.Reporter) (AOF, error) {
	a := AOF{Backup: b, Cut: cut}
	if m := b.Entry.Manifest; m != nil {
		a.Source = &m.Source
		report.Step("verifying the backup %s", b.Name())
		var err error
		if a.Problem, err = b.VerifySet(ctx, now, report); err != nil {
			return AOF{}, err
		}
	}
	log, names, err := b.AppendOnly(ctx)
	if err != nil {
		return AOF{}, err
	}
	report.Step("reading the commands of %s", b.Name())
	if a.Survey, err = b.Survey(ctx, log, cut, now, report); err != nil {
		return AOF{}, err
	}
	// Backup.Open is to read the part that may begin with an RDB.
	a.Backup.Entry.Manifest, a.Backup.Entry.DataName = nil, names[0]
	return a, nil
}

// Name implements Source.
func (a AOF) Name() string { return a.Backup.Name() }

// Origin implements Source. A cut is told by where it is, so that it is the same one
// when the log is read again.
func (a AOF) Origin() Origin {
	o := Origin{Command: CommandAOF, From: a.From, Ref: a.Ref}
	if a.Cut.By != aof.CutNowhere {
		file, offset := a.Survey.End()
		o.Cut = fmt.Sprintf("%s:%d", file, offset)
	}
	return o
}

// Describe implements Source.
func (a AOF) Describe() restore.Contents {
	c := restore.Contents{Source: a.Source, Size: a.Survey.Bytes(), Problem: a.Problem}
	if a.Survey.Preamble != nil {
		c.Summary = *a.Survey.Preamble
	}
	return c
}

// Check implements Source.
func (a AOF) Check(ctx context.Context, server operation.Server, l Layout) ([]operation.Finding, error) {
	findings := a.notices()
	if !l.AOF && !a.comparable() {
		findings = append(findings, operation.Finding{
			Code: "aof-off", Severity: operation.Critical, Subject: a.Name(),
			Message: "the servers start with appendonly no: they would ignore an append-only file",
			Hint:    "set appendonly yes in the values of the release, or restore a snapshot: redisctl restore rdb",
		})
	}
	if server == nil {
		return findings, nil
	}
	if err := a.readable(l.Version); err != nil {
		return nil, err
	}
	unknown, err := unknownCommands(ctx, server, a.Survey.CommandNames())
	switch {
	case errors.Is(err, operation.ErrNoCommand):
		return append(findings, operation.Finding{
			Code: "commands-not-checked", Severity: operation.Notice, Subject: a.Name(),
			Message: "whether the servers know all of its commands could not be asked (COMMAND is disabled)",
		}), nil
	case err != nil:
		return nil, err
	case len(unknown) > 0:
		return nil, &operation.Error{
			Kind: operation.Unsupported, Object: a.Name(), Phase: "comparing commands",
			Err:       fmt.Errorf("%s does not know %s and would not start", l.Version, someOf(unknown)),
			Unchanged: "nothing was changed",
			Next:      "restore it into a server of the same version, modules and renamed commands; or cut it before: --before " + unknown[0],
		}
	}
	return findings, nil
}

// notices are what the operator should know of the log.
func (a AOF) notices() []operation.Finding {
	findings := []operation.Finding{}
	add := func(code string, severity operation.Severity, format string, args ...any) {
		findings = append(findings, operation.Finding{
			Code: code, Severity: severity, Subject: a.Name(), Message: fmt.Sprintf(format, args...),
		})
	}
	s := &a.Survey
	if s.Incomplete > 0 {
		add("aof-incomplete-end", operation.Notice, "its last %d bytes are no complete command or transaction: they are left out", s.Incomplete)
	}
	if s.Damage != "" {
		add("aof-damaged", operation.Warning, "it is damaged behind the cut, and was read up to there: %s", s.Damage)
	}
	if s.Undated > 0 {
		add("aof-undated", operation.Notice, "its first %d commands come before the first timestamp: they are kept", s.Undated)
	}
	if len(s.Untimed) > 0 {
		add("aof-untimed", operation.Warning, "%s has commands without timestamps, and is kept", strings.Join(s.Untimed, ", "))
	}
	if _, exact := a.writer(); !exact && s.Kept.Commands > 0 {
		add("aof-version-unknown", operation.Notice, "which version has written it is not known; a server that is older may pass over some of its commands")
	}
	switch {
	case a.Cut.By != aof.CutNowhere && s.Dropped.Commands == 0:
		add("nothing-dropped", operation.Notice, "nothing comes behind the cut: all of it is restored")
	case a.Cut.By != aof.CutNowhere && a.cutsBase():
		add("aof-base-cut", operation.Warning,
			"the cut is in the base file; if a rewrite wrote that, its commands are in no order of time")
	}
	return findings
}

// cutsBase reports whether the log is cut within a base file of commands.
func (a AOF) cutsBase() bool {
	file, offset := a.Survey.End()
	for _, s := range a.Survey.Slices() {
		if s.Name == file {
			return s.Part == aof.Base && offset > s.Preamble && a.Survey.Parts[0].Size > offset
		}
	}
	return false
}

// readable makes sure that a server of version v does not misread the commands. One
// that is older refuses options that it does not know, and servers pass over such
// errors while they load.
func (a AOF) readable(v redis.Version) error {
	wrote, exact := a.writer()
	if a.Survey.Kept.Commands == 0 || !olderThan(v, wrote) {
		return nil
	}
	by := wrote.String()
	if !exact {
		by += " or newer"
	}
	return &operation.Error{
		Kind: operation.Unsupported, Object: a.Name(), Phase: "comparing versions",
		Err:       fmt.Errorf("its commands are of %s; %s is older, and passes over what it does not understand", by, v),
		Unchanged: "nothing was changed",
		Next:      "restore it into a server that is as new, or a snapshot into this one: redisctl restore rdb",
	}
}

// writer is the server that wrote the log, or the oldest one that it may have been.
// exact says which.
func (a AOF) writer() (v redis.Version, exact bool) {
	if a.Source != nil {
		v, err := redis.ParseVersion(a.Source.Product, a.Source.Version)
		return v, err == nil
	}
	if p := a.Survey.Preamble; p != nil {
		for product, field := range map[string]string{"valkey": "valkey-ver", "redis": "redis-ver"} {
			if v, err := redis.ParseVersion(product, p.Aux[field]); err == nil {
				return v, true
			}
		}
	}
	for _, s := range a.Survey.Slices() {
		if s.Part != "" || s.Annotations > 0 { // both came with 7.0
			return redis.Version{Product: "redis", Major: 7}, false
		}
	}
	return redis.Version{Product: "redis"}, false
}

// olderThan compares major and minor versions: new options of commands come with these.
// Valkey began as Redis 7.2.
func olderThan(v, wrote redis.Version) bool {
	fork := func(v redis.Version) redis.Version {
		if v.Product != "redis" {
			v = redis.Version{Product: "redis", Major: 7, Minor: 2}
		}
		return v
	}
	if v.Product != wrote.Product {
		v, wrote = fork(v), fork(wrote)
	}
	v.Patch, wrote.Patch = 0, 0
	return v.Compare(wrote) < 0
}

// unknownCommands returns those of the names that a server has no command of, fit to be
// shown.
func unknownCommands(ctx context.Context, server operation.Server, names []string) ([]string, error) {
	if len(names) == 0 {
		return nil, nil
	}
	args := []any{"COMMAND", "INFO"}
	for _, name := range names {
		args = append(args, name)
	}
	reply, err := server.Do(ctx, args...)
	if err != nil {
		return nil, err
	}
	infos, ok := reply.([]any)
	if !ok || len(infos) != len(names) {
		return nil, fmt.Errorf("COMMAND INFO: unexpected reply %T", reply)
	}
	var unknown []string
	for i, info := range infos {
		if info == nil {
			unknown = append(unknown, rdbdiff.Escape([]byte(names[i])))
		}
	}
	return unknown, nil
}

// someOf lists words, if there are not too many.
func someOf(words []string) string {
	const most = 10
	if more := len(words) - most; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(words[:most], ", "), more)
	}
	return strings.Join(words, ", ")
}

// Files implements Source. Servers since 7.0 load a single file as the base of one of
// several parts, as they do themselves after an upgrade; those before load all parts in
// one file, without the annotations that they do not know. Servers without an
// append-only file load an RDB, if nothing else is restored.
func (a AOF) Files(l Layout) ([]File, error) {
	slices := a.Survey.Slices()
	switch {
	case !l.AOF && a.comparable():
		return []File{{Name: l.RDB, Size: slices[0].Bytes, Open: slices[0].OpenSlice}}, nil
	case !l.AOF:
		return nil, operation.Errorf(operation.Refused, "the servers start with appendonly no")
	}
	if err := a.readable(l.Version); err != nil {
		return nil, err
	}
	if !l.Multipart {
		return []File{joined(l.AOFName, slices)}, nil
	}
	var files []File
	var manifest aof.Manifest
	for _, s := range slices {
		e := aof.Entry{Seq: max(s.Seq, 1), Part: aof.Incremental}
		if s.Part != aof.Incremental {
			e.Part = aof.Base
		}
		e.Name = partName(l.AOFName, e, s.Preamble == s.Bytes)
		manifest.Entries = append(manifest.Entries, e)
		files = append(files, File{Name: l.AOFDir + "/" + e.Name, Size: s.Bytes, Open: s.OpenSlice})
	}
	return append(files, inMemory(l.AOFDir+"/"+l.AOFName+".manifest", []byte(manifest.Text()))), nil
}

// partName is what servers call a part (aof.c of 7.0).
func partName(name string, e aof.Entry, snapshot bool) string {
	kind, suffix := "incr", "aof"
	if e.Part == aof.Base {
		kind = "base"
	}
	if snapshot {
		suffix = "rdb"
	}
	return fmt.Sprintf("%s.%d.%s.%s", name, e.Seq, kind, suffix)
}

// joined is one file of all slices.
func joined(name string, slices []aof.Slice) File {
	f := File{Name: name}
	for _, s := range slices {
		f.Size += s.Bytes - s.Annotations
	}
	f.Open = func(ctx context.Context) (io.ReadCloser, error) {
		rest := slices
		return &sequence{open: func() (io.ReadCloser, error) {
			if len(rest) == 0 {
				return nil, io.EOF
			}
			next := rest[0]
			rest = rest[1:]
			return next.OpenPlain(ctx)
		}}, nil
	}
	return f
}

// sequence reads one file after the other.
type sequence struct {
	// open opens the next one; io.EOF says that there is none.
	open    func() (io.ReadCloser, error)
	current io.ReadCloser
}

// Read implements io.Reader.
func (s *sequence) Read(p []byte) (int, error) {
	for {
		if s.current == nil {
			var err error
			if s.current, err = s.open(); err != nil {
				return 0, err
			}
		}
		n, err := s.current.Read(p)
		if !errors.Is(err, io.EOF) {
			return n, err
		}
		if err := s.Close(); err != nil || n > 0 {
			return n, err
		}
	}
}

// Close implements io.Closer.
func (s *sequence) Close() error {
	if s.current == nil {
		return nil
	}
	err := s.current.Close()
	s.current = nil
	return err
}

// Prove implements Source. Without commands, the data must be that of the RDB. What
// commands leave, only a server can tell: then the proof is that it has loaded all of
// them, and has given nothing up.
func (a AOF) Prove(
	ctx context.Context, c restore.Comparer, d *operation.Deployment, i operation.Instance, sample int64,
) (restore.Comparison, error) {
	if a.comparable() {
		base := a.Backup
		base.Prefix = a.Survey.Preamble.Size
		contents := restore.Contents{Summary: *a.Survey.Preamble, Size: base.Prefix}
		return c.Compare(ctx, base, d, i, restore.CompareOptions{Contents: contents, Sample: sample, Counts: true})
	}
	server, err := c.Connector.Connect(ctx, d, i)
	if err != nil {
		return restore.Comparison{}, err
	}
	defer func() { _ = server.Close() }() // it was only asked
	info, err := server.Info(ctx)
	if err != nil {
		return restore.Comparison{}, err
	}
	return a.proveLoaded(i, info)
}

// comparable reports whether nothing but an RDB is restored.
func (a AOF) comparable() bool { return a.Survey.Kept.Commands == 0 && a.Survey.Preamble != nil }

func (a AOF) proveLoaded(i operation.Instance, info redis.Info) (restore.Comparison, error) {
	if !info.Persistence().AOFEnabled {
		return restore.Comparison{}, operation.Errorf(operation.Corrupt, "%s has not loaded its append-only file: it has started with appendonly no", i.Name)
	}
	least := a.Survey.Bytes()
	for _, s := range a.Survey.Slices() {
		least -= s.Annotations
	}
	// A rewrite makes the file smaller. -1 says that there was none.
	rewritten := info.Get("aof_last_rewrite_time_sec") != "-1"
	if loaded := info.Int("aof_current_size"); !rewritten && loaded < least {
		return restore.Comparison{}, operation.Errorf(operation.Corrupt,
			"%s has loaded %d bytes of %d of its append-only file", i.Name, loaded, least)
	}
	found := restore.Comparison{
		Instance: i.Name, DBs: []restore.DBComparison{}, Examples: []restore.Example{}, LoadedOnly: true,
		Evicted: info.Int("evicted_keys"),
	}
	for _, db := range info.Keyspace() {
		found.DBs = append(found.DBs, restore.DBComparison{DB: db.DB, Found: db.Keys})
	}
	found.Equal = found.Evicted == 0
	return found, nil
}

var _ Source = AOF{}
