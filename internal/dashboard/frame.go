// Package dashboard draws what `redisctl top` shows, and runs it as a full-screen program.
package dashboard

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/dashboard"
	"github.com/redisctl/redisctl/internal/redis"
	"github.com/redisctl/redisctl/internal/render"
)

// Sort is the order of the instances of each release.
type Sort int

// The orders.
const (
	ByName Sort = iota
	ByOps
	ByMemory
	ByLag
	ByClients
	ByCPU
	sorts
)

// String says it for people.
func (s Sort) String() string {
	return [...]string{"name", "ops", "memory", "lag", "clients", "cpu"}[s]
}

// View says how a frame is drawn.
type View struct {
	Sort Sort
	// Marked is the instance that is marked, "" for none: release title and name.
	Marked string
	// Interval and Paused are shown in the first line.
	Interval time.Duration
	Paused   bool
	// Details is the most lines of findings, slow commands and events of each.
	Details int
}

// ID tells an instance from those of other releases.
func ID(r dashboard.Release, name string) string { return r.Namespace + "/" + r.Name + "/" + name }

// Draw returns everything that a frame shows.
func Draw(f dashboard.Frame, v View) render.Block {
	stack := render.Stack{heading(f, v)}
	if f.Problem != "" {
		stack = append(stack, render.Line{{Text: "! " + f.Problem, Style: render.Warn}})
	}
	if len(f.Releases) == 0 {
		stack = append(stack, render.Line{{Text: "looking for releases…", Style: render.Dim}})
	}
	for _, r := range f.Releases {
		stack = append(stack, render.Gap(), releaseLine(r), instances(r, v))
	}
	for _, part := range []render.Stack{findings(f, v), slowLog(f, v), eventList(f, v)} {
		if len(part) > 0 {
			stack = append(stack, render.Gap())
			stack = append(stack, part...)
		}
	}
	return stack
}

func heading(f dashboard.Frame, v View) render.Block {
	line := render.Line{{Text: "redisctl top", Style: render.Strong}, render.T(f.Time.Local().Format(time.TimeOnly))}
	if v.Interval > 0 {
		line = append(line, render.Cell{Text: fmt.Sprintf("every %s, by %s", v.Interval, v.Sort), Style: render.Dim})
	}
	if v.Paused {
		line = append(line, render.Cell{Text: "PAUSED", Style: render.Warn})
	}
	return line
}

func title(r dashboard.Release) string {
	if r.Namespace == "" {
		return r.Name
	}
	return r.Namespace + "/" + r.Release
}

func releaseLine(r dashboard.Release) render.Block {
	state := render.Cell{Text: "healthy", Style: render.Good}
	if !r.Healthy {
		state = render.Cell{Text: "unhealthy", Style: render.Bad}
	}
	if slices.ContainsFunc(r.Instances, func(i dashboard.Instance) bool { return i.Age == nil && i.Error == "no answer yet" }) {
		state = render.Cell{Text: "asking…", Style: render.Dim}
	}
	line := render.Line{{Text: title(r), Style: render.Strong}, state}
	if r.Primary != "" {
		line = append(line, render.Cell{Text: "primary " + r.Primary, Style: render.Dim})
	}
	var ops int64
	for _, i := range r.Instances {
		if i.Answer != nil && i.Role == redis.RolePrimary {
			ops += i.OpsPerSec
		}
	}
	return append(line, render.Cell{Text: fmt.Sprintf("%s ops/s", Count(ops)), Style: render.Dim})
}

// sparkWidth is how many samples a plot shows.
const sparkWidth = 12

