//go:build !unix

package terminal

import (
	"context"
	"os"
	"os/signal"
	"time"
)

func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, os.Interrupt)
}

// resized lets the size be looked at now and then: nothing tells of its changes.
func resized(context.Context) <-chan time.Time { return time.Tick(time.Second) }
