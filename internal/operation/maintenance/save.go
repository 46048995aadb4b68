package maintenance

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/inspect"
	"github.com/redisctl/redisctl/internal/redis"
)

// The pace of questions while a server writes.
const (
	firstPoll   = 20 * time.Millisecond
	slowestPoll = time.Second
)

// SavedState is what a server says of its files.
type SavedState struct {
	Role redis.Role `json:"role"`
	// LastSave is when the last RDB file was complete, also the one that was loaded at the
	// start; left out when the server never said so.
	LastSave time.Time `json:"lastSave,omitzero"`
	// LastSaveOK is false when the last save has failed. ChangesSinceSave are not in the
	// file.
	LastSaveOK       bool  `json:"lastSaveOk"`
	ChangesSinceSave int64 `json:"changesSinceSave"`
	Saving           bool  `json:"saving"`
	// SaveSeconds is how long the last background save took; -1 for none since the start.
	SaveSeconds int64 `json:"saveSeconds"`
	AOF         bool  `json:"aof"`
	// AOFRewriteOK and AOFWriteOK are meaningful where AOF is set, AOFBytes and
	// AOFBaseBytes, too: of all files, and right after the last rewrite.
	AOFRewriteOK bool  `json:"aofRewriteOk"`
	AOFWriteOK   bool  `json:"aofWriteOk"`
	AOFRewriting bool  `json:"aofRewriting"`
	AOFBytes     int64 `json:"aofBytes"`
	AOFBaseBytes int64 `json:"aofBaseBytes"`
}

// LastSaves asks every instance for the state of its files.
func (m Maintenance) LastSaves(ctx context.Context, d *operation.Deployment) []inspect.Answer[SavedState] {
	return inspect.Each(ctx, m.Connector, d, m.Timeout, savedState)
}

func savedState(ctx context.Context, s operation.Server) (SavedState, error) {
	info, err := s.Info(ctx, "persistence", "replication")
	if err != nil {
		return SavedState{}, err
	}
	replication, err := info.Replication()
	if err != nil {
		return SavedState{}, err
	}
	p := info.Persistence()
	return SavedState{
		Role: replication.Role, LastSave: p.LastSave.UTC(), LastSaveOK: p.LastSaveOK, ChangesSinceSave: p.ChangesSinceSave,
		Saving: p.SaveInProgress, SaveSeconds: info.Int("rdb_last_bgsave_time_sec"),
		AOF: p.AOFEnabled, AOFRewriteOK: p.AOFLastRewriteOK, AOFWriteOK: p.AOFLastWriteOK, AOFRewriting: p.AOFRewriteInProgress,
		AOFBytes: info.Int("aof_current_size"), AOFBaseBytes: info.Int("aof_base_size"),
	}, nil
}

// Written is a file that a server has written, which it says is complete.
type Written struct {
	Named
	// Command is SAVE, BGSAVE or BGREWRITEAOF.
	Command string `json:"command"`
	// Path of the RDB file on the server; left out for BGREWRITEAOF.
	Path string `json:"path,omitempty"`
	// Seconds is how long it took, as it was seen here.
	Seconds float64 `json:"seconds"`
	// Before and After are the state of the server's files.
	Before SavedState `json:"before"`
	After  SavedState `json:"after"`
}

// Bgsave makes a server save with bgsave, which returns when the file is complete, and
// tells what has changed by that.
func (m Maintenance) Bgsave(
	ctx context.Context, d *operation.Deployment, i operation.Instance,
	bgsave func(context.Context) (path string, took time.Duration, err error),
) (Written, error) {
	w := Written{Named: named(d, i.Name), Command: "BGSAVE"}
	s, err := m.Connector.Connect(ctx, d, i)
	if err != nil {
		return w, err
	}
	defer func() { _ = s.Close() }() // it has been judged
	if w.Before, err = savedState(ctx, s); err != nil {
		return w, err
	}
	m.Reporter.Step("saving %s in the background", i.Name)
	path, took, err := bgsave(ctx)
	if err != nil {
		return w, err
	}
	w.Path, w.Seconds = path, took.Seconds()
	w.After, err = savedState(ctx, s)
	return w, err
}

