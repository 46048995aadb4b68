//go:build unix

package folder

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// isNoSpace reports whether err says that nothing more can be stored: full
// disk, used up quota, or a file size limit (RLIMIT_FSIZE, or the file system's).
func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

// syncHandle flushes a folder's entries to the disk. File systems that cannot
// (some FUSE and CIFS mounts) answer EINVAL or ENOTSUP, and order their metadata
// themselves.
func syncHandle(folder *os.File) error {
	err := folder.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}

// lockHandle locks an open file for this process, until it is closed. It does not wait.
func lockHandle(file *os.File) error {
	return unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
}

// writable asks the system whether files may be made in a folder. A read-only file
// system says no.
func writable(dir string) error { return unix.Access(dir, unix.W_OK|unix.X_OK) }
