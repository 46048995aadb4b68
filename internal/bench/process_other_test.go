//go:build !linux

package bench_test

import (
	"os"
	"testing"
)

// There are no servers to compare with on other systems.
func resetPeak(*testing.B)        {}
func peak(*os.ProcessState) int64 { return 0 }
