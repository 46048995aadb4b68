package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/backup"
	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/operation/restore/config"
	"github.com/redisctl/redisctl/internal/render"
	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/storage"
)

type restoreConfigOptions struct {
	source    sourceOptions
	overrides restore.Overrides
	only      []string
	secrets   bool
	values    string
	dryRun    bool
	yes       bool
}

func (a *app) newRestoreConfigCommand() *cobra.Command {
	o := restoreConfigOptions{}
	cmd := &cobra.Command{
		Use:   "config ID|latest|FILE",
		Short: "Bring settings back: by CONFIG SET, and as Helm values",
		Long: `Compares three things: what the servers ran with when the backup was taken (backup config
or backup full), what they run with now, and what the chart's redis.conf asks for.

What CONFIG SET can change is set, on all instances or on none. That lasts until the next
restart, because the chart mounts redis.conf read-only. So everything is also written to a
file of Helm values, mode 0600, together with what servers read only when they start; with
it, helm upgrade makes the settings last. Without Helm values (plain addresses, a ConfigMap
of your own) the file has lines of redis.conf.

Left alone is what is about one server, its files or its surroundings (replicaof, port,
dir, cluster-*, tls-*, …) and, when the backup is of another version, what redis.conf did
not name then: it may have been that version's default. --only NAME restores it
nevertheless. Where servers had different values, the primary's counts.

Passwords are left alone unless --include-secrets is given, and are never shown; that of a
release is in its Secret and changes there. ACL users are not restored.

Exit code 3 when some settings could not be set (the file has them), 5 when something
stands in the way.`,
		Example: `  redisctl restore config latest -n redis-prod --dry-run
  redisctl restore config latest -n redis-prod --only maxmemory,maxmemory-policy --yes
  redisctl restore config full-20261123T090501Z-k7mq -n redis-prod --values restored.yaml`,
		Args: oneArg,
	}
	f := cmd.Flags()
	o.source.addFlags(cmd)
	f.StringSliceVar(&o.only, "only", nil, "restore only settings whose names match this pattern: maxmemory* (repeatable)")
	f.BoolVar(&o.secrets, "include-secrets", false, "restore passwords too; the backup must have them")
	f.StringVar(&o.values, "values", "", "file for the Helm values (default ./redisctl-config-NAME.yaml)")
	f.BoolVar(&o.overrides.OtherRelease, "allow-other-release", false, "restore a backup of another release")
	f.BoolVar(&o.overrides.Memory, "ignore-memory", false, "go on although maxmemory would be less than what is used")
	f.BoolVar(&o.overrides.Managed, "allow-managed", false, "go on although a controller may undo the change")
	f.BoolVar(&o.dryRun, "dry-run", false, "print the plan and do nothing")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	cmd.ValidArgsFunction = a.completeBackups(&o.source.store)
	cmd.RunE = runWith(a, &o, a.runRestoreConfig)
	return cmd
}

func (a *app) runRestoreConfig(ctx context.Context, o restoreConfigOptions, args []string) error {
	b, d, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	if pod := a.globals.target.Pod; pod != "" {
		d.Instances = []operation.Instance{*d.Instance(pod)}
	}
	reporter, done := a.narrator()
	defer done()
	name, doc, source, err := a.readConfig(ctx, o.source, args[0])
	if err != nil {
		return err
	}
	op := config.Restore{Connector: b.Connector, Locker: b.Locker, Objects: b.Objects, Reporter: reporter}
	plan, err := op.Plan(ctx, d, name, doc, source, config.Options{
		Overrides: o.overrides, Only: o.only, Secrets: o.secrets, Timeout: a.globals.timeout,
	})
	if err != nil {
		return err
	}
	if proceed, err := a.review(ctx, reporter, o.dryRun, plan.Plan, configPlanDocument(plan)); !proceed {
		return err
	}
	if !o.yes && len(plan.Steps) > 0 {
		if err := a.confirm("change settings of %s", d); err != nil {
			return err
		}
	}
	file := ""
	if text := plan.Values(); len(text) > 0 {
		file = cmp.Or(o.values, valuesName(plan.Form, d))
		if err := writeValues(file, text); err != nil {
			return err
		}
	}
	result, failed := op.Apply(ctx, plan)
	done()
	if result.File, result.Form = file, plan.Form; file == "" {
		result.Form = ""
	}
	if kind(failed) != operation.Partial && failed != nil && len(result.Settings) == 0 {
		return failed
	}
	if err := a.print(configResultDocument(result, plan)); err != nil {
		return err
	}
	return failed
}

// valuesName is where values are written unless the user says otherwise.
func valuesName(form config.Form, d *operation.Deployment) string {
	suffix := ".yaml"
	if form == config.FormRedisConf {
		suffix = ".conf"
	}
	return "redisctl-config-" + strings.ReplaceAll(d.Name, ":", "_") + suffix
}

// readConfig returns the configuration that ref names: that of a backup, or a file as a
// backup has it.
func (a *app) readConfig(ctx context.Context, o sourceOptions, ref string) (string, *backup.ConfigDocument, *snapshot.Source, error) {
	found, err := a.findKind(ctx, o, ref, snapshot.KindConfig, snapshot.KindFull)
	if err != nil {
		return "", nil, nil, err
	}
	if m := found.Entry.Manifest; m != nil {
		doc, err := config.Read(ctx, found)
		return found.Name(), doc, &m.Source, err
	}
	var doc backup.ConfigDocument
	contents, err := snapshot.Open(ctx, found.Store, found.Entry.DataName, snapshot.OpenOptions{Keys: found.Keys})
	if err != nil {
		return "", nil, nil, &operation.Error{Kind: kind(err), Object: ref, Phase: "opening the backup", Err: err}
	}
	err = json.NewDecoder(contents).Decode(&doc)
	if err = errors.Join(err, contents.Close()); err != nil || len(doc.Instances) == 0 {
		return "", nil, nil, operation.Errorf(operation.Usage, "%s is neither a backup nor the configuration of one", ref)
	}
	return found.Name(), &doc, &snapshot.Source{Namespace: doc.Namespace, Release: doc.Release, Instance: doc.Instances[0].Instance}, nil
}