func instances(r dashboard.Release, v View) render.Block {
	g := render.Grid{Mark: -1, Columns: []render.GridColumn{
		{Title: "POD"}, {Title: "ROLE"}, {Title: "LAG", Right: true, Rank: 1}, {Title: "OPS/S", Right: true},
		{Title: "", Rank: 3, Tail: true}, {Title: "MEMORY", Right: true, Rank: 1}, {Title: "", Rank: 6}, {Title: "CPU", Right: true, Rank: 2},
		{Title: "CLI", Right: true, Rank: 4}, {Title: "LAG PLOT", Rank: 9, Tail: true}, {Title: "KEYS", Right: true, Rank: 7},
		{Title: "IN/S", Right: true, Rank: 10}, {Title: "OUT/S", Right: true, Rank: 10}, {Title: "LIMIT", Right: true, Rank: 8},
		{Title: "RST", Right: true, Rank: 5},
	}}
	list := slices.Clone(r.Instances)
	sortInstances(list, v.Sort)
	top, topLag := int64(1), int64(1)
	for _, i := range list {
		for _, o := range last(i.History.Ops) {
			top = max(top, o)
		}
		for _, l := range last(i.History.Lag) {
			topLag = max(topLag, l)
		}
	}
	for n, i := range list {
		if ID(r, i.Name) == v.Marked {
			g.Mark = n
		}
		g.Rows = append(g.Rows, instanceRow(i, top, topLag))
	}
	return g
}

func last(values []int64) []int64 { return values[max(0, len(values)-sparkWidth):] }

func instanceRow(i dashboard.Instance, top, topLag int64) []render.Cell {
	name := render.Cell{Text: i.Name, Style: render.Strong}
	spark := render.Cell{Text: render.Spark(last(i.History.Ops), top), Style: render.Good}
	restarts := render.T(strconv.Itoa(i.Restarts))
	if i.Restarts > 0 {
		restarts.Style = render.Warn
	}
	if i.Answer == nil {
		state := render.Cell{Text: i.Status, Style: render.Bad}
		if i.Error == "no answer yet" {
			state = render.Cell{Text: "asking…", Style: render.Dim}
		} else if i.Age != nil {
			state.Text += " " + age(*i.Age)
		}
		row := []render.Cell{name, state, {}, {}, spark}
		for len(row) < 14 {
			row = append(row, render.Cell{})
		}
		row[13] = render.T(limit(i))
		return append(row, restarts)
	}
	role := render.Cell{Text: string(i.Role)}
	switch {
	case i.Role == redis.RolePrimary:
		role.Style = render.Strong
	case i.Link == "up":
		role.Style = render.Good
	default:
		role.Text, role.Style = "replica "+i.Link, render.Bad
	}
	lag := render.Cell{}
	if i.LagBytes != nil {
		lag.Text = operation.Bytes(*i.LagBytes).String()
	} else if i.Role == redis.RoleReplica {
		lag = render.Cell{Text: "?", Style: render.Warn}
	}
	memory, bar := memoryCells(i)
	lagPlot := render.Cell{}
	if i.Role == redis.RoleReplica {
		lagPlot = render.Cell{Text: render.Spark(last(i.History.Lag), topLag), Style: render.Warn}
	}
	return []render.Cell{
		name, role, lag, render.T(Count(i.OpsPerSec)), spark, memory, bar, render.T(cpu(i)),
		render.T(strconv.FormatInt(i.Clients, 10)), lagPlot, render.T(Count(i.Keys)),
		render.T(rate(i.Input)), render.T(rate(i.Output)), render.T(limit(i)), restarts,
	}
}

// memoryCells show what a server uses against the nearer of its two limits: its maxmemory,
// above which it evicts or refuses, and the container's, above which it is killed.
func memoryCells(i dashboard.Instance) (text, bar render.Cell) {
	used, most := i.MemoryUsed, i.MemoryMax
	if i.MemoryLimit > 0 && (most == 0 || float64(i.MemoryRSS)/float64(i.MemoryLimit) > float64(used)/float64(most)) {
		used, most = i.MemoryRSS, i.MemoryLimit
	}
	text = render.T(operation.Bytes(used).String())
	if most == 0 {
		return text, render.Cell{}
	}
	const columns = 8
	bar = render.Cell{Text: fmt.Sprintf("%-*s", columns, render.Bar(used, most, columns)), Style: render.Good}
	switch fraction := float64(used) / float64(most); {
	case fraction > 0.9:
		bar.Style, text.Style = render.Bad, render.Bad
	case fraction > 0.75:
		bar.Style, text.Style = render.Warn, render.Warn
	}
	bar.Text = "▕" + bar.Text + "▏" + fmt.Sprintf("%d%%", used*100/most)
	return text, bar
}

