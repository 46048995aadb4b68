package cli

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/render"
	"github.com/redisctl/redisctl/internal/snapshot"
)

// backupFleet is the JSON form of `backup rdb --all-namespaces` and the others. P is what
// the command plans.
type backupFleet[P any] struct {
	Succeeded int                  `json:"succeeded"`
	Failed    int                  `json:"failed"`
	Items     []backupFleetItem[P] `json:"items"`
}

// backupFleetItem is one release in it.
type backupFleetItem[P any] struct {
	Namespace string `json:"namespace"`
	Release   string `json:"release"`
	Name      string `json:"name"`
	// Error is why there is no backup, or not in all places.
	Error string `json:"error,omitempty"`
	// Plan is there with --dry-run, Backup without.
	Plan   *P            `json:"plan,omitempty"`
	Backup *backupResult `json:"backup,omitempty"`

	source string
	err    error
}

// made is what became of one release.
type made[P any] struct {
	// plan is set with --dry-run.
	plan *P
	// source names the instance that the data is, or would be, taken from.
	source string
	// manifest is set when there is a backup, also together with an error; stored is
	// where it is then.
	manifest *snapshot.Manifest
	stored   []storedAt
}

// fleetBackup is how several releases are backed up.
type fleetBackup[P any] struct {
	fleet    fleetOptions
	store    storeOptions
	encoding encodingOptions
	dryRun   bool
	// one backs up one release, or plans it.
	one func(ctx context.Context, r *backupRun) (made[P], error)
}

// run backs up several releases at the same time. Each succeeds or fails by itself.
func (f fleetBackup[P]) run(ctx context.Context, a *app) error {
	encoding, err := a.encoding(f.encoding, f.dryRun)
	if err != nil {
		return err
	}
	b, err := a.backend(a)
	if err != nil {
		return err
	}
	defer b.Close()
	deployments, err := a.fleet(ctx, b, f.fleet)
	if err != nil {
		return err
	}
	reporter, done := a.narrator()
	defer done()
	result := backupFleet[P]{Items: make([]backupFleetItem[P], len(deployments))}
	for i := range deployments {
		d := &deployments[i]
		result.Items[i] = backupFleetItem[P]{Namespace: d.Namespace, Release: d.Release, Name: d.Name}
	}
	started := forEach(ctx, len(deployments), f.fleet.parallel, func(i int) {
		d := &deployments[i]
		r := &backupRun{app: a, backend: b, d: d, encoding: encoding, reporter: labelled{reporter, d.Namespace + "/" + d.Release}}
		var done made[P]
		var err error
		if r.store, err = a.openWritable(ctx, f.store, d); err == nil {
			done, err = f.one(ctx, r)
		}
		result.Items[i].fill(done, err)
	})
	for i, began := range started {
		if !began {
			result.Items[i].failed(context.Cause(ctx))
		}
	}
	done()
	failures := result.count()
	if err := a.print(result.document()); err != nil {
		return err
	}
	if len(failures) > 0 {
		return outcome(combined(result.Succeeded, failures), "%d of %d releases were not backed up", result.Failed, len(result.Items))
	}
	return nil
}

func (i *backupFleetItem[P]) failed(err error) {
	if err != nil {
		i.err, i.Error = err, err.Error()
	}
}

func (i *backupFleetItem[P]) fill(m made[P], err error) {
	i.Plan, i.source = m.plan, m.source
	if m.manifest != nil {
		i.Backup = &backupResult{File: firstFile(m.stored), Stored: m.stored, Manifest: m.manifest}
		err = cmp.Or(err, partial(m.stored))
	}
	i.failed(err)
}

// count counts, and returns the failures.
func (f *backupFleet[P]) count() []error {
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

func (f *backupFleet[P]) document() render.Document {
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
			row[3] = render.T(i.source)
			if i.Error == "" {
				row[2].Text = "planned"
			}
		case i.Backup != nil:
			if i.Error != "" { // in some of its places
				row[2].Text = "partial"
			}
			m := i.Backup.Manifest
			took := time.Duration((m.Durations.Wait + m.Durations.Transfer + m.Durations.Store) * float64(time.Second))
			row[3], row[4] = render.T(m.Source.Instance), render.Cell{Text: m.ID, Style: render.Strong}
			row[5] = render.T(operation.Bytes(m.Size()).String())
			if file := m.RDB(); file != nil {
				row[6] = number(file.RDB.Keys)
			}
			row[7] = render.T(fmt.Sprintf("%.1f s", took.Seconds()))
			doc.Names = append(doc.Names, m.ID)
		}
		t.Rows = append(t.Rows, row)
	}
	doc.Blocks = []render.Block{t}
	return doc
}
