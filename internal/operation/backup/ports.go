package backup

import (
	"context"
	"io"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
)

// Streamer takes snapshots over the replication protocol.
type Streamer interface {
	// Snapshot asks an instance for its data set as an RDB. It returns when the
	// first byte of data is there; state is called when it is known what the
	// server is doing until then.
	Snapshot(ctx context.Context, d *operation.Deployment, i operation.Instance, o StreamOptions) (Stream, error)
}

// StreamOptions say how a snapshot is streamed.
type StreamOptions struct {
	// DiskBased asks the server to write a file first, instead of offering to
	// take the data as it is produced.
	DiskBased bool
	// KeyByKey reads the data of a replica without its primary key by key: it
	// refuses to stream a snapshot.
	KeyByKey bool
	// Stall is how long the server may send nothing at all.
	Stall time.Duration
	// State is called with what the server is doing. It may be nil.
	State func(string)
}

// Stream is the data of a snapshot. Read returns io.EOF only after the complete
// RDB; a connection that ends earlier is an error matching io.ErrUnexpectedEOF.
type Stream interface {
	io.ReadCloser
	// Origin says which point in the replication stream the data is from.
	Origin() Origin
}

// Origin is where a snapshot comes from.
type Origin struct {
	ReplicationID string
	Offset        int64
	// Form is how the end of the data is marked: "eof" or "length".
	Form string
	// Size of the data in bytes; 0 when it is not known in advance.
	Size int64
}

// Saver makes a server write an RDB file.
type Saver interface {
	// Save runs BGSAVE and returns when it has succeeded.
	Save(ctx context.Context, d *operation.Deployment, i operation.Instance, report operation.Reporter) (Saved, error)
}

// Saved is a file that a server has written.
type Saved struct {
	// Path on the server.
	Path string
	// Took is how long the save took.
	Took time.Duration
}

// Files reads files of a server. Plain addresses have none.
type Files interface {
	// ReadFile opens a file. Read returns io.EOF only after the announced length
	// has arrived and the digest that the server computed matches. An error about a
	// file that is not there matches fs.ErrNotExist.
	ReadFile(ctx context.Context, d *operation.Deployment, i operation.Instance, path string, o ReadOptions) (operation.File, error)
	// FreeSpace returns the free bytes of the file system that holds path.
	FreeSpace(ctx context.Context, d *operation.Deployment, i operation.Instance, path string) (int64, error)
}

// ReadOptions say how a file is read.
type ReadOptions struct {
	// Limit is the most that is read, in bytes; 0 for all that there is when the file
	// is opened. The server may append meanwhile.
	Limit int64
	// Have says what is here already. Read begins behind it if the file begins with it,
	// which its side decides by the digest; else at 0.
	Have Prefix
	// Stall is how long nothing at all may come.
	Stall time.Duration
}

// Prefix is the beginning of a file.
type Prefix struct {
	// Bytes is its length; 0 for none.
	Bytes int64
	// SHA256 is its digest in lower-case hexadecimal.
	SHA256 string
}
