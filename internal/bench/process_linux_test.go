package bench_test

import (
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// resetPeak lets the kernel forget this process's largest resident size (proc(5),
// clear_refs).
func resetPeak(b *testing.B) {
	b.Helper()
	require.NoError(b, os.WriteFile("/proc/self/clear_refs", []byte("5"), 0))
}

// peak returns the largest resident size of a process that has ended, or of the
// children that it waited for, in bytes.
func peak(state *os.ProcessState) int64 {
	usage, _ := state.SysUsage().(*syscall.Rusage) // documented for Unix
	return usage.Maxrss << 10
}
