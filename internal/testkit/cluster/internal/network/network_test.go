package network

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAddressesAreConsistent(t *testing.T) {
	p := DefaultPlan()
	assert.True(t, p.Pods.Contains(p.Node), "pods reach the node as their gateway")
	assert.False(t, p.Pods.Overlaps(p.Services))
	assert.Equal(t, "10.98.1.1", p.APIService().String())
	assert.True(t, p.Services.Contains(p.APIService()))
	assert.LessOrEqual(t, len(p.Interface), 15, "longer names are refused by the kernel")
}

func TestGuardRules(t *testing.T) {
	rules := DefaultPlan().guardRules()
	assert.Contains(t, rules, "ip saddr 10.98.0.0/24 ip daddr != { 10.98.0.0/24, 10.98.1.0/24 } counter drop")
	assert.Contains(t, rules, "delete table inet redisctl_guard")
}

func TestParseTables(t *testing.T) {
	tables, err := parseTables([]byte(`{"nftables": [
		{"metainfo": {"version": "1.0.6"}},
		{"table": {"family": "ip", "name": "kube-proxy", "handle": 1}},
		{"table": {"family": "ip6", "name": "kube-proxy", "handle": 2}},
		{"table": {"family": "inet", "name": "redisctl_guard", "handle": 3}},
		{"table": {"family": "ip", "name": "nat", "handle": 4}}]}`))
	require.NoError(t, err)
	assert.Equal(t, []string{"ip kube-proxy", "ip6 kube-proxy", "inet redisctl_guard"}, tables)

	_, err = parseTables([]byte("no tables"))
	assert.Error(t, err)
}
