package volume

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/redisctl/redisctl/internal/redis"
)

// Layout is where a server that starts looks for its data.
type Layout struct {
	// Dir is its data folder.
	Dir string `json:"dir"`
	// RDB is the name of the snapshot.
	RDB string `json:"rdb"`
	// AOF says that it loads its append-only file instead.
	AOF bool `json:"aof"`
	// AOFName is that of the append-only file, or in what the names of its parts begin
	// with; AOFDir is the folder of the parts.
	AOFName string `json:"aofName"`
	AOFDir  string `json:"aofDir"`
	// Multipart servers (since 7.0) have a folder of parts.
	Multipart bool `json:"multipart"`
	// Version of the server.
	Version redis.Version `json:"-"`
}

// layoutOf reads the configuration that the server starts with: what CONFIG SET
// changed is lost by then. The defaults are those of redis.conf.
func layoutOf(config redis.Config, mount string) (Layout, error) {
	get := func(name, otherwise string) string {
		value, _ := config.Get(name)
		return cmp.Or(value, otherwise)
	}
	l := Layout{
		Dir: path.Clean(get("dir", mount)), RDB: get("dbfilename", "dump.rdb"),
		AOF:     strings.EqualFold(get("appendonly", "no"), "yes"),
		AOFName: get("appendfilename", "appendonly.aof"), AOFDir: get("appenddirname", "appendonlydir"),
	}
	if l.Dir != mount && !strings.HasPrefix(l.Dir, strings.TrimSuffix(mount, "/")+"/") {
		return Layout{}, fmt.Errorf("the servers keep their data in %s (dir), which is not on the volume at %s", l.Dir, mount)
	}
	for _, name := range l.names() {
		// Redis itself demands plain names.
		if name != path.Base(name) || name == "." || name == ".." {
			return Layout{}, fmt.Errorf("%q cannot be the name of a data file", name)
		}
	}
	return l, nil
}

// names are the files and folders that a server of any version may load, whatever its
// settings are.
func (l Layout) names() []string {
	names := []string{l.RDB, l.AOFName, l.AOFDir}
	slices.Sort(names)
	return slices.Compact(names)
}

// forVersion completes the layout. Files of several parts came with 7.0.
func (l Layout) forVersion(v redis.Version) Layout {
	l.Version, l.Multipart = v, v.Major >= 7
	return l
}
