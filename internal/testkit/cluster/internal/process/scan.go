package process

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Found is a running process and what it runs.
type Found struct {
	Identity
	// Executable is the path of the program's file.
	Executable string
	// Name is the name it was called by, which tells apart the programs in one
	// multi-call binary.
	Name string
}

// RunningFrom returns the processes whose program lies in dir and that were
// called by one of names. A program replaced on disk meanwhile still counts.
func RunningFrom(dir string, names []string) ([]Found, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	wanted := make(map[string]bool, len(names))
	for _, n := range names {
		wanted[n] = true
	}
	var found []Found
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		f, err := inspect(pid)
		if err != nil { // it ended while we looked, or is a kernel thread
			continue
		}
		if filepath.Dir(f.Executable) == dir && wanted[f.Name] {
			found = append(found, f)
		}
	}
	return found, nil
}

func inspect(pid int) (Found, error) {
	id, err := Identify(pid)
	if err != nil {
		return Found{}, err
	}
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	executable, err := os.Readlink(filepath.Join(proc, "exe"))
	if err != nil {
		return Found{}, err
	}
	line, err := os.ReadFile(filepath.Join(proc, "cmdline"))
	if err != nil {
		return Found{}, err
	}
	first, _, _ := strings.Cut(string(line), "\x00")
	return Found{
		Identity:   id,
		Executable: strings.TrimSuffix(executable, " (deleted)"),
		Name:       filepath.Base(first),
	}, nil
}
