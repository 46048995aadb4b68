package cli

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/access"
	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/operation/restore/config"
	"github.com/redisctl/redisctl/internal/operation/restore/full"
	"github.com/redisctl/redisctl/internal/operation/restore/live"
	"github.com/redisctl/redisctl/internal/operation/restore/volume"
	"github.com/redisctl/redisctl/internal/render"
	"github.com/redisctl/redisctl/internal/snapshot"
)

type restoreFullOptions struct {
	source          sourceOptions
	proof           proofOptions
	volume          volumeOptions
	overrides       restore.Overrides
	into            string
	createNamespace bool
	adopt           bool
	replace         bool
	accept          bool
	storageClass    string
	passwordFile    string
	generate        bool
	secretFile      string
	values          string
	rto             time.Duration
	dryRun          bool
	yes             bool
}

func (a *app) newRestoreFullCommand() *cobra.Command {
	o := restoreFullOptions{}
	cmd := &cobra.Command{
		Use:   "full ID|latest|FILE",
		Short: "Bring a whole release back into a namespace that has nothing of it",
		Long: `Disaster recovery from a backup of everything (backup full): applies the objects, waits
until the empty release serves, restores the data, compares it with the backup, waits until
the replicas are in sync and the Services lead to them, and reports how long each step took.

-n and -r say which release the backup is of, --into where it goes. In another namespace
the DNS names of the release's Services are rewritten wherever the objects hold them; the
plan (--dry-run) shows each change. Objects of the whole cluster are not touched.

A backup that was taken with --include-secrets has the Secrets. Otherwise the password
comes from --password-file, --generate-password, a Secret that is there already, or
--secret-from-file.

Helm's own record of the release is not in a backup. The values are written to a file
(mode 0600, it may hold the password), and the report ends with the helm upgrade --install
that makes Helm know the release; with the same chart and values no pod restarts.

Interrupted, run the same command again: what is there stays, and it goes on.

Exit code 4 when the servers do not hold what the backup holds, 5 when something stands in
the way, 8 when the backup is encrypted and no key opens it. 0 only when the release serves
what the backup holds; a report that is over --rto says so.`,
		Example: `  redisctl restore full latest -n redis-prod --into redis-prod --create-namespace --identity ops.txt --dry-run
  redisctl restore full latest -n redis-prod --into redis-dr --create-namespace --identity ops.txt
  redisctl restore full full-20261123T090501Z-k7mq --from s3://backups/prod --into redis-dr --password-file pass.txt --yes`,
		Args: oneArg,
	}
	f := cmd.Flags()
	o.source.addFlags(cmd)
	o.proof.addFlags(cmd)
	o.volume.addFlags(cmd)
	f.StringVar(&o.into, "into", "", "namespace that everything goes to (required)")
	f.BoolVar(&o.createNamespace, "create-namespace", false, "create the namespace if it is not there")
	f.BoolVar(&o.adopt, "adopt", false, "use objects that exist already and are as in the backup, and keep Secrets that exist")
	f.BoolVar(&o.replace, "replace", false, "give up what volumes hold that exist already")
	f.BoolVar(&o.accept, "accept-differences", false, "go on after an interruption although the data is not what the backup holds (exit code 4)")
	f.StringVar(&o.storageClass, "storage-class", "", "storage class of all volumes, instead of that in the backup")
	f.StringVar(&o.passwordFile, "password-file", "", "file with the password, for a backup without Secrets")
	f.BoolVar(&o.generate, "generate-password", false, "make a new password, for a backup without Secrets")
	f.StringVar(&o.secretFile, "secret-from-file", "", "YAML file with further objects of kind Secret")
	f.StringVar(&o.values, "values", "", "file for the Helm values (default ./redisctl-NAMESPACE-RELEASE-values.yaml)")
	f.DurationVar(&o.rto, "rto", full.DefaultRTO, "how long it may take; the report compares")
	f.BoolVar(&o.overrides.Unverified, "allow-unverified", false, "restore a backup that fails verification")
	f.BoolVar(&o.overrides.Memory, "ignore-memory", false, "go on although the data may be larger than maxmemory")
	f.BoolVar(&o.overrides.Space, "ignore-space", false, "go on although the volume may be too small")
	f.BoolVar(&o.dryRun, "dry-run", false, "print the plan and do nothing")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	mustComplete(cmd, "into", a.complete(func(ctx context.Context, b *backend) ([]string, error) {
		return b.Names.CompleteNamespaces(ctx)
	}))
	mustComplete(cmd, "storage-class", a.complete(func(ctx context.Context, b *backend) ([]string, error) {
		if b.Rebuild == nil {
			return nil, errNoCluster
		}
		names, _, err := b.Rebuild.StorageClasses(ctx)
		return names, err
	}))
	cmd.ValidArgsFunction = a.completeBackups(&o.source.store)
	cmd.RunE = runWith(a, &o, a.runRestoreFull)
	return cmd
}

