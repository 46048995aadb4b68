package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

// connectTimeout bounds connecting, and apart from it the TLS handshake.
const connectTimeout = 10 * time.Second

// newTransport returns a transport that gives up connections which carry nothing.
func newTransport(o Options) (*http.Transport, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("certificate authorities for S3: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("certificate authorities for S3: %s holds no certificate (PEM)", o.CAFile)
		}
	}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := o.dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &liveConn{Conn: conn, stall: o.Stall}, nil
		},
		TLSClientConfig:     config,
		TLSHandshakeTimeout: connectTimeout,
		MaxIdleConnsPerHost: 8,    // manifests are read eight at a time
		DisableCompression:  true, // a stored .gz would arrive unpacked
	}, nil
}

// liveConn fails when nothing passes in either direction for stall. A large
// request keeps its read alive by being written, and the other way round.
type liveConn struct {
	net.Conn
	stall time.Duration
}

// Read implements net.Conn.
func (c *liveConn) Read(p []byte) (int, error) {
	return c.live(c.Conn.Read(c.extend(p)))
}

// Write implements net.Conn. It writes in pieces, each of which is a sign of life.
func (c *liveConn) Write(p []byte) (written int, err error) {
	const piece = 64 << 10
	for len(p) > 0 && err == nil {
		var n int
		n, err = c.live(c.Conn.Write(c.extend(p[:min(piece, len(p))])))
		written += n
		p = p[n:]
	}
	return written, err
}

// extend passes p through, so that the deadline is set first.
func (c *liveConn) extend(p []byte) []byte {
	_ = c.SetDeadline(time.Now().Add(c.stall)) // fails only on a closed connection, which says so itself
	return p
}

func (c *liveConn) live(n int, err error) (int, error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = stallError(c.stall)
	}
	return n, err
}

// stallError says that a connection carried nothing for this long. It matches
// context.DeadlineExceeded, as every error about time.
type stallError time.Duration

func (e stallError) Error() string {
	return fmt.Sprintf("the connection carried nothing for %s", time.Duration(e))
}

// Is implements the interface of errors.Is.
func (e stallError) Is(target error) bool { return target == context.DeadlineExceeded }
