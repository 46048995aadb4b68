package pki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func read(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	return text
}

func TestIssuedCertificateIsTrusted(t *testing.T) {
	now := time.Now()
	ca, err := LoadAuthority(t.TempDir(), "ca", now)
	require.NoError(t, err)
	cert, key, err := ca.Issue(Leaf{
		File: "server", User: "kube-apiserver", Groups: []string{"g"},
		Names: []string{"kubernetes"}, Addresses: []net.IP{net.IPv4(10, 0, 0, 1)},
	}, now)
	require.NoError(t, err)
	pair, err := tls.LoadX509KeyPair(cert, key)
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(read(t, ca.CertFile())))
	for _, name := range []string{"kubernetes", "10.0.0.1"} {
		_, err = pair.Leaf.Verify(x509.VerifyOptions{
			Roots: roots, DNSName: name, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		})
		assert.NoError(t, err, name)
	}
	assert.Equal(t, "kube-apiserver", pair.Leaf.Subject.CommonName)
	assert.Equal(t, []string{"g"}, pair.Leaf.Subject.Organization)
	info, err := os.Stat(key)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

func TestCertificatesAreKeptUntilTheyNoLongerFit(t *testing.T) {
	now := time.Now()
	leaf := Leaf{File: "x", User: "u", Addresses: []net.IP{net.IPv4(10, 0, 0, 1)}}
	for name, test := range map[string]struct {
		change func(l *Leaf, at *time.Time)
		kept   bool
	}{
		"nothing changed":   {func(*Leaf, *time.Time) {}, true},
		"a month later":     {func(_ *Leaf, at *time.Time) { *at = at.Add(31 * 24 * time.Hour) }, true},
		"soon to end":       {func(_ *Leaf, at *time.Time) { *at = at.Add(340 * 24 * time.Hour) }, false},
		"another address":   {func(l *Leaf, _ *time.Time) { l.Addresses = []net.IP{net.IPv4(10, 0, 0, 2)} }, false},
		"another user":      {func(l *Leaf, _ *time.Time) { l.User = "v" }, false},
		"another group":     {func(l *Leaf, _ *time.Time) { l.Groups = []string{"g"} }, false},
		"one name more":     {func(l *Leaf, _ *time.Time) { l.Names = []string{"n"} }, false},
		"damaged meanwhile": {func(*Leaf, *time.Time) {}, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			ca, err := LoadAuthority(dir, "ca", now)
			require.NoError(t, err)
			cert, _, err := ca.Issue(leaf, now)
			require.NoError(t, err)
			if name == "damaged meanwhile" {
				require.NoError(t, os.WriteFile(cert, []byte("?"), 0o600))
			}
			before := read(t, cert)
			changed, at := leaf, now
			test.change(&changed, &at)
			ca, err = LoadAuthority(dir, "ca", at)
			require.NoError(t, err)
			_, _, err = ca.Issue(changed, at)
			require.NoError(t, err)
			assert.Equal(t, test.kept, bytes.Equal(before, read(t, cert)))
		})
	}
}

func TestServiceAccountKeysAreKept(t *testing.T) {
	dir := t.TempDir()
	private, public, err := ServiceAccountKeys(dir)
	require.NoError(t, err)
	first := read(t, private)
	_, _, err = ServiceAccountKeys(dir)
	require.NoError(t, err)
	assert.Equal(t, first, read(t, private))
	assert.Contains(t, string(read(t, public)), "PUBLIC KEY")
}

func TestKubeconfig(t *testing.T) {
	now, dir := time.Now(), t.TempDir()
	ca, err := LoadAuthority(dir, "ca", now)
	require.NoError(t, err)
	cert, key, err := ca.Issue(Leaf{File: "admin", User: "admin"}, now)
	require.NoError(t, err)
	file := filepath.Join(dir, "kubeconfig")
	require.NoError(t, WriteKubeconfig(file, "local", "https://10.0.0.1:6443", ca, cert, key))
	var config struct {
		CurrentContext string `json:"current-context"`
		Clusters       []struct {
			Cluster struct {
				Server string
				CA     string `json:"certificate-authority-data"`
			}
		}
	}
	require.NoError(t, json.Unmarshal(read(t, file), &config))
	assert.Equal(t, "local", config.CurrentContext)
	require.Len(t, config.Clusters, 1)
	assert.Equal(t, "https://10.0.0.1:6443", config.Clusters[0].Cluster.Server)
	decoded, err := base64.StdEncoding.DecodeString(config.Clusters[0].Cluster.CA)
	require.NoError(t, err)
	assert.Equal(t, read(t, ca.CertFile()), decoded)
	info, err := os.Stat(file)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}
