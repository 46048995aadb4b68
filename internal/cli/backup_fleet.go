package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/backup"
	"github.com/redisctl/redisctl/internal/render"
	"github.com/redisctl/redisctl/internal/snapshot/codec"
)

// backupFleet is the JSON form of `backup rdb --all-namespaces`.
type backupFleet struct {
	Succeeded int               `json:"succeeded"`
	Failed    int               `json:"failed"`
	Items     []backupFleetItem `json:"items"`
}

// backupFleetItem is one release in it.
type backupFleetItem struct {
	Namespace string `json:"namespace"`
	Release   string `json:"release"`
	Name      string `json:"name"`
	// Error is why there is no backup, or not in all places.
	Error string `json:"error,omitempty"`
	// Plan is there with --dry-run, Backup without.
	Plan   *backup.Plan  `json:"plan,omitempty"`
	Backup *backupResult `json:"backup,omitempty"`

	err error
}

// runBackupFleet backs up several releases at the same time. Each succeeds or fails
// by itself.
func (a *app) runBackupFleet(ctx context.Context, o backupRDBOptions, encoding codec.Encoding) error {
	b, err := a.backend(a)
	if err != nil {
		return err
	}
	defer b.Close()
	deployments, err := a.fleet(ctx, b, o.fleet)
	if err != nil {
		return err
	}
	reporter, done := a.narrator()
	defer done()
	fleet := backupFleet{Items: make([]backupFleetItem, len(deployments))}
	started := forEach(ctx, len(deployments), o.fleet.parallel, func(i int) {
		d := &deployments[i]
		run := a.newRDBRun(b, d, encoding, labelled{reporter, d.Namespace + "/" + d.Release})
		fleet.Items[i] = newBackupFleetItem(d)
		fleet.Items[i].fill(ctx, run, o)
	})
	for i, began := range started {
		if !began {
			fleet.Items[i] = newBackupFleetItem(&deployments[i])
			fleet.Items[i].failed(context.Cause(ctx))
		}
	}
	done()
	failures := fleet.count()
	if err := a.print(fleet.document()); err != nil {
		return err
	}
	if len(failures) > 0 {
		return outcome(combined(fleet.Succeeded, failures), "%d of %d releases were not backed up", fleet.Failed, len(fleet.Items))
	}
	return nil
}

func newBackupFleetItem(d *operation.Deployment) backupFleetItem {
	return backupFleetItem{Namespace: d.Namespace, Release: d.Release, Name: d.Name}
}

func (i *backupFleetItem) failed(err error) {
	if err != nil {
		i.err, i.Error = err, err.Error()
	}
}

// fill makes the backup, or the plan, of one release.
func (i *backupFleetItem) fill(ctx context.Context, run *rdbRun, o backupRDBOptions) {
	plan, err := run.plan(ctx, o)
	if err != nil {
		i.failed(err)
		return
	}
	if o.dryRun {
		i.Plan = plan
		i.failed(plan.Refusal())
		return
	}
	stored, manifest, err := run.apply(ctx, plan)
	if err != nil {
		i.failed(err)
		return
	}
	i.Backup = &backupResult{File: firstFile(stored), Stored: stored, Manifest: manifest}
	i.failed(partial(stored))
}

// count counts, and returns the failures.
func (f *backupFleet) count() []error {
	var failures []error
	for i := range f.Items {
		if err := f.Items[i].err; err != nil {
			failures = append(failures, err)
		}
	}
	f.Failed = len(failures)
	f.Succeeded = len(f.Items) - f.Failed
	return failures
}

func (f *backupFleet) document() render.Document {
	t := render.Table{Columns: []render.Column{
		{Title: "NAMESPACE"}, {Title: "RELEASE"}, {Title: "RESULT"}, {Title: "SOURCE"}, {Title: "BACKUP"},
		{Title: "SIZE", Right: true}, {Title: "KEYS", Right: true}, {Title: "TOOK", Right: true}, {Title: "DETAIL"},
	}}
	doc := render.Document{Value: f, Names: []string{}}
	for _, i := range f.Items {
		row := []render.Cell{render.T(i.Namespace), render.T(i.Release), {Text: "stored", Style: render.Good}, {}, {}, {}, {}, {}, {}}
		if i.Error != "" {
			row[2] = render.Cell{Text: "failed", Style: render.Bad}
			row[8] = render.T(strings.ReplaceAll(i.Error, "\n", ";"))
		}
		switch {
		case i.Plan != nil:
			row[3] = render.T(i.Plan.Source)
			if i.Error == "" {
				row[2].Text = "planned"
			}
		case i.Backup != nil:
			if i.Error != "" { // in some of its places
				row[2].Text = "partial"
			}
			m := i.Backup.Manifest
			file := m.RDB()
			took := time.Duration((m.Durations.Wait + m.Durations.Transfer + m.Durations.Store) * float64(time.Second))
			row[3], row[4] = render.T(m.Source.Instance), render.Cell{Text: m.ID, Style: render.Strong}
			row[5], row[6] = render.T(operation.Bytes(file.Size).String()), number(file.RDB.Keys)
			row[7] = render.T(fmt.Sprintf("%.1f s", took.Seconds()))
			doc.Names = append(doc.Names, m.ID)
		}
		t.Rows = append(t.Rows, row)
	}
	doc.Blocks = []render.Block{t}
	return doc
}
