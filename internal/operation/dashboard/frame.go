package dashboard

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/events"
	"github.com/redisctl/redisctl/internal/operation/health"
	"github.com/redisctl/redisctl/internal/operation/topology"
	"github.com/redisctl/redisctl/internal/redis"
)

// Frame is what is known at one time. Its JSON form is part of redisctl's interface
// (docs/json-output.md).
type Frame struct {
	Time     time.Time `json:"time"`
	Releases []Release `json:"releases"`
	// Problem says why the releases could not be looked up again.
	Problem string `json:"problem,omitempty"`
}

// Release is one deployment.
type Release struct {
	Namespace string              `json:"namespace,omitempty"`
	Release   string              `json:"release,omitempty"`
	Name      string              `json:"name"`
	Mode      string              `json:"mode"`
	Healthy   bool                `json:"healthy"`
	Primary   string              `json:"primary,omitempty"`
	Instances []Instance          `json:"instances"`
	Findings  []operation.Finding `json:"findings"`
	Slow      []Slow              `json:"slow"`
	Events    []events.Event      `json:"events"`
}

// Instance is one server.
type Instance struct {
	health.Instance
	Rates
	// Age is how old the answer is, in milliseconds; nil before the first.
	Age *int64 `json:"ageMilliseconds,omitempty"`
	// MemoryLimit is that of the container, in bytes; 0 for none, or not known.
	MemoryLimit int64 `json:"memoryLimit"`
	// MemoryRSS is what the container uses (metrics), or the server says that it does (info).
	MemoryRSS int64 `json:"memoryRss"`
	// Source says where CPU and MemoryRSS come from: "metrics" or "info".
	Source   string  `json:"source,omitempty"`
	LastExit string  `json:"lastExit,omitempty"`
	History  History `json:"-"`
}

// Rates are changes per second between two samples. They are nil after the first one.
type Rates struct {
	// CPU in thousandths of a core.
	CPU *int64 `json:"cpuMillicores,omitempty"`
	// Input and Output in bytes.
	Input  *int64 `json:"inputBytesPerSecond,omitempty"`
	Output *int64 `json:"outputBytesPerSecond,omitempty"`
}

// Slow is an entry of a slow log: the command without its arguments, which may be secret.
type Slow struct {
	Instance     string    `json:"instance"`
	ID           int64     `json:"id"`
	Time         time.Time `json:"time"`
	Microseconds int64     `json:"microseconds"`
	Command      string    `json:"command"`
	Client       string    `json:"client,omitempty"`
}

// History holds the last samples, the newest last; -1 where there was no answer.
type History struct{ Ops, Lag []int64 }

func (h *History) add(ops, lag int64) {
	h.Ops = append(h.Ops[max(0, len(h.Ops)-historyLength+1):], ops)
	h.Lag = append(h.Lag[max(0, len(h.Lag)-historyLength+1):], lag)
}

// counters only grow, as long as the server runs.
type counters struct {
	at            time.Time
	run           string
	cpu           float64 // seconds
	input, output int64
}

func countersOf(i redis.Info, at time.Time) counters {
	return counters{
		at: at, run: i.Get("run_id"), cpu: i.Float("used_cpu_sys") + i.Float("used_cpu_user"),
		input: i.Int("total_net_input_bytes"), output: i.Int("total_net_output_bytes"),
	}
}

// ratesOf compares two samples of one run of a server.
func ratesOf(before, now counters) (Rates, counters) {
	seconds := now.at.Sub(before.at).Seconds()
	if before.run == "" || before.run != now.run || seconds <= 0 {
		return Rates{}, now
	}
	per := func(difference float64) *int64 {
		rate := int64(max(0, difference)/seconds + 0.5)
		return &rate
	}
	return Rates{
		CPU:   per((now.cpu - before.cpu) * 1000),
		Input: per(float64(now.input - before.input)), Output: per(float64(now.output - before.output)),
	}, now
}

