package operation

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// ServerTime asks a server for its clock (TIME).
func ServerTime(ctx context.Context, server Server) (time.Time, error) {
	reply, err := server.Do(ctx, "TIME")
	if err != nil {
		return time.Time{}, err
	}
	if parts, ok := reply.([]any); ok && len(parts) == 2 {
		s, err1 := strconv.ParseInt(fmt.Sprint(parts[0]), 10, 64)
		us, err2 := strconv.ParseInt(fmt.Sprint(parts[1]), 10, 64)
		if err1 == nil && err2 == nil {
			return time.Unix(s, us*int64(time.Microsecond)), nil
		}
	}
	return time.Time{}, fmt.Errorf("TIME: unexpected reply %v", reply)
}

// coarseClock is by how much the clock of LASTSAVE, time(2), may be behind that of TIME,
// gettimeofday(2): until the kernel's next tick, 10 ms at most. A SAVE in the first
// milliseconds of a second counts as one of the second before (measured: 9 of 12).
const coarseClock = 50 * time.Millisecond

// PassLastSave waits until a save would get a later LASTSAVE than the last one, which
// counts whole seconds of the server's clock.
func PassLastSave(ctx context.Context, server Server, last time.Time) error {
	for {
		now, err := ServerTime(ctx, server)
		if err != nil {
			return err
		}
		left := last.Truncate(time.Second).Add(time.Second + coarseClock).Sub(now)
		if left <= 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(min(left, time.Second)): // the server's clock may be set meanwhile
		}
	}
}
