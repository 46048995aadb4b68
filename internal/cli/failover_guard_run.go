package cli

import (
	"context"
	"errors"
	"net"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/kube"
	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/failover"
	"github.com/redisctl/redisctl/internal/operation/guard"
	"github.com/redisctl/redisctl/internal/redisconn"
)

type guardRunOptions struct {
	watch        guardWatchOptions
	workload     string
	passwordFile string
}

// newGuardRunCommand makes the command that the guard's Deployment runs.
func (a *app) newGuardRunCommand() *cobra.Command {
	o := guardRunOptions{watch: defaultGuardWatch()}
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Be the guard: the process that guard install runs in the cluster",
		Long: `Competes for the Lease redisctl-guard-WORKLOAD and, while it holds it, watches the release
and heals it. Each change is one line of output, an annotation of the StatefulSet
(redisctl.dev/guard) and an Event. SIGTERM ends it and gives the Lease back.

It connects to the pods' own addresses, which normally works only inside the cluster. The
password is read from --password-file at each connection, or else from REDISCTL_PASSWORD.`,
		Example: "  redisctl failover guard run -n redis-prod -r cache --workload cache-redis",
		Args:    noArgs,
	}
	f := cmd.Flags()
	o.watch.addFlags(f)
	f.StringVar(&o.workload, "workload", "", "the release's StatefulSet, so that no other needs to be listed")
	f.StringVar(&o.passwordFile, "password-file", "", "file with the password, as the kubelet mounts a Secret")
	cmd.RunE = runWith(a, &o, a.runGuard)
	return cmd
}

func (a *app) runGuard(ctx context.Context, o guardRunOptions, _ []string) error {
	if o.watch.interval <= 0 {
		return operation.Errorf(operation.Usage, "--interval %s: it must be positive", o.watch.interval)
	}
	if len(a.globals.target.Addresses) > 0 {
		return errNoGuard
	}
	reporter, done := a.narrator()
	defer done()
	client, b, err := a.openInside(o)
	if err != nil {
		return err
	}
	defer b.Close()
	holder, err := a.holder()
	if err != nil {
		return err
	}
	watch := failover.DefaultWatchOptions()
	watch.Interval, watch.Promote, watch.PromoteAfter = o.watch.interval, o.watch.promote, o.watch.promoteAfter
	watch.Heal.Timeout = a.globals.timeout
	op := a.failover(b, reporter)
	op.By = "guard " + holder
	err = guard.Runner{
		Failover: op, Seat: client, Journal: client.NewJournal(), Reporter: reporter, Holder: holder, Version: ThisBuild().Version,
		Tell: func(e failover.Event) {
			if err := a.printSeries(eventDocument(e)); err != nil {
				reporter.Warn("%v", err)
			}
		},
	}.Run(ctx, a.globals.target, watch)
	if ctx.Err() != nil && operation.KindOf(err) == operation.Interrupted {
		return nil // SIGTERM is how a guard ends
	}
	return err
}

// holder names this process among its siblings. The pod's name is given by the
// Deployment, because a host name is cut at 63 bytes and may not be unique then.
func (a *app) holder() (string, error) {
	if name, _ := a.system.LookupEnv("POD_NAME"); name != "" {
		return name, nil
	}
	name, err := os.Hostname()
	if err != nil {
		return "", operation.Errorf(operation.Failed, "finding a name for this process: %w", err)
	}
	return name + "/" + strconv.Itoa(os.Getpid()), nil
}

// openInside wires what the guard works with: connections go straight to the pods and
// Services, so that it needs no permission for exec, port-forward or Secrets.
func (a *app) openInside(o guardRunOptions) (*kube.Client, *backend, error) {
	options := a.kubeOptions()
	options.Workload = o.workload
	client, err := kube.Open(options)
	if err != nil {
		return nil, nil, err
	}
	connector := redisconn.Connector{
		Dial: dialPod, Credentials: a.insideCredentials(client, o.passwordFile),
		DialTimeout: a.globals.timeout, Timeout: a.globals.timeout,
	}
	return client, &backend{
		Resolver: client, Connector: connector, Streamer: streamer{connector}, Saver: saver{connector},
		Files: noCluster{}, Locker: client, Pauser: pauser{connector}, Traffic: client, Notes: client,
		Cluster: insideCluster{serviceClients{client, connectInside(connector)}},
		Atomic:  connector, Names: noCluster{}, close: client.Close,
	}, nil
}

// dialPod is redisconn.DialInstance for pods, which may have no address yet.
func dialPod(ctx context.Context, d *operation.Deployment, i operation.Instance) (net.Conn, error) {
	if i.Host == "" {
		return nil, errors.New("it has no address")
	}
	return redisconn.DialInstance(ctx, d, i)
}

// connectInside reaches a Service as any client in the cluster does.
func connectInside(connector redisconn.Connector) func(
	context.Context, *operation.Deployment, operation.Service, operation.Instance,
) (operation.Server, error) {
	return func(
		ctx context.Context, d *operation.Deployment, s operation.Service, _ operation.Instance,
	) (operation.Server, error) {
		return connector.Connect(ctx, d, operation.Instance{
			Name: "service " + s.Name, Ordinal: -1, Host: s.Name + "." + d.Namespace + ".svc", Port: s.Port,
		})
	}
}

// insideCluster spares the guard the permission to read PodDisruptionBudgets, which
// only tell an operator something.
type insideCluster struct{ serviceClients }

// Budgets implements failover.Cluster.
func (insideCluster) Budgets(context.Context, *operation.Deployment) ([]operation.Budget, error) {
	return nil, nil
}

// insideCredentials returns the password from a file, from the environment, or from
// the pod template where it stands in the open. Secrets are not read.
func (a *app) insideCredentials(client *kube.Client, file string) func(context.Context, *operation.Deployment) (string, string, error) {
	return func(ctx context.Context, d *operation.Deployment) (string, string, error) {
		if file != "" {
			password, err := os.ReadFile(file)
			return "", string(password), err
		}
		if password, ok := a.system.LookupEnv(passwordVariable); ok {
			return "", password, nil
		}
		password, err := client.Password(ctx, d)
		return "", password, err
	}
}
