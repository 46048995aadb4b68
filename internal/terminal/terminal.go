// Package terminal holds the local terminal while a remote program uses it: raw mode, and
// how large it is. It always gives the terminal back as it was.
package terminal

import (
	"context"
	"fmt"
	"os"
	"sync"

	"golang.org/x/term"

	"github.com/redisctl/redisctl/internal/operation/session"
)

// Hold puts the terminal behind in into raw mode, in which every key, also Ctrl-C, is
// handed on as it is. release puts it back, and may be called twice.
//
// The context that Hold returns ends with ctx, and with the signals that would else end the
// process without its giving the terminal back.
func Hold(ctx context.Context, in *os.File) (held context.Context, release func(), err error) {
	before, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return nil, nil, fmt.Errorf("raw mode of the terminal: %w", err)
	}
	held, stop := untilSignal(ctx)
	var once sync.Once
	return held, func() {
		once.Do(func() {
			_ = term.Restore(int(in.Fd()), before) // a terminal that is gone needs nothing
			stop()
		})
	}, nil
}

// Sizes delivers the size of the terminal behind out, at first and whenever it changes,
// until ctx ends. Of several changes, the last counts.
func Sizes(ctx context.Context, out *os.File) <-chan session.Size {
	sizes := make(chan session.Size, 1)
	changed := resized(ctx)
	go func() {
		defer close(sizes)
		for {
			if width, height, err := term.GetSize(int(out.Fd())); err == nil {
				select {
				case <-sizes: // nobody has read the former
				default:
				}
				sizes <- session.Size{Width: width, Height: height}
			}
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
		}
	}()
	return sizes
}
