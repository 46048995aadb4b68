package redisconn

import (
	"context"
	"errors"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/redis"
)

// readingKeys is the phase of errors of reading values.
const readingKeys = "reading its keys"

// slowestValues is the rate in bytes/s below which the reading of values fails.
const slowestValues = 512 << 10

// OpenValues implements restore.Values.
func (c Connector) OpenValues(ctx context.Context, d *operation.Deployment, i operation.Instance) (restore.ValueReader, error) {
	o, err := c.Options(ctx, d, i)
	if err != nil {
		return nil, err
	}
	client := Open(o)
	info, err := client.Info(ctx, "server")
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	r, err := newValueReader(client, info)
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return r, nil
}

// valueReader reads values with DUMP. It implements restore.ValueReader.
type valueReader struct {
	client *Client
	conn   *goredis.Conn
	db     int
	// exact is set when the server tells at which time a key expires, not only in
	// how long (7.0).
	exact bool
}

// newValueReader returns a reader that owns client from now on, unless there is an error.
func newValueReader(client *Client, info redis.Info) (*valueReader, error) {
	version, err := info.Version()
	if err != nil {
		return nil, err
	}
	// The deadlines of contexts are the limits, which depend on the sizes of values.
	// SELECT belongs to a connection.
	conn := client.redis.WithTimeout(time.Hour).EphemeralConn()
	return &valueReader{client: client, conn: conn, db: -1, exact: version.Major >= 7}, nil
}

// Close implements restore.ValueReader.
func (r *valueReader) Close() error {
	err := r.client.Close() // first: it ends what reads from the connection
	_ = r.conn.Close()
	return err
}

// use selects a database.
func (r *valueReader) use(ctx context.Context, db int) error {
	if r.db == db {
		return nil
	}
	o := r.client.options
	err := r.client.call(ctx, o.DialTimeout+o.Timeout, func(ctx context.Context) error {
		return r.conn.Do(ctx, o.commandName("SELECT"), db).Err()
	})
	if err != nil {
		return o.fail(ctx, readingKeys, o.Timeout, err)
	}
	r.db = db
	return nil
}

// Read implements restore.ValueReader. The clock is asked before and after, and what is
// left of the keys' time first of all: where only that is told, the times are off by as
// long as the server takes to answer it.
func (r *valueReader) Read(ctx context.Context, db int, queries []restore.Query, size int64) (restore.Answers, error) {
	if err := r.use(ctx, db); err != nil {
		return restore.Answers{}, err
	}
	o := r.client.options
	limit := o.Timeout + time.Duration(size/slowestValues)*time.Second
	asked := r.commands(ctx, queries)
	err := r.client.call(ctx, limit, func(ctx context.Context) error {
		_, err := r.conn.Pipelined(ctx, func(p goredis.Pipeliner) error { return asked.queue(ctx, p) })
		return err
	})
	var reply goredis.Error
	if err != nil && !errors.As(err, &reply) {
		return restore.Answers{}, o.fail(ctx, readingKeys, limit, err)
	}
	found, err := asked.answers(r.exact)
	if err != nil {
		return restore.Answers{}, o.fail(ctx, readingKeys, limit, err)
	}
	return found, nil
}

// valueCommands are the commands of one Read.
type valueCommands struct {
	before, after *goredis.TimeCmd
	expiries      []*goredis.IntCmd
	// values has one of the two for each query.
	values []valueCommand
}

type valueCommand struct {
	payload *goredis.StringCmd
	length  *goredis.IntCmd
}

func (r *valueReader) commands(ctx context.Context, queries []restore.Query) *valueCommands {
	name := r.client.options.commandName
	expiry := "PTTL"
	if r.exact {
		expiry = "PEXPIRETIME"
	}
	c := &valueCommands{
		before: goredis.NewTimeCmd(ctx, name("TIME")), after: goredis.NewTimeCmd(ctx, name("TIME")),
		expiries: make([]*goredis.IntCmd, len(queries)), values: make([]valueCommand, len(queries)),
	}
	for i, q := range queries {
		c.expiries[i] = goredis.NewIntCmd(ctx, name(expiry), q.Key)
		if q.LengthOnly {
			c.values[i].length = goredis.NewIntCmd(ctx, name(lengthCommand(q.Type)), q.Key)
		} else {
			c.values[i].payload = goredis.NewStringCmd(ctx, name("DUMP"), q.Key)
		}
	}
	return c
}

// lengthCommand answers the number of elements of a value of a type. Modules have none
// in common.
func lengthCommand(t rdb.Type) string {
	switch t {
	case rdb.TypeString:
		return "STRLEN"
	case rdb.TypeList:
		return "LLEN"
	case rdb.TypeSet:
		return "SCARD"
	case rdb.TypeSortedSet:
		return "ZCARD"
	case rdb.TypeHash:
		return "HLEN"
	case rdb.TypeStream:
		return "XLEN"
	default:
		return "EXISTS"
	}
}

func (c *valueCommands) queue(ctx context.Context, p goredis.Pipeliner) error {
	all := []goredis.Cmder{c.before}
	for _, cmd := range c.expiries {
		all = append(all, cmd)
	}
	for _, v := range c.values {
		if v.payload != nil {
			all = append(all, v.payload)
		} else {
			all = append(all, v.length)
		}
	}
	return p.BatchProcess(ctx, append(all, c.after)...)
}

func (c *valueCommands) answers(exact bool) (restore.Answers, error) {
	before, err := c.before.Result()
	if err != nil {
		return restore.Answers{}, err
	}
	all := restore.Answers{Answers: make([]restore.Answer, len(c.values)), Exact: exact}
	if all.Until, err = c.after.Result(); err != nil {
		return restore.Answers{}, err
	}
	for i, expiry := range c.expiries {
		a := &all.Answers[i]
		if err := c.values[i].read(a); err != nil {
			return restore.Answers{}, err
		}
		ms, err := expiry.Result()
		const never, noKey = -1, -2 // what both commands answer
		switch {
		case err != nil:
			return restore.Answers{}, err
		case ms == noKey:
			a.Exists = false
		case ms == never:
		case exact:
			a.Expires = time.UnixMilli(ms)
		default:
			a.Expires = before.Add(time.Duration(ms) * time.Millisecond)
		}
	}
	return all, nil
}

func (v valueCommand) read(a *restore.Answer) (err error) {
	a.Exists, a.Length = true, rdb.None
	if v.payload != nil {
		a.Payload, err = v.payload.Bytes()
		if errors.Is(err, goredis.Nil) {
			a.Exists, err = false, nil
		}
		return err
	}
	length, err := v.length.Result()
	var reply goredis.Error
	if errors.As(err, &reply) && newReplyError(reply.Error()).Code() == "WRONGTYPE" {
		return nil
	}
	a.Length = length
	return err
}
