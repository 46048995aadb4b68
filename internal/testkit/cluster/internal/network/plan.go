// Package network gives the cluster its addresses on this machine and keeps
// its traffic from leaving: one interface that belongs to the node, a route
// for Service addresses, guard rules, and the kernel settings pods need.
package network

import "net/netip"

// Plan is the cluster's addresses. All of them exist on this machine only.
type Plan struct {
	// Interface carries the node's address. It is a bridge without members
	// rather than a dummy device, which not every kernel has.
	Interface string
	// Node is the node's address: the API server, the kubelet and DNS listen
	// on it, and it is the pods' gateway.
	Node netip.Addr
	// Pods and Services are the ranges pods and Services get addresses from.
	Pods, Services netip.Prefix
	// DNSDomain is the cluster's domain.
	DNSDomain string
}

// DefaultPlan returns the addresses used by the local cluster: a small part of
// the private range that home, office and container networks rarely use.
func DefaultPlan() Plan {
	return Plan{
		Interface: "redisctl0",
		Node:      netip.MustParseAddr("10.98.0.1"),
		Pods:      netip.MustParsePrefix("10.98.0.0/24"),
		Services:  netip.MustParsePrefix("10.98.1.0/24"),
		DNSDomain: "cluster.local",
	}
}

// APIService is the address of the kubernetes Service, always the first of the
// Services' range.
func (p Plan) APIService() netip.Addr { return p.Services.Addr().Next() }
