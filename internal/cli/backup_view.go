package cli

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/rdb"
	"github.com/redisctl/redisctl/internal/render"
	"github.com/redisctl/redisctl/internal/snapshot"
	"github.com/redisctl/redisctl/internal/snapshot/codec"
	"github.com/redisctl/redisctl/internal/storage"
)

// planDocument shows a plan; value is its JSON form.
func planDocument(p operation.Plan, value any) render.Document {
	steps := make(render.List, len(p.Steps))
	for i, s := range p.Steps {
		steps[i] = render.Entry{
			Mark: render.Cell{Text: strconv.Itoa(i+1) + ".", Style: render.Dim},
			Line: []render.Cell{render.T(s.Action)},
		}
		if s.Subject != "" {
			steps[i].Line = []render.Cell{render.T(s.Action + ":"), {Text: s.Subject, Style: render.Strong}}
		}
		if s.Mutates {
			steps[i].Line = append(steps[i].Line, render.Cell{Text: "(changes it)", Style: render.Warn})
		}
	}
	return render.Document{
		Value: value,
		Names: []string{p.Object},
		Blocks: []render.Block{
			render.Text{Text: fmt.Sprintf("Plan of %s for %s (dry run, nothing was done)", p.Operation, p.Object), Style: render.Strong},
			steps,
			findingList(p.Findings),
		},
	}
}

// backupResult is the JSON form of `backup rdb`.
type backupResult struct {
	// File is where the data was stored: in the first place that has it.
	File string `json:"file"`
	// Stored has one entry for each --to.
	Stored []storedAt `json:"stored"`
	*snapshot.Manifest
}

func backupDocument(stored []storedAt, m *snapshot.Manifest) render.Document {
	f := m.RDB()
	source := fmt.Sprintf("%s (%s, %s %s)", m.Source.Instance, m.Source.Role, m.Source.Product, m.Source.Version)
	fields := render.Fields{
		{Label: "backup", Value: render.Cell{Text: m.ID, Style: render.Strong}},
		{Label: "source", Value: render.T(source)},
		{Label: "position", Value: render.T(position(m.Source))},
		{Label: "size", Value: render.T(sizeText(f))},
		{Label: "keys", Value: render.T(keysText(f.RDB))},
		{Label: "sha256", Value: render.T(f.SHA256)},
		{Label: "crc64", Value: checksumCell(f.RDB)},
		{Label: "took", Value: render.T(durationsText(m.Durations))},
		{Label: "verified", Value: render.Cell{Text: "structure and checksum, while streaming", Style: render.Good}},
	}
	fields = slices.Insert(fields, 1, storedFields(stored)...)
	return render.Document{
		Value:  backupResult{File: firstFile(stored), Stored: stored, Manifest: m},
		Names:  []string{m.ID},
		Blocks: []render.Block{fields},
	}
}

// sizeText says how large the contents are, and what is stored of them.
func sizeText(f *snapshot.File) string {
	size := operation.Bytes(f.ContentSize()).String()
	if f.Encoding == nil {
		return size
	}
	return fmt.Sprintf("%s, stored as %s (%s)", size, operation.Bytes(f.Size), strings.Join(f.Encoding.Codecs, ", then "))
}

// encodingFields say what is needed to read an encoded file. The digest shown before
// is that of what is stored.
func encodingFields(f *snapshot.File) render.Fields {
	if f.Encoding == nil {
		return nil
	}
	fields := render.Fields{{Label: "contents", Value: render.T("sha256 " + f.Encoding.ContentSHA256)}}
	for _, recipient := range f.Encoding.Recipients {
		const most = 80 // a post-quantum one has 2,000 characters
		if len(recipient) > most {
			recipient = recipient[:most] + "…"
		}
		fields = append(fields, render.Field{Label: "opened by", Value: render.T(recipient)})
	}
	return fields
}

