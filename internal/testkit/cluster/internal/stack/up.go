package stack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/apiclient"
	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/images"
	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/process"
)

// Up makes the cluster run and waits until it is usable. What runs already as
// it should is left alone, so running it again is quick, and running it after
// anything was killed repairs just that. It expects the programs to be built
// and the servers to be prepared, and takes at most three minutes.
func (c *Cluster) Up(ctx context.Context) error {
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	// A running pod has a shim. Without any, the pods are those of a last run.
	shims, err := process.RunningFrom(c.layout.Bin(), []string{shimName})
	if err != nil {
		return err
	}
	fresh := len(shims) == 0
	crt, err := c.prepare(ctx)
	if err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	// Images are imported while the control plane starts.
	imported := make(chan error, 1)
	if err := c.start(ctx, c.containerd(), c.etcd(crt), c.apiserver(crt)); err != nil {
		return err
	}
	go func() { imported <- c.importImages(ctx) }()
	err = c.startAll(ctx, client, crt, fresh)
	return errors.Join(err, <-imported)
}

// prepare brings the machine into the state the components expect.
func (c *Cluster) prepare(ctx context.Context) (certs, error) {
	if err := c.checkAlone(ctx); err != nil {
		return certs{}, err
	}
	for _, dir := range []string{
		c.layout.Config(), c.layout.Logs(), c.layout.Volumes(), c.layout.Kubelet(), c.layout.Containerd(),
	} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return certs{}, fmt.Errorf("making the cluster's folders: %w", err)
		}
	}
	// etcd warns about, and later versions refuse, a folder others can read.
	if err := os.MkdirAll(c.layout.Etcd(), 0o700); err != nil {
		return certs{}, fmt.Errorf("making etcd's folder: %w", err)
	}
	if err := c.stopStrays(ctx); err != nil {
		return certs{}, err
	}
	sysctls := c.sysctls()
	if err := errors.Join(sysctls.Save(), sysctls.Apply()); err != nil {
		return certs{}, err
	}
	if err := errors.Join(c.plan.Up(), c.plan.Guard(ctx), makeCgroups()); err != nil {
		return certs{}, err
	}
	crt, err := c.certificates(time.Now())
	if err != nil {
		return certs{}, err
	}
	return crt, c.configure(crt)
}

// checkAlone refuses to start beside a kubelet that is not this cluster's: the
// two would take over each other's socket for device plugins.
func (c *Cluster) checkAlone(ctx context.Context) error {
	found, err := process.RunningFrom(c.layout.Bin(), []string{"kubelet"})
	if err != nil || len(found) > 0 {
		return err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", devicePluginSocket)
	if err != nil {
		return nil //nolint:nilerr // nobody listens, which is what is asked for
	}
	return errors.Join(fmt.Errorf("%w: this machine is a node of one", ErrOtherCluster), conn.Close())
}

// stopStrays ends components that no record tells of: a driver that was killed
// between starting one and recording it leaves such, and they hold the ports.
func (c *Cluster) stopStrays(ctx context.Context) error {
	found, err := process.RunningFrom(c.layout.Bin(), daemonNames())
	if err != nil {
		return err
	}
	for _, f := range found {
		if c.daemon.Owns(f.Identity) {
			continue
		}
		c.report("stopping a stray %s", f.Name)
		if err := f.Terminate(ctx, 5*time.Second); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) startAll(ctx context.Context, client *apiclient.Client, crt certs, fresh bool) error {
	core := []string{"containerd", "etcd", "kube-apiserver"}
	if err := c.await(ctx, "the API server", core, client.Ready); err != nil {
		return err
	}
	if err := apply(ctx, client, manifests()); err != nil {
		return err
	}
	if err := c.await(ctx, "the snapshot API", core, func(ctx context.Context) error {
		return apply(ctx, client, snapshotManifests())
	}); err != nil {
		return err
	}
	if err := c.await(ctx, "containerd", core, c.containerdAnswers); err != nil {
		return err
	}
	// API times have whole seconds.
	since := time.Now().Truncate(time.Second)
	if c.daemon.Running("kubelet") {
		since = time.Time{}
	}
	if err := c.start(ctx,
		c.controllerManager(crt), c.scheduler(crt), c.kubelet(), c.proxy(), c.dns(), c.provisioner(),
		c.csiDriver(), c.csiSnapshotter(), c.snapshotController(),
	); err != nil {
		return err
	}
	list := c.checks(client, since)
	if fresh {
		list = append(list, check{"the pods of the last run", podsCurrent(client, since)})
	}
	return c.awaitAll(ctx, list)
}

// check is one thing that makes the cluster usable.
type check struct {
	what      string
	condition func(context.Context) error
}

// checks lists what Up waits for and Status shows; only reports of the node
// from after since count.
func (c *Cluster) checks(client *apiclient.Client, since time.Time) []check {
	return []check{
		{"the API server", client.Ready},
		{"the node", nodeReady(client, since)},
		{"the default service account", defaultAccount(client)},
		{"DNS", c.dnsAnswers},
		{"the default storage class", storageReady(client)},
		{"the CSI driver", driverRegistered(client)},
		{"volume snapshots", snapshotsReady(client)},
	}
}

// awaitAll waits for all checks at once.
func (c *Cluster) awaitAll(ctx context.Context, list []check) error {
	errs := make([]error, len(list))
	var group sync.WaitGroup
	for i, item := range list {
		group.Go(func() {
			if errs[i] = c.await(ctx, item.what, daemonNames(), item.condition); errs[i] == nil {
				c.report("%s: ready", item.what)
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

func (c *Cluster) start(ctx context.Context, daemons ...process.Daemon) error {
	for _, d := range daemons {
		started, err := c.daemon.Start(ctx, d)
		if err != nil {
			return err
		}
		if started {
			c.report("%s: started", d.Name)
		}
	}
	return nil
}

func (c *Cluster) importImages(ctx context.Context) error {
	if err := c.await(ctx, "containerd", []string{"containerd"}, c.containerdAnswers); err != nil {
		return err
	}
	list, err := images.Catalog(c.layout.Servers(), c.layout.Bin())
	if err != nil {
		return err
	}
	return c.images().Ensure(ctx, list, c.report)
}

func (c *Cluster) images() images.Store {
	return images.Store{CTR: c.layout.Program("ctr"), Socket: c.layout.ContainerdSocket(), Dir: c.layout.Images()}
}

// ImportProgram packs a static program as an image and imports it into the running
// cluster, unless that has this very image already. name is complete: registry host,
// repository and tag.
func (c *Cluster) ImportProgram(ctx context.Context, program, name string) error {
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := c.containerdAnswers(ctx); err != nil {
		return fmt.Errorf("the cluster is not up: %w", err)
	}
	return c.images().Ensure(ctx, []images.Image{images.Program(name, program)}, c.report)
}
