package redisconn

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/redis"
)

// Defaults of Options.
const (
	DefaultDialTimeout = 5 * time.Second
	DefaultTimeout     = 5 * time.Second
)

// phaseAuth is the phase of errors of AUTH.
const phaseAuth = "authenticating"

// Options say how to reach one server.
type Options struct {
	// Name is what errors call the server, for example "pod redis-prod/redis-1".
	Name string
	// Dial opens a connection to the server. It must honour its context.
	Dial func(ctx context.Context) (net.Conn, error)
	// TLS wraps connections when it is not nil. Its ServerName must be set
	// unless it skips verification.
	TLS *tls.Config
	// Username is empty for the default user.
	Username string
	// Password is empty for servers without one. A password that the server does
	// not want is not an error, see Client.PasswordUnused.
	Password string
	// Renames are the server's rename-command settings. Commands that they
	// disable are sent all the same: the server may run with an older
	// configuration, and its answer is the truth.
	Renames redis.Renames
	// DialTimeout bounds the opening of a connection with TLS (0: DefaultDialTimeout).
	DialTimeout time.Duration
	// Timeout bounds each call on an open connection (0: DefaultTimeout).
	Timeout time.Duration
}

func (o Options) withDefaults() Options {
	o.DialTimeout = cmp.Or(o.DialTimeout, DefaultDialTimeout)
	o.Timeout = cmp.Or(o.Timeout, DefaultTimeout)
	return o
}

// connect opens a connection and does the TLS handshake.
func (o Options) connect(ctx context.Context) (net.Conn, error) {
	limited, cancel := context.WithTimeout(ctx, o.DialTimeout)
	defer cancel()
	conn, err := o.Dial(limited)
	if err == nil && o.TLS != nil {
		conn, err = o.handshake(limited, conn)
	}
	if err != nil {
		return nil, o.fail(ctx, "connecting", o.DialTimeout, err)
	}
	return conn, nil
}

func (o Options) handshake(ctx context.Context, conn net.Conn) (net.Conn, error) {
	secured := tls.Client(conn, o.TLS)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return secured, nil
}

// authArgs returns the AUTH command, or nil when there is nothing to say.
func (o Options) authArgs() []string {
	switch {
	case o.Username != "":
		return []string{o.commandName("AUTH"), o.Username, o.Password}
	case o.Password != "":
		return []string{o.commandName("AUTH"), o.Password}
	default:
		return nil
	}
}

// commandName translates a command to the name that the server has for it.
func (o Options) commandName(command string) string {
	name, disabled := o.Renames.Lookup(strings.ToUpper(command))
	if disabled {
		return command
	}
	return name
}
