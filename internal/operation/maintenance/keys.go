package maintenance

import (
	"context"
	"errors"
	"hash/maphash"
	"strconv"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
)

// ScanOptions say which keys are walked through, and how fast.
type ScanOptions struct {
	DB int
	// Match is a pattern as of SCAN MATCH; empty for all keys.
	Match string
	// Type as TYPE tells it (string, list, set, zset, hash, stream, or a module's);
	// empty for all types.
	Type string
	// Count is how many keys the server looks at in one step (SCAN COUNT), while it
	// serves nobody else.
	Count int
	// Duty is the part of the time, above 0 up to 1, that the server may work for the
	// walk: after each step redisctl waits accordingly.
	Duty float64
}

// KeysOptions say which keys are listed, and what of them.
type KeysOptions struct {
	ScanOptions
	// Limit is the largest number of keys; 0 for all.
	Limit int64
	// WithType, TTL and Size also ask for each key's type, time to live and memory.
	WithType, TTL, Size bool
	// Samples is how many elements of a value MEMORY USAGE looks at; 0 for all.
	Samples int
}

// Key is a key of a running server.
type Key struct {
	// Key as it is stored: any bytes.
	Key  string
	Type string
	// TTL is meaningful when it was asked for: negative for a key that does not expire.
	TTL time.Duration
	// Size is what MEMORY USAGE answers, in bytes; -1 when it has not been asked for, or the
	// server does not tell.
	Size int64
	// Elements is how many a collection has, or the bytes of a string; -1 when it has not
	// been asked for, or the type has none.
	Elements int64
}

// Walked is how far a walk through the keys came.
type Walked struct {
	// Seen is how many keys were handed on. Scanned is a lower bound of how many keys the
	// server has looked at.
	Seen int64
	// Complete is set when the whole database was walked through.
	Complete bool
	// Gone is how many keys were deleted, or expired, before they were looked at.
	Gone int64
	// Repeated is how many keys SCAN returned more than once, as far as it was noticed.
	Repeated int64
}

// Keys hands the keys of a database on, batch by batch, each key once. A batch may be
// empty. A key that lives from the beginning to the end is among them; one that is
// written or deleted meanwhile may or may not be. It holds one batch at a time.
func (m Maintenance) Keys(
	ctx context.Context, d *operation.Deployment, i operation.Instance, o KeysOptions, emit func([]Key) error,
) (Walked, error) {
	s, err := m.Sessions.OpenSession(ctx, d, i, o.DB)
	if err != nil {
		return Walked{}, err
	}
	defer func() { _ = s.Close() }() // all replies are here
	w := walk{session: s, timeout: m.Timeout, options: o.ScanOptions}
	var walked Walked
	for !w.done {
		names, err := w.next(ctx)
		if err != nil {
			return walked, err
		}
		if o.Limit > 0 && walked.Seen+int64(len(names)) > o.Limit {
			names = names[:o.Limit-walked.Seen]
			w.cut = true
		}
		keys, err := w.describe(ctx, names, o)
		if o.Size && hidesSizes(err) {
			m.Reporter.Warn("the server does not tell sizes: %v", err)
			o.Size = false
			keys, err = w.describe(ctx, names, o)
		}
		if err != nil {
			return walked, err
		}
		walked.Seen += int64(len(keys))
		walked.Gone += int64(len(names) - len(keys))
		walked.Repeated = w.repeated
		if err := emit(keys); err != nil {
			return walked, err
		}
		if o.Limit > 0 && walked.Seen >= o.Limit {
			walked.Complete = w.done && !w.cut
			return walked, nil
		}
		if err := w.rest(ctx); err != nil {
			return walked, err
		}
	}
	walked.Complete = true
	return walked, nil
}

// walk goes through a database with SCAN.
type walk struct {
	session Session
	timeout time.Duration
	options ScanOptions

	cursor   string
	done     bool
	cut      bool
	seen     recent
	repeated int64
	// busy is how long the server has worked for the last step, as it looked from here.
	busy time.Duration
}

