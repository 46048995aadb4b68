package folder

import (
	"os"

	"golang.org/x/sys/unix"
)

// renameExclusive renames within folder unless newName exists. It returns an
// error matching errors.ErrUnsupported where the file system cannot do this
// (ENOTSUP: anything but APFS and HFS+).
func renameExclusive(folder *os.File, oldName, newName string) error {
	dir := int(folder.Fd())
	return unix.RenameatxNp(dir, oldName, dir, newName, unix.RENAME_EXCL)
}

// beginWriteBack is not available: Commit does it all.
func beginWriteBack(*os.File, int64, int64) {}
