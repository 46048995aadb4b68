package images

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/servers"
)

const (
	// Pause is the image of pods' sandboxes.
	Pause = "docker.io/library/redisctl-pause:1.0"
	// Exporter is the image that stands in for the metrics sidecar.
	Exporter = "docker.io/library/redis-exporter-standin:1.0"
)

// user is who the servers run as: the user and group of the official images,
// which charts are written for. Debian's own number differs between suites.
const user = 999

// Catalog returns the cluster's images: one per prepared server root file
// system, tagged with the version the server really has, and the two that hold
// a single program. Folders are the prepared servers' and the programs'.
func Catalog(serversDir, programsDir string) ([]Image, error) {
	list := []Image{
		Program(Pause, filepath.Join(programsDir, "pause")),
		Program(Exporter, filepath.Join(programsDir, "redis-exporter-standin")),
	}
	for _, s := range servers.Catalog() {
		version, err := servers.Version(serversDir, s)
		if err != nil {
			return nil, err
		}
		image, err := server(s, filepath.Join(serversDir, s.Name), version)
		if err != nil {
			return nil, err
		}
		list = append(list, image)
	}
	return list, nil
}

// file is the image's name as a file name.
func (i Image) file() string {
	return strings.NewReplacer("/", "_", ":", "_").Replace(i.Name)
}

// Program returns an image that holds and runs one static program.
func Program(name, source string) Image {
	base := filepath.Base(source)
	return Image{
		Name:   name,
		Config: v1.ImageConfig{User: "65534:65534", Entrypoint: []string{"/" + base}},
		Layer:  Layer{Add: []Entry{{Path: base, Source: source, Mode: 0o755}}},
	}
}

// server describes an image like the official one of the same name: the same
// user, working folder and commands, without its entry script, which charts
// that name their command do not run.
func server(s servers.Server, root, version string) (Image, error) {
	own := strings.TrimSuffix(s.Package, "-server") // redis or valkey
	passwd, err := accounts(filepath.Join(root, "etc/passwd"), fmt.Sprintf("%s:x:%d:%d::/data:/usr/sbin/nologin", own, user, user))
	if err != nil {
		return Image{}, err
	}
	group, err := accounts(filepath.Join(root, "etc/group"), fmt.Sprintf("%s:x:%d:", own, user))
	if err != nil {
		return Image{}, err
	}
	add := []Entry{
		{Path: "data", Dir: true, Mode: 0o755, UID: user, GID: user},
		{Path: "etc/passwd", Content: passwd, Mode: 0o644},
		{Path: "etc/group", Content: group, Mode: 0o644},
	}
	if own != "redis" { // as the official image of Valkey does
		for _, command := range []string{"server", "cli", "benchmark", "check-rdb", "check-aof"} {
			add = append(add, Entry{Path: "usr/bin/redis-" + command, Link: own + "-" + command, Mode: 0o777})
		}
	}
	return Image{
		Name: s.Repository + ":" + version,
		Config: v1.ImageConfig{
			User:         fmt.Sprintf("%d:%d", user, user),
			WorkingDir:   "/data",
			Env:          []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			Cmd:          []string{own + "-server"},
			ExposedPorts: map[string]struct{}{"6379/tcp": {}},
		},
		Layer: Layer{
			Root: root,
			Exclude: []string{
				"dev/*", "proc/*", "sys/*", "run/*", "tmp/*", "debootstrap",
				"usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info",
				"var/cache/*", "var/log/*", "var/lib/apt/lists",
			},
			Add: add,
		},
	}, nil
}

// accounts returns an account file with the line of the same name replaced.
func accounts(file, line string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("reading accounts: %w", err)
	}
	name, _, _ := strings.Cut(line, ":")
	var kept []string
	for old := range strings.Lines(string(text)) {
		if !strings.HasPrefix(old, name+":") {
			kept = append(kept, strings.TrimSuffix(old, "\n"))
		}
	}
	return strings.Join(append(kept, line), "\n") + "\n", nil
}
