package redisserver

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// newCertificates makes a throw-away authority and signs a certificate for the
// server and one for its clients.
func newCertificates(t testing.TB, dir string) *Certificates {
	t.Helper()
	path := func(name string) string { return filepath.Join(dir, name) }
	c := &Certificates{
		CAFile: path("ca.crt"), CertFile: path("client.crt"), KeyFile: path("client.key"),
		certFile: path("server.crt"), keyFile: path("server.key"),
	}

	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	require.NoError(t, err)
	writePEM(t, c.CAFile, "CERTIFICATE", caDER)

	sign := func(serial int64, name, certFile, keyFile string) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		certificate := &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
			NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
			DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
			KeyUsage:    x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}
		der, err := x509.CreateCertificate(rand.Reader, certificate, ca, key.Public(), caKey)
		require.NoError(t, err)
		writePEM(t, certFile, "CERTIFICATE", der)
		writePEM(t, keyFile, "PRIVATE KEY", marshalKey(t, key))
	}
	sign(2, "server", c.certFile, c.keyFile)
	sign(3, "client", c.CertFile, c.KeyFile)

	pool := x509.NewCertPool()
	text, err := os.ReadFile(c.CAFile)
	require.NoError(t, err)
	require.True(t, pool.AppendCertsFromPEM(text))
	client, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
	require.NoError(t, err)
	c.Client = &tls.Config{
		RootCAs: pool, Certificates: []tls.Certificate{client},
		ServerName: "localhost", MinVersion: tls.VersionTLS12,
	}
	return c
}

func marshalKey(t testing.TB, key crypto.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return der
}

func writePEM(t testing.TB, path, kind string, der []byte) {
	t.Helper()
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	require.NoError(t, os.WriteFile(path, text, 0o600))
}
