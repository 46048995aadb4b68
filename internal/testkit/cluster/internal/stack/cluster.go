// Package stack runs a one-node Kubernetes from the built programs: it writes
// their configuration, starts them in order, waits for what depends on what,
// and takes all of it away again.
package stack

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/filelock"
	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/network"
	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/paths"
	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/process"
	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/progress"
)

const (
	// nodeName is fixed: the machine's own name may change under a cluster
	// that is kept.
	nodeName = "redisctl-node"
	// cgroup is the parent of all pods' control groups.
	cgroup = "/redisctl-cluster"
	// contextName is the kubeconfig's context. End-to-end tests refuse any
	// other, so that they never touch someone's real cluster.
	contextName = "redisctl-local"
)

// ErrOtherCluster is returned when a cluster from another cache folder is up:
// the machine has the addresses and names of one only.
var ErrOtherCluster = errors.New("another local cluster is up on this machine")

// Cluster is the local cluster in one cache folder.
type Cluster struct {
	layout paths.Layout
	plan   network.Plan
	daemon process.Supervisor
	report progress.Func
}

// New returns the cluster of a layout. It receives progress lines in report,
// possibly from several goroutines.
func New(layout paths.Layout, report progress.Func) *Cluster {
	return &Cluster{
		layout: layout,
		plan:   network.DefaultPlan(),
		daemon: process.Supervisor{Dir: layout.Processes()},
		report: report,
	}
}

// server is the API server's address. It is the node's address, not a loopback
// one, because pods reach it through the kubernetes Service under the same.
func (c *Cluster) server() string { return fmt.Sprintf("https://%s:6443", c.plan.Node) }

func (c *Cluster) sysctls() network.Sysctls {
	return network.Sysctls{File: filepath.Join(c.layout.Run, "sysctls.json")}
}

// lock keeps two drivers from changing the cluster at once, and claims the run
// folder for this cache folder. The returned function gives the lock back.
func (c *Cluster) lock() (unlock func(), err error) {
	// Beside the run folder, which `down` removes.
	unlock, err = filelock.Lock(c.layout.Run+".lock", func() { c.report("waiting for another run of this program") })
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.layout.Run, 0o755); err != nil {
		unlock()
		return nil, fmt.Errorf("making the run folder: %w", err)
	}
	if err := c.claim(); err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

func (c *Cluster) claim() error {
	file := filepath.Join(c.layout.Run, "owner")
	owner, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return os.WriteFile(file, []byte(c.layout.Cache+"\n"), 0o644)
	}
	if err != nil {
		return fmt.Errorf("reading whose cluster is up: %w", err)
	}
	if name := strings.TrimSpace(string(owner)); name != c.layout.Cache {
		return fmt.Errorf("%w: stop it with REDISCTL_CACHE=%s", ErrOtherCluster, name)
	}
	return nil
}
