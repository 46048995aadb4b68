package s3_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/storage"
	"github.com/redisctl/redisctl/internal/storage/s3"
	"github.com/redisctl/redisctl/internal/storage/storagetest"
	"github.com/redisctl/redisctl/internal/testkit/faultproxy"
	"github.com/redisctl/redisctl/internal/testkit/s3server"
)

// interceptor answers a request itself, or returns false to have it forwarded.
type interceptor func(w http.ResponseWriter, r *http.Request, forward http.Handler) bool

func gateway(t *testing.T, server *s3server.Server, intercept interceptor) http.Handler {
	t.Helper()
	target, err := url.Parse(server.URL)
	require.NoError(t, err)
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // it is signed
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !intercept(w, r, forward) {
			forward.ServeHTTP(w, r)
		}
	})
}

// behind returns a store that reaches the server through the interceptor.
func behind(t *testing.T, server *s3server.Server, intercept interceptor) *s3.Store {
	t.Helper()
	proxy := httptest.NewServer(gateway(t, server, intercept))
	t.Cleanup(proxy.Close)
	return open(t, proxy.URL, nil)
}

func refuse(w http.ResponseWriter, status int, code, message string) bool {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Message>%s</Message></Error>", code, message)
	return true
}

// cut breaks the connection without an answer.
func cut(w http.ResponseWriter) bool {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		_ = conn.Close()
	}
	return true
}

func isPart(r *http.Request) bool {
	return r.Method == http.MethodPut && r.URL.Query().Has("partNumber")
}

func isCommit(r *http.Request) bool {
	return r.Method == http.MethodPost && r.URL.Query().Has("uploadId")
}

// large is several parts.
func large() []byte {
	data := make([]byte, 20<<20+17)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	return data
}

func putErr(s *s3.Store, name string, data []byte, o storage.CreateOptions) error {
	w, err := s.Create(context.Background(), name, o)
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write(data); err != nil {
		return err
	}
	return w.Commit(context.Background())
}

// nothingLeft asserts that a failed upload has left neither object nor parts.
func nothingLeft(t *testing.T, server *s3server.Server) {
	t.Helper()
	direct := open(t, server.URL, nil)
	assert.Empty(t, storagetest.Names(t, direct))
	swept, err := direct.Sweep(t.Context(), "", 0)
	require.NoError(t, err)
	assert.Empty(t, swept, "the upload was aborted")
}

func clean(t *testing.T, err error) {
	t.Helper()
	require.Error(t, err)
	assert.NotContains(t, err.Error(), s3server.SecretKey)
	assert.NotContains(t, err.Error(), "Signature=")
	assert.NotContains(t, err.Error(), "\n", "one line")
}

func TestLargeObject(t *testing.T) {
	server := start(t)
	store := open(t, server.URL, nil)
	data := large()
	storagetest.Put(t, store, "dir/large", data, storage.CreateOptions{})
	assert.True(t, bytes.Equal(data, storagetest.Get(t, store, "dir/large")))
	assert.Equal(t, "s3://backups/site-a/redis/dir/large", store.Location("dir/large"))
}

// A server that fails now and then is asked again; the pause and the number of
// attempts are bounded.
func TestServerErrors(t *testing.T) {
	server := start(t)
	for _, status := range []int{http.StatusInternalServerError, http.StatusServiceUnavailable, http.StatusTooManyRequests} {
		var mu sync.Mutex
		asked := make(map[string]int)
		name := fmt.Sprintf("sometimes-%d", status)
		store := behind(t, server, func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
			mu.Lock()
			defer mu.Unlock()
			what := r.Method + r.URL.String()
			asked[what]++
			return asked[what] <= 2 && refuse(w, status, "SlowDown", "Please reduce your request rate.")
		})
		storagetest.Put(t, store, name, []byte("data"), storage.CreateOptions{})
		assert.Equal(t, "data", string(storagetest.Get(t, store, name)))
		assert.Equal(t, []string{name}, storagetest.Names(t, store))
		require.NoError(t, store.Remove(t.Context(), name))
	}

	var n atomic.Int64
	store := behind(t, server, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) bool {
		n.Add(1)
		return refuse(w, http.StatusServiceUnavailable, "ServiceUnavailable", "We are\nout.")
	})
	_, err := store.List(t.Context(), "")
	clean(t, err)
	require.ErrorContains(t, err, "HTTP status 503: We are out. (ServiceUnavailable)")
	assert.Equal(t, int64(5), n.Load(), "attempts")

	n.Store(0)
	store = behind(t, server, func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		return isPart(r) && n.Add(1) > 0 && refuse(w, http.StatusInternalServerError, "InternalError", "Oops.")
	})
	err = putErr(store, "dir/object", large(), storage.CreateOptions{})
	clean(t, err)
	require.ErrorContains(t, err, "s3://backups/site-a/redis/dir/object")
	nothingLeft(t, server)
}

