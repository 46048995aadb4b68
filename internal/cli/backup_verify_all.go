package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/render"
	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/snapshot/codec"
	"github.com/redisctl/redisctl/internal/storage"
)

// defaultParallel is how many backups are made or verified at the same time.
const defaultParallel = 4

// verifyResult is the JSON form of `backup verify`.
type verifyResult struct {
	snapshot.Report
	// Recorded tells whether the success was recorded beside the manifest.
	Recorded bool `json:"recorded"`
}

// recordVerification notes a success beside the manifest. The backup is as sound
// without the note, so that a store that cannot be written to is only told.
func (a *app) recordVerification(
	ctx context.Context, reporter operation.Reporter, store storage.Store, entry snapshot.Entry, deep bool,
) bool {
	if entry.Manifest == nil || entry.Dir == "" { // a bare file, or one named by its path
		return false
	}
	if err := snapshot.RecordVerification(ctx, store, entry, a.system.Now(), ThisBuild().Version, deep); err != nil {
		reporter.Warn("recording that %s was verified: %v", entry.ID, err)
		return false
	}
	return true
}

// The results of `backup verify --all`.
const (
	verifiedOK          = "verified"
	verifiedFailed      = "failed"
	verifiedUnsupported = "unsupported"
	verifiedLocked      = "locked" // encrypted, and nothing given opens it
	verifiedOuter       = "outer"  // what is stored is right; the contents were not asked for
	verifiedError       = "error"
	verifiedSkipped     = "skipped"
)

// verifiedItem is one backup in the result of `backup verify --all`.
type verifiedItem struct {
	ID     string `json:"id"`
	Folder string `json:"folder"`
	// Result is one of the constants above.
	Result string `json:"result"`
	// Location is the store, when there are several.
	Location string `json:"location,omitempty"`
	// Error says why it was not verified.
	Error string `json:"error,omitempty"`
	// Report is there when the data was read.
	Report *verifyResult `json:"report,omitempty"`

	size int64
	err  error
}

// verifiedAll is the JSON form of `backup verify --all`.
type verifiedAll struct {
	Location string         `json:"location"`
	Verified int            `json:"verified"`
	Failed   int            `json:"failed"`
	Skipped  int            `json:"skipped"`
	Items    []verifiedItem `json:"items"`
	// Problems are the stores that could not be listed.
	Problems []storeProblem `json:"problems,omitempty"`
}

func (a *app) runVerifyAll(ctx context.Context, o backupVerifyOptions) error {
	if err := checkParallel(o.parallel); err != nil {
		return err
	}
	stores, err := a.openStores(o.store)
	if err != nil {
		return err
	}
	entries, problems, err := a.listAll(ctx, stores, o.filter)
	if err != nil {
		return err
	}
	reporter, done := a.narrator()
	defer done()
	var total int64
	for i := range entries {
		total += entries[i].Size
	}
	all := verifiedAll{Location: locations(stores), Items: make([]verifiedItem, len(entries)), Problems: problems}
	var read atomic.Int64
	started := forEach(ctx, len(entries), o.parallel, func(i int) {
		before := int64(0)
		all.Items[i] = a.verifyItem(ctx, reporter, entries[i].store, entries[i].Entry, o, func(bytes, _ int64) {
			reporter.Progress(operation.Progress{Done: read.Add(bytes - before), Total: total, Unit: "bytes"})
			before = bytes
		})
	})
	for i, began := range started {
		if !began {
			all.Items[i] = newVerifiedItem(entries[i].Entry, verifiedError, context.Cause(ctx))
		}
		if len(stores) > 1 {
			all.Items[i].Location = entries[i].store.Location("")
		}
	}
	done()
	kind, message := all.judge()
	if err := a.print(all.document()); err != nil {
		return err
	}
	if message != "" {
		return outcome(kind, "%s", message)
	}
	return nil
}

func newVerifiedItem(e snapshot.Entry, result string, err error) verifiedItem {
	item := verifiedItem{ID: e.ID, Folder: e.Dir, Result: result, size: e.Size, err: err}
	if err != nil {
		item.Error = err.Error()
	}
	return item
}

