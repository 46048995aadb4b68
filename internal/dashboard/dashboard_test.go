package dashboard

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	tea "charm.land/bubbletea/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/dashboard"
	"github.com/redisctl/redisctl/internal/operation/events"
	"github.com/redisctl/redisctl/internal/operation/health"
	"github.com/redisctl/redisctl/internal/redis"
)

// escapes are colours. All characters here take one column.
var escapes = regexp.MustCompile("\x1b\\[[0-9;]*m")

var update = flag.Bool("update", false, "write the golden files")

func number(n int64) *int64 { return &n }

// source has one frame: a primary near its limit, a replica that lags, one that hangs.
type source struct{ frame dashboard.Frame }

func (s source) Frame() dashboard.Frame   { return s.frame }
func (s source) Changed() <-chan struct{} { return nil }

func frame() dashboard.Frame {
	at := time.Date(2026, 11, 23, 22, 30, 0, 0, time.Local)
	primary := dashboard.Instance{
		Instance: health.Instance{Name: "cache-redis-0", Status: "ok", Restarts: 2, Answer: &health.Answer{
			Role: redis.RolePrimary, OpsPerSec: 56_700, MemoryUsed: 245 << 20, MemoryMax: 256 << 20, Keys: 8_900_000, Clients: 311,
		}},
		Rates: dashboard.Rates{CPU: number(870), Input: number(5 << 20), Output: number(70 << 20)}, Source: "info", Age: number(400),
		History: dashboard.History{Ops: []int64{1, 5000, 20000, 40000, 56700}, Lag: []int64{-1, -1, -1, -1, -1}},
	}
	replica := dashboard.Instance{
		Instance: health.Instance{Name: "cache-redis-1", Status: "ok", Answer: &health.Answer{
			Role: redis.RoleReplica, Link: "up", LagBytes: number(3 << 20), OpsPerSec: 900, MemoryUsed: 240 << 20, MemoryMax: 256 << 20, Clients: 2,
		}},
		Age: number(300), History: dashboard.History{Ops: []int64{900, 900}, Lag: []int64{0, 3 << 20}},
	}
	hanging := dashboard.Instance{
		Instance: health.Instance{Name: "cache-redis-2", Status: "hanging", Error: "no answer within 5s"},
		Age:      number(42_000), LastExit: "OOMKilled, exit code 137", History: dashboard.History{Ops: []int64{900, -1, -1}, Lag: []int64{0, -1, -1}},
	}
	return dashboard.Frame{Time: at, Releases: []dashboard.Release{{
		Namespace: "redis-prod", Release: "cache", Name: "cache-redis", Primary: "cache-redis-0",
		Instances: []dashboard.Instance{primary, replica, hanging},
		Findings:  []operation.Finding{{Code: "pod-hanging", Severity: operation.Critical, Subject: "cache-redis-2", Message: "no answer within 5s"}},
		Slow:      []dashboard.Slow{{Instance: "cache-redis-0", Time: at, Microseconds: 1_250_000, Command: "KEYS (+1)"}},
		Events:    []events.Event{{Time: at, Warning: true, Reason: "Unhealthy", Object: "Pod/cache-redis-2", Message: "Readiness probe failed: a message\x1b[31m with an escape sequence"}},
	}}}
}

func press(t *testing.T, m Model, keys ...tea.KeyPressMsg) Model {
	t.Helper()
	for _, key := range keys {
		next, _ := m.Update(key)
		m = next.(Model)
	}
	return m
}

func rune1(r rune) tea.KeyPressMsg { return tea.KeyPressMsg{Code: r, Text: string(r)} }

// TestScreens compares what is shown with golden files (go test -update writes them), and
// that it fits.
func TestScreens(t *testing.T) {
	for _, size := range []struct{ width, height int }{{40, 24}, {80, 24}, {200, 30}} {
		for _, color := range []bool{false, true} {
			m := Model{frame: frame(), view: View{Interval: 2 * time.Second}, color: color}
			next, _ := m.Update(tea.WindowSizeMsg{Width: size.width, Height: size.height})
			m = next.(Model)
			for name, screen := range map[string]Model{
				"list": m, "details": press(t, m, rune1('j'), rune1('j'), tea.KeyPressMsg{Code: tea.KeyEnter}),
			} {
				text := screen.screen()
				lines := strings.Split(text, "\n")
				assert.Len(t, lines, size.height)
				for _, line := range lines {
					assert.LessOrEqual(t, utf8.RuneCountInString(escapes.ReplaceAllString(line, "")), size.width, "%q", line)
				}
				assert.Equal(t, color, strings.Contains(text, "\x1b["), "colours")
				golden := filepath.Join("testdata", fmt.Sprintf("%s-%d-%v.txt", name, size.width, color))
				if *update {
					require.NoError(t, os.MkdirAll("testdata", 0o750))
					require.NoError(t, os.WriteFile(golden, []byte(text+"\n"), 0o600))
				}
				want, err := os.ReadFile(golden)
				require.NoError(t, err, "go test ./internal/dashboard -update")
				assert.Equal(t, string(want), text+"\n", golden)
			}
		}
	}
}

func TestKeys(t *testing.T) {
	s := source{frame()}
	m := Model{source: s, frame: s.frame, width: 80, height: 24}
	assert.Contains(t, m.screen(), "▶ cache-redis-0")
	assert.Contains(t, press(t, m, rune1('j')).screen(), "▶ cache-redis-1")
	assert.Contains(t, press(t, m, rune1('k')).screen(), "▶ cache-redis-0", "there is none above")
	assert.Contains(t, press(t, m, rune1('?')).screen(), "quit")
	sorted := press(t, m, rune1('s'))
	assert.Equal(t, ByOps, sorted.view.Sort)
	assert.Contains(t, sorted.screen(), "▶ cache-redis-2", "what does not answer comes first")
	paused := press(t, m, rune1('p'))
	paused.source = source{}
	next, _ := paused.Update(changed{})
	assert.Contains(t, next.(Model).screen(), "cache-redis-0", "a paused screen stays")
	_, quit := m.Update(rune1('q'))
	require.NotNil(t, quit)
	assert.IsType(t, tea.QuitMsg{}, quit())
}

func TestCount(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 9999: "9999", 12_345: "12.3k", 8_900_000: "8.9M", 2_000_000_000: "2.0G"} {
		assert.Equal(t, want, Count(n))
	}
}
