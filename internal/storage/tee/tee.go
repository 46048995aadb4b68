// Package tee writes to several stores at once, so that one read of the source
// fills all of them: three copies, on two kinds of storage, one of them elsewhere.
//
// A store that fails drops out: what was committed to it so far is removed, as far
// as it still answers, so that it does not keep half of a snapshot; the others go
// on. The last one does not drop out: its failures are those of the operation.
package tee

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redisctl/redisctl/internal/storage"
)

// DefaultPatience is how long one store may hold up the others. A server of Redis
// gives up a replica that takes nothing for repl-timeout, by default 60 s.
const DefaultPatience = 20 * time.Second

// cleanupTimeout bounds the removal from a store that has failed.
const cleanupTimeout = 10 * time.Second

// ErrSlow is why a store that held up the others dropped out.
var ErrSlow = errors.New("it took nothing for too long while the other targets waited")

// Store writes to all of its targets. It implements storage.Store, but it is for
// one snapshot: it remembers which targets have failed.
type Store struct {
	patience time.Duration

	mu      sync.Mutex
	targets []*target
}

type target struct {
	storage.Store
	committed []string // in this run
	err       error    // why it dropped out
}

var (
	_ storage.Store   = (*Store)(nil)
	_ storage.Checker = (*Store)(nil)
)

// New returns a store that writes to all stores, at least one. One that takes
// nothing for longer than patience while others are left drops out.
func New(patience time.Duration, stores ...storage.Store) *Store {
	t := &Store{patience: patience}
	for _, s := range stores {
		t.targets = append(t.targets, &target{Store: s})
	}
	return t
}

// Outcome is what became of one target.
type Outcome struct {
	Store storage.Store
	// Err is why the target dropped out; nil for one that has everything that was
	// committed.
	Err error
}

// Outcomes returns all targets in the order of New.
func (s *Store) Outcomes() []Outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	outcomes := make([]Outcome, len(s.targets))
	for i, t := range s.targets {
		outcomes[i] = Outcome{Store: t.Store, Err: t.err}
	}
	return outcomes
}

// live returns the targets that have not dropped out.
func (s *Store) live() []*target {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.targets), func(t *target) bool { return t.err != nil })
}

// fail takes a target out, unless it is the last one: then it returns why the
// operation fails.
func (s *Store) fail(ctx context.Context, t *target, err error) error {
	if len(s.live()) == 1 {
		for _, o := range s.Outcomes() {
			if o.Err != nil {
				err = fmt.Errorf("%w; before that: %w", err, o.Err)
			}
		}
		return err
	}
	s.drop(ctx, t, err)
	return nil
}

