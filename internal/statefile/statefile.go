// Package statefile gives deployments that are plain addresses what a cluster
// gives to a release: a lock, and a place for the records that must outlive a
// process. Both are files of one user on one machine.
//
// That is all that can be had without asking more of the servers than to be
// Redis, and it is less than a Lease: it keeps apart the commands that one user
// runs on one machine, and it remembers for them. An operator on another machine,
// or under another account, neither sees the lock nor the records.
//
// Locks are taken per address, so that two lists of addresses that have a server
// in common exclude each other. They are locks of the operating system on open
// files (flock on Unix, LockFileEx on Windows): the system releases them when the
// process ends, also by kill -9. Records belong to a whole list of addresses,
// whatever its order.
package statefile

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/storage"
	"github.com/redisctl/redisctl/internal/storage/folder"
)

// DefaultFolder returns the folder of redisctl's state by the rules of the XDG Base
// Directory Specification: $XDG_STATE_HOME/redisctl, or ~/.local/state/redisctl. It
// is empty when there is no home directory. lookup is os.LookupEnv.
func DefaultFolder(lookup func(string) (string, bool)) string {
	if dir, ok := lookup("XDG_STATE_HOME"); ok && filepath.IsAbs(dir) {
		return filepath.Join(dir, "redisctl")
	}
	for _, name := range []string{"HOME", "USERPROFILE"} {
		if home, ok := lookup(name); ok && home != "" {
			return filepath.Join(home, ".local", "state", "redisctl")
		}
	}
	return ""
}

// Store keeps locks and records below one folder. It is safe for concurrent use, by
// several processes too, except that SetNotes needs the deployment's lock.
type Store struct {
	dir    string
	files  storage.Store
	holder string
	now    func() time.Time
}

var (
	_ operation.Locker = (*Store)(nil)
	_ operation.Notes  = (*Store)(nil)
)

// New returns the store below dir, which is made (mode 0700) when something is to be
// kept. Without a folder, dir == "", there are no notes, and locking and taking notes
// fail. holder names this process to whoever finds a lock taken (user@host/pid), now
// is time.Now.
func New(dir, holder string, now func() time.Time) *Store {
	return &Store{dir: dir, files: folder.New(dir), holder: holder, now: now}
}

// signature is the file beside a lock that says who holds it. It is not the locked
// file itself, because Windows lets nobody else read that.
type signature struct {
	Address string    `json:"address"`
	Holder  string    `json:"holder"`
	Since   time.Time `json:"since"`
}

// Lock implements operation.Locker. A lock that is held cannot be lost: the context
// returned is ctx. The error is of kind Locked when another process, or this one,
// holds the lock of one of the addresses.
func (s *Store) Lock(ctx context.Context, d *operation.Deployment) (context.Context, func(), error) {
	var held []*lock
	release := func() {
		for _, l := range held {
			l.release()
		}
		held = nil
	}
	// Everybody asks in the same order: of several that begin at once, one gets all.
	for _, address := range addresses(d) {
		l, err := s.lock(address)
		if err != nil {
			release()
			return nil, nil, err
		}
		held = append(held, l)
	}
	return ctx, release, nil
}

// lock is the lock of one address that is held.
type lock struct {
	file *flock.Flock
	// signature is the path of the file that names the holder.
	signature string
}

func (s *Store) lock(address string) (*lock, error) {
	phase := "taking the lock of " + address
	if s.dir == "" {
		return nil, s.failure(phase, errNoFolder)
	}
	l := s.lockOf(address)
	if err := os.MkdirAll(filepath.Dir(l.signature), 0o700); err != nil {
		return nil, s.failure(phase, err)
	}
	switch ok, err := l.file.TryLock(); {
	case err != nil:
		return nil, s.failure(phase, err)
	case !ok:
		return nil, l.locked(address)
	}
	if err := l.sign(signature{Address: address, Holder: s.holder, Since: s.now().UTC()}); err != nil {
		l.release()
		return nil, s.failure(phase, err)
	}
	return l, nil
}

func (s *Store) lockOf(address string) *lock {
	path := filepath.Join(s.dir, "locks", digest(address))
	return &lock{file: flock.New(path+".lock", flock.SetPermissions(0o600)), signature: path + ".json"}
}

// sign replaces the signature; a holder that was killed has left its own.
func (l *lock) sign(by signature) error {
	text, err := json.Marshal(by)
	if err != nil {
		return err
	}
	return os.WriteFile(l.signature, append(text, '\n'), 0o600)
}

