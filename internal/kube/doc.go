// Package kube is redisctl's only door to Kubernetes: it finds Redis releases
// (operation.Resolver), dials and executes inside their pods, and holds the
// Lease that keeps two operators from changing one release at the same time.
//
// # Connections into pods
//
// Client.Dial speaks the port-forward sub-protocol itself, over one Kubernetes
// connection per pod with two streams per connection to Redis, instead of
// using client-go's PortForwarder: that one opens an unauthenticated port on
// the operator's machine, and one failing stream closes all of them. WebSocket
// is tried first and SPDY second, by the rule that kubectl uses.
//
// What arrives through a pod connection proves nothing by itself. A cut
// between the kubelet and the container runtime looks like a clean end of file
// in a port-forward, and like success in an exec over SPDY
// (kubernetes/kubernetes#124571). Whoever moves data must carry its length and
// digest in-band, and watch for stalls.
//
// # Errors
//
// Every error that an operator can do something about is an *operation.Error.
// client-go's own logging is discarded: what matters is returned.
package kube
