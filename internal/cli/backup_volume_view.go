package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/backup"
	"github.com/redisctl/redisctl/internal/render"
)

// volumesResult is the JSON form of `backup volume` and `backup list --volumes`.
type volumesResult struct {
	// Total counts all that were found, more than Snapshots with --limit.
	Total     int                     `json:"total"`
	Snapshots []backup.VolumeSnapshot `json:"snapshots"`
}

// volumesDocument shows snapshots that were just made.
func volumesDocument(made []backup.VolumeSnapshot) render.Document {
	doc := render.Document{Value: volumesResult{Total: len(made), Snapshots: made}}
	for _, s := range made {
		fields := render.Fields{
			{Label: "snapshot", Value: render.Cell{Text: s.Name, Style: render.Strong}},
			{Label: "claim", Value: render.T(s.Claim)},
			{Label: "class", Value: render.T(s.Class)},
			{Label: "source", Value: render.T(volumeSource(s.Holds))},
			{Label: "holds", Value: holdsCell(s.Holds)},
			{Label: "position", Value: render.T(volumePosition(s.Holds))},
			{Label: "keys", Value: render.T(volumeKeys(s.Holds))},
			{Label: "taken", Value: render.T(timeText(s.Taken))},
			{Label: "size", Value: render.T(restoreSize(s))},
			{Label: "content", Value: render.T(s.Content)},
			{Label: "state", Value: render.Cell{Text: "ready to use", Style: render.Good}},
		}
		doc.Names = append(doc.Names, s.Name)
		doc.Blocks = append(doc.Blocks, fields)
	}
	return doc
}

func volumeSource(c *backup.VolumeContents) string {
	if c.Role == "" {
		return c.Instance + " (did not answer)"
	}
	return fmt.Sprintf("%s (%s, %s %s)", c.Instance, c.Role, c.Product, c.Version)
}

func holdsCell(c *backup.VolumeContents) render.Cell {
	switch {
	case c == nil:
		return render.Cell{Text: "unknown", Style: render.Warn}
	case c.Persistence == backup.PersistenceRDB:
		return render.T("an RDB file that BGSAVE has just completed")
	case c.Persistence == backup.PersistenceAOF:
		return render.T("the append-only file, on the disk before")
	default:
		return render.Cell{Text: "what was on the disk (--as-is)", Style: render.Warn}
	}
}

func volumePosition(c *backup.VolumeContents) string {
	if c.ReplicationID == "" {
		return "not known"
	}
	return fmt.Sprintf("replication ID %s, offset %d at least", c.ReplicationID, c.ReplicationOffset)
}

func volumeKeys(c *backup.VolumeContents) string {
	if c.Role == "" {
		return "not known"
	}
	var total int64
	dbs := make([]string, len(c.Keys))
	for i, db := range c.Keys {
		total += db.Keys
		dbs[i] = fmt.Sprintf("db%d: %d", db.DB, db.Keys)
	}
	if len(dbs) == 0 {
		return "0"
	}
	return fmt.Sprintf("%d (%s) at %s", total, strings.Join(dbs, ", "), c.AsOf.Format(time.RFC3339))
}

func restoreSize(s backup.VolumeSnapshot) string {
	if s.RestoreSize == 0 {
		return "not stated by the driver"
	}
	return operation.Bytes(s.RestoreSize).String()
}

func timeText(t *time.Time) string {
	if t == nil {
		return "not stated by the driver"
	}
	return t.Format(time.RFC3339)
}

// volumeListDocument lists snapshots.
func volumeListDocument(found []backup.VolumeSnapshot, total int, now time.Time) render.Document {
	doc := render.Document{Value: volumesResult{Total: total, Snapshots: found}}
	t := render.Table{
		Columns: []render.Column{
			{Title: "NAME"}, {Title: "RELEASE"}, {Title: "AGE", Right: true}, {Title: "SIZE", Right: true}, {Title: "KEYS", Right: true},
			{Title: "STATE"}, {Title: "POD"}, {Title: "HOLDS"}, {Title: "CLAIM", Wide: true}, {Title: "CLASS", Wide: true},
			{Title: "VERSION", Wide: true}, {Title: "TAKEN", Wide: true}, {Title: "CONTENT", Wide: true},
		},
		Empty: "No volume snapshots that redisctl made.",
	}
	for _, s := range found {
		doc.Names = append(doc.Names, s.Name)
		size := ""
		if s.RestoreSize > 0 {
			size = operation.Bytes(s.RestoreSize).String()
		}
		pod, holds, version, keys := "", "unknown", "", ""
		if c := s.Holds; c != nil {
			pod, holds = c.Instance, string(c.Persistence)
			if c.Role != "" {
				version = c.Product + " " + c.Version
				var count int64
				for _, db := range c.Keys {
					count += db.Keys
				}
				keys = strconv.FormatInt(count, 10)
			}
		}
		taken := ""
		if s.Taken != nil {
			taken = s.Taken.Format(time.RFC3339)
		}
		t.Rows = append(t.Rows, []render.Cell{
			{Text: s.Name, Style: render.Strong}, render.T(s.Namespace + "/" + s.Release), render.T(age(now.Sub(s.Created))),
			render.T(size), render.T(keys), volumeState(s), render.T(pod), render.T(holds), render.T(s.Claim), render.T(s.Class),
			render.T(version), render.T(taken), render.T(s.Content),
		})
	}
	doc.Blocks = []render.Block{t}
	if total > len(found) {
		doc.Blocks = append(doc.Blocks, render.Text{Text: fmt.Sprintf("%d of %d are shown (--limit).", len(found), total), Style: render.Dim})
	}
	return doc
}

func volumeState(s backup.VolumeSnapshot) render.Cell {
	switch {
	case s.Problem != "":
		return render.Cell{Text: "failing: " + s.Problem, Style: render.Bad}
	case s.Ready:
		return render.Cell{Text: "ready", Style: render.Good}
	case s.Taken != nil:
		return render.Cell{Text: "taken, not ready", Style: render.Warn}
	default:
		return render.Cell{Text: "not taken", Style: render.Warn}
	}
}
