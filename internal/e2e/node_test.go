package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// serverProcess returns the process ID, on this machine, of the Redis of a pod: of
// the first process of its container.
func (r *release) serverProcess(t *testing.T, ordinal int) int {
	t.Helper()
	r.env.onNode(t)
	for _, status := range r.pod(t, ordinal).Status.ContainerStatuses {
		if status.Name != "redis" {
			continue
		}
		_, id, _ := strings.Cut(status.ContainerID, "://")
		require.NotEmpty(t, id)
		for _, pid := range processes(t) {
			// A process without a parent in its namespace is the container's first.
			cgroup, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
			state, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			if strings.Contains(string(cgroup), id) && namespaceID(string(state)) == "1" {
				return pid
			}
		}
	}
	require.FailNow(t, "no process", "of the redis container of %s", r.podName(ordinal))
	return 0
}

// namespaceID returns a process's number inside its own namespace.
func namespaceID(status string) string {
	for line := range strings.Lines(status) {
		if ids, ok := strings.CutPrefix(line, "NSpid:"); ok {
			fields := strings.Fields(ids)
			return fields[len(fields)-1]
		}
	}
	return ""
}

// processes lists the processes of this machine.
func processes(t *testing.T) []int {
	t.Helper()
	folders, err := filepath.Glob("/proc/[0-9]*")
	require.NoError(t, err)
	pids := make([]int, 0, len(folders))
	for _, folder := range folders {
		if pid, err := strconv.Atoi(filepath.Base(folder)); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// endSave ends the child process that a server saves with, in the way the server
// itself does it, and waits until the server has noticed.
func (r *release) endSave(t *testing.T, ordinal int) {
	t.Helper()
	pid := r.serverProcess(t, ordinal)
	client := r.redis(t, ordinal)
	eventually(t, "the end of the save", func(ctx context.Context) error {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
		if err != nil {
			return err
		}
		for _, field := range strings.Fields(string(children)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				return err
			}
			// ESRCH: it has just ended. SIGUSR1 is how killRDBChild in rdb.c ends it.
			_ = syscall.Kill(child, syscall.SIGUSR1)
		}
		if saving(ctx, client) == nil {
			return errors.New("the server still saves")
		}
		return nil
	})
}

// hang stops the Redis of a pod, as a starved node does, until the function that it
// returns is called and at the latest until the end of the test.
func (r *release) hang(t *testing.T, ordinal int) (wake func()) {
	t.Helper()
	pid := r.serverProcess(t, ordinal)
	// A stopped process could not be ended gracefully, and its namespace would be
	// deleted slowly.
	wake = func() {
		err := syscall.Kill(pid, syscall.SIGCONT)
		if err != nil && !errors.Is(err, syscall.ESRCH) { // its pod was deleted
			t.Errorf("waking process %d: %v", pid, err)
		}
	}
	require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	t.Cleanup(wake)
	eventually(t, r.podName(ordinal)+" to be stopped", func(context.Context) error {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err == nil && !strings.Contains(string(stat), ") T ") {
			err = fmt.Errorf("process %d still runs", pid)
		}
		return err
	})
	return wake
}
