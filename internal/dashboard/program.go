package dashboard

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/redisctl/redisctl/internal/operation/dashboard"
	"github.com/redisctl/redisctl/internal/render"
)

// Source is where frames come from.
type Source interface {
	Frame() dashboard.Frame
	Changed() <-chan struct{}
}

// Run shows frames on the terminal until q, Ctrl-C, or the end of ctx.
func Run(ctx context.Context, s Source, in io.Reader, out io.Writer, interval time.Duration, color bool) error {
	model := Model{source: s, frame: s.Frame(), view: View{Interval: interval}, color: color, width: 80, height: 24}
	_, err := tea.NewProgram(model, tea.WithContext(ctx), tea.WithInput(in), tea.WithOutput(out)).Run()
	if ctx.Err() != nil || errors.Is(err, tea.ErrInterrupted) {
		return nil //nolint:nilerr // a view ends that way
	}
	return err
}

// Model is the state of the screen.
type Model struct {
	source        Source
	frame         dashboard.Frame
	view          View
	color         bool
	width, height int
	marked        int // -1: nothing yet
	detail, help  bool
	top           int // of the lines, the first that is shown
}

// changed says that there is a new frame.
type changed struct{}

func (m Model) await() tea.Cmd {
	return func() tea.Msg {
		<-m.source.Changed()
		return changed{}
	}
}

// Init implements tea.Model.
func (m Model) Init() tea.Cmd { return m.await() }

// Update implements tea.Model.
func (m Model) Update(message tea.Msg) (tea.Model, tea.Cmd) {
	switch message := message.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = message.Width, message.Height
	case changed:
		if !m.view.Paused {
			m.frame = m.source.Frame()
		}
		return m, m.await()
	case tea.KeyPressMsg:
		return m.key(message.String())
	}
	return m, nil
}

func (m Model) key(key string) (tea.Model, tea.Cmd) {
	switch key {
	case "q", "ctrl+c":
		return m, tea.Quit
	case "esc":
		m.detail, m.help, m.top = false, false, 0
	case "?", "h":
		m.help = !m.help
	case "p", "space":
		m.view.Paused = !m.view.Paused
		if !m.view.Paused {
			m.frame = m.source.Frame()
		}
	case "s":
		m.view.Sort = (m.view.Sort + 1) % sorts
	case "enter":
		m.detail = !m.detail
	case "down", "j":
		m.marked++
	case "up", "k":
		m.marked--
	case "pgdown":
		m.top += m.height / 2
	case "pgup":
		m.top = max(0, m.top-m.height/2)
	}
	m.marked = min(max(m.marked, 0), max(0, len(m.rows())-1))
	return m, nil
}

// row is an instance on the screen.
type row struct {
	release  dashboard.Release
	instance dashboard.Instance
}

func (m Model) rows() []row {
	var rows []row
	for _, r := range m.frame.Releases {
		list := append([]dashboard.Instance(nil), r.Instances...)
		sortInstances(list, m.view.Sort)
		for _, i := range list {
			rows = append(rows, row{r, i})
		}
	}
	return rows
}

// View implements tea.Model.
func (m Model) View() tea.View {
	v := tea.NewView(m.screen())
	v.AltScreen = true
	return v
}

// screen returns the lines of the screen.
func (m Model) screen() string {
	lines := render.Lines(render.Look{Color: m.color, Width: m.width}, m.block())
	room := max(1, m.height-1)
	top := min(m.top, max(0, len(lines)-room))
	// The marked line stays on the screen.
	for n, line := range lines {
		if strings.Contains(line, "▶") && n >= top+room {
			top = n - room + 1
		}
	}
	lines = lines[top:min(len(lines), top+room)]
	for len(lines) < room {
		lines = append(lines, "")
	}
	keys := render.Line{{Text: "q quit  ? help  p pause  s sort  ↑↓ choose  ↵ details", Style: render.Dim}}
	return strings.Join(append(lines, render.Lines(render.Look{Color: m.color, Width: m.width}, keys)...), "\n")
}

func (m Model) block() render.Block {
	rows := m.rows()
	if m.help {
		return help()
	}
	if m.detail && m.marked < len(rows) {
		chosen := rows[m.marked]
		return render.Stack{heading(m.frame, m.view), render.Gap(), Details(chosen.release, chosen.instance)}
	}
	view := m.view
	if m.marked < len(rows) {
		view.Marked = ID(rows[m.marked].release, rows[m.marked].instance.Name)
	}
	// What is left of the screen is shared by three lists, each with a title and a gap.
	used := 2 + len(rows) + 3*len(m.frame.Releases)
	view.Details = max(2, (m.height-used-6)/3)
	return Draw(m.frame, view)
}

func help() render.Block {
	return render.Fields{
		{Label: "q, Ctrl-C", Value: render.T("quit")},
		{Label: "p, space", Value: render.T("pause; sampling goes on")},
		{Label: "s", Value: render.T("sort by name, ops, memory, lag, clients, CPU")},
		{Label: "↑ ↓, k j", Value: render.T("choose a pod")},
		{Label: "enter", Value: render.T("details of the pod, and back")},
		{Label: "PgUp PgDn", Value: render.T("scroll")},
		{Label: "esc", Value: render.T("back")},
		{Label: "MEMORY", Value: render.T("against maxmemory or the container's limit, whichever is nearer")},
		{Label: "CPU", Value: render.T("of one core; from the metrics API, else from INFO")},
	}
}
