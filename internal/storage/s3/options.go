package s3

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/redisctl/redisctl/internal/storage"
)

// Options say where a store is and how it is reached. Only Bucket is required.
type Options struct {
	// Bucket is its name, Prefix the folder in it: slash-separated, without slashes
	// at its ends; empty for the whole bucket.
	Bucket, Prefix string
	// Endpoint is the server's URL without a path: "https://minio.example:9000". A
	// host without a scheme means https. Empty means Amazon S3.
	Endpoint string
	// Region that requests are signed for. When empty the server is asked.
	Region string
	// Profile of the shared credentials file. When set, credentials come from there
	// and from nowhere else.
	Profile string
	// CAFile is a file with certificate authorities (PEM) to trust instead of those
	// of the system.
	CAFile string
	// Addressing is how a bucket is named in a request.
	Addressing Addressing
	// UserAgent is "name/version".
	UserAgent string
	// LookupEnv is os.LookupEnv, or what a test puts in its place. nil means that
	// there are no variables.
	LookupEnv func(string) (string, bool)

	// Attempts is how often a request is sent before its failure counts, 5 if 0.
	Attempts int
	// Backoff is the longest pause before the second attempt; it doubles with each
	// further one up to 20 times its length. 250 ms if 0.
	Backoff time.Duration
	// Stall is how long a connection may carry nothing in either direction while a
	// request is under way, 30 s if 0.
	Stall time.Duration

	// dial is that of a net.Dialer, or what a test puts in its place.
	dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Addressing is how a bucket is named in a request.
type Addressing string

// The forms of addressing.
const (
	// AddressingAuto is virtual for Amazon, Google and Alibaba, otherwise path.
	AddressingAuto Addressing = "auto"
	// AddressingPath is https://host/bucket/key.
	AddressingPath Addressing = "path"
	// AddressingVirtual is https://bucket.host/key.
	AddressingVirtual Addressing = "virtual"
)

// Addressings lists the forms, the default one first.
func Addressings() []string {
	return []string{string(AddressingAuto), string(AddressingPath), string(AddressingVirtual)}
}

func (a Addressing) lookup() minio.BucketLookupType {
	switch a {
	case AddressingPath:
		return minio.BucketLookupPath
	case AddressingVirtual:
		return minio.BucketLookupDNS
	default:
		return minio.BucketLookupAuto
	}
}

// Scheme begins the URLs that Parse accepts.
const Scheme = "s3://"

// Parse returns defaults with what the URL s3://bucket/prefix says. The query may
// set endpoint, region, profile, ca and addressing for this store alone. A URL
// with a user or a password is refused: it would be in the shell's history.
func Parse(raw string, defaults Options) (Options, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		// Its text repeats the URL, and with it what should not be there.
		return defaults, errors.New("an S3 location that is not a URL: write s3://bucket/prefix")
	case u.User != nil:
		return defaults, errors.New("an S3 URL must not hold credentials: they come from the environment or the shared credentials file")
	case u.Scheme != "s3" || u.Host == "" || u.Fragment != "":
		return defaults, fmt.Errorf("%q is not an S3 location: write s3://bucket/prefix", raw)
	}
	o := defaults
	o.Bucket, o.Prefix = u.Host, strings.Trim(u.Path, "/")
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return defaults, fmt.Errorf("%q: %w", raw, err)
	}
	for name, values := range query {
		field, ok := map[string]*string{
			"endpoint": &o.Endpoint, "region": &o.Region, "profile": &o.Profile, "ca": &o.CAFile,
			"addressing": (*string)(&o.Addressing),
		}[name]
		if !ok || len(values) != 1 {
			return defaults, fmt.Errorf("%q: after the question mark come endpoint, region, profile, ca and addressing, each once", raw)
		}
		*field = values[0]
	}
	_, err = o.complete()
	return o, err
}

// bucketName is what S3 allows, and the underscores and capitals of old buckets
// and other servers.
var bucketName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]$`)

// complete checks the options and fills in what is not set.
func (o Options) complete() (Options, error) {
	if !bucketName.MatchString(o.Bucket) {
		return o, fmt.Errorf("%q is not a bucket's name", o.Bucket)
	}
	if o.Prefix != "" && (storage.CheckName(o.Prefix) != nil || path.Clean(o.Prefix) != o.Prefix) {
		return o, fmt.Errorf("%q is not a folder of a bucket", o.Prefix)
	}
	o.Addressing = cmp.Or(o.Addressing, AddressingAuto)
	switch o.Addressing {
	case AddressingAuto, AddressingPath, AddressingVirtual:
	default:
		return o, fmt.Errorf("S3 addressing %q: choose %s", o.Addressing, strings.Join(Addressings(), ", "))
	}
	if o.LookupEnv == nil {
		o.LookupEnv = func(string) (string, bool) { return "", false }
	}
	o.Endpoint = cmp.Or(o.Endpoint, o.env("AWS_ENDPOINT_URL_S3"), o.env("AWS_ENDPOINT_URL"))
	o.Region = cmp.Or(o.Region, o.env("AWS_REGION"), o.env("AWS_DEFAULT_REGION"))
	o.CAFile = cmp.Or(o.CAFile, o.env("AWS_CA_BUNDLE"))
	o.Attempts = cmp.Or(o.Attempts, 5)
	o.Backoff = cmp.Or(o.Backoff, 250*time.Millisecond)
	o.Stall = cmp.Or(o.Stall, 30*time.Second)
	if o.dial == nil {
		o.dial = (&net.Dialer{Timeout: connectTimeout}).DialContext
	}
	_, err := o.endpoint()
	return o, err
}

func (o Options) env(name string) string {
	value, _ := o.LookupEnv(name)
	return value
}

// amazon chooses the regional host by itself.
const amazon = "https://s3.amazonaws.com"

func (o Options) endpoint() (*url.URL, error) {
	raw := cmp.Or(o.Endpoint, amazon)
	if !strings.Contains(raw, "://") {
		raw = "https://" + raw
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, errors.New("the S3 endpoint is not a URL")
	case u.User != nil:
		return nil, errors.New("the S3 endpoint must not hold credentials")
	case u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("S3 endpoint %q: write https://host or https://host:port", o.Endpoint)
	}
	return u, nil
}
