package cli

import (
	"fmt"
	"slices"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/backup"
	"github.com/redisctl/redisctl/internal/render"
	"github.com/redisctl/redisctl/internal/snapshot"
)

// setDocument shows a backup of several files that was just made.
func setDocument(stored []storedAt, m *snapshot.Manifest) render.Document {
	fields := render.Fields{
		{Label: "backup", Value: render.Cell{Text: m.ID, Style: render.Strong}},
		{Label: "source", Value: render.T(sourceText(m.Source))},
		{Label: "size", Value: render.T(fmt.Sprintf("%s in %d files", operation.Bytes(m.Size()), len(m.Files)))},
		{Label: "took", Value: render.T(durationsText(m.Durations))},
		{Label: "verified", Value: render.Cell{Text: "on the way to the storage", Style: render.Good}},
	}
	fields = slices.Insert(fields, 1, storedFields(stored)...)
	return render.Document{
		Value:  backupResult{File: firstFile(stored), Stored: stored, Manifest: m},
		Names:  []string{m.ID},
		Blocks: []render.Block{fields, fileTable(m)},
	}
}

func sourceText(s snapshot.Source) string {
	if s.Instance == "" {
		return s.Namespace + "/" + s.Release
	}
	return fmt.Sprintf("%s (%s, %s %s)", s.Instance, s.Role, s.Product, s.Version)
}

// fileTable lists the files of a set.
func fileTable(m *snapshot.Manifest) render.Block {
	t := render.Table{Columns: []render.Column{
		{Title: "FILE"}, {Title: "KIND"}, {Title: "SIZE", Right: true}, {Title: "HOLDS"}, {Title: "SHA256", Wide: true},
	}}
	for _, f := range m.Files {
		t.Rows = append(t.Rows, []render.Cell{
			{Text: f.Name, Style: render.Strong}, render.T(string(f.Kind)), render.T(sizeText(&f)), render.T(contentsText(&f)), render.T(f.SHA256),
		})
	}
	return t
}

// contentsText says what a file holds.
func contentsText(f *snapshot.File) string {
	switch {
	case f.RDB != nil:
		return keysText(f.RDB) + " keys"
	case f.AOF == nil:
		return ""
	}
	text := fmt.Sprintf("%d commands", f.AOF.Commands)
	if f.AOF.Preamble != nil {
		text = keysText(f.AOF.Preamble) + " keys, " + text
	}
	if f.CutBytes > 0 {
		text += fmt.Sprintf(", without %d bytes of an unfinished one", f.CutBytes)
	}
	return text
}

// configResult is the JSON form of `backup config`.
type configResult struct {
	backupResult
	// Config is what was stored, without secrets.
	Config *backup.ConfigDocument `json:"config,omitempty"`
}

// configDocument shows a backup of the configuration, and where running servers
// differ from redis.conf. Secrets that were stored are not shown.
func configDocument(stored []storedAt, m *snapshot.Manifest, c *backup.ConfigDocument) render.Document {
	doc := setDocument(stored, m)
	result := configResult{backupResult: backupResult{File: firstFile(stored), Stored: stored, Manifest: m}}
	if !c.SecretsIncluded {
		result.Config = c
	}
	t := render.Table{
		Columns: []render.Column{{Title: "INSTANCE"}, {Title: "SETTING"}, {Title: "RUNNING"}, {Title: "REDIS.CONF"}},
		Empty:   "All instances run with what redis.conf asks for.",
	}
	for _, i := range c.Instances {
		if i.Problem != "" {
			t.Rows = append(t.Rows, []render.Cell{render.T(i.Instance), {Text: "not read: " + i.Problem, Style: render.Bad}, {}, {}})
		}
		for _, d := range i.Differences {
			running, wanted := d.Running, d.Wanted
			if c.SecretsIncluded && backup.IsSecret(d.Setting) {
				running, wanted = backup.Placeholder, backup.Placeholder
			}
			t.Rows = append(t.Rows, []render.Cell{
				render.T(i.Instance), {Text: d.Setting, Style: render.Strong}, render.T(running), render.T(wanted),
			})
		}
	}
	doc.Value = result
	doc.Blocks = append(doc.Blocks, t)
	return doc
}
