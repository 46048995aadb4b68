package platform

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/progress"
)

// ErrNoAPT is returned by Install where packages are missing and there is no
// apt-get to install them with.
var ErrNoAPT = errors.New("this is not a Debian-like system, install the packages by hand")

// Package is a Debian package the cluster needs on the machine, and a file
// that shows whether it is there (whoever installed it).
type Package struct {
	Name string
	// Provides lists paths, absolute or looked up in PATH; any one of them
	// present means the package need not be installed.
	Provides []string
}

// BootstrapPackages are needed to make the server root file systems, and by the tests
// that run against real programs.
func BootstrapPackages() []Package {
	return []Package{
		{Name: "debootstrap", Provides: []string{"debootstrap"}},
		{Name: "debian-archive-keyring", Provides: []string{"/usr/share/keyrings/debian-archive-keyring.gpg"}},
		{Name: "zstd", Provides: []string{"zstd"}},
	}
}

// BuildPackages are needed to compile the components; runc links libseccomp.
func BuildPackages() []Package {
	return []Package{
		{Name: "gcc", Provides: []string{"gcc"}},
		{Name: "libc6-dev", Provides: []string{"/usr/include/stdio.h"}},
		{Name: "pkg-config", Provides: []string{"pkg-config"}},
		{Name: "libseccomp-dev", Provides: []string{"/usr/include/seccomp.h"}},
	}
}

// RuntimePackages are needed to run the cluster: kube-proxy and the guard
// rules are nftables, the kubelet mounts volumes.
func RuntimePackages() []Package {
	return []Package{
		{Name: "nftables", Provides: []string{"nft"}},
		{Name: "mount", Provides: []string{"mount"}},
	}
}

// Missing returns the names of the packages none of whose files are present.
func Missing(packages []Package) []string {
	var names []string
	for _, p := range packages {
		if !provided(p) {
			names = append(names, p.Name)
		}
	}
	return names
}

func provided(p Package) bool {
	for _, file := range p.Provides {
		if filepath.IsAbs(file) {
			if _, err := os.Stat(file); err == nil {
				return true
			}
			continue
		}
		if _, err := exec.LookPath(file); err == nil {
			return true
		}
	}
	return false
}

// Install installs the missing ones of packages with apt-get, telling report
// what it does. It refreshes the package lists once, only when the first try
// fails: an image of a system often ships without lists.
func Install(ctx context.Context, packages []Package, report progress.Func) error {
	names := Missing(packages)
	if len(names) == 0 {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("%w: %s", ErrNoAPT, strings.Join(names, " "))
	}
	report("installing Debian packages: %s", strings.Join(names, " "))
	args := append([]string{"install", "-y", "--no-install-recommends"}, names...)
	if err := aptGet(ctx, args...); err == nil {
		return nil
	}
	report("refreshing the package lists")
	if err := aptGet(ctx, "update"); err != nil {
		return err
	}
	return aptGet(ctx, args...)
}

func aptGet(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "apt-get", args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("apt-get %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}
