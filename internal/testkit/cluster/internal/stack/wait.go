package stack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/apiclient"
)

// ErrEnded is returned when a component ends while the cluster starts.
var ErrEnded = errors.New("a component has ended")

const (
	// startLimit is how long the cluster may take to become usable.
	startLimit = 3 * time.Minute
	// interval is how often a condition is looked at.
	interval = 100 * time.Millisecond
)

// await repeats condition until it returns nil. It gives up, with the last
// error and the end of its log, as soon as one of the named daemons has ended.
func (c *Cluster) await(ctx context.Context, what string, daemons []string, condition func(context.Context) error) error {
	for {
		err := condition(ctx)
		if err == nil {
			return nil
		}
		for _, name := range daemons {
			if !c.daemon.Running(name) {
				return fmt.Errorf("waiting for %s: %s: %w\n%s", what, name, ErrEnded, c.logTail(name, 15))
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w: %w", what, ctx.Err(), err)
		case <-time.After(interval):
		}
	}
}

func (c *Cluster) logTail(name string, lines int) string {
	text, err := os.ReadFile(c.layout.Log(name))
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// containerdAnswers succeeds once containerd accepts connections.
func (c *Cluster) containerdAnswers(ctx context.Context) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", c.layout.ContainerdSocket())
	if err != nil {
		return err
	}
	return conn.Close()
}

// defaultAccount succeeds once pods can be created in the default namespace,
// which needs the service account that the controller manager makes.
func defaultAccount(client *apiclient.Client) func(context.Context) error {
	return func(ctx context.Context) error {
		var account struct{}
		return client.Get(ctx, "/api/v1/namespaces/default/serviceaccounts/default", &account)
	}
}

// storageReady succeeds once the default storage class exists.
func storageReady(client *apiclient.Client) func(context.Context) error {
	return func(ctx context.Context) error {
		var class struct{}
		return client.Get(ctx, "/apis/storage.k8s.io/v1/storageclasses/local", &class)
	}
}

// driverRegistered succeeds once the kubelet knows the CSI driver: until then pods with
// its volumes do not start.
func driverRegistered(client *apiclient.Client) func(context.Context) error {
	return func(ctx context.Context) error {
		var node struct {
			Spec struct{ Drivers []struct{ Name string } }
		}
		if err := client.Get(ctx, "/apis/storage.k8s.io/v1/csinodes/"+nodeName, &node); err != nil {
			return err
		}
		if len(node.Spec.Drivers) == 0 {
			return fmt.Errorf("the kubelet has not found the driver: %w", errNotYet)
		}
		return nil
	}
}

// snapshotsReady succeeds once there is a class to make snapshots of.
func snapshotsReady(client *apiclient.Client) func(context.Context) error {
	return func(ctx context.Context) error {
		var class struct{}
		return client.Get(ctx, "/apis/snapshot.storage.k8s.io/v1/volumesnapshotclasses/csi", &class)
	}
}

// dnsAnswers succeeds once the cluster's DNS knows the kubernetes Service.
func (c *Cluster) dnsAnswers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, dnsReadyURL, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	if err := response.Body.Close(); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("DNS is loading: %w", errNotYet)
	}
	resolver := &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort(c.plan.Node.String(), "53"))
		},
	}
	_, err = resolver.LookupHost(ctx, "kubernetes.default.svc."+c.plan.DNSDomain+".")
	return err
}
