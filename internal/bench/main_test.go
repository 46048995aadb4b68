package bench_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/redis/go-redis/v9/logging"
)

// world is what all benchmarks share.
var world struct {
	redisctl string // the program
	scratch  string // a folder for data, removed at the end
	report   report
}

func TestMain(m *testing.M) {
	file := flag.String("write", "", "file in which the sections of the benchmarks that were run are replaced")
	flag.StringVar(&world.redisctl, "redisctl", "", "the program to measure; by default it is built")
	flag.Parse()
	logging.Disable() // go-redis reports to stderr what it also returns
	os.Exit(run(m, *file))
}

func run(m *testing.M, file string) int {
	if testing.Short() {
		return m.Run()
	}
	if err := setUp(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(world.scratch)
	code := m.Run() // what was measured is worth keeping when something else has failed
	fmt.Print(&world.report)
	if file != "" {
		if err := world.report.writeInto(file); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

func setUp(ctx context.Context) (err error) {
	if world.scratch, err = os.MkdirTemp("", "redisctl-bench-"); err != nil {
		return err
	}
	if world.redisctl != "" {
		return nil
	}
	built := filepath.Join(world.scratch, "built")
	build := exec.CommandContext(ctx, "go", "build", "-ldflags", "-s -w", "-o", built, "github.com/redisctl/redisctl/cmd/redisctl")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building redisctl: %w\n%s", err, out)
	}
	// A copy, as what is installed is one. The linker writes its file in such a way that
	// the kernel caches it in larger pieces, and counts 8 MiB more of it as resident.
	world.redisctl = filepath.Join(world.scratch, "redisctl")
	if out, err := exec.CommandContext(ctx, "cp", built, world.redisctl).CombinedOutput(); err != nil {
		return fmt.Errorf("copying redisctl: %w\n%s", err, out)
	}
	return nil
}
