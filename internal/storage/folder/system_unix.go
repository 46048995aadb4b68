//go:build unix

package folder

import (
	"errors"
	"os"
	"syscall"
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
