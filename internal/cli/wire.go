package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/config"
	"github.com/redisctl/redisctl/internal/helm"
	"github.com/redisctl/redisctl/internal/kube"
	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/backup"
	"github.com/redisctl/redisctl/internal/operation/dashboard"
	"github.com/redisctl/redisctl/internal/operation/describe"
	"github.com/redisctl/redisctl/internal/operation/events"
	"github.com/redisctl/redisctl/internal/operation/failover"
	"github.com/redisctl/redisctl/internal/operation/logs"
	"github.com/redisctl/redisctl/internal/operation/maintenance"
	"github.com/redisctl/redisctl/internal/operation/metrics"
	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/operation/restore/drill"
	"github.com/redisctl/redisctl/internal/operation/restore/full"
	"github.com/redisctl/redisctl/internal/operation/restore/live"
	"github.com/redisctl/redisctl/internal/operation/restore/volume"
	"github.com/redisctl/redisctl/internal/operation/resync"
	"github.com/redisctl/redisctl/internal/operation/session"
	"github.com/redisctl/redisctl/internal/operation/upgrade"
	"github.com/redisctl/redisctl/internal/operation/upgrade/check"
	"github.com/redisctl/redisctl/internal/operation/upgrade/green"
	"github.com/redisctl/redisctl/internal/operation/upgrade/roll"
	"github.com/redisctl/redisctl/internal/operation/upgrade/validate"
	"github.com/redisctl/redisctl/internal/redisconn"
	"github.com/redisctl/redisctl/internal/statefile"
)

// backend is the world that a command works on: a Kubernetes cluster, or plain
// addresses.
type backend struct {
	Resolver  operation.Resolver
	Connector operation.Connector
	Streamer  backup.Streamer
	Saver     backup.Saver
	Files     backup.Files
	Objects   backup.Objects
	Locker    operation.Locker
	Pauser    failover.Pauser
	Traffic   failover.Traffic
	Notes     operation.Notes
	// Cluster is nil for plain addresses.
	Cluster failover.Cluster
	// Guard is nil for plain addresses.
	Guard guardCluster
	// Snapshots is nil for plain addresses.
	Snapshots backup.Volumes
	Atomic    resync.Atomic
	// Volumes is nil for plain addresses.
	Volumes volume.Volumes
	Holder  volume.Holder
	Values  restore.Values
	// Rebuild is nil for plain addresses.
	Rebuild full.Cluster
	// DrillPods is nil for plain addresses.
	DrillPods func(d *operation.Deployment, o drillPodOptions) drill.Host
	// Upgrades and Rollouts are nil for plain addresses.
	Upgrades upgrade.Releases
	Rollouts roll.Cluster
	// Greens and Routes are nil for plain addresses.
	Greens green.Releases
	Routes green.Cluster
	// Logs is nil for plain addresses.
	Logs validate.Logs
	// Premises and Trials are nil for plain addresses.
	Premises check.Cluster
	Trials   check.Trials
	// Sessions are connections with a state of their own.
	Sessions maintenance.Sessions
	// Replayer sends keys; replays have connections of their own.
	Replayer live.Replayer
	Names    nameSource
	// Access is nil for plain addresses.
	Access accessReviewer
	// Ports is nil for plain addresses.
	Ports metrics.Dialer
	// Containers is nil for plain addresses.
	Containers session.Containers
	// Forwards is nil for plain addresses.
	Forwards portDialer
	// LogStreams is nil for plain addresses.
	LogStreams logs.Source
	// Events and Usage are nil for plain addresses.
	Events events.Source
	Usage  dashboard.Usages
	// Describes is nil for plain addresses.
	Describes describe.Cluster
	// Password reads the deployment's password, "" for none.
	Password func(ctx context.Context, d *operation.Deployment) (string, error)

	close func() error
}

// portDialer connects to ports of pods.
type portDialer interface {
	DialDedicated(ctx context.Context, d *operation.Deployment, i operation.Instance) (net.Conn, error)
	DialPort(ctx context.Context, d *operation.Deployment, i operation.Instance, port int) (net.Conn, error)
	ContainerPort(ctx context.Context, d *operation.Deployment, name string) (int, error)
	ContainerNames(ctx context.Context, d *operation.Deployment) ([]string, error)
}

// nameSource lists names for shell completion.
type nameSource interface {
	CompleteNamespaces(ctx context.Context) ([]string, error)
	CompleteReleases(ctx context.Context, t operation.Target) ([]string, error)
	CompletePods(ctx context.Context, t operation.Target) ([]string, error)
}

// Close ends all connections. What it could fail to do, the end of the process
// does.
func (b *backend) Close() {
	if b.close != nil {
		_ = b.close()
	}
}

// openBackend chooses by --address. It does not use the network.
func openBackend(a *app) (*backend, error) {
	if len(a.globals.target.Addresses) == 0 {
		return a.openKubernetes()
	}
	return a.openAddresses()
}

func (a *app) kubeOptions() kube.Options {
	return kube.Options{
		Kubeconfig: a.globals.kubeconfig,
		Context:    a.globals.context,
		Namespace:  a.globals.target.Namespace,
		UserAgent:  "redisctl/" + ThisBuild().Version,
		Timeout:    a.globals.timeout,
	}
}

