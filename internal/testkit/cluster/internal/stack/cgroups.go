package stack

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/process"
)

// cgroupRoot is where every current system mounts control groups: one
// hierarchy in version 2, one folder per controller in version 1.
const cgroupRoot = "/sys/fs/cgroup"

// makeCgroups makes the pods' parent group in every hierarchy. The kubelet
// makes the groups below it, but expects this one.
func makeCgroups() error {
	roots, err := hierarchies()
	if err != nil {
		return err
	}
	for _, h := range roots {
		if err := os.MkdirAll(h+cgroup, 0o755); err != nil {
			return fmt.Errorf("making control group %s: %w", h+cgroup, err)
		}
		if err := inheritCpuset(h); err != nil {
			return fmt.Errorf("preparing control group %s: %w", h+cgroup, err)
		}
	}
	return nil
}

// hierarchies lists the root of every control group hierarchy.
func hierarchies() ([]string, error) {
	if _, err := os.Stat(filepath.Join(cgroupRoot, "cgroup.controllers")); err == nil {
		return []string{cgroupRoot}, nil
	}
	entries, err := os.ReadDir(cgroupRoot)
	if err != nil {
		return nil, fmt.Errorf("listing control groups: %w", err)
	}
	var list []string
	for _, e := range entries {
		// Names like cpu,cpuacct come with links cpu and cpuacct to them.
		dir := filepath.Join(cgroupRoot, e.Name())
		if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err == nil && e.IsDir() {
			list = append(list, dir)
		}
	}
	return list, nil
}

// inheritCpuset fills in a version 1 cpuset group, which starts with no CPU
// and no memory node and takes no process until it has some.
func inheritCpuset(hierarchy string) error {
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		own := filepath.Join(hierarchy+cgroup, name)
		value, err := os.ReadFile(own)
		if errors.Is(err, fs.ErrNotExist) || strings.TrimSpace(string(value)) != "" {
			continue
		}
		if err != nil {
			return err
		}
		parent, err := os.ReadFile(filepath.Join(hierarchy, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // version 2's root has none, and needs none
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(own, parent, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// podProcesses lists the processes in the pods' groups.
func podProcesses() ([]process.Identity, error) {
	roots, err := hierarchies()
	if err != nil {
		return nil, err
	}
	seen := map[int]bool{}
	var list []process.Identity
	for _, h := range roots {
		err := filepath.WalkDir(h+cgroup, func(file string, entry fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // the group, or this cluster's, is gone
			}
			if err != nil || entry.Name() != "cgroup.procs" {
				return err
			}
			text, err := os.ReadFile(file)
			if err != nil {
				return nil //nolint:nilerr // the group went away while we looked
			}
			for field := range strings.FieldsSeq(string(text)) {
				pid, err := strconv.Atoi(field)
				if err != nil || seen[pid] {
					continue
				}
				seen[pid] = true
				if id, err := process.Identify(pid); err == nil {
					list = append(list, id)
				}
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("listing pods' processes: %w", err)
		}
	}
	return list, nil
}

// removeCgroups removes the pods' groups, deepest first; only folders can be
// removed there, the files in them vanish with them.
func removeCgroups() error {
	groups, err := leftCgroups()
	if err != nil {
		return err
	}
	for i := len(groups) - 1; i >= 0; i-- {
		if err := os.Remove(groups[i]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing a control group: %w", err)
		}
	}
	return nil
}

// leftCgroups lists the cluster's groups, parents before children.
func leftCgroups() ([]string, error) {
	roots, err := hierarchies()
	if err != nil {
		return nil, err
	}
	var groups []string
	for _, h := range roots {
		err := filepath.WalkDir(h+cgroup, func(file string, entry fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && entry.IsDir() {
				groups = append(groups, file)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("listing control groups: %w", err)
		}
	}
	return groups, nil
}
