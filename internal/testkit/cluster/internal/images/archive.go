package images

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// containerdName is the annotation containerd's importer takes an image's
// complete name from.
const containerdName = "io.containerd.image.name"

// Image is an image to pack.
type Image struct {
	// Name is the complete reference: registry host, repository and tag.
	Name string
	// Config is how the image is run.
	Config v1.ImageConfig
	// Layer is its content.
	Layer Layer
}

// Pack writes the image to file as an archive in the OCI image layout
// (github.com/opencontainers/image-spec, image-layout.md). The file appears
// under its name only when it is complete.
func (i Image) Pack(file string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("%s: %w", i.Name, err)
	}
	layer, err := os.CreateTemp(filepath.Dir(file), "layer-*")
	if err != nil {
		return fmt.Errorf("%s: %w", i.Name, err)
	}
	defer os.Remove(layer.Name()) // a temporary file
	defer layer.Close()           // only read from by then
	digester := digest.Canonical.Digester()
	size, err := i.Layer.WriteTo(io.MultiWriter(layer, digester.Hash()))
	if err != nil {
		return fmt.Errorf("%s: %w", i.Name, err)
	}
	if _, err := layer.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("%s: %w", i.Name, err)
	}
	archive, err := os.CreateTemp(filepath.Dir(file), "image-*")
	if err != nil {
		return fmt.Errorf("%s: %w", i.Name, err)
	}
	defer os.Remove(archive.Name()) // gone already when all went well
	if err := i.write(archive, layer, size, digester.Digest()); err != nil {
		archive.Close() // the first error counts
		return fmt.Errorf("%s: %w", i.Name, err)
	}
	if err := archive.Close(); err != nil {
		return fmt.Errorf("%s: %w", i.Name, err)
	}
	return os.Rename(archive.Name(), file)
}

func (i Image) write(w io.Writer, layer io.Reader, size int64, layerDigest digest.Digest) error {
	archive := tar.NewWriter(w)
	config, err := json.Marshal(v1.Image{
		Platform: v1.Platform{OS: "linux", Architecture: runtime.GOARCH},
		Config:   i.Config,
		RootFS:   v1.RootFS{Type: "layers", DiffIDs: []digest.Digest{layerDigest}},
	})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal(v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: v1.MediaTypeImageManifest,
		Config:    descriptor(v1.MediaTypeImageConfig, config),
		Layers:    []v1.Descriptor{{MediaType: v1.MediaTypeImageLayer, Digest: layerDigest, Size: size}},
	})
	if err != nil {
		return err
	}
	entry := descriptor(v1.MediaTypeImageManifest, manifest)
	entry.Annotations = map[string]string{containerdName: i.Name}
	index, err := json.Marshal(v1.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: v1.MediaTypeImageIndex,
		Manifests: []v1.Descriptor{entry},
	})
	if err != nil {
		return err
	}
	layout, err := json.Marshal(v1.ImageLayout{Version: v1.ImageLayoutVersion})
	if err != nil {
		return err
	}
	for _, part := range []struct {
		name string
		text []byte
	}{
		{v1.ImageLayoutFile, layout},
		{v1.ImageIndexFile, index},
		{blob(digest.FromBytes(manifest)), manifest},
		{blob(digest.FromBytes(config)), config},
	} {
		if err := (Entry{Path: part.name, Content: string(part.text), Mode: 0o644}).add(archive); err != nil {
			return err
		}
	}
	if err := archive.WriteHeader(&tar.Header{Name: blob(layerDigest), Mode: 0o644, Size: size, ModTime: epoch()}); err != nil {
		return err
	}
	if _, err := io.Copy(archive, layer); err != nil {
		return err
	}
	return archive.Close()
}

func descriptor(mediaType string, content []byte) v1.Descriptor {
	return v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(content), Size: int64(len(content))}
}

func blob(d digest.Digest) string {
	return v1.ImageBlobsDir + "/" + d.Algorithm().String() + "/" + d.Encoded()
}