func (a *app) runRestoreFull(ctx context.Context, o restoreFullOptions, args []string) error {
	begun := a.system.Now()
	options, err := a.fullOptions(o, args[0])
	if err != nil {
		return err
	}
	options.Begun = begun
	b, err := a.backend(a)
	if err != nil {
		return err
	}
	defer b.Close()
	if b.Rebuild == nil {
		return operation.Errorf(operation.Usage, "restore full needs a cluster: --address has no objects")
	}
	reporter, done := a.narrator()
	defer done()
	found, err := a.findKind(ctx, o.source, args[0], snapshot.KindFull)
	if err != nil {
		return err
	}
	source, err := full.Open(ctx, found, a.system.Now(), reporter)
	if err != nil {
		return err
	}
	op := a.fullRestore(b, source, options, reporter)
	plan, err := op.Plan(ctx, source, options)
	if err != nil {
		return err
	}
	a.scope = accessScope{b.Access, access.Names{Namespace: plan.Namespace}}
	if proceed, err := a.review(ctx, reporter, o.dryRun, plan.Plan, fullPlanDocument(plan)); !proceed {
		return err
	}
	if !o.yes {
		target := &operation.Deployment{Namespace: plan.Namespace, Release: plan.Release, Name: plan.Name}
		if err := a.confirmName(target, "restore %s into the namespace %s", plan.Backup, plan.Namespace); err != nil {
			return err
		}
	}
	file := ""
	if len(plan.Values()) > 0 {
		file = cmp.Or(o.values, fmt.Sprintf("redisctl-%s-%s-values.yaml", plan.Namespace, plan.Release))
		if err := writeValues(file, plan.Values()); err != nil {
			return err
		}
	}
	result, failed := op.Apply(ctx, plan)
	done()
	if file != "" {
		result.ValuesFile, result.HelmCommand = file, plan.HelmCommand(file)
	}
	if failed != nil && len(result.Steps) <= 1 {
		return failed
	}
	if err := a.print(fullDocument(result)); err != nil {
		return err
	}
	return failed
}

// fullOptions reads the flags and the files that they name.
func (a *app) fullOptions(o restoreFullOptions, ref string) (full.Options, error) {
	sample, err := o.proof.sample()
	options := full.Options{
		Overrides: o.overrides, Namespace: o.into, CreateNamespace: o.createNamespace, Adopt: o.adopt, Replace: o.replace, AcceptDifferences: o.accept,
		StorageClass: o.storageClass, Generate: o.generate, Sample: sample, RTO: o.rto, Limits: o.volume.limits(a.globals.timeout),
	}
	switch {
	case err != nil:
		return options, err
	case o.into == "":
		return options, operation.Errorf(operation.Usage, "say which namespace it goes to: --into")
	case ref == snapshot.Latest && a.globals.target.Namespace == "":
		return options, operation.Errorf(operation.Usage, "say which release's latest backup: -n and -r")
	case o.generate && o.passwordFile != "":
		return options, operation.Errorf(operation.Usage, "choose --password-file or --generate-password")
	case o.rto <= 0:
		return options, operation.Errorf(operation.Usage, "--rto %s: it must be positive", o.rto)
	}
	if o.passwordFile != "" {
		text, err := readKeyFile("--password-file", o.passwordFile)
		if err != nil {
			return options, err
		}
		line, _, _ := strings.Cut(string(text), "\n")
		if options.Password = strings.TrimSuffix(line, "\r"); options.Password == "" {
			return options, operation.Errorf(operation.Usage, "--password-file: its first line is empty")
		}
	}
	if o.secretFile == "" {
		return options, nil
	}
	text, err := readKeyFile("--secret-from-file", o.secretFile)
	if err != nil {
		return options, err
	}
	options.Secrets, err = full.ParseObjects(text)
	for _, secret := range options.Secrets {
		if secret.Kind != "Secret" {
			err = fmt.Errorf("it has a %s", secret.Kind)
		}
	}
	if err != nil {
		return options, operation.Errorf(operation.Usage, "--secret-from-file %s: %w", o.secretFile, err)
	}
	return options, nil
}

