package redisconn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/redisctl/redisctl/internal/operation"
)

// ReplyError is an error reply of a server. It matches operation.ErrNoCommand
// when the server does not know the command.
type ReplyError struct {
	// Text is the reply without its leading "-" and without what the server
	// quotes of the command's arguments, which may be secret.
	Text string
}

// Error returns the reply's text.
func (e *ReplyError) Error() string { return e.Text }

// Code returns the reply's first word, which by convention is an upper-case code:
// ERR, LOADING, MASTERDOWN, BUSY, NOAUTH, NOPERM, NOMASTERLINK, MISCONF, READONLY,
// .... It is "" when the reply has none. Callers that must not import this package
// find it with errors.As and interface{ Code() string }.
func (e *ReplyError) Code() string {
	code, _, _ := strings.Cut(e.Text, " ")
	if code == "" || strings.ToUpper(code) != code {
		return ""
	}
	return code
}

// Is makes the replies to unknown commands and subcommands match
// operation.ErrNoCommand, and LOADING operation.ErrLoading.
func (e *ReplyError) Is(target error) bool {
	switch target {
	case operation.ErrLoading:
		return e.Code() == "LOADING"
	case operation.ErrNoCommand:
		return strings.HasPrefix(e.Text, "ERR unknown command") ||
			// 7.0 and later; before, the reply also said "or wrong number of arguments".
			strings.HasPrefix(e.Text, "ERR unknown subcommand") ||
			strings.HasPrefix(e.Text, "ERR Unknown subcommand")
	default:
		return false
	}
}

// refusesCredentials reports whether the server wants other credentials, whatever
// the command was. DENIED is protected mode; "invalid password" is how servers
// before 6.0 said WRONGPASS.
func (e *ReplyError) refusesCredentials() bool {
	switch e.Code() {
	case "NOAUTH", "WRONGPASS", "DENIED":
		return true
	default:
		return strings.HasPrefix(e.Text, "ERR invalid password")
	}
}

func (e *ReplyError) denied() bool { return e.refusesCredentials() || e.Code() == "NOPERM" }

// noPasswordConfigured reports whether AUTH failed because the server lets
// everybody in (6.0 and later; before 6.0).
func (e *ReplyError) noPasswordConfigured() bool {
	return strings.Contains(e.Text, "without any password configured") ||
		strings.Contains(e.Text, "no password is set")
}

// newReplyError cleans the text of an error reply: the reply to an unknown command
// quotes its arguments, and those of a renamed AUTH are the password.
func newReplyError(text string) *ReplyError {
	text, _, _ = strings.Cut(text, ", with args beginning with:")
	return &ReplyError{Text: text}
}

// fail makes the *operation.Error for err, which happened on o's server in the
// given phase. It classifies errors of go-redis, of connections and of contexts;
// an *operation.Error in the chain is returned as it is. ctx is the caller's, to
// tell its end from the end of a call's own time limit.
func (o Options) fail(ctx context.Context, phase string, limit time.Duration, err error) *operation.Error {
	var known *operation.Error
	if errors.As(err, &known) {
		return known
	}
	e := &operation.Error{Object: o.Name, Phase: phase, Err: err, Kind: operation.Failed}
	if o.Password != "" && strings.Contains(err.Error(), o.Password) {
		// No reply is known that would do this; %w would keep the text reachable.
		e.Err = errors.New(strings.ReplaceAll(err.Error(), o.Password, "***"))
	}
	var server goredis.Error
	if errors.As(err, &server) {
		e.Err = newReplyError(server.Error())
	}
	var reply *ReplyError
	switch {
	case errors.As(e.Err, &reply):
		if reply.denied() {
			e.Kind = operation.Denied
		}
	case ctx.Err() != nil:
		e.Err = context.Cause(ctx)
		e.Kind = operation.Interrupted
		if errors.Is(e.Err, context.DeadlineExceeded) {
			e.Kind = operation.TimedOut
		}
	case isTimeout(err):
		e.Kind = operation.TimedOut
		e.Err = silence{limit, err}
	}
	return e
}

// silence is a time limit that was reached. How the system says that is no news.
type silence struct {
	limit time.Duration
	err   error
}

func (s silence) Error() string { return fmt.Sprintf("no answer within %v", s.limit) }

func (s silence) Unwrap() error { return s.err }

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, goredis.ErrPoolTimeout) ||
		errors.As(err, &timeout) && timeout.Timeout()
}