func (s *Store) drop(ctx context.Context, t *target, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	for _, name := range slices.Backward(t.committed) { // the manifest before its data
		if failed := t.Remove(ctx, name); failed != nil {
			err = fmt.Errorf("%w; %s is left there: %w", err, t.Location(name), failed)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t.committed, t.err = nil, err
}

// Create implements storage.Store. A name that is taken in one target is taken.
func (s *Store) Create(ctx context.Context, name string, opts storage.CreateOptions) (storage.Writer, error) {
	w := &writer{tee: s, name: name}
	for _, t := range s.live() {
		own, cancel := context.WithCancelCause(ctx)
		writing, err := t.Create(own, name, opts)
		if err == nil {
			w.parts = append(w.parts, &part{target: t, Writer: writing, ctx: own, cancel: cancel})
			continue
		}
		cancel(nil)
		if !errors.Is(err, fs.ErrExist) && !errors.Is(err, storage.ErrInvalidName) {
			err = s.fail(ctx, t, err)
		}
		if err != nil {
			w.Abort()
			return nil, err
		}
	}
	return w, nil
}

type writer struct {
	tee   *Store
	name  string
	parts []*part
	ended bool
}

type part struct {
	storage.Writer
	target *target
	ctx    context.Context // of its Create
	cancel context.CancelCauseFunc
}

func (p *part) abort() {
	p.Abort()
	p.cancel(nil)
}

// each calls do for every part, drops the targets for which it fails, and fails
// if none is left.
func (w *writer) each(ctx context.Context, do func(p *part) error) error {
	var kept []*part
	live := w.tee.live()
	for _, p := range w.parts {
		if !slices.Contains(live, p.target) { // another object of the snapshot has failed there
			p.abort()
			continue
		}
		err := do(p)
		if err == nil {
			kept = append(kept, p)
			continue
		}
		if err := w.tee.fail(ctx, p.target, err); err != nil {
			return err // the caller aborts
		}
		p.abort()
	}
	w.parts = kept
	return nil
}

// Write implements io.Writer.
func (w *writer) Write(data []byte) (int, error) {
	if w.ended {
		return 0, fs.ErrClosed
	}
	alone := len(w.parts) == 1
	err := w.each(context.Background(), func(p *part) error {
		if !alone {
			// Ending its context makes Write return.
			timer := time.AfterFunc(w.tee.patience, func() { p.cancel(ErrSlow) })
			defer timer.Stop()
		}
		n, err := p.Write(data)
		if err != nil && errors.Is(context.Cause(p.ctx), ErrSlow) {
			return fmt.Errorf("%s: %w", p.target.Location(w.name), ErrSlow)
		}
		if err == nil && n < len(data) {
			err = io.ErrShortWrite
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	return len(data), nil
}

// Commit implements storage.Writer. It succeeds if at least one target has the
// object.
func (w *writer) Commit(ctx context.Context) error {
	if w.ended {
		return fs.ErrClosed
	}
	w.ended = true
	return w.each(ctx, func(p *part) error {
		err := p.Commit(ctx)
		p.cancel(nil)
		if err == nil {
			w.tee.mu.Lock()
			defer w.tee.mu.Unlock()
			p.target.committed = append(p.target.committed, w.name)
		}
		return err
	})
}

// Abort implements storage.Writer.
func (w *writer) Abort() {
	if w.ended {
		return
	}
	w.ended = true
	for _, p := range w.parts {
		p.abort()
	}
}

// Open implements storage.Store: it reads from the first target.
func (s *Store) Open(ctx context.Context, name string) (io.ReadCloser, storage.Info, error) {
	return s.live()[0].Open(ctx, name)
}

// Stat implements storage.Store: it looks at the first target.
func (s *Store) Stat(ctx context.Context, name string) (storage.Info, error) {
	return s.live()[0].Stat(ctx, name)
}

// List implements storage.Store: it lists the first target.
func (s *Store) List(ctx context.Context, prefix string) ([]storage.Info, error) {
	return s.live()[0].List(ctx, prefix)
}

// Remove implements storage.Store: it removes from all targets, and fails where
// one of them does.
func (s *Store) Remove(ctx context.Context, name string) error {
	var all []error
	for _, t := range s.live() {
		all = append(all, t.Remove(ctx, name))
	}
	return errors.Join(all...)
}

// Sweep implements storage.Store for all targets.
func (s *Store) Sweep(ctx context.Context, prefix string, olderThan time.Duration) ([]string, error) {
	var swept []string
	var all []error
	for _, t := range s.live() {
		names, err := t.Sweep(ctx, prefix, olderThan)
		swept, all = append(swept, names...), append(all, err)
	}
	slices.Sort(swept)
	return slices.Compact(swept), errors.Join(all...)
}

// Check implements storage.Checker: targets that fail it drop out, and the last one's
// failure is that of all.
func (s *Store) Check(ctx context.Context, prefix string) error {
	for _, t := range s.live() {
		checker, ok := t.Store.(storage.Checker)
		if !ok {
			continue
		}
		if err := checker.Check(ctx, prefix); err != nil {
			if err := s.fail(ctx, t, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// Free implements storage.Store: the space of the target that has least.
func (s *Store) Free(ctx context.Context) (int64, bool) {
	var least int64
	known := false
	for _, t := range s.live() {
		if free, ok := t.Free(ctx); ok && (!known || free < least) {
			least, known = free, true
		}
	}
	return least, known
}

// Location implements storage.Store with the locations in all targets, joined by
// commas.
func (s *Store) Location(name string) string {
	var all []string
	for _, t := range s.live() {
		all = append(all, t.Location(name))
	}
	return strings.Join(all, ", ")
}
