package redisconn

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
)

// HoldWrites makes the writes of an instance's clients wait until release is called,
// for limit (milliseconds count) at most: the server then lets them through by itself.
// Reads are served. The error matches errors.ErrUnsupported when the server cannot do
// so (before 6.2 a pause holds back reads too), or may not be told to.
func (c Connector) HoldWrites(
	ctx context.Context, d *operation.Deployment, i operation.Instance, limit time.Duration,
) (release func(context.Context) error, err error) {
	server, err := c.Connect(ctx, d, i)
	if err != nil {
		return nil, err
	}
	_, err = server.Do(ctx, "CLIENT", "PAUSE", limit.Milliseconds(), "WRITE")
	if err != nil {
		_ = server.Close() // the first error counts
		var reply *ReplyError
		refused := errors.As(err, &reply) && reply.Code() == "ERR"
		if refused || errors.Is(err, operation.ErrNoCommand) || operation.KindOf(err) == operation.Denied {
			err = fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
		}
		return nil, err
	}
	return func(ctx context.Context) error {
		_, err := server.Do(ctx, "CLIENT", "UNPAUSE")
		return errors.Join(err, server.Close())
	}, nil
}
