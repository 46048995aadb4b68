package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/bundle"
	"github.com/redisctl/redisctl/internal/render"
)

type supportBundleOptions struct {
	bundle bundle.Options
	to     string
	dryRun bool
}

// supportBundleResult is what `support-bundle` prints.
type supportBundleResult struct {
	// File is the archive; empty with --dry-run.
	File string `json:"file,omitempty"`
	// Size of the archive in bytes.
	Size int64 `json:"sizeBytes,omitempty"`
	bundle.Manifest
}

func (a *app) newSupportBundleCommand() *cobra.Command {
	o := supportBundleOptions{bundle: bundle.DefaultOptions()}
	cmd := &cobra.Command{
		Use:   "support-bundle",
		Short: "Gather what somebody needs who helps, without secrets",
		Long: `Writes an archive with what redisctl health and replication info say, INFO, settings,
slow commands and clients of every server, the cluster's events, logs, the release's
objects and Helm values. Passwords, keys and values, arguments of slow commands, names
of clients, values of environment variables, annotations and Secrets are not in it, and
all that is in it is searched for the secrets that are known. manifest.json and
README.txt list what is inside, and what could not be gathered and why.

The archive appears under its name when it is complete. It never replaces a file. Exit
code 3 when a part could not be gathered: the archive is there all the same.`,
		Example: `  redisctl support-bundle -n redis-prod
  redisctl support-bundle -n redis-prod --to /tmp/cache.tar.gz
  redisctl support-bundle -n redis-prod --dry-run`,
		Args: noArgs,
		RunE: runWith(a, &o, a.runSupportBundle),
	}
	f := cmd.Flags()
	f.StringVar(&o.to, "to", "", "the archive, a .tar.gz (default redisctl-support-RELEASE-TIME.tar.gz)")
	f.Int64Var(&o.bundle.LogLines, "log-lines", o.bundle.LogLines, "how many of the last lines of each log")
	f.DurationVar(&o.bundle.MaxTime, "max-time", o.bundle.MaxTime, "how long gathering may take")
	f.BoolVar(&o.dryRun, "dry-run", false, "only list what would be gathered")
	mustComplete(cmd, "to", cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault))
	return cmd
}

func (a *app) runSupportBundle(ctx context.Context, o supportBundleOptions, _ []string) error {
	if o.bundle.LogLines < 0 || o.bundle.MaxTime <= 0 {
		return operation.Errorf(operation.Usage, "--log-lines and --max-time must be positive")
	}
	b, d, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	reporter, end := a.narrator()
	defer end()
	o.bundle.Timeout = a.globals.timeout
	c := bundle.Collector{
		Connector: b.Connector, Objects: b.Objects, Events: b.Events, Logs: b.LogStreams, Password: b.Password,
		Reporter: reporter, Now: a.system.Now, Build: ThisBuild(),
	}
	if o.dryRun {
		return a.print(supportBundleDocument(supportBundleResult{Manifest: c.Plan(d)}))
	}
	name := o.to
	if name == "" {
		label := strings.NewReplacer("/", "-", ":", "-").Replace(d.String())
		name = fmt.Sprintf("redisctl-support-%s-%s.tar.gz", label, a.system.Now().UTC().Format("20060102T150405Z"))
	}
	fail := func(err error) error {
		return &operation.Error{Kind: operation.Failed, Object: name, Phase: "writing the archive", Err: err, Next: "name another file with --to"}
	}
	if err := bundle.Free(name); err != nil {
		return fail(err)
	}
	m, err := c.Collect(ctx, d, o.bundle)
	if err != nil {
		return err
	}
	size, err := m.Save(name)
	if err != nil {
		return fail(err)
	}
	end()
	if err := a.print(supportBundleDocument(supportBundleResult{File: name, Size: size, Manifest: m})); err != nil {
		return err
	}
	return m.Partial()
}

func supportBundleDocument(r supportBundleResult) render.Document {
	doc := render.Document{Value: r}
	t := render.Table{Columns: []render.Column{{Title: "FILE"}, {Title: "SIZE", Right: true}, {Title: "WHAT"}}}
	for _, f := range r.Files {
		size := ""
		if r.File != "" {
			size = operation.Bytes(f.Bytes).String()
		}
		t.Rows = append(t.Rows, []render.Cell{render.T(f.Name), render.T(size), {Text: f.What, Style: render.Dim}})
	}
	var missing render.List
	for _, m := range r.Missing {
		missing = append(missing, render.Entry{
			Mark: render.Cell{Text: "!", Style: render.Warn}, Line: []render.Cell{{Text: m.Part, Style: render.Strong}, render.T("is not in it")},
			Details: []string{m.Reason},
		})
	}
	doc.Blocks = []render.Block{t, missing}
	if r.File != "" {
		doc.Names = []string{r.File}
		doc.Blocks = append(doc.Blocks, render.Fields{
			{Label: "archive", Value: render.Cell{Text: r.File, Style: render.Strong}},
			{Label: "size", Value: render.T(operation.Bytes(r.Size).String())},
		})
	}
	return doc
}
