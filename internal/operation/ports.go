package operation

import (
	"context"
	"io"
	"time"

	"github.com/redisctl/redisctl/internal/redis"
)

// Resolver turns what the user named into deployments.
type Resolver interface {
	// Resolve finds exactly one deployment. An *Error of kind Usage lists the
	// candidates when there are several, or says what was looked for when there
	// is none.
	Resolve(ctx context.Context, t Target) (*Deployment, error)
	// List finds every deployment that t admits, sorted by namespace and
	// release. None is not an error.
	List(ctx context.Context, t Target) ([]Deployment, error)
}

// Connector opens connections to the instances of a deployment. The caller
// closes what it gets. Implementations share the underlying transport, so
// connecting to one instance twice is cheap.
type Connector interface {
	Connect(ctx context.Context, d *Deployment, i Instance) (Server, error)
}

// Server is a connection to one Redis instance. Its methods are safe for
// concurrent use, honour their context, and return an *Error of kind Denied
// when the server refuses the credentials or the command's ACL, TimedOut when
// it does not answer in time, and Failed otherwise.
type Server interface {
	// Info runs INFO with the given sections (none: the default ones).
	Info(ctx context.Context, sections ...string) (redis.Info, error)
	// ConfigGet runs CONFIG GET under whatever name the deployment gives it.
	// An error matching ErrNoCommand says that CONFIG is disabled.
	ConfigGet(ctx context.Context, pattern string) (map[string]string, error)
	// Do runs any command, translated to the name the deployment gives it, and
	// returns the reply as go-redis decodes it: string, int64, []any, nil.
	Do(ctx context.Context, args ...any) (any, error)
	// Ping returns the round-trip time of one PING.
	Ping(ctx context.Context) (time.Duration, error)
	// PasswordUnused reports that a password was given but the server lets
	// everybody in. It is known after the first answer.
	PasswordUnused() bool
	Close() error
}

// Locker keeps two operators from changing one deployment at the same time.
type Locker interface {
	// Lock takes the deployment's lock until release is called. The returned
	// context ends with cause ErrLeaseLost when the lock is lost, and with ctx. An
	// *Error of kind Locked names the holder.
	Lock(ctx context.Context, d *Deployment) (locked context.Context, release func(), err error)
}

// LockReader is what a Locker may also be.
type LockReader interface {
	// LockHolder returns who holds d's lock, "" when nobody does. It changes nothing.
	LockHolder(ctx context.Context, d *Deployment) (string, error)
}

// Notes keeps small texts with a deployment: records of what was begun, which must
// outlive this process.
type Notes interface {
	// Note returns the text under key, "" when there is none.
	Note(ctx context.Context, d *Deployment, key string) (string, error)
	// SetNotes sets texts and removes those that are empty, in one step.
	SetNotes(ctx context.Context, d *Deployment, notes map[string]string) error
}

// The notes that operations keep. In a cluster they are annotations of the workload.
const (
	// NoteFailover holds the record of an unfinished failover as JSON.
	NoteFailover = "redisctl.dev/failover"
	// NotePrimary names the instance that is meant to be the primary. Without it,
	// the chart's own choice counts: ordinal 0.
	NotePrimary = "redisctl.dev/primary"
	// NoteRestore holds the record of an unfinished restore as JSON.
	NoteRestore = "redisctl.dev/restore"
	// NoteUpgrade holds the record of an unfinished upgrade as JSON.
	NoteUpgrade = "redisctl.dev/upgrade"
	// NoteUpgraded holds, as JSON, how the release was before the last upgrade, which
	// `upgrade validate` compares with.
	NoteUpgraded = "redisctl.dev/upgraded"
	// NoteGreen holds, as JSON, the record of a second release that is to take over, or has
	// taken over, the clients of this one. NoteBlue, at the second, names the first.
	NoteGreen = "redisctl.dev/green"
	NoteBlue  = "redisctl.dev/blue"
	// NoteCutover holds the record of an unfinished switch between the two, as
	// NoteFailover does.
	NoteCutover = "redisctl.dev/cutover"
	// NoteServedBy names the release that serves this one's clients: none of its own
	// servers is to become the primary.
	NoteServedBy = "redisctl.dev/served-by"
	// NoteSettings holds, as JSON, the settings that a backup changes while it copies.
	NoteSettings = "redisctl.dev/backup-settings"
)

// File is a file of an instance that is being read.
type File interface {
	io.ReadCloser
	// Size in bytes, announced before the contents: of the whole, also when Read begins
	// later.
	Size() int64
	// Offset is where Read begins: 0, or behind what is here already.
	Offset() int64
	// State tells this file from another one of the same path.
	State() FileState
}

// FileState is what a file's system says of it. It is empty where the instance has no
// tool that tells.
type FileState struct {
	// Inode is the number of the file; it survives renaming.
	Inode string
	// Modified is when it was last written to, in seconds since 1970.
	Modified string
}

// Reporter receives the narration of an operation. It is for people: results
// are returned, never reported. Methods are safe for concurrent use and never
// block for long.
type Reporter interface {
	// Step says that a phase begins, in the present participle:
	// "taking a snapshot from redis-1".
	Step(format string, args ...any)
	// Note adds a detail to the current step.
	Note(format string, args ...any)
	// Warn says that something is not as it should be, and the operation goes on.
	Warn(format string, args ...any)
	// Progress updates the current step's progress. It may be called often.
	Progress(p Progress)
}

// Progress is how far a transfer or a scan has come.
type Progress struct {
	// Done and Total count Unit. Total 0 means unknown.
	Done, Total int64
	// Unit is "bytes" or "keys".
	Unit string
	// Detail is shown behind the numbers, for example "server is forking".
	Detail string
}

// DiscardReporter is a Reporter that says nothing.
type DiscardReporter struct{}

// Step implements Reporter.
func (DiscardReporter) Step(string, ...any) {}

// Note implements Reporter.
func (DiscardReporter) Note(string, ...any) {}

// Warn implements Reporter.
func (DiscardReporter) Warn(string, ...any) {}

// Progress implements Reporter.
func (DiscardReporter) Progress(Progress) {}
