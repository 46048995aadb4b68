package cli

import (
	"cmp"
	"fmt"
	"strconv"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/health"
	"github.com/redisctl/redisctl/internal/operation/inspect"
	"github.com/redisctl/redisctl/internal/redis"
	"github.com/redisctl/redisctl/internal/render"
)

func healthDocument(r health.Report, now time.Time) render.Document {
	d := render.Document{Value: r, Blocks: []render.Block{healthTitle(r), instanceTable(r, now), findingList(r.Findings)}}
	for _, i := range r.Instances {
		d.Names = append(d.Names, i.Name)
	}
	return d
}

func healthTitle(r health.Report) render.Block {
	state := render.Cell{Text: "healthy", Style: render.Good}
	if !r.Healthy {
		state = render.Cell{Text: "unhealthy", Style: render.Bad}
	}
	primary := render.Cell{}
	if r.Primary != "" {
		primary = render.Cell{Text: "primary " + r.Primary, Style: render.Dim}
	}
	return render.Tree{Label: []render.Cell{{Text: title(r.Namespace, r.Release, r.Name), Style: render.Strong}, state, primary}}
}

// title names a deployment as people type it.
func title(namespace, release, name string) string {
	if namespace == "" {
		return name
	}
	return namespace + "/" + release
}

func instanceTable(r health.Report, now time.Time) render.Block {
	t := render.Table{Columns: []render.Column{
		{Title: "NAME"}, {Title: "STATUS"}, {Title: "ROLE"}, {Title: "LINK"}, {Title: "LAG", Right: true},
		{Title: "MEMORY"}, {Title: "KEYS", Right: true}, {Title: "SAVED"}, {Title: "AOF"}, {Title: "VERSION"},
		{Title: "FOLLOWS", Wide: true}, {Title: "CLIENTS", Right: true, Wide: true}, {Title: "OPS/S", Right: true, Wide: true},
		{Title: "EVICTED", Right: true, Wide: true}, {Title: "LATENCY", Right: true, Wide: true},
		{Title: "UPTIME", Right: true, Wide: true}, {Title: "RESTARTS", Right: true, Wide: true},
		{Title: "NODE", Wide: true}, {Title: "IMAGE", Wide: true},
	}}
	for _, i := range r.Instances {
		row := []render.Cell{{Text: i.Name, Style: render.Strong}, statusCell(i.Status)}
		if i.Answer == nil {
			for len(row) < len(t.Columns)-3 {
				row = append(row, render.T(""))
			}
			row = append(row, render.T(strconv.Itoa(i.Restarts)), render.T(i.Node), render.T(i.Image))
			t.Rows = append(t.Rows, row)
			continue
		}
		t.Rows = append(t.Rows, append(row,
			roleCell(i.Role), linkCell(i.Link), render.T(lagText(i)),
			render.T(memoryText(i)), render.T(strconv.FormatInt(i.Keys, 10)), savedCell(i, now), render.T(onOff(i.AOF)),
			render.T(i.Version), render.T(i.Follows), render.T(strconv.FormatInt(i.Clients, 10)),
			render.T(strconv.FormatInt(i.OpsPerSec, 10)), render.T(strconv.FormatInt(i.Evicted, 10)),
			render.T((time.Duration(i.LatencyUS)*time.Microsecond).String()),
			render.T((time.Duration(i.Uptime)*time.Second).String()),
			render.T(strconv.Itoa(i.Restarts)), render.T(i.Node), render.T(i.Image),
		))
	}
	return t
}

func statusCell(status string) render.Cell {
	switch status {
	case "ok":
		return render.Cell{Text: status, Style: render.Good}
	case "loading":
		return render.Cell{Text: status, Style: render.Warn}
	default:
		return render.Cell{Text: status, Style: render.Bad}
	}
}

func roleCell(role redis.Role) render.Cell {
	if role == redis.RolePrimary {
		return render.Cell{Text: string(role), Style: render.Strong}
	}
	return render.T(string(role))
}

func linkCell(link string) render.Cell {
	switch link {
	case "up":
		return render.Cell{Text: link, Style: render.Good}
	case "syncing":
		return render.Cell{Text: link, Style: render.Warn}
	default:
		return render.Cell{Text: link, Style: render.Bad}
	}
}

func lagText(i health.Instance) string {
	if i.LagBytes == nil {
		return ""
	}
	return operation.Bytes(*i.LagBytes).String()
}

func memoryText(i health.Instance) string {
	used := operation.Bytes(i.MemoryUsed).String()
	if i.MemoryMax == 0 {
		return used
	}
	return used + " / " + operation.Bytes(i.MemoryMax).String()
}