func TestWrongCredentials(t *testing.T) {
	server := start(t)
	store := open(t, server.URL, func(o *s3.Options) {
		o.LookupEnv = func(name string) (string, bool) {
			if name == "AWS_SECRET_ACCESS_KEY" {
				return s3server.SecretKey + "x", true
			}
			return s3server.Environment()(name)
		}
	})
	_, createErr := store.Create(t.Context(), "object", storage.CreateOptions{})
	_, _, openErr := store.Open(t.Context(), "object")
	_, statErr := store.Stat(t.Context(), "object")
	_, listErr := store.List(t.Context(), "")
	_, sweepErr := store.Sweep(t.Context(), "", 0)
	for what, err := range map[string]error{
		"create": createErr, "open": openErr, "stat": statErr, "list": listErr, "sweep": sweepErr,
		"remove": store.Remove(t.Context(), "object"),
	} {
		clean(t, err)
		require.ErrorIs(t, err, storage.ErrDenied, what)
		require.ErrorIs(t, err, fs.ErrPermission, what)
	}
	require.ErrorContains(t, createErr, "SignatureDoesNotMatch")
	nothingLeft(t, server)
}

func TestNoCredentials(t *testing.T) {
	home := t.TempDir()
	env := map[string]string{"HOME": home, "AWS_EC2_METADATA_DISABLED": "true"}
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	none := open(t, "http://127.0.0.1:1", func(o *s3.Options) { o.LookupEnv = lookup })
	_, err := none.List(t.Context(), "")
	clean(t, err)
	require.ErrorIs(t, err, s3.ErrNoCredentials)
	require.ErrorIs(t, err, storage.ErrDenied)

	profile := open(t, "http://127.0.0.1:1", func(o *s3.Options) { o.LookupEnv, o.Profile = lookup, "dr" })
	_, err = profile.List(t.Context(), "")
	require.ErrorIs(t, err, s3.ErrNoCredentials)
	require.ErrorContains(t, err, `"dr"`)
}

func TestSharedCredentialsFile(t *testing.T) {
	server := start(t)
	home := t.TempDir()
	file := filepath.Join(home, ".aws", "credentials")
	require.NoError(t, os.Mkdir(filepath.Dir(file), 0o700))
	text := "[default]\naws_access_key_id = nobody\naws_secret_access_key = nothing\n" +
		"[dr]\naws_access_key_id = " + s3server.AccessKey + "\naws_secret_access_key = " + s3server.SecretKey + "\n"
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	env := map[string]string{"HOME": home, "AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }

	_, err := open(t, server.URL, func(o *s3.Options) { o.LookupEnv = lookup }).List(t.Context(), "")
	require.ErrorIs(t, err, storage.ErrDenied)
	assert.Empty(t, storagetest.Names(t, open(t, server.URL, func(o *s3.Options) { o.LookupEnv, o.Profile = lookup, "dr" })))
	env["AWS_PROFILE"] = "dr"
	assert.Empty(t, storagetest.Names(t, open(t, server.URL, func(o *s3.Options) { o.LookupEnv = lookup })))
}

func TestNoBucket(t *testing.T) {
	server := start(t)
	store := open(t, server.URL, func(o *s3.Options) { o.Bucket = "elsewhere" })
	_, createErr := store.Create(t.Context(), "object", storage.CreateOptions{})
	_, _, openErr := store.Open(t.Context(), "object")
	_, listErr := store.List(t.Context(), "")
	for what, err := range map[string]error{"create": createErr, "open": openErr, "list": listErr} {
		clean(t, err)
		require.ErrorIs(t, err, s3.ErrNoBucket, what)
		require.NotErrorIs(t, err, fs.ErrNotExist, what)
		require.ErrorContains(t, err, "s3://elsewhere", what)
	}
}

func TestClockSkew(t *testing.T) {
	server := start(t)
	var n atomic.Int64
	store := behind(t, server, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) bool {
		n.Add(1)
		return refuse(w, http.StatusForbidden, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.")
	})
	_, err := store.Create(t.Context(), "object", storage.CreateOptions{})
	clean(t, err)
	require.ErrorIs(t, err, storage.ErrDenied)
	require.ErrorContains(t, err, "clocks")
	assert.Equal(t, int64(1), n.Load(), "trying again does not help")
}

func TestNoSpace(t *testing.T) {
	server := start(t)
	for code, status := range map[string]int{"QuotaExceeded": http.StatusForbidden, "XMinioStorageFull": http.StatusInsufficientStorage} {
		store := behind(t, server, func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
			return isPart(r) && refuse(w, status, code, "It is full.")
		})
		err := putErr(store, "object", []byte("data"), storage.CreateOptions{})
		clean(t, err)
		require.ErrorIs(t, err, storage.ErrNoSpace, code)
		require.NotErrorIs(t, err, storage.ErrDenied, code)
	}
	nothingLeft(t, server)
}

