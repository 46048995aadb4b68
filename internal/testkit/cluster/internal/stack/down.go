package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/process"
)

const (
	// podGrace is how long pods' processes get to end by themselves; a Redis
	// that saves on SIGTERM needs some.
	podGrace = 5 * time.Second
	// daemonGrace is the same for components.
	daemonGrace = 10 * time.Second
)

// devicePluginSocket is a place every kubelet listens at; it has no setting.
const devicePluginSocket = "/var/lib/kubelet/device-plugins/kubelet.sock"

// ErrLeftovers is returned by Down when something of the cluster is still
// there after everything was tried.
var ErrLeftovers = errors.New("the cluster left something behind")

// Down stops every process of the cluster and removes what it made of the
// machine: mounts, interfaces, rules, control groups, kernel settings. What is
// built stays, and so do images and data; purge removes the data (the API
// server's and the volumes') as well. At the end it looks whether anything is
// left and returns ErrLeftovers naming it.
func (c *Cluster) Down(ctx context.Context, purge bool) error {
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	// The kubelet first, or it would start pods again; the API server last of
	// the control plane, so that the others need not fail to reach it.
	for _, names := range [][]string{
		{"kubelet", "kube-controller-manager", "kube-scheduler", "kube-proxy", "coredns", "volume-provisioner", "csi-driver", "csi-snapshotter", "snapshot-controller"},
		{"kube-apiserver"},
		{"etcd"},
	} {
		if err := c.stop(ctx, names...); err != nil {
			return err
		}
	}
	if err := c.stopPods(ctx); err != nil {
		return err
	}
	if err := c.stop(ctx, "containerd"); err != nil {
		return err
	}
	if err := c.stopRemaining(ctx); err != nil {
		return err
	}
	c.report("removing mounts, interfaces, rules and control groups")
	err = errors.Join(
		c.unmount(), c.removeInterfaces(), c.plan.Unguard(ctx), removeCgroups(), c.sysctls().Restore(),
	)
	if err == nil {
		err = c.removeFiles(purge)
	}
	return errors.Join(err, c.verifyGone(ctx))
}

// stop ends daemons at the same time.
func (c *Cluster) stop(ctx context.Context, names ...string) error {
	errs := make([]error, len(names))
	var group sync.WaitGroup
	for i, name := range names {
		group.Go(func() { errs[i] = c.daemon.Stop(ctx, name, daemonGrace) })
	}
	group.Wait()
	return errors.Join(errs...)
}

// stopPods ends what runs in pods: politely, and after a while for good.
func (c *Cluster) stopPods(ctx context.Context) error {
	deadline := time.Now().Add(podGrace)
	sig := syscall.SIGTERM
	for {
		list, err := podProcesses()
		if err != nil || len(list) == 0 {
			return err
		}
		for _, id := range list {
			if err := id.Signal(sig); err != nil {
				return err
			}
		}
		if sig == syscall.SIGKILL && time.Now().After(deadline.Add(daemonGrace)) {
			return fmt.Errorf("%d processes in pods: %w", len(list), process.ErrStillRunning)
		}
		for range 10 { // one signal, then time to act on it
			if list, err = podProcesses(); err != nil || len(list) == 0 {
				return err
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(interval):
			}
		}
		if time.Now().After(deadline) {
			sig = syscall.SIGKILL
		}
	}
}

// stopRemaining ends the shims, which outlive containerd on purpose, and any
// component without a record.
func (c *Cluster) stopRemaining(ctx context.Context) error {
	found, err := c.runningProcesses()
	if err != nil {
		return err
	}
	errs := make([]error, len(found))
	var group sync.WaitGroup
	for i, f := range found {
		group.Go(func() {
			if f.Name == shimName { // it ignores SIGTERM
				errs[i] = f.Signal(syscall.SIGKILL)
			}
			errs[i] = errors.Join(errs[i], f.Terminate(ctx, daemonGrace))
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

func (c *Cluster) runningProcesses() ([]process.Found, error) {
	return process.RunningFrom(c.layout.Bin(), append(daemonNames(), shimName, "runc"))
}

func (c *Cluster) removeInterfaces() error {
	links, err := c.plan.Interfaces()
	if err != nil {
		return err
	}
	for _, link := range links {
		// A pod's interface may go at this very moment, with its namespace.
		if err := netlink.LinkDel(link); err != nil && !errors.Is(err, syscall.ENODEV) {
			return fmt.Errorf("removing interface %s: %w", link.Attrs().Name, err)
		}
	}
	return nil
}

// removeFiles removes the run folder, what components keep in places that
// cannot be configured, and the data when asked to.
func (c *Cluster) removeFiles(purge bool) error {
	dirs := []string{c.layout.Run}
	// The network plugins' results, named after the network: other networks'
	// lie in the same folder.
	results, err := filepath.Glob("/var/lib/cni/results/" + c.plan.Interface + "-*")
	if err != nil {
		return fmt.Errorf("listing network results: %w", err)
	}
	dirs = append(append(dirs, results...), devicePluginSocket)
	if purge {
		dirs = append(dirs, c.layout.Etcd(), c.layout.Volumes(), c.layout.CSI(), c.layout.Kubelet(), filepath.Join(c.layout.Logs(), "pods"))
	}
	for _, dir := range dirs {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("removing %s: %w", dir, err)
		}
	}
	// Empty folders only: with anything in them they serve someone else too.
	for _, dir := range []string{"/var/lib/cni/results", "/var/lib/cni", "/var/lib/kubelet/device-plugins", "/var/lib/kubelet"} {
		_ = os.Remove(dir) // not being empty is the reason it fails
	}
	return nil
}

// verifyGone looks for anything of the cluster that is still there.
func (c *Cluster) verifyGone(ctx context.Context) error {
	left, err := c.leftovers(ctx)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("%w:\n  %s", ErrLeftovers, strings.Join(left, "\n  "))
	}
	return nil
}
