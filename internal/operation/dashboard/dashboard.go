// Package dashboard samples releases again and again for a live view. Every instance is
// asked by itself, and has its own time limit: one that hangs holds nobody up, and what it
// said last is shown with its age.
package dashboard

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/events"
	"github.com/redisctl/redisctl/internal/operation/health"
	"github.com/redisctl/redisctl/internal/operation/inspect"
	"github.com/redisctl/redisctl/internal/operation/topology"
)

// Usage is what a container of a pod uses, as the cluster's metrics API measures it.
type Usage struct {
	// CPU in thousandths of a core, Memory in bytes.
	CPU, Memory int64
}

// Usages reads the metrics API.
type Usages interface {
	// PodUsage returns what the Redis containers of a deployment use, by pod. An error says
	// that the cluster has no metrics API, or that it may not be read.
	PodUsage(ctx context.Context, d *operation.Deployment) (map[string]Usage, error)
}

// Options of a Monitor.
type Options struct {
	// Interval is how often each instance is asked; Timeout bounds its answer.
	Interval, Timeout time.Duration
	Health            health.Options
}

// slowEntries is how many entries of each slow log are read, rediscover how often releases
// and events are looked up, and historyLength how many samples are remembered.
const (
	slowEntries   = 8
	rediscover    = 5 * time.Second
	historyLength = 120
)

// Monitor samples releases. Use New.
type Monitor struct {
	list      func(context.Context) ([]operation.Deployment, error)
	connector operation.Connector
	events    events.Source // nil without a cluster
	usages    Usages        // nil without a cluster
	options   Options
	now       func() time.Time

	mu       sync.Mutex
	releases []release
	problem  string
	pods     map[string]*pod
	// changed has a value when something new is there.
	changed chan struct{}
}

// release is a deployment and what is known of it besides its instances.
type release struct {
	deployment operation.Deployment
	events     []events.Event
	usages     map[string]Usage
}

// pod is an instance that is sampled.
type pod struct {
	key    string
	cancel context.CancelFunc
	target target

	sampled bool
	member  topology.Member
	err     error
	at      time.Time // of member
	asked   time.Time // of the last answer or failure
	before  counters
	rates   Rates
	slow    []Slow
	history History
}

type target struct {
	deployment operation.Deployment
	instance   operation.Instance
}

// New returns a Monitor of what list finds. source and usages may be nil.
func New(
	list func(context.Context) ([]operation.Deployment, error), connector operation.Connector,
	source events.Source, usages Usages, o Options, now func() time.Time,
) *Monitor {
	return &Monitor{
		list: list, connector: connector, events: source, usages: usages, options: o, now: now,
		pods: make(map[string]*pod), changed: make(chan struct{}, 1),
	}
}

// Changed delivers a value when there is something new since the last.
func (m *Monitor) Changed() <-chan struct{} { return m.changed }

func (m *Monitor) notify() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// Run samples until ctx ends. The error is that of finding the releases for the first time.
func (m *Monitor) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ticker := time.NewTicker(rediscover)
	defer ticker.Stop()
	first := true
	for {
		err := m.discover(ctx, &wg)
		if err != nil && first && ctx.Err() == nil {
			return err
		}
		first = false
		wg.Go(func() { m.surroundings(ctx) })
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func key(d *operation.Deployment, i operation.Instance) string {
	return d.Namespace + "/" + d.Name + "/" + i.Name
}

// discover finds the releases, and begins and ends the sampling of instances.
func (m *Monitor) discover(ctx context.Context, wg *sync.WaitGroup) error {
	found, err := m.list(ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.problem = err.Error() // what was known before is better than nothing
		m.notify()
		return err
	}
	m.problem = ""
	known := make(map[string]release, len(m.releases))
	for _, r := range m.releases {
		known[r.deployment.Namespace+"/"+r.deployment.Name] = r
	}
	m.releases = m.releases[:0:0]
	present := make(map[string]bool)
	for _, d := range found {
		r := known[d.Namespace+"/"+d.Name]
		r.deployment = d
		m.releases = append(m.releases, r)
		for _, i := range d.Instances {
			k := key(&d, i)
			present[k] = true
			if p, ok := m.pods[k]; ok {
				p.target = target{d, i}
				continue
			}
			podCtx, cancel := context.WithCancel(ctx)
			p := &pod{key: k, cancel: cancel, target: target{d, i}}
			m.pods[k] = p
			wg.Go(func() { m.watch(podCtx, p) })
		}
	}
	for k, p := range m.pods {
		if !present[k] {
			p.cancel()
			delete(m.pods, k)
		}
	}
	m.notify()
	return nil
}

// surroundings reads events and usage of every release.
func (m *Monitor) surroundings(ctx context.Context) {
	if m.events == nil && m.usages == nil {
		return
	}
	m.mu.Lock()
	found := slices.Clone(m.releases)
	m.mu.Unlock()
	for _, r := range found {
		d := r.deployment
		list, eventsErr := m.events.Events(ctx, &d)
		usages, usageErr := m.usages.PodUsage(ctx, &d)
		m.mu.Lock()
		for i := range m.releases {
			current := &m.releases[i]
			if current.deployment.Namespace != d.Namespace || current.deployment.Name != d.Name {
				continue
			}
			if eventsErr == nil {
				events.Sort(list)
				current.events = list
			}
			current.usages = nil
			if usageErr == nil {
				current.usages = usages
			}
		}
		m.mu.Unlock()
	}
	m.notify()
}

// watch samples one instance.
func (m *Monitor) watch(ctx context.Context, p *pod) {
	connections := inspect.NewConnections(m.connector)
	defer connections.Close()
	ticker := time.NewTicker(m.options.Interval)
	defer ticker.Stop()
	for {
		m.sample(ctx, p, connections)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// answer is what an instance said at one time.
type answer struct {
	member topology.Member
	slow   []Slow
}

func (m *Monitor) sample(ctx context.Context, p *pod, c *inspect.Connections) {
	m.mu.Lock()
	to := p.target
	m.mu.Unlock()
	one := to.deployment
	one.Instances = []operation.Instance{to.instance}
	answers := inspect.Each(ctx, c, &one, m.options.Timeout, func(ctx context.Context, s operation.Server) (answer, error) {
		member, err := topology.Ask(ctx, s, &one)
		if err != nil {
			return answer{}, err
		}
		return answer{member, slowLog(ctx, s)}, nil
	})
	a := answers[0]
	if ctx.Err() != nil {
		return
	}
	if a.Err != nil {
		c.Drop(to.instance.Name)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p.asked, p.sampled, p.err = m.now(), true, a.Err
	if a.Err != nil {
		p.rates, p.before = Rates{}, counters{}
		p.history.add(-1, -1)
	} else {
		p.member, p.slow, p.at = a.Value.member, a.Value.slow, p.asked
		p.rates, p.before = ratesOf(p.before, countersOf(p.member.Info, p.asked))
		p.history.add(p.member.Info.Int("instantaneous_ops_per_sec"), -1)
	}
	m.notify()
}
