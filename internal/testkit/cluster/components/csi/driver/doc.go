// Package driver is a CSI driver whose volumes and snapshots are folders of the
// machine. It stands in for a cloud's: the project's own sample driver cannot be had as
// a module. It runs as a process beside the kubelet, so it needs no image.
//
// A snapshot is a copy of the volume's folder, made while programs may write to it. It
// is not of one moment, as that of a disk is.
package driver
