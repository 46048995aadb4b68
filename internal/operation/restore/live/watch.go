package live

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
)

const (
	// watchInterval is how often the server is asked how it and its replicas do.
	watchInterval = 250 * time.Millisecond
	// noteInterval is how often it is noted how far the restore has come.
	noteInterval = time.Second
)

// gate lets the sender go on, or wait.
type gate struct {
	mu     sync.Mutex
	opened chan struct{} // nil while the gate is open
}

// close makes wait wait.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opened == nil {
		g.opened = make(chan struct{})
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opened != nil {
		close(g.opened)
		g.opened = nil
	}
}

// wait returns when the gate is open.
func (g *gate) wait(ctx context.Context) error {
	g.mu.Lock()
	opened := g.opened
	g.mu.Unlock()
	if opened == nil {
		return nil
	}
	select {
	case <-opened:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// horizon is the position behind which nothing was sent, as it was noted.
type horizon struct {
	at atomic.Int64
	// wanted is how far the sender needs it.
	wanted atomic.Int64
	ask    chan struct{}
	mu     sync.Mutex
	moved  chan struct{}
}

func newHorizon(at int64) *horizon {
	h := &horizon{ask: make(chan struct{}, 1), moved: make(chan struct{})}
	h.at.Store(at)
	return h
}

// await returns when the horizon is behind a position.
func (h *horizon) await(ctx context.Context, position int64) error {
	for {
		h.mu.Lock()
		moved := h.moved
		h.mu.Unlock()
		if position < h.at.Load() {
			return nil
		}
		h.wanted.Store(position)
		select {
		case h.ask <- struct{}{}:
		default:
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (h *horizon) move(to int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at.Store(to)
	close(h.moved)
	h.moved = make(chan struct{})
}

// keepNotes notes how far the restore has come, once in a while and when the sender comes
// near the horizon.
func (x *restoring) keepNotes(ctx context.Context, fail func(error)) {
	ticker := time.NewTicker(noteInterval)
	defer ticker.Stop()
	last := x.base().Position
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-x.horizon.ask:
		}
		x.settle()
		x.mu.Lock()
		position := max(x.record.Position, x.horizon.wanted.Load())
		// What was sent since the last note is sent until the next one; twice as much leaves
		// room.
		ahead := position + max(horizonStep, 2*(position-last))
		if ahead > x.record.Horizon+horizonStep/2 || x.horizon.wanted.Load() >= x.record.Horizon {
			x.record.Horizon = ahead
		}
		to := x.record.Horizon
		last = position
		x.mu.Unlock()
		if err := x.save(ctx); err != nil {
			if ctx.Err() == nil {
				fail(fmt.Errorf("noting how far the restore has come: %w", err))
			}
			return
		}
		x.horizon.move(to)
	}
}

// watch ends the restore when the server can no longer take it, and lets it wait while
// replicas are too far behind.
func (x *restoring) watch(ctx context.Context, fail func(error)) {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	var since time.Time // when the gate was closed
	var worst int64
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		s := x.replay.Settled()
		done := s.AllRestored + s.Rejected
		if x.plan.record != nil {
			done += x.plan.record.Restored + x.plan.record.Kept
		}
		info, err := x.server.Info(ctx)
		if err == nil {
			err = x.judgeServer(info.Get("role"), info.Get("run_id"), info.Int("evicted_keys"))
		}
		if err != nil {
			if ctx.Err() == nil {
				fail(err)
			}
			return
		}
		behind, reason := x.behind(ctx, info.Int("master_repl_offset"), replicas(info.Get, info.Int("connected_slaves")))
		detail := ""
		switch now := x.Now(); {
		case behind == 0:
			if !since.IsZero() {
				x.mu.Lock()
				x.throttled += now.Sub(since)
				x.mu.Unlock()
			}
			since, worst = time.Time{}, 0
			x.gate.open()
		case since.IsZero():
			since, worst = now, behind
			x.gate.close()
			detail = reason
		default:
			detail = reason
			if behind < worst {
				worst = behind
			} else if now.Sub(since) > x.plan.options.Stall && behind >= worst {
				fail(operation.Errorf(operation.TimedOut, "%s, and it does not catch up", reason))
				return
			}
		}
		x.Reporter.Progress(operation.Progress{Done: done, Total: x.plan.Keys - x.plan.Unsupported, Unit: "keys", Detail: detail})
	}
}

// judgeServer returns why the restore must end.
func (x *restoring) judgeServer(role, runID string, evicted int64) error {
	p := x.plan
	before := p.target.Info
	switch {
	case runID != before.Get("run_id"):
		return operation.Errorf(operation.Failed, "%s was restarted", p.Instance)
	case role != before.Get("role"):
		return operation.Errorf(operation.Refused, "%s is no primary any more", p.Instance)
	case evicted > x.evicted && !p.options.Memory:
		return operation.Errorf(operation.Failed, "%s evicts keys for want of memory: %d since the restore began", p.Instance, evicted-x.evicted)
	}
	return nil
}

// follower is a replica as its primary sees it.
type follower struct {
	name   string
	offset int64
}

func replicas(get func(string) string, n int64) []follower {
	var all []follower
	for i := range n {
		f := follower{}
		online := false
		for _, part := range strings.Split(get("slave"+strconv.FormatInt(i, 10)), ",") {
			name, value, _ := strings.Cut(part, "=")
			switch name {
			case "ip":
				f.name = value
			case "port":
				f.name += ":" + value
			case "state":
				online = value == "online"
			case "offset":
				f.offset, _ = strconv.ParseInt(value, 10, 64) // 0 for what is not a number
			}
		}
		if online {
			all = append(all, f)
		}
	}
	return all
}

// behind returns by how much a replica, or its output buffer, is over the limit, and 0
// when none is.
func (x *restoring) behind(ctx context.Context, offset int64, followers []follower) (over int64, reason string) {
	for _, f := range followers {
		if lag := offset - f.offset; lag > x.plan.options.MaxLag && lag-x.plan.options.MaxLag > over {
			over = lag - x.plan.options.MaxLag
			reason = fmt.Sprintf("waiting for the replica %s, which is %s behind", f.name, operation.Bytes(lag))
		}
	}
	if len(followers) == 0 || x.plan.limits.replicaBuffer == 0 {
		return over, reason
	}
	limit := x.plan.limits.replicaBuffer / 2
	reply, err := x.server.Do(ctx, "CLIENT", "LIST", "TYPE", "replica")
	text, isText := reply.(string)
	if err != nil || !isText {
		return over, reason
	}
	for line := range strings.Lines(text) {
		used := field(line, "omem=")
		if n, err := strconv.ParseInt(used, 10, 64); err == nil && n > limit && n-limit > over {
			over = n - limit
			reason = fmt.Sprintf("waiting for the replica %s, whose output buffer holds %s", field(line, "addr="), operation.Bytes(n))
		}
	}
	return over, reason
}

// field returns what follows a name in a line of CLIENT LIST.
func field(line, name string) string {
	_, rest, _ := strings.Cut(line, " "+name)
	value, _, _ := strings.Cut(rest, " ")
	return strings.TrimSpace(value)
}
