// Program image packs a static linux program as a container image: the program, the root
// certificates that S3 over TLS needs, an account without rights and a place for temporary
// files. It needs no container engine, no base image and no network, and makes the same
// bytes of the same program. The archive is of the kind that `docker load`, `podman load`
// and `ctr images import` read.
//
// It is a module of its own: what it needs is no dependency of redisctl.
package main

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// account is who the program runs as: nobody that a node knows. Kubernetes proves
// runAsNonRoot by a number only.
const account = "65532"

// options say what to pack.
type options struct {
	program string // the path of a static program for linux
	arch    string // as Go names it
	version string
	tag     string // the image's name and tag
	created time.Time
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	o, out, created := options{}, "", ""
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	flags.StringVar(&o.program, "program", "", "the static program for linux")
	flags.StringVar(&o.arch, "arch", "amd64", "its architecture")
	flags.StringVar(&o.version, "version", "dev", "its version")
	flags.StringVar(&o.tag, "tag", "redisctl:dev", "the image's name and tag")
	flags.StringVar(&created, "created", "1970-01-01T00:00:00Z", "when it was made, RFC 3339: that of the commit")
	flags.StringVar(&out, "o", "", "the archive to write")
	err := flags.Parse(args)
	if err != nil {
		return err
	}
	if o.created, err = time.Parse(time.RFC3339, created); err != nil {
		return err
	}
	tag, err := name.NewTag(o.tag)
	if err != nil {
		return err
	}
	image, err := pack(o)
	if err != nil {
		return err
	}
	return tarball.WriteToFile(out, tag, image)
}

// pack makes the image.
func pack(o options) (v1.Image, error) {
	program, err := os.ReadFile(o.program)
	if err != nil {
		return nil, err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, files := range [][]file{base(), {{name: "usr/bin/redisctl", mode: 0o755, content: program}}} {
		layer, err := layerOf(files)
		if err != nil {
			return nil, err
		}
		if image, err = mutate.AppendLayers(image, layer); err != nil {
			return nil, err
		}
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", o.arch, v1.Time{Time: o.created.UTC()}
	config.Config = v1.Config{
		User:       account + ":" + account,
		Entrypoint: []string{"/usr/bin/redisctl"},
		Env:        []string{"PATH=/usr/bin", "HOME=/tmp"},
		WorkingDir: "/tmp",
		Labels: map[string]string{
			"org.opencontainers.image.title":   "redisctl",
			"org.opencontainers.image.version": o.version,
			"org.opencontainers.image.source":  "https://github.com/redisctl/redisctl",
		},
	}
	return mutate.ConfigFile(image, config)
}

// file is one of an image; one without content whose name ends in a slash is a folder.
type file struct {
	name    string
	mode    int64
	content []byte
}

// base is what every program needs that talks TLS and asks who it is.
func base() []file {
	roots := bytes.Buffer{}
	for root := range bundle.Roots() {
		// A root with a constraint is trusted for some names only, which a file of
		// certificates cannot say.
		if root.Constraint == nil {
			_ = pem.Encode(&roots, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // a Buffer takes all
		}
	}
	return []file{
		{name: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, content: roots.Bytes()},
		{name: "etc/passwd", mode: 0o644, content: []byte("redisctl:x:" + account + ":" + account + ":redisctl:/tmp:/sbin/nologin\n")},
		{name: "tmp/", mode: 0o1777},
	}
}

// layerOf packs files in their order, without times: the same files are the same layer.
func layerOf(files []file) (v1.Layer, error) {
	var packed bytes.Buffer
	w := tar.NewWriter(&packed)
	for _, f := range files {
		header := tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.content)), Typeflag: tar.TypeReg, Format: tar.FormatPAX}
		if f.name[len(f.name)-1] == '/' {
			header.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(&header); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(packed.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
}
