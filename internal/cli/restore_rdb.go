package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/operation/restore/live"
	"github.com/redisctl/redisctl/internal/operation/restore/volume"
)

type restoreRDBOptions struct {
	source    sourceOptions
	safety    safetyOptions
	overrides restore.Overrides
	proof     proofOptions
	volume    volumeOptions
	live      liveOptions
	method    string
	replace   bool
	noSafety  bool
	dryRun    bool
	yes       bool
}

// methodAuto chooses a way of restoring by what the target has.
const methodAuto = "auto"

// volumeOptions are those of --method volume alone.
type volumeOptions struct {
	stop  time.Duration
	start time.Duration
	hold  time.Duration
}

func (o *volumeOptions) addFlags(cmd *cobra.Command) {
	l := volume.DefaultLimits()
	f := cmd.Flags()
	f.DurationVar(&o.stop, "stop-timeout", l.Stop, "how long the servers may take to end")
	f.DurationVar(&o.start, "start-timeout", l.Start, "how long a starting server may make no progress")
	f.DurationVar(&o.hold, "hold", l.Hold, "how long clients' writes may wait while the data is compared")
}

func (o volumeOptions) limits(timeout time.Duration) volume.Limits {
	l := volume.DefaultLimits()
	l.Timeout, l.Stop, l.Start, l.Hold = timeout, o.stop, o.start, o.hold
	return l
}

// proofOptions say how closely a restored server is compared with the backup.
type proofOptions struct{ verify string }

// The values of --verify.
const (
	verifySample = "sample"
	verifyFull   = "full"
)

func (o *proofOptions) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.verify, "verify", verifySample,
		fmt.Sprintf("which keys are compared with the backup: sample (about %d) or full", restore.DefaultSample))
	mustComplete(cmd, "verify", cobra.FixedCompletions([]string{verifySample, verifyFull}, cobra.ShellCompDirectiveNoFileComp))
}

// sample is about how many keys are compared; 0 for all.
func (o proofOptions) sample() (int64, error) {
	switch o.verify {
	case verifySample:
		return restore.DefaultSample, nil
	case verifyFull:
		return 0, nil
	default:
		return 0, operation.Errorf(operation.Usage, "--verify %q: choose %s or %s", o.verify, verifySample, verifyFull)
	}
}

func (a *app) newRestoreRDBCommand() *cobra.Command {
	o := restoreRDBOptions{}
	cmd := &cobra.Command{
		Use:   "rdb ID|latest|FILE",
		Short: "Restore an RDB snapshot",
		Long: `Restores an RDB snapshot: one that redisctl has stored, or any RDB file of a plain
redis-server. It is verified first, and the present data is backed up.

--method volume puts the file on the volume of the first pod, in the form that the server
loads: dump.rdb, or with appendonly yes a base file and a manifest (before 7.0 an
append-only file that begins with the snapshot). It is copied beside the running server;
then all pods are stopped, the files are renamed, and the first pod starts alone. When it
has loaded the data, and the data was compared with the backup, the others start and copy
it. The former files stay on the volume in redisctl-before-<time>.

A server that cannot load the backup gets its former files back. When redisctl is
interrupted earlier, nothing is changed; later, redisctl restore resume and redisctl
restore abort know how far it has come.

--method live replays the keys into the running primary with pipelined RESTORE commands,
while clients go on; keys can be chosen, and go to other databases. It waits while
replicas are too far behind, ends when the server runs out of memory, and goes on after
any interruption with redisctl restore resume. It is chosen by itself for plain addresses,
for releases without a volume, and when keys are chosen.

Exit code 4 when the servers do not hold what the backup holds, 5 when something stands in
the way (--dry-run shows everything that does), 9 when the servers are too old for the
backup. With --method live, 3 when some keys could not be restored: the server is too old
for them, or clients have written them meanwhile.`,
		Example: `  redisctl restore rdb latest -n redis-prod --dry-run
  redisctl restore rdb latest -n redis-prod --replace
  redisctl restore rdb ./dump.rdb -n redis-prod --replace --verify full
  redisctl restore rdb latest -n redis-prod --match 'cart:*' --skip-existing
  redisctl restore rdb ./dump.rdb --address 127.0.0.1:6379 --db 0 --map-db 0=3
  redisctl restore rdb rdb-20261123T090501Z-k7mq --from s3://backups/prod -n redis-prod --replace --yes`,
		Args: oneArg,
	}
	f := cmd.Flags()
	o.source.addFlags(cmd)
	o.safety.addFlags(cmd)
	o.proof.addFlags(cmd)
	o.volume.addFlags(cmd)
	o.live.addFlags(cmd)
	addOverrides(cmd, &o.overrides)
	f.StringVar(&o.method, "method", methodAuto, "how to restore: auto, live or volume")
	f.BoolVar(&o.replace, "replace", false, "volume: give up the data that the release holds; live: overwrite keys that are there already")
	f.BoolVar(&o.noSafety, "no-safety-backup", false, "do not back up the data that is replaced")
	f.BoolVar(&o.dryRun, "dry-run", false, "print the plan and do nothing")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	mustComplete(cmd, "method", cobra.FixedCompletions([]string{methodAuto, live.Method, volume.Method}, cobra.ShellCompDirectiveNoFileComp))
	cmd.ValidArgsFunction = a.completeBackups(&o.source.store)
	cmd.RunE = runWith(a, &o, a.runRestoreRDB)
	return cmd
}

