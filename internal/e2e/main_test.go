package e2e_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9/logging"
)

// parallelTests is how many tests run at a time. Most of their time is spent
// waiting for pods, so it is more than there are cores; each holds a release of two
// or three pods.
const parallelTests = "4"

// world is what all tests share. setupErr says why there is none.
var (
	world    *environment
	setupErr error
)

func TestMain(m *testing.M) {
	flag.Parse()
	logging.Disable() // go-redis reports to stderr what it also returns
	if testing.Short() {
		os.Exit(m.Run())
	}
	os.Exit(runAll(m))
}

func runAll(m *testing.M) int {
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if !chosen {
		if err := flag.Set("test.parallel", parallelTests); err != nil {
			panic(err) // the flag exists in every test binary
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute) // to compile redisctl on a slow machine
	defer cancel()
	var cleanup func()
	world, cleanup, setupErr = setUp(ctx)
	defer cleanup()
	code := m.Run()
	if setupErr != nil {
		return code
	}
	ctx, cancel = context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := world.awaitNamespacesGone(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "after the tests:", err)
		return max(code, 1)
	}
	return code
}

// environment is the cluster and the programs that the tests use.
type environment struct {
	cluster
	// redisctl is the program under test, helm installs the chart.
	redisctl, helm string
	// testdata is the folder of charts and values.
	testdata string
	// scratch is this run's folder, removed at its end and by the next run.
	scratch string
}

// setup returns what all tests share. It skips the test under -short and fails it
// when there is no cluster.
func setup(t *testing.T) *environment {
	t.Helper()
	if testing.Short() {
		t.Skip("needs the cluster: run without -short")
	}
	if setupErr != nil {
		t.Fatal(setupErr)
	}
	return world
}

func setUp(ctx context.Context) (_ *environment, cleanup func(), err error) {
	e := &environment{testdata: filepath.Join("..", "..", "testdata")}
	cleanup = func() {}
	cache, err := cacheDir()
	if err != nil {
		return nil, cleanup, err
	}
	unlock, err := lock(filepath.Join(cache, "e2e.lock"))
	if err != nil {
		return nil, cleanup, err
	}
	e.scratch = filepath.Join(cache, "e2e")
	cleanup = func() {
		_ = os.RemoveAll(e.scratch) // the next run tries again
		unlock()
	}
	if err := errors.Join(os.RemoveAll(e.scratch), os.Mkdir(e.scratch, 0o700)); err != nil {
		return nil, cleanup, err
	}
	if e.cluster, err = openCluster(ctx, cache, e.scratch); err != nil {
		return nil, cleanup, err
	}
	if e.helm, err = findHelm(cache); err != nil {
		return nil, cleanup, err
	}
	e.redisctl = filepath.Join(e.scratch, "redisctl")
	build := exec.CommandContext(ctx, "go", "build", "-o", e.redisctl, "github.com/redisctl/redisctl/cmd/redisctl")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as it is released
	if out, err := build.CombinedOutput(); err != nil {
		return nil, cleanup, fmt.Errorf("building redisctl: %w\n%s", err, out)
	}
	// What a run that was killed has left behind.
	if err := e.deleteNamespaces(ctx); err != nil {
		return nil, cleanup, err
	}
	err = e.awaitNamespacesGone(ctx)
	return e, cleanup, err
}

// cacheDir is where everything that is prepared outside the checkout lives.
func cacheDir() (string, error) {
	if dir := os.Getenv("REDISCTL_CACHE"); dir != "" {
		return dir, nil
	}
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "redisctl"), err
}

func findHelm(cache string) (string, error) {
	if path, err := exec.LookPath("helm"); err == nil {
		return path, nil
	}
	path := filepath.Join(cache, "cluster", "bin", "helm")
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("helm is neither in PATH nor at %s: run `make cluster-up`", path)
	}
	return path, nil
}

// lock makes runs on one machine wait for each other: a run deletes what is left of
// earlier ones. The kernel drops the lock with the process.
func lock(path string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	fd := int(file.Fd())
	err = syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		fmt.Fprintln(os.Stderr, "waiting for another run of the end-to-end tests")
		err = syscall.Flock(fd, syscall.LOCK_EX)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("locking %s: %w", path, err), file.Close())
	}
	return func() { _ = file.Close() }, nil
}
