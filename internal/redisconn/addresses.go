package redisconn

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/redisctl/redisctl/internal/operation"
)

// DefaultPort is Redis's port, assumed for addresses without one.
const DefaultPort = 6379

// Addresses resolves plain addresses into one deployment, without asking anybody:
// one instance per address, in the order given. Further replicas are not
// discovered, because what servers say of each other (pod IPs, container ports) is
// often not reachable from here.
type Addresses struct {
	// Credentials is passed on into the deployment.
	Credentials operation.CredentialSource
}

var _ operation.Resolver = Addresses{}

// Resolve implements operation.Resolver.
func (a Addresses) Resolve(_ context.Context, t operation.Target) (*operation.Deployment, error) {
	instances, err := parseAddresses(t.Addresses)
	if err != nil {
		return nil, &operation.Error{Kind: operation.Usage, Phase: "reading the addresses", Err: err}
	}
	return &operation.Deployment{Name: instances[0].Name, Instances: instances, Credentials: a.Credentials}, nil
}

// List implements operation.Resolver: it returns the one deployment.
func (a Addresses) List(ctx context.Context, t operation.Target) ([]operation.Deployment, error) {
	d, err := a.Resolve(ctx, t)
	if err != nil {
		return nil, err
	}
	return []operation.Deployment{*d}, nil
}

func parseAddresses(addresses []string) ([]operation.Instance, error) {
	if len(addresses) == 0 {
		return nil, errors.New("no address given")
	}
	var instances []operation.Instance
	seen := make(map[string]bool)
	for n, address := range addresses {
		if strings.Contains(address, "://") || strings.Contains(address, "@") {
			// It may hold a password: it is not repeated.
			return nil, fmt.Errorf("address %d: want host:port, not a URL; user and password are given separately", n+1)
		}
		host, port, err := parseAddress(address)
		if err != nil {
			return nil, fmt.Errorf("address %q: %w", address, err)
		}
		name := net.JoinHostPort(host, strconv.Itoa(port))
		if seen[name] {
			return nil, fmt.Errorf("address %q is given twice", name)
		}
		seen[name] = true
		instances = append(instances, operation.Instance{Name: name, Ordinal: -1, Host: host, Port: port})
	}
	return instances, nil
}

// parseAddress reads host, host:port, an IPv6 address, or [IPv6]:port.
func parseAddress(address string) (host string, port int, err error) {
	address = strings.TrimSpace(address)
	bare := strings.TrimSuffix(strings.TrimPrefix(address, "["), "]")
	if net.ParseIP(bare) != nil || !strings.Contains(address, ":") {
		host, port = bare, DefaultPort
	} else {
		var number string
		if host, number, err = net.SplitHostPort(address); err != nil {
			return "", 0, errors.New("want host:port, or [address]:port for IPv6")
		}
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil || n == 0 {
			return "", 0, fmt.Errorf("%q is not a port", number)
		}
		port = int(n)
	}
	if host == "" || strings.ContainsAny(host, "/ []") {
		return "", 0, errors.New("the host is missing or malformed")
	}
	if ip := net.ParseIP(host); ip != nil {
		return ip.String(), port, nil
	}
	return strings.ToLower(host), port, nil
}

// TLSFiles are a user's TLS settings.
type TLSFiles struct {
	// CA is a PEM file with the authorities to trust, the system's when empty.
	CA string
	// Cert and Key are PEM files with the client's certificate, both or none.
	Cert, Key string
	// ServerName is the name that the server's certificate must have, the
	// address's host when empty.
	ServerName string
	// Insecure accepts any certificate.
	Insecure bool
}

// Load reads the files. Its errors are of kind Usage.
func (f TLSFiles) Load() (*tls.Config, error) {
	c := &tls.Config{
		ServerName: f.ServerName, MinVersion: tls.VersionTLS12,
		InsecureSkipVerify: f.Insecure, //nolint:gosec // the user asked for it
	}
	if f.CA != "" {
		text, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, tlsError(err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, tlsError(fmt.Errorf("%s holds no certificate in PEM form", f.CA))
		}
	}
	if f.Cert == "" && f.Key == "" {
		return c, nil
	}
	if f.Cert == "" || f.Key == "" {
		return nil, tlsError(errors.New("a client's certificate and its key are given together"))
	}
	certificate, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, tlsError(fmt.Errorf("%s and %s: %w", f.Cert, f.Key, err))
	}
	c.Certificates = []tls.Certificate{certificate}
	return c, nil
}

func tlsError(err error) error {
	return &operation.Error{Kind: operation.Usage, Phase: "reading the TLS settings", Err: err}
}
