package folder

import (
	"fmt"
	"os"
	"syscall"
	"testing"
)

// fullDisk mounts a small file system at dir, in a mount namespace of its own
// that ends with the process, and fills it.
func TestFullDisk(t *testing.T) {
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Getuid() != 0 {
		// Root inside a user namespace may mount a tmpfs.
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	runChild(t, "full disk", t.TempDir(), attr)
}

func fullDisk(dir string) error {
	if err := syscall.Mount("", "/", "", syscall.MS_PRIVATE|syscall.MS_REC, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		return fmt.Errorf("mounting a tmpfs: %w", err)
	}
	return expecting(func(e *expect) { fillUp(e, New(dir)) })
}
