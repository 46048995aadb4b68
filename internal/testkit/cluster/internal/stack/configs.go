package stack

import (
	"bytes"
	"embed"
	"fmt"
	"path/filepath"
	"text/template"

	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/atomicfile"
	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/images"
	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/network"
	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/paths"
)

//go:embed files
var files embed.FS

// values is what the configuration templates may refer to.
type values struct {
	Layout     paths.Layout
	Plan       network.Plan
	Certs      certs
	Node       string
	Cgroup     string
	PauseImage string
}

// configFiles maps each template to its place below the configuration folder.
func configFiles() map[string]string {
	return map[string]string{
		"containerd.toml":   "containerd.toml",
		"hosts.toml":        "registries/_default/hosts.toml",
		"cni.conflist":      "cni/10-redisctl.conflist",
		"kubelet.yaml":      "kubelet.yaml",
		"kube-proxy.yaml":   "kube-proxy.yaml",
		"Corefile":          "Corefile",
		"audit-policy.yaml": "audit-policy.yaml",
	}
}

// configure writes every component's configuration file.
func (c *Cluster) configure(certificates certs) error {
	v := values{
		Layout: c.layout, Plan: c.plan, Certs: certificates,
		Node: nodeName, Cgroup: cgroup, PauseImage: images.Pause,
	}
	for name, place := range configFiles() {
		text, err := render(name, v)
		if err != nil {
			return err
		}
		if err := atomicfile.Write(c.config(place), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func render(name string, v values) ([]byte, error) {
	t, err := template.New(name).Option("missingkey=error").ParseFS(files, "files/"+name)
	if err != nil {
		return nil, fmt.Errorf("parsing the template of %s: %w", name, err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, v); err != nil {
		return nil, fmt.Errorf("filling in %s: %w", name, err)
	}
	return out.Bytes(), nil
}

func (c *Cluster) config(name string) string { return filepath.Join(c.layout.Config(), name) }
