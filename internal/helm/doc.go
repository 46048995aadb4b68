// Package helm keeps Helm releases through Helm's own SDK: what is behind
// `helm history`, `helm upgrade`, `helm rollback`, `helm install` and `helm uninstall`.
// It implements upgrade.Releases; nothing of the SDK is in its own interface.
//
// The SDK is made for a program of its own, so four things are arranged around it:
//
//   - It takes no context for most of what it asks of the API server. The requests are
//     bound to the caller's context below it (bounded). Those that record a revision are
//     not, because a revision that is not recorded as failed blocks the release.
//   - It names itself after the program as the manager of the fields that it applies.
//     Fields would conflict with those that `helm` applied, so it is called helm.
//   - It logs to global loggers, which are silenced.
//   - It would put back the update strategy of a workload that an upgrade holds (keeper).
package helm
