// Package paths says where everything of the local cluster lives: what is
// built and kept in the cache folder, what only exists while the cluster runs
// in the run folder.
package paths

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// modulePath is how the driver recognises its own source folder.
const modulePath = "github.com/redisctl/redisctl/internal/testkit/cluster"

// RunDir is the folder of everything that only exists while the cluster runs.
// It is the same for every cache folder: a machine has room for one cluster.
const RunDir = "/run/redisctl-cluster"

// ErrNoSource is returned by Source when the driver's sources are not found.
var ErrNoSource = errors.New("the cluster's source folder was not found; run from inside the redisctl checkout")

// Layout names the folders and files. The zero value is not usable; see New.
type Layout struct {
	// Cache is redisctl's cache folder, shared with everything else built
	// outside the repository.
	Cache string
	// Run holds sockets, process records and mounts. It is short because a
	// Unix socket's path is limited to 107 bytes, and outside the cache
	// because none of it survives a reboot.
	Run string
}

// New returns the layout under $REDISCTL_CACHE, or the user's cache folder
// when that is unset.
func New() (Layout, error) {
	cache := os.Getenv("REDISCTL_CACHE")
	if cache == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return Layout{}, fmt.Errorf("finding the cache folder (set REDISCTL_CACHE): %w", err)
		}
		cache = filepath.Join(base, "redisctl")
	}
	cache, err := filepath.Abs(cache)
	if err != nil {
		return Layout{}, fmt.Errorf("resolving the cache folder: %w", err)
	}
	return Layout{Cache: cache, Run: RunDir}, nil
}

// Servers is the folder of server root file systems, one folder each.
func (l Layout) Servers() string { return filepath.Join(l.Cache, "servers") }

// Cluster is the folder of everything the cluster keeps.
func (l Layout) Cluster() string { return filepath.Join(l.Cache, "cluster") }

// Bin is the folder of built programs.
func (l Layout) Bin() string { return filepath.Join(l.Cluster(), "bin") }

// Program is the path of one built program.
func (l Layout) Program(name string) string { return filepath.Join(l.Bin(), name) }

// Stamps is the folder recording from what each program was built.
func (l Layout) Stamps() string { return filepath.Join(l.Cluster(), "stamps") }

// Images is the folder that records which images containerd has. It lies in
// containerd's own, because it is worthless without.
func (l Layout) Images() string { return filepath.Join(l.Containerd(), "redisctl-images") }

// PKI is the folder of keys and certificates.
func (l Layout) PKI() string { return filepath.Join(l.Cluster(), "pki") }

// Config is the folder of generated configuration files.
func (l Layout) Config() string { return filepath.Join(l.Cluster(), "config") }

// Logs is the folder of the components' logs and the audit log.
func (l Layout) Logs() string { return filepath.Join(l.Cluster(), "logs") }

// Log is the log file of one component.
func (l Layout) Log(component string) string { return filepath.Join(l.Logs(), component+".log") }

// AuditLog is the API server's audit log.
func (l Layout) AuditLog() string { return filepath.Join(l.Logs(), "audit.log") }

// Etcd is etcd's data folder.
func (l Layout) Etcd() string { return filepath.Join(l.Cluster(), "etcd") }

// Volumes is the folder the storage provisioner makes volumes in.
func (l Layout) Volumes() string { return filepath.Join(l.Cluster(), "volumes") }

// CSI is the folder the CSI driver keeps volumes and snapshots in.
func (l Layout) CSI() string { return filepath.Join(l.Cluster(), "csi") }

// Containerd is containerd's root folder: images, snapshots, metadata.
func (l Layout) Containerd() string { return filepath.Join(l.Cluster(), "containerd") }

// Kubelet is the kubelet's root folder.
func (l Layout) Kubelet() string { return filepath.Join(l.Cluster(), "kubelet") }

// Kubeconfig is the administrator's kubeconfig.
func (l Layout) Kubeconfig() string { return filepath.Join(l.Cluster(), "kubeconfig") }

// ComponentKubeconfig is the kubeconfig one component identifies itself with.
func (l Layout) ComponentKubeconfig(component string) string {
	return filepath.Join(l.Config(), component+".kubeconfig")
}

// Processes is the folder of process records.
func (l Layout) Processes() string { return filepath.Join(l.Run, "processes") }

// ContainerdState is containerd's state folder, where sandboxes are mounted.
func (l Layout) ContainerdState() string { return filepath.Join(l.Run, "containerd") }

// ContainerdSocket is where containerd listens.
func (l Layout) ContainerdSocket() string { return filepath.Join(l.Run, "containerd.sock") }

// Source finds the driver's source folder: the current folder or one of its
// parents is either the module itself or the checkout that holds it. It
// returns ErrNoSource when there is none.
func Source() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("finding the source folder: %w", err)
	}
	for {
		for _, candidate := range []string{dir, filepath.Join(dir, "internal", "testkit", "cluster")} {
			if isModule(candidate) {
				return candidate, nil
			}
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", ErrNoSource
		}
		dir = parent
	}
}

func isModule(dir string) bool {
	text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return false
	}
	first, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSpace(first) == "module "+modulePath
}
