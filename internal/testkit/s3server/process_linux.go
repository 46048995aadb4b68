package s3server

import "syscall"

// processAttributes puts the server into a process group of its own and lets the
// kernel end it should the test process die without cleaning up.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
