package servers

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// ErrNoMirror is returned by Mirror when apt has no Debian source configured.
var ErrNoMirror = errors.New("apt has no Debian package source to read the mirror from")

// Mirror returns the address of the Debian mirror this machine's apt uses for
// the distribution's own packages. It asks apt instead of parsing its files,
// because those come in two formats and any number of fragments.
func Mirror(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets",
		"--format", "$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(REPO_URI)").Output()
	if err != nil {
		return "", fmt.Errorf("asking apt for its sources: %w", err)
	}
	return parseMirror(string(out))
}

// parseMirror picks the first "Debian" labelled main repository; the security
// archive is labelled Debian-Security and does not hold whole suites.
func parseMirror(targets string) (string, error) {
	lines := bufio.NewScanner(strings.NewReader(targets))
	for lines.Scan() {
		fields := strings.SplitN(lines.Text(), "|", 4)
		if len(fields) == 4 && fields[0] == "Debian" && fields[1] == "Debian" && fields[2] == "main" && fields[3] != "" {
			return strings.TrimSuffix(fields[3], "/"), nil
		}
	}
	return "", ErrNoMirror
}