func (a *app) runRestoreRDB(ctx context.Context, o restoreRDBOptions, args []string) error {
	sample, err := o.proof.sample()
	if err != nil {
		return err
	}
	safety, err := a.openSafety(o.safety, o.source.store)
	if err != nil {
		return err
	}
	b, d, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	switch isLive, err := o.isLive(d); {
	case err != nil:
		return err
	case isLive:
		return a.runRestoreLive(ctx, b, d, o, args[0], safety, sample)
	}
	reporter, done := a.narrator()
	defer done()
	source, err := a.openRDB(ctx, o.source, args[0], reporter)
	if err != nil {
		return err
	}
	return a.carryOut(ctx, a.volumeRestore(b, safety, reporter), d, source, volume.Options{
		Overrides: o.overrides, Replace: o.replace, NoSafetyBackup: o.noSafety, Sample: sample, Limits: o.volume.limits(a.globals.timeout),
	}, volumePlanDocument, consent{o.dryRun, o.yes}, done)
}

// isLive chooses the method.
func (o *restoreRDBOptions) isLive(d *operation.Deployment) (bool, error) {
	switch o.method {
	case live.Method:
		return true, nil
	case volume.Method:
		if o.live.used() {
			return false, operation.Errorf(operation.Usage, "choosing keys goes with --method live: a volume takes the whole file")
		}
		return false, nil
	case methodAuto:
		return d.Workload == nil || d.Workload.Volume.Kind == operation.VolumeNone || o.live.used(), nil
	default:
		return false, operation.Errorf(operation.Usage, "--method %q: choose %s, %s or %s", o.method, methodAuto, live.Method, volume.Method)
	}
}

// openRDB finds the snapshot that ref names, and verifies it.
func (a *app) openRDB(ctx context.Context, o sourceOptions, ref string, reporter operation.Reporter) (volume.RDB, error) {
	found, err := a.findSource(ctx, o, ref, withRDB()...)
	if err != nil {
		return volume.RDB{}, err
	}
	reporter.Step("verifying the backup %s", found.Name())
	contents, err := found.Verify(ctx, a.system.Now(), reporter)
	if err != nil {
		return volume.RDB{}, err
	}
	source := volume.RDB{Backup: found, Contents: contents}
	source.From, source.Ref, err = locate(found)
	return source, err
}

// locate says where a backup can be found again.
func locate(b restore.Backup) (from, ref string, err error) {
	from, ref = b.Store.Location(""), b.Name()
	if strings.Contains(from, "://") {
		return from, ref, nil
	}
	// A record outlives the working directory.
	if ref, err = filepath.Abs(b.Store.Location(b.Entry.DataName)); err != nil {
		return "", "", operation.Errorf(operation.Failed, "naming the backup: %w", err)
	}
	return "", ref, nil
}
