package cli

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/spf13/cobra"

	view "github.com/redisctl/redisctl/internal/dashboard"
	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/dashboard"
	"github.com/redisctl/redisctl/internal/operation/health"
	"github.com/redisctl/redisctl/internal/render"
)

// errNoScreen refuses the live view where nobody could see it.
var errNoScreen = errors.New("the live view needs a terminal, and is for people")

type topOptions struct {
	allNamespaces, once bool
	interval            time.Duration
}

func (a *app) newTopCommand() *cobra.Command {
	o := topOptions{interval: 2 * time.Second}
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch servers live: roles, lag, throughput, memory, slow commands, events",
		Long: `A full-screen view of all releases of the namespace, of --release, or of all namespaces
with -A: who is primary, how far replicas are behind, operations per second, memory
against the nearer of maxmemory and the container's limit, CPU, clients, findings, the
slow log and events. Each pod is asked by itself: one that hangs or is down holds up
nothing, and is shown with the age of its last answer. CPU and memory come from the
metrics API where the cluster has one, otherwise from INFO.

Keys: q quit, p pause, s sort, arrows and Enter for the details of a pod, ? help.

--once prints one frame, also without a terminal: what kubectl top pods was used for.
Exit code 0 when it was shown, 1 or 8 when the releases cannot be found.`,
		Example: `  redisctl top -n redis-prod
  redisctl top -A
  redisctl top -n redis-prod -r cache --once
  redisctl top -n redis-prod --once -o json`,
		Args: noArgs,
		RunE: runWith(a, &o, a.runTop),
	}
	cmd.Flags().BoolVarP(&o.allNamespaces, "all-namespaces", "A", false, "the releases of all namespaces")
	cmd.Flags().BoolVar(&o.once, "once", false, "print one frame and end")
	cmd.Flags().DurationVar(&o.interval, "interval", o.interval, "how often each server is asked")
	mustComplete(cmd, "interval", cobra.FixedCompletions([]string{"1s", "2s", "5s"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (a *app) runTop(ctx context.Context, o topOptions, _ []string) error {
	if o.interval < 100*time.Millisecond {
		return operation.Errorf(operation.Usage, "--interval %s: it must be 100ms at least", o.interval)
	}
	dumb, _ := a.system.LookupEnv("TERM")
	if !o.once && (!a.system.OutTerminal || dumb == "dumb" || !a.globals.format.ForPeople()) {
		return &operation.Error{
			Kind: operation.Usage, Err: errNoScreen, Next: "redisctl top --once",
		}
	}
	b, err := a.backend(a)
	if err != nil {
		return err
	}
	defer b.Close()
	target := a.globals.target
	target.AllNamespaces = o.allNamespaces
	list := func(ctx context.Context) ([]operation.Deployment, error) { return b.Resolver.List(ctx, target) }
	found, err := list(ctx)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return operation.Errorf(operation.Usage, "no Redis release was found")
	}
	options := dashboard.Options{Interval: o.interval, Timeout: a.globals.timeout, Health: health.DefaultOptions()}
	if o.once {
		options.Interval = onceInterval
	}
	m := dashboard.New(list, b.Connector, b.Events, b.Usage, options, a.system.Now)
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { _ = m.Run(ctx) }) // a frame says what cannot be looked up
	if o.once {
		return a.topOnce(ctx, m)
	}
	return view.Run(ctx, m, a.system.In, a.system.Out, o.interval, a.color(a.system.OutTerminal))
}

// onceInterval is between the two samples of --once, which rates are made of.
const onceInterval = time.Second

// topOnce prints one frame when every server was asked twice: the second time for the rates.
// One that hangs is waited for once only.
func (a *app) topOnce(ctx context.Context, m *dashboard.Monitor) error {
	limit := time.After(a.globals.timeout + 2*onceInterval)
	for !m.Ready(2) {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-m.Changed():
			continue
		case <-limit:
		}
		break
	}
	f := m.Frame()
	d := render.Document{Value: f, Blocks: []render.Block{view.Draw(f, view.View{Details: 10})}}
	for _, r := range f.Releases {
		for _, i := range r.Instances {
			d.Names = append(d.Names, i.Name)
		}
	}
	return a.print(d)
}
