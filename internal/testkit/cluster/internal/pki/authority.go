// Package pki makes the keys and certificates the cluster's components
// identify themselves and each other with.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/atomicfile"
)

const (
	// lifetime of every certificate. The cluster is rebuilt far more often.
	lifetime = 365 * 24 * time.Hour
	// renewal is how long before its end a certificate is replaced.
	renewal = 30 * 24 * time.Hour
	// skew allows for clocks that are set back after the certificate is made.
	skew = time.Hour
)

// ErrPEM is returned when a stored key or certificate cannot be decoded.
var ErrPEM = errors.New("not a PEM file of the expected kind")

// Authority signs certificates.
type Authority struct {
	dir  string
	name string
	cert *x509.Certificate
	key  crypto.Signer
	// fresh says the authority was made just now: whatever an older one of the
	// same name signed is worthless.
	fresh bool
}

// Leaf describes a certificate to be signed.
type Leaf struct {
	// File is the file name without extension.
	File string
	// User is the common name, which the API server takes as the user name.
	User string
	// Groups are the organisations, which the API server takes as groups.
	Groups []string
	// Names and Addresses are what a server certificate is valid for.
	Names     []string
	Addresses []net.IP
}

// LoadAuthority reads the authority called name from dir, or makes and stores
// a new one if there is none or it ends soon.
func LoadAuthority(dir, name string, now time.Time) (*Authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the key folder: %w", err)
	}
	a := &Authority{dir: dir, name: name}
	cert, key, err := readPair(a.CertFile(), a.keyFile())
	if err == nil && now.Add(renewal).Before(cert.NotAfter) {
		a.cert, a.key = cert, key
		return a, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrPEM) {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "redisctl-cluster-" + name},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(lifetime),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, fmt.Errorf("making the key of %s: %w", name, err)
	}
	if a.cert, err = sign(template, template, a.key.Public(), a.key); err != nil {
		return nil, fmt.Errorf("making the certificate of %s: %w", name, err)
	}
	a.fresh = true
	return a, writePair(a.CertFile(), a.keyFile(), a.cert, a.key)
}

// CertFile is the authority's own certificate file.
func (a *Authority) CertFile() string { return filepath.Join(a.dir, a.name+".crt") }

func (a *Authority) keyFile() string { return filepath.Join(a.dir, a.name+".key") }

// Issue makes the certificate leaf describes, unless one for the same subject
// and the same addresses is stored already and does not end soon. It returns
// the files of the certificate and of its key.
func (a *Authority) Issue(leaf Leaf, now time.Time) (certFile, keyFile string, err error) {
	certFile, keyFile = filepath.Join(a.dir, leaf.File+".crt"), filepath.Join(a.dir, leaf.File+".key")
	if old, _, err := readPair(certFile, keyFile); err == nil && !a.fresh && leaf.matches(old) && now.Add(renewal).Before(old.NotAfter) {
		return certFile, keyFile, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", fmt.Errorf("making the key of %s: %w", leaf.File, err)
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: leaf.User, Organization: leaf.Groups},
		NotBefore:   now.Add(-skew),
		NotAfter:    now.Add(lifetime),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		DNSNames:    leaf.Names,
		IPAddresses: leaf.Addresses,
	}
	if len(leaf.Names)+len(leaf.Addresses) > 0 {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	cert, err := sign(template, a.cert, key.Public(), a.key)
	if err != nil {
		return "", "", fmt.Errorf("signing the certificate of %s: %w", leaf.File, err)
	}
	return certFile, keyFile, writePair(certFile, keyFile, cert, key)
}

func (l Leaf) matches(cert *x509.Certificate) bool {
	if cert.Subject.CommonName != l.User || len(cert.Subject.Organization) != len(l.Groups) {
		return false
	}
	for i, g := range l.Groups {
		if cert.Subject.Organization[i] != g {
			return false
		}
	}
	for _, name := range l.Names {
		if cert.VerifyHostname(name) != nil {
			return false
		}
	}
	for _, address := range l.Addresses {
		if cert.VerifyHostname(address.String()) != nil {
			return false
		}
	}
	return true
}

func sign(template, parent *x509.Certificate, public crypto.PublicKey, signer crypto.Signer) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func readPair(certFile, keyFile string) (*x509.Certificate, crypto.Signer, error) {
	certDER, err := readPEM(certFile, "CERTIFICATE")
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(certDER)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w: %w", certFile, ErrPEM, err)
	}
	key, err := readKey(keyFile)
	return cert, key, err
}

func readKey(file string) (crypto.Signer, error) {
	der, err := readPEM(file, "EC PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	key, err := x509.ParseECPrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", file, ErrPEM, err)
	}
	return key, nil
}

func readPEM(file, kind string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("%s: %w", file, ErrPEM)
	}
	return block.Bytes, nil
}

func writePair(certFile, keyFile string, cert *x509.Certificate, key crypto.Signer) error {
	if err := writeKey(keyFile, key); err != nil {
		return err
	}
	return atomicfile.Write(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), 0o644)
}

func writeKey(file string, key crypto.Signer) error {
	private, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return fmt.Errorf("%s: %w", file, ErrPEM)
	}
	der, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		return fmt.Errorf("%s: encoding: %w", file, err)
	}
	return atomicfile.Write(file, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600)
}
