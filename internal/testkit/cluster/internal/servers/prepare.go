package servers

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/progress"
)

// unfinished marks a root file system that is still being made; whatever
// carries it belongs to a run that was interrupted.
const unfinished = ".unfinished"

// Prepare makes every root file system of the catalog that is not there yet,
// in dir. Each is made under another name and renamed when complete, so a
// folder that exists is whole. It needs root and debootstrap, and asks apt for
// the mirror.
func Prepare(ctx context.Context, dir string, report progress.Func) error {
	todo := missing(dir)
	if len(todo) == 0 {
		return nil
	}
	mirror, err := Mirror(ctx)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("making the servers folder: %w", err)
	}
	// Two at a time: one unpacks while the other downloads.
	slots := make(chan struct{}, 2)
	errs := make([]error, len(todo))
	var group sync.WaitGroup
	for i, s := range todo {
		group.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			errs[i] = prepareOne(ctx, dir, mirror, s, report)
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

func missing(dir string) []Server {
	var todo []Server
	for _, s := range Catalog() {
		if _, err := os.Stat(filepath.Join(dir, s.Name)); errors.Is(err, fs.ErrNotExist) {
			todo = append(todo, s)
		}
	}
	return todo
}

func prepareOne(ctx context.Context, dir, mirror string, s Server, report progress.Func) error {
	started := time.Now()
	final := filepath.Join(dir, s.Name)
	work := final + unfinished
	if err := discard(work); err != nil {
		return err
	}
	report("%s: making its root file system from %s", s.Name, s.Suite)
	cmd := exec.CommandContext(ctx, "debootstrap", "--variant=minbase",
		"--include="+strings.Join(s.Include, ","), s.Suite, work, mirror)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: debootstrap: %w\n%s", s.Name, err, tail(string(out), 15))
	}
	if err := unmountInside(work); err != nil {
		return err
	}
	for _, waste := range []string{"var/cache/apt/archives", "var/lib/apt/lists"} {
		if err := os.RemoveAll(filepath.Join(work, waste)); err != nil {
			return fmt.Errorf("%s: trimming: %w", s.Name, err)
		}
	}
	if err := os.Rename(work, final); err != nil {
		return fmt.Errorf("%s: finishing: %w", s.Name, err)
	}
	report("%s: ready after %s", s.Name, time.Since(started).Round(time.Second))
	return nil
}

// discard removes what an interrupted run left, mounts first: debootstrap
// mounts proc and sys, and removing through a mount would reach the machine's.
func discard(work string) error {
	if err := unmountInside(work); err != nil {
		return err
	}
	if err := os.RemoveAll(work); err != nil {
		return fmt.Errorf("removing an interrupted root file system: %w", err)
	}
	return nil
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(all) > lines {
		all = all[len(all)-lines:]
	}
	return strings.Join(all, "\n")
}

// Ready reports whether every root file system of the catalog is in dir.
func Ready(dir string) bool { return len(missing(dir)) == 0 }
