package kube

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/api/meta"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/klog/v2"

	"github.com/redisctl/redisctl/internal/operation"
)

// defaultTimeout bounds one request where Options.Timeout is zero.
const defaultTimeout = 10 * time.Second

// Options say which cluster to talk to. The zero value means what kubectl
// means by it: $KUBECONFIG, ~/.kube/config or the pod's service account, the
// current context, and that context's namespace.
type Options struct {
	// Kubeconfig is the path of one file to read instead of $KUBECONFIG and
	// ~/.kube/config.
	Kubeconfig string
	// Context to use instead of the current one.
	Context string
	// Namespace to use instead of the context's.
	Namespace string
	// Workload is the only StatefulSet that is ever looked at. Permission to get it
	// is then enough; otherwise all of the namespace are listed.
	Workload string
	// UserAgent is how the API server's audit log names the program.
	UserAgent string
	// Timeout bounds each request to the API server and each attempt to open a
	// connection into a pod, within whatever bound the caller's context has.
	// Zero means 10 seconds.
	Timeout time.Duration
}

// Client is a connection to one cluster. It is safe for concurrent use. Close
// it to end the connections into pods.
type Client struct {
	clientset kubernetes.Interface
	// dynamic reads and writes custom resources.
	dynamic   dynamic.Interface
	config    *rest.Config
	context   string
	namespace string
	// only is Options.Workload.
	only    string
	timeout time.Duration
	// mapper tells which resource a kind is. It asks the cluster once.
	mapper func() meta.RESTMapper

	// closeIdle ends the API client's idle connections.
	closeIdle func()
	// spdyTransport is made when WebSocket turns out not to work.
	spdyTransport func() (*spdyUpgrade, error)

	mu      sync.Mutex
	tunnels map[tunnelKey]*tunnel
	closed  bool
}

// discardLogs keeps client-go from writing to stderr. klog is one global
// logger per process, and changing it is not safe while it is in use, so it is
// changed once, before the first client exists.
//
//nolint:gochecknoglobals // it guards a global of klog's
var discardLogs = sync.OnceFunc(func() {
	// ContextualLogger makes client-go call the discarding logger directly
	// instead of formatting each message first.
	klog.SetLoggerWithOptions(logr.Discard(), klog.ContextualLogger(true))
})

// Open reads the Kubernetes configuration. It does not use the network: a
// cluster that cannot be reached is reported by the first request. The error
// is of kind operation.Usage when there is no configuration, when it cannot be
// read, or when it has no such context; it then lists the contexts there are.
func Open(options Options) (*Client, error) {
	discardLogs()

	loader := configLoader(options)
	raw, err := loader.RawConfig()
	if err != nil {
		return nil, configError(options, err)
	}
	name := options.Context
	if name == "" {
		name = raw.CurrentContext
	}
	if _, ok := raw.Contexts[name]; !ok && name != "" {
		return nil, unknownContext(options, name, raw)
	}
	config, err := loader.ClientConfig()
	if err != nil {
		return nil, configError(options, err)
	}
	namespace, _, err := loader.Namespace()
	if err != nil {
		return nil, configError(options, err)
	}

	config.UserAgent = options.UserAgent
	if config.UserAgent == "" {
		config.UserAgent = "redisctl"
	}
	// The API server shares itself out fairly (API Priority and Fairness);
	// client-go's own limit of 5 requests a second would make looking at 60
	// pods take 10 seconds.
	config.QPS = -1
	config.WarningHandlerWithContext = rest.NoWarnings{}
	config.WarningHandler = rest.NoWarnings{}

	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, configError(options, err)
	}
	clientset, err := kubernetes.NewForConfigAndClient(config, httpClient)
	if err != nil {
		return nil, configError(options, err)
	}
	resources, err := dynamic.NewForConfigAndClient(config, httpClient)
	if err != nil {
		return nil, configError(options, err)
	}
	client := newClient(clientset, config, namespace, options.Timeout)
	client.dynamic = resources
	client.context = name
	client.only = options.Workload
	client.closeIdle = httpClient.CloseIdleConnections
	return client, nil
}

func newClient(clientset kubernetes.Interface, config *rest.Config, namespace string, timeout time.Duration) *Client {
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	return &Client{
		mapper:    sync.OnceValue(newMapper(clientset)),
		clientset: clientset,
		config:    config,
		namespace: namespace,
		timeout:   timeout,
		spdyTransport: sync.OnceValues(func() (*spdyUpgrade, error) {
			return newSPDYTransport(config)
		}),
		closeIdle: func() {},
		tunnels:   map[tunnelKey]*tunnel{},
	}
}

// Namespace returns the namespace that is used where a Target names none.
func (c *Client) Namespace() string { return c.namespace }

// Context returns the name of the kubeconfig context in use. It is empty for a
// pod's service account.
func (c *Client) Context() string { return c.context }

// RESTConfig returns how the API server is reached, for other clients of the same
// cluster. The copy is the caller's.
func (c *Client) RESTConfig() *rest.Config { return rest.CopyConfig(c.config) }

// Close ends the connections into pods. Connections that Dial returned fail
// from then on.
func (c *Client) Close() error {
	c.mu.Lock()
	tunnels := c.tunnels
	c.tunnels = nil
	c.closed = true
	c.mu.Unlock()

	var group sync.WaitGroup
	for _, t := range tunnels {
		group.Go(t.close)
	}
	group.Wait()
	if transport, err := c.spdyTransport(); err == nil {
		utilnet.CloseIdleConnectionsFor(transport)
	}
	c.closeIdle()
	return nil
}

// bounded gives one request its time limit.
func (c *Client) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, c.timeout)
}

func configLoader(options Options) clientcmd.ClientConfig {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = options.Kubeconfig
	rules.WarnIfAllMissing = false
	overrides := &clientcmd.ConfigOverrides{CurrentContext: options.Context}
	overrides.Context.Namespace = options.Namespace
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides)
}

// sources says where the configuration was looked for.
func sources(options Options) string {
	if options.Kubeconfig != "" {
		return options.Kubeconfig
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	return strings.Join(rules.Precedence, ", ")
}

func configError(options Options, err error) error {
	failure := &operation.Error{Kind: operation.Usage, Object: "kubeconfig " + sources(options), Err: err}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		failure.Err = errors.New("no such file")
	case clientcmd.IsEmptyConfig(err):
		failure.Err = errors.New("no cluster is configured, and this is not a pod with a service account")
	case clientcmd.IsContextNotFound(err) && options.Context == "":
		failure.Err = fmt.Errorf("its current context is broken: %w", err)
	}
	failure.Next = "pass --kubeconfig FILE, or --address HOST:PORT for a Redis outside Kubernetes"
	return failure
}

func unknownContext(options Options, name string, raw clientcmdapi.Config) error {
	candidates := contextNames(raw)
	failure := &operation.Error{
		Kind:   operation.Usage,
		Object: "kubeconfig " + sources(options),
		Err:    fmt.Errorf("there is no context %q; there are: %s", name, strings.Join(candidates, ", ")),
		Next:   "pass --context with one of these",
	}
	if len(candidates) == 0 {
		failure.Err = fmt.Errorf("there is no context %q, nor any other", name)
		failure.Next = "pass --kubeconfig FILE"
	}
	return failure
}

func contextNames(raw clientcmdapi.Config) []string {
	names := make([]string, 0, len(raw.Contexts))
	for name := range raw.Contexts {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
