package redisconn_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/redis"
	"github.com/redisctl/redisctl/internal/redisconn"
	"github.com/redisctl/redisctl/internal/testkit/redisserver"
)

// notes is a Reporter that keeps the notes.
type notes struct {
	operation.DiscardReporter
	said func(note string) // optional
	mu   sync.Mutex
	text strings.Builder
}

func (n *notes) Note(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	note := fmt.Sprintf(format, args...)
	n.text.WriteString(note + "\n")
	if n.said != nil {
		n.said(note)
	}
}

func (n *notes) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.String()
}

// slow makes a save of 1000 keys last 100 s.
var slow = []string{"rdb-key-save-delay 100000"}

func TestBgsave(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		ctx := t.Context()
		s := redisserver.Start(t, redisserver.Options{Version: version, Config: []string{"dbfilename chosen.rdb"}})
		require.NoError(t, redisserver.Fill(ctx, s.Client(), 5, 500))
		c := open(t, optionsOf(s))
		var before redisconn.BgsaveResult
		for range 3 { // one right after the other, within LASTSAVE's second
			require.NoError(t, s.Client().Incr(ctx, "counter").Err())
			want, err := redisserver.TakeDigest(ctx, s.Client())
			require.NoError(t, err)
			result, err := redisconn.Bgsave(ctx, c, operation.DiscardReporter{})
			require.NoError(t, err)
			assert.Equal(t, filepath.Join(s.Dir, "chosen.rdb"), result.Path())
			assert.False(t, result.Assumed)
			assert.Positive(t, result.Duration)
			assert.NotEmpty(t, result.RunID)
			assert.True(t, result.Saved.After(before.Saved))
			before = result

			rdb, err := os.ReadFile(result.Path())
			require.NoError(t, err)
			require.True(t, isWholeRDB(rdb))
			got, err := redisserver.TakeDigest(ctx, load(t, version, rdb).Client())
			require.NoError(t, err)
			require.NoError(t, want.Diff(got), "the file must hold what was written before")
		}
	})
}

func TestBgsaveWaitsForOthers(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		for name, test := range map[string]struct {
			command string
			note    string
		}{
			"save":        {"BGSAVE", "another save is running"},
			"AOF rewrite": {"BGREWRITEAOF", "an AOF rewrite is running"},
		} {
			t.Run(name, func(t *testing.T) {
				ctx := t.Context()
				s := redisserver.Start(t, redisserver.Options{Version: version, Config: slow})
				fillSimple(t, s, 1000, 1)
				require.NoError(t, s.Client().Do(ctx, test.command).Err())
				require.NoError(t, s.Client().Set(ctx, "late", 1, 0).Err())
				require.NoError(t, s.Client().ConfigSet(ctx, "rdb-key-save-delay", "0").Err())
				reporter := notes{said: func(note string) {
					assert.Contains(t, note, test.note)
					s.KillChildren()
				}}
				result, err := redisconn.Bgsave(ctx, open(t, optionsOf(s)), &reporter)
				require.NoError(t, err)
				assert.NotEmpty(t, reporter.String())
				rdb, err := os.ReadFile(result.Path())
				require.NoError(t, err)
				restored := load(t, version, rdb)
				require.EqualValues(t, 1, restored.Client().Exists(ctx, "late").Val(), "the earlier save must not count")
			})
		}
	})
}

func TestBgsaveFailures(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		t.Run("the server fails to save", func(t *testing.T) {
			s := redisserver.Start(t, redisserver.Options{Version: version})
			c := open(t, optionsOf(s))
			obstacle := filepath.Join(s.Dir, "dump.rdb", "obstacle")
			require.NoError(t, os.MkdirAll(obstacle, 0o700))
			for range 2 { // the second time the status was err before
				_, err := redisconn.Bgsave(t.Context(), c, operation.DiscardReporter{})
				require.ErrorContains(t, err, "failed to save")
				assert.Equal(t, operation.Failed, operation.KindOf(err))
			}
			require.NoError(t, os.RemoveAll(filepath.Dir(obstacle)))
			_, err := redisconn.Bgsave(t.Context(), c, operation.DiscardReporter{})
			require.NoError(t, err)
		})
		t.Run("FLUSHALL kills the save", func(t *testing.T) {
			s := redisserver.Start(t, redisserver.Options{Version: version, Config: slow})
			fillSimple(t, s, 1000, 1)
			failed := make(chan error)
			go func() {
				_, err := redisconn.Bgsave(t.Context(), open(t, optionsOf(s)), operation.DiscardReporter{})
				failed <- err
			}()
			waitForSave(s)
			require.NoError(t, s.Client().FlushAll(t.Context()).Err())
			err := <-failed
			require.ErrorContains(t, err, "gave the save up")
			assert.Equal(t, operation.Failed, operation.KindOf(err))
		})
		t.Run("cancelled", func(t *testing.T) {
			s := redisserver.Start(t, redisserver.Options{Version: version, Config: slow})
			fillSimple(t, s, 1000, 1)
			ctx, cancel := context.WithCancelCause(t.Context())
			failed := make(chan error)
			go func() {
				_, err := redisconn.Bgsave(ctx, open(t, optionsOf(s)), operation.DiscardReporter{})
				failed <- err
			}()
			waitForSave(s)
			cancel(operation.ErrLeaseLost)
			err := <-failed
			require.ErrorIs(t, err, operation.ErrLeaseLost)
			assert.Equal(t, operation.Interrupted, operation.KindOf(err))
		})
	})
}

