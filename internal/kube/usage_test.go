package kube

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation/dashboard"
)

// TestParseUsage reads an answer of metrics-server.
func TestParseUsage(t *testing.T) {
	usages, err := parseUsage([]byte(`{"kind":"PodMetricsList","items":[{"metadata":{"name":"cache-redis-0"},"containers":[
		{"name":"metrics","usage":{"cpu":"1m","memory":"9Mi"}},{"name":"redis","usage":{"cpu":"12345678n","memory":"25640Ki"}}]}]}`), "redis")
	require.NoError(t, err)
	assert.Equal(t, map[string]dashboard.Usage{"cache-redis-0": {CPU: 13, Memory: 25640 << 10}}, usages)
	_, err = parseUsage([]byte("<html>"), "redis")
	assert.Error(t, err)
}
