package drill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/redis"
)

// The state of a loading server is read again after pollFirst, and then ever later, up to
// pollMost: small data is loaded at once, and its time is a result.
const (
	pollFirst = 5 * time.Millisecond
	pollMost  = 200 * time.Millisecond
)

// start starts the server and returns its INFO when it has loaded the data.
func (r *drilling) start(ctx context.Context) (info redis.Info, err error) {
	r.Reporter.Step("loading the data in %s", r.server.Name())
	err = r.timed(&r.result.Seconds.Load, "loading", func() error {
		config := slices.Concat(r.load.config, []string{
			`save ""`, "maxmemory 0", fmt.Sprintf("databases %d", r.load.databases()),
		})
		if err := r.server.Start(ctx, config); err != nil {
			return err
		}
		info, err = r.awaitLoaded(ctx)
		return err
	})
	return info, err
}

// awaitLoaded fails with a *refusalError when the server gives up.
func (r *drilling) awaitLoaded(ctx context.Context) (redis.Info, error) {
	loaded, since := int64(-1), r.Now()
	for pause := pollFirst; ; pause = min(2*pause, pollMost) {
		info, asked := r.ask(ctx)
		if asked == nil && !info.Persistence().Loading {
			return info, nil
		}
		if err := r.server.Ended(ctx); err != nil {
			var end *EndError
			if errors.As(err, &end) && end.refused() {
				return redis.Info{}, &refusalError{err}
			}
			return redis.Info{}, err
		}
		if operation.KindOf(asked) == operation.Denied {
			return redis.Info{}, asked
		}
		if asked == nil {
			done := info.Int("loading_loaded_bytes")
			r.Reporter.Progress(operation.Progress{Done: done, Total: info.Int("loading_total_bytes"), Unit: "bytes"})
			if done != loaded {
				loaded, since = done, r.Now()
			}
		}
		if r.Now().Sub(since) > r.options.Stall {
			return redis.Info{}, r.stalled(asked)
		}
		select {
		case <-ctx.Done():
			return redis.Info{}, context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

func (r *drilling) stalled(asked error) error {
	e := &operation.Error{
		Kind: operation.TimedOut, Object: r.server.Name(), Phase: "loading",
		Err: fmt.Errorf("no progress for %s", r.options.Stall),
	}
	if asked != nil {
		e.Err = fmt.Errorf("%w: %w", e.Err, asked)
	}
	return e
}

// refusedCommands says which errors the server has answered while it replayed commands,
// "" when none: it goes on after an error. The ones that redisctl has got itself do not
// count. Servers count errors since 6.2 (errorstats).
func refusedCommands(info redis.Info) string {
	const prefix = "errorstat_"
	var found []string
	for _, section := range info.Sections() {
		for _, f := range section.Fields {
			code, isError := strings.CutPrefix(f.Name, prefix)
			if isError && code != "LOADING" && code != "NOAUTH" {
				found = append(found, code+" "+strings.TrimPrefix(f.Value, "count="))
			}
		}
	}
	if len(found) == 0 {
		return ""
	}
	return "the server has answered some of the commands with errors: " + strings.Join(found, ", ")
}

func (r *drilling) ask(ctx context.Context) (redis.Info, error) {
	d := r.server.Deployment()
	server, err := r.link.Connect(ctx, d, d.Instances[0])
	if err != nil {
		return redis.Info{}, err
	}
	defer func() { _ = server.Close() }() // it was only asked
	return server.Info(ctx)
}
