package cli

import (
	"errors"
	"fmt"
	"io"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/snapshot/codec"
	"github.com/redisctl/redisctl/internal/storage"
)

// The exit codes. They are part of redisctl's interface (docs/exit-codes.md).
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitPartial     = 3
	exitCorrupt     = 4
	exitRefused     = 5
	exitLocked      = 6
	exitTimedOut    = 7
	exitDenied      = 8
	exitUnsupported = 9
	exitUnhealthy   = 10
	exitInterrupted = 130
)

// exitCode is the one place where a failure becomes an exit code.
func exitCode(err error) int {
	if err == nil {
		return exitDone
	}
	var remote remoteExit
	if errors.As(err, &remote) {
		return remote.code
	}
	switch kind(err) {
	case operation.Usage:
		return exitUsage
	case operation.Partial:
		return exitPartial
	case operation.Corrupt:
		return exitCorrupt
	case operation.Refused:
		return exitRefused
	case operation.Locked:
		return exitLocked
	case operation.TimedOut:
		return exitTimedOut
	case operation.Denied:
		return exitDenied
	case operation.Unsupported:
		return exitUnsupported
	case operation.Unhealthy:
		return exitUnhealthy
	case operation.Interrupted:
		return exitInterrupted
	default:
		return exitFailed
	}
}

// kind classifies err; the packages that know nothing of operations have
// sentinels of their own.
func kind(err error) operation.Kind {
	if k := operation.KindOf(err); k != operation.Failed {
		return k
	}
	switch {
	case errors.Is(err, codec.ErrKey):
		return operation.Denied
	case errors.Is(err, rdb.ErrUnsupported), errors.Is(err, snapshot.ErrUnsupported):
		return operation.Unsupported
	case errors.Is(err, rdb.ErrCorrupt), errors.Is(err, snapshot.ErrCorrupt):
		return operation.Corrupt
	case errors.Is(err, storage.ErrDenied):
		return operation.Denied
	case errors.Is(err, storage.ErrInvalidName):
		return operation.Usage // -n ../.. and the like
	default:
		return operation.Failed
	}
}

// reported is an error whose explanation has been printed already as the
// command's result, such as unhealthy findings: only its exit code is left to say.
type reported struct{ error }

// Unwrap lets KindOf find the kind.
func (r reported) Unwrap() error { return r.error }

// outcome ends a command whose result says all, with the exit code of kind.
func outcome(k operation.Kind, format string, args ...any) error {
	return reported{operation.Errorf(k, format, args...)}
}

// remoteExit ends a command with the exit code of the program that it ran in a container,
// which has said itself what there is to say.
type remoteExit struct{ code int }

// Error implements error.
func (r remoteExit) Error() string {
	return fmt.Sprintf("the remote program ended with exit code %d", r.code)
}

// printError explains err on stderr: what failed, what is unchanged, what to type.
func printError(w io.Writer, err error) {
	if errors.As(err, new(reported)) || errors.As(err, new(remoteExit)) {
		return
	}
	// Nothing is left to do when stderr cannot be written.
	_, _ = fmt.Fprintf(w, "error: %v\n", err)
	var e *operation.Error
	if !errors.As(err, &e) {
		return
	}
	if e.Unchanged != "" {
		_, _ = fmt.Fprintf(w, "  unchanged: %s\n", e.Unchanged)
	}
	if e.Next != "" {
		_, _ = fmt.Fprintf(w, "  next: %s\n", e.Next)
	}
}
