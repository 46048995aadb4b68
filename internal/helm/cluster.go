package helm

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	helmkube "helm.sh/helm/v4/pkg/kube"
	"helm.sh/helm/v4/pkg/storage/driver"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// connect prepares one call's way to the cluster.
func connect(ctx context.Context, config *rest.Config, namespace string, timeout time.Duration) (backend, error) {
	bind := func(finishWrites bool) *rest.Config {
		bound := rest.CopyConfig(config)
		bound.Wrap(func(next http.RoundTripper) http.RoundTripper {
			return &bounded{next: next, caller: ctx, limit: timeout, finishWrites: finishWrites}
		})
		return bound
	}
	records, err := kubernetes.NewForConfig(bind(true))
	if err != nil {
		return backend{}, fmt.Errorf("preparing a client: %w", err)
	}
	secrets := driver.NewSecrets(records.CoreV1().Secrets(namespace))
	secrets.SetLogger(slog.DiscardHandler)

	way, err := newGetter(bind(false), namespace)
	if err != nil {
		return backend{}, err
	}
	objects := helmkube.New(way)
	objects.Namespace = namespace
	objects.SetLogger(slog.DiscardHandler)
	return backend{objects: objects, records: secrets, getter: way}, nil
}

// bounded bounds each request by a time limit, and ends it when the caller's context
// ends. The SDK passes context.Background.
type bounded struct {
	next   http.RoundTripper
	caller context.Context
	limit  time.Duration
	// finishWrites lets requests that change something go on when the caller gives up.
	finishWrites bool
}

// RoundTrip implements http.RoundTripper.
func (b *bounded) RoundTrip(request *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(request.Context())
	detach := func() bool { return true }
	if !b.finishWrites || request.Method == http.MethodGet {
		//nolint:contextcheck // the caller's context ends the request's
		detach = context.AfterFunc(b.caller, func() { cancel(context.Cause(b.caller)) })
	}
	limit := time.AfterFunc(b.limit, func() { cancel(context.DeadlineExceeded) })
	done := func() {
		limit.Stop()
		detach()
		cancel(nil)
	}
	response, err := b.next.RoundTrip(request.WithContext(ctx))
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		done()
		return nil, err
	}
	if request.URL.Query().Get("watch") != "" {
		limit.Stop() // until the caller has seen enough
	}
	response.Body = &boundedBody{ReadCloser: response.Body, done: done}
	return response, nil
}

// WrappedRoundTripper lets client-go find the transport below.
func (b *bounded) WrappedRoundTripper() http.RoundTripper { return b.next }

// boundedBody ends the request's bounds when it has been read.
type boundedBody struct {
	io.ReadCloser
	done func()
}

// Close implements io.Closer.
func (b *boundedBody) Close() error {
	defer b.done()
	return b.ReadCloser.Close()
}

// getter is a genericclioptions.RESTClientGetter, which is how the SDK asks for a
// cluster, that keeps what it discovers for one call, and nothing on disk.
type getter struct {
	config    *rest.Config
	namespace string
	discovery discovery.CachedDiscoveryInterface
	mapper    meta.RESTMapper
}

func newGetter(config *rest.Config, namespace string) (*getter, error) {
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("preparing discovery: %w", err)
	}
	cached := memory.NewMemCacheClient(client)
	return &getter{
		config: config, namespace: namespace, discovery: cached,
		mapper: restmapper.NewDeferredDiscoveryRESTMapper(cached),
	}, nil
}

// ToRESTConfig returns a copy, because the SDK changes what it gets.
func (g *getter) ToRESTConfig() (*rest.Config, error) { return rest.CopyConfig(g.config), nil }

// ToDiscoveryClient returns what the cluster offers.
func (g *getter) ToDiscoveryClient() (discovery.CachedDiscoveryInterface, error) {
	return g.discovery, nil
}

// ToRESTMapper tells resources by their kinds.
func (g *getter) ToRESTMapper() (meta.RESTMapper, error) { return g.mapper, nil }

// ToRawKubeConfigLoader knows the namespace only: the SDK asks for nothing else.
func (g *getter) ToRawKubeConfigLoader() clientcmd.ClientConfig {
	overrides := &clientcmd.ConfigOverrides{Context: clientcmdapi.Context{Namespace: g.namespace}}
	return clientcmd.NewDefaultClientConfig(*clientcmdapi.NewConfig(), overrides)
}
