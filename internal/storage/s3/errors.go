package s3

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/minio/minio-go/v7"

	"github.com/redisctl/redisctl/internal/storage"
)

// ErrNoBucket matches the failure of every operation on a bucket that does not
// exist. redisctl never creates one: its region, versions, retention and
// encryption are the owner's to decide.
var ErrNoBucket = errors.New("the bucket does not exist")

// Codes of errors (Amazon S3 API Reference, "Error responses") that mean something
// to more than one place.
const (
	codeNoSuchKey     = "NoSuchKey"
	codeNoSuchBucket  = "NoSuchBucket"
	codeNoSuchUpload  = "NoSuchUpload"
	codePrecondition  = "PreconditionFailed"
	codeConflict      = "ConditionalRequestConflict"
	codeNotImplement  = "NotImplemented"
	codeClockSkew     = "RequestTimeTooSkewed"
	codeInvalidArg    = "InvalidArgument"
	codeInvalidReq    = "InvalidRequest"
	codeWrongRegion   = "AuthorizationHeaderMalformed"
	codeInvalidRegion = "InvalidRegion"
)

// isCode reports whether the server answered with one of the codes.
func isCode(err error, codes ...string) bool {
	var response minio.ErrorResponse
	return errors.As(err, &response) && slices.Contains(codes, response.Code)
}

func isAbsent(err error) bool {
	var response minio.ErrorResponse
	return errors.As(err, &response) && response.Code == codeNoSuchKey // also for HEAD, whose answer has no code
}

// attempt calls f until it succeeds, fails for good, or has failed as often as the
// options allow.
func (s *Store) attempt(ctx context.Context, f func() error) error {
	for n := 1; ; n++ {
		err := f()
		if err == nil || n >= s.options.Attempts || !s.passing(ctx, err) {
			return err
		}
		if err := s.pause(ctx, n); err != nil {
			return err
		}
	}
}

// pause waits before attempt n+1: a random part of a growing time, so that many
// clients do not come back at once.
func (s *Store) pause(ctx context.Context, n int) error {
	longest := s.options.Backoff * time.Duration(min(20, 1<<min(n-1, 8)))
	timer := time.NewTimer(rand.N(longest) + 1)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// passing reports whether the same request may succeed a moment later: the server
// is overloaded or broken, the data was damaged on its way, the connection broke.
func (s *Store) passing(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	var response minio.ErrorResponse
	if errors.As(err, &response) {
		switch response.Code {
		case "BadDigest", "XAmzContentSHA256Mismatch", "IncompleteBody", "RequestTimeout", "SlowDown",
			"SlowDownRead", "SlowDownWrite", "InternalError", "ServiceUnavailable", "OperationAborted":
			return true
		case codeWrongRegion, codeInvalidRegion:
			return s.options.Region == "" // by now minio-go has learned it from the answer
		}
		switch response.StatusCode {
		case http.StatusNotImplemented, http.StatusInsufficientStorage:
			return false
		case http.StatusRequestTimeout, http.StatusTooManyRequests:
			return true
		default:
			return response.StatusCode >= http.StatusInternalServerError
		}
	}
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &certificate), errors.As(err, &record), errors.Is(err, errReplaced):
		return false
	default:
		return true
	}
}

// explain turns an error of minio-go into one that matches what storage.Store
// promises, says what the server said, and holds no request.
func (s *Store) explain(err error) error {
	var response minio.ErrorResponse
	var request *url.Error
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &response):
		return s.explainResponse(response)
	case errors.As(err, &certificate):
		return fmt.Errorf("the certificate of %s is not trusted: %w", s.host(), certificate.Err)
	case errors.As(err, &request) && strings.HasPrefix(request.Err.Error(), "Connection closed by foreign host"):
		return fmt.Errorf("%s closed the connection without an answer", s.host()) // minio-go's text repeats the URL
	case errors.As(err, &request):
		return fmt.Errorf("%s: %w", s.host(), request.Err) // without the URL, which names an upload
	default:
		return err
	}
}

func (s *Store) host() string { return s.core.EndpointURL().Host }

func (s *Store) explainResponse(r minio.ErrorResponse) error {
	said := printable(r.Error())
	if r.Code != "" && r.Code != said {
		said += " (" + printable(r.Code) + ")"
	}
	switch {
	case r.Code == codeNoSuchBucket:
		return fmt.Errorf("%w on %s", ErrNoBucket, s.host())
	case r.Code == codeClockSkew:
		return fmt.Errorf("%w: the clocks of this machine and of %s differ by more than 15 minutes; requests are signed with the time", storage.ErrDenied, s.host())
	case r.Code == codeNoSuchUpload:
		return errors.New("the unfinished upload is gone: it was swept, or a lifecycle rule of the bucket aborted it")
	case isAbsent(r):
		return fs.ErrNotExist
	case r.Code == codePrecondition, r.StatusCode == http.StatusPreconditionFailed:
		return fs.ErrExist
	case r.StatusCode == http.StatusUnauthorized, r.Code == "XAdminUserNotFound", r.StatusCode == http.StatusForbidden && !isFull(r):
		return fmt.Errorf("%w: %s says: %s", storage.ErrDenied, s.host(), said)
	case isFull(r):
		return fmt.Errorf("%w (%s says: %s)", storage.ErrNoSpace, s.host(), said)
	case r.StatusCode >= http.StatusInternalServerError:
		return fmt.Errorf("%s failed %d times, the last time with HTTP status %d: %s", s.host(), s.options.Attempts, r.StatusCode, said)
	default:
		return fmt.Errorf("%s says: %s", s.host(), said)
	}
}

// isFull knows the words of several servers for a lack of space.
func isFull(r minio.ErrorResponse) bool {
	switch r.Code {
	case "QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientStorage",
		"NoSpaceLeftOnDevice", "InsufficientCapacity":
		return true
	default:
		return r.StatusCode == http.StatusInsufficientStorage
	}
}

// printable makes a server's words fit for a terminal and one line.
func printable(said string) string {
	const most = 300
	said = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(said, "?"))
	if runes := []rune(said); len(runes) > most {
		said = string(runes[:most]) + "..."
	}
	return strings.TrimSpace(said)
}