// next takes one step: the keys that were not seen before.
func (w *walk) next(ctx context.Context) ([]string, error) {
	if w.cursor == "" {
		w.cursor = "0"
	}
	command := Command{"SCAN", w.cursor, "COUNT", strconv.Itoa(w.options.Count)}
	if w.options.Match != "" && w.options.Match != "*" {
		command = append(command, "MATCH", w.options.Match)
	}
	if w.options.Type != "" {
		command = append(command, "TYPE", w.options.Type)
	}
	w.busy = 0
	replies, err := w.ask(ctx, command)
	if err != nil {
		return nil, err
	}
	reply := replies[0]
	if reply.Err != nil {
		return nil, reply.Err
	}
	w.cursor = reply.item(0).text()
	w.done = w.cursor == "0" || w.cursor == ""
	names := make([]string, 0, len(reply.item(1).Items))
	for _, item := range reply.item(1).Items {
		if w.seen.add(item.Text) {
			names = append(names, item.Text)
		} else {
			w.repeated++
		}
	}
	return names, nil
}

func (w *walk) ask(ctx context.Context, commands ...Command) ([]Reply, error) {
	begin := time.Now()
	replies, err := w.session.Do(ctx, w.timeout, commands...)
	w.busy += time.Since(begin)
	return replies, err
}

// rest waits as long as the step before has to be paid for.
func (w *walk) rest(ctx context.Context) error {
	if w.options.Duty <= 0 || w.options.Duty >= 1 || w.done {
		return nil
	}
	pause := time.Duration(float64(w.busy) * (1/w.options.Duty - 1))
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pause):
		return nil
	}
}

// describe asks what is wanted of keys, and leaves out those that are gone.
func (w *walk) describe(ctx context.Context, names []string, o KeysOptions) ([]Key, error) {
	var ask []func(name string) Command
	var take []func(k *Key, r Reply) (gone bool, err error)
	if o.WithType {
		ask = append(ask, func(name string) Command { return Command{"TYPE", name} })
		take = append(take, func(k *Key, r Reply) (bool, error) { k.Type = r.Text; return r.Text == "none", r.Err })
	}
	if o.TTL {
		ask = append(ask, func(name string) Command { return Command{"PTTL", name} })
		take = append(take, func(k *Key, r Reply) (bool, error) {
			const noKey = -2
			k.TTL = time.Duration(r.Int) * time.Millisecond
			return r.Int == noKey, r.Err
		})
	}
	if o.Size {
		samples := strconv.Itoa(o.Samples)
		ask = append(ask, func(name string) Command { return Command{"MEMORY", "USAGE", name, "SAMPLES", samples} })
		take = append(take, func(k *Key, r Reply) (bool, error) { k.Size = r.Int; return r.Kind == Nil, r.Err })
	}
	keys := make([]Key, 0, len(names))
	if len(ask) == 0 {
		for _, name := range names {
			keys = append(keys, Key{Key: name, Size: -1, Elements: -1})
		}
		return keys, nil
	}
	commands := make([]Command, 0, len(names)*len(ask))
	for _, name := range names {
		for _, command := range ask {
			commands = append(commands, command(name))
		}
	}
	replies, err := w.ask(ctx, commands...)
	if err != nil {
		return nil, err
	}
	for n, name := range names {
		k, there := Key{Key: name, Size: -1, Elements: -1}, true
		for c, read := range take {
			gone, err := read(&k, replies[n*len(take)+c])
			if err != nil {
				return nil, err
			}
			there = there && !gone
		}
		if there {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

// hidesSizes reports whether err says that MEMORY USAGE is disabled, or not allowed.
func hidesSizes(err error) bool {
	return err != nil && (operation.KindOf(err) == operation.Denied || errors.Is(err, operation.ErrNoCommand))
}

// recentSlots is how many keys recent remembers: 8 MiB.
const recentSlots = 1 << 20

// recent remembers hashes of keys in a table of fixed size, where a later key takes the
// place of an earlier one: SCAN returns a key twice when the server's table changes its
// size, and below some hundred thousand keys nearly all of that is noticed. A key that
// was not seen is taken for a seen one once in 2^44.
type recent struct {
	seed  maphash.Seed
	slots []uint64
}

// add reports whether a key was not seen before, as far as is remembered.
func (r *recent) add(key string) bool {
	if r.slots == nil {
		r.seed, r.slots = maphash.MakeSeed(), make([]uint64, recentSlots)
	}
	hash := maphash.String(r.seed, key) | 1 // 0 marks a free slot
	slot := &r.slots[hash>>1%recentSlots]
	if *slot == hash {
		return false
	}
	*slot = hash
	return true
}