// The commit was carried out, and its answer never came.
func TestLostCommitResponse(t *testing.T) {
	server := start(t)
	for name, opts := range map[string]storage.CreateOptions{"create": {}, "overwrite": {Overwrite: true}} {
		var n atomic.Int64
		store := behind(t, server, func(w http.ResponseWriter, r *http.Request, forward http.Handler) bool {
			if !isCommit(r) {
				return false
			}
			n.Add(1)
			answer := httptest.NewRecorder()
			forward.ServeHTTP(answer, r)
			assert.Equal(t, http.StatusOK, answer.Code)
			return cut(w)
		})
		require.NoError(t, putErr(store, name, []byte("data"), opts), name)
		assert.Equal(t, "data", string(storagetest.Get(t, store, name)))
		assert.Equal(t, int64(1), n.Load(), "the object was there: the commit is not repeated")
	}
}

// The commit did not arrive: the same answer, but nothing is there.
func TestLostCommitRequest(t *testing.T) {
	server := start(t)
	var n atomic.Int64
	store := behind(t, server, func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		return isCommit(r) && n.Add(1) < 3 && cut(w)
	})
	require.NoError(t, putErr(store, "later", []byte("data"), storage.CreateOptions{}))
	assert.Equal(t, "data", string(storagetest.Get(t, store, "later")))
	require.NoError(t, store.Remove(t.Context(), "later"))

	store = behind(t, server, func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		return isCommit(r) && cut(w)
	})
	clean(t, putErr(store, "never", []byte("data"), storage.CreateOptions{}))
	nothingLeft(t, server)
}

// The answer is lost, and the name is somebody else's: that is no success.
func TestLostCommitToAnother(t *testing.T) {
	server := start(t)
	direct := open(t, server.URL, nil)
	store := behind(t, server, func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if !isCommit(r) {
			return false
		}
		// Of the same size: only the token tells the two apart.
		_ = putErr(direct, "object", []byte("THEM"), storage.CreateOptions{Overwrite: true})
		return cut(w)
	})
	err := putErr(store, "object", []byte("mine"), storage.CreateOptions{})
	clean(t, err)
	require.ErrorIs(t, err, fs.ErrExist)
	assert.Equal(t, "THEM", string(storagetest.Get(t, direct, "object")))
}

// A bit that flips on the way is noticed by the server, and the part sent again.
func TestDamagedPart(t *testing.T) {
	server := start(t)
	var n atomic.Int64
	damage := func(limit int64) *s3.Store {
		n.Store(0)
		return behind(t, server, func(_ http.ResponseWriter, r *http.Request, _ http.Handler) bool {
			if isPart(r) && n.Add(1) <= limit {
				body, err := io.ReadAll(r.Body)
				assert.NoError(t, err)
				body[len(body)/2] ^= 1
				r.Body = io.NopCloser(bytes.NewReader(body))
			}
			return false
		})
	}
	clean(t, putErr(damage(1000), "never", []byte("data"), storage.CreateOptions{}))
	nothingLeft(t, server)
	store := damage(1)
	require.NoError(t, putErr(store, "object", []byte("data"), storage.CreateOptions{}))
	assert.Equal(t, "data", string(storagetest.Get(t, store, "object")))
	assert.Equal(t, int64(2), n.Load())
}

// Servers of the time before conditional writes.
func TestWithoutConditions(t *testing.T) {
	server := start(t)
	var refused atomic.Int64
	store := behind(t, server, func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if r.Header.Get("If-None-Match") == "" {
			return false
		}
		refused.Add(1)
		return refuse(w, http.StatusNotImplemented, "NotImplemented", "A header you provided implies functionality that is not implemented.")
	})
	early, err := store.Create(t.Context(), "object", storage.CreateOptions{})
	require.NoError(t, err)
	defer early.Abort()
	storagetest.Put(t, store, "object", []byte("first"), storage.CreateOptions{})
	require.ErrorIs(t, early.Commit(t.Context()), fs.ErrExist, "it looks before it commits")
	assert.Equal(t, "first", string(storagetest.Get(t, store, "object")))
	assert.Equal(t, int64(1), refused.Load(), "the server is asked once")
}

