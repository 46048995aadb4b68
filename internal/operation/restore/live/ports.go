package live

import (
	"context"
	"io"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
)

// Replayer opens replays into the instances of a deployment.
type Replayer interface {
	// OpenReplay connects and authenticates. ctx governs the whole replay: when it ends,
	// nothing more is sent, and Finish still collects the replies.
	OpenReplay(ctx context.Context, d *operation.Deployment, i operation.Instance, o ReplayOptions) (Replay, error)
}

// ReplayOptions say how keys are sent.
type ReplayOptions struct {
	// Connections is over how many connections at once, at least 1.
	Connections int
	// Stall is the longest time without a byte from the server while replies are awaited.
	Stall time.Duration
	// Judge decides about an error reply: nil goes on, an error ends the replay. Calls
	// do not overlap.
	Judge func(Rejection) error
}

// Rejection is an error reply.
type Rejection struct {
	// Key that was not restored, in database DB of the server. It is valid during the
	// call only.
	Key []byte
	DB  int
	// Position is that of the Key.
	Position int64
	// Code is the reply's first word, such as BUSYKEY or OOM; Err its text, with the kind
	// of failure.
	Code string
	Err  error
}

// Key is a key of the backup on its way to a server.
type Key struct {
	// DB is the database of the server.
	DB int
	// Name is the key itself.
	Name []byte
	// ExpireAt is in ms since 1970, Idle in s, Freq the access counter; rdb.None for
	// those that the key does not have.
	ExpireAt, Idle int64
	Freq           int
	// RDBType is the type byte, Version the RDB version of the payload.
	RDBType byte
	Version uint16
	// Size is the length of the serialized value, in bytes.
	Size int64
	// Replace lets the key take the place of one that is there.
	Replace bool
	// Position is where the value stands in the file. It grows from key to key.
	Position int64
}

// Replay sends keys to a server over several connections at once, and counts the
// replies. Except for Settled, its methods are called by one goroutine. The error of
// each is that which ended the replay: of kind TimedOut when nothing comes any more, that
// of Judge, or context.Cause of its context.
type Replay interface {
	// Restore sends a key whole.
	Restore(k *Key, value []byte) error
	// Stream sends a key whose value is written in pieces, k.Size bytes altogether. Close
	// completes it. Nothing else is sent meanwhile.
	Stream(k *Key) (io.WriteCloser, error)
	// Command sends a command that is needed to make a key, in the key's database. All of
	// them go over one connection, in order. The one that completes the key counts; if its
	// reply is 0 it has done nothing, which counts as BUSYKEY. Of the others, only errors
	// count.
	Command(k *Key, completes bool, words ...[]byte) error
	// Settled returns how far the replies have come.
	Settled() Settled
	// Finish sends what is left, waits for all replies and closes the connections. It
	// must be called, also after an error.
	Finish() error
}

// Settled is how far a replay has come.
type Settled struct {
	// Before is a position: every key before it was restored or rejected with Judge's
	// consent. Restored and Rejected count these.
	Before, Restored, Rejected int64
	// AllRestored counts all that were restored: keys behind Before may be, because one
	// connection is ahead of the other.
	AllRestored int64
	// Bytes that were sent.
	Bytes int64
}
