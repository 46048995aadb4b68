package cli

import (
	"fmt"
	"strconv"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/upgrade"
	"github.com/redisctl/redisctl/internal/operation/upgrade/check"
	"github.com/redisctl/redisctl/internal/redis"
	"github.com/redisctl/redisctl/internal/render"
)

func upgradeCheckDocument(r check.Report, now time.Time) render.Document {
	head := render.Text{Text: r.Namespace + "/" + r.Release + " is fit for an upgrade", Style: render.Good}
	if r.Target != nil {
		head.Text = fmt.Sprintf("%s/%s is fit for the upgrade to %s", r.Namespace, r.Release, r.Target.Image)
	}
	if !r.Ready {
		head = render.Text{Text: "something stands in the way of upgrading " + r.Namespace + "/" + r.Release, Style: render.Bad}
	}
	return render.Document{
		Value: r, Names: []string{r.Name},
		Blocks: []render.Block{head, upgradeFields(r, now), upgradeInstances(r), findingList(r.Findings)},
	}
}

func upgradeFields(r check.Report, now time.Time) render.Fields {
	fields := render.Fields{}
	add := func(label, format string, args ...any) {
		fields = append(fields, render.Field{Label: label, Value: render.T(fmt.Sprintf(format, args...))})
	}
	add("from", "%s", imageText(r.From.Image, r.From.Version))
	if t := r.Target; t != nil {
		add("to", "%s", imageText(t.Image, t.Version))
	}
	if r.From.Chart != "" {
		add("chart", "%s", r.From.Chart)
	}
	if rev := r.From.Revision; rev != nil {
		add("revision", "%d, %s", rev.Number, rev.Status)
	}
	if p := r.Preview; p != nil {
		add("changes", "%s", previewText(*p))
	}
	if t := r.Trial; t != nil {
		add("trial", "%s", trialText(*t))
		for _, s := range t.Settings {
			add("setting", "%s: %s now, %s then", s.Name, shownValue(s.Running), shownValue(s.Target))
		}
	}
	if b := r.Backup; b != nil {
		add("backup", "%s, %s old", b.ID, age(now.Sub(b.CreatedAt)))
	}
	for _, v := range r.Volumes {
		add("volume", "%s: %s of %s free", v.Instance, operation.Bytes(v.FreeBytes), operation.Bytes(v.SizeBytes))
	}
	return fields
}

func imageText(image string, v *redis.Version) string {
	if v == nil {
		return image
	}
	return fmt.Sprintf("%s (%s)", image, v)
}

func trialText(t check.Trial) string {
	switch {
	case !t.Started:
		return "the server did not start, " + inSeconds(t.Seconds)
	case t.RDBVersion > 0:
		return fmt.Sprintf("started with the release's redis.conf, writes RDB version %d, %s", t.RDBVersion, inSeconds(t.Seconds))
	default:
		return "started with the release's redis.conf, " + inSeconds(t.Seconds)
	}
}

// previewText sums up what Helm would change.
func previewText(p upgrade.Preview) string {
	text := "no objects"
	if n := len(p.Objects); n == 1 {
		text = "1 object"
	} else if n > 1 {
		text = strconv.Itoa(n) + " objects"
	}
	if p.Replaced {
		text += ", every pod is replaced"
	}
	return text
}

func upgradeInstances(r check.Report) render.Block {
	t := render.Table{Columns: []render.Column{{Title: "NAME"}, {Title: "ROLE"}, {Title: "SERVER"}, {Title: "IMAGE"}}}
	for _, i := range r.From.Instances {
		server := render.Cell{Text: i.Error, Style: render.Bad}
		if i.Version != nil {
			server = render.T(i.Version.String())
		}
		t.Rows = append(t.Rows, []render.Cell{{Text: i.Name, Style: render.Strong}, roleCell(i.Role), server, render.T(i.Image)})
	}
	return t
}
