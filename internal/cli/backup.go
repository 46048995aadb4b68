package cli

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/storage"
	"github.com/redisctl/redisctl/internal/storage/folder"
)

func (a *app) newBackupCommand() *cobra.Command {
	return newGroup("backup", "Take, list, verify and compare backups",
		`Takes snapshots that are verified while they stream, and lists, shows, verifies and
compares what is stored. A backup exists when its manifest does, which is written last.`,
		a.newBackupRDBCommand(),
		a.newBackupListCommand(),
		a.newBackupShowCommand(),
		a.newBackupVerifyCommand(),
		a.newBackupDiffCommand(),
	)
}

// storeOptions say where backups live.
type storeOptions struct {
	dir string
}

func (o *storeOptions) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.dir, "backup-dir", filepath.FromSlash("./"+snapshot.DefaultRoot), "folder that holds the backups")
}

func (o storeOptions) open() storage.Store { return folder.New(o.dir) }

// filter selects the backups that -n, -r and --address name.
func (a *app) filter(ctx context.Context) (snapshot.Filter, error) {
	t := a.globals.target
	f := snapshot.Filter{Namespace: t.Namespace, Release: t.Release}
	if len(t.Addresses) > 1 {
		return f, operation.Errorf(operation.Usage, "give one --address; each server has its own folder")
	}
	if len(t.Addresses) == 1 {
		d, err := addressResolver(a).Resolve(ctx, t)
		if err != nil {
			return f, err
		}
		if f.Dir, err = snapshot.AddressDir(d.Instances[0].Name); err != nil {
			return f, operation.Errorf(operation.Usage, "%w", err)
		}
	}
	return f, nil
}

// completeBackups completes the ids of backups. It reads names only.
func (a *app) completeBackups(o *storeOptions) completer {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if err := a.configure(cmd); err != nil || len(args) > 0 {
			return nil, cobra.ShellCompDirectiveDefault
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
		defer cancel()
		f, err := a.filter(ctx)
		if err != nil {
			return nil, cobra.ShellCompDirectiveDefault
		}
		entries, err := snapshot.List(ctx, o.open(), f)
		if err != nil {
			return nil, cobra.ShellCompDirectiveDefault
		}
		words := []string{snapshot.Latest + "\tthe newest intact backup"}
		for _, e := range entries {
			words = append(words, fmt.Sprintf("%s\t%s, %s", e.ID, e.Dir, operation.Bytes(e.Size)))
		}
		// Files may be named as well.
		return words, cobra.ShellCompDirectiveDefault
	}
}