// Servers that know no additional checksums compare Content-MD5.
func TestWithoutChecksums(t *testing.T) {
	server := start(t)
	var digests atomic.Int64
	store := behind(t, server, func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		for name := range r.Header {
			if strings.HasPrefix(name, "X-Amz-Checksum-") || name == "X-Amz-Sdk-Checksum-Algorithm" {
				return refuse(w, http.StatusBadRequest, "InvalidArgument", "Unsupported header.")
			}
		}
		if r.Header.Get("Content-Md5") != "" {
			digests.Add(1)
		}
		return false
	})
	data := large()
	storagetest.Put(t, store, "object", data, storage.CreateOptions{})
	assert.True(t, bytes.Equal(data, storagetest.Get(t, store, "object")))
	assert.Equal(t, int64(5), digests.Load(), "one for each part")
}

// The connection breaks again and again: reading goes on where it stopped.
func TestCutWhileReading(t *testing.T) {
	server := start(t)
	data := large()
	storagetest.Put(t, open(t, server.URL, nil), "object", data, storage.CreateOptions{})
	for _, action := range []faultproxy.Action{faultproxy.FIN, faultproxy.RST} {
		proxy := faultproxy.Start(t, server.Address, faultproxy.Options{
			ToClient: faultproxy.Faults{Action: action, After: 3 << 20},
		})
		store := open(t, "http://"+proxy.Addr, nil)
		assert.True(t, bytes.Equal(data, storagetest.Get(t, store, "object")))
		assert.GreaterOrEqual(t, proxy.Faults(), int64(6))
	}
}

// Resuming never mixes two versions.
func TestReplacedWhileReading(t *testing.T) {
	server := start(t)
	direct := open(t, server.URL, nil)
	storagetest.Put(t, direct, "object", large(), storage.CreateOptions{})
	proxy := faultproxy.Start(t, server.Address, faultproxy.Options{
		ToClient: faultproxy.Faults{Action: faultproxy.RST, After: 12 << 20},
	})
	r, _, err := open(t, "http://"+proxy.Addr, nil).Open(t.Context(), "object")
	require.NoError(t, err)
	defer r.Close()
	_, err = io.ReadFull(r, make([]byte, 10))
	require.NoError(t, err)
	changed := large()
	changed[0]++
	storagetest.Put(t, direct, "object", changed, storage.CreateOptions{Overwrite: true})
	_, err = io.Copy(io.Discard, r)
	clean(t, err)
	require.ErrorContains(t, err, "replaced")
}

func TestCutWhileWriting(t *testing.T) {
	server := start(t)
	data := large()
	// The first part breaks off.
	proxy := faultproxy.Start(t, server.Address, faultproxy.Options{
		ToServer: faultproxy.Faults{Action: faultproxy.RST, After: 4 << 20},
	})
	go func() {
		<-proxy.Fired()
		proxy.Set(faultproxy.Options{})
	}()
	store := open(t, "http://"+proxy.Addr, nil)
	storagetest.Put(t, store, "object", data, storage.CreateOptions{})
	assert.True(t, bytes.Equal(data, storagetest.Get(t, store, "object")))
	assert.True(t, proxy.HasFired())
	require.NoError(t, store.Remove(t.Context(), "object"))

	// No part ever arrives.
	proxy.Set(faultproxy.Options{ToServer: faultproxy.Faults{Action: faultproxy.RST, After: 4 << 20}})
	store = open(t, "http://"+proxy.Addr, nil)
	clean(t, putErr(store, "object", data, storage.CreateOptions{}))
	nothingLeft(t, server)
}

