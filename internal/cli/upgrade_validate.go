package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/backup"
	"github.com/redisctl/redisctl/internal/operation/health"
	"github.com/redisctl/redisctl/internal/operation/upgrade/validate"
)

type upgradeValidateOptions struct {
	checks   health.Options
	store    storeOptions
	encoding encodingOptions
	quick    bool
	noBackup bool
}

func (a *app) newUpgradeValidateCommand() *cobra.Command {
	o := upgradeValidateOptions{checks: health.DefaultOptions()}
	cmd := &cobra.Command{
		Use:   "validate",
		Short: "Check a release after an upgrade against the state before",
		Long: `Checks that all servers run the same version from the image that was asked for, that every
pod was replaced and stays up, what redisctl health checks, that there are as many keys as
before but for what can have expired or was evicted, that persistence is as it was, that
the servers' logs tell of no trouble since they were started, that PINGs are answered as
quickly as before, and that the release can be backed up: a fresh backup is stored, and
verified on the way.

What was before is what redisctl upgrade apply has recorded. Without a record, that is
said, and the rest is checked.

Exit code 10 when there is a critical finding or a warning, 0 otherwise (notices do not
count). --quick leaves out the PINGs and the backup, --no-backup the backup alone.`,
		Example: `  redisctl upgrade validate -n redis-prod
  redisctl upgrade validate -n redis-prod -r cache --quick
  redisctl upgrade validate -n redis-prod --to s3://backups/redis --compress zstd
  redisctl upgrade validate -n redis-prod --no-backup -o jsonpath='{.findings[*].code}'`,
		Args: noArgs,
	}
	o.store.addTargets(cmd)
	o.encoding.addFlags(cmd)
	addThresholdFlags(cmd, &o.checks)
	cmd.Flags().BoolVar(&o.quick, "quick", false, "leave out what takes long: latency and the backup")
	cmd.Flags().BoolVar(&o.noBackup, "no-backup", false, "take no backup")
	cmd.RunE = runWith(a, &o, a.runUpgradeValidate)
	return cmd
}

func (a *app) runUpgradeValidate(ctx context.Context, o upgradeValidateOptions, _ []string) error {
	o.checks.Timeout = a.globals.timeout
	r, err := a.openValidation(ctx, o)
	if err != nil {
		return err
	}
	defer r.Close()
	b := r.backend
	v := validate.Validate{Connector: b.Connector, Notes: b.Notes, Logs: b.Logs, Reporter: r.reporter, Now: a.system.Now}
	if r.store != nil {
		v.Backups = freshBackups{r}
	}
	report, err := v.Run(ctx, r.d, validate.Options{Health: o.checks, Quick: o.quick})
	r.done()
	if err != nil {
		return err
	}
	if err := a.print(validationDocument(report)); err != nil {
		return err
	}
	if !report.Valid {
		return outcome(operation.Unhealthy, "%s is not as it should be", r.d)
	}
	return nil
}

// openValidation opens the release, and the stores of the backup if there is to be one.
func (a *app) openValidation(ctx context.Context, o upgradeValidateOptions) (*backupRun, error) {
	if !o.quick && !o.noBackup {
		return a.openBackup(ctx, o.store, o.encoding, false)
	}
	b, d, err := a.open(ctx)
	if err != nil {
		return nil, err
	}
	r := &backupRun{app: a, backend: b, d: d}
	r.reporter, r.done = a.narrator()
	return r, nil
}

// freshBackups implements validate.Backups.
type freshBackups struct{ run *backupRun }

// Backup implements validate.Backups.
func (f freshBackups) Backup(ctx context.Context, d *operation.Deployment, name string) (string, error) {
	op := f.run.rdb()
	plan, err := op.Plan(ctx, d, backup.Options{
		Method: backup.MethodStream, Instance: name, Timeout: f.run.app.globals.timeout, Stall: defaultStall,
	})
	if err != nil {
		return "", err
	}
	if err := plan.Refusal(); err != nil {
		return "", err
	}
	manifest, err := op.Apply(ctx, plan)
	if err != nil {
		return "", err
	}
	stored := storedAtAll(f.run.store, plan.DataName(manifest))
	return firstFile(stored), partial(stored)
}
