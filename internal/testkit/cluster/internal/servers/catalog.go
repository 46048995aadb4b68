// Package servers prepares root file systems that hold real Redis and Valkey
// servers, each made with debootstrap from the Debian suite that ships it.
package servers

// Server is one server generation and where Debian has it.
type Server struct {
	// Name is the folder's name under the cache's servers folder; tests and
	// images refer to it.
	Name string
	// Suite is the Debian release that ships this generation.
	Suite string
	// Package is the Debian package whose version is the server's version.
	Package string
	// Include lists all packages to add to a minimal system.
	Include []string
	// Repository is the image repository a chart expects the server under.
	Repository string
}

// Catalog returns the servers, oldest first.
func Catalog() []Server {
	redis := []string{"redis-server", "redis-tools"}
	return []Server{
		{Name: "redis-6.0", Suite: "bullseye", Package: "redis-server", Include: redis, Repository: "docker.io/library/redis"},
		{Name: "redis-7.0", Suite: "bookworm", Package: "redis-server", Include: redis, Repository: "docker.io/library/redis"},
		{Name: "redis-8.0", Suite: "trixie", Package: "redis-server", Include: redis, Repository: "docker.io/library/redis"},
		{
			Name: "valkey-8.1", Suite: "trixie", Package: "valkey-server",
			Include: []string{"valkey-server", "valkey-tools"}, Repository: "docker.io/library/valkey",
		},
	}
}
