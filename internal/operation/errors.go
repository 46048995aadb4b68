package operation

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Kind classifies a failure by what the caller can do about it. internal/cli
// maps each kind to one exit code.
type Kind int

// The kinds of failure, in the order of their exit codes.
const (
	Failed      Kind = iota // it did not work
	Usage                   // the command line cannot be carried out as written
	Partial                 // some targets succeeded, some failed
	Corrupt                 // data failed verification
	Refused                 // a blocker was found; nothing was changed
	Locked                  // another operator holds the release's Lease
	TimedOut                // no answer or no progress in time
	Denied                  // not authenticated or not allowed
	Unsupported             // the server's or the data's version is not supported
	Unhealthy               // the checks ran and found something wrong
	Interrupted             // Ctrl-C or a lost Lease
)

// String returns the kind's name as it appears in JSON errors.
func (k Kind) String() string {
	names := [...]string{
		"failed", "usage", "partial", "corrupt", "refused", "locked", "timedOut",
		"denied", "unsupported", "unhealthy", "interrupted",
	}
	if k < 0 || int(k) >= len(names) {
		return fmt.Sprintf("Kind(%d)", int(k))
	}
	return names[k]
}

// Error is a failure as an operator needs to hear it at 3 a.m.: which object,
// in which phase, why, what is unchanged, and what to type next.
type Error struct {
	Kind Kind
	// Object is what the failure is about, for example "pod redis-prod/redis-1".
	Object string
	// Phase is what was being done, for example "reading the snapshot".
	Phase string
	// Err is the cause. It is never nil.
	Err error
	// Unchanged says what was left as it was. Empty for operations that only read.
	Unchanged string
	// Next is a command or an action that helps. Empty when there is none.
	Next string
}

// Error implements error in one line, without Unchanged and Next, which
// the terminal shows on lines of their own.
func (e *Error) Error() string {
	var b strings.Builder
	for _, part := range []string{e.Object, e.Phase} {
		if part != "" {
			b.WriteString(part)
			b.WriteString(": ")
		}
	}
	b.WriteString(e.Err.Error())
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an Error of the given kind whose cause is the formatted text.
func Errorf(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Err: fmt.Errorf(format, args...)}
}

// ErrNoCommand matches (errors.Is) the failure of a command that the server
// does not know: disabled with rename-command, or not in this version.
var ErrNoCommand = errors.New("the server does not have this command")

// ErrLoading matches the failure of a command that a server refuses while it
// reads its data set at start-up. INFO works all the same.
var ErrLoading = errors.New("the server is loading its data set")

// ErrLeaseLost is the cause (context.Cause) of a context that was cancelled
// because the release's Lease was lost to another operator.
var ErrLeaseLost = errors.New("the lease was lost to another operator")

// KindOf returns the kind of the outermost Error in err's chain. A context that
// was cancelled counts as Interrupted, one past its deadline as TimedOut,
// anything else as Failed.
func KindOf(err error) Kind {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e.Kind
	case errors.Is(err, context.Canceled):
		return Interrupted
	case errors.Is(err, context.DeadlineExceeded):
		return TimedOut
	default:
		return Failed
	}
}

// Answered reports whether err is what a server said: it is alive, whatever it refuses.
func Answered(err error) bool {
	var reply interface{ Code() string }
	return errors.As(err, &reply)
}
