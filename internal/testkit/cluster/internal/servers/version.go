package servers

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// ErrNoVersion is returned by Version when a root file system does not record
// an installed server.
var ErrNoVersion = errors.New("no installed server found")

// Version returns the upstream version of the server in its root file system
// (7.0.15 for Debian's 5:7.0.15-1~deb12u7), read from the package database.
func Version(dir string, s Server) (string, error) {
	status, err := os.ReadFile(filepath.Join(dir, s.Name, "var/lib/dpkg/status"))
	if err != nil {
		return "", fmt.Errorf("%s: reading its package database: %w", s.Name, err)
	}
	for stanza := range strings.SplitSeq(string(status), "\n\n") {
		if !strings.HasPrefix(stanza, "Package: "+s.Package+"\n") {
			continue
		}
		for line := range strings.SplitSeq(stanza, "\n") {
			if v, ok := strings.CutPrefix(line, "Version: "); ok {
				return upstream(v), nil
			}
		}
	}
	return "", fmt.Errorf("%s: %w", s.Name, ErrNoVersion)
}

// upstream strips the epoch and the Debian revision, and what Debian appends
// to an upstream version it repacked.
func upstream(debian string) string {
	if _, rest, ok := strings.Cut(debian, ":"); ok {
		debian = rest
	}
	if i := strings.LastIndex(debian, "-"); i >= 0 {
		debian = debian[:i]
	}
	version, _, _ := strings.Cut(debian, "+")
	return version
}
