package redisconn

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/redis"
)

// Where the chart keeps its RDB file, assumed when CONFIG is not to be had.
const (
	chartDir        = "/data"
	chartDBFilename = "dump.rdb"
)

// The pace of questions while a save runs. The first ones come fast, for small
// databases.
const (
	minPollInterval = 20 * time.Millisecond
	maxPollInterval = time.Second
)

// BgsaveResult is an RDB file that a server has written.
type BgsaveResult struct {
	// Dir and File are the server's dir and dbfilename.
	Dir, File string
	// Assumed is set when the server did not say where the file is (CONFIG is
	// disabled or not allowed), and the chart's /data/dump.rdb stands in.
	Assumed bool
	// Saved is the server's time at the end of the save, in whole seconds
	// (rdb_last_save_time).
	Saved time.Time
	// Duration of the save as the client saw it, without the wait for others.
	Duration time.Duration
	// RunID names the life of the server process that wrote the file.
	RunID string
}

// Path of the file on the server.
func (r BgsaveResult) Path() string { return path.Join(r.Dir, r.File) }

// Bgsave makes a server write its RDB file and returns when it is complete. A save
// or AOF rewrite that already runs is waited for; it is not taken for this one,
// because it shows an earlier moment. ctx bounds the whole.
//
// A save counts as done when, in the same life of the server, no save runs, the
// last one's status is ok, LASTSAVE is later than before, and rdb_saves has grown
// where the field exists (7.0+). Less is not enough: status ok and no save in
// progress is also what a save leaves that FLUSHALL has killed, and LASTSAVE counts
// whole seconds, so it is let pass into the next one first. One thing cannot be
// told from a save: FLUSHALL on a server with save points kills the save and then
// saves the emptied data set itself.
//
// Errors are those of operation.Server, and of kind Failed when the server failed
// to save, was restarted, or gave the save up.
func Bgsave(ctx context.Context, server operation.Server, reporter operation.Reporter) (BgsaveResult, error) {
	b := bgsave{server: server, reporter: reporter}
	if err := b.locate(ctx); err != nil {
		return BgsaveResult{}, err
	}
	started, err := b.start(ctx)
	if err != nil {
		return BgsaveResult{}, b.fail(ctx, "starting BGSAVE", err)
	}
	if err := b.await(ctx); err != nil {
		return BgsaveResult{}, b.fail(ctx, "waiting for BGSAVE", err)
	}
	b.result.Duration = time.Since(started)
	return b.result, nil
}

type bgsave struct {
	server   operation.Server
	reporter operation.Reporter
	before   saveState
	result   BgsaveResult
}

// saveState is what INFO says of saves.
type saveState struct {
	redis.Persistence
	runID string
	saves int64
	// children are the child processes that keep BGSAVE from starting.
	children []string
	// keys and totalKeys are the progress of a running save (7.0+).
	keys, totalKeys int64
	detail          string
}

func (b *bgsave) fail(ctx context.Context, phase string, err error) error {
	var known *operation.Error
	switch {
	case errors.As(err, &known):
		return known
	case ctx.Err() != nil:
		cause := context.Cause(ctx)
		kind := operation.Interrupted
		if errors.Is(cause, context.DeadlineExceeded) {
			kind = operation.TimedOut
		}
		return &operation.Error{Kind: kind, Phase: phase, Err: cause}
	default:
		return &operation.Error{Kind: operation.Failed, Phase: phase, Err: err}
	}
}

// locate finds out where the server will write, before it does.
func (b *bgsave) locate(ctx context.Context) error {
	b.result.Dir, b.result.File = chartDir, chartDBFilename
	dir, err := b.server.ConfigGet(ctx, "dir")
	if errors.Is(err, operation.ErrNoCommand) || isNoPermission(err) {
		b.result.Assumed = true
		b.reporter.Note("the server does not say where it saves (%v), assuming %s", err, b.result.Path())
		return nil
	}
	if err != nil {
		return err
	}
	file, err := b.server.ConfigGet(ctx, "dbfilename")
	if err != nil {
		return err
	}
	b.result.Dir, b.result.File = dir["dir"], file["dbfilename"]
	return nil
}

func isNoPermission(err error) bool {
	var reply *ReplyError
	return errors.As(err, &reply) && reply.Code() == "NOPERM"
}

