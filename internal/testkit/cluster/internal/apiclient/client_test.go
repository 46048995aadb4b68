package apiclient

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/pki"
)

// newServer starts a server that wants a client certificate of the same
// authority, as the API server does, and returns a client for it.
func newServer(t *testing.T, handler http.HandlerFunc) *Client {
	t.Helper()
	now := time.Now()
	ca, err := pki.LoadAuthority(t.TempDir(), "ca", now)
	require.NoError(t, err)
	cert, key, err := ca.Issue(pki.Leaf{File: "x", User: "admin", Addresses: []net.IP{net.IPv4(127, 0, 0, 1)}}, now)
	require.NoError(t, err)
	pair, err := tls.LoadX509KeyPair(cert, key)
	require.NoError(t, err)
	authority, err := os.ReadFile(ca.CertFile())
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(authority))
	server := httptest.NewUnstartedServer(handler)
	server.TLS = &tls.Config{
		Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots, MinVersion: tls.VersionTLS12,
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	client, err := New(server.URL, ca.CertFile(), cert, key)
	require.NoError(t, err)
	return client
}

func TestGet(t *testing.T) {
	client := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "admin", r.TLS.PeerCertificates[0].Subject.CommonName)
		_, err := io.WriteString(w, `{"metadata":{"name":"x"}}`)
		assert.NoError(t, err)
	})
	var object struct{ Metadata struct{ Name string } }
	require.NoError(t, client.Get(t.Context(), "/api/v1/nodes/x", &object))
	assert.Equal(t, "x", object.Metadata.Name)
}

func TestApplyIsServerSide(t *testing.T) {
	client := newServer(t, func(_ http.ResponseWriter, r *http.Request) {
		assert.Equal(t, http.MethodPatch, r.Method)
		assert.Equal(t, "application/apply-patch+yaml", r.Header.Get("Content-Type"))
		assert.Equal(t, fieldManager, r.URL.Query().Get("fieldManager"))
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		assert.Equal(t, "kind: X\n", string(body))
	})
	assert.NoError(t, client.Apply(t.Context(), "/apis/x/v1/xs/a", []byte("kind: X\n")))
}

func TestRefusalIsAnError(t *testing.T) {
	client := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "[-]poststarthook failed", http.StatusInternalServerError)
	})
	err := client.Ready(t.Context())
	var status *StatusError
	require.ErrorAs(t, err, &status)
	assert.Equal(t, http.StatusInternalServerError, status.Code)
	assert.ErrorContains(t, err, "poststarthook")
}
