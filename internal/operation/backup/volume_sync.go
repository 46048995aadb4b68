package backup

import (
	"context"
	"errors"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
)

// syncMargin is how long after a moment without a pending fsync everything written
// before that moment has been handed to one: with appendfsync everysec the server begins
// one at most a second after the last (flushAppendOnlyFile in aof.c). Doubled, because
// its clock ticks with its cron.
const syncMargin = 2 * time.Second

// syncPoll is how often the server is asked.
const syncPoll = 100 * time.Millisecond

// awaitSync waits until everything that the server had executed when it was called is in
// the append-only file, and that on the disk, as far as the server syncs by itself. A
// rewrite, or a save during which no-appendfsync-on-rewrite may keep it from syncing, is
// waited for first.
//
// WAITAOF, which 7.2 and later have, is no help: a connection that has written nothing is
// answered at once (tried with Redis 8.0 and Valkey 8.1, with a second of writes unsynced),
// and a backup must not write. INFO tells on every version, and on replicas, too.
func (b VolumeBackup) awaitSync(ctx context.Context, server operation.Server, s *PlannedSnapshot) error {
	b.Reporter.Step("waiting until the append-only file of %s is on the disk", s.Instance)
	tick := time.NewTicker(syncPoll)
	defer tick.Stop()
	var quiet time.Time // since when all that was written before can be synced
	for said := false; ; {
		info, err := server.Info(ctx, "server", "persistence")
		if err != nil {
			return err
		}
		persistence := info.Persistence()
		switch {
		case info.Get("run_id") != s.source.Info.Get("run_id"):
			return errors.New("the server was restarted meanwhile")
		case !persistence.AOFEnabled:
			return errors.New("the append-only file was switched off meanwhile")
		case !persistence.AOFLastWriteOK:
			return errors.New("the server cannot write to its append-only file (aof_last_write_status:err)")
		case persistence.AOFRewriteInProgress || info.Bool("aof_rewrite_scheduled") || persistence.SaveInProgress:
			if quiet = (time.Time{}); !said {
				said = true
				b.Reporter.Note("a rewrite or a save is running, its end is waited for")
			}
		case s.sync == "always" || s.sync == "no":
			return nil // done before each answer, or never
		case info.Int("aof_pending_bio_fsync") > 0:
		case quiet.IsZero():
			quiet = b.Now()
		case b.Now().Sub(quiet) >= syncMargin:
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}
