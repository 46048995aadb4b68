package snapshot

import (
	"crypto/rand"
	"fmt"
	"net"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/snapshot/codec"
)

// Kind is what a snapshot holds. It begins every id.
type Kind string

// The kinds. All but KindRDB are sets of several files.
const (
	// KindRDB is one RDB file.
	KindRDB Kind = "rdb"
	// KindAOF is an append-only file: all parts of it, or the single one of servers
	// before 7.0.
	KindAOF Kind = "aof"
	// KindConfig is the configuration, as asked for and as it is.
	KindConfig Kind = "config"
	// KindResources is the release's objects in Kubernetes.
	KindResources Kind = "resources"
	// KindFull is all of these together.
	KindFull Kind = "full"
)

// What is appended to an id to name the snapshot's objects.
const (
	rdbSuffix      = ".rdb"
	manifestSuffix = ".manifest.json"
)

// cutData returns the name of a data file without the suffixes of an RDB file and
// of the codecs that it went through, and false for any other name.
func cutData(name string) (stem string, ok bool) {
	for _, suffix := range codec.Suffixes() {
		if stem, ok := strings.CutSuffix(name, rdbSuffix+suffix); ok {
			return stem, true
		}
	}
	return name, false
}

const (
	idTime      = "20060102T150405Z"
	idSuffixLen = 4
)

var idPattern = regexp.MustCompile(`^([a-z]{2,16})-([0-9]{8}T[0-9]{6}Z)-[a-z2-7]{4}$`)

// NewID returns a new id for a snapshot of the given kind begun at start.
func NewID(kind Kind, start time.Time) string {
	// Base32: about a million suffixes, per deployment and second.
	suffix := strings.ToLower(rand.Text()[:idSuffixLen])
	return fmt.Sprintf("%s-%s-%s", kind, start.UTC().Format(idTime), suffix)
}

// ParseID returns the kind and the start time, to the second, of an id. It is
// false for anything that NewID does not make. The kind may be one that only a
// newer redisctl knows.
func ParseID(id string) (kind Kind, start time.Time, ok bool) {
	parts := idPattern.FindStringSubmatch(id)
	if parts == nil {
		return "", time.Time{}, false
	}
	start, err := time.Parse(idTime, parts[2])
	if err != nil {
		return "", time.Time{}, false
	}
	return Kind(parts[1]), start, true
}

// element is a Kubernetes namespace or Helm release name: a DNS subdomain
// (RFC 1123). Nothing that could be read as a path passes.
var element = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

const maxElement = 253

// ReleaseDir returns the folder of a release's snapshots. It fails unless both
// names are such as Kubernetes and Helm admit.
func ReleaseDir(namespace, release string) (string, error) {
	for _, name := range []string{namespace, release} {
		if len(name) > maxElement || !element.MatchString(name) {
			return "", fmt.Errorf("%q is not a valid name of a namespace or release", name)
		}
	}
	return path.Join(namespace, release), nil
}

// addressRoot is the folder of what has no namespace. It cannot collide with a
// namespace called "address": no release has an underscore in its name.
const addressRoot = "address"

// AddressDir returns the folder of the snapshots of a server that is known by
// host:port only. The colon becomes an underscore, because Windows does not
// allow it and rsync and scp read a host before it. Other characters that are
// not safe in every file system and URL (IPv6 addresses have them) are written
// as underscore and two hexadecimal digits, so that two addresses never share a
// folder.
func AddressDir(address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("%q is not host:port: %w", address, err)
	}
	if host == "" || len(host) > maxElement || port == "" || strings.Trim(port, "0123456789") != "" {
		return "", fmt.Errorf("%q is not host:port", address)
	}
	var dir strings.Builder
	for _, b := range []byte(strings.ToLower(host)) {
		switch {
		case 'a' <= b && b <= 'z', '0' <= b && b <= '9', b == '-', b == '.':
			dir.WriteByte(b)
		default:
			fmt.Fprintf(&dir, "_%02x", b)
		}
	}
	return path.Join(addressRoot, dir.String()+"_"+port), nil
}