func position(s snapshot.Source) string {
	if s.ReplicationID == "" {
		return "not stated by the server"
	}
	return fmt.Sprintf("replication ID %s, offset %d", s.ReplicationID, s.ReplicationOffset)
}

func keysText(s *rdb.Summary) string {
	if len(s.DBs) == 0 {
		return "0"
	}
	var total int64
	dbs := make([]string, len(s.DBs))
	for i, db := range s.DBs {
		total += db.Keys
		dbs[i] = fmt.Sprintf("db%d: %d", db.DB, db.Keys)
	}
	return fmt.Sprintf("%d (%s)", total, strings.Join(dbs, ", "))
}

func checksumCell(s *rdb.Summary) render.Cell {
	switch s.Checksum {
	case rdb.ChecksumOK:
		return render.T(s.StoredCRC.String())
	case rdb.ChecksumDisabled:
		return render.Cell{Text: "the server writes none (rdbchecksum no); only the SHA-256 protects the file", Style: render.Warn}
	default:
		return render.Cell{Text: string(s.Checksum), Style: render.Warn}
	}
}

func durationsText(d snapshot.Durations) string {
	return fmt.Sprintf("%.1f s waiting for the server, %.1f s transfer", d.Wait, d.Transfer)
}

// listItem is one backup in the JSON form of `backup list`.
type listItem struct {
	ID        string    `json:"id"`
	Kind      string    `json:"kind"`
	Folder    string    `json:"folder"`
	Namespace string    `json:"namespace,omitempty"`
	Release   string    `json:"release,omitempty"`
	CreatedAt time.Time `json:"createdAt"`
	Size      int64     `json:"sizeBytes"`
	Keys      *int64    `json:"keys,omitempty"`
	Source    string    `json:"source,omitempty"`
	Version   string    `json:"version,omitempty"`
	// Purpose is "safety" for a copy of what an operation was about to replace.
	Purpose string `json:"purpose,omitempty"`
	State   string `json:"state"`
	// Problem says why it is not intact.
	Problem string `json:"problem,omitempty"`
	// VerifiedAt is when all of it was last read and found to be sound.
	VerifiedAt *time.Time `json:"verifiedAt,omitempty"`
	// Location is the store that holds it, when several were listed.
	Location string `json:"location,omitempty"`
}

type listResult struct {
	// Location is the store, or all of them, joined by commas.
	Location string `json:"location"`
	// Total counts all that were found, more than Items with --limit.
	Total int        `json:"total"`
	Items []listItem `json:"items"`
	// Problems are the stores that could not be listed.
	Problems []storeProblem `json:"problems,omitempty"`
}

func listDocument(stores []storage.Store, entries []listed, problems []storeProblem, total int, now time.Time) render.Document {
	result := listResult{Location: locations(stores), Total: total, Items: make([]listItem, len(entries)), Problems: problems}
	t := render.Table{
		Columns: []render.Column{
			{Title: "ID"}, {Title: "DEPLOYMENT"}, {Title: "AGE", Right: true}, {Title: "SIZE", Right: true},
			{Title: "KEYS", Right: true}, {Title: "VERIFIED", Right: true}, {Title: "STATE"}, {Title: "SOURCE", Wide: true},
			{Title: "VERSION", Wide: true}, {Title: "METHOD", Wide: true}, {Title: "CREATED", Wide: true},
		},
		Empty: "No backups in " + result.Location + ".",
	}
	several := len(stores) > 1
	if several {
		t.Columns = append(t.Columns, render.Column{Title: "LOCATION"})
	}
	doc := render.Document{}
	for i, e := range entries {
		item := newListItem(e.Entry)
		if several {
			item.Location = e.store.Location("")
		}
		result.Items[i] = item
		verified, method := "never", ""
		if item.VerifiedAt != nil {
			verified = age(now.Sub(*item.VerifiedAt)) + " ago"
		}
		if e.Manifest != nil {
			method = e.Manifest.Source.Method
		} else {
			verified = ""
		}
		keys := ""
		if item.Keys != nil {
			keys = strconv.FormatInt(*item.Keys, 10)
		}
		t.Rows = append(t.Rows, []render.Cell{
			{Text: e.ID, Style: render.Strong}, render.T(e.Dir), render.T(age(now.Sub(e.Created))),
			render.T(operation.Bytes(e.Size).String()), render.T(keys), render.T(verified), stateCell(item),
			render.T(item.Source), render.T(item.Version), render.T(method), render.T(e.Created.Format(time.RFC3339)),
		})
		if several {
			t.Rows[i] = append(t.Rows[i], render.T(item.Location))
		}
		doc.Names = append(doc.Names, e.ID)
	}
	doc.Value, doc.Blocks = result, []render.Block{t}
	if more := total - len(entries); more > 0 {
		doc.Blocks = append(doc.Blocks, render.Text{Text: fmt.Sprintf("%d more, older (--limit)", more), Style: render.Dim})
	}
	if len(problems) > 0 {
		doc.Blocks = append(doc.Blocks, problemBlock(problems))
	}
	return doc
}

