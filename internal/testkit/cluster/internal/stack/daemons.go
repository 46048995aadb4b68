package stack

import (
	"path/filepath"

	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/process"
)

// Ports on the loopback address that nothing outside the driver refers to.
const (
	etcdURL     = "https://127.0.0.1:12379"
	etcdPeerURL = "http://127.0.0.1:12380"
	dnsReadyURL = "http://127.0.0.1:12382/ready"
)

// daemonNames lists the cluster's processes in the order they start in.
func daemonNames() []string {
	return []string{
		"containerd", "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler",
		"kubelet", "kube-proxy", "coredns", "volume-provisioner", "csi-driver", "csi-snapshotter", "snapshot-controller",
	}
}

// shimName is the process that containerd leaves with every pod; it outlives
// containerd on purpose.
const shimName = "containerd-shim-runc-v2"

// base is what all daemons have in common. Programs of the cluster are found
// before the machine's: containerd starts its shim, and that runc, by name.
func (c *Cluster) base(name string, inputs []string, args ...string) process.Daemon {
	return process.Daemon{
		Name: name, Path: c.layout.Program(name), Args: args,
		Env: []string{"HOME=/root", "PATH=" + c.layout.Bin() + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		Log: c.layout.Log(name), Inputs: inputs,
	}
}

func (c *Cluster) containerd() process.Daemon {
	config := c.config("containerd.toml")
	return c.base("containerd", []string{config}, "--config", config)
}

// etcd skips waiting for the disk: the data is a test's, and surviving a crash
// of the process (not of the machine) needs no fsync.
func (c *Cluster) etcd(crt certs) process.Daemon {
	return c.base("etcd", []string{crt.CA, crt.Loopback.Cert},
		"--name=local", "--data-dir="+c.layout.Etcd(),
		"--listen-client-urls="+etcdURL, "--advertise-client-urls="+etcdURL,
		"--listen-peer-urls="+etcdPeerURL, "--initial-advertise-peer-urls="+etcdPeerURL,
		"--initial-cluster=local="+etcdPeerURL,
		"--cert-file="+crt.Loopback.Cert, "--key-file="+crt.Loopback.Key,
		"--client-cert-auth", "--trusted-ca-file="+crt.CA,
		"--unsafe-no-fsync", "--log-level=warn",
	)
}

func (c *Cluster) apiserver(crt certs) process.Daemon {
	policy := c.config("audit-policy.yaml")
	return c.base("kube-apiserver", []string{policy, crt.CA, crt.APIServer.Cert, crt.APIServerClient.Cert, crt.SAPublic},
		"--bind-address="+c.plan.Node.String(), "--advertise-address="+c.plan.Node.String(), "--secure-port=6443",
		"--service-cluster-ip-range="+c.plan.Services.String(),
		"--etcd-servers="+etcdURL, "--etcd-cafile="+crt.CA,
		"--etcd-certfile="+crt.APIServerClient.Cert, "--etcd-keyfile="+crt.APIServerClient.Key,
		"--tls-cert-file="+crt.APIServer.Cert, "--tls-private-key-file="+crt.APIServer.Key,
		"--client-ca-file="+crt.CA,
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
		"--service-account-issuer=https://kubernetes.default.svc."+c.plan.DNSDomain,
		"--service-account-key-file="+crt.SAPublic, "--service-account-signing-key-file="+crt.SAPrivate,
		"--kubelet-certificate-authority="+crt.CA,
		"--kubelet-client-certificate="+crt.APIServerClient.Cert, "--kubelet-client-key="+crt.APIServerClient.Key,
		"--kubelet-preferred-address-types=InternalIP",
		// The aggregation layer, for metrics and other added APIs.
		"--requestheader-client-ca-file="+crt.FrontProxyCA, "--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file="+crt.FrontProxy.Cert, "--proxy-client-key-file="+crt.FrontProxy.Key,
		"--audit-policy-file="+policy, "--audit-log-path="+c.layout.AuditLog(),
		"--audit-log-maxsize=200", "--audit-log-maxbackup=1",
		"--event-ttl=1h", "--profiling=false",
	)
}

func (c *Cluster) controllerManager(crt certs) process.Daemon {
	kubeconfig := c.layout.ComponentKubeconfig("kube-controller-manager")
	return c.base("kube-controller-manager", []string{kubeconfig, crt.CA},
		"--kubeconfig="+kubeconfig,
		"--authentication-kubeconfig="+kubeconfig, "--authorization-kubeconfig="+kubeconfig,
		"--bind-address=127.0.0.1", "--leader-elect=false",
		"--use-service-account-credentials=true",
		"--service-account-private-key-file="+crt.SAPrivate, "--root-ca-file="+crt.CA,
		"--tls-cert-file="+crt.Loopback.Cert, "--tls-private-key-file="+crt.Loopback.Key,
		// Nodes come with a certificate, and there is one of them.
		"--controllers=*,-certificatesigningrequest-signing-controller,-certificatesigningrequest-approving-controller,"+
			"-certificatesigningrequest-cleaner-controller,-node-ipam-controller",
		"--profiling=false",
	)
}

func (c *Cluster) scheduler(crt certs) process.Daemon {
	kubeconfig := c.layout.ComponentKubeconfig("kube-scheduler")
	return c.base("kube-scheduler", []string{kubeconfig, crt.CA},
		"--kubeconfig="+kubeconfig,
		"--authentication-kubeconfig="+kubeconfig, "--authorization-kubeconfig="+kubeconfig,
		"--bind-address=127.0.0.1", "--leader-elect=false",
		"--tls-cert-file="+crt.Loopback.Cert, "--tls-private-key-file="+crt.Loopback.Key,
		"--profiling=false",
	)
}

func (c *Cluster) kubelet() process.Daemon {
	config, kubeconfig := c.config("kubelet.yaml"), c.layout.ComponentKubeconfig("kubelet")
	return c.base("kubelet", []string{config, kubeconfig},
		"--config="+config, "--kubeconfig="+kubeconfig,
		"--root-dir="+c.layout.Kubelet(), "--cert-dir="+c.layout.PKI(),
		"--hostname-override="+nodeName, "--node-ip="+c.plan.Node.String(),
	)
}

func (c *Cluster) proxy() process.Daemon {
	config, kubeconfig := c.config("kube-proxy.yaml"), c.layout.ComponentKubeconfig("kube-proxy")
	return c.base("kube-proxy", []string{config, kubeconfig}, "--config="+config)
}

func (c *Cluster) dns() process.Daemon {
	config, kubeconfig := c.config("Corefile"), c.layout.ComponentKubeconfig("coredns")
	return c.base("coredns", []string{config, kubeconfig}, "-conf", config)
}

func (c *Cluster) provisioner() process.Daemon {
	kubeconfig := c.layout.ComponentKubeconfig("volume-provisioner")
	return c.base("volume-provisioner", []string{kubeconfig},
		"--kubeconfig="+kubeconfig, "--root="+c.layout.Volumes())
}

// csiSocket is where the CSI driver listens.
func (c *Cluster) csiSocket() string { return filepath.Join(c.layout.Run, "csi.sock") }

func (c *Cluster) csiDriver() process.Daemon {
	kubeconfig := c.layout.ComponentKubeconfig("csi")
	return c.base("csi-driver", []string{kubeconfig},
		"--kubeconfig="+kubeconfig, "--root="+c.layout.CSI(), "--socket="+c.csiSocket(), "--node="+nodeName,
		"--registration-socket="+filepath.Join(c.layout.Kubelet(), "plugins_registry", "csi.sock"),
	)
}

// csiSnapshotter makes the driver's snapshots. It ends when the driver does.
func (c *Cluster) csiSnapshotter() process.Daemon {
	kubeconfig := c.layout.ComponentKubeconfig("csi")
	return c.base("csi-snapshotter", []string{kubeconfig}, "--kubeconfig="+kubeconfig, "--csi-address="+c.csiSocket())
}

func (c *Cluster) snapshotController() process.Daemon {
	kubeconfig := c.layout.ComponentKubeconfig("csi")
	return c.base("snapshot-controller", []string{kubeconfig}, "--kubeconfig="+kubeconfig)
}
