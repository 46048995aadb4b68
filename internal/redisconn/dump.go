package redisconn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/redis"
)

// dumpBatch is how many keys are asked for at a time.
const dumpBatch = 200

// DumpStream is the data set of a replica that refuses to stream one.
type DumpStream struct {
	*io.PipeReader
	cancel context.CancelFunc
	ended  chan struct{}
	state  redis.Replication
}

// Position returns the history that the data is of, and how many bytes of it.
func (s *DumpStream) Position() (replicationID string, offset int64) {
	return s.state.ID, s.state.Offset
}

// Close ends the transfer.
func (s *DumpStream) Close() error {
	s.cancel()
	err := s.PipeReader.Close()
	<-s.ended
	return err
}

// OpenDump reads the data set of a replica key by key (SCAN and DUMP) and returns it
// as an RDB file: a replica without its primary refuses to stream one. Its data stands
// still, so that the file is of one moment; that it did so is checked in the end.
//
// It needs replica-serve-stale-data yes, which is the default, and remembers the keys
// it has seen, because SCAN may return one twice: about 50 bytes each. Before 7.0 the
// times at which keys expire are exact to some milliseconds only.
func (c Connector) OpenDump(ctx context.Context, d *operation.Deployment, i operation.Instance) (*DumpStream, error) {
	o, err := c.Options(ctx, d, i)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	dump := &dumper{client: Open(o), seen: make(map[string]struct{})}
	if err := dump.begin(ctx); err != nil {
		cancel()
		return nil, errors.Join(err, dump.client.Close())
	}
	reader, writer := io.Pipe()
	s := &DumpStream{PipeReader: reader, cancel: cancel, ended: make(chan struct{}), state: dump.state}
	go func() {
		defer close(s.ended)
		defer cancel()
		err := dump.run(ctx, writer)
		_ = dump.values.Close()        // everything was read, or the first error counts
		_ = writer.CloseWithError(err) // never fails
	}()
	return s, nil
}

// dumper reads a data set key by key.
type dumper struct {
	client *Client
	values *valueReader
	file   *rdb.Assembler
	before redis.Info
	state  redis.Replication
	// seen are the keys of the current database.
	seen map[string]struct{}
}

func (d *dumper) begin(ctx context.Context) error {
	var err error
	if d.before, err = d.client.Info(ctx); err != nil {
		return err
	}
	if d.values, err = newValueReader(d.client, d.before); err != nil {
		return err
	}
	d.state, err = d.before.Replication()
	return err
}

func (d *dumper) run(ctx context.Context, w io.Writer) error {
	d.file = rdb.NewAssembler(w)
	if err := d.functions(ctx); err != nil {
		return err
	}
	for _, db := range d.before.Keyspace() {
		if err := d.database(ctx, int64(db.DB)); err != nil {
			return err
		}
	}
	if err := d.stoodStill(ctx); err != nil {
		return err
	}
	return d.file.Close()
}

// stoodStill makes sure that the replica still is without its primary.
func (d *dumper) stoodStill(ctx context.Context) error {
	after, err := d.client.Info(ctx)
	if err != nil {
		return err
	}
	for _, field := range []string{"run_id", "role", "master_replid", "master_repl_offset", "master_link_status"} {
		if before, now := d.before.Get(field), after.Get(field); before != now {
			return d.client.options.fail(ctx, "reading its keys", 0,
				fmt.Errorf("its data did not stand still: %s was %s and is %s", field, before, now))
		}
	}
	return nil
}

func (d *dumper) functions(ctx context.Context) error {
	reply, err := d.client.Do(ctx, "FUNCTION", "DUMP")
	switch payload, isText := reply.(string); {
	case errors.Is(err, operation.ErrNoCommand):
		return nil // before 7.0
	case err != nil:
		return err
	case isText:
		return d.file.Functions([]byte(payload))
	default:
		return nil
	}
}

func (d *dumper) database(ctx context.Context, n int64) error {
	o := d.client.options
	if err := d.values.use(ctx, int(n)); err != nil {
		return err
	}
	if err := d.file.SelectDB(n); err != nil {
		return err
	}
	clear(d.seen)
	for cursor := "0"; ; {
		reply, err := d.values.conn.Do(ctx, o.commandName("SCAN"), cursor, "COUNT", dumpBatch).Slice()
		if err != nil {
			return o.fail(ctx, readingKeys, o.Timeout, err)
		}
		next, keys, err := scanned(reply)
		if err != nil {
			return o.fail(ctx, readingKeys, 0, err)
		}
		if err := d.keys(ctx, int(n), d.fresh(keys)); err != nil {
			return err
		}
		if cursor = next; cursor == "0" {
			return nil
		}
	}
}

// scanned takes SCAN's reply apart.
func scanned(reply []any) (cursor string, keys []any, err error) {
	if len(reply) == 2 {
		cursor, isText := reply[0].(string)
		keys, isList := reply[1].([]any)
		if isText && isList {
			return cursor, keys, nil
		}
	}
	return "", nil, errors.New("SCAN: the reply is not a cursor and a list")
}

// fresh returns the keys that were not seen before.
func (d *dumper) fresh(keys []any) []restore.Query {
	var found []restore.Query
	for _, k := range keys {
		key, _ := k.(string)
		if _, ok := d.seen[key]; !ok {
			d.seen[key] = struct{}{}
			found = append(found, restore.Query{Key: []byte(key)})
		}
	}
	return found
}

func (d *dumper) keys(ctx context.Context, db int, keys []restore.Query) error {
	found, err := d.values.Read(ctx, db, keys, 0)
	if err != nil {
		return err
	}
	for i, a := range found.Answers {
		if !a.Exists {
			continue // it has expired
		}
		if err := d.file.Key(keys[i].Key, a.Expires, a.Payload); err != nil {
			return fmt.Errorf("key %s: %w", strconv.Quote(string(keys[i].Key)), err)
		}
	}
	return nil
}
