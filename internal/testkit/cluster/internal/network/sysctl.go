package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// watched are the kernel settings that the cluster changes: the first by the
// driver, so that the machine routes between pods, the rest by the kubelet at
// its start (setupKernelTunables in its container manager).
func watched() []string {
	return []string{
		"net.ipv4.ip_forward",
		"vm.overcommit_memory", "vm.panic_on_oom",
		"kernel.panic", "kernel.panic_on_oops",
		"kernel.keys.root_maxkeys", "kernel.keys.root_maxbytes",
	}
}

// Sysctls saves and restores kernel settings.
type Sysctls struct {
	// File is where the values found before the cluster are kept.
	File string
}

// Save records the present values, unless values are recorded already: then
// the present ones are the cluster's own.
func (s Sysctls) Save() error {
	if _, err := os.Stat(s.File); err == nil {
		return nil
	}
	values := map[string]string{}
	for _, name := range watched() {
		text, err := os.ReadFile(sysctlPath(name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		values[name] = strings.TrimSpace(string(text))
	}
	text, err := json.MarshalIndent(values, "", "  ")
	if err != nil {
		return fmt.Errorf("recording kernel settings: %w", err)
	}
	if err := os.WriteFile(s.File, text, 0o600); err != nil {
		return fmt.Errorf("recording kernel settings: %w", err)
	}
	return nil
}

// Apply turns on routing between interfaces.
func (s Sysctls) Apply() error {
	return setSysctl("net.ipv4.ip_forward", "1")
}

// Restore puts back what Save recorded and forgets it.
func (s Sysctls) Restore() error {
	text, err := os.ReadFile(s.File)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading recorded kernel settings: %w", err)
	}
	var values map[string]string
	if err := json.Unmarshal(text, &values); err != nil {
		return fmt.Errorf("reading recorded kernel settings: %w", err)
	}
	var errs []error
	for name, value := range values {
		errs = append(errs, setSysctl(name, value))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return os.Remove(s.File)
}

// setSysctl leaves a setting alone that already has the value: some are
// read-only in containers.
func setSysctl(name, value string) error {
	now, err := os.ReadFile(sysctlPath(name))
	if err != nil {
		return fmt.Errorf("reading %s: %w", name, err)
	}
	if strings.TrimSpace(string(now)) == value {
		return nil
	}
	if err := os.WriteFile(sysctlPath(name), []byte(value), 0o644); err != nil {
		return fmt.Errorf("setting %s: %w", name, err)
	}
	return nil
}

func sysctlPath(name string) string {
	return filepath.Join("/proc/sys", strings.ReplaceAll(name, ".", "/"))
}
