package images

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/atomicfile"
	"github.com/redisctl/redisctl/internal/testkit/cluster/internal/progress"
)

// Store imports images into containerd.
type Store struct {
	// CTR is containerd's command-line client, Socket where containerd listens.
	CTR, Socket string
	// Dir holds archives while they are imported, and records from what each
	// image was packed. It has to end with containerd's own data.
	Dir string
}

// namespace is the containerd namespace the kubelet's images live in.
const namespace = "k8s.io"

// Ensure packs and imports those of images that containerd lacks, or has
// packed from something else.
func (s Store) Ensure(ctx context.Context, list []Image, report progress.Func) error {
	present, err := s.present(ctx)
	if err != nil {
		return err
	}
	for _, image := range list {
		key, err := image.Key()
		if err != nil {
			return err
		}
		record := filepath.Join(s.Dir, image.file()+".key")
		old, err := os.ReadFile(record)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s: reading from what it was packed: %w", image.Name, err)
		}
		if present[image.Name] && string(old) == key {
			continue
		}
		report("importing %s", image.Name)
		if err := s.load(ctx, image); err != nil {
			return err
		}
		if err := atomicfile.Write(record, []byte(key), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// load packs and imports one image. The archive is not kept: containerd has
// its content, and packing it again takes seconds.
func (s Store) load(ctx context.Context, image Image) error {
	archive := filepath.Join(s.Dir, image.file()+".tar")
	if err := image.Pack(archive); err != nil {
		return err
	}
	_, err := s.command(ctx, "images", "import", "--local", archive)
	return errors.Join(err, os.Remove(archive))
}

// present returns the names of the images that containerd has.
func (s Store) present(ctx context.Context) (map[string]bool, error) {
	out, err := s.command(ctx, "images", "list", "--quiet")
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for name := range strings.Lines(out) {
		names[strings.TrimSpace(name)] = true
	}
	return names, nil
}

func (s Store) command(ctx context.Context, args ...string) (string, error) {
	full := append([]string{"--address", s.Socket, "--namespace", namespace}, args...)
	cmd := exec.CommandContext(ctx, s.CTR, full...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("ctr %s: %w\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out), nil
}
