//go:build linux || darwin

package folder

import (
	"math"

	"golang.org/x/sys/unix"
)

func freeBytes(dir string) (int64, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return 0, err
	}
	size := uint64(stat.Bsize)
	if size == 0 || stat.Bavail > math.MaxInt64/size {
		return math.MaxInt64, nil
	}
	return int64(stat.Bavail * size), nil // fits: checked above
}
