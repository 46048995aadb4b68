package cli

import (
	"cmp"
	"context"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/backup"
)

// backupSetOptions are those of backup config and backup resources.
type backupSetOptions struct {
	backup   backup.SetOptions
	store    storeOptions
	encoding encodingOptions
	fleet    fleetOptions
}

func (o *backupSetOptions) addFlags(cmd *cobra.Command) {
	o.store.addTargets(cmd)
	o.encoding.addFlags(cmd)
	o.fleet.addFlags(cmd)
	addSecretsFlag(cmd, &o.backup)
}

func addSecretsFlag(cmd *cobra.Command, o *backup.SetOptions) {
	cmd.Flags().BoolVar(&o.Secrets, "include-secrets", false, "include passwords and Secrets; only together with encryption")
}

func (a *app) newBackupConfigCommand() *cobra.Command {
	o := backupSetOptions{}
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Keep the configuration: what runs, redis.conf and the Helm values",
		Long: `Stores as one JSON file what every instance runs with (CONFIG GET *, ACL LIST), the
chart's redis.conf, the Helm values that were given, and the settings in which the
running servers differ from redis.conf.

Passwords, hashes of ACL users and what Helm values call a password, token or secret are
replaced by a placeholder, unless --include-secrets is given together with encryption.
What may not be read (CONFIG is disabled, Helm's Secret) is said, and in the file.

With --all-namespaces or --all-releases one backup of each release is made: exit code 3
when some failed.`,
		Example: `  redisctl backup config -n redis-prod
  redisctl backup config -n redis-prod --include-secrets --recipients-file ops.txt
  redisctl backup config --address 127.0.0.1:6379 -o jsonpath='{.config.instances[*].differences}'`,
		Args: noArgs,
	}
	o.addFlags(cmd)
	cmd.RunE = runWith(a, &o, a.runBackupConfig)
	return cmd
}

func (a *app) runBackupConfig(ctx context.Context, o backupSetOptions, _ []string) error {
	o.backup.Timeout = a.globals.timeout
	if o.fleet.selected() {
		return o.several(func(ctx context.Context, r *backupRun) (made[noPlan], error) {
			m, config, err := o.oneConfig(ctx, r)
			if err == nil {
				err = unreadConfig(config)
			}
			return m, err
		}).run(ctx, a)
	}
	r, err := a.openBackup(ctx, o.store, o.encoding, false)
	if err != nil {
		return err
	}
	defer r.Close()
	m, config, err := o.oneConfig(ctx, r)
	if err != nil {
		return err
	}
	r.done()
	if err := a.print(configDocument(m.stored, m.manifest, config)); err != nil {
		return err
	}
	return cmp.Or(unreadConfig(config), partial(m.stored))
}

// noPlan is the plan of what changes nothing on the servers: there is none.
type noPlan struct{}

// several backs up several releases.
func (o *backupSetOptions) several(one func(context.Context, *backupRun) (made[noPlan], error)) fleetBackup[noPlan] {
	return fleetBackup[noPlan]{o.fleet, o.store, o.encoding, false, one}
}

func (o *backupSetOptions) oneConfig(ctx context.Context, r *backupRun) (made[noPlan], *backup.ConfigDocument, error) {
	manifest, config, dir, err := r.config().Run(ctx, r.d, o.backup)
	if err != nil {
		return made[noPlan]{}, nil, withNext(err, "redisctl health"+r.app.targetFlags(r.d))
	}
	return made[noPlan]{manifest: manifest, stored: r.stored(dir, manifest)}, config, nil
}

// unreadConfig is the outcome when instances are without settings, or a release without
// its Helm values; nil when everything was read.
func unreadConfig(c *backup.ConfigDocument) error {
	unread := 0
	for _, i := range c.Instances {
		if i.Problem != "" {
			unread++
		}
	}
	if c.Helm == nil && c.Release != "" {
		unread++
	}
	if unread == 0 {
		return nil
	}
	return outcome(operation.Partial, "%d of %d parts of the configuration could not be read", unread, len(c.Instances)+1)
}

func (a *app) newBackupResourcesCommand() *cobra.Command {
	o := backupSetOptions{}
	cmd := &cobra.Command{
		Use:   "resources",
		Short: "Keep the release's Kubernetes objects, ready to be applied again",
		Long: `Stores the StatefulSet, Services, ConfigMaps, volume claims, ServiceAccount, Role,
RoleBinding, NetworkPolicy and PodDisruptionBudget of the release as one YAML stream that
kubectl apply takes in the emptied namespace. What the cluster added is left out: status,
IDs, addresses, bindings of volumes. Services are pinned to pod 0 as the chart does,
because new pods begin with pod 0 as the primary, whatever was promoted before.

Secrets are left out, and named at the top of the stream, unless --include-secrets is
given together with encryption. Volume claims are kept, not their contents: see backup
rdb and backup aof.

With --all-namespaces or --all-releases one backup of each release is made: exit code 3
when some failed.`,
		Example: `  redisctl backup resources -n redis-prod
  redisctl backup resources -n redis-prod --include-secrets --recipients-file ops.txt`,
		Args: noArgs,
	}
	o.addFlags(cmd)
	cmd.RunE = runWith(a, &o, a.runBackupResources)
	return cmd
}

func (a *app) runBackupResources(ctx context.Context, o backupSetOptions, _ []string) error {
	o.backup.Timeout = a.globals.timeout
	if o.fleet.selected() {
		return o.several(o.oneResources).run(ctx, a)
	}
	r, err := a.openBackup(ctx, o.store, o.encoding, false)
	if err != nil {
		return err
	}
	defer r.Close()
	m, err := o.oneResources(ctx, r)
	return r.finish(m.stored, m.manifest, err)
}

func (o *backupSetOptions) oneResources(ctx context.Context, r *backupRun) (made[noPlan], error) {
	manifest, dir, err := r.resources().Run(ctx, r.d, o.backup)
	if err != nil {
		return made[noPlan]{}, err
	}
	return made[noPlan]{manifest: manifest, stored: r.stored(dir, manifest)}, nil
}
