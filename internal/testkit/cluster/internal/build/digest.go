package build

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
)

// Digest identifies everything a component's programs are built from: the
// pinned versions, the sources in its folder, the flags and the Go release.
// The result is a hexadecimal SHA-256.
func (c Component) Digest(source string) (string, error) {
	hash := sha256.New()
	fmt.Fprintf(hash, "%s\n%s\n%q\n%v\n", runtime.Version(), runtime.GOARCH, c.flags(), c.CGO)
	for _, names := range []map[string]string{c.Programs, c.Links} {
		for _, name := range sortedKeys(names) {
			fmt.Fprintf(hash, "%s=%s\n", name, names[name])
		}
	}
	files, err := c.inputs(source)
	if err != nil {
		return "", fmt.Errorf("%s: listing its sources: %w", c.Name, err)
	}
	for _, file := range files {
		if err := addFile(hash, filepath.Join(source, c.Dir), file); err != nil {
			return "", fmt.Errorf("%s: reading its sources: %w", c.Name, err)
		}
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// inputs lists the files a component depends on. For a component inside the
// driver's own module that is only its packages' folders: the driver's sources
// change often and say nothing about the program.
func (c Component) inputs(source string) ([]string, error) {
	root := filepath.Join(source, c.Dir)
	if c.Dir != "." {
		return goFiles(root, ".")
	}
	var files []string
	for _, name := range sortedKeys(c.Programs) {
		more, err := goFiles(root, c.Programs[name])
		if err != nil {
			return nil, err
		}
		files = append(files, more...)
	}
	return files, nil
}

func goFiles(root, below string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(filepath.Join(root, below), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name := entry.Name()
		if strings.HasSuffix(name, "_test.go") || (filepath.Ext(name) != ".go" && name != "go.mod" && name != "go.sum") {
			return nil
		}
		rel, err := filepath.Rel(root, path)
		files = append(files, rel)
		return err
	})
	sort.Strings(files)
	return files, err
}

func addFile(hash io.Writer, root, file string) error {
	f, err := os.Open(filepath.Join(root, file))
	if err != nil {
		return err
	}
	defer f.Close() // only read from
	fmt.Fprintf(hash, "%s\n", file)
	_, err = io.Copy(hash, f)
	return err
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