// fullRestore wires the operation.
func (a *app) fullRestore(b *backend, source full.Source, o full.Options, reporter operation.Reporter) full.Restore {
	from, ref := recordedSource(source.Backup)
	liveOptions := live.DefaultOptions()
	liveOptions.Overrides, liveOptions.Sample, liveOptions.Timeout = o.Overrides, o.Sample, a.globals.timeout
	liveOptions.NoSafetyBackup = true
	return full.Restore{
		Cluster: b.Rebuild, Resolver: b.Resolver, Connector: b.Connector, Locker: b.Locker, Notes: b.Notes,
		Data: full.Loader{
			Volume:       a.volumeRestore(b, nil, reporter),
			VolumeSource: volume.RDB{Backup: source.Backup, Contents: source.Contents, From: from, Ref: ref},
			VolumeOptions: volume.Options{
				Overrides: o.Overrides, NoSafetyBackup: true, Sample: o.Sample, Limits: o.Limits,
			},
			Live: a.liveRestore(b, nil, reporter), LiveBackup: source.Backup, LiveOptions: liveOptions,
			AcceptDifferences: o.AcceptDifferences,
		},
		Comparer: restore.Comparer{Connector: b.Connector, Values: b.Values, Reporter: reporter},
		Config:   config.Restore{Connector: b.Connector, Locker: b.Locker, Objects: b.Objects, Reporter: operation.DiscardReporter{}},
		Reporter: reporter, Now: a.system.Now, Random: newPassword, By: operator(),
	}
}

// newPassword returns 128 random bits in letters and digits.
func newPassword() (string, error) { return rand.Text(), nil }

// fullPlanDocument shows the changes beside the steps.
func fullPlanDocument(p *full.Plan) render.Document {
	doc := planDocument(p.Plan, p)
	if len(p.Changes) == 0 {
		return doc
	}
	t := render.Table{Columns: []render.Column{{Title: "OBJECT"}, {Title: "CHANGED"}, {Title: "FROM"}, {Title: "TO"}}}
	for _, c := range p.Changes {
		t.Rows = append(t.Rows, []render.Cell{render.T(c.Object), render.T(c.Path), render.T(c.From), render.T(c.To)})
	}
	doc.Blocks = append(doc.Blocks, t)
	return doc
}

func fullDocument(r full.Result) render.Document {
	head := render.Text{Text: fmt.Sprintf("%s/%s serves what %s holds", r.Namespace, r.Release, r.Backup), Style: render.Good}
	if !r.Complete {
		head = render.Text{Text: fmt.Sprintf("%s/%s is not complete", r.Namespace, r.Release), Style: render.Bad}
	}
	fields := render.Fields{{Label: "objects", Value: render.T(objectsText(r.Objects))}}
	if r.Method != "" {
		fields = append(fields, render.Field{Label: "data", Value: render.T("restored by method " + r.Method)})
	}
	if r.Comparison != nil {
		fields = append(fields, comparisonFields(*r.Comparison)...)
	}
	for _, i := range r.Instances {
		fields = append(fields, render.Field{Label: "instance", Value: render.T(i.Name + " (" + i.Role + ")")})
	}
	for _, s := range r.Services {
		fields = append(fields, render.Field{Label: "service", Value: render.T(s.Name + " leads to " + strings.Join(s.Endpoints, ", "))})
	}
	for i := range r.Settings {
		s := &r.Settings[i]
		fields = append(fields, render.Field{Label: "setting", Value: render.Cell{
			Text: fmt.Sprintf("%s was %s, is %s: redisctl restore config", s.Name, shownValue(s.Backup), runningText(s.Running)), Style: render.Warn}})
	}
	steps := render.Table{Columns: []render.Column{{Title: "STEP"}, {Title: "TOOK", Right: true}}}
	for _, s := range r.Steps {
		steps.Rows = append(steps.Rows, []render.Cell{render.T(s.Step), render.T(inSeconds(s.Seconds))})
	}
	steps.Rows = append(steps.Rows, []render.Cell{{Text: "in all", Style: render.Strong}, render.T(inSeconds(r.Seconds))})
	doc := render.Document{Value: r, Names: []string{r.Name}, Blocks: []render.Block{head, fields, steps, rtoText(r)}}
	if r.HelmCommand != "" {
		doc.Blocks = append(doc.Blocks, render.Text{Text: "Helm does not know the release yet: " + r.HelmCommand})
	}
	return doc
}

func rtoText(r full.Result) render.Block {
	rto := time.Duration(r.RTO * float64(time.Second))
	if r.WithinRTO {
		return render.Text{Text: fmt.Sprintf("within the objective of %s: %s since it was begun", rto, inSeconds(r.SinceBegun)), Style: render.Good}
	}
	return render.Text{Text: fmt.Sprintf("over the objective of %s: %s since it was begun", rto, inSeconds(r.SinceBegun)), Style: render.Bad}
}

// objectsText counts what became of the objects.
func objectsText(objects []full.Planned) string {
	counts := map[full.Action]int{}
	for _, o := range objects {
		counts[o.Action]++
	}
	return fmt.Sprintf("%d created, %d updated, %d were there", counts[full.ActionCreate], counts[full.ActionUpdate], counts[full.ActionKeep])
}
