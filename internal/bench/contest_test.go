package bench_test

import (
	"bytes"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// measurement is one run of a contestant.
type measurement struct {
	took time.Duration
	peak int64 // largest resident size in bytes; 0 of what is no process of its own
}

// contestant runs once and leaves nothing behind.
type contestant func() measurement

// series are all runs of a contestant.
type series []measurement

func (s series) times() []time.Duration {
	times := make([]time.Duration, len(s))
	for i, m := range s {
		times[i] = m.took
	}
	slices.Sort(times)
	return times
}

func (s series) fastest() time.Duration { return s.times()[0] }

// median is the mean of the two in the middle when their number is even, which it
// always is here.
func (s series) median() time.Duration {
	times := s.times()
	return (times[(len(times)-1)/2] + times[len(times)/2]) / 2
}

func (s series) peak() int64 {
	peak := int64(0)
	for _, m := range s {
		peak = max(peak, m.peak)
	}
	return peak
}

// compete runs both in turn, each as often first as second.
func compete(b *testing.B, ours, theirs contestant) (a, t series) {
	b.Helper()
	for b.Loop() {
		a = append(a, ours())
		t = append(t, theirs(), theirs())
		a = append(a, ours())
	}
	b.ReportMetric(0, "ns/op") // of four runs, which says nothing
	b.ReportMetric(a.median().Seconds()/t.median().Seconds(), "of-peer")
	return a, t
}

// execute runs a program to its end in a folder of its own, and removes the folder.
func execute(b *testing.B, command ...string) measurement {
	b.Helper()
	dir, err := os.MkdirTemp(world.scratch, "run-")
	require.NoError(b, err)
	defer os.RemoveAll(dir)
	return executeIn(b, dir, command...)
}

func executeIn(b *testing.B, dir string, command ...string) measurement {
	b.Helper()
	// A process begins with the largest resident size of the one that started it.
	debug.FreeOSMemory()
	resetPeak(b)
	cmd := exec.CommandContext(b.Context(), command[0], command[1:]...)
	var output bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &output, &output
	// No configuration or release of whoever runs this.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir}
	begin := time.Now()
	err := cmd.Run()
	took := time.Since(begin)
	require.NoError(b, err, "%q\n%s", command, &output)
	return measurement{took: took, peak: peak(cmd.ProcessState)}
}
