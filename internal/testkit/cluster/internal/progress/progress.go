// Package progress tells a person what the driver is doing.
package progress

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// Func reports one step, formatted as by fmt.Sprintf. It may be called from
// any goroutine.
type Func func(format string, args ...any)

// To returns a Func that writes one line per step to w, each with the seconds
// since To was called.
func To(w io.Writer) Func {
	var mutex sync.Mutex
	started := time.Now()
	return func(format string, args ...any) {
		mutex.Lock()
		defer mutex.Unlock()
		line := fmt.Sprintf(format, args...)
		// Nobody to tell when the terminal is gone.
		_, _ = fmt.Fprintf(w, "[%6.1fs] %s\n", time.Since(started).Seconds(), line)
	}
}
