//go:build !unix

package sandbox

import "os/exec"

// detach keeps a terminal's signals from a process.
func detach(*exec.Cmd) {}
