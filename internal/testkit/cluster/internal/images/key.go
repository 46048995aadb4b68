package images

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// packageDatabase is where a Debian root file system records what is installed
// in it, with versions: it stands for the whole content.
const packageDatabase = "var/lib/dpkg/status"

// Key identifies what an image is packed from: its description, the programs
// it copies, and the packages installed in its root folder. It is a
// hexadecimal SHA-256. Reading all of a root folder would take as long as
// packing it.
func (i Image) Key() (string, error) {
	hash := sha256.New()
	description, err := json.Marshal(i)
	if err != nil {
		return "", fmt.Errorf("%s: describing: %w", i.Name, err)
	}
	hash.Write(description)
	var sources []string
	if i.Layer.Root != "" {
		sources = append(sources, filepath.Join(i.Layer.Root, packageDatabase))
	}
	for _, e := range i.Layer.Add {
		if e.Source != "" {
			sources = append(sources, e.Source)
		}
	}
	for _, source := range sources {
		if err := hashFile(hash, source); err != nil {
			return "", fmt.Errorf("%s: %w", i.Name, err)
		}
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

func hashFile(w io.Writer, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close() // only read from
	_, err = io.Copy(w, f)
	return err
}
