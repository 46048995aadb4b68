package stack

import (
	"context"
	"fmt"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/network"
)

// leftovers describes everything of the cluster that is on the machine.
func (c *Cluster) leftovers(ctx context.Context) ([]string, error) {
	var left []string
	processes, err := c.runningProcesses()
	if err != nil {
		return nil, err
	}
	for _, p := range processes {
		left = append(left, fmt.Sprintf("process %d %s", p.PID, p.Name))
	}
	inPods, err := podProcesses()
	if err != nil {
		return nil, err
	}
	for _, p := range inPods {
		left = append(left, fmt.Sprintf("process %d in a pod", p.PID))
	}
	mounts, err := c.mounts()
	if err != nil {
		return nil, err
	}
	for _, m := range mounts {
		left = append(left, "mount "+m)
	}
	links, err := c.plan.Interfaces()
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		left = append(left, "interface "+l.Attrs().Name)
	}
	tables, err := network.Tables(ctx)
	if err != nil {
		return nil, err
	}
	for _, t := range tables {
		left = append(left, "nftables table "+t)
	}
	groups, err := leftCgroups()
	if err != nil {
		return nil, err
	}
	for _, g := range groups {
		left = append(left, "control group "+g)
	}
	return left, nil
}

// mounts lists what is mounted below the cluster's folders, parents first.
func (c *Cluster) mounts() ([]string, error) {
	var points []string
	for _, dir := range []string{c.layout.Run, c.layout.Cluster()} {
		found, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
		if err != nil {
			return nil, fmt.Errorf("listing mounts: %w", err)
		}
		for _, m := range found {
			points = append(points, m.Mountpoint)
		}
	}
	return points, nil
}

// unmount removes the cluster's mounts, children before parents. Detaching
// does not wait for whoever still has a file open there.
func (c *Cluster) unmount() error {
	points, err := c.mounts()
	if err != nil {
		return err
	}
	for i := len(points) - 1; i >= 0; i-- {
		if err := unix.Unmount(points[i], unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("unmounting %s: %w", points[i], err)
		}
	}
	return nil
}