// stateCell says what state a backup is in, and why.
func stateCell(item listItem) render.Cell {
	if item.Problem == "" {
		text := item.State
		if item.Purpose != "" {
			text += ", " + item.Purpose + " copy"
		}
		return render.Cell{Text: text, Style: render.Good}
	}
	return render.Cell{Text: item.State + ": " + item.Problem, Style: render.Bad}
}

func newListItem(e snapshot.Entry) listItem {
	item := listItem{ID: e.ID, Kind: string(e.Kind), Folder: e.Dir, CreatedAt: e.Created, Size: e.Size, State: string(e.State())}
	item.Namespace, item.Release = e.Deployment()
	if e.Problem != nil {
		item.Problem = e.Problem.Error()
	}
	if e.Verified != nil {
		item.VerifiedAt = &e.Verified.At
	}
	if m := e.Manifest; m != nil {
		item.Purpose = string(m.Purpose)
		item.Source = m.Source.Instance
		item.Version = m.Source.Product + " " + m.Source.Version
		if f := m.RDB(); f != nil {
			var keys int64
			for _, db := range f.RDB.DBs {
				keys += db.Keys
			}
			item.Keys = &keys
		}
	}
	return item
}

// age is a duration as people say it: the two largest units.
func age(d time.Duration) string {
	switch {
	case d < 0:
		return "in the future"
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	case d < day:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	default:
		return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
	}
}

// shown is the JSON form of `backup show`: the manifest, and what was recorded since.
type shown struct {
	*snapshot.Manifest
	// LastVerification is the last successful backup verify.
	LastVerification *snapshot.VerificationRecord `json:"lastVerification,omitempty"`
}

// lastVerified says when all of a backup was last read and found to be sound.
func lastVerified(e snapshot.Entry, now time.Time) render.Cell {
	v := e.Verified
	if v == nil {
		return render.Cell{Text: "never since it was made", Style: render.Warn}
	}
	text := fmt.Sprintf("%s, %s ago, by redisctl %s", v.At.Format(time.RFC3339), age(now.Sub(v.At)), v.By)
	if v.Deep {
		text += " (--deep)"
	}
	return render.Cell{Text: text, Style: render.Good}
}

