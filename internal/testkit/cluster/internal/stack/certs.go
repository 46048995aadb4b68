package stack

import (
	"net"
	"path/filepath"
	"time"

	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/apiclient"
	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/pki"
)

// pair is a certificate's file and its key's.
type pair struct{ Cert, Key string }

// certs are the files the components are configured with.
type certs struct {
	CA              string
	FrontProxyCA    string
	APIServer       pair
	APIServerClient pair // what the API server shows to kubelets and etcd
	FrontProxy      pair
	Loopback        pair // of what listens on the loopback address only
	Kubelet         pair
	Admin           pair
	SAPrivate       string
	SAPublic        string
}

// identities are the components that talk to the API server as clients, with
// the user and groups that its built-in or our own role bindings name.
func identities() map[string]pki.Leaf {
	return map[string]pki.Leaf{
		"kube-controller-manager": {User: "system:kube-controller-manager"},
		"kube-scheduler":          {User: "system:kube-scheduler"},
		"kube-proxy":              {User: "system:kube-proxy"},
		"kubelet":                 {User: "system:node:" + nodeName, Groups: []string{"system:nodes"}},
		"coredns":                 {User: "redisctl-cluster:coredns"},
		"volume-provisioner":      {User: "redisctl-cluster:provisioner"},
		"csi":                     {User: "redisctl-cluster:csi"},
	}
}

// certificates makes what is missing or ends soon, and writes the kubeconfigs.
func (c *Cluster) certificates(now time.Time) (certs, error) {
	dir := c.layout.PKI()
	ca, err := pki.LoadAuthority(dir, "ca", now)
	if err != nil {
		return certs{}, err
	}
	front, err := pki.LoadAuthority(dir, "front-proxy-ca", now)
	if err != nil {
		return certs{}, err
	}
	files := certs{CA: ca.CertFile(), FrontProxyCA: front.CertFile()}
	node := net.IP(c.plan.Node.AsSlice())
	for _, item := range []struct {
		to   *pair
		by   *pki.Authority
		leaf pki.Leaf
	}{
		{&files.APIServer, ca, pki.Leaf{
			File: "apiserver", User: "kube-apiserver",
			Names: []string{
				"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
				"kubernetes.default.svc." + c.plan.DNSDomain,
			},
			Addresses: []net.IP{node, c.plan.APIService().AsSlice(), net.IPv4(127, 0, 0, 1)},
		}},
		{&files.APIServerClient, ca, pki.Leaf{File: "apiserver-client", User: "redisctl-cluster:apiserver"}},
		{&files.FrontProxy, front, pki.Leaf{File: "front-proxy-client", User: "front-proxy-client"}},
		{&files.Loopback, ca, pki.Leaf{
			File: "loopback", User: "redisctl-cluster:loopback", Names: []string{"localhost"}, Addresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		}},
		{&files.Kubelet, ca, pki.Leaf{
			File: "kubelet-server", User: "system:node:" + nodeName, Names: []string{nodeName}, Addresses: []net.IP{node},
		}},
		{&files.Admin, ca, pki.Leaf{File: "admin", User: "redisctl-admin", Groups: []string{"system:masters"}}},
	} {
		if item.to.Cert, item.to.Key, err = item.by.Issue(item.leaf, now); err != nil {
			return certs{}, err
		}
	}
	if files.SAPrivate, files.SAPublic, err = pki.ServiceAccountKeys(dir); err != nil {
		return certs{}, err
	}
	return files, c.kubeconfigs(ca, files, now)
}

// client returns a client that acts as the administrator. It reads the files
// that certificates has made.
func (c *Cluster) client() (*apiclient.Client, error) {
	dir := c.layout.PKI()
	return apiclient.New(c.server(),
		filepath.Join(dir, "ca.crt"), filepath.Join(dir, "admin.crt"), filepath.Join(dir, "admin.key"))
}

func (c *Cluster) kubeconfigs(ca *pki.Authority, files certs, now time.Time) error {
	for name, leaf := range identities() {
		leaf.File = name
		cert, key, err := ca.Issue(leaf, now)
		if err != nil {
			return err
		}
		if err := pki.WriteKubeconfig(c.layout.ComponentKubeconfig(name), name, c.server(), ca, cert, key); err != nil {
			return err
		}
	}
	return pki.WriteKubeconfig(c.layout.Kubeconfig(), contextName, c.server(), ca, files.Admin.Cert, files.Admin.Key)
}
