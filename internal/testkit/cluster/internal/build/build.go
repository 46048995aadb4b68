package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/paths"
	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/progress"
)

// heartbeat is how often a running compilation says that it is still running.
const heartbeat = 30 * time.Second

// parallel is how many components compile at once. The Go tool already uses
// every core; a second one fills the gaps one leaves while it links or while
// one large package holds up the rest.
const parallel = 2

// workPattern names the folders that programs are linked in.
const workPattern = "build-*"

// Builder compiles components.
type Builder struct {
	// Layout says where the programs go.
	Layout paths.Layout
	// Source is the driver's source folder.
	Source string
	// Report receives progress lines; it is called from several goroutines.
	Report progress.Func
}

// Missing returns the components whose programs are absent or were built from
// something else. Optional components are included only when named in extra.
func (b Builder) Missing(extra ...string) ([]Component, error) {
	var todo []Component
	for _, c := range Components() {
		if c.Optional && !slices.Contains(extra, c.Name) {
			continue
		}
		digest, err := c.Digest(b.Source)
		if err != nil {
			return nil, err
		}
		if !b.built(c, digest) {
			todo = append(todo, c)
		}
	}
	return todo, nil
}

// Build compiles what Missing returns and records from what it was built. The
// first failure stops the rest.
func (b Builder) Build(ctx context.Context, extra ...string) error {
	todo, err := b.Missing(extra...)
	if err != nil || len(todo) == 0 {
		return err
	}
	for _, dir := range []string{b.Layout.Bin(), b.Layout.Stamps()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("making the programs' folder: %w", err)
		}
	}
	if err := b.removeWork(); err != nil {
		return err
	}
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	queue := make(chan Component, len(todo))
	for _, c := range todo {
		queue <- c
	}
	close(queue)
	errs := make([]error, parallel)
	var group sync.WaitGroup
	for worker := range parallel {
		group.Go(func() {
			for c := range queue {
				if inner.Err() != nil {
					return
				}
				if err := b.buildOne(inner, c); err != nil {
					errs[worker] = err
					cancel()
					return
				}
			}
		})
	}
	group.Wait()
	return errors.Join(errors.Join(errs...), ctx.Err())
}

// removeWork removes the folders of runs that were interrupted.
func (b Builder) removeWork() error {
	old, err := filepath.Glob(filepath.Join(b.Layout.Cluster(), workPattern))
	if err != nil {
		return fmt.Errorf("listing interrupted builds: %w", err)
	}
	for _, dir := range old {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("removing an interrupted build: %w", err)
		}
	}
	return nil
}

func (b Builder) buildOne(ctx context.Context, c Component) error {
	digest, err := c.Digest(b.Source)
	if err != nil {
		return err
	}
	started := time.Now()
	b.Report("%s: compiling", c.Name)
	stop := b.beat(c.Name, started)
	defer stop()
	work, err := os.MkdirTemp(b.Layout.Cluster(), workPattern)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Name, err)
	}
	defer os.RemoveAll(work) // what stays is removed by the next run
	for _, name := range sortedKeys(c.Programs) {
		if err := b.compile(ctx, c, filepath.Join(work, name), c.Programs[name]); err != nil {
			return err
		}
	}
	if err := b.install(c, work, digest); err != nil {
		return fmt.Errorf("%s: installing: %w", c.Name, err)
	}
	b.Report("%s: done after %s", c.Name, time.Since(started).Round(time.Second))
	return nil
}

func (b Builder) compile(ctx context.Context, c Component, output, pkg string) error {
	args := append([]string{"build"}, c.flags()...)
	cmd := exec.CommandContext(ctx, "go", append(args, "-o", output, pkg)...)
	cmd.Dir = filepath.Join(b.Source, c.Dir)
	cgo := "CGO_ENABLED=0"
	if c.CGO {
		cgo = "CGO_ENABLED=1"
	}
	cmd.Env = append(os.Environ(), cgo, "GOWORK=off", "GOOS=linux", "GOFLAGS=-mod=readonly")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: go build %s: %w\n%s", c.Name, pkg, err, out)
	}
	return nil
}

// install moves the programs into place one rename each, so that a running
// program is replaced, not overwritten, and writes the stamp last.
func (b Builder) install(c Component, work, digest string) error {
	for _, name := range sortedKeys(c.Programs) {
		if err := os.Rename(filepath.Join(work, name), b.Layout.Program(name)); err != nil {
			return err
		}
	}
	for _, name := range sortedKeys(c.Links) {
		temporary := filepath.Join(work, name)
		if err := os.Symlink(c.Links[name], temporary); err != nil {
			return err
		}
		if err := os.Rename(temporary, b.Layout.Program(name)); err != nil {
			return err
		}
	}
	return os.WriteFile(b.stamp(c), []byte(digest), 0o644)
}

func (b Builder) built(c Component, digest string) bool {
	stamp, err := os.ReadFile(b.stamp(c))
	if err != nil || string(stamp) != digest {
		return false
	}
	for _, names := range []map[string]string{c.Programs, c.Links} {
		for name := range names {
			if _, err := os.Stat(b.Layout.Program(name)); err != nil {
				return false
			}
		}
	}
	return true
}

func (b Builder) stamp(c Component) string { return filepath.Join(b.Layout.Stamps(), c.Name) }

// beat reports every heartbeat that a component is still compiling, until the
// returned function is called.
func (b Builder) beat(name string, started time.Time) (stop func()) {
	done := make(chan struct{})
	go func() {
		ticker := time.NewTicker(heartbeat)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				b.Report("%s: compiling, %s so far", name, time.Since(started).Round(time.Second))
			}
		}
	}()
	return func() { close(done) }
}
