package redisserver

import (
	"context"
	"errors"
	"fmt"
	"testing"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// WriterPrefix starts the names of all keys that Writers write.
const WriterPrefix = "written:"

// Writer keeps writing keys to a server and remembers which writes the server
// acknowledged: its ledger.
type Writer struct {
	name   string
	cancel context.CancelFunc
	done   chan struct{}
	acked  []int // complete once done is closed
	err    error
}

// StartWriter starts a Writer of the given name, which must be unique among the
// writers of a test. It writes until Stop, the first error or the end of the test.
func StartWriter(t testing.TB, client *goredis.Client, name string) *Writer {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	w := &Writer{name: name, cancel: cancel, done: make(chan struct{})}
	first := make(chan struct{})
	go func() {
		defer close(w.done)
		for i := 0; ctx.Err() == nil; i++ {
			if err := client.Set(ctx, w.key(i), i, 0).Err(); err != nil {
				if ctx.Err() == nil {
					w.err = err
				}
				return
			}
			w.acked = append(w.acked, i)
			if i == 0 {
				close(first)
			}
		}
	}()
	t.Cleanup(func() { _, _ = w.Stop() }) // a test that cares has asked
	select {
	case <-first:
	case <-w.done:
		require.NoError(t, w.err, "the writer's first write")
	}
	return w
}

// Stop ends the writer and returns how many writes were acknowledged, and the
// error that had ended it before, if any. Stopping twice is allowed.
func (w *Writer) Stop() (acknowledged int, err error) {
	w.cancel()
	<-w.done
	return len(w.acked), w.err
}

// Lost returns the acknowledged writes that a server does not have, after Stop.
func (w *Writer) Lost(ctx context.Context, client *goredis.Client) ([]int, error) {
	var lost []int
	for _, i := range w.acked {
		got, err := client.Get(ctx, w.key(i)).Int()
		switch {
		case errors.Is(err, goredis.Nil) || err == nil && got != i:
			lost = append(lost, i)
		case err != nil:
			return nil, fmt.Errorf("reading what %s wrote: %w", w.name, err)
		}
	}
	return lost, nil
}

func (w *Writer) key(i int) string { return fmt.Sprintf("%s%s:%d", WriterPrefix, w.name, i) }
