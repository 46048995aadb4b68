// Package inspect asks every instance of a deployment the same question and
// keeps the answers side by side.
package inspect

import (
	"context"
	"sync"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/redis"
)

// Answer is one instance's answer, or why there is none.
type Answer[T any] struct {
	Instance string `json:"name"`
	Value    T      `json:"value,omitzero"`
	Err      error  `json:"-"`
	// Error is Err's text; empty when the instance answered.
	Error string `json:"error,omitempty"`
}

// Each asks every instance in parallel, each for at most timeout. The answers
// are in the deployment's order.
func Each[T any](
	ctx context.Context, connector operation.Connector, d *operation.Deployment, timeout time.Duration,
	ask func(context.Context, operation.Server) (T, error),
) []Answer[T] {
	return EachInstance(ctx, d, timeout, func(ctx context.Context, i operation.Instance) (T, error) {
		return one(ctx, connector, d, i, ask)
	})
}

// EachInstance is Each for what is asked without a connection to the server. An instance
// that is down is not asked.
func EachInstance[T any](
	ctx context.Context, d *operation.Deployment, timeout time.Duration, ask func(context.Context, operation.Instance) (T, error),
) []Answer[T] {
	answers := make([]Answer[T], len(d.Instances))
	var wg sync.WaitGroup
	for i, instance := range d.Instances {
		wg.Go(func() {
			ctx, cancel := context.WithTimeoutCause(ctx, timeout, noAnswer(timeout))
			defer cancel()
			a := Answer[T]{Instance: instance.Name}
			if a.Err = instance.Down(); a.Err == nil {
				a.Value, a.Err = ask(ctx, instance)
			}
			if a.Err != nil {
				a.Error = a.Err.Error()
			}
			answers[i] = a
		})
	}
	wg.Wait()
	return answers
}

// noAnswer is the cause of a context that ended because an instance did not answer in
// time. It matches context.DeadlineExceeded.
type noAnswer time.Duration

func (n noAnswer) Error() string { return "no answer within " + time.Duration(n).String() }

func (noAnswer) Is(target error) bool { return target == context.DeadlineExceeded }

func one[T any](
	ctx context.Context, connector operation.Connector, d *operation.Deployment, instance operation.Instance,
	ask func(context.Context, operation.Server) (T, error),
) (T, error) {
	var none T
	server, err := connector.Connect(ctx, d, instance)
	if err != nil {
		return none, err
	}
	defer func() { _ = server.Close() }() // the answer is here; closing can only fail to say goodbye
	return ask(ctx, server)
}

// Failure sums the answers up as an error: nil when all instances answered, the
// instance's own error when none did (so that its kind decides the exit code),
// an error of kind Partial when some did.
func Failure[T any](answers []Answer[T]) error {
	var first error
	failed := 0
	for _, a := range answers {
		if a.Err != nil {
			failed++
			if first == nil {
				first = a.Err
			}
		}
	}
	switch failed {
	case 0:
		return nil
	case len(answers):
		return first
	default:
		return operation.Errorf(operation.Partial, "%d of %d instances did not answer, the first: %w", failed, len(answers), first)
	}
}

// Info asks every instance for INFO with the given sections (none: the default
// ones).
func Info(
	ctx context.Context, connector operation.Connector, d *operation.Deployment, timeout time.Duration, sections ...string,
) []Answer[redis.Info] {
	return Each(ctx, connector, d, timeout, func(ctx context.Context, s operation.Server) (redis.Info, error) {
		return s.Info(ctx, sections...)
	})
}

// Ping measures a round trip to every instance, after the connection is made.
func Ping(
	ctx context.Context, connector operation.Connector, d *operation.Deployment, timeout time.Duration,
) []Answer[time.Duration] {
	return Each(ctx, connector, d, timeout, func(ctx context.Context, s operation.Server) (time.Duration, error) {
		if _, err := s.Ping(ctx); err != nil { // opens the connection
			return 0, err
		}
		return s.Ping(ctx)
	})
}
