package bundle

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Write writes the archive: a folder with the files, manifest.json and README.txt, which
// say what is in it.
func (m Manifest) Write(to io.Writer) error {
	compressed := gzip.NewWriter(to)
	archive := tar.NewWriter(compressed)
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the manifest: %w", err)
	}
	files := append([]File{
		{Name: "README.txt", content: []byte(m.readme())}, {Name: "manifest.json", content: append(text, '\n')},
	}, m.Files...)
	for _, f := range files {
		header := &tar.Header{
			Name: "redisctl-support/" + f.Name, Mode: 0o600, Size: int64(len(f.content)), ModTime: m.TakenAt, Typeflag: tar.TypeReg,
		}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		if _, err := archive.Write(f.content); err != nil {
			return err
		}
	}
	return errors.Join(archive.Close(), compressed.Close())
}

// readme is the listing for people.
func (m Manifest) readme() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Gathered by redisctl at %s about %s.\nSecrets, keys and values are not in here.\n\n", m.TakenAt.Format("2006-01-02 15:04:05 MST"), m.Name)
	for _, f := range m.Files {
		fmt.Fprintf(&b, "%-48s %s\n", f.Name, f.What)
	}
	for _, missing := range m.Missing {
		fmt.Fprintf(&b, "\nNOT HERE: %s: %s\n", missing.Part, missing.Reason)
	}
	return b.String()
}

// Save writes the archive under a name that does not exist yet, readable by this user
// only. Under that name there is the whole archive or nothing. It returns its size.
func (m Manifest) Save(name string) (int64, error) {
	if err := Free(name); err != nil {
		return 0, err
	}
	file, err := os.CreateTemp(filepath.Dir(name), ".redisctl-*") // mode 0600
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.Remove(file.Name()) }() // it has got its name, or is of no use
	err = m.Write(file)
	info, statErr := file.Stat()
	if err := errors.Join(err, statErr, file.Sync(), file.Close()); err != nil {
		return 0, err
	}
	// Unlike a rename, a link never replaces what somebody else has written meanwhile.
	if err := os.Link(file.Name(), name); err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Free returns an error matching fs.ErrExist when there is something under a name.
func Free(name string) error {
	if _, err := os.Lstat(name); err == nil {
		return fmt.Errorf("%s: %w", name, fs.ErrExist)
	}
	return nil
}
