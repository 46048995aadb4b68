//go:build unix && !linux

package s3server

import "syscall"

// processAttributes puts the server into a process group of its own. Only Linux
// can tie its life to the test process.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
