// Package images packs folders and programs as OCI image archives, without a
// container engine.
package images

import (
	"archive/tar"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// epoch returns the time every added entry gets, so that packing the same
// content again gives the same image.
func epoch() time.Time { return time.Unix(0, 0) }

// Entry is a file, folder or link that a layer gets in addition to, or instead
// of, what is in its folder.
type Entry struct {
	// Path is the place in the image, without a leading slash.
	Path string
	// Source is the file to copy. Content is used when it is empty.
	Source  string
	Content string
	// Link makes the entry a symbolic link to this target.
	Link string
	// Dir makes the entry a folder.
	Dir bool
	// Mode holds the permission bits.
	Mode int64
	// UID and GID own the entry.
	UID, GID int
}

// Layer is the content of an image's only layer.
type Layer struct {
	// Root is the folder to pack; none when empty.
	Root string
	// Exclude lists paths below Root that are left out with all they hold; a
	// trailing /* leaves out the content and keeps the folder.
	Exclude []string
	// Add lists entries that are added after Root's.
	Add []Entry
}

// WriteTo writes the layer as an uncompressed tar archive. Compressing would
// cost more time than the disk space is worth for images that never travel.
func (l Layer) WriteTo(w io.Writer) (int64, error) {
	counter := &countingWriter{w: w}
	archive := tar.NewWriter(counter)
	if l.Root != "" {
		if err := l.addRoot(archive); err != nil {
			return counter.n, fmt.Errorf("packing %s: %w", l.Root, err)
		}
	}
	for _, e := range l.Add {
		if err := e.add(archive); err != nil {
			return counter.n, fmt.Errorf("packing %s: %w", e.Path, err)
		}
	}
	if err := archive.Close(); err != nil {
		return counter.n, fmt.Errorf("finishing the layer: %w", err)
	}
	return counter.n, nil
}

func (l Layer) addRoot(archive *tar.Writer) error {
	replaced := map[string]bool{}
	for _, e := range l.Add {
		replaced[e.Path] = true
	}
	hardlinks := map[uint64]string{}
	return filepath.WalkDir(l.Root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(l.Root, file)
		if err != nil || name == "." {
			return err
		}
		if l.excluded(name) {
			if entry.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		if replaced[name] {
			return nil
		}
		return addFile(archive, file, name, hardlinks)
	})
}

func (l Layer) excluded(name string) bool {
	return slices.Contains(l.Exclude, name) || slices.Contains(l.Exclude, path.Dir(name)+"/*")
}

// addFile copies one file's header and content. Names of users are dropped:
// they would be looked up on this machine, where they mean someone else.
func addFile(archive *tar.Writer, file, name string, hardlinks map[uint64]string) error {
	info, err := os.Lstat(file)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() && !info.IsDir() && info.Mode()&fs.ModeSymlink == 0 {
		return nil // devices and sockets: the runtime makes those
	}
	target := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if target, err = os.Readlink(file); err != nil {
			return err
		}
	}
	header, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	header.Name = name
	if info.IsDir() {
		header.Name += "/"
	}
	header.Uname, header.Gname = "", ""
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && info.Mode().IsRegular() && stat.Nlink > 1 {
		if first, seen := hardlinks[stat.Ino]; seen {
			header.Typeflag, header.Linkname, header.Size = tar.TypeLink, first, 0
		}
		hardlinks[stat.Ino] = name
	}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	if header.Typeflag != tar.TypeReg {
		return nil
	}
	return copyFile(archive, file)
}

func (e Entry) add(archive *tar.Writer) error {
	header := &tar.Header{Name: e.Path, Mode: e.Mode, Uid: e.UID, Gid: e.GID, ModTime: epoch(), Typeflag: tar.TypeReg}
	switch {
	case e.Dir:
		header.Typeflag, header.Name = tar.TypeDir, e.Path+"/"
	case e.Link != "":
		header.Typeflag, header.Linkname = tar.TypeSymlink, e.Link
	case e.Source != "":
		info, err := os.Stat(e.Source)
		if err != nil {
			return err
		}
		header.Size = info.Size()
	default:
		header.Size = int64(len(e.Content))
	}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	if e.Source != "" {
		return copyFile(archive, e.Source)
	}
	_, err := io.Copy(archive, strings.NewReader(e.Content))
	return err
}

func copyFile(w io.Writer, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close() // only read from
	_, err = io.Copy(w, f)
	return err
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
