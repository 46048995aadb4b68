package s3

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/redisctl/redisctl/internal/storage"
)

// ErrNoCredentials matches the failure to find any credentials. It comes together
// with storage.ErrDenied.
var ErrNoCredentials = fmt.Errorf("%w: no credentials were found", storage.ErrDenied)

// credentials returns the usual chain: environment, shared credentials file, and
// what a container or a machine of Amazon is given (web identity of a Kubernetes
// service account, ECS, EC2).
func (o Options) credentials() *credentials.Credentials {
	file := &credentials.FileAWSCredentials{
		Filename: cmp.Or(o.env("AWS_SHARED_CREDENTIALS_FILE"), filepath.Join(o.env("HOME"), ".aws", "credentials")),
		Profile:  cmp.Or(o.Profile, o.env("AWS_PROFILE"), "default"),
	}
	if o.Profile != "" {
		return credentials.New(file) // no other identity than the one asked for
	}
	chain := []credentials.Provider{environment{o}, file}
	if o.env("AWS_EC2_METADATA_DISABLED") != "true" {
		chain = append(chain, &credentials.IAM{Client: &http.Client{Timeout: metadataTimeout}, Region: o.Region})
	}
	return credentials.NewChainCredentials(chain)
}

// metadataTimeout bounds the question for credentials: outside of Amazon nobody
// answers it.
const metadataTimeout = 5 * time.Second

// authenticate makes sure that there are credentials. Without any, minio-go would
// send unsigned requests and the server would answer that access is denied.
func (s *Store) authenticate(ctx context.Context) error {
	if s.authenticated.Load() {
		return nil
	}
	value, err := s.creds.GetWithContext(&credentials.CredContext{
		Client: &http.Client{Timeout: metadataTimeout}, Context: ctx,
	})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("%w: profile %q: %w", ErrNoCredentials, s.options.Profile, err)
	case value.AccessKeyID == "" || value.SecretAccessKey == "":
		return fmt.Errorf("%w: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile of the shared credentials file", ErrNoCredentials)
	}
	s.authenticated.Store(true)
	return nil
}

// environment reads the variables of the AWS SDKs.
type environment struct{ options Options }

// Retrieve implements credentials.Provider.
func (e environment) Retrieve() (credentials.Value, error) { return e.RetrieveWithCredContext(nil) }

// RetrieveWithCredContext implements credentials.Provider.
func (e environment) RetrieveWithCredContext(*credentials.CredContext) (credentials.Value, error) {
	return credentials.Value{
		AccessKeyID:     e.options.env("AWS_ACCESS_KEY_ID"),
		SecretAccessKey: e.options.env("AWS_SECRET_ACCESS_KEY"),
		SessionToken:    e.options.env("AWS_SESSION_TOKEN"),
		SignerType:      credentials.SignatureV4,
	}, nil
}

// IsExpired implements credentials.Provider.
func (e environment) IsExpired() bool { return false }
