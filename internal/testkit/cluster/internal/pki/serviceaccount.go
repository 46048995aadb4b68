package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"

	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/atomicfile"
)

// ServiceAccountKeys returns the files of the key pair that signs and verifies
// service account tokens, making the pair if it is not in dir. It must outlive
// certificates: tokens in running pods stay valid only under the same key.
func ServiceAccountKeys(dir string) (private, public string, err error) {
	private, public = filepath.Join(dir, "service-account.key"), filepath.Join(dir, "service-account.pub")
	if _, err := readKey(private); err == nil {
		if _, err := os.Stat(public); err == nil {
			return private, public, nil
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", fmt.Errorf("making the service account key: %w", err)
	}
	if err := writeKey(private, key); err != nil {
		return "", "", err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return "", "", fmt.Errorf("encoding the service account key: %w", err)
	}
	return private, public, atomicfile.Write(public, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o644)
}
