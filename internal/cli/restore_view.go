package cli

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation/restore"
	"github.com/redisctl/redisctl/internal/operation/restore/volume"
	"github.com/redisctl/redisctl/internal/render"
)

var errNoRestore = errors.New("no restore is unfinished")

func volumePlanDocument(p *volume.Plan) render.Document { return planDocument(p.Plan, p) }

func volumeDocument(r volume.Result) render.Document {
	d := render.Document{Value: r, Names: []string{r.Name}}
	if r.Outcome == volume.OutcomeUndone {
		d.Blocks = []render.Block{render.Text{Text: "undone: " + r.Name + " has its former data", Style: render.Good}}
		return d
	}
	fields := render.Fields{
		{Label: "backup", Value: render.Cell{Text: r.Backup, Style: render.Strong}},
		{Label: "restored", Value: render.T(fmt.Sprintf("to %s as %s", r.Instance, strings.Join(r.Files, ", ")))},
	}
	if len(r.Files) == 0 { // resumed
		fields[1].Value = render.T("to " + r.Instance)
	}
	if r.Comparison != nil {
		fields = append(fields, comparisonFields(*r.Comparison)...)
	}
	if len(r.Replicas) > 0 {
		fields = append(fields, render.Field{Label: "replicas", Value: render.T(strings.Join(r.Replicas, ", ") + " have copied it")})
	}
	fields = append(fields, render.Field{Label: "former data", Value: render.T(formerData(r))})
	if s := r.Seconds; s.Down > 0 {
		fields = append(fields, render.Field{Label: "downtime", Value: render.T(fmt.Sprintf(
			"%s until writes went on (load %s, compare %s)", inSeconds(s.Down), inSeconds(s.Load), inSeconds(s.Compare)))})
	}
	d.Blocks = []render.Block{fields}
	return d
}

func formerData(r volume.Result) string {
	text := "files in " + r.KeptIn + " on the volume"
	if r.SafetyBackup != "" {
		text += "; backup " + r.SafetyBackup
	}
	return text
}

func inSeconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(time.Millisecond).String()
}

// comparisonFields show the proof of a restore.
func comparisonFields(c restore.Comparison) render.Fields {
	var keys []string
	for _, db := range c.DBs {
		text := fmt.Sprintf("db%d %d", db.DB, db.Found)
		if db.Found != db.Backup && !c.LoadedOnly {
			text += fmt.Sprintf(" of %d", db.Backup)
		}
		keys = append(keys, text)
	}
	verdict := render.Cell{
		Text: fmt.Sprintf("%d of %d keys compared, all equal", c.Keys, c.OfKeys), Style: render.Good,
	}
	if c.OfKeys == 0 {
		verdict.Text = "numbers of keys; there was nothing to compare values with"
	}
	if !c.Equal {
		verdict = render.Cell{Text: fmt.Sprintf("NOT EQUAL: of %d keys compared %d are missing, %d differ, %d expire at another time",
			c.Keys, c.Missing, c.Different, c.ExpiryDiffers), Style: render.Bad}
	}
	if c.LoadedOnly {
		verdict = render.Cell{Text: "all of it was loaded; nothing tells what its commands leave, so that no values were compared", Style: render.Warn}
	}
	fields := render.Fields{
		{Label: "keys", Value: render.T(strings.Join(keys, ", "))},
		{Label: "verified", Value: verdict},
	}
	if c.NotComparable > 0 {
		fields = append(fields, render.Field{Label: "not compared", Value: render.Cell{
			Text: fmt.Sprintf("the values of %d keys: of modules, or too large", c.NotComparable), Style: render.Warn}})
	}
	if c.FunctionsMissing > 0 {
		fields = append(fields, render.Field{Label: "functions", Value: render.Cell{
			Text: fmt.Sprintf("%d libraries are missing or differ", c.FunctionsMissing), Style: render.Bad}})
	}
	if c.Evicted > 0 {
		fields = append(fields, render.Field{Label: "evicted", Value: render.Cell{
			Text: fmt.Sprintf("%d keys: the data is larger than maxmemory", c.Evicted), Style: render.Bad}})
	}
	for _, e := range c.Examples {
		fields = append(fields, render.Field{Label: "differs", Value: render.T(e.String())})
	}
	return fields
}

func volumeRecordDocument(s restoreStatus, r *volume.Record) render.Document {
	return render.Document{Value: s, Names: []string{r.Backup}, Blocks: []render.Block{
		render.Text{Text: "a restore is unfinished", Style: render.Bad},
		render.Fields{
			{Label: "backup", Value: render.T(r.Backup)},
			{Label: "begun", Value: render.T(r.Begun.Format(time.RFC3339) + " by " + r.By)},
			{Label: "phase", Value: render.T(phaseText(r))},
			{Label: "pods", Value: render.T(fmt.Sprintf("%d are to run", r.Replicas))},
		},
		render.Text{Text: "redisctl restore resume goes on; redisctl restore abort brings the former data back"},
	}}
}

// phaseText says what a phase means for whoever finds it.
func phaseText(r *volume.Record) string {
	switch r.Phase {
	case volume.PhaseStaging:
		return "copying the backup to the volume; nothing was changed"
	case volume.PhaseStopping:
		return "stopping the pods; the files are the former ones"
	case volume.PhaseSwapping:
		return "moving the files; no pod runs"
	case volume.PhaseStarting:
		return "starting the first pod with the restored files"
	case volume.PhaseComparing:
		return "comparing; the first pod serves the restored data, the others do not run"
	case volume.PhaseReplicas:
		return "starting the other pods; the first one serves the restored data"
	case volume.PhaseUndoing:
		return "bringing the former files back"
	}
	return string(r.Phase)
}
