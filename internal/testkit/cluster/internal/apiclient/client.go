// Package apiclient is the few requests the driver makes of the API server. It
// is plain HTTP, so that compiling the driver takes seconds: the official
// client would take longer to compile than the cluster takes to start.
package apiclient

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// fieldManager owns what Apply writes.
const fieldManager = "redisctl-cluster"

// Client talks to one API server. Requests end after ten seconds.
type Client struct {
	base string
	http *http.Client
}

// StatusError is an answer other than success.
type StatusError struct {
	// Path is what was asked for, Code the HTTP status, Body its text.
	Path string
	Code int
	Body string
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s: HTTP %d: %s", e.Path, e.Code, e.Body)
}

// New returns a client for the server at base (https://host:port) that trusts
// the authority in caFile and identifies with the given certificate.
func New(base, caFile, certFile, keyFile string) (*Client, error) {
	ca, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("reading the authority's certificate: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("reading the client certificate: %w", err)
	}
	transport := &http.Transport{
		// Proxy stays unset: the server is on this machine.
		TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12},
	}
	return &Client{base: base, http: &http.Client{Transport: transport, Timeout: 10 * time.Second}}, nil
}

// Ready returns nil when the server says that it is ready to serve.
func (c *Client) Ready(ctx context.Context) error {
	_, err := c.do(ctx, http.MethodGet, "/readyz", "", nil)
	return err
}

// Get decodes the object at an API path into result.
func (c *Client) Get(ctx context.Context, path string, result any) error {
	body, err := c.do(ctx, http.MethodGet, path, "", nil)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, result); err != nil {
		return fmt.Errorf("%s: reading the answer: %w", path, err)
	}
	return nil
}

// Apply makes the object at an API path what the YAML manifest says, by
// server-side apply: the same request creates it and leaves it alone later.
func (c *Client) Apply(ctx context.Context, path string, manifest []byte) error {
	_, err := c.do(ctx, http.MethodPatch, path+"?fieldManager="+fieldManager+"&force=true",
		"application/apply-patch+yaml", manifest)
	return err
}

func (c *Client) do(ctx context.Context, method, path, contentType string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer response.Body.Close() // read to its end below
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("%s: reading the answer: %w", path, err)
	}
	if response.StatusCode >= http.StatusMultipleChoices {
		return nil, &StatusError{Path: path, Code: response.StatusCode, Body: string(answer)}
	}
	return answer, nil
}
