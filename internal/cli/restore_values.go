package cli

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/redisctl/redisctl/internal/operation"
)

// valuesMark begins the files that writeValues writes, and may replace.
const valuesMark = "# Written by redisctl. "

// writeValues writes a file for the chart that only this user can read: it may hold
// secrets. It never replaces a file of somebody else.
func writeValues(name string, text []byte) error {
	fail := func(err error) error {
		return &operation.Error{Kind: operation.Failed, Object: name, Phase: "writing the values", Err: err, Next: "choose another file with --values"}
	}
	if err := ownFile(name); err != nil {
		return fail(err)
	}
	file, err := os.CreateTemp(filepath.Dir(name), ".redisctl-*") // mode 0600
	if err != nil {
		return fail(err)
	}
	defer func() { _ = os.Remove(file.Name()) }() // it is gone when it was renamed
	_, err = file.Write(append([]byte(valuesMark), bytes.TrimPrefix(text, []byte("# "))...))
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), name)
	}
	if err != nil {
		return fail(err)
	}
	return nil
}

// ownFile returns an error for a file that writeValues has not written.
func ownFile(name string) error {
	file, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	head := make([]byte, len(valuesMark))
	if _, err := io.ReadFull(file, head); err != nil || string(head) != valuesMark {
		return errors.New("it exists, and redisctl did not write it")
	}
	return nil
}