// release gives the lock back; should that fail, the end of the process does. The
// locked file stays: if it were removed, two processes could each lock a file of
// that name.
func (l *lock) release() {
	_ = os.Remove(l.signature)
	_ = l.file.Unlock()
}

// locked says who holds the lock. For the instant before the holder has signed,
// nobody is named, or a holder that was killed.
func (l *lock) locked(address string) error {
	e := &operation.Error{
		Kind: operation.Locked, Object: address, Err: errors.New("held by another redisctl"),
		Unchanged: "nothing was changed",
		Next:      "wait: the lock is free when that redisctl ends, however it ends",
	}
	if by, ok := l.signed(); ok {
		e.Err = fmt.Errorf("held by %s since %s", by.Holder, by.Since.UTC().Format(time.RFC3339))
	}
	return e
}

// signed returns the last signature that was not removed.
func (l *lock) signed() (by signature, ok bool) {
	text, err := os.ReadFile(l.signature)
	return by, err == nil && json.Unmarshal(text, &by) == nil
}

// LockHolder returns who holds the lock of one of d's addresses, "" when nobody does.
// By the time it is used, the answer may be another one.
func (s *Store) LockHolder(_ context.Context, d *operation.Deployment) (string, error) {
	for _, address := range addresses(d) {
		l := s.lockOf(address)
		by, ok := l.signed()
		if !ok {
			continue
		}
		// The signature of a holder that was killed: nobody has the lock.
		switch free, err := l.file.TryLock(); {
		case err != nil:
			return "", s.failure("reading the lock of "+address, err)
		case !free:
			return by.Holder, nil
		}
		_ = l.file.Unlock() // the end of the process does it, too
	}
	return "", nil
}

// noteFile is the file of one deployment's records. It repeats the addresses, for
// people who look: its name is only their digest.
type noteFile struct {
	Addresses []string          `json:"addresses"`
	Notes     map[string]string `json:"notes"`
}

// Note implements operation.Notes.
func (s *Store) Note(ctx context.Context, d *operation.Deployment, key string) (string, error) {
	file, err := s.notes(ctx, d)
	return file.Notes[key], err
}

func noteName(d *operation.Deployment) string {
	return "notes/" + digest(strings.Join(addresses(d), "\n")) + ".json"
}

// notes reads the file; without one there are no notes.
func (s *Store) notes(ctx context.Context, d *operation.Deployment) (noteFile, error) {
	file := noteFile{Addresses: addresses(d)}
	if s.dir == "" {
		return file, nil
	}
	name := noteName(d)
	r, _, err := s.files.Open(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return file, nil
	}
	if err != nil {
		return file, s.failure("reading the records", err)
	}
	defer r.Close()
	if err := json.NewDecoder(r).Decode(&file); err != nil {
		e := s.failure("reading the records", fmt.Errorf("%s: %w", s.files.Location(name), err))
		e.Next = "look at the file; remove it when no failover is in progress"
		return file, e
	}
	return file, nil
}

// SetNotes implements operation.Notes: when it returns nil, the notes survive a
// power failure. The caller holds the deployment's lock.
func (s *Store) SetNotes(ctx context.Context, d *operation.Deployment, notes map[string]string) error {
	const phase = "writing the records"
	if s.dir == "" {
		return s.failure(phase, errNoFolder)
	}
	file, err := s.notes(ctx, d)
	if err != nil {
		return err
	}
	if file.Notes == nil {
		file.Notes = make(map[string]string)
	}
	for key, value := range notes {
		if value == "" {
			delete(file.Notes, key)
		} else {
			file.Notes[key] = value
		}
	}
	text, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return s.failure(phase, err)
	}
	if err := s.replace(ctx, noteName(d), append(text, '\n')); err != nil {
		return s.failure(phase, err)
	}
	return nil
}

func (s *Store) replace(ctx context.Context, name string, text []byte) error {
	w, err := s.files.Create(ctx, name, storage.CreateOptions{Overwrite: true})
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write(text); err != nil {
		return err
	}
	return w.Commit(ctx)
}

var errNoFolder = errors.New("there is no home directory to keep it in")

func (s *Store) failure(phase string, err error) *operation.Error {
	return &operation.Error{
		Kind: operation.KindOf(err), Object: "redisctl's state folder", Phase: phase, Err: err,
		Next: "set XDG_STATE_HOME to a folder that you may write to",
	}
}

// addresses returns the names of d's instances, sorted.
func addresses(d *operation.Deployment) []string {
	var names []string
	for _, i := range d.Instances {
		names = append(names, i.Name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// digest makes a file name of any text: addresses have colons, which Windows does
// not allow.
func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:16])
}