func (a *app) verifyItem(
	ctx context.Context, reporter operation.Reporter, store storage.Store, e snapshot.Entry, o backupVerifyOptions,
	progress func(bytes, total int64),
) verifiedItem {
	switch state := e.State(); state {
	case snapshot.Incomplete, snapshot.Foreign, snapshot.Removing:
		return newVerifiedItem(e, verifiedSkipped, fmt.Errorf("%s: %w", state, e.Problem))
	}
	opts := o.verify
	opts.Progress = progress
	report, err := snapshot.Verify(ctx, store, e, opts)
	result := verifyResult{Report: report}
	if report.Verified {
		result.Recorded = a.recordVerification(ctx, reporter, store, e, o.deep)
	}
	outcomes := map[operation.Kind]string{operation.Corrupt: verifiedFailed, operation.Unsupported: verifiedUnsupported}
	word := verifiedOK
	switch {
	case err == nil && o.outer:
		word = verifiedOuter
	case errors.Is(err, codec.ErrKey):
		word = verifiedLocked
	case err != nil:
		if word = outcomes[kind(err)]; word == "" {
			word = verifiedError
		}
	}
	item := newVerifiedItem(e, word, err)
	if word != verifiedError {
		item.Report = &result
	}
	return item
}

// judge counts, and returns the kind of failure that the exit code tells and what it is
// about: empty when nothing failed.
func (v *verifiedAll) judge() (operation.Kind, string) {
	var failures []error
	anyCorrupt := false
	for i := range v.Items {
		switch item := &v.Items[i]; item.Result {
		case verifiedOK, verifiedOuter:
			v.Verified++
		case verifiedSkipped:
			v.Skipped++
		default:
			failures = append(failures, item.err)
			anyCorrupt = anyCorrupt || item.Result == verifiedFailed
		}
	}
	v.Failed = len(failures)
	for _, p := range v.Problems {
		failures = append(failures, p.err)
	}
	switch {
	case len(failures) == 0:
		return operation.Failed, ""
	case v.Verified == 0 && anyCorrupt:
		return operation.Corrupt, "no backup could be verified"
	default:
		return combined(v.Verified, failures), fmt.Sprintf("%d of %d backups could not be verified", v.Failed, v.Failed+v.Verified)
	}
}

func (v *verifiedAll) document() render.Document {
	t := render.Table{
		Columns: []render.Column{
			{Title: "ID"}, {Title: "DEPLOYMENT"}, {Title: "SIZE", Right: true}, {Title: "RESULT"}, {Title: "DETAIL"},
		},
		Empty: "No backups in " + v.Location + ".",
	}
	doc := render.Document{Value: v, Names: []string{}}
	styles := map[string]render.Style{verifiedOK: render.Good, verifiedSkipped: render.Dim, verifiedUnsupported: render.Warn, verifiedLocked: render.Warn, verifiedOuter: render.Good}
	for _, item := range v.Items {
		style, ok := styles[item.Result]
		if !ok {
			style = render.Bad
		}
		detail, folder := item.Error, item.Folder
		if item.Location != "" {
			folder += " in " + item.Location
		}
		if item.Report != nil {
			if faults := item.Report.faults(); faults != "" {
				detail = faults
			} else if item.Report.RDB != nil && item.Result == verifiedOK {
				detail = fmt.Sprintf("%d keys", item.Report.RDB.Keys)
			}
		}
		t.Rows = append(t.Rows, []render.Cell{
			{Text: item.ID, Style: render.Strong}, render.T(folder), render.T(operation.Bytes(item.size).String()),
			{Text: item.Result, Style: style}, render.T(detail),
		})
		if item.Result == verifiedOK || item.Result == verifiedOuter {
			doc.Names = append(doc.Names, item.ID)
		}
	}
	doc.Blocks = []render.Block{t}
	if len(v.Items) > 0 {
		text := render.Text{Text: fmt.Sprintf("%d verified, %d not, %d skipped", v.Verified, v.Failed, v.Skipped), Style: render.Good}
		if v.Failed > 0 {
			text.Style = render.Bad
		}
		doc.Blocks = append(doc.Blocks, text)
	}
	if len(v.Problems) > 0 {
		doc.Blocks = append(doc.Blocks, problemBlock(v.Problems))
	}
	return doc
}

// faults are the checks that failed, in one line.
func (r *verifyResult) faults() string {
	var faults []string
	for _, check := range r.Checks {
		if check.Result == snapshot.Failed {
			faults = append(faults, string(check.Name)+": "+check.Detail)
		}
	}
	return strings.Join(faults, "; ")
}
