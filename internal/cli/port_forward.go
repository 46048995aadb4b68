package cli

import (
	"context"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/forward"
	"github.com/redisctl/redisctl/internal/render"
)

type portForwardOptions struct{ to, bind, port string }

func (a *app) newPortForwardCommand() *cobra.Command {
	var o portForwardOptions
	cmd := &cobra.Command{
		Use:   "port-forward [LOCAL[:REMOTE]]",
		Short: "Reach the primary, a replica, a Service or a pod through a local port",
		Long: `Listens on a local port and leads each connection into the pod, through the Kubernetes
API. The port stays the same while what is behind it moves: after a failover new
connections go to the new primary, and those to the old one are closed, so that clients
connect again instead of getting READONLY. When a pod restarts, connections wait for it.

LOCAL is the port on this machine, REMOTE the one in the pod: a number, or the name that
the container gives it (redis, metrics). Without LOCAL it is the same number; LOCAL 0
takes a free one. The address is printed on stdout, everything else on stderr.

It listens on the loopback interface only: whoever reaches the port reaches Redis. It
ends with Ctrl-C and exit code 0. Exit code 2 for a port, pod or Service that does not
exist, 1 when the local port is taken or there is no target at the start.`,
		Example: `  redisctl port-forward -n redis-prod
  redisctl port-forward -n redis-prod 0
  redisctl port-forward -n redis-prod 6380:6379 --to replica
  redisctl port-forward -n redis-prod 0 --to service/cache-redis-master
  redisctl port-forward -n redis-prod 9121 --to cache-redis-1 --port metrics`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return oneArg(cmd, args)
		},
		RunE:              runWith(a, &o, a.runPortForward),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().StringVar(&o.to, "to", "primary", "primary, replica, service/NAME, or the name of a pod")
	cmd.Flags().StringVar(&o.bind, "bind", "127.0.0.1", "loopback address to listen on")
	cmd.Flags().StringVar(&o.port, "port", "", "port in the pod: a number, or a name such as metrics (default redis)")
	mustComplete(cmd, "to", a.complete(a.forwardTargets))
	mustComplete(cmd, "bind", cobra.FixedCompletions([]string{"127.0.0.1", "::1"}, cobra.ShellCompDirectiveNoFileComp))
	mustComplete(cmd, "port", cobra.FixedCompletions([]string{"redis", "metrics"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// forwardTargets completes --to.
func (a *app) forwardTargets(ctx context.Context, b *backend) ([]string, error) {
	names := []string{"primary", "replica"}
	d, err := b.Resolver.Resolve(ctx, a.globals.target)
	if err != nil {
		return names, nil //nolint:nilerr // these two can be typed anyway
	}
	for _, i := range d.Instances {
		names = append(names, i.Name)
	}
	for _, s := range d.Services {
		names = append(names, "service/"+s.Name)
	}
	return names, nil
}

// forwarded is the result in JSON (docs/json-output.md).
type forwarded struct {
	Namespace string `json:"namespace"`
	Release   string `json:"release"`
	Address   string `json:"address"`
	Host      string `json:"host"`
	Port      int    `json:"port"`
	To        string `json:"to"`
	// Instance is where connections go at first.
	Instance   string `json:"instance"`
	RemotePort int    `json:"remotePort"`
}

// forwardInterval is how often is looked where the target is.
const forwardInterval = time.Second

func (a *app) runPortForward(ctx context.Context, o portForwardOptions, args []string) error {
	if err := a.needsCluster("connect to the address itself"); err != nil {
		return err
	}
	ports, err := parsePorts(o, args)
	if err != nil {
		return err
	}
	b, d, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	remote, dial, err := a.forwardDialer(ctx, b, d, ports.remote)
	if err != nil {
		return err
	}
	report, done := a.narrator()
	defer done()
	f := &forward.Forward{
		Resolve: func(ctx context.Context) (*operation.Deployment, error) {
			return b.Resolver.Resolve(ctx, a.globals.target)
		},
		Connector: b.Connector, Dial: dial, Target: forwardTarget(o.to, a.globals.target.Pod), Reporter: report,
		Interval: forwardInterval, Timeout: min(a.globals.timeout, 2*time.Second), Patience: max(30*time.Second, a.globals.timeout),
	}
	first, err := f.Start(ctx)
	if err != nil {
		return err
	}
	local := ports.local
	if local < 0 {
		local = remote
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(ports.host, strconv.Itoa(local)))
	if err != nil {
		return &operation.Error{
			Kind: operation.Failed, Phase: "listening", Err: err, Next: "redisctl port-forward 0 takes a port that is free",
		}
	}
	defer func() { _ = listener.Close() }() // Serve has closed it
	result := forwarded{
		Namespace: d.Namespace, Release: d.Release, Address: listener.Addr().String(), Host: ports.host,
		Port: listener.Addr().(*net.TCPAddr).Port, To: forwardTarget(o.to, a.globals.target.Pod).String(), Instance: first.Name, RemotePort: remote,
	}
	if err := a.printSeries(render.Document{
		Value: result, Names: []string{result.Address}, Blocks: []render.Block{render.Text{Text: result.Address}},
	}); err != nil {
		return err
	}
	report.Step("leads to %s of %s: %s, port %d; Ctrl-C ends", f.Target, d, first.Name, remote)
	return f.Serve(ctx, listener)
}

// forwardDialer returns the port in the pod and what dials it.
func (a *app) forwardDialer(ctx context.Context, b *backend, d *operation.Deployment, name string) (int, forward.Dialer, error) {
	redisPort := 6379
	if len(d.Instances) > 0 {
		redisPort = d.Instances[0].Port
	}
	port, err := strconv.Atoi(name)
	switch {
	case name == "" || name == "redis" || err == nil && port == redisPort:
		return redisPort, b.Forwards.DialDedicated, nil
	case err != nil:
		if port, err = b.Forwards.ContainerPort(ctx, d, name); err != nil {
			return 0, nil, err
		}
	}
	return port, func(ctx context.Context, d *operation.Deployment, i operation.Instance) (net.Conn, error) {
		return b.Forwards.DialPort(ctx, d, i, port)
	}, nil
}

// forwardPorts are the ends of a forward. local is -1 for the remote one's number.
type forwardPorts struct {
	host   string
	local  int
	remote string
}

func parsePorts(o portForwardOptions, args []string) (forwardPorts, error) {
	p := forwardPorts{local: -1, remote: o.port, host: o.bind}
	if p.host == "localhost" {
		p.host = "127.0.0.1"
	}
	if ip := net.ParseIP(p.host); ip == nil || !ip.IsLoopback() {
		return p, operation.Errorf(operation.Usage,
			"--bind %s: it must be a loopback address (127.0.0.1, ::1): whoever reaches the port reaches Redis", o.bind)
	}
	if len(args) == 0 {
		return p, checkPort(p.remote)
	}
	local, remote, both := strings.Cut(args[0], ":")
	if both {
		if o.port != "" && o.port != remote {
			return p, operation.Errorf(operation.Usage, "%s and --port %s name different ports of the pod", args[0], o.port)
		}
		p.remote = remote
	}
	if local != "" || !both {
		n, err := strconv.ParseUint(local, 10, 16)
		if err != nil {
			return p, operation.Errorf(operation.Usage, "%q is no port: it must be a number from 0 to 65535", local)
		}
		p.local = int(n)
	}
	return p, checkPort(p.remote)
}

// checkPort refuses numbers that are no port; names are judged by the pod.
func checkPort(remote string) error {
	n, err := strconv.Atoi(remote)
	if err == nil && (n < 1 || n > 65535) {
		return operation.Errorf(operation.Usage, "%d is no port: it must be from 1 to 65535", n)
	}
	return nil
}

// forwardTarget reads --to. --pod names a pod as well.
func forwardTarget(to, pod string) forward.Target {
	if service, ok := strings.CutPrefix(to, "service/"); ok {
		return forward.Target{Service: service}
	}
	if service, ok := strings.CutPrefix(to, "svc/"); ok {
		return forward.Target{Service: service}
	}
	switch {
	case to == "replica":
		return forward.Target{Replica: true}
	case to != "primary":
		return forward.Target{Pod: strings.TrimPrefix(to, "pod/")}
	default:
		return forward.Target{Pod: pod}
	}
}
