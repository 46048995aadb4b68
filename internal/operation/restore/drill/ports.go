package drill

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/redis"
)

// Host has room for throw-away servers.
type Host interface {
	// Name is what messages call it: "/usr/bin/redis-server", "a pod".
	Name() string
	// Open makes room for one server. It does not start it yet.
	Open(ctx context.Context, n Needs) (Server, error)
}

// Needs say what room a server takes.
type Needs struct {
	// Files in bytes.
	Files int64
	// Memory in bytes that the data took where it was written; 0 when that is not
	// known.
	Memory int64
	// Life is after what time the server is to end by itself, whatever has become of
	// redisctl.
	Life time.Duration
}

// Server is a throw-away server. It and its data disappear with redisctl, however that
// ends: at once, or after Needs.Life.
type Server interface {
	// Name tells it from others.
	Name() string
	// Version is that of its program.
	Version() redis.Version
	// Put writes a file of size bytes into its data folder. name may have slashes.
	Put(ctx context.Context, name string, size int64, data io.Reader) error
	// Start starts it with the given lines of redis.conf. It sets itself where it
	// listens, who may connect, and its data folder.
	Start(ctx context.Context, config []string) error
	// Ended returns nil while it runs, an *EndError when it has ended by itself, and
	// any other error when that cannot be found out.
	Ended(ctx context.Context) error
	// Dial connects to it, as Deployment's only instance.
	Dial(ctx context.Context) (net.Conn, error)
	Deployment() *operation.Deployment
	// Password that it wants, "" for none.
	Password() string
	// Close ends it and removes its data.
	Close(ctx context.Context) error
}

// EndError says that a server has ended.
type EndError struct {
	// Code is its exit code, or 128 plus the signal that ended it.
	Code int
	// Reason is what its host says of it: "exit code 1", "OOMKilled, exit code 137".
	Reason string
	// Log is what it printed last.
	Log []string
}

func (e *EndError) Error() string {
	if len(e.Log) == 0 {
		return "the server has ended: " + e.Reason
	}
	return fmt.Sprintf("the server has ended (%s) and printed:\n  %s", e.Reason, strings.Join(e.Log, "\n  "))
}

// refused reports whether the server itself gave up: servers exit with 1 when they
// cannot load their data (rdbReportError in rdb.c, loadAppendOnlyFiles in aof.c).
func (e *EndError) refused() bool { return e.Code == 1 }

// Link reaches a server.
type Link interface {
	operation.Connector
	restore.Values
}
