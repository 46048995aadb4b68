package driver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// errBadID is returned for identifiers that name no folder of a store.
var errBadID = errors.New("not a volume or snapshot of this driver")

// record is what a store knows of one volume or snapshot.
type record struct {
	// Name is what the caller asked for it by; asking twice makes it once.
	Name string `json:"name"`
	// Size in bytes: promised of a volume, needed to restore a snapshot.
	Size int64 `json:"size"`
	// Source is the volume or snapshot whose contents it began with.
	Source string `json:"source,omitempty"`
	// Created is when it was complete.
	Created time.Time `json:"created"`
}

// store keeps folders, each with a record beside it. A folder without a record is what
// an interrupted copy has left.
type store struct{ dir string }

func (s store) folder(id string) string { return filepath.Join(s.dir, id) }

func (s store) recordFile(id string) string { return filepath.Join(s.dir, id+".json") }

// get returns a record. The error matches fs.ErrNotExist when there is none.
func (s store) get(id string) (record, error) {
	if id == "" || id != filepath.Base(id) || strings.HasPrefix(id, ".") {
		return record{}, fmt.Errorf("%q: %w: %w", id, errBadID, fs.ErrNotExist)
	}
	text, err := os.ReadFile(s.recordFile(id))
	if err != nil {
		return record{}, err
	}
	var r record
	err = json.Unmarshal(text, &r)
	return r, err
}

// add makes a folder, with the contents of the folder from unless that is empty, and
// then its record.
func (s store) add(ctx context.Context, id, from string, r record) error {
	dir := s.folder(id)
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return err
	}
	if err := fill(ctx, dir, from); err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return os.WriteFile(s.recordFile(id), text, 0o600)
}

// fill makes dir a copy of from, or an empty folder that everybody may write to.
func fill(ctx context.Context, dir, from string) error {
	if from == "" {
		if err := os.Mkdir(dir, 0o777); err != nil {
			return err
		}
		return os.Chmod(dir, 0o777) //nolint:gosec // as an empty disk: the pod decides who may write
	}
	// cp keeps owners, modes and times, and clones blocks where the file system can.
	out, err := exec.CommandContext(ctx, "cp", "--archive", "--reflink=auto", from, dir).CombinedOutput() //nolint:gosec // both are the driver's own folders
	if err != nil {
		return fmt.Errorf("copying %s: %w: %s", from, err, out)
	}
	return nil
}

// remove removes a record and its folder. What is not there is no error.
func (s store) remove(id string) error {
	if _, err := s.get(id); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := os.Remove(s.recordFile(id)); err != nil {
		return err
	}
	return os.RemoveAll(s.folder(id))
}