func showDocument(store storage.Store, e snapshot.Entry, now time.Time) render.Document {
	m := e.Manifest
	fields := render.Fields{
		{Label: "backup", Value: render.Cell{Text: m.ID, Style: render.Strong}},
		{Label: "file", Value: render.T(store.Location(e.DataName))},
		{Label: "created", Value: render.T(m.CreatedAt.Format(time.RFC3339))},
		{Label: "made by", Value: render.T("redisctl " + m.CreatedBy)},
		{Label: "source", Value: render.T(sourceText(m.Source))},
		{Label: "method", Value: render.T(m.Source.Method)},
		{Label: "position", Value: render.T(position(m.Source))},
		{Label: "took", Value: render.T(durationsText(m.Durations))},
		{Label: "verified", Value: lastVerified(e, now)},
	}
	blocks := []render.Block{}
	if f := m.RDB(); f != nil {
		fields = append(fields,
			render.Field{Label: "size", Value: render.T(sizeText(f))},
			render.Field{Label: "sha256", Value: render.T(f.SHA256)},
			render.Field{Label: "crc64", Value: checksumCell(f.RDB)},
			render.Field{Label: "format", Value: render.T(fmt.Sprintf("RDB version %d", f.RDB.Version))},
		)
		fields = append(fields, encodingFields(f)...)
		blocks = append(blocks, keyTable(f.RDB))
	}
	if m.Kind != snapshot.KindRDB {
		blocks = append(blocks, fileTable(m))
	}
	if e.Problem != nil {
		fields = append(fields, render.Field{Label: "problem", Value: render.Cell{Text: e.Problem.Error(), Style: render.Bad}})
	}
	return render.Document{Value: shown{m, e.Verified}, Names: []string{m.ID}, Blocks: append([]render.Block{fields}, blocks...)}
}

// keyTable counts keys by database and type.
func keyTable(s *rdb.Summary) render.Block {
	t := render.Table{Columns: []render.Column{
		{Title: "DB"}, {Title: "KEYS", Right: true}, {Title: "WITH EXPIRY", Right: true}, {Title: "TYPES"},
	}}
	for _, db := range s.DBs {
		types := make([]string, 0, len(db.Types))
		for _, name := range slices.Sorted(maps.Keys(db.Types)) {
			types = append(types, fmt.Sprintf("%d %s", db.Types[name], name))
		}
		t.Rows = append(t.Rows, []render.Cell{
			render.T(strconv.Itoa(db.DB)), render.T(strconv.FormatInt(db.Keys, 10)),
			render.T(strconv.FormatInt(db.Expires, 10)), render.T(strings.Join(types, ", ")),
		})
	}
	return t
}

// verifyDocument shows a report; err is what Verify returned with it.
func verifyDocument(r verifyResult, err error) render.Document {
	verdict := render.Text{Text: "verified: " + r.Location, Style: render.Good}
	switch {
	case r.Verified:
	case err == nil:
		verdict.Text = "stored as the manifest states, contents not verified (--outer): " + r.Location
	case errors.Is(err, codec.ErrKey):
		verdict = render.Text{Text: "stored as the manifest states, contents not verified (no key): " + r.Location, Style: render.Warn}
		if r.Checks[0].Result == snapshot.Skipped {
			verdict.Text = "not verified (no key, no manifest): " + r.Location
		}
	default:
		verdict = render.Text{Text: "not verified, too new for this redisctl: " + r.Location, Style: render.Warn}
	}
	t := render.Table{Columns: []render.Column{{Title: "CHECK"}, {Title: "RESULT"}, {Title: "DETAIL"}}}
	for _, c := range r.Checks {
		result := render.Cell{Text: string(c.Result), Style: render.Good}
		switch c.Result {
		case snapshot.Failed:
			result.Style = render.Bad
			verdict = render.Text{Text: "FAILED: " + r.Location, Style: render.Bad}
		case snapshot.Skipped:
			result.Style = render.Dim
		}
		t.Rows = append(t.Rows, []render.Cell{render.T(string(c.Name)), result, render.T(c.Detail)})
	}
	read := render.Text{
		Text:  fmt.Sprintf("read %s in %.2f s (%s/s)", operation.Bytes(r.Size), r.Duration, operation.Bytes(int64(r.Throughput))),
		Style: render.Dim,
	}
	if r.Verified && r.RDB != nil {
		read.Text = "holds keys: " + keysText(r.RDB) + "; " + read.Text
	}
	return render.Document{Value: r, Names: []string{r.ID}, Blocks: []render.Block{verdict, t, read}}
}
