//go:build !linux && !darwin

package folder

import (
	"errors"
	"os"
)

// renameExclusive is not available: the caller links instead.
func renameExclusive(*os.File, string, string) error {
	return errors.ErrUnsupported
}

// freeBytes is not available.
func freeBytes(string) (int64, error) {
	return 0, errors.ErrUnsupported
}

// beginWriteBack is not available: Commit does it all.
func beginWriteBack(*os.File, int64, int64) {}