func (a *app) openKubernetes() (*backend, error) {
	client, err := kube.Open(a.kubeOptions())
	if err != nil {
		return nil, err
	}
	connector := redisconn.Connector{
		Dial: client.Dial,
		Credentials: func(ctx context.Context, d *operation.Deployment) (string, string, error) {
			password, err := client.Password(ctx, d)
			return "", password, err
		},
		DialTimeout: a.globals.timeout,
		Timeout:     a.globals.timeout,
	}
	// A snapshot must not hold up, or be held up by, other connections to the pod.
	transfers := connector
	transfers.Dial = client.DialDedicated
	releases := helm.New(client.RESTConfig(), a.globals.timeout)
	return &backend{
		Resolver: client, Connector: connector, Streamer: streamer{transfers}, Saver: saver{connector},
		Files: client, Objects: client, Locker: client, Pauser: pauser{connector}, Traffic: client, Notes: client,
		Cluster: serviceClients{client, connectService(client, connector)}, Guard: client, Snapshots: client,
		Atomic: connector, Volumes: client, Holder: connector, Values: connector, Replayer: transfers, Sessions: connector, Names: client, Access: client, close: client.Close,
		Rebuild: client, Upgrades: releases, Rollouts: client, Greens: releases, Routes: client, Logs: client,
		Premises: client, Trials: kube.TrialHost{Client: client},
		Ports: client, Containers: client, Forwards: client, LogStreams: client, Events: client, Usage: client, Describes: client, Password: client.Password,
		DrillPods: func(d *operation.Deployment, o drillPodOptions) drill.Host {
			return kube.DrillHost{Client: client, Deployment: d, Image: o.image, Memory: o.memory}
		},
	}, nil
}

// connectService returns how to reach a Service as its clients do.
func connectService(client *kube.Client, connector redisconn.Connector) func(
	context.Context, *operation.Deployment, operation.Service, operation.Instance,
) (operation.Server, error) {
	return func(
		ctx context.Context, d *operation.Deployment, s operation.Service, via operation.Instance,
	) (operation.Server, error) {
		through := connector
		through.Dial = func(ctx context.Context, d *operation.Deployment, via operation.Instance) (net.Conn, error) {
			return client.DialService(ctx, d, s, via)
		}
		return through.Connect(ctx, d, via)
	}
}

// addressResolver resolves --address.
func addressResolver(a *app) redisconn.Addresses {
	source := operation.CredentialSource{Kind: "none"}
	switch {
	case a.globals.addresses.askPassword:
		source.Kind = "prompt"
	default:
		if _, ok := a.system.LookupEnv(passwordVariable); ok {
			source.Kind = "env"
		}
	}
	return redisconn.Addresses{Credentials: source}
}

// passwordVariable holds the password for --address. It is no flag: arguments are
// visible to every user of the machine.
const passwordVariable = config.EnvPrefix + "PASSWORD"

func (a *app) openAddresses() (*backend, error) {
	o := a.globals.addresses
	password, err := a.password()
	if err != nil {
		return nil, err
	}
	connector := redisconn.Connector{
		Dial: redisconn.DialInstance,
		Credentials: func(context.Context, *operation.Deployment) (string, string, error) {
			return o.username, password, nil
		},
		DialTimeout: a.globals.timeout,
		Timeout:     a.globals.timeout,
	}
	files := redisconn.TLSFiles{CA: o.tlsCA, Cert: o.tlsCert, Key: o.tlsKey, ServerName: o.tlsName, Insecure: o.tlsInsecure}
	if o.tls || files != (redisconn.TLSFiles{}) {
		if connector.TLS, err = files.Load(); err != nil {
			return nil, err
		}
	}
	state := statefile.New(statefile.DefaultFolder(a.system.LookupEnv), kube.Holder(), a.system.Now)
	return &backend{
		Resolver: addressResolver(a), Connector: connector, Streamer: streamer{connector}, Saver: saver{connector},
		Files: noCluster{}, Objects: noCluster{}, Locker: state, Pauser: pauser{connector}, Traffic: noCluster{}, Notes: state,
		Atomic: connector, Holder: connector, Values: connector, Replayer: connector, Sessions: connector, Names: noCluster{},
	}, nil
}

// password returns the password for --address: asked for, or from the environment.
func (a *app) password() (string, error) {
	if !a.globals.addresses.askPassword {
		password, _ := a.system.LookupEnv(passwordVariable)
		return password, nil
	}
	if a.system.ReadSecret == nil {
		return "", operation.Errorf(operation.Usage, "--ask-password needs a terminal; set %s instead", passwordVariable)
	}
	password, err := a.system.ReadSecret("Password: ")
	if err != nil {
		return "", operation.Errorf(operation.Failed, "reading the password: %w", err)
	}
	return password, nil
}

// streamer implements backup.Streamer.
type streamer struct{ connector redisconn.Connector }

