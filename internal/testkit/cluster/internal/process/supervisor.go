package process

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/atomicfile"
)

// ErrStillRunning is returned by Stop when a process survives SIGKILL.
var ErrStillRunning = errors.New("the process does not end")

// poll is how often an awaited state is looked at.
const poll = 20 * time.Millisecond

// Daemon describes a process to run in the background.
type Daemon struct {
	// Name identifies the daemon among the records.
	Name string
	// Path is the program, Args its arguments without the program's name.
	Path string
	Args []string
	// Env is the whole environment. The driver's own is not passed on: a proxy
	// named there, say, would be asked for addresses of this machine.
	Env []string
	// Log receives standard output and error; it is truncated at every start.
	Log string
	// Inputs are files the daemon reads at its start; another content of them
	// makes it a different daemon.
	Inputs []string
}

// record is what is remembered of a started daemon.
type record struct {
	Identity
	// Digest identifies what was started.
	Digest string `json:"digest"`
}

// Supervisor starts and stops daemons and keeps their records in a folder.
type Supervisor struct {
	// Dir holds one record per daemon.
	Dir string
}

// Running reports whether the daemon called name is running.
func (s Supervisor) Running(name string) bool {
	r, err := s.read(name)
	return err == nil && r.Alive()
}

// Owns reports whether one of the records is of this very process.
func (s Supervisor) Owns(id Identity) bool {
	names, err := s.Names()
	if err != nil {
		return false
	}
	for _, name := range names {
		if r, err := s.read(name); err == nil && r.Identity == id {
			return true
		}
	}
	return false
}

// Start makes d run: nothing happens when it is already running from the same
// program with the same arguments and inputs; when it runs with others, it is
// stopped first. It reports whether it started anything.
func (s Supervisor) Start(ctx context.Context, d Daemon) (started bool, err error) {
	digest, err := d.digest()
	if err != nil {
		return false, fmt.Errorf("%s: %w", d.Name, err)
	}
	old, err := s.read(d.Name)
	if err == nil && old.Alive() {
		if old.Digest == digest {
			return false, nil
		}
		if err := s.Stop(ctx, d.Name, 10*time.Second); err != nil {
			return false, err
		}
	}
	id, err := launch(d)
	if err != nil {
		return false, fmt.Errorf("%s: starting: %w", d.Name, err)
	}
	if err := s.write(d.Name, record{Identity: id, Digest: digest}); err != nil {
		return true, errors.Join(err, id.Signal(syscall.SIGKILL))
	}
	return true, nil
}

// Stop asks the daemon to end, kills it after grace, and forgets it.
func (s Supervisor) Stop(ctx context.Context, name string, grace time.Duration) error {
	r, err := s.read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := r.Terminate(ctx, grace); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := os.Remove(s.file(name)); err != nil {
		return fmt.Errorf("%s: removing its record: %w", name, err)
	}
	return nil
}

// Names lists the daemons on record, running or not.
func (s Supervisor) Names() ([]string, error) {
	entries, err := os.ReadDir(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing process records: %w", err)
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".json"); ok {
			names = append(names, name)
		}
	}
	return names, nil
}

// Terminate sends SIGTERM, then SIGKILL after grace, and waits for the end. It
// returns ErrStillRunning when even that does not end the process.
func (id Identity) Terminate(ctx context.Context, grace time.Duration) error {
	if err := id.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if id.awaitEnd(ctx, grace) {
		return nil
	}
	if err := id.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	if !id.awaitEnd(ctx, 10*time.Second) {
		return fmt.Errorf("process %d: %w", id.PID, ErrStillRunning)
	}
	return nil
}

func (id Identity) awaitEnd(ctx context.Context, limit time.Duration) bool {
	deadline := time.After(limit)
	for id.Alive() {
		select {
		case <-ctx.Done():
			return false
		case <-deadline:
			return false
		case <-time.After(poll):
		}
	}
	return true
}

// launch starts the daemon in a session of its own, so that neither a closed
// terminal nor an interrupt typed at it reaches the daemon.
func launch(d Daemon) (Identity, error) {
	if err := os.MkdirAll(filepath.Dir(d.Log), 0o755); err != nil {
		return Identity{}, err
	}
	log, err := os.OpenFile(d.Log, os.O_CREATE|os.O_WRONLY|os.O_TRUNC|os.O_APPEND, 0o644)
	if err != nil {
		return Identity{}, err
	}
	defer log.Close()                      // the daemon has its own handle
	cmd := exec.Command(d.Path, d.Args...) //nolint:noctx // it outlives every context
	cmd.Env = d.Env
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return Identity{}, err
	}
	// A driver run at low priority must not give that to the cluster. Children
	// inherit it, so this has to come before the program has any.
	if err := syscall.Setpriority(syscall.PRIO_PROCESS, cmd.Process.Pid, 0); err != nil {
		return Identity{}, errors.Join(fmt.Errorf("setting its priority: %w", err), cmd.Process.Kill())
	}
	// Collected here while the driver lives, so that an early end does not
	// look like a running zombie; by init afterwards.
	go func() { _ = cmd.Wait() }() // how it ended is in its log
	return Identify(cmd.Process.Pid)
}

func (d Daemon) digest() (string, error) {
	hash := sha256.New()
	fmt.Fprintf(hash, "%s\n%q\n%q\n", d.Path, d.Args, d.Env)
	info, err := os.Stat(d.Path)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(hash, "%d %d\n", info.Size(), info.ModTime().UnixNano())
	for _, input := range d.Inputs {
		text, err := os.ReadFile(input)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(hash, "%s %x\n", input, sha256.Sum256(text))
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

func (s Supervisor) file(name string) string { return filepath.Join(s.Dir, name+".json") }

func (s Supervisor) read(name string) (record, error) {
	text, err := os.ReadFile(s.file(name))
	if err != nil {
		return record{}, fmt.Errorf("reading the record of %s: %w", name, err)
	}
	var r record
	if err := json.Unmarshal(text, &r); err != nil {
		return record{}, fmt.Errorf("reading the record of %s: %w", name, err)
	}
	return r, nil
}

func (s Supervisor) write(name string, r record) error {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("recording %s: %w", name, err)
	}
	return atomicfile.Write(s.file(name), text, 0o600)
}
