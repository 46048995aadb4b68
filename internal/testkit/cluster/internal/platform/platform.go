// Package platform checks and prepares the machine the cluster runs on.
package platform

import (
	"errors"
	"fmt"
	"os"
	"runtime"
)

// ErrUnsupported is returned by Check on a machine that cannot run the cluster.
var ErrUnsupported = errors.New("the local cluster cannot run here")

// Check returns an error wrapping ErrUnsupported unless this is Linux and the
// process is root: namespaces, mounts and network interfaces need both.
func Check() error {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("%w: it needs Linux, this is %s", ErrUnsupported, runtime.GOOS)
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("%w: it needs root, this is uid %d", ErrUnsupported, os.Geteuid())
	}
	return nil
}
