package folder

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

func isNoSpace(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}

// syncHandle does nothing: Windows cannot flush a folder.
func syncHandle(*os.File) error { return nil }

// lockHandle locks an open file for this process, until it is closed. It does not wait.
// The byte that is locked is far behind the end of any file: locks of Windows keep
// others from reading.
func lockHandle(file *os.File) error {
	const farAway = 1 << 30 // times 4 GiB
	return windows.LockFileEx(windows.Handle(file.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY,
		0, 1, 0, &windows.Overlapped{OffsetHigh: farAway})
}

// writable does not know: access control lists tell only when a file is made.
func writable(string) error { return nil }
