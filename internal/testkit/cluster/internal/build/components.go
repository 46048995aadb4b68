// Package build compiles the cluster's programs from pinned Go modules. Each
// project is a nested module of its own under components/, with its own
// replacements and tools. The large ones nevertheless pin the same version of
// every module they have in common: then the third of their packages that
// several of them use is compiled once. To raise versions, raise them in one,
// then bring the others in line with `go work init ./kubernetes ./containerd
// ./etcd ./coredns ./helm && go work sync` in components/ and `go mod tidy` in
// each, and remove the go.work files again.
package build

import (
	"strings"

	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/paths"
)

// Component is one nested module and the programs built from it.
type Component struct {
	// Name is used in progress lines and stamps.
	Name string
	// Dir is the module's folder below the driver's source folder.
	Dir string
	// Programs maps a program's name to the package it is built from.
	Programs map[string]string
	// Links maps further names to the program they are symbolic links to.
	Links map[string]string
	// Tags are Go build tags.
	Tags string
	// LDFlags are passed to the linker besides -s -w.
	LDFlags string
	// CGO says whether C code is linked in. Everything else is static.
	CGO bool
	// Optional components are only built when asked for by name.
	Optional bool
}

// flags are the Go tool's flags a component is built with. Debug information
// is left out when compiling already, not only when linking: that saves a
// fifth of the time.
func (c Component) flags() []string {
	flags := []string{
		"-trimpath", "-buildvcs=false", "-gcflags=all=-dwarf=false",
		"-ldflags=" + strings.TrimSpace("-s -w "+c.LDFlags),
	}
	if c.Tags != "" {
		flags = append(flags, "-tags="+c.Tags)
	}
	return flags
}

// KubernetesVersion is the version the Kubernetes programs report. It has to
// be stamped: built from a module, they know no version and the API server
// refuses to compute compatibility without one.
const KubernetesVersion = "v1.37.2"

// Components returns what the cluster is made of, the longest build first.
func Components() []Component {
	return []Component{
		{
			Name: "kubernetes", Dir: "components/kubernetes",
			Programs: map[string]string{"kubernetes": "."},
			Links: map[string]string{
				"kube-apiserver": "kubernetes", "kube-controller-manager": "kubernetes", "kube-scheduler": "kubernetes",
				"kubelet": "kubernetes", "kube-proxy": "kubernetes", "kubectl": "kubernetes", "volume-provisioner": "kubernetes",
			},
			LDFlags: "-X k8s.io/component-base/version.gitVersion=" + KubernetesVersion +
				" -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37" +
				// The kubelet's folder of links to logs has no setting, and would be outside the cluster's.
				" -X k8s.io/kubernetes/pkg/kubelet.ContainerLogsDir=" + paths.RunDir + "/container-logs",
		},
		{
			Name: "containerd", Dir: "components/containerd",
			Programs: map[string]string{
				"containerd":              "github.com/containerd/containerd/v2/cmd/containerd",
				"containerd-shim-runc-v2": "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
				"ctr":                     "github.com/containerd/containerd/v2/cmd/ctr",
			},
			Tags:    "no_btrfs,no_devmapper,no_zfs",
			LDFlags: "-X github.com/containerd/containerd/v2/version.Version=v2.4.2",
		},
		{
			Name: "etcd", Dir: "components/etcd",
			Programs: map[string]string{"etcd": "go.etcd.io/etcd/server/v3"},
		},
		{
			Name: "runc", Dir: "components/runc",
			Programs: map[string]string{"runc": "github.com/opencontainers/runc"},
			Tags:     "seccomp", CGO: true,
		},
		{
			Name: "cni", Dir: "components/cni",
			Programs: map[string]string{
				"ptp":        "github.com/containernetworking/plugins/plugins/main/ptp",
				"host-local": "github.com/containernetworking/plugins/plugins/ipam/host-local",
			},
		},
		{
			Name: "coredns", Dir: "components/coredns",
			Programs: map[string]string{"coredns": "."},
		},
		{
			Name: "csi", Dir: "components/csi",
			Programs: map[string]string{
				"csi-driver":          ".",
				"csi-snapshotter":     "github.com/kubernetes-csi/external-snapshotter/v8/cmd/csi-snapshotter",
				"snapshot-controller": "github.com/kubernetes-csi/external-snapshotter/v8/cmd/snapshot-controller",
			},
		},
		{
			Name: "containers", Dir: ".",
			Programs: map[string]string{
				"pause":                  "./containers/pause",
				"redis-exporter-standin": "./containers/redis-exporter-standin",
			},
		},
		{
			Name: "helm", Dir: "components/helm",
			Programs: map[string]string{"helm": "helm.sh/helm/v4/cmd/helm"},
			LDFlags:  "-X helm.sh/helm/v4/internal/version.version=v4.3.1",
		},
		{
			Name: "helm3", Dir: "components/helm3",
			Programs: map[string]string{"helm3": "helm.sh/helm/v3/cmd/helm"},
			LDFlags:  "-X helm.sh/helm/v3/internal/version.version=v3.22.0",
			Optional: true,
		},
	}
}