func (s streamer) Snapshot(
	ctx context.Context, d *operation.Deployment, i operation.Instance, o backup.StreamOptions,
) (backup.Stream, error) {
	options := redisconn.SnapshotOptions{Diskless: !o.DiskBased, StallTimeout: o.Stall}
	if o.State != nil {
		said := false
		options.Progress = func(p redisconn.SnapshotProgress) {
			// Once is enough: the server repeats itself every second.
			if p.State == redisconn.SnapshotPreparing && p.Elapsed > time.Second && !said {
				said = true
				o.State("the server is alive and prepares the snapshot (it waits, forks, or writes to its disk)")
			}
		}
	}
	stream, err := s.connector.OpenSnapshot(ctx, d, i, options)
	var refusal *redisconn.ReplyError
	if o.KeyByKey && errors.As(err, &refusal) && refusal.Code() == "NOMASTERLINK" {
		return s.keyByKey(ctx, d, i)
	}
	if err != nil {
		return nil, err
	}
	return snapshotStream{stream}, nil
}

// keyByKey reads the data of a replica that has lost its primary.
func (s streamer) keyByKey(ctx context.Context, d *operation.Deployment, i operation.Instance) (backup.Stream, error) {
	dump, err := s.connector.OpenDump(ctx, d, i)
	if err != nil {
		return nil, err
	}
	return dumpStream{dump}, nil
}

type dumpStream struct{ *redisconn.DumpStream }

// Origin implements backup.Stream.
func (s dumpStream) Origin() backup.Origin {
	id, offset := s.Position()
	return backup.Origin{ReplicationID: id, Offset: offset, Form: "keys"}
}

type snapshotStream struct{ *redisconn.SnapshotStream }

func (s snapshotStream) Origin() backup.Origin {
	return backup.Origin{
		ReplicationID: s.ReplicationID, Offset: s.Offset, Form: string(s.Form), Size: max(0, s.Length),
	}
}

// saver implements backup.Saver.
type saver struct{ connector redisconn.Connector }

func (s saver) Save(
	ctx context.Context, d *operation.Deployment, i operation.Instance, report operation.Reporter,
) (backup.Saved, error) {
	server, err := s.connector.Connect(ctx, d, i)
	if err != nil {
		return backup.Saved{}, err
	}
	defer func() { _ = server.Close() }() // the save is done or has failed; closing adds nothing
	result, err := redisconn.Bgsave(ctx, server, report)
	if err != nil {
		return backup.Saved{}, err
	}
	return backup.Saved{Path: result.Path(), Took: result.Duration}, nil
}

// pauser implements failover.Pauser.
type pauser struct{ redisconn.Connector }

func (p pauser) Pause(
	ctx context.Context, d *operation.Deployment, i operation.Instance, limit time.Duration,
) (failover.Paused, error) {
	return p.PauseWrites(ctx, d, i, limit)
}

// noCluster answers for what plain addresses do not have.
type noCluster struct{}

var errNoCluster = errors.New("plain addresses have no Kubernetes behind them")

// CompleteNamespaces implements nameSource.
func (noCluster) CompleteNamespaces(context.Context) ([]string, error) { return nil, errNoCluster }

// CompleteReleases implements nameSource.
func (noCluster) CompleteReleases(context.Context, operation.Target) ([]string, error) {
	return nil, errNoCluster
}

// CompletePods implements nameSource.
func (noCluster) CompletePods(context.Context, operation.Target) ([]string, error) {
	return nil, errNoCluster
}

// ReadFile implements backup.Files.
func (noCluster) ReadFile(
	context.Context, *operation.Deployment, operation.Instance, string, backup.ReadOptions,
) (operation.File, error) {
	return nil, errNoCluster
}

// HelmRelease implements backup.Objects.
func (noCluster) HelmRelease(context.Context, *operation.Deployment) (*backup.HelmRelease, error) {
	return nil, errNoCluster
}

// Resources implements backup.Objects.
func (noCluster) Resources(context.Context, *operation.Deployment, bool) (backup.Resources, error) {
	return backup.Resources{}, errNoCluster
}

// FreeSpace implements backup.Files.
func (noCluster) FreeSpace(context.Context, *operation.Deployment, operation.Instance, string) (int64, error) {
	return 0, errNoCluster
}

// Pin implements failover.Traffic: clients of plain addresses find the primary
// themselves.
func (noCluster) Pin(context.Context, *operation.Deployment, string, string, string) error {
	return nil
}

// AwaitEndpoint implements failover.Traffic.
func (noCluster) AwaitEndpoint(context.Context, *operation.Deployment, string, string) error {
	return nil
}

// targetFlags returns the flags that name d, for commands that errors suggest.
func (a *app) targetFlags(d *operation.Deployment) string {
	if d.Namespace == "" {
		return " --address " + strings.Join(a.globals.target.Addresses, ",")
	}
	return fmt.Sprintf(" -n %s -r %s", d.Namespace, d.Release)
}

// withNext adds the next command to an error that does not name one, and is not explained
// by the result.
func withNext(err error, next string) error {
	var e *operation.Error
	if errors.As(err, new(reported)) || !errors.As(err, &e) || e.Next != "" {
		return err
	}
	kept := *e
	kept.Next = next
	return &kept
}