// start starts a save, as soon as nothing else keeps the server from it, and
// returns when it did.
func (b *bgsave) start(ctx context.Context) (time.Time, error) {
	var announced string
	for poll := newPoll(); ; {
		state, err := b.state(ctx)
		if err != nil {
			return time.Time{}, err
		}
		b.before = state
		if len(state.children) == 0 {
			if err := operation.PassLastSave(ctx, b.server, b.before.LastSave); err != nil {
				return time.Time{}, err
			}
			started := time.Now()
			_, err := b.server.Do(ctx, "BGSAVE")
			if !isBusyWithChild(err) {
				return started, forkError(err)
			}
			// Something else has just started; INFO does not name all that can.
			state.children = []string{"another child process"}
		}
		if waiting := strings.Join(state.children, " and "); waiting != announced {
			b.reporter.Note("%s is running, BGSAVE waits for its end", waiting)
			announced = waiting
		}
		if err := poll.wait(ctx); err != nil {
			return time.Time{}, err
		}
	}
}

// isBusyWithChild recognises "Background save already in progress" and "Another
// child process is active (AOF?): can't BGSAVE right now" (rdb.c, bgsaveCommand).
func isBusyWithChild(err error) bool {
	var reply *ReplyError
	return errors.As(err, &reply) &&
		(strings.Contains(reply.Text, "already in progress") || strings.Contains(reply.Text, "child process is active"))
}

// forkError explains the reply "ERR" with nothing behind it.
func forkError(err error) error {
	var reply *ReplyError
	if errors.As(err, &reply) && reply.Text == "ERR" {
		return fmt.Errorf("the server could not start a child process, its log says why: %w", err)
	}
	return err
}

// await waits until the save that start has started is over, and judges it. The
// server has forked when it answers BGSAVE: no save in progress means that ours is
// over.
func (b *bgsave) await(ctx context.Context) error {
	for poll := newPoll(); ; {
		state, err := b.state(ctx)
		if err != nil {
			return err
		}
		if state.runID != b.before.runID {
			return errors.New("the server was restarted while it saved")
		}
		if !state.SaveInProgress {
			b.result.Saved, b.result.RunID = state.LastSave, state.runID
			return b.judge(state)
		}
		b.reporter.Progress(operation.Progress{
			Done: state.keys, Total: state.totalKeys, Unit: "keys", Detail: state.detail,
		})
		if err := poll.wait(ctx); err != nil {
			return err
		}
	}
}

func (b *bgsave) judge(state saveState) error {
	switch {
	case !state.LastSaveOK:
		return &operation.Error{
			Kind: operation.Failed, Phase: "BGSAVE",
			Err:  errors.New("the server reports that it failed to save (rdb_last_bgsave_status:err)"),
			Next: "look into the server's log and at the free space of " + b.result.Dir,
		}
	case !state.LastSave.After(b.before.LastSave) || state.saves < b.before.saves:
		return errors.New("the server gave the save up (FLUSHALL, FLUSHDB, SHUTDOWN and loading data do that)")
	case b.before.saves >= 0 && state.saves == b.before.saves:
		return errors.New("the server's count of saves (rdb_saves) has not grown")
	default:
		return nil
	}
}

func (b *bgsave) state(ctx context.Context) (saveState, error) {
	info, err := b.server.Info(ctx, "server", "persistence")
	if err != nil {
		return saveState{}, err
	}
	s := saveState{
		Persistence: info.Persistence(), runID: info.Get("run_id"), saves: -1,
		keys: info.Int("current_save_keys_processed"), totalKeys: info.Int("current_save_keys_total"),
	}
	if info.Has("rdb_saves") {
		s.saves = info.Int("rdb_saves")
	}
	for _, child := range [...]struct{ field, name string }{
		{"rdb_bgsave_in_progress", "another save"},
		{"aof_rewrite_in_progress", "an AOF rewrite"},
		{"module_fork_in_progress", "a module's child process"},
	} {
		if info.Bool(child.field) {
			s.children = append(s.children, child.name)
		}
	}
	s.detail = fmt.Sprintf("running for %d s", max(0, info.Int("rdb_current_bgsave_time_sec")))
	return s, nil
}

// poll spaces questions out: quickly at first, then up to maxPollInterval.
type poll struct{ interval time.Duration }

func newPoll() *poll { return &poll{interval: minPollInterval} }

func (p *poll) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(p.interval):
	}
	p.interval = min(p.interval*3/2, maxPollInterval)
	return nil
}
