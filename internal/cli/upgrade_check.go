package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/upgrade/check"
	"github.com/redisctl/redisctl/internal/snapshot"
)

// targetImage is what a release is to run.
type targetImage struct {
	to, image string
}

func (o *targetImage) addFlags(f *pflag.FlagSet) {
	f.StringVar(&o.to, "to", "", "version to upgrade to: the image stays, its tag gets this version (7.0.15-alpine becomes 7.2.5-alpine)")
	f.StringVar(&o.image, "image", "", "whole image to upgrade to, instead of --to: valkey/valkey:8.1.1, or with a digest")
}

type upgradeCheckOptions struct {
	target  targetImage
	values  valueOptions
	store   storeOptions
	noTrial bool
	// trial and maxAge are those of check.Options.
	trial, maxAge time.Duration
}

func (a *app) newUpgradeCheckCommand() *cobra.Command {
	defaults := check.DefaultOptions()
	o := upgradeCheckOptions{}
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Find what stands in the way of an upgrade, without changing anything",
		Long: `Looks at the release (health, persistence, memory, space, backups, what is unfinished, who
else owns it), at what Helm would change, at what is known to break between the two versions
as far as this release uses it, and at what a throw-away server of the new image makes of
the release's own redis.conf: whether the image can be pulled, which version it is, which
directives and which of the clients' commands it does not know.

The throw-away server is a pod made from the release's pod template, with an empty volume
and none of the release's labels. It is removed at the end, after Ctrl-C, and ends by itself
after --trial-timeout when redisctl is killed. --no-trial leaves it out.

Another chart and other values are looked at as well (--chart, -f, --set). Without any of
these, --to and --image only the release is looked at.

Each blocker names the flag of redisctl upgrade apply that overrides it. Exit code 10 when
there is a critical finding or a warning, 0 otherwise (notices do not count).`,
		Example: `  redisctl upgrade check --to 8.0.2 -n redis-prod
  redisctl upgrade check --image docker.io/valkey/valkey:8.1.1 -n redis-prod -r cache
  redisctl upgrade check --to 7.2.5 -n redis-prod --no-trial -o json
  redisctl upgrade check --set redis.maxmemory=1gb -n redis-prod
  redisctl upgrade check -n redis-prod --from s3://backups/prod`,
		Args: noArgs,
	}
	f := cmd.Flags()
	o.target.addFlags(f)
	o.values.addFlags(f)
	o.store.addSource(cmd)
	f.BoolVar(&o.noTrial, "no-trial", false, "start no throw-away server")
	f.DurationVar(&o.trial, "trial-timeout", defaults.TrialTime, "how long the throw-away server may take, with the pulling of its image; its pod lives no longer")
	f.DurationVar(&o.maxAge, "max-backup-age", defaults.MaxBackupAge, "age of the last verified backup that is too old")
	cmd.RunE = runWith(a, &o, a.runUpgradeCheck)
	return cmd
}

func (a *app) runUpgradeCheck(ctx context.Context, o upgradeCheckOptions, _ []string) error {
	switch {
	case o.target.to != "" && o.target.image != "":
		return operation.Errorf(operation.Usage, "choose --to or --image")
	case o.trial <= 0 || o.maxAge <= 0:
		return operation.Errorf(operation.Usage, "--trial-timeout and --max-backup-age must be positive")
	}
	change, err := o.values.change()
	if err != nil {
		return err
	}
	b, d, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	reporter, done := a.narrator()
	defer done()
	options := check.DefaultOptions()
	options.To, options.Image, options.Trial, options.TrialTime = o.target.to, o.target.image, !o.noTrial, o.trial
	options.Change = change
	options.Health.Timeout, options.MaxBackupAge = a.globals.timeout, o.maxAge
	report, err := a.upgradeChecker(b, reporter, storedBackups{a, o.store}).Check(ctx, d, options)
	done()
	if err != nil {
		return err
	}
	if err := a.print(upgradeCheckDocument(report, a.system.Now())); err != nil {
		return err
	}
	if !report.Ready {
		return outcome(operation.Unhealthy, "something stands in the way of upgrading %s", d)
	}
	return nil
}

// upgradeChecker wires the operation. backups may be nil.
func (a *app) upgradeChecker(b *backend, reporter operation.Reporter, backups check.Backups) check.Checker {
	return check.Checker{
		Releases: b.Upgrades, Connector: b.Connector, Notes: b.Notes, Locker: b.Locker, Cluster: b.Premises, Trials: b.Trials,
		Backups: backups, Reporter: reporter, Now: a.system.Now,
	}
}

// storedBackups implements check.Backups.
type storedBackups struct {
	app   *app
	store storeOptions
}

// LastVerified implements check.Backups. Of the configuration alone nothing comes back.
func (s storedBackups) LastVerified(ctx context.Context, d *operation.Deployment) (*check.Backup, error) {
	stores, err := s.app.openStores(s.store)
	if err != nil {
		return nil, err
	}
	var last *check.Backup
	for _, store := range stores {
		entries, err := snapshot.List(ctx, store, snapshot.Filter{
			Namespace: d.Namespace, Release: d.Release, States: []snapshot.State{snapshot.Intact},
			Files: append(withRDB(), snapshot.FileAOF, snapshot.FileAOFManifest),
		})
		if err != nil {
			return nil, operation.Errorf(operation.KindOf(err), "listing %s: %w", store.Location(""), err)
		}
		for i := range entries {
			e := &entries[i]
			if e.Verified != nil && (last == nil || e.Created.After(last.CreatedAt)) {
				last = &check.Backup{ID: e.ID, CreatedAt: e.Created, VerifiedAt: e.Verified.At, Location: store.Location("")}
			}
		}
	}
	return last, nil
}