// A server that falls silent is given up, in either direction.
func TestStall(t *testing.T) {
	server := start(t)
	data := large()
	direct := open(t, server.URL, nil)
	storagetest.Put(t, direct, "object", data, storage.CreateOptions{})
	impatient := func(o *s3.Options) { o.Stall, o.Attempts = 200*time.Millisecond, 2 }

	proxy := faultproxy.Start(t, server.Address, faultproxy.Options{
		ToClient: faultproxy.Faults{Action: faultproxy.Stall, After: 1 << 20},
	})
	r, _, err := open(t, "http://"+proxy.Addr, impatient).Open(t.Context(), "object")
	require.NoError(t, err)
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	require.NoError(t, err, "each attempt brings a mebibyte")

	proxy.Set(faultproxy.Options{ToClient: faultproxy.Faults{Action: faultproxy.Stall}})
	_, err = open(t, "http://"+proxy.Addr, impatient).List(t.Context(), "")
	clean(t, err)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	proxy.Set(faultproxy.Options{ToServer: faultproxy.Faults{Action: faultproxy.Stall, After: 1 << 20}})
	err = putErr(open(t, "http://"+proxy.Addr, impatient), "other", data, storage.CreateOptions{})
	clean(t, err)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestVirtualHostAddressing(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a real S3 server")
	}
	server := s3server.Start(t, s3server.Options{Domain: "s3.test"})
	server.Bucket(bucket)
	_, port, err := net.SplitHostPort(server.Address)
	require.NoError(t, err)
	hosts := make(chan string, 100)
	store := open(t, "http://"+net.JoinHostPort("s3.test", port), func(o *s3.Options) {
		o.Addressing = s3.AddressingVirtual
		o.SetDial(func(ctx context.Context, network, address string) (net.Conn, error) {
			hosts <- address
			return new(net.Dialer).DialContext(ctx, network, server.Address)
		})
	})
	storagetest.Put(t, store, "dir/object", []byte("data"), storage.CreateOptions{})
	assert.Equal(t, "data", string(storagetest.Get(t, store, "dir/object")))
	assert.Equal(t, []string{"dir/object"}, storagetest.Names(t, store))
	assert.Equal(t, net.JoinHostPort("backups.s3.test", port), <-hosts)
}

func TestCustomAuthority(t *testing.T) {
	server := start(t)
	proxy := httptest.NewTLSServer(gateway(t, server, func(http.ResponseWriter, *http.Request, http.Handler) bool { return false }))
	t.Cleanup(proxy.Close)
	proxy.Config.ErrorLog = nil
	file := filepath.Join(t.TempDir(), "ca.pem")
	block := &pem.Block{Type: "CERTIFICATE", Bytes: proxy.Certificate().Raw}
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(block), 0o600))

	store := open(t, proxy.URL, func(o *s3.Options) { o.CAFile = file })
	storagetest.Put(t, store, "object", []byte("data"), storage.CreateOptions{})
	assert.Equal(t, "data", string(storagetest.Get(t, store, "object")))

	_, err := open(t, proxy.URL, nil).List(t.Context(), "")
	clean(t, err)
	require.ErrorContains(t, err, "is not trusted")
}

// Objects of other programs are not ours to list.
func TestForeignObjects(t *testing.T) {
	server := start(t)
	outer := open(t, server.URL, func(o *s3.Options) { o.Prefix = "" })
	for _, name := range []string{"site-a/redis-other", "site-a/redis/object", "site-b/object"} {
		storagetest.Put(t, outer, name, []byte("data"), storage.CreateOptions{})
	}
	assert.Equal(t, []string{"object"}, storagetest.Names(t, open(t, server.URL, nil)))
	assert.Len(t, storagetest.Names(t, outer), 3)
}

// An upload that began long ago and still gets parts is alive.
func TestSweepSparesWhatIsWrittenTo(t *testing.T) {
	server := start(t)
	initiated := regexp.MustCompile(`<Initiated>[^<]*</Initiated>`)
	store := behind(t, server, func(w http.ResponseWriter, r *http.Request, forward http.Handler) bool {
		if r.Method != http.MethodGet || !r.URL.Query().Has("uploads") {
			return false
		}
		answer := httptest.NewRecorder()
		forward.ServeHTTP(answer, r)
		_, _ = w.Write(initiated.ReplaceAll(answer.Body.Bytes(), []byte("<Initiated>2020-01-01T00:00:00Z</Initiated>")))
		return true
	})
	idle, err := store.Create(t.Context(), "idle", storage.CreateOptions{})
	require.NoError(t, err)
	defer idle.Abort()
	busy, err := store.Create(t.Context(), "busy", storage.CreateOptions{})
	require.NoError(t, err)
	defer busy.Abort()
	data := large()
	_, err = busy.Write(data)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		parts, err := store.Parts(t.Context(), "busy")
		return err == nil && parts > 0
	}, 10*time.Second, 10*time.Millisecond)

	swept, err := store.Sweep(t.Context(), "", time.Hour)
	require.NoError(t, err)
	assert.Equal(t, []string{"idle"}, swept)
	require.NoError(t, busy.Commit(t.Context()))
	assert.True(t, bytes.Equal(data, storagetest.Get(t, store, "busy")))
	require.ErrorContains(t, idle.Commit(t.Context()), "swept")
}