func savedCell(i health.Instance, now time.Time) render.Cell {
	switch {
	case !i.LastSaveOK:
		return render.Cell{Text: "failed", Style: render.Bad}
	case !i.SavePoints && !i.AOF:
		return render.Cell{Text: "off", Style: render.Warn}
	case !i.SavePoints:
		return render.T("off")
	case i.LastSave == nil:
		return render.T("never")
	default:
		return render.T(age(max(0, now.Sub(*i.LastSave))) + " ago")
	}
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// findingList shows findings, the worst first as they come.
func findingList(findings []operation.Finding) render.Block {
	var l render.List
	for _, f := range findings {
		e := render.Entry{Line: []render.Cell{{Text: f.Subject, Style: render.Strong}, render.T(f.Message), {Text: "[" + f.Code + "]", Style: render.Dim}}}
		switch f.Severity {
		case operation.Critical:
			e.Mark = render.Cell{Text: "✗", Style: render.Bad}
		case operation.Warning:
			e.Mark = render.Cell{Text: "!", Style: render.Warn}
		default:
			e.Mark = render.Cell{Text: "·", Style: render.Dim}
		}
		if f.Hint != "" {
			e.Details = append(e.Details, f.Hint)
		}
		if f.Override != "" {
			e.Details = append(e.Details, "override: "+f.Override)
		}
		l = append(l, e)
	}
	return l
}

// healthFleet is the result of `health -A`.
type healthFleet struct {
	Items []fleetItem `json:"items"`
}

// fleetItem is one release; Error is set when nothing of it could be observed.
type fleetItem struct {
	health.Report
	Error string `json:"error,omitempty"`
}

func (f healthFleet) document() render.Document {
	t := render.Table{
		Columns: []render.Column{
			{Title: "NAMESPACE"}, {Title: "RELEASE"}, {Title: "STATUS"}, {Title: "PRIMARY"},
			{Title: "INSTANCES", Right: true}, {Title: "FINDINGS"},
		},
		Empty: "No Redis releases found.",
	}
	var names []string
	for _, item := range f.Items {
		state := render.Cell{Text: "healthy", Style: render.Good}
		said := ""
		switch {
		case item.Error != "":
			state, said = render.Cell{Text: "unknown", Style: render.Bad}, item.Error
		case !item.Healthy:
			state = render.Cell{Text: "unhealthy", Style: render.Bad}
		}
		for n, finding := range item.Findings {
			if n > 0 {
				said += ", "
			}
			said += finding.Code
		}
		answered := 0
		for _, i := range item.Instances {
			if i.Answer != nil {
				answered++
			}
		}
		t.Rows = append(t.Rows, []render.Cell{
			render.T(item.Namespace), {Text: item.Release, Style: render.Strong}, state, render.T(item.Primary),
			render.T(fmt.Sprintf("%d/%d", answered, len(item.Instances))), render.T(said),
		})
		names = append(names, title(item.Namespace, item.Release, item.Name))
	}
	return render.Document{Value: f, Names: names, Blocks: []render.Block{t}}
}

// answersResult is the JSON form of asking every instance the same.
type answersResult[T any] struct {
	Namespace string              `json:"namespace,omitempty"`
	Release   string              `json:"release,omitempty"`
	Name      string              `json:"name"`
	Instances []inspect.Answer[T] `json:"instances"`
}

func newAnswersResult[T any](d *operation.Deployment, answers []inspect.Answer[T]) answersResult[T] {
	return answersResult[T]{Namespace: d.Namespace, Release: d.Release, Name: d.Name, Instances: answers}
}

// convert keeps who answered and replaces what was answered.
func convert[T, U any](answers []inspect.Answer[T], value func(inspect.Answer[T]) U) []inspect.Answer[U] {
	converted := make([]inspect.Answer[U], len(answers))
	for i, a := range answers {
		converted[i] = inspect.Answer[U]{Instance: a.Instance, Err: a.Err, Error: a.Error}
		if a.Err == nil {
			converted[i].Value = value(a)
		}
	}
	return converted
}

type latency struct {
	Microseconds int64 `json:"latencyMicroseconds"`
}

func pingDocument(d *operation.Deployment, answers []inspect.Answer[time.Duration]) render.Document {
	value := newAnswersResult(d, convert(answers, func(a inspect.Answer[time.Duration]) latency {
		return latency{Microseconds: a.Value.Microseconds()}
	}))
	t := render.Table{Columns: []render.Column{{Title: "NAME"}, {Title: "ANSWER"}, {Title: "LATENCY", Right: true}}}
	var names []string
	for _, a := range answers {
		row := []render.Cell{{Text: a.Instance, Style: render.Strong}, {Text: "PONG", Style: render.Good}, render.T(a.Value.Round(time.Microsecond).String())}
		if a.Err != nil {
			row[1], row[2] = render.Cell{Text: a.Error, Style: render.Bad}, render.T("")
		}
		t.Rows = append(t.Rows, row)
		names = append(names, a.Instance)
	}
	return render.Document{Value: value, Names: names, Blocks: []render.Block{t}}
}

type versions struct {
	Server  string `json:"server"`
	Image   string `json:"image,omitempty"`
	Desired string `json:"desiredImage,omitempty"`
}

func versionsDocument(d *operation.Deployment, answers []inspect.Answer[redis.Info]) render.Document {
	value := newAnswersResult(d, convert(answers, func(a inspect.Answer[redis.Info]) versions {
		v := versions{}
		if version, err := a.Value.Version(); err == nil {
			v.Server = version.String()
		}
		if i := d.Instance(a.Instance); i.Pod != nil {
			v.Image = i.Pod.Image
		}
		if d.Workload != nil {
			v.Desired = d.Workload.Image
		}
		return v
	}))
	t := render.Table{Columns: []render.Column{{Title: "NAME"}, {Title: "SERVER"}, {Title: "IMAGE"}, {Title: "DESIRED IMAGE", Wide: true}}}
	var names []string
	seen := make(map[string]bool)
	for _, a := range value.Instances {
		server := render.T(a.Value.Server)
		if a.Err != nil {
			server = render.Cell{Text: a.Error, Style: render.Bad}
		} else {
			seen[a.Value.Server] = true
		}
		image := render.T(a.Value.Image)
		if a.Value.Desired != "" && a.Value.Image != "" && a.Value.Image != a.Value.Desired {
			image.Style = render.Warn
		}
		t.Rows = append(t.Rows, []render.Cell{{Text: a.Instance, Style: render.Strong}, server, image, render.T(cmp.Or(a.Value.Desired, "-"))})
		names = append(names, a.Instance)
	}
	blocks := []render.Block{t}
	if len(seen) > 1 {
		blocks = append(blocks, render.Text{Text: "! the instances run different versions", Style: render.Warn})
	}
	return render.Document{Value: value, Names: names, Blocks: blocks}
}
