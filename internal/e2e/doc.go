// Package e2e holds the end-to-end tests: they run the redisctl that users get
// against releases of the chart on a real Kubernetes, and judge what a user sees:
// stdout, stderr, the exit code and the files that were written.
//
// What redisctl says is compared with the cluster's own truth, which the tests get
// without redisctl: from the API server, and from Redis over plain TCP.
//
// # Which cluster
//
// By default the local one of `make cluster-up`, found by its kubeconfig in the
// cache folder ($REDISCTL_CACHE) and in no other way: neither KUBECONFIG nor
// ~/.kube/config is read, so that no other cluster is touched by accident. With
// REDISCTL_E2E_CONTEXT=name that context of the current kubeconfig is used
// instead; tests that need the node's processes or its audit log are then skipped,
// and the images of testdata/values must be available there.
//
// Every test works in a namespace of its own, which is deleted at its end.
// REDISCTL_E2E_KEEP=1 keeps those of failed tests; the next run removes them.
package e2e