func limit(i dashboard.Instance) string {
	if i.MemoryLimit == 0 {
		return ""
	}
	return operation.Bytes(i.MemoryLimit).String()
}

func cpu(i dashboard.Instance) string {
	if i.CPU == nil {
		return ""
	}
	return fmt.Sprintf("%d%%", (*i.CPU+5)/10)
}

func rate(n *int64) string {
	if n == nil {
		return ""
	}
	return operation.Bytes(*n).String()
}

func age(milliseconds int64) string {
	return (time.Duration(milliseconds) * time.Millisecond).Round(time.Second).String()
}

// Count writes a number in at most five columns: 1234, 56.7k, 8.9M.
func Count(n int64) string {
	switch {
	case n < 10_000:
		return strconv.FormatInt(n, 10)
	case n < 1_000_000:
		return fmt.Sprintf("%.1fk", float64(n)/1e3)
	case n < 1_000_000_000:
		return fmt.Sprintf("%.1fM", float64(n)/1e6)
	default:
		return fmt.Sprintf("%.1fG", float64(n)/1e9)
	}
}

func sortInstances(list []dashboard.Instance, by Sort) {
	value := func(i dashboard.Instance) int64 {
		if i.Answer == nil {
			return 1 << 62 // what does not answer comes first
		}
		switch by {
		case ByOps:
			return i.OpsPerSec
		case ByMemory:
			return i.MemoryUsed
		case ByLag:
			if i.LagBytes != nil {
				return *i.LagBytes
			}
		case ByClients:
			return i.Clients
		case ByCPU:
			if i.CPU != nil {
				return *i.CPU
			}
		}
		return 0
	}
	if by == ByName {
		return // they are
	}
	slices.SortStableFunc(list, func(a, b dashboard.Instance) int { return cmp.Compare(value(b), value(a)) })
}

func findings(f dashboard.Frame, v View) render.Stack {
	var lines render.Stack
	for _, r := range f.Releases {
		for _, finding := range r.Findings {
			if finding.Severity == operation.Notice {
				continue
			}
			mark := render.Cell{Text: "!", Style: render.Warn}
			if finding.Severity == operation.Critical {
				mark = render.Cell{Text: "✗", Style: render.Bad}
			}
			lines = append(lines, render.Line{mark, {Text: where(f, r) + finding.Subject, Style: render.Strong}, render.T(finding.Message)})
		}
	}
	return first("FINDINGS", lines, v.Details)
}

// where names a release where there are several.
func where(f dashboard.Frame, r dashboard.Release) string {
	if len(f.Releases) == 1 {
		return ""
	}
	return title(r) + " "
}

func slowLog(f dashboard.Frame, v View) render.Stack {
	type entry struct {
		where string
		dashboard.Slow
	}
	var all []entry
	for _, r := range f.Releases {
		for _, s := range r.Slow {
			all = append(all, entry{where(f, r), s})
		}
	}
	slices.SortStableFunc(all, func(a, b entry) int { return b.Time.Compare(a.Time) })
	var lines render.Stack
	for _, s := range all {
		took := (time.Duration(s.Microseconds) * time.Microsecond).Round(100 * time.Microsecond)
		lines = append(lines, render.Line{
			{Text: s.Time.Local().Format(time.TimeOnly), Style: render.Dim}, {Text: fmt.Sprintf("%9s", took), Style: render.Warn},
			render.T(s.Command), {Text: s.where + s.Instance, Style: render.Dim},
		})
	}
	return first("SLOW LOG", lines, v.Details)
}