// SaveLimit is how long a SAVE may take.
const SaveLimit = 10 * time.Minute

// Save makes a server write its RDB file while nobody else is served (SAVE). It counts as
// done when the server has answered OK, LASTSAVE has moved and the last save is ok.
func (m Maintenance) Save(ctx context.Context, d *operation.Deployment, i operation.Instance) (Written, error) {
	w := Written{Named: named(d, i.Name), Command: "SAVE"}
	s, err := m.Connector.Connect(ctx, d, i)
	if err != nil {
		return w, err
	}
	defer func() { _ = s.Close() }() // it has been judged
	if w.Before, err = savedState(ctx, s); err != nil {
		return w, err
	}
	session, err := m.Sessions.OpenSession(ctx, d, i, 0)
	if err != nil {
		return w, err
	}
	defer func() { _ = session.Close() }()
	if err := operation.PassLastSave(ctx, s, w.Before.LastSave); err != nil {
		return w, err
	}
	m.Reporter.Step("saving %s; its clients wait meanwhile", i.Name)
	begin := time.Now()
	if _, err := ask(ctx, session, SaveLimit, "SAVE"); err != nil {
		return w, saveError(d, i, err)
	}
	w.Seconds = time.Since(begin).Seconds()
	if w.After, err = savedState(ctx, s); err != nil {
		return w, err
	}
	if !w.After.LastSaveOK || !w.After.LastSave.After(w.Before.LastSave) {
		return w, &operation.Error{
			Kind: operation.Failed, Object: objectOf(d, i), Phase: "SAVE",
			Err: fmt.Errorf("the server has answered OK, but LASTSAVE is still %s", w.After.LastSave.Format(time.RFC3339)),
		}
	}
	w.Path = rdbPath(ctx, s)
	return w, nil
}

// saveError explains what a server says when it cannot save.
func saveError(d *operation.Deployment, i operation.Instance, err error) error {
	var known *operation.Error
	if !errors.As(err, &known) {
		return err
	}
	e := *known
	e.Object = objectOf(d, i)
	switch {
	case strings.Contains(err.Error(), "already in progress"):
		e.Next = "wait for it: redisctl maintenance lastsave; or redisctl maintenance bgsave, which waits and then saves"
	case strings.HasSuffix(err.Error(), ": ERR"):
		e.Err = fmt.Errorf("the server could not write the file: %w", err)
		e.Next = "look into the server's log and at the free space of its volume"
	}
	return &e
}

func objectOf(d *operation.Deployment, i operation.Instance) string {
	if i.Pod == nil {
		return "server " + i.Name
	}
	return "pod " + d.Namespace + "/" + i.Name
}

// rdbPath is where the server says that it saves, "" when it does not.
func rdbPath(ctx context.Context, s operation.Server) string {
	dir, err := s.ConfigGet(ctx, "dir")
	if err != nil {
		return ""
	}
	file, err := s.ConfigGet(ctx, "dbfilename")
	if err != nil {
		return ""
	}
	return strings.TrimRight(dir["dir"], "/") + "/" + file["dbfilename"]
}