// slowLog reads the newest entries. A server that refuses SLOWLOG has none.
func slowLog(ctx context.Context, s operation.Server) []Slow {
	reply, err := s.Do(ctx, "SLOWLOG", "GET", slowEntries)
	entries, ok := reply.([]any)
	if err != nil || !ok {
		return nil
	}
	var slow []Slow
	for _, e := range entries {
		if entry, ok := parseSlow(e); ok {
			slow = append(slow, entry)
		}
	}
	return slow
}

// parseSlow reads ID, time in seconds, microseconds, arguments and, since 4.0, the client.
func parseSlow(reply any) (Slow, bool) {
	fields, ok := reply.([]any)
	if !ok || len(fields) < 4 {
		return Slow{}, false
	}
	id, _ := fields[0].(int64)
	at, _ := fields[1].(int64)
	took, _ := fields[2].(int64)
	args, _ := fields[3].([]any)
	s := Slow{ID: id, Time: time.Unix(at, 0).UTC(), Microseconds: took}
	if len(args) > 0 {
		s.Command = strings.ToUpper(fmt.Sprint(args[0]))
		if len(args) > 1 {
			s.Command += fmt.Sprintf(" (+%d)", len(args)-1)
		}
	}
	if len(fields) > 4 {
		s.Client, _ = fields[4].(string)
	}
	return s, true
}

// Ready reports whether every instance has been asked at least n times.
func (m *Monitor) Ready(n int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.releases == nil {
		return false
	}
	for _, p := range m.pods {
		if len(p.history.Ops) < n {
			return false
		}
	}
	return true
}

// Frame returns what is known now.
func (m *Monitor) Frame() Frame {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	f := Frame{Time: now.UTC().Truncate(time.Millisecond), Problem: m.problem}
	for n := range m.releases {
		f.Releases = append(f.Releases, m.release(&m.releases[n], now))
	}
	return f
}

// release judges what its instances said last.
func (m *Monitor) release(known *release, now time.Time) Release {
	d := known.deployment
	members := make([]topology.Member, len(d.Instances))
	pods := make([]*pod, len(d.Instances))
	waiting := false
	for n, i := range d.Instances {
		p := m.pods[key(&d, i)]
		pods[n] = p
		members[n] = p.member
		members[n].Instance, members[n].Err = i, p.err
		if !p.sampled {
			waiting = true
			members[n].Err = operation.Errorf(operation.TimedOut, "no answer yet")
		}
	}
	t := topology.Assemble(&d, members)
	report := health.Judge(&t, now, m.options.Health)
	r := Release{
		Namespace: d.Namespace, Release: d.Release, Name: d.Name, Mode: report.Mode, Healthy: report.Healthy,
		Primary: report.Primary, Findings: report.Findings, Events: known.events,
	}
	if waiting {
		r.Findings = nil // judged before everybody was heard
	}
	for n, i := range report.Instances {
		p := pods[n]
		instance := Instance{Instance: i, Rates: p.rates, History: p.history}
		if pod := d.Instances[n].Pod; pod != nil {
			instance.MemoryLimit, instance.LastExit = pod.MemoryLimit, pod.LastExit
		}
		if !p.at.IsZero() {
			age := now.Sub(p.at).Milliseconds()
			instance.Age, instance.Source, instance.MemoryRSS = &age, "info", p.member.Info.Memory().RSS
		}
		if u, ok := known.usages[i.Name]; ok {
			instance.Source, instance.CPU, instance.MemoryRSS = "metrics", &u.CPU, u.Memory
		}
		if len(p.history.Lag) > 0 && i.Answer != nil && i.LagBytes != nil {
			p.history.Lag[len(p.history.Lag)-1] = *i.LagBytes
		}
		instance.History = History{Ops: slices.Clone(p.history.Ops), Lag: slices.Clone(p.history.Lag)}
		r.Instances = append(r.Instances, instance)
		for _, s := range p.slow {
			s.Instance = i.Name
			r.Slow = append(r.Slow, s)
		}
	}
	slices.SortStableFunc(r.Slow, func(a, b Slow) int { return cmp.Or(b.Time.Compare(a.Time), cmp.Compare(b.ID, a.ID)) })
	return r
}
