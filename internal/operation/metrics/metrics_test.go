package metrics_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/metrics"
	"github.com/redisctl/redisctl/internal/operation/operationtest"
)

// dialer leads to one server, or nowhere.
type dialer struct {
	address string
	err     error
}

func (d dialer) DialPort(ctx context.Context, _ *operation.Deployment, _ operation.Instance, _ int) (net.Conn, error) {
	if d.err != nil {
		return nil, d.err
	}
	var n net.Dialer
	return n.DialContext(ctx, "tcp", d.address)
}

func exporter(t *testing.T, status int, text string) dialer {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "/metrics", r.URL.Path)
		w.WriteHeader(status)
		_, err := w.Write([]byte(text))
		assert.NoError(t, err)
	}))
	t.Cleanup(server.Close)
	return dialer{address: server.Listener.Addr().String()}
}

const page = `# HELP redis_up Information about the Redis instance
# TYPE redis_up gauge
redis_up 1
# TYPE redis_commands_total counter
redis_commands_total{cmd="get"} 12
redis_commands_total{cmd="set"} 3
# TYPE redis_ratio gauge
redis_ratio NaN
`

func TestRead(t *testing.T) {
	d := operationtest.Deployment(1)
	answers := metrics.Read(t.Context(), exporter(t, http.StatusOK, page), d, metrics.Options{Port: metrics.Port, Timeout: 5 * time.Second})
	require.NoError(t, answers[0].Err)
	got := answers[0].Value
	assert.Equal(t, strings.TrimSuffix(page, "\n"), got.Text, "what the exporter said, as it said it")
	require.Len(t, got.Families, 3)
	assert.Equal(t, metrics.Family{
		Name: "redis_up", Help: "Information about the Redis instance", Type: "gauge",
		Samples: []metrics.Sample{{Name: "redis_up", Labels: map[string]string{}, Value: "1"}},
	}, got.Families[0])
	assert.Equal(t, []metrics.Sample{
		{Name: "redis_commands_total", Labels: map[string]string{"cmd": "get"}, Value: "12"},
		{Name: "redis_commands_total", Labels: map[string]string{"cmd": "set"}, Value: "3"},
	}, got.Families[1].Samples)
	assert.Equal(t, "NaN", got.Families[2].Samples[0].Value)

	answers = metrics.Read(t.Context(), exporter(t, http.StatusOK, page), d, metrics.Options{
		Port: metrics.Port, Timeout: 5 * time.Second, Grep: regexp.MustCompile("_up$"),
	})
	assert.Equal(t, "# HELP redis_up Information about the Redis instance\n# TYPE redis_up gauge\nredis_up 1", answers[0].Value.Text)
}

func TestReadWhatIsNoExporter(t *testing.T) {
	d := operationtest.Deployment(1)
	for want, from := range map[string]dialer{
		"nothing listens on port 9121: the pod has no metrics sidecar there": {err: syscall.ECONNREFUSED},
		"answers 404 Not Found":              exporter(t, http.StatusNotFound, ""),
		"not the text format of Prometheus":  exporter(t, http.StatusOK, "<html>"),
		"no permission to forward the ports": {err: errors.New("no permission to forward the ports")},
	} {
		answers := metrics.Read(t.Context(), from, d, metrics.Options{Port: metrics.Port, Timeout: 5 * time.Second})
		assert.ErrorContains(t, answers[0].Err, want)
	}
}
