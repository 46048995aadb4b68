package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/aof"
	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/restore/volume"
	"github.com/redisctl/redisctl/internal/render"
)

// aofPlan is the JSON form of a plan of `restore aof`.
type aofPlan struct {
	*volume.Plan
	// Cut is what is restored of the append-only file, and what is not.
	Cut aof.Survey `json:"cut"`
}

func aofPlanDocument(p *volume.Plan, s aof.Survey) render.Document {
	d := planDocument(p.Plan, aofPlan{Plan: p, Cut: s})
	d.Blocks = slices.Insert(d.Blocks, 1, render.Block(surveyFields(&s)))
	return d
}

// surveyFields show what a cut keeps and drops.
func surveyFields(s *aof.Survey) render.Fields {
	kept := commandsText(s.Kept)
	if s.Preamble != nil {
		kept = fmt.Sprintf("an RDB of %d keys, and %s", s.Preamble.Keys, kept)
	}
	fields := render.Fields{{Label: "keeps", Value: render.Cell{Text: kept, Style: render.Strong}}}
	for _, p := range s.Parts {
		text := fmt.Sprintf("%s: %s", p.Name, operation.Bytes(p.Kept))
		if p.Kept != p.Size {
			text += fmt.Sprintf(" of %s (up to offset %d)", operation.Bytes(p.Size), p.Kept)
		}
		fields = append(fields, render.Field{Value: render.T(text)})
	}
	if n := len(s.Kept.Last); n > 0 {
		fields = append(fields, render.Field{Label: "last kept", Value: render.T(sightingText(s.Kept.Last[n-1]))})
	} else if n := len(s.Kept.First); n > 0 {
		fields = append(fields, render.Field{Label: "last kept", Value: render.T(sightingText(s.Kept.First[n-1]))})
	}
	if s.Dropped.Commands == 0 {
		return append(fields, render.Field{Label: "drops", Value: render.T("nothing")})
	}
	fields = append(fields, render.Field{Label: "drops", Value: render.Cell{
		Text: commandsText(s.Dropped) + ": " + namesText(s.Dropped), Style: render.Warn,
	}})
	for _, c := range s.Dropped.First {
		fields = append(fields, render.Field{Value: render.T(sightingText(c))})
	}
	if between := s.Dropped.Commands - int64(len(s.Dropped.First)+len(s.Dropped.Last)); between > 0 {
		fields = append(fields, render.Field{Value: render.Cell{Text: fmt.Sprintf("… %d more …", between), Style: render.Dim}})
	}
	for _, c := range s.Dropped.Last {
		fields = append(fields, render.Field{Value: render.T(sightingText(c))})
	}
	return fields
}

// namesText is "SET 12, DEL 3".
func namesText(t aof.Tally) string {
	names := make([]string, len(t.Names))
	for i, n := range t.Names {
		names[i] = fmt.Sprintf("%s %d", n.Name, n.Count)
	}
	return strings.Join(names, ", ")
}

// spanText says from when to when commands were executed, if that is known.
func spanText(t aof.Tally) string {
	switch {
	case t.From == nil:
		return ""
	case t.From.Equal(*t.Until):
		return " of " + t.From.Format(time.RFC3339)
	default:
		return fmt.Sprintf(" of %s to %s", t.From.Format(time.RFC3339), t.Until.Format(time.RFC3339))
	}
}

// sightingText is "#12 db0 SET user:1 (14:03:07, appendonly.aof.1.incr.aof:1024)".
func sightingText(c aof.Sighting) string {
	text := fmt.Sprintf("#%d db%d %s", c.Number, c.DB, c.Name)
	if c.Key != "" {
		text += " " + c.Key
	}
	at := fmt.Sprintf("%s:%d", c.File, c.Offset)
	if c.Time != nil {
		at = c.Time.Format(time.RFC3339) + ", " + at
	}
	return fmt.Sprintf("%s (%s)", text, at)
}
