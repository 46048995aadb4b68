package cli

import (
	"context"
	"fmt"
	"sync"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
)

// forEach calls do for 0 to n-1, at most limit of them at the same time, and returns
// when all have ended. Once ctx has ended it begins no more: started tells which began.
func forEach(ctx context.Context, n, limit int, do func(i int)) (started []bool) {
	started = make([]bool, n)
	slots := make(chan struct{}, limit)
	var wg sync.WaitGroup
	for i := range n {
		select {
		case <-ctx.Done():
		case slots <- struct{}{}:
			if ctx.Err() != nil { // both were ready
				<-slots
				break
			}
			started[i] = true
			wg.Go(func() {
				defer func() { <-slots }()
				do(i)
			})
		}
	}
	wg.Wait()
	return started
}

// checkParallel refuses a limit of forEach that makes no sense.
func checkParallel(n int) error {
	if n < 1 || n > maxParallel {
		return operation.Errorf(operation.Usage, "--parallel %d: it must be from 1 to %d", n, maxParallel)
	}
	return nil
}

// maxParallel bounds memory and connections: each backup or verification takes about
// 3 MiB.
const maxParallel = 64

// combined is the one kind that failures of several targets amount to: Partial when
// others succeeded, their common kind when all failed in the same way, else Failed.
func combined(succeeded int, failures []error) operation.Kind {
	if succeeded > 0 {
		return operation.Partial
	}
	common := kind(failures[0])
	for _, err := range failures[1:] {
		if kind(err) != common {
			return operation.Failed
		}
	}
	return common
}

// fleetOptions make a command act on several releases.
type fleetOptions struct {
	allNamespaces, allReleases bool
	parallel                   int
}

func (o *fleetOptions) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVarP(&o.allNamespaces, "all-namespaces", "A", false, "the releases of all namespaces")
	f.BoolVar(&o.allReleases, "all-releases", false, "all releases of the namespace")
	f.IntVar(&o.parallel, "parallel", defaultParallel, "how many releases at the same time")
}

// selected reports whether several releases were asked for.
func (o fleetOptions) selected() bool { return o.allNamespaces || o.allReleases }

// fleet finds the releases that o and the target select: at least one.
func (a *app) fleet(ctx context.Context, b *backend, o fleetOptions) ([]operation.Deployment, error) {
	target := a.globals.target
	switch {
	case len(target.Addresses) > 0:
		return nil, operation.Errorf(operation.Usage, "--all-releases needs Kubernetes: it cannot be combined with --address")
	case target.Pod != "":
		return nil, operation.Errorf(operation.Usage, "--pod names one pod: it cannot be combined with --all-namespaces and --all-releases")
	}
	if err := checkParallel(o.parallel); err != nil {
		return nil, err
	}
	target.AllNamespaces = o.allNamespaces
	done := a.waiting("looking for releases")
	deployments, err := b.Resolver.List(ctx, target)
	done()
	if err == nil && len(deployments) == 0 {
		// Success would hide a wrong --context or --namespace from the job that runs this every night.
		err = operation.Errorf(operation.Usage, "no Redis release was found")
	}
	return deployments, err
}

// labelled is a Reporter that says which of several releases it is about. It has no
// progress: several bars do not fit in one line.
type labelled struct {
	operation.Reporter
	label string
}

// Step implements operation.Reporter.
func (l labelled) Step(format string, args ...any) {
	l.Reporter.Step("%s: %s", l.label, fmt.Sprintf(format, args...))
}

// Note implements operation.Reporter.
func (l labelled) Note(format string, args ...any) {
	l.Reporter.Note("%s: %s", l.label, fmt.Sprintf(format, args...))
}

// Warn implements operation.Reporter.
func (l labelled) Warn(format string, args ...any) {
	l.Reporter.Warn("%s: %s", l.label, fmt.Sprintf(format, args...))
}

// Progress implements operation.Reporter.
func (labelled) Progress(operation.Progress) {}
