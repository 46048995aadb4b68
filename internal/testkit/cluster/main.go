//go:build linux

// Command cluster runs a real one-node Kubernetes on this machine, for
// redisctl's end-to-end tests and its demonstration. Everything it needs comes
// from Go modules and Debian packages; see docs/cluster.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/platform"
	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/progress"
)

// exitUnsupported is the exit code on a machine that cannot run the cluster.
const exitUnsupported = 2

func main() {
	os.Exit(run())
}

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := newRootCommand(progress.To(os.Stderr)).ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, platform.ErrUnsupported):
		fmt.Fprintln(os.Stderr, err)
		return exitUnsupported
	default:
		fmt.Fprintln(os.Stderr, "error:", err)
		return 1
	}
}
