package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore/live"
	"github.com/redisctl/redisctl/internal/render"
)

func asError(err error, target **operation.Error) bool { return errors.As(err, target) }

func liveDocument(r live.Result) render.Document {
	fields := render.Fields{
		{Label: "backup", Value: render.Cell{Text: r.Backup, Style: render.Strong}},
		{Label: "restored", Value: render.T(restoredText(r))},
		{Label: "took", Value: render.T(tookText(r))},
	}
	if r.Expired > 0 {
		fields = append(fields, render.Field{Label: "expired", Value: render.T(fmt.Sprintf("%d keys were left out: their time had come", r.Expired))})
	}
	if kept := r.Kept - r.Conflicts; kept > 0 {
		fields = append(fields, render.Field{Label: "kept", Value: render.T(fmt.Sprintf("%d keys were there already", kept))})
	}
	if r.Unsupported > 0 {
		fields = append(fields, render.Field{Label: "unsupported", Value: render.Cell{
			Text: fmt.Sprintf("%d keys were left out: the server is too old for them", r.Unsupported), Style: render.Warn}})
	}
	if r.FunctionsLeftOut > 0 {
		fields = append(fields, render.Field{Label: "unsupported", Value: render.Cell{
			Text: fmt.Sprintf("%d function libraries were left out: the server has none", r.FunctionsLeftOut), Style: render.Warn}})
	}
	if r.Conflicts > 0 {
		fields = append(fields, render.Field{Label: "conflicts", Value: render.Cell{
			Text: fmt.Sprintf("%d keys were written by clients meanwhile, and kept", r.Conflicts), Style: render.Warn}})
		for _, e := range r.Examples {
			fields = append(fields, render.Field{Label: "conflict", Value: render.T(e)})
		}
	}
	if r.Comparison != nil {
		fields = append(fields, comparisonFields(*r.Comparison)...)
	}
	if r.SafetyBackup != "" {
		fields = append(fields, render.Field{Label: "former data", Value: render.T("backup " + r.SafetyBackup)})
	}
	return render.Document{Value: r, Names: []string{r.Instance}, Blocks: []render.Block{fields}}
}

func restoredText(r live.Result) string {
	text := fmt.Sprintf("%d of %d keys into %s", r.Restored, r.Selected, r.Instance)
	if r.Rebuilt > 0 {
		text += fmt.Sprintf(", %d of them built by commands", r.Rebuilt)
	}
	if r.Functions > 0 {
		text += fmt.Sprintf(", and %d function libraries", r.Functions)
	}
	return text
}

func tookText(r live.Result) string {
	text := fmt.Sprintf("%s (%.0f keys/s, %s)", inSeconds(r.DurationSeconds), r.KeysPerSecond, operation.Bytes(r.Bytes))
	if r.ThrottledSeconds > 0 {
		text += fmt.Sprintf(", %s of it waiting for replicas", inSeconds(r.ThrottledSeconds))
	}
	return text
}

func liveRecordDocument(s restoreStatus, r *live.Record) render.Document {
	fields := render.Fields{
		{Label: "backup", Value: render.T(r.Backup)},
		{Label: "into", Value: render.T(r.Instance)},
		{Label: "begun", Value: render.T(r.Begun.Format(time.RFC3339) + " by " + r.By)},
		{Label: "restored", Value: render.T(fmt.Sprintf("at least %d of %d keys, as of %s", r.Restored, r.Keys, r.Updated.Format(time.RFC3339)))},
	}
	if r.Problem != "" {
		fields = append(fields, render.Field{Label: "ended by", Value: render.Cell{Text: r.Problem, Style: render.Bad}})
	}
	return render.Document{Value: s, Names: []string{r.Backup}, Blocks: []render.Block{
		render.Text{Text: "a restore is unfinished, or still running", Style: render.Bad},
		fields,
		render.Text{Text: "redisctl restore resume goes on; redisctl restore abort leaves it at that: what was restored stays"},
	}}
}

// liveAbort is the result of `restore abort` for a live restore.
type liveAbort struct {
	Namespace string `json:"namespace,omitempty"`
	Release   string `json:"release,omitempty"`
	Name      string `json:"name"`
	Method    string `json:"method"`
	// Backup was being restored into Instance. At least Restored of Keys are there, and
	// stay.
	Backup   string `json:"backup"`
	Instance string `json:"instance"`
	Restored int64  `json:"restored"`
	Keys     int64  `json:"keys"`
	// SafetyBackup is where the backup of the former data is; empty when there is none.
	SafetyBackup string `json:"safetyBackup,omitempty"`
}

func liveAbortDocument(d *operation.Deployment, r *live.Record) render.Document {
	text := fmt.Sprintf("given up: at least %d of %d keys were restored into %s, and stay", r.Restored, r.Keys, r.Instance)
	if r.SafetyBackup != "" {
		text += "; the former data is in " + r.SafetyBackup
	}
	return render.Document{
		Value: liveAbort{
			Namespace: d.Namespace, Release: d.Release, Name: d.Name, Method: live.Method,
			Backup: r.Backup, Instance: r.Instance, Restored: r.Restored, Keys: r.Keys, SafetyBackup: r.SafetyBackup,
		},
		Names:  []string{r.Instance},
		Blocks: []render.Block{render.Text{Text: text}},
	}
}
