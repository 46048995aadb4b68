// Command gendocs writes what is generated from redisctl's command tree, the reference
// in docs/reference, the man pages in docs/man and the completion scripts in
// completions/, and from its table of permissions, docs/permissions.md. With -check it writes nothing and fails when a file differs, so that
// CI finds a command that was changed without its documentation.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/redisctl/redisctl/internal/cli"
	"github.com/redisctl/redisctl/internal/operation/access"
)

func main() {
	check := flag.Bool("check", false, "compare instead of writing")
	root := flag.String("root", ".", "folder of the checkout")
	flag.Parse()
	if err := run(*root, *check); err != nil {
		fmt.Fprintln(os.Stderr, "gendocs:", err)
		os.Exit(1)
	}
}

func run(root string, check bool) error {
	fresh, err := os.MkdirTemp("", "redisctl-docs-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(fresh) }() // a temporary folder left behind harms nobody
	if err := generate(fresh); err != nil {
		return err
	}
	for _, folder := range folders() {
		if check {
			err = compare(filepath.Join(fresh, folder), filepath.Join(root, folder))
		} else {
			err = replace(filepath.Join(fresh, folder), filepath.Join(root, folder))
		}
		if err != nil {
			return err
		}
	}
	for _, file := range files() {
		if check {
			err = compareFile(filepath.Join(fresh, file), filepath.Join(root, file))
		} else {
			err = replaceFile(filepath.Join(fresh, file), filepath.Join(root, file))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// folders are generated as a whole: what is not generated is removed from them.
func folders() []string {
	return []string{filepath.Join("docs", "reference"), filepath.Join("docs", "man"), "completions"}
}

// files are generated into folders that hold others, too.
func files() []string { return []string{filepath.Join("docs", "permissions.md")} }

func generate(to string) error {
	for _, folder := range folders() {
		if err := os.MkdirAll(filepath.Join(to, folder), 0o755); err != nil {
			return err
		}
	}
	tree := cli.NewRootCommand(cli.System{LookupEnv: func(string) (string, bool) { return "", false }, Now: time.Now})
	tree.DisableAutoGenTag = true // a date would change the files every day
	if err := doc.GenMarkdownTree(tree, filepath.Join(to, "docs", "reference")); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(to, "docs", "permissions.md"), []byte(access.Page(access.Table())), 0o644); err != nil { //nolint:gosec // everybody may read it
		return err
	}
	header := &doc.GenManHeader{Section: "1", Source: "redisctl", Date: &time.Time{}}
	if err := doc.GenManTree(tree, header, filepath.Join(to, "docs", "man")); err != nil {
		return err
	}
	return generateCompletions(tree, filepath.Join(to, "completions"))
}

func generateCompletions(tree *cobra.Command, to string) error {
	// kubectl asks this program for the completion of `kubectl redis`.
	// It must be on the PATH.
	plugin := "#!/bin/sh\nexec kubectl redis __complete \"$@\"\n"
	return errors.Join(
		os.WriteFile(filepath.Join(to, "kubectl_complete-redis"), []byte(plugin), 0o755), //nolint:gosec // it is a program
		tree.GenBashCompletionFileV2(filepath.Join(to, "redisctl.bash"), true),
		tree.GenZshCompletionFile(filepath.Join(to, "_redisctl")),
		tree.GenFishCompletionFile(filepath.Join(to, "redisctl.fish"), true),
		tree.GenPowerShellCompletionFileWithDesc(filepath.Join(to, "redisctl.ps1")),
	)
}

// compare fails when the folders do not hold the same files.
func compare(fresh, committed string) error {
	wanted, err := names(fresh)
	if err != nil {
		return err
	}
	found, err := names(committed)
	if err != nil {
		return err
	}
	for _, name := range found {
		if !slices.Contains(wanted, name) {
			return fmt.Errorf("%s is no longer generated: run make generate", filepath.Join(committed, name))
		}
	}
	for _, name := range wanted {
		if err := compareFile(filepath.Join(fresh, name), filepath.Join(committed, name)); err != nil {
			return err
		}
	}
	return nil
}

func compareFile(fresh, committed string) error {
	want, err := os.ReadFile(fresh)
	if err != nil {
		return err
	}
	have, err := os.ReadFile(committed)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !bytes.Equal(want, have) {
		return fmt.Errorf("%s is not what would be generated: run make generate", committed)
	}
	return err
}

func names(folder string) ([]string, error) {
	entries, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	list := make([]string, len(entries))
	for i, e := range entries {
		list[i] = e.Name()
	}
	return list, nil
}

// replace makes committed a copy of fresh.
func replace(fresh, committed string) error {
	if err := os.RemoveAll(committed); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(committed), 0o755); err != nil {
		return err
	}
	return os.CopyFS(committed, os.DirFS(fresh))
}

// replaceFile makes committed a copy of fresh.
func replaceFile(fresh, committed string) error {
	text, err := os.ReadFile(fresh)
	if err != nil {
		return err
	}
	return os.WriteFile(committed, text, 0o644) //nolint:gosec // everybody may read it
}