func eventList(f dashboard.Frame, v View) render.Stack {
	var lines render.Stack
	for _, r := range f.Releases {
		for _, e := range r.Events {
			if !e.Warning && len(lines) >= v.Details {
				continue
			}
			style := render.Dim
			if e.Warning {
				style = render.Warn
			}
			lines = append(lines, render.Line{
				{Text: e.Time.Local().Format(time.TimeOnly), Style: render.Dim}, {Text: e.Reason, Style: style},
				render.T(where(f, r) + e.Object), {Text: e.Message, Style: render.Dim},
			})
		}
	}
	return first("EVENTS", lines, v.Details)
}

// first is a part of the screen with a title and so many lines at most.
func first(title string, lines render.Stack, most int) render.Stack {
	if len(lines) == 0 || most <= 0 {
		return nil
	}
	heading := render.Line{{Text: title, Style: render.Dim}}
	if more := len(lines) - most; more > 0 {
		heading = append(heading, render.Cell{Text: fmt.Sprintf("(%d more)", more), Style: render.Dim})
		lines = lines[:most]
	}
	return append(render.Stack{heading}, lines...)
}

// Details returns everything about one instance.
func Details(r dashboard.Release, i dashboard.Instance) render.Block {
	fields := render.Fields{
		{Label: "pod", Value: render.Cell{Text: i.Name, Style: render.Strong}},
		{Label: "release", Value: render.T(title(r))},
		{Label: "status", Value: render.T(strings.TrimSpace(i.Status + " " + i.Error))},
		{Label: "node, image", Value: render.T(strings.TrimSpace(i.Node + " " + i.Image))},
		{Label: "restarts", Value: render.T(strings.TrimSpace(fmt.Sprintf("%d  %s", i.Restarts, i.LastExit)))},
	}
	if i.Answer != nil {
		memory := operation.Bytes(i.MemoryUsed).String() + " used, " + operation.Bytes(i.MemoryRSS).String() + " RSS"
		if i.MemoryMax > 0 {
			memory += ", maxmemory " + operation.Bytes(i.MemoryMax).String()
		}
		if i.MemoryLimit > 0 {
			memory += ", container " + operation.Bytes(i.MemoryLimit).String()
		}
		fields = append(fields,
			render.Field{Label: "role", Value: render.T(strings.TrimSpace(fmt.Sprintf("%s %s %s", i.Role, i.Link, i.Follows)))},
			render.Field{Label: "server", Value: render.T(fmt.Sprintf("%s, up %s", i.Version, time.Duration(i.Uptime)*time.Second))},
			render.Field{Label: "memory", Value: render.T(memory)},
			render.Field{Label: "keys", Value: render.T(fmt.Sprintf("%d, %d evicted", i.Keys, i.Evicted))},
			render.Field{Label: "clients", Value: render.T(strconv.FormatInt(i.Clients, 10))},
			render.Field{Label: "cpu", Value: render.T(strings.TrimSpace(cpu(i) + " (" + i.Source + ")"))},
			render.Field{Label: "network", Value: render.T(fmt.Sprintf("%s/s in, %s/s out", rate(i.Input), rate(i.Output)))},
		)
	}
	top := slices.Max(append(slices.Clone(i.History.Ops), 1))
	fields = append(fields, render.Field{
		Label: "ops/s", Value: render.Cell{Text: render.Spark(i.History.Ops[max(0, len(i.History.Ops)-60):], top) + " up to " + Count(top), Style: render.Good},
	})
	stack := render.Stack{fields, render.Gap()}
	for _, s := range r.Slow {
		if s.Instance == i.Name {
			stack = append(stack, render.Line{render.T(s.Time.Local().Format(time.TimeOnly)), render.T((time.Duration(s.Microseconds) * time.Microsecond).String()), render.T(s.Command), {Text: s.Client, Style: render.Dim}})
		}
	}
	for _, e := range r.Events {
		if strings.HasSuffix(e.Object, "/"+i.Name) {
			stack = append(stack, render.Line{render.T(e.Time.Local().Format(time.TimeOnly)), render.T(e.Reason), {Text: e.Message, Style: render.Dim}})
		}
	}
	return stack
}
