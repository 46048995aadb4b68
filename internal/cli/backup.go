package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/snapshot"
)

func (a *app) newBackupCommand() *cobra.Command {
	return newGroup("backup", "Take, list, verify, compare and prune backups",
		`Takes snapshots that are verified while they stream, and lists, shows, verifies,
compares, analyzes, copies and prunes what is stored. A backup exists when its manifest
does, which is written last.`,
		a.newBackupRDBCommand(),
		a.newBackupAOFCommand(),
		a.newBackupConfigCommand(),
		a.newBackupResourcesCommand(),
		a.newBackupFullCommand(),
		a.newBackupVolumeCommand(),
		a.newBackupListCommand(),
		a.newBackupShowCommand(),
		a.newBackupVerifyCommand(),
		a.newBackupDiffCommand(),
		a.newBackupCopyCommand(),
		a.newBackupPruneCommand(),
		a.newBackupAnalyzeCommand(),
	)
}

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

// completeBackups completes the ids of backups.
func (a *app) completeBackups(o *storeOptions) completer {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveDefault
		}
		entries, err := a.knownBackups(cmd, *o)
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

// completeInstances completes the pods and addresses of which there are backups: they may
// be gone from the cluster.
func (a *app) completeInstances(o *storeOptions) completer {
	return func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		entries, err := a.knownBackups(cmd, *o)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		count := make(map[string]int)
		for _, e := range entries {
			if e.Manifest != nil && e.Manifest.Source.Instance != "" {
				count[e.Manifest.Source.Instance]++
			}
		}
		var words []string
		for _, name := range slices.Sorted(maps.Keys(count)) {
			words = append(words, fmt.Sprintf("%s\tbackups: %d", name, count[name]))
		}
		return words, cobra.ShellCompDirectiveNoFileComp
	}
}

// knownBackups lists what -n, -r and --address select, for completion.
func (a *app) knownBackups(cmd *cobra.Command, o storeOptions) ([]snapshot.Entry, error) {
	if err := a.configureCompletion(cmd); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	f, err := a.filter(ctx)
	if err != nil {
		return nil, err
	}
	store, err := a.openSource(o)
	if err != nil {
		return nil, err
	}
	return snapshot.List(ctx, store, f)
}
