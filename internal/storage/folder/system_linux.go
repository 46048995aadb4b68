package folder

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// renameExclusive renames within folder unless newName exists. It returns an
// error matching errors.ErrUnsupported where the file system cannot do this
// (EINVAL, for example NFS) or the kernel cannot (ENOSYS, before 3.15).
func renameExclusive(folder *os.File, oldName, newName string) error {
	dir := int(folder.Fd())
	err := unix.Renameat2(dir, oldName, dir, newName, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) {
		return errors.ErrUnsupported
	}
	return err
}

// beginWriteBack asks the kernel to bring a part of a file to the disk, and does not wait
// for it. It promises nothing: an error is told by the Sync that has to follow anyway.
func beginWriteBack(file *os.File, offset, n int64) {
	_ = unix.SyncFileRange(int(file.Fd()), offset, n, unix.SYNC_FILE_RANGE_WRITE)
}
