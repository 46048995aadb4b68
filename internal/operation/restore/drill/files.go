package drill

import (
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/redis"
	"github.com/redisctl/redisctl/internal/snapshot"
)

// load is what a server is to load.
type load struct {
	files []file
	// config are the lines of redis.conf that make a server load them.
	config []string
	// contents is what the RDB file holds; nil for append-only files, of which nobody
	// knows beforehand what the commands leave.
	contents *restore.Contents
	// summaries are those of all RDB data in files.
	summaries []*rdb.Summary
	commands  int64
	multipart bool
	source    *snapshot.Source
}

type file struct {
	name string
	size int64
	open func(ctx context.Context) (io.ReadCloser, error)
}

const rdbName = "dump.rdb"

// prepare verifies the backup and says how it is loaded. A problem is why the backup is
// not what it should be.
func (d Drill) prepare(ctx context.Context, b restore.Backup) (l *load, problem, err error) {
	if parts := appendOnly(b.Entry.Manifest); len(parts) > 0 {
		return d.prepareAOF(ctx, b, parts)
	}
	contents, err := b.Verify(ctx, d.Now(), d.Reporter)
	if err != nil || contents.Problem != nil {
		return nil, contents.Problem, err
	}
	l = &load{
		files:     []file{{rdbName, contents.Size, b.Open}},
		config:    []string{"appendonly no", "dbfilename " + rdbName},
		contents:  &contents,
		summaries: []*rdb.Summary{&contents.Summary},
		source:    contents.Source,
	}
	return l, nil, nil
}

// appendOnly returns the append-only files of a set that has no snapshot besides them.
func appendOnly(m *snapshot.Manifest) []snapshot.File {
	if m == nil {
		return nil
	}
	var parts []snapshot.File
	for _, f := range m.Files {
		switch f.Kind {
		case snapshot.FileAOF, snapshot.FileAOFManifest, snapshot.FileAOFBase, snapshot.FileAOFIncremental:
			parts = append(parts, f)
		case snapshot.FileRDB:
			return nil
		}
	}
	return parts
}

func (d Drill) prepareAOF(ctx context.Context, b restore.Backup, parts []snapshot.File) (l *load, problem, err error) {
	problem, err = b.VerifySet(ctx, d.Now(), d.Reporter)
	if problem != nil || err != nil {
		return nil, problem, err
	}
	l = &load{source: &b.Entry.Manifest.Source, config: []string{
		"appendonly yes", "auto-aof-rewrite-percentage 0",
		// What the backup has is whole: a server must not pass over a damaged end.
		"aof-load-truncated no",
	}}
	for _, f := range parts {
		l.addPart(b, f)
	}
	return l, nil, nil
}

func (l *load) addPart(b restore.Backup, f snapshot.File) {
	l.files = append(l.files, file{f.Path, f.ContentSize(), func(ctx context.Context) (io.ReadCloser, error) {
		return b.OpenFile(ctx, f.Name)
	}})
	switch f.Kind {
	case snapshot.FileAOFManifest:
		l.multipart = true
		folder, name := path.Split(f.Path)
		l.config = append(l.config, quoted("appenddirname", path.Clean(folder)), quoted("appendfilename", strings.TrimSuffix(name, ".manifest")))
	case snapshot.FileAOF:
		l.config = append(l.config, quoted("appendfilename", path.Base(f.Path)))
		l.files[len(l.files)-1].name = path.Base(f.Path)
	}
	if f.RDB != nil {
		l.summaries = append(l.summaries, f.RDB)
	}
	if f.AOF != nil {
		l.commands += f.AOF.Commands
		if f.AOF.Preamble != nil {
			l.summaries = append(l.summaries, f.AOF.Preamble)
		}
	}
}

// quoted is a line of redis.conf whose value may hold anything.
func quoted(name, value string) string { return name + " " + strconv.Quote(value) }

// needs is the room that the data takes.
func (l *load) needs(life time.Duration) Needs {
	n := Needs{Life: life}
	for _, f := range l.files {
		n.Files += f.size
	}
	for _, s := range l.summaries {
		used, err := strconv.ParseInt(s.Aux["used-mem"], 10, 64)
		if err == nil {
			n.Memory = max(n.Memory, used)
		}
	}
	return n
}

// unreadable says why no server of version v could load this, "" when it can.
func (l *load) unreadable(v redis.Version) string {
	for _, s := range l.summaries {
		if !restore.Readable(v, s) {
			return fmt.Sprintf("%s does not read RDB version %d (%s)", v, s.Version, s.Origin)
		}
	}
	switch {
	case l.multipart && v.Major < 7:
		return fmt.Sprintf("%s does not read append-only files of several parts", v)
	case l.contents == nil && !knowsCommands(v, l.source):
		return fmt.Sprintf("%s may not know all commands of %s %s", v, l.source.Product, l.source.Version)
	default:
		return ""
	}
}

// knowsCommands reports whether servers of version v have all commands of the one that
// wrote an append-only file. New commands come with major and minor versions; Valkey began
// with those of Redis 7.2.
func knowsCommands(v redis.Version, source *snapshot.Source) bool {
	wrote, err := redis.ParseVersion(source.Product, source.Version)
	if err != nil {
		return false
	}
	v.Patch, wrote.Patch = 0, 0
	if v.Product == "valkey" && wrote.Product == "redis" {
		v = redis.Version{Product: "redis", Major: 7, Minor: 2}
	}
	return v.Product == wrote.Product && v.Compare(wrote) >= 0
}

// databases is how many databases the server must have.
func (l *load) databases() int {
	const usual = 16
	n := usual
	for _, s := range l.summaries {
		for _, db := range s.DBs {
			n = max(n, db.DB+1)
		}
	}
	return n
}

// hasModules reports whether values of modules are in it.
func (l *load) hasModules() bool {
	return slices.ContainsFunc(l.summaries, func(s *rdb.Summary) bool {
		return s.ModuleAux > 0 || slices.ContainsFunc(s.DBs, func(db rdb.DBSummary) bool {
			return db.Types[rdb.TypeModule.String()] > 0
		})
	})
}