// RewriteAOF makes a server rewrite its append-only file, and returns when that is
// complete. A rewrite or save that already runs is waited for. It is refused where the
// append-only file is off: nobody would read what was written.
func (m Maintenance) RewriteAOF(ctx context.Context, d *operation.Deployment, i operation.Instance) (Written, error) {
	w := Written{Named: named(d, i.Name), Command: "BGREWRITEAOF"}
	s, err := m.Connector.Connect(ctx, d, i)
	if err != nil {
		return w, err
	}
	defer func() { _ = s.Close() }() // it has been judged
	r := rewrite{m: m, server: s, instance: i.Name, object: objectOf(d, i)}
	if w.Before, err = savedState(ctx, s); err != nil {
		return w, err
	}
	if !w.Before.AOF {
		return w, &operation.Error{
			Kind: operation.Refused, Object: r.object, Phase: "BGREWRITEAOF", Err: errors.New("its append-only file is off (appendonly no)"),
			Unchanged: "nothing was changed", Next: "redisctl maintenance bgsave writes the RDB file",
		}
	}
	m.Reporter.Step("rewriting the append-only file of %s", i.Name)
	begin := time.Now()
	if err := r.run(ctx); err != nil {
		return w, r.fail(ctx, err)
	}
	w.Seconds = time.Since(begin).Seconds()
	w.After, err = savedState(ctx, s)
	return w, err
}

// rewrite is one BGREWRITEAOF.
type rewrite struct {
	m                Maintenance
	server           operation.Server
	instance, object string
	runID            string
	// rewrites counts those of the server's life; -1 where it does not tell (before 7.0).
	rewrites int64
}

func (r *rewrite) fail(ctx context.Context, err error) error {
	var known *operation.Error
	switch {
	case errors.As(err, &known):
		return known
	case ctx.Err() != nil:
		return &operation.Error{Kind: operation.KindOf(context.Cause(ctx)), Object: r.object, Phase: "waiting for BGREWRITEAOF", Err: context.Cause(ctx), Unchanged: "the server goes on rewriting"}
	default:
		return &operation.Error{Kind: operation.Failed, Object: r.object, Phase: "BGREWRITEAOF", Err: err}
	}
}

func (r *rewrite) run(ctx context.Context) error {
	if _, err := r.idle(ctx, "is running, the rewrite waits for its end"); err != nil {
		return err
	}
	if _, err := r.server.Do(ctx, "BGREWRITEAOF"); err != nil {
		return err
	}
	before := r.rewrites
	info, err := r.idle(ctx, "")
	switch {
	case err != nil:
		return err
	case !info.Persistence().AOFLastRewriteOK:
		return &operation.Error{
			Kind: operation.Failed, Object: r.object, Phase: "BGREWRITEAOF",
			Err:  errors.New("the server reports that it failed (aof_last_bgrewrite_status:err)"),
			Next: "look into the server's log and at the free space of its volume",
		}
	case before >= 0 && r.rewrites == before:
		return errors.New("the server's count of rewrites (aof_rewrites) has not grown")
	default:
		return nil
	}
}

// idle waits until no child process runs and no rewrite is scheduled.
func (r *rewrite) idle(ctx context.Context, announce string) (redis.Info, error) {
	for wait := newPoll(); ; {
		info, err := r.server.Info(ctx, "server", "persistence")
		if err != nil {
			return info, err
		}
		if r.runID != "" && r.runID != info.Get("run_id") {
			return info, errors.New("the server was restarted meanwhile")
		}
		r.runID, r.rewrites = info.Get("run_id"), -1
		if info.Has("aof_rewrites") {
			r.rewrites = info.Int("aof_rewrites")
		}
		what := ""
		switch {
		case info.Bool("rdb_bgsave_in_progress"):
			what = "a save"
		case info.Bool("aof_rewrite_in_progress"), info.Bool("aof_rewrite_scheduled"):
			what = "a rewrite"
		}
		if what == "" {
			return info, nil
		}
		if announce != "" {
			r.m.Reporter.Note("%s %s", what, announce)
			announce = ""
		}
		r.m.Reporter.Progress(operation.Progress{Done: max(0, info.Int("aof_current_rewrite_time_sec")), Unit: "s"})
		if err := wait.next(ctx); err != nil {
			return info, err
		}
	}
}

// poll spaces questions out: quickly at first, then slower.
type poll struct{ interval time.Duration }

func newPoll() *poll { return &poll{firstPoll} }

func (p *poll) next(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(p.interval):
	}
	p.interval = min(p.interval*3/2, slowestPoll)
	return nil
}
