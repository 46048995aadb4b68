// Package process starts daemons and stops exactly those it started. A process
// is never addressed by its number alone, because numbers are reused: a record
// also holds when the process started and in which boot.
package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Identity names one process for ever.
type Identity struct {
	// PID is the process number.
	PID int `json:"pid"`
	// StartTicks is when the process started, in clock ticks since boot: field
	// 22 of /proc/PID/stat (proc_pid_stat(5)).
	StartTicks uint64 `json:"startTicks"`
	// Boot is the kernel's identifier of the boot the process runs in.
	Boot string `json:"boot"`
}

// Identify returns the identity of a running process, or an error wrapping
// fs.ErrNotExist when there is none with this number.
func Identify(pid int) (Identity, error) {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if errors.Is(err, syscall.ESRCH) {
		err = fs.ErrNotExist
	}
	if err != nil {
		return Identity{}, fmt.Errorf("identifying process %d: %w", pid, err)
	}
	state, ticks, err := parseStat(string(stat))
	if err != nil {
		return Identity{}, fmt.Errorf("identifying process %d: %w", pid, err)
	}
	if state == 'Z' || state == 'X' {
		return Identity{}, fmt.Errorf("identifying process %d: it has ended: %w", pid, fs.ErrNotExist)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return Identity{}, fmt.Errorf("identifying the boot: %w", err)
	}
	return Identity{PID: pid, StartTicks: ticks, Boot: strings.TrimSpace(string(boot))}, nil
}

// Alive reports whether this very process is still running. A zombie is not.
func (id Identity) Alive() bool {
	now, err := Identify(id.PID)
	return err == nil && now == id
}

// Signal sends sig if the process is still the one identified. A process that
// has ended is not an error. The pidfd pins the process between the check and
// the signal, so that not even a number reused in between is hit.
func (id Identity) Signal(sig syscall.Signal) error {
	handle, err := os.FindProcess(id.PID) // holds a pidfd on Linux since Go 1.23
	if err != nil {
		return fmt.Errorf("finding process %d: %w", id.PID, err)
	}
	defer func() { _ = handle.Release() }() // it only frees the handle
	if !id.Alive() {
		return nil
	}
	if err := handle.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signalling process %d: %w", id.PID, err)
	}
	return nil
}

// errStat is returned for a stat line that does not follow proc_pid_stat(5).
var errStat = errors.New("unexpected format of the stat file")

// parseStat returns the state and start time of a stat line. The second field,
// the program's name in parentheses, may itself hold spaces and parentheses,
// so fields are counted from the last closing one.
func parseStat(stat string) (state byte, startTicks uint64, err error) {
	end := strings.LastIndexByte(stat, ')')
	if end < 0 {
		return 0, 0, errStat
	}
	fields := strings.Fields(stat[end+1:])
	const stateField, startField = 0, 19 // fields 3 and 22, counted from the third
	if len(fields) <= startField {
		return 0, 0, errStat
	}
	startTicks, err = strconv.ParseUint(fields[startField], 10, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("%w: %w", errStat, err)
	}
	return fields[stateField][0], startTicks, nil
}