// findKind returns the backup that ref names; the latest one is that of any of the kinds.
func (a *app) findKind(ctx context.Context, o sourceOptions, ref string, kinds ...snapshot.Kind) (restore.Backup, error) {
	if ref != snapshot.Latest {
		return a.findSource(ctx, o, ref)
	}
	keys, err := a.keys(o.keys)
	if err != nil {
		return restore.Backup{}, err
	}
	filter, err := a.filter(ctx)
	if err != nil {
		return restore.Backup{}, err
	}
	store, err := a.openSource(o.store)
	if err != nil {
		return restore.Backup{}, err
	}
	entry, err := newestOf(ctx, store, filter, kinds)
	if err != nil {
		return restore.Backup{}, err
	}
	return restore.Backup{Store: store, Entry: entry, Keys: keys}, nil
}

func newestOf(ctx context.Context, store storage.Store, filter snapshot.Filter, kinds []snapshot.Kind) (snapshot.Entry, error) {
	var candidates []snapshot.Entry
	var missing error
	for _, k := range kinds {
		filter.Kind = k
		entry, err := snapshot.Find(ctx, store, filter, snapshot.Latest)
		switch {
		case err == nil:
			candidates = append(candidates, entry)
		case errors.Is(err, fs.ErrNotExist):
			missing = &operation.Error{Kind: operation.Usage, Err: fmt.Errorf("of kind %s: %w", k, err), Next: "redisctl backup list"}
		default:
			return snapshot.Entry{}, operation.Errorf(operation.KindOf(err), "searching %s: %w", store.Location(""), err)
		}
	}
	if len(candidates) == 0 {
		return snapshot.Entry{}, missing
	}
	return slices.MaxFunc(candidates, func(a, b snapshot.Entry) int { return a.Created.Compare(b.Created) }), nil
}

// configPlanDocument shows the three sides of every setting that differs.
func configPlanDocument(p *config.Plan) render.Document {
	doc := planDocument(p.Plan, p)
	doc.Blocks = append(doc.Blocks, settingTable(p.Settings, p.Equal))
	return doc
}

func settingTable(settings []config.Setting, equal int) render.Block {
	t := render.Table{
		Columns: []render.Column{{Title: "SETTING"}, {Title: "BACKUP"}, {Title: "RUNNING"}, {Title: "REDIS.CONF"}, {Title: "ACTION"}, {Title: "WHY"}},
		Empty:   fmt.Sprintf("All %d settings are as in the backup.", equal),
	}
	for i := range settings {
		s := &settings[i]
		chart := "-"
		if s.Chart != nil {
			chart = shownValue(*s.Chart)
		}
		style := render.Good
		if s.Action == config.ActionSkip {
			style = render.Dim
		}
		t.Rows = append(t.Rows, []render.Cell{
			{Text: s.Name, Style: render.Strong}, render.T(shownValue(s.Backup)), render.T(runningText(s.Running)), render.T(chart),
			{Text: string(s.Action), Style: style}, render.T(s.Reason),
		})
	}
	return t
}

// runningText joins what is the same everywhere.
func runningText(running []config.Running) string {
	if len(running) == 0 {
		return "?"
	}
	same := !slices.ContainsFunc(running, func(r config.Running) bool { return r.Value != running[0].Value })
	if same {
		return shownValue(running[0].Value)
	}
	texts := make([]string, len(running))
	for i, r := range running {
		texts[i] = r.Instance + ": " + shownValue(r.Value)
	}
	return strings.Join(texts, ", ")
}

func shownValue(value string) string {
	if value == "" {
		return `""`
	}
	return value
}

func configResultDocument(r config.Result, p *config.Plan) render.Document {
	t := render.Table{
		Columns: []render.Column{{Title: "SETTING"}, {Title: "VALUE"}, {Title: "RUNS ON"}, {Title: "PROBLEM"}},
		Empty:   "Nothing had to be set.",
	}
	for _, s := range r.Settings {
		problem := s.Problem
		if len(s.Left) > 0 {
			problem += "; not undone on " + strings.Join(s.Left, ", ")
		}
		t.Rows = append(t.Rows, []render.Cell{
			{Text: s.Name, Style: render.Strong}, render.T(shownValue(s.Value)), render.T(strings.Join(s.Instances, ", ")), {Text: problem, Style: render.Bad},
		})
	}
	doc := render.Document{Value: r, Names: []string{r.Name}, Blocks: []render.Block{t}}
	if r.File == "" {
		return doc
	}
	var only []string
	for i := range p.Settings {
		if s := &p.Settings[i]; s.Action == config.ActionValues {
			only = append(only, s.Name)
		}
	}
	fields := render.Fields{{Label: "to last", Value: render.T(r.File)}}
	if len(only) > 0 {
		fields = append(fields, render.Field{Label: "only there", Value: render.T(strings.Join(only, ", "))})
	}
	next := "add its lines to redis.conf: what was set is lost with the next restart"
	if r.Form == config.FormValues {
		next = fmt.Sprintf("helm upgrade %s CHART -n %s --reuse-values -f %s: what was set is lost with the next restart", r.Release, r.Namespace, r.File)
	}
	fields = append(fields, render.Field{Label: "next", Value: render.T(next)})
	doc.Blocks = append(doc.Blocks, fields)
	return doc
}