func waitForSave(s *redisserver.Server) {
	s.WaitFor("the save to begin", func(ctx context.Context) bool {
		return strings.Contains(s.Client().Info(ctx, "persistence").Val(), "rdb_bgsave_in_progress:1")
	})
}

func TestBgsaveWithRenamedCommands(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		start := func(t *testing.T, renames redis.Renames, config ...string) *redisconn.Client {
			t.Helper()
			o := optionsOf(redisserver.Start(t, redisserver.Options{Version: version, Config: config}))
			o.Renames = renames
			return open(t, o)
		}
		t.Run("renamed", func(t *testing.T) {
			c := start(t, redis.Renames{"BGSAVE": "b-1", "CONFIG": "c-1"}, "rename-command BGSAVE b-1", "rename-command CONFIG c-1")
			result, err := redisconn.Bgsave(t.Context(), c, operation.DiscardReporter{})
			require.NoError(t, err)
			assert.False(t, result.Assumed)
			assert.FileExists(t, result.Path())
		})
		t.Run("CONFIG disabled", func(t *testing.T) {
			var reporter notes
			result, err := redisconn.Bgsave(t.Context(), start(t, nil, `rename-command CONFIG ""`), &reporter)
			require.NoError(t, err)
			assert.True(t, result.Assumed)
			assert.Equal(t, "/data/dump.rdb", result.Path())
			assert.Contains(t, reporter.String(), "assuming /data/dump.rdb")
		})
		t.Run("BGSAVE disabled", func(t *testing.T) {
			_, err := redisconn.Bgsave(t.Context(), start(t, nil, `rename-command BGSAVE ""`), operation.DiscardReporter{})
			require.ErrorIs(t, err, operation.ErrNoCommand)
		})
	})
}

// scripted is a server whose INFO changes after BGSAVE.
type scripted struct {
	operation.Server
	before, after string
	bgsave        error
	started       bool
}

func (s *scripted) Info(context.Context, ...string) (redis.Info, error) {
	if s.started {
		return redis.ParseInfo(s.after)
	}
	return redis.ParseInfo(s.before)
}

func (s *scripted) ConfigGet(_ context.Context, name string) (map[string]string, error) {
	return map[string]string{name: "x"}, nil
}

func (s *scripted) Do(_ context.Context, args ...any) (any, error) {
	switch args[0] {
	case "TIME":
		return []any{"1001", "500000"}, nil
	case "BGSAVE":
		s.started = true
		return "Background saving started", s.bgsave
	default:
		return nil, fmt.Errorf("unexpected command %v", args)
	}
}

func TestBgsaveIsNotFooled(t *testing.T) {
	state := func(runID, status string, lastSave, saves int) string {
		text := fmt.Sprintf("run_id:%s\nrdb_bgsave_in_progress:0\nrdb_last_bgsave_status:%s\nrdb_last_save_time:%d\n", runID, status, lastSave)
		if saves >= 0 {
			text += fmt.Sprintf("rdb_saves:%d\n", saves)
		}
		return text
	}
	for name, test := range map[string]struct {
		before, after string
		bgsave        error
		want          string // part of the error, none when empty
	}{
		"done":                   {before: state("a", "ok", 1000, 3), after: state("a", "ok", 1002, 4)},
		"done, 6.0":              {before: state("a", "ok", 1000, -1), after: state("a", "ok", 1002, -1)},
		"done after a failure":   {before: state("a", "err", 1000, 3), after: state("a", "ok", 1002, 4)},
		"failed":                 {before: state("a", "ok", 1000, 3), after: state("a", "err", 1000, 3), want: "failed to save"},
		"killed":                 {before: state("a", "ok", 1000, 3), after: state("a", "ok", 1000, 3), want: "gave the save up"},
		"time only":              {before: state("a", "ok", 1000, 3), after: state("a", "ok", 1002, 3), want: "rdb_saves"},
		"restarted":              {before: state("a", "ok", 1000, 3), after: state("b", "ok", 1002, 0), want: "restarted"},
		"the server cannot fork": {before: state("a", "ok", 1000, 3), bgsave: &redisconn.ReplyError{Text: "ERR"}, want: "could not start a child process"},
	} {
		t.Run(name, func(t *testing.T) {
			result, err := redisconn.Bgsave(t.Context(), &scripted{before: test.before, after: test.after, bgsave: test.bgsave}, operation.DiscardReporter{})
			if test.want != "" {
				require.ErrorContains(t, err, test.want)
				assert.Equal(t, operation.Failed, operation.KindOf(err))
				return
			}
			require.NoError(t, err)
			assert.Equal(t, time.Unix(1002, 0).UTC(), result.Saved)
		})
	}
}
