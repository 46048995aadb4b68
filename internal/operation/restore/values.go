package restore

import (
	"context"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/rdb"
)

// Values reads serialized values from instances.
type Values interface {
	OpenValues(ctx context.Context, d *operation.Deployment, i operation.Instance) (ValueReader, error)
}

// ValueReader reads serialized values from one instance, over a connection of its own.
// It is not safe for concurrent use.
type ValueReader interface {
	// Read asks for the values of keys of one database. size is how many bytes of
	// values are expected, about: the time limit grows with it.
	Read(ctx context.Context, db int, queries []Query, size int64) (Answers, error)
	// Close ends the connection, and a Read whose context has ended with it.
	Close() error
}

// A Query asks for a key.
type Query struct {
	Key []byte
	// LengthOnly asks for the number of elements of a value of type Type instead of
	// the value: a server serializes a value whole, in memory, and does nothing else
	// meanwhile.
	LengthOnly bool
	Type       rdb.Type
}

// Answers are what an instance says to queries, in their order.
type Answers struct {
	Answers []Answer
	// Until is the server's clock after the last of them.
	Until time.Time
	// Exact is set when the server tells at which time keys expire, not only in how
	// long (7.0).
	Exact bool
}

// An Answer is what an instance has of a key.
type Answer struct {
	// Exists is false when there is no such key.
	Exists bool
	// Payload is what DUMP answers.
	Payload []byte
	// Length is the number of elements, or of a string's bytes, when only that was
	// asked for; rdb.None when the value is of another type. It means nothing for
	// modules, which have no such command in common.
	Length int64
	// Expires is zero for a key that does not.
	Expires time.Time
}
